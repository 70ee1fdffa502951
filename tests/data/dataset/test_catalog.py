"""Laws of the dataset folder and of the catalogue read from it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.folder import Description, new_folder, poster_root_as_written, rows_named
from cinefuse.data.runtime.errors import BadInput, Busy, NoSpace, UsageError

GOOD = {
    "item_id": pl.Series([7, 2**60 + 1, -3]),
    "title": ["Heat (1995)", "Brazil (1985)", "Untitled"],
    "year": pl.Series([1995, None, None], dtype=pl.Int32),
    "genres": pl.Series([["Crime", "Drama"], [], [None]], dtype=pl.List(pl.String)),
    "text": ["Two men meet.", " \t", None],
    "poster": ["7.jpg", None, "../x.jpg"],
}


def dataset(folder: Path, posters: str = "pictures", **changes: object) -> Path:
    folder.mkdir()
    Description("test", posters).write(folder)
    columns = {name: values for name, values in (GOOD | changes).items() if values is not None}
    pl.DataFrame(columns).write_parquet(folder / "items.parquet")
    return folder


def test_a_catalog_gives_ids_texts_and_posters_in_the_order_of_the_file(tmp_path: Path) -> None:
    catalog = Catalog.open(dataset(tmp_path / "d"))
    assert catalog.ids.dtype == np.int64
    assert catalog.ids.tolist() == [7, 2**60 + 1, -3]
    assert len(catalog) == 3
    assert list(catalog.texts()) == ["Two men meet.", None, None]
    assert catalog.posters() == ["7.jpg", None, "../x.jpg"]
    assert catalog.poster_root == tmp_path / "d" / "pictures"
    assert catalog.items.columns == ["item_id", "title", "year", "genres", "tags", "text", "poster"]
    assert catalog.items["tags"].to_list() == [[], [], []], "a folder from before there were tags has none"


def test_lists_that_are_all_empty_may_have_forgotten_what_they_would_hold(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", genres=[[], [], []], tags=[[], [], []])
    assert pl.read_parquet_schema(folder / "items.parquet")["genres"] == pl.List(pl.Null)
    items = Catalog.open(folder).items
    assert (items.schema["genres"], items.schema["tags"]) == (pl.List(pl.String), pl.List(pl.String))


def test_text_ids_stay_python_text(tmp_path: Path) -> None:
    catalog = Catalog.open(dataset(tmp_path / "d", item_id=["007", "a/b", "é"]))
    assert catalog.ids.dtype == object
    assert catalog.ids.tolist() == ["007", "a/b", "é"]


def test_an_absolute_poster_root_is_taken_as_it_is(tmp_path: Path) -> None:
    assert Catalog.open(dataset(tmp_path / "d", posters=str(tmp_path))).poster_root == tmp_path


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{title}. {text}", "Heat (1995). Two men meet."),
        ("{{{genres}}} {year}", "{Crime, Drama} 1995"),
        ("{tags}: {text}", "director: Michael Mann, country: USA: Two men meet."),
        ("{poster}{item_id}", "7.jpg7"),
    ],
)
def test_a_template_is_filled_from_the_columns_and_only_where_there_is_text(
    tmp_path: Path, template: str, expected: str
) -> None:
    tags = pl.Series([["director: Michael Mann", "country: USA"], [], None], dtype=pl.List(pl.String))
    assert list(Catalog.open(dataset(tmp_path / "d", tags=tags)).texts(template)) == [expected, None, None]


def test_a_null_in_a_template_becomes_nothing(tmp_path: Path) -> None:
    catalog = Catalog.open(dataset(tmp_path / "d", year=pl.Series([None] * 3, dtype=pl.Int32)))
    assert next(iter(catalog.texts("{year}|{text}"))) == "|Two men meet."


@pytest.mark.parametrize(
    "template", ["{plot}", "{}", "{0}", "{title.upper}", "{title[0]}", "{title!r}", "{year:4}", "{"]
)
def test_a_template_that_names_no_column_is_refused_at_the_call(tmp_path: Path, template: str) -> None:
    catalog = Catalog.open(dataset(tmp_path / "d"))
    with pytest.raises(UsageError, match="template"):
        catalog.texts(template)


def test_a_refused_template_names_the_columns_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="item_id, title, year, genres, tags, text, poster"):
        Catalog.open(dataset(tmp_path / "d")).texts("{plot}")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"text": None}, "lacks the column 'text'"),
        ({"item_id": [1.0, 2.0, 3.0]}, "expected Int64 or String, found Float64"),
        ({"item_id": pl.Series([1, 2, 3], dtype=pl.Int32)}, "expected Int64 or String, found Int32"),
        ({"year": ["1995", "x", "y"]}, "column year: expected Int32, found String"),
        ({"genres": ["a", "b", "c"]}, "column genres"),
        ({"text": pl.Series([b"a", b"b", b"c"])}, "column text: expected String"),
        ({"item_id": [1, 2, 1]}, "rows 1, 3 repeat ids"),
        ({"item_id": [1, None, None]}, "rows 2, 3 without an id"),
        ({"item_id": ["a", "", "c"]}, "row 2 without an id"),
        ({"item_id": ["a", "b", "c\0"]}, "row 3 with a NUL"),
        ({"item_id": ["a", "é" * 129, "c"]}, "row 2 with an id of more than 256 bytes"),
    ],
)
def test_a_table_that_is_no_catalogue_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    folder = dataset(tmp_path / "d", **changes)
    with pytest.raises(BadInput, match=says):
        Catalog.open(folder)


def test_an_id_of_exactly_256_bytes_is_taken(tmp_path: Path) -> None:
    assert Catalog.open(dataset(tmp_path / "d", item_id=["a", "é" * 128, "c"])).ids[1] == "é" * 128


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"format": "other"}',
        '{"format": "cinefuse-dataset", "version": 2, "name": "", "posters": "."}',
        '{"format": "cinefuse-dataset", "version": 1, "name": "x", "posters": 3}',
        "\ufeff",
        '"\\ud800"',
    ],
)
def test_a_folder_whose_description_is_not_ours_is_refused(tmp_path: Path, content: str) -> None:
    folder = dataset(tmp_path / "d")
    (folder / "dataset.json").write_text(content)
    with pytest.raises(BadInput, match=r"dataset\.json"):
        Catalog.open(folder)


def test_a_folder_without_description_or_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a dataset folder"):
        Catalog.open(tmp_path)
    folder = dataset(tmp_path / "d")
    (folder / "items.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        Catalog.open(folder)
    (folder / "items.parquet").unlink()
    with pytest.raises(BadInput, match="missing"):
        Catalog.open(folder)


def fill(out: Path, **options: bool) -> None:
    with new_folder(out, **options) as staging:
        Description("new").write(staging.folder)
        (staging.scratch / "rubbish").write_text("x")


def test_a_new_folder_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    fill(tmp_path / "deep" / "d")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["d"]
    assert [path.name for path in (tmp_path / "deep" / "d").iterdir()] == ["dataset.json"]


def test_a_folder_that_failed_halfway_never_gets_its_name(tmp_path: Path) -> None:
    def fails() -> None:
        with new_folder(tmp_path / "d") as staging:
            Description("new").write(staging.folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_folder_under_the_final_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from cinefuse.data.dataset.folder import *\n"
        "with new_folder(Path(sys.argv[1])) as staging:\n"
        "    Description('new').write(staging.folder); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "d")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "d").exists()
    assert len(list(tmp_path.iterdir())) == 2, "the kill must leave its place and its lock behind"
    fill(tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["d"], "the next import must clear away what it left"


def test_two_imports_of_one_name_never_meet(tmp_path: Path) -> None:
    with new_folder(tmp_path / "d") as staging:
        Description("first").write(staging.folder)
        with pytest.raises(Busy, match=f"process {os.getpid()} on .* is writing it"):
            fill(tmp_path / "d")
        fill(tmp_path / "d2")  # another name that begins alike
    assert Description.read(tmp_path / "d").name == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "d2"]


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d")
    with pytest.raises(BadInput, match="--overwrite"):
        fill(folder)
    assert (folder / "items.parquet").exists()
    fill(folder, overwrite=True)
    assert not (folder / "items.parquet").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_dataset_comes_back_where_its_replacement_was_killed_between_two_renames(tmp_path: Path) -> None:
    before = (dataset(tmp_path / "d") / "items.parquet").read_bytes()
    code = (
        "import os, signal, sys; from pathlib import Path; from cinefuse.data.dataset.folder import *\n"
        "with new_folder(Path(sys.argv[1]), overwrite=True) as staging:\n"
        "    Description('new').write(staging.folder)\n"
        "    rename = Path.rename\n"
        "    Path.rename = lambda *names: (rename(*names), os.kill(os.getpid(), signal.SIGKILL))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "d")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "d").exists(), "the kill must be between the renames"
    with pytest.raises(BadInput, match="an import that should replace it was killed; run it again"):
        Description.read(tmp_path / "d")
    with pytest.raises(BadInput, match="--overwrite"):
        fill(tmp_path / "d")
    assert (tmp_path / "d" / "items.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_what_a_replacement_killed_at_its_very_end_had_put_aside_goes_with_the_next(tmp_path: Path) -> None:
    dataset(tmp_path / "d")
    dataset(tmp_path / ".d.replaced")
    fill(tmp_path / "d", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_ctrl_c_between_the_two_renames_of_a_replacement_brings_the_dataset_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename = dataset(tmp_path / "d"), Path.rename

    def renamed(old: Path, new: Path) -> None:
        rename(old, new)
        if old == folder:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(KeyboardInterrupt):
        fill(folder, overwrite=True)
    assert (folder / "items.parquet").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_folder_without_a_name_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"^\. is not a dataset folder"):
        Description.read(Path())
    with pytest.raises(BadInput, match="the root of everything"):
        fill(Path("/"), overwrite=True)


def test_overwrite_never_deletes_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(BadInput, match="will not delete"):
        fill(tmp_path / "thesis", overwrite=True)
    with pytest.raises(BadInput, match="is a file"):
        fill(tmp_path / "thesis" / "chapter.txt", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with new_folder(tmp_path / "d") as staging:
            (staging.folder / "full").symlink_to("/dev/full")
            pl.LazyFrame({"a": [1]}).sink_parquet(staging.folder / "full")

    with pytest.raises(NoSpace, match="disk is full"):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_a_poster_root_is_relative_within_one_tree_and_absolute_across_trees(tmp_path: Path) -> None:
    assert poster_root_as_written(tmp_path / "posters", tmp_path / "d") == "../posters"
    assert poster_root_as_written(tmp_path / "d" / "posters", tmp_path / "d") == "posters"
    assert poster_root_as_written(Path("/dev"), tmp_path) == "/dev"


def test_rows_are_counted_from_one_in_sentences() -> None:
    assert rows_named([0]) == "row 1"
    assert rows_named([0, 4]) == "rows 1, 5"
    assert rows_named([0, 1, 2, 3, 4], 1200) == "rows 1, 2, 3, 4, 5 and 1,195 more"


def test_a_description_reads_back_as_written(tmp_path: Path) -> None:
    written = Description("é", "posters", [{"name": "a", "sha256": "b"}], {"items": 3}, "note")
    written.write(tmp_path)
    assert Description.read(tmp_path) == written
    assert json.loads((tmp_path / "dataset.json").read_text("utf-8"))["version"] == 1


def test_a_dataset_is_as_readable_as_any_folder_of_its_owner(tmp_path: Path) -> None:
    fill(tmp_path / "d")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o777 & ~umask
