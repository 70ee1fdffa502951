"""The command line as its users meet it: exit codes, one-line refusals, Ctrl-C, and what is printed."""

from __future__ import annotations

import errno
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer.main

from cinefuse import cli
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.status import Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime import errors
from cinefuse.data.runtime.lock import sole_writer
from cinefuse.extract.job.settings import DEFAULT_BATCH
from cinefuse.tests.support.commands import CONTROL, HEAVY, Ended, Run, assert_refused_in_one_line, imported_by
from cinefuse.tests.support.embedding_files import flip
from cinefuse.tests.support.forked import QUICK_STUDY, ForkedCommands


def process(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `cinefuse` with these words in a process of its own."""
    command = [sys.executable, "-m", "cinefuse.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


@pytest.fixture(scope="module")
def models(encoders: Any) -> list[object]:
    return ["--text-model", encoders.text, "--image-model", encoders.image, "--device", "cpu"]


@pytest.fixture(scope="module")
def made(default_embeddings: Path) -> Path:
    return default_embeddings


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A finished file that may be damaged."""
    return Path(shutil.copy(made, tmp_path / "films.h5"))


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def unfinished(sample: Path, models: list[object], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The partial file of a job that was interrupted between plots and posters."""
    from cinefuse.device import resolve_device, resolve_precision
    from cinefuse.extract.job import feeds

    by_name = resolve_precision("auto", resolve_device("cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(feeds.PosterFeed, "load", interrupted)
        # a precision by name: auto would try both on some posters first
        assert run("extract", sample, tmp_path / "films.h5", *models, "--precision", by_name).code == 130
    return tmp_path / "films.h5.partial"


# --- refusals ---------------------------------------------------------------------------------------------------------


def usage_error(run: Run, sample: Path, models: list[object], **_: Any) -> Ended:
    return run("extract", sample, "out.h5", *models, "--no-text", "--no-image")


def bad_input(run: Run, tmp_path: Path, models: list[object], **_: Any) -> Ended:
    return run("extract", tmp_path, tmp_path / "out.h5", *models)


def damaged_file(run: Run, tmp_path: Path, **_: Any) -> Ended:
    (tmp_path / "thesis.txt").write_text("not an embedding file\n" * 500)
    return run("cache", "info", tmp_path / "thesis.txt")


def fingerprint_mismatch(run: Run, sample: Path, copy: Path, models: list[object], **_: Any) -> Ended:
    return run("extract", sample, copy, *models, "--dtype", "float32")


def busy(run: Run, sample: Path, copy: Path, models: list[object], **_: Any) -> Ended:
    with sole_writer(copy):
        return run("extract", sample, copy, *models)


def no_space(
    run: Run, sample: Path, tmp_path: Path, models: list[object], monkeypatch: pytest.MonkeyPatch, **_: Any
) -> Ended:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    return run("extract", sample, tmp_path / "out.h5", *models)


def interrupt(
    run: Run, sample: Path, tmp_path: Path, models: list[object], monkeypatch: pytest.MonkeyPatch, **_: Any
) -> Ended:
    from cinefuse.extract.job import loop as stream

    monkeypatch.setattr(stream, "encode_rows", interrupted)
    return run("extract", sample, tmp_path / "out.h5", *models)


REFUSALS: dict[type[errors.CinefuseError], tuple[int, Callable[..., Ended]]] = {
    errors.UsageError: (2, usage_error),
    errors.BadInput: (3, bad_input),
    errors.DamagedFile: (4, damaged_file),
    errors.FingerprintMismatch: (5, fingerprint_mismatch),
    errors.Busy: (6, busy),
    errors.NoSpace: (7, no_space),
    errors.Interrupted: (130, interrupt),
}


def test_every_kind_of_refusal_is_shown_here() -> None:
    assert set(REFUSALS) == set(errors.CinefuseError.__subclasses__())


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_every_refusal_reaches_the_shell_as_one_line_and_its_exit_code(
    kind: type[errors.CinefuseError],
    run: Run,
    sample: Path,
    copy: Path,
    models: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, provoke = REFUSALS[kind]
    found = provoke(run=run, sample=sample, copy=copy, models=models, tmp_path=tmp_path, monkeypatch=monkeypatch)
    assert_refused_in_one_line(found, code)


@pytest.mark.parametrize(
    "options",
    [
        ("--no-text", "--no-image"),
        ("--max-megapixels", "nan"),
        ("--max-megapixels", "0"),
        ("--max-megapixels", "inf"),
        ("--device", "abacus"),
        ("--precision", "fp8"),
        ("--dtype", "int8"),
        ("--text-layer", "99"),
        ("--image-layer", "0"),
        ("--max-length", "2"),
        ("--max-length", "999"),
        ("--batch-tokens", "0"),
        ("--batch-posters", "-1"),
        ("--text-template", "{nope}"),
        ("--text-template", "{"),
    ],
    ids=" ".join,
)
def test_options_that_contradict_each_other_or_mean_nothing_are_usage_errors(
    options: tuple[str, ...], run: Run, sample: Path, models: list[object], tmp_path: Path
) -> None:
    assert_refused_in_one_line(run("extract", sample, tmp_path / "out.h5", *models, *options), 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    {
        ("extract", "--bogus"): "No such option: --bogus",
        ("extract",): "Missing argument",
        ("bogus",): "No such command 'bogus'",
        ("cache", "verify", "a", "b"): "unexpected extra argument",
        ("evaluate", "run", "-k", "ten"): "Invalid value for '-k'",
    }.items(),
)
def test_words_that_are_no_command_are_refused_in_one_line_that_names_the_help(
    words: tuple[str, ...], says: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ended = run(*words)
    line = assert_refused_in_one_line(ended, 2)
    assert says in line
    assert " --help`" in line
    assert ended.out == ""


@pytest.mark.parametrize("words", [(), ("cache",), ("data", "import")])
def test_a_group_without_a_command_tells_its_commands(words: tuple[str, ...], run: Run) -> None:
    ended = run(*words)
    assert ended.code == 2
    assert "Commands" in ended.out
    assert ended.err == ""


def test_the_version_is_told(run: Run) -> None:
    ended = run("--version")
    assert (ended.code, ended.out) == (0, f"cinefuse {version('cinefuse')}\n")


def test_a_refusal_stays_one_line_whatever_the_item_is_called(
    run: Run, own_sample: Path, models: list[object], tmp_path: Path
) -> None:
    items = pl.read_parquet(own_sample / "items.parquet").head(3)  # the third has its poster: none at all is refused
    names = pl.Series("item_id", ["two\nlines", "\x1b[31mred\x1b[0m \u202eright to left", "plain"])
    posters = pl.Series(["none.jpg", "none.jpg", items["poster"][2]])
    items = items.with_columns(item_id=names, poster=posters)
    items.write_parquet(own_sample / "items.parquet")
    line = assert_refused_in_one_line(run("extract", own_sample, tmp_path / "out.h5", *models, "--strict"), 3)
    assert r"item two\nlines: no such file" in line
    assert run("extract", own_sample, tmp_path / "out.h5", *models).code == 0
    ended = run("cache", "info", tmp_path / "out.h5", "--failures")
    assert not CONTROL.search(ended.out)
    assert r"two\nlines" in ended.out
    assert r"\x1b[31mred\x1b[0m \u202eright to left" in ended.out


DEFECT = """
import sys
from cinefuse import cli
from cinefuse.data.embeddings import file as embeddings
def defect(*_, **__):
    raise RuntimeError("a defect of ours")
embeddings.EmbeddingFile.open = defect
sys.argv = ["cinefuse", "cache", "info", "films.h5"]
cli.main()
"""


def test_a_defect_of_ours_keeps_its_traceback_and_ends_with_1() -> None:
    ended = subprocess.run([sys.executable, "-c", DEFECT], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
    assert ended.stderr.splitlines()[-1] == "RuntimeError: a defect of ours"


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


EXTRACT_STAGES = {
    "reading the catalogue": "cinefuse.data.dataset.catalog:_read_items",
    "loading the tokenizer": "cinefuse.extract.models.source:ModelSource.tokenizer",
    "tokenising plots": "cinefuse.extract.inputs.texts:_tokenise",
    "probing posters": "cinefuse.extract.job.settings:plan_posters",
    "hashing weights": "cinefuse.extract.models.source:sha256_of",
    "laying out the file": "cinefuse.data.embeddings.file:reserve",
    "loading the text model": "cinefuse.extract.models.encoders:TextEncoder.load",
    "encoding plots": "cinefuse.extract.job.feeds:TextFeed.encode",
    "loading the image model": "cinefuse.extract.models.encoders:ImageEncoder.load",
    "encoding posters": "cinefuse.extract.job.feeds:PosterFeed.encode",
    "giving the file its name": "cinefuse.extract.job.extraction:put_in_place",
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", EXTRACT_STAGES)
def test_ctrl_c_at_every_stage_of_extract_ends_with_130_and_one_line_that_says_how_to_go_on(
    stage: str, forked: ForkedCommands, sample: Path, made: Path, models: list[object], run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "films.h5"
    ended = forked.interrupt_at(EXTRACT_STAGES[stage], "extract", sample, out, *models)
    line = assert_refused_in_one_line(ended, 130)
    assert "run the same command again" in line
    planned = list(EXTRACT_STAGES).index(stage) >= list(EXTRACT_STAGES).index("hashing weights")
    assert (f"everything finished is kept in {out}.partial" in line) == planned
    assert not out.exists()
    assert not (tmp_path / "films.h5.lock").exists()
    assert run("extract", sample, out, *models).code == 0
    assert out.read_bytes() == made.read_bytes()


@pytest.mark.slow
def test_ctrl_c_during_verify_ends_with_130_too(forked: ForkedCommands, made: Path) -> None:
    ended = forked.interrupt_at("cinefuse.data.embeddings.verification:_constants", "cache", "verify", made)
    assert "run the same command again" in assert_refused_in_one_line(ended, 130)


INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cinefuse.cli import main; main()"
)


@pytest.mark.slow
@pytest.mark.parametrize("moments", [3, pytest.param(40, marks=pytest.mark.torture)])
def test_ctrl_c_at_a_random_moment_from_the_import_of_torch_on_ends_with_130(
    moments: int, sample: Path, made: Path, models: list[object], tmp_path: Path
) -> None:
    out, chance = tmp_path / "films.h5", random.Random(moments)
    command = [sys.executable, "-c", INTERRUPTIBLE, *map(str, ["extract", sample, out, *models])]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - started
    assert out.read_bytes() == made.read_bytes()
    for _ in range(moments):
        out.unlink(missing_ok=True)
        job = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        maps = Path(f"/proc/{job.pid}/maps")
        while "libtorch" not in maps.read_text():
            time.sleep(0.005)
        time.sleep(chance.uniform(0, seconds))
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=60)
        if job.returncode != 0:  # it was not over yet
            assert_refused_in_one_line(Ended(job.returncode, "", err), 130)
            assert not out.exists()
    subprocess.run(command, check=True, capture_output=True)
    assert out.read_bytes() == made.read_bytes()


TOO_LATE = """
import atexit, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(os.kill, os.getpid(), signal.SIGINT)  # the first registered is the last called
from cinefuse import cli
sys.argv = ["cinefuse", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize(("file", "code"), [("made", 0), ("none", 3)])
def test_ctrl_c_after_the_end_of_a_command_changes_nothing(file: str, code: int, made: Path) -> None:
    path = made if file == "made" else made.with_name("none.h5")
    command = [sys.executable, "-c", TOO_LATE, "cache", "info", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == (code != 0)


AT_A_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "


@pytest.mark.slow
def test_ctrl_c_typed_at_a_terminal_gives_the_cursor_back(sample: Path, models: list[object], tmp_path: Path) -> None:
    words = ["extract", sample, tmp_path / "films.h5", *models, "--batch-tokens", 128, "--batch-posters", 1]
    terminal, inside = pty.openpty()
    command = [sys.executable, "-c", AT_A_TERMINAL + INTERRUPTIBLE, *map(str, words)]
    job = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, start_new_session=True)
    os.close(inside)
    shown, typed = b"", False
    with suppress(OSError):  # the terminal ends with its process
        while block := os.read(terminal, 65_536):
            shown += block
            if b"encoding text" in shown and not typed:
                typed = os.write(terminal, b"\x03") == 1
    os.close(terminal)
    assert job.wait(timeout=60) == 130
    assert b"Traceback" not in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l"), "the cursor stays hidden"
    assert shown.splitlines()[-1].rpartition(b"\x1b[?25h")[2].startswith(b"cinefuse: stopped")


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_the_plan_needs_no_weights_writes_nothing_and_tells_what_would_be_done(
    run: Run, own_sample: Path, encoders: Any, tmp_path: Path
) -> None:
    for name in ("text", "image"):
        shutil.copytree(getattr(encoders, name), tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
    models = ["--text-model", tmp_path / "text", "--image-model", tmp_path / "image", "--device", "cpu"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    ended = run("extract", own_sample, tmp_path / "out.h5", *models, "--plan")
    assert ended.code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    rows = {line[:16].strip(): line[16:].split() for line in ended.out.splitlines()}
    catalogue = Catalog.open(own_sample)
    posters = [poster for poster in catalogue.posters() if poster]
    distinct = {(catalogue.poster_root / poster).read_bytes() for poster in posters}
    assert rows["items"] == ["40", "40"]
    assert rows["to encode"] == [str(len({text for text in catalogue.texts() if text})), str(len(distinct))]
    assert rows["missing"] == [str(sum(text is None for text in catalogue.texts())), str(40 - len(posters))]
    assert int(rows["batches"][0]) >= 1
    assert rows["batches"][1] == str(-(-len(distinct) // DEFAULT_BATCH["cpu"]["image"]))
    assert all(share.endswith("%") for share in rows["padding"])
    assert {"tokens", "bytes", "time", "failed"} < set(rows)
    assert "nothing was written" in ended.out


def test_the_plan_counts_what_the_job_then_does(
    run: Run, own_sample: Path, models: list[object], tmp_path: Path
) -> None:
    catalogue = Catalog.open(own_sample)
    (catalogue.poster_root / next(poster for poster in catalogue.posters() if poster)).write_bytes(b"<html>")
    plan = run("extract", own_sample, tmp_path / "out.h5", *models, "--plan").out
    assert re.search(r"^failed +0 +1 *$", plan, re.MULTILINE)
    done = run("extract", own_sample, tmp_path / "out.h5", *models)
    assert done.code == 0
    assert "1 failed: not an image" in done.out
    with EmbeddingFile.open(tmp_path / "out.h5") as file:
        tokens = [len(file[name].tokens) for name in ("text", "image")]
    assert re.search(rf"^tokens +{tokens[0]:,} +{tokens[1]:,} *$", plan, re.MULTILINE)


# --- cache info and cache verify --------------------------------------------------------------------------------------


def test_info_of_a_finished_file_tells_coverage_models_and_digest(run: Run, made: Path) -> None:
    ended = run("cache", "info", made)
    with EmbeddingFile.open(made) as file:
        embedded = [int(file[name].has_embedding.sum()) for name in ("text", "image")]
        digest = file.content_digest
    assert ended.code == 0
    assert ended.out.splitlines()[0].startswith(f"{made}  ")
    assert "40 items, complete" in ended.out
    assert re.search(rf"^with embedding +{embedded[0]} +{embedded[1]} *$", ended.out, re.MULTILINE)
    assert digest in ended.out
    parsed = json.loads(run("cache", "info", made, "--json").out)
    assert parsed["complete"] is True
    assert parsed["content_digest"] == digest
    assert parsed["modalities"]["text"]["status"]["ok"] == embedded[0]


def test_info_of_an_unfinished_file_says_what_is_pending(run: Run, unfinished: Path) -> None:
    ended = run("cache", "info", unfinished)
    assert ended.code == 0
    assert "unfinished: run the same extract again" in ended.out
    parsed = json.loads(run("cache", "info", unfinished, "--json").out)
    assert parsed["complete"] is False
    pending = [parsed["modalities"][name]["status"]["pending"] for name in ("text", "image")]
    assert pending[0] == 0
    assert pending[1] > 0
    assert re.search(rf"^pending +0 +{pending[1]} *$", ended.out, re.MULTILINE)


def test_verify_of_an_unfinished_file_ends_with_4_and_extract_finishes_it(
    run: Run, unfinished: Path, sample: Path, made: Path, models: list[object]
) -> None:
    ended = run("cache", "verify", unfinished)
    assert_refused_in_one_line(ended, 4)
    assert "rows are pending: run the same extract again" in ended.out
    out = unfinished.with_suffix("")
    assert run("extract", sample, out, *models).code == 0
    assert out.read_bytes() == made.read_bytes()


def test_failures_names_what_failed_and_counts_what_was_never_there(
    run: Run, own_sample: Path, models: list[object], tmp_path: Path
) -> None:
    catalogue = Catalog.open(own_sample)
    given = [(item, poster) for item, poster in zip(catalogue.ids, catalogue.posters(), strict=True) if poster]
    (catalogue.poster_root / given[0][1]).write_bytes(b"")
    (catalogue.poster_root / given[1][1]).unlink()
    assert run("extract", own_sample, tmp_path / "out.h5", *models).code == 0
    expected = {(int(given[0][0]), "image"): "empty, or nothing but white space"}
    expected[int(given[1][0]), "image"] = "no such file"
    failed = dict(expected)
    for name, values in (("text", catalogue.texts()), ("image", catalogue.posters())):
        absent = [item for item, value in zip(catalogue.ids, values, strict=True) if value is None]
        expected |= {(int(item), name): "the catalogue gives none" for item in absent}
    found = json.loads(run("cache", "info", tmp_path / "out.h5", "--failures", "--missing", "--json").out)
    assert {(row["item"], row["modality"]): row["why"] for row in found} == expected
    assert sum(row["status"] == "failed" for row in found) == 2
    table = run("cache", "info", tmp_path / "out.h5", "--failures", "--missing").out
    for (item, modality), why in expected.items():
        assert re.search(rf"^{item} +{modality} +(missing|failed) +{why} *$", table, re.MULTILINE)
    assert len(table.splitlines()) == 1 + len(expected)
    only = json.loads(run("cache", "info", tmp_path / "out.h5", "--failures", "--json").out)
    assert {(row["item"], row["modality"]): row["why"] for row in only} == failed
    table = run("cache", "info", tmp_path / "out.h5", "--failures").out
    without = sum(modality == "image" for _, modality in expected.keys() - failed.keys())
    assert f"{without:,} items have no image in the catalogue (--missing lists them)" in table


def test_truncated_texts_are_listed_when_asked_for(
    run: Run, sample: Path, models: list[object], tmp_path: Path
) -> None:
    assert run("extract", sample, tmp_path / "out.h5", *models, "--max-length", 8, "--no-image").code == 0
    asked = run("cache", "info", tmp_path / "out.h5", "--failures", "--truncated", "--json")
    unasked = run("cache", "info", tmp_path / "out.h5", "--failures", "--json")
    with EmbeddingFile.open(tmp_path / "out.h5") as file:
        cut = set(file.ids[file.text.status == Status.TRUNCATED].tolist())
    assert cut
    assert {row["item"] for row in json.loads(asked.out) if row["status"] == "truncated"} == cut
    assert "truncated" not in unasked.out


def test_verify_names_the_damaged_row_and_extract_mends_it(
    run: Run, sample: Path, copy: Path, made: Path, models: list[object]
) -> None:
    assert run("cache", "verify", copy) == Ended(0, run("cache", "verify", copy).out, "")
    with EmbeddingFile.open(copy) as file:
        row = int(np.flatnonzero(file.image.has_embedding)[5])
        item = file.ids[row]
        flip(copy, file.header.datasets["image/cls"].offset + row * file.image.width * 2)
    ended = run("cache", "verify", copy)
    assert_refused_in_one_line(ended, 4)
    assert f"row {row} (item {item})" in ended.out
    parsed = json.loads(run("cache", "verify", copy, "--json").out)
    assert [(problem["row"], problem["item"]) for problem in parsed["problems"]] == [(row, item)]
    mended = run("extract", sample, copy, *models)
    assert mended.code == 0
    assert "1 encoded" in mended.out
    assert run("cache", "verify", copy).code == 0
    assert copy.read_bytes() == made.read_bytes()


def test_what_a_stranger_wrote_into_a_file_is_shown_and_never_obeyed(
    run: Run, own_sample: Path, models: list[object], tmp_path: Path
) -> None:
    # longer than a terminal is wide: a file or a pipe has each item on one line all the same
    hostile = "[bold]x[/nope] :bomb: \x1b]0;owned\x07 \u202e" + "x" * 120
    items = pl.read_parquet(own_sample / "items.parquet").head(2)
    items = items.with_columns(item_id=pl.Series([hostile, "b"]), text=pl.Series([None, "a plot"], dtype=pl.String))
    items.write_parquet(own_sample / "items.parquet")
    out = tmp_path / "[red]out[bold].h5"
    words = ["--no-image", "--source", hostile, "--licence", hostile]
    done = run("extract", own_sample, out, *models, *words)
    shown = [
        run("cache", "info", out),
        run("cache", "info", out, "--failures", "--missing"),
        run("cache", "verify", out),
        done,
    ]
    for found in shown:
        assert found.code == 0
        assert not CONTROL.search(found.out + found.err)
    as_shown = r"[bold]x[/nope] :bomb: \x1b]0;owned\x07 \u202e" + "x" * 120
    assert as_shown in shown[0].out
    assert as_shown in shown[1].out
    assert all(str(out) in found.out for found in (shown[0], shown[2], shown[3]))


# --- help -------------------------------------------------------------------------------------------------------------


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "cinefuse")
def test_every_command_and_every_option_has_help(words: tuple[str, ...], run: Run) -> None:
    command = COMMANDS[words]
    ended = run(*words, "--help")
    assert ended.code == 0
    assert command.help
    assert len(command.help.split()) >= 4
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{' '.join(words)}: {parameter.name} has no help"
        if parameter.param_type_name == "option":
            assert all(option in ended.out for option in parameter.opts)
    for name in getattr(command, "commands", {}):
        assert re.search(rf"\b{name}\b", ended.out)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "cinefuse")
def test_help_shows_no_python_types_and_cuts_no_summary(
    words: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(*words, "--help").out
    assert not re.search(r"<[a-z_]|list\[", shown)
    for name, command in getattr(COMMANDS[words], "commands", {}).items():
        summary = " ".join(command.help.split("\n\n")[0].split())
        listed = re.search(rf"│ {name} +(.*?)(?=\n│ [a-z]|\n╰)", shown, re.DOTALL)
        assert listed, name
        assert " ".join(re.sub("[│\n]", " ", listed[1]).split()) == summary.replace("`", "")


def test_python_m_cinefuse_is_the_command() -> None:
    command = [sys.executable, "-m", "cinefuse", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"cinefuse {version('cinefuse')}\n"


def test_the_command_completes_its_words_in_a_shell() -> None:
    ask = os.environ | {"_CINEFUSE_COMPLETE": "complete_bash", "COMP_WORDS": "cinefuse rec", "COMP_CWORD": "1"}
    script = "import sys; sys.argv = ['cinefuse']; from cinefuse.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ask, check=False)
    assert done.stdout.split() == ["recommend"], done.stderr


@pytest.mark.parametrize("words", [("--help",), ("extract", "--help"), ("cache", "info", "--help")], ids=" ".join)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    assert not HEAVY & imported_by(*words)


def test_looking_at_a_file_imports_no_model_library(made: Path) -> None:
    assert not {"torch", "transformers", "polars"} & imported_by("cache", "info", made, "--json")
    assert not {"torch", "transformers", "polars"} & imported_by("cache", "verify", made)


# --- whole runs in processes of their own -----------------------------------------------------------------------------


TINY_DEMO = ("--items", "20", "--users", "12")


@pytest.mark.slow
def test_the_demo_runs_twice_and_finds_everything_done_the_second_time(forked: ForkedCommands, tmp_path: Path) -> None:
    first = forked.quick_demo(tmp_path, *TINY_DEMO)
    assert first.code == 0, first.err
    file = tmp_path / "demo" / "embeddings.h5"
    assert verify(file).complete
    models = sorted((tmp_path / "demo" / "study").rglob("model.safetensors"))
    assert len(models) == 2 * 6, "six models on ratings held out at random, and on films held out"
    content, trained = file.read_bytes(), [model.stat().st_mtime_ns for model in models]
    run = "demo/study/both-tokens/random-0.1/seed-0"
    for words in ("extract demo/dataset", "study demo/dataset", f"evaluate {run}", f"recommend {run} --user 1"):
        assert f"\n$ cinefuse {words}" in first.out
    assert "made up" in first.out.splitlines()[0]
    for page in ("report.html", "unseen.html"):
        assert "<html" in (tmp_path / "demo" / page).read_text("utf-8")
    second = forked.quick_demo(tmp_path, *TINY_DEMO)
    assert second.code == 0, second.err
    assert second.out.count("all there already, every checksum agrees") == 2
    assert second.err.count("is finished already") == len(models)
    assert (file.read_bytes(), [model.stat().st_mtime_ns for model in models]) == (content, trained)
    for ended in (first, second):
        assert not CONTROL.search(ended.out + ended.err), "a pipe is no terminal"
    # progress in a log: plain lines, each phase's last one tells the whole
    phases = [line for line in first.err.splitlines() if "items/s" in line]
    assert [line.partition(":")[0] for line in phases[:4]] == [
        "tokenising plots",
        "probing posters",
        "encoding text",
        "encoding image",
    ]
    assert phases[0].startswith("tokenising plots: 20/20 ")
    assert all(line == line.rstrip() and line for line in first.err.splitlines())


@pytest.mark.slow
def test_an_interrupted_demo_can_be_run_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cinefuse.data.formats import hdf5_library
    from cinefuse.fuse.training.member import Member

    monkeypatch.setattr(cli, "DEMO_STUDY", [*cli.DEMO_STUDY, *QUICK_STUDY])
    words = ("demo", "--out", tmp_path / "demo", *TINY_DEMO)
    for owner, name in ((hdf5_library, "verify_by_hdf5_too"), (Member, "transformer_step")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            ended = run(*words)
            assert "--resume" not in assert_refused_in_one_line(ended, 130), "the demo has no such option"
    finished = list((tmp_path / "demo" / "study").rglob("summary.json"))
    assert finished, "bias and factors were done before the Transformer was stopped"
    trained = {summary: summary.stat().st_mtime_ns for summary in finished}
    again = run(*words)
    assert again.code == 0, again
    assert len(list((tmp_path / "demo" / "study").rglob("summary.json"))) == 2 * 6
    assert {summary: summary.stat().st_mtime_ns for summary in finished} == trained, "what was finished stays"
    other = run(*words[:-1], 13)
    line = assert_refused_in_one_line(other, 2)
    assert "20 films and 12 users" in line
    assert "--out" in line


def test_a_reader_that_hangs_up_is_no_defect(made: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "cinefuse.cli", "cache", "info", str(made)]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert ended.stderr == ""


@pytest.mark.parametrize("words", ["--version", "cache info {}", "cache info {} --json"])
def test_a_full_disk_under_standard_output_is_refused_in_one_line(words: str, made: Path) -> None:
    command = [sys.executable, "-m", "cinefuse.cli", *words.format(made).split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == errors.NoSpace.exit_code
    assert done.stderr.startswith("cinefuse: standard output cannot be written (No space left on device)")
    assert done.stderr.count("\n") == 1


def test_what_is_printed_is_utf_8_in_any_locale(own_sample: Path) -> None:
    table = pl.read_parquet(own_sample / "items.parquet")
    table.with_columns(genres=pl.Series([["Comédie 喜剧"]] * len(table))).write_parquet(own_sample / "items.parquet")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "cinefuse.cli", "data", "info", str(own_sample)]
    done = subprocess.run(command, capture_output=True, env=os.environ | locale, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "Comédie 喜剧" in done.stdout.decode("utf-8")
    assert "█" in done.stdout.decode("utf-8")


@pytest.mark.parametrize("words", ["fuse {} {}/run", "evaluate {}", "data info {}", "cache info {}", "report {}"])
def test_a_path_that_no_system_takes_is_refused_in_one_line(words: str, run: Run, sample: Path) -> None:
    too_long = sample / ("n" * 300)
    assert_refused_in_one_line(run(*words.format(too_long, too_long).split()), 4 if words.startswith("cache") else 3)
