"""Laws of where posters lie: in folders, archives and Parquet alike each item gets its own bytes, read in place."""

from __future__ import annotations

import base64
import io
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from cinefuse.data.dataset.assembly import Choices, ImportReport
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.posters.files import poster_bytes
from cinefuse.data.dataset.posters.members import Member, MemberFault, MemberTooLarge
from cinefuse.data.dataset.summary import dataset_info
from cinefuse.data.embeddings.status import Reason
from cinefuse.data.pages.pictures import poster_picture
from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.sources.own_tables import import_table
from cinefuse.extract.inputs.pixels import decode_poster
from cinefuse.extract.inputs.poster_files import PosterLimits, PosterProblem, read_poster


def image(shade: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 9), (shade, 0, 255 - shade)).save(file, kind)
    return file.getvalue()


IMAGES = {"7": image(7), "007": image(70), "é": image(200), "b.c": image(120)}
FILMS = "item_id,title\n" + "".join(f"{key},film\n" for key in [*IMAGES, "none"])


def in_folder(place: Path) -> Path:
    place.mkdir()
    for key, raw in IMAGES.items():
        (place / f"{unicodedata.normalize('NFD', key)}.png").write_bytes(raw)
    return place


def in_tar(place: Path) -> Path:
    with tarfile.open(place.with_suffix(".tar"), "w") as archive:
        for key, raw in IMAGES.items():
            for suffix, content in ((".png", raw), (".json", b"{}")):
                entry = tarfile.TarInfo(f"part/{unicodedata.normalize('NFD', key)}{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return place.with_suffix(".tar")


def in_shards(place: Path) -> Path:
    place.mkdir()
    in_tar(place / "000").rename(place / "000.tar")
    return place


def in_zip(place: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(place.with_suffix(".zip"), "w", method) as archive:
        for key, raw in IMAGES.items():
            archive.writestr(f"posters/{key}.png", raw)
    return place.with_suffix(".zip")


def in_stored_zip(place: Path) -> Path:
    return in_zip(place, zipfile.ZIP_STORED)


def in_parquet(place: Path) -> Path:
    cells = [{"bytes": raw, "path": f"{key}.png"} for key, raw in IMAGES.items()]
    table = pa.table(
        {"item_id": [*IMAGES], "image": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))}
    )
    pq.write_table(table, place.with_suffix(".parquet"), row_group_size=3)
    return place.with_suffix(".parquet")


def in_plain_parquet(place: Path) -> Path:
    table = pa.table({"movie_id": [*IMAGES], "jpg": pa.array(IMAGES.values(), pa.large_binary())})
    pq.write_table(table, place.with_suffix(".parquet"), row_group_size=2)
    return place.with_suffix(".parquet")


PLACES = [in_folder, in_tar, in_shards, in_zip, in_stored_zip, in_parquet, in_plain_parquet]


def imported(folder: Path, films: str, posters: Path, **choices: bool) -> ImportReport:
    (folder / "films.csv").write_text(films, "utf-8")
    return import_table(folder / "out", folder / "films.csv", posters=posters, choices=Choices(**choices))


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("make", PLACES)
def test_every_item_gets_its_own_poster_from_wherever_it_lies(tmp_path: Path, make: object, copied: bool) -> None:
    (tmp_path / "pictures").mkdir()
    place = make(tmp_path / "pictures" / "p")  # type: ignore[operator]
    report = imported(tmp_path, FILMS, place, copy_posters=copied)
    assert report.warnings == []
    catalog = Catalog.open(report.folder)
    posters = dict(zip(catalog.ids.tolist(), catalog.posters(), strict=True))
    assert posters.pop("none") is None
    for key, raw in IMAGES.items():
        assert read_poster(str(posters[key]), catalog.poster_root, PosterLimits()) == raw
        assert poster_bytes(catalog.poster_root, str(posters[key])) == raw
        assert poster_picture(catalog.poster_root, posters[key]) is not None
    counted = dataset_info(report.folder)["posters"]
    assert (counted["given"], counted["present"], counted["missing"]) == (4, 4, 0)
    if copied:
        assert catalog.poster_root.resolve().is_relative_to(report.folder.resolve())


@pytest.mark.parametrize("kind", ["image", "poster"])
def test_images_inside_the_film_table_are_read_there(tmp_path: Path, kind: str) -> None:
    cells = [
        {"bytes": image(1), "path": None},
        None,
        {"bytes": None, "path": "b.png"},
        {"bytes": image(3), "path": "x"},
    ]
    films = pa.table(
        {"id": [4, 3, 2, 1], kind: pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))}
    )
    pq.write_table(films, tmp_path / "films.parquet", row_group_size=2)
    (tmp_path / "b.png").write_bytes(image(2))
    catalog = Catalog.open(import_table(tmp_path / "out", tmp_path / "films.parquet").folder)
    found = [poster and read_poster(poster, catalog.poster_root, PosterLimits()) for poster in catalog.posters()]
    assert found == [image(1), None, image(2), image(3)]


def test_a_poster_column_that_is_no_path_here_is_said_and_posters_are_found_by_id(tmp_path: Path) -> None:
    place = in_folder(tmp_path / "p")
    films = "item_id,title,poster\n7,a,https://example.org/x.jpg\n007,b,N/A\ne,c,https://example.org/e.jpg\n"
    report = imported(tmp_path, films, place)
    assert Catalog.open(report.folder).posters() == ["7.png", "007.png", None]
    assert any(
        "2 of 2 values of column poster ('https://example.org/x.jpg' first) are no paths" in said
        for said in report.warnings
    )


def test_a_poster_downloaded_under_its_last_name_is_found_by_it(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name in ("abc.jpg", "x.jpg", "7.png"):
        (tmp_path / "p" / name).write_bytes(image(9))
    films = "item_id,title,poster_path\n7,a,/abc.jpg\n8,b,https://example.org/t/x.jpg\n"
    assert Catalog.open(imported(tmp_path, films, tmp_path / "p").folder).posters() == ["abc.jpg", "x.jpg"]


@pytest.mark.parametrize("make", [in_folder, in_tar, in_parquet])
def test_posters_called_after_other_ids_are_said(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    report = imported(tmp_path, "item_id,title\nx1,a\nx2,b\n", make(tmp_path / "p"))
    assert Catalog.open(report.folder).posters() == [None, None]
    assert any("is called after an id of the films ('x1' first)" in said for said in report.warnings)


def test_addresses_are_never_taken_for_files(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("id,poster\n1,https://example.org/x.jpg\n2,/abc.jpg\n3,p/3.jpg\n")
    report = import_table(tmp_path / "out", tmp_path / "films.csv")
    assert Catalog.open(report.folder).posters() == [None, None, "p/3.jpg"]
    assert any("--poster-urls poster downloads them" in said for said in report.warnings)


@pytest.mark.parametrize(
    "poster",
    [
        *("p.tar::0+99999999", "p.tar::999999999999+10", "p.zip::30+40z", "p.parquet::image.bytes/9/0"),
        *("p.parquet::image.bytes/0/99", "p.parquet::nothing/0/0", "p.parquet::item_id/0/0", "../p.tar::0+512"),
        *("no.tar::0+10", "p.tar::0+0", "p.tar::1/2/3"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_problem_of_one_poster(tmp_path: Path, poster: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for make in (in_tar, in_zip, in_parquet):
        make(folder / "p")
    in_tar(tmp_path / "p")
    with pytest.raises(PosterProblem) as problem:
        read_poster(poster, folder, PosterLimits())
    wanted = {"../p.tar::0+512": Reason.OUTSIDE_FOLDER, "no.tar::0+10": Reason.NOT_FOUND, "p.tar::0+0": Reason.EMPTY}
    wanted |= {"p.tar::0+99999999": Reason.FILE_TOO_LARGE, "p.tar::1/2/3": Reason.NOT_FOUND}
    assert problem.value.reason is wanted.get(poster, Reason.UNREADABLE)
    assert not poster_bytes(folder, poster)


def test_a_deflated_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(10_000_000))
    (tmp_path / "films.csv").write_text("id\n1\n")
    poster = Catalog.open(
        import_table(tmp_path / "o", tmp_path / "films.csv", posters=tmp_path / "p.zip").folder
    ).posters()[0]
    with pytest.raises(PosterProblem) as problem:
        read_poster(str(poster), tmp_path, PosterLimits(max_bytes=1_000_000))
    assert problem.value.reason is Reason.FILE_TOO_LARGE


def test_an_archive_that_cannot_be_read_in_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("id\n1\n")
    (tmp_path / "p.tar").write_bytes(b"\x1f\x8b no tar at all" * 100)
    with pytest.raises(BadInput, match=r"p\.tar cannot be read as tar"):
        import_table(tmp_path / "o", tmp_path / "films.csv", posters=tmp_path / "p.tar")
    with pytest.raises(BadInput, match="no such folder or file"):
        import_table(tmp_path / "o", tmp_path / "films.csv", posters=tmp_path / "q.tar")


def test_a_row_group_is_read_once_for_all_its_posters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parquet(tmp_path / "p")
    reads: list[int] = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda file, group, **how: reads.append(group) or whole(file, group, **how)
    )
    for group, row in ((0, 0), (0, 1), (0, 2), (1, 0), (0, 1)):
        read_poster(f"p.parquet::image.bytes/{group}/{row}", tmp_path, PosterLimits())
    assert reads == [0, 1]


def test_the_footer_of_a_parquet_file_is_parsed_once_for_all_its_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_parquet(tmp_path / "p")
    parsed: list[bool] = []
    opening = pq.ParquetFile.__init__

    def opened(file: pq.ParquetFile, source: Any, **how: Any) -> None:
        parsed.append(how.get("metadata") is None)
        opening(file, source, **how)

    monkeypatch.setattr(pq.ParquetFile, "__init__", opened)
    for group in (0, 1):
        read_poster(f"p.parquet::image.bytes/{group}/0", tmp_path, PosterLimits())
    assert parsed == [True, False]


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_avif_is_read_where_pillow_has_it() -> None:
    decoded = decode_poster(image(100, "AVIF"), PosterLimits())
    assert (decoded.size, decoded.mode) == ((6, 9), "RGB")
    with pytest.raises(PosterProblem) as problem:
        decode_poster(image(100, "AVIF")[:-20], PosterLimits())
    assert problem.value.reason is Reason.BROKEN_IMAGE
    with pytest.raises(PosterProblem) as problem:
        decode_poster(image(100, "AVIF"), PosterLimits(max_pixels=53))
    assert problem.value.reason is Reason.TOO_MANY_PIXELS


@pytest.mark.slow
@given(st.integers(0, 10**15), st.integers(0, 10**9), st.booleans(), st.text(min_size=1))
def test_a_reference_comes_back_from_its_text(offset: int, length: int, packed: bool, name: str) -> None:
    for member in (
        Member(f"{name}.zip", offset, length, packed),
        Member(f"{name}.parquet", column="image.bytes", group=offset % 10**9, row=length % 10**9),
    ):
        assert Member.parse(str(member)) == member
    assert Member.parse(f"{name}.jpg") is None


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=6), st.booleans())
def test_the_bytes_of_a_zip_are_those_that_zipfile_reads(tmp_path: Path, contents: list[bytes], deflate: bool) -> None:
    from cinefuse.data.dataset.posters.members import archive_members

    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.jpg", content)
    with (tmp_path / "z.zip").open("rb") as stream:
        read = [member.read(stream.fileno(), 10_000) for _, member in archive_members(tmp_path / "z.zip")]
        assert read == contents
        with pytest.raises((MemberTooLarge, MemberFault)):
            next(iter(archive_members(tmp_path / "z.zip")))[1].read(stream.fileno(), 0)


def test_rows_of_films_keep_their_images_through_any_order(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["b", "a", "b"], "image": [image(1), image(2), image(3)]}), tmp_path / "f.parquet")
    report = import_table(tmp_path / "out", tmp_path / "f.parquet")
    catalog = Catalog.open(report.folder)
    found = {
        key: poster_bytes(catalog.poster_root, str(at)) for key, at in zip(catalog.ids, catalog.posters(), strict=True)
    }
    assert found == {"b": image(1), "a": image(2)}
    assert pl.read_parquet(report.folder / "items.parquet").schema["poster"] == pl.String


@pytest.mark.parametrize(
    "path", ["C:\\Users\\me\\covers\\one.png", "/home/me/covers/one.png", "sub\\one.png", "https://x/one.png"]
)
def test_a_path_on_another_computer_is_found_by_its_last_name(tmp_path: Path, path: str) -> None:
    place = tmp_path / "posters"
    (place / "sub").mkdir(parents=True)
    (place / ("sub/one.png" if path.startswith("sub") else "one.png")).write_bytes(image(3))
    (place / "7.png").write_bytes(image(9))
    report = imported(tmp_path, f"item_id,title,poster\n7,A,{path}\n", place)
    catalog = Catalog.open(report.folder)
    assert poster_bytes(catalog.poster_root, catalog.items["poster"][0]) == image(3)


def test_backslashes_of_windows_lead_to_posters_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(image(3))
    (tmp_path / "films.csv").write_text("item_id,title,poster\n7,A,p\\a.png\n8,B,p\\gone.png\n")
    catalog = Catalog.open(import_table(tmp_path / "out", tmp_path / "films.csv").folder)
    assert catalog.items["poster"].to_list() == ["p/a.png", "p\\gone.png"]


def test_images_as_base64_text_are_no_paths_and_it_is_said(tmp_path: Path) -> None:
    text = base64.b64encode(image(3) * 3).decode()
    (tmp_path / "films.csv").write_text(f'item_id,title,poster\n7,A,{text}\n8,B,"data:image/png;base64,{text}"\n')
    report = import_table(tmp_path / "out", tmp_path / "films.csv")
    assert Catalog.open(report.folder).items["poster"].to_list() == [None, None]
    assert any("2 values of column poster are images as base64 text" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("images/7.jpg", "images/7.jpg is one in a folder below; name that folder"),
        ("7/poster.png", "7/poster.png is one in a folder below"),
        ("7.bmp", "it holds 7.bmp"),
        ("7", "it holds 7"),
        (None, "it is empty"),
    ],
)
def test_a_folder_without_any_poster_is_said_with_what_it_holds(tmp_path: Path, file: str | None, says: str) -> None:
    place = tmp_path / "posters"
    place.mkdir()
    if file is not None:
        (place / file).parent.mkdir(exist_ok=True)
        (place / file).write_bytes(image(3))
    warnings = imported(tmp_path, "item_id,title\n7,A\n", place).warnings
    assert any(f"such as 7.jpg ({says}" in said and "there are no posters" in said for said in warnings)
