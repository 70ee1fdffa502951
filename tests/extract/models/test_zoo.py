"""Bad and odd inputs through the whole of `extract`: each comes to its defined outcome, and none stops the job."""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from cinefuse import cli
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.tests.support.pictures import chunk, picture, saved

OK, MISSING, FAILED = (Status.OK, Reason.NONE), (Status.MISSING, Reason.NOT_GIVEN), Status.FAILED
BROKEN, NO_IMAGE = (FAILED, Reason.BROKEN_IMAGE), (FAILED, Reason.NOT_AN_IMAGE)
OUTSIDE, NOT_ALLOWED = (FAILED, Reason.OUTSIDE_FOLDER), (FAILED, Reason.FORMAT_NOT_ALLOWED)
EMPTY, CUT = (Status.MISSING, Reason.EMPTY), (Status.TRUNCATED, Reason.TOO_LONG)
Outcome = tuple[Status, Reason]


# --- making posters ---------------------------------------------------------------------------------------------------


def sixteen_bits() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 0, 0, 0, 0))
    rows = b"".join(b"\0" + row.tobytes() for row in np.arange(0, 65536, 64, dtype=">u2").reshape(32, 32))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture(41, 60), "JPEG", exif=exif)


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 30), colour) for colour in ("red", "blue", "green")]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)


JPEG, PNG, WEBP = saved(picture(), "JPEG"), saved(picture(), "PNG"), saved(picture(), "WEBP")
GIF = saved(picture().convert("P"), "GIF")
PALETTE = picture(43, 60).quantize(16)

# what lies in the poster folder under <number>.jpg
POSTERS: dict[str, tuple[Callable[[], bytes], Outcome]] = {
    "JPEG": (lambda: JPEG, OK),
    "the same JPEG again": (lambda: JPEG, OK),
    "JPEG of three bytes": (lambda: JPEG[:3], BROKEN),
    "JPEG cut in its header": (lambda: JPEG[:100], BROKEN),
    "JPEG cut in half": (lambda: JPEG[: len(JPEG) // 2], BROKEN),
    "JPEG cut two bytes before its end": (lambda: JPEG[:-2], BROKEN),
    "PNG called .jpg": (lambda: PNG, OK),
    "PNG cut in its header": (lambda: PNG[:20], BROKEN),
    "PNG cut in half": (lambda: PNG[: len(PNG) // 2], BROKEN),
    "WebP cut in half": (lambda: WEBP[: len(WEBP) // 2], BROKEN),
    "GIF cut in half": (lambda: GIF[: len(GIF) // 2], BROKEN),
    "grey JPEG": (lambda: saved(picture(mode="L"), "JPEG"), OK),
    "CMYK JPEG": (lambda: saved(picture(mode="CMYK"), "JPEG"), OK),
    "EXIF-rotated JPEG": (turned, OK),
    "16-bit PNG": (sixteen_bits, OK),
    "1-bit PNG": (lambda: saved(picture(mode="L").convert("1"), "PNG"), OK),
    "RGBA PNG": (lambda: saved(picture(mode="RGBA"), "PNG"), OK),
    "palette PNG with alpha": (lambda: saved(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))), OK),
    "animated GIF": (lambda: animated("GIF"), OK),
    "animated PNG": (lambda: animated("PNG"), OK),
    "animated WebP": (lambda: animated("WEBP"), OK),
    "1 x 1": (lambda: saved(picture(1, 1), "PNG"), OK),
    "1 x 10000": (lambda: saved(picture(1, 10_000), "PNG"), OK),
    "100 megapixels in a few kB": (
        lambda: saved(Image.new("1", (10_000, 10_000)), "PNG"),
        (FAILED, Reason.TOO_MANY_PIXELS),
    ),
    "no bytes": (lambda: b"", (FAILED, Reason.EMPTY)),
    "HTML": (lambda: b"<!DOCTYPE html><title>404 Not Found</title>", NO_IMAGE),
    "zeros": (lambda: bytes(5000), NO_IMAGE),
    "TIFF": (lambda: saved(picture(), "TIFF"), NOT_ALLOWED),
    "BMP": (lambda: saved(picture(), "BMP"), NOT_ALLOWED),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', NOT_ALLOWED),
}

# what the catalogue says of where the poster lies; `folder` below makes what is there
PATHS: dict[str, tuple[str | None, Outcome]] = {
    "no poster": (None, MISSING),
    "path of a file that is not there": ("none.jpg", (FAILED, Reason.NOT_FOUND)),
    "path with a NUL": ("nul\0.jpg", (FAILED, Reason.NOT_FOUND)),
    "path of 10000 bytes": ("x/" * 5000, (FAILED, Reason.NOT_FOUND)),
    "path of a folder": ("sub", (FAILED, Reason.NOT_A_FILE)),
    "path of a FIFO": ("fifo.jpg", (FAILED, Reason.NOT_A_FILE)),
    "path out of the folder": ("../secret.jpg", OUTSIDE),
    "path out of the folder and back": ("../posters/sub/inside.jpg", OK),
    "absolute path": ("/etc/passwd", OUTSIDE),
    "symlink out of the folder": ("out.jpg", OUTSIDE),
    "symlink inside the folder": ("in.jpg", OK),
    "symlink to itself": ("loop.jpg", (FAILED, Reason.UNREADABLE)),
    "sparse file of a terabyte": ("sparse.jpg", (FAILED, Reason.FILE_TOO_LARGE)),
}

PLOTS: dict[str, tuple[str | None, Outcome]] = {
    "no plot": (None, MISSING),
    "empty plot": ("", MISSING),
    "blank plot": (" \t\r\n\u00a0\u2003 ", MISSING),
    "plot of control characters": ("\x01\x02\x07\x08\x1b\x7f", EMPTY),
    "plot of NULs": ("\0\0\0", EMPTY),
    "plot of invisible characters": ("\u200b\u00ad\ufeff", EMPTY),
    "plot with NULs": ("a\0 ferry\0at dawn", OK),
    "plot of a megabyte": ("a ferry at dawn " * 65_536, CUT),
    "plot of one word of a megabyte": ("x" * 2**20, OK),
    "plot from right to left": ("سفينة في الفجر \u202eשלום עולם", OK),
    "plot of emoji": ("🎬🍿 👩‍👩‍👧‍👧 🏳️‍🌈", OK),
    "plot of combining marks": ("e" + "\u0301" * 500, OK),
    "plot of one letter": ("a", OK),
    "plot with markup": ("[bold]{text}[/] <b>&amp;</b> %s \\x00", OK),
    "plot without ASCII": ("Ночной паром пришёл рано", OK),
}

IDS = [
    "../../etc/passwd",
    "/absolute/id.jpg",
    "tt0111161.v2",
    "9007199254740993",
    "-0",
    "1e3",
    "NaN",
    " leading and trailing ",
    "[bold]markup[/bold]",
    "two\nlines",
    "\x1b[31mescape",
    "\u202eright to left",
    "ünïcödé-🎬",
    "u\u0308 and \u00fc",
    "é" * 128,
]


@dataclass(frozen=True)
class Oddity:
    """One item of the catalogue and what must become of its plot and of its poster."""

    item: str
    text: str | None
    poster: str | None
    expected: dict[str, Outcome]


def zoo() -> list[Oddity]:
    """One item an oddity; whatever is not odd about it is ordinary."""
    odd = []
    for number, (name, (_, expected)) in enumerate(POSTERS.items()):
        odd.append(Oddity(name, f"plot {name}", f"{number}.jpg", {"text": OK, "image": expected}))
    for name, (path, expected) in PATHS.items():
        odd.append(Oddity(name, f"plot {name}", path, {"text": OK, "image": expected}))
    for name, (text, expected) in PLOTS.items():
        odd.append(Oddity(name, text, "0.jpg", {"text": expected, "image": OK}))
    for name in IDS:
        odd.append(Oddity(name, "a ferry at dawn", "0.jpg", {"text": OK, "image": OK}))
    return odd


ZOO = zoo()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `items.parquet` as anyone may have it, and `posters`."""
    source = tmp_path_factory.mktemp("zoo")
    posters = source / "posters"
    (posters / "sub").mkdir(parents=True)
    (source / "secret.jpg").write_bytes(JPEG)
    (posters / "sub" / "inside.jpg").write_bytes(JPEG)
    for number, (make, _) in enumerate(POSTERS.values()):
        (posters / f"{number}.jpg").write_bytes(make())
    os.mkfifo(posters / "fifo.jpg")
    (posters / "out.jpg").symlink_to("../secret.jpg")
    (posters / "in.jpg").symlink_to("sub/inside.jpg")
    (posters / "loop.jpg").symlink_to("loop.jpg")
    with (posters / "sparse.jpg").open("wb") as sparse:
        sparse.truncate(2**40)
    write_items(ZOO, source / "items.parquet")
    return source


def write_items(oddities: list[Oddity], file: Path) -> None:
    columns = {
        "item_id": [odd.item for odd in oddities],
        "title": ["" for _ in oddities],
        "year": [None for _ in oddities],
        "genres": [[] for _ in oddities],
        "text": [odd.text for odd in oddities],
        "poster": [odd.poster for odd in oddities],
    }
    schema = {"year": pl.Int32, "genres": pl.List(pl.String), "text": pl.String, "poster": pl.String}
    pl.DataFrame(columns, schema_overrides=schema).write_parquet(file)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `cinefuse` with these words: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cinefuse", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def imported(source: Path, run: Run, tmp_path: Path) -> Path:
    """The zoo as a dataset folder, through `cinefuse data import table`."""
    items, posters = source / "items.parquet", source / "posters"
    code, _, err = run("data", "import", "table", tmp_path / "zoo", "--items", items, "--posters", posters)
    assert code == 0, err
    return tmp_path / "zoo"


@pytest.fixture
def as_written(imported: Path, source: Path) -> Path:
    """The same folder with the items as they were, in case somebody makes it without us."""
    (imported / "items.parquet").write_bytes((source / "items.parquet").read_bytes())
    return imported


@pytest.fixture(scope="module")
def models(encoders: Any) -> list[object]:
    # batches of three posters: the bad ones stand beside good ones
    return ["--text-model", encoders.text, "--image-model", encoders.image, "--device", "cpu", "--batch-posters", 3]


def outcomes(file: EmbeddingFile) -> Iterator[tuple[str, str, Outcome]]:
    for name in file.modalities:
        modality = file[name]
        for item, status, reason in zip(file.ids.tolist(), modality.status, modality.reason, strict=True):
            yield item, name, (Status(status), Reason(reason))


EXPECTED = {(odd.item, name): outcome for odd in ZOO for name, outcome in odd.expected.items()}


@pytest.mark.slow
@pytest.mark.parametrize("door", ["imported", "as_written"])
def test_every_oddity_comes_to_its_defined_outcome_and_none_stops_the_job(
    door: str, request: pytest.FixtureRequest, run: Run, models: list[object], tmp_path: Path
) -> None:
    assert len(ZOO) >= 40
    dataset, out = request.getfixturevalue(door), tmp_path / "zoo.h5"
    code, printed, err = run("extract", dataset, out, *models)
    assert code == 0, err
    with EmbeddingFile.open(out) as file:
        found = {(item, name): outcome for item, name, outcome in outcomes(file)}
        assert {key: (found[key], EXPECTED[key]) for key in found if found[key] != EXPECTED[key]} == {}
        assert list(found) == [(odd.item, name) for name in ("text", "image") for odd in ZOO]
        for name in file.modalities:
            embedded = file[name].has_embedding
            assert np.isfinite(file[name].cls[embedded]).all()
            assert np.isnan(file[name].cls[~embedded]).all()
    assert verify(out).complete
    assert run("cache", "verify", out)[0] == 0
    failed = sum(status is FAILED for status, _ in EXPECTED.values())
    assert sum(map(int, re.findall(r"^  (\d+) failed: ", printed, re.MULTILINE))) == failed


@pytest.mark.slow
def test_the_list_of_failures_is_exactly_those_without_an_embedding(
    imported: Path, run: Run, models: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "zoo.h5"
    assert run("extract", imported, out, *models)[0] == 0
    code, listed, _ = run("cache", "info", out, "--failures", "--missing", "--json")
    assert code == 0
    found = {(row["item"], row["modality"]): (row["status"], row["why"]) for row in json.loads(listed)}
    absent = {key: outcome for key, outcome in EXPECTED.items() if not outcome[0].has_embedding}
    assert found == {key: (status.name.lower(), reason.sentence) for key, (status, reason) in absent.items()}
    _, table, _ = run("cache", "info", out, "--failures", "--missing")
    assert len(table.splitlines()) == 1 + len(absent)


@pytest.mark.slow
def test_the_first_input_that_cannot_be_used_stops_a_strict_job_and_is_named(
    imported: Path, run: Run, models: list[object], tmp_path: Path
) -> None:
    first = next(odd.item for odd in ZOO if odd.expected["image"][0] is FAILED)
    code, _, err = run("extract", imported, tmp_path / "zoo.h5", *models, "--strict")
    assert code == 3
    assert f"item {first}: " in err.splitlines()[-1]
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["zoo"]


DOOMED = [odd for odd in ZOO if odd.expected["image"][0] is FAILED]


@pytest.mark.slow
@pytest.mark.parametrize("odd", DOOMED, ids=lambda odd: odd.item)
def test_each_bad_poster_alone_stops_a_strict_job_and_is_named(
    odd: Oddity, as_written: Path, run: Run, models: list[object], tmp_path: Path
) -> None:
    write_items([ZOO[0], odd], as_written / "items.parquet")
    code, _, err = run("extract", as_written, tmp_path / "one.h5", *models, "--no-text", "--strict")
    assert code == 3
    assert f"image of item {odd.item}: {odd.expected['image'][1].sentence}" in err.splitlines()[-1]
    assert not (tmp_path / "one.h5").exists()


@pytest.mark.slow
def test_equal_inputs_of_odd_items_have_equal_rows(
    imported: Path, run: Run, models: list[object], tmp_path: Path
) -> None:
    assert run("extract", imported, tmp_path / "zoo.h5", *models)[0] == 0
    with EmbeddingFile.open(tmp_path / "zoo.h5") as file:
        rows = file.rows(np.array(IDS, dtype=object))
        assert len(set(rows.tolist())) == len(IDS)
        assert (file.text.cls[rows] == file.text.cls[rows[0]]).all()
        same = file.rows(np.array(["JPEG", "the same JPEG again", "symlink inside the folder"], dtype=object))
        assert (file.image.cls[same] == file.image.cls[same[0]]).all()


def test_ids_beyond_what_a_double_holds_stay_exact(
    run: Run, models: list[object], source: Path, tmp_path: Path
) -> None:
    ids = [2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0, -1]
    lines = (f'{{"id": {item}, "plot": "plot {item}", "poster": "0.jpg"}}' for item in ids)
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    words = ["--items", tmp_path / "items.jsonl", "--posters", source / "posters"]
    assert run("data", "import", "table", tmp_path / "dataset", *words)[0] == 0
    assert run("extract", tmp_path / "dataset", tmp_path / "out.h5", *models)[0] == 0
    with EmbeddingFile.open(tmp_path / "out.h5") as file:
        assert file.ids.tolist() == ids
        assert file.rows(np.array(ids)).tolist() == list(range(len(ids)))


# --- oddities that the import meets -----------------------------------------------------------------------------------


def import_lines(run: Run, folder: Path, items: str, *more: object) -> tuple[int, str, str]:
    (folder / "items.jsonl").write_text(items)
    return run("data", "import", "table", folder / "dataset", "--items", folder / "items.jsonl", *more)


TWICE = '{"id": 7, "plot": "the first"}\n{"id": 7, "plot": "the second"}\n{"id": 8, "plot": "another"}\n'


def test_an_id_given_twice_is_a_warning_and_the_first_is_kept(run: Run, models: list[object], tmp_path: Path) -> None:
    code, _, err = import_lines(run, tmp_path, TWICE)
    assert code == 0
    assert "id '7' is given by rows 1, 2; the first is kept" in err
    assert pl.read_parquet(tmp_path / "dataset" / "items.parquet")["text"].to_list() == ["the first", "another"]
    assert run("extract", tmp_path / "dataset", tmp_path / "out.h5", *models)[0] == 0


def test_an_id_given_twice_is_refused_where_the_import_is_strict(run: Run, tmp_path: Path) -> None:
    code, _, err = import_lines(run, tmp_path, TWICE, "--strict")
    assert code == 3
    assert err.startswith("cinefuse: ")
    assert "id '7' is given by rows 1, 2" in err
    assert not (tmp_path / "dataset").exists()


def test_lone_surrogates_become_replacement_characters_and_are_counted(
    run: Run, models: list[object], tmp_path: Path
) -> None:
    code, _, err = import_lines(run, tmp_path, r'{"id": 1, "plot": "half \ud83c a film \ud83c\udfac"}')
    assert code == 0
    assert "1 lone surrogates are no characters; each became U+FFFD" in err
    assert pl.read_parquet(tmp_path / "dataset" / "items.parquet")["text"].to_list() == ["half \ufffd a film 🎬"]
    assert run("extract", tmp_path / "dataset", tmp_path / "out.h5", *models)[0] == 0


@pytest.mark.parametrize("rating", ["NaN", '"NaN"', "Infinity", '"many"', "null"])
def test_a_rating_that_is_no_number_is_refused_by_its_row(run: Run, tmp_path: Path, rating: str) -> None:
    ratings = tmp_path / "ratings.jsonl"
    lines = (f'{{"user_id": 1, "item_id": 8, "rating": {value}}}' for value in ("4", rating))
    ratings.write_text("\n".join(lines))
    code, _, err = import_lines(run, tmp_path, '{"item_id": 8, "plot": "a"}', "--ratings", ratings)
    assert code == 3
    assert re.search(r"^cinefuse: .*\brow 2\b", err.splitlines()[-1])
    assert not (tmp_path / "dataset").exists()
