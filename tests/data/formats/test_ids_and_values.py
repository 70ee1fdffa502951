"""Laws of imports that no name alone can tell: which column counts rows, which are values, and which id is whose."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.formats.imports import Claim, import_embeddings
from cinefuse.data.formats.vectors import Where
from cinefuse.data.runtime.errors import BadInput, UsageError

VECTORS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def imported(source: Path, **where: Any) -> tuple[dict[Any, list[float]], tuple[str, ...]]:
    """The vector of each id, and the notes."""
    out = source.parent / "out.h5"
    notes = import_embeddings(source, out, Claim("image", "m"), Where(**where), overwrite=True).notes
    with EmbeddingFile.open(out) as file:
        return dict(zip(file.ids.tolist(), file["image"].raw_cls.tolist(), strict=True)), notes


def matrix(folder: Path) -> Path:
    np.save(folder / "v.npy", VECTORS)
    return folder / "v.npy"


@pytest.mark.parametrize("name", ["id", "asin"])
def test_a_column_that_counts_rows_beside_one_of_ids_is_not_taken_for_the_ids(tmp_path: Path, name: str) -> None:
    ids = tmp_path / "i_id_mapping.csv"
    ids.write_text(f"{name}\titemID\nB1\t0\nB2\t1\nB3\t2\n")
    with pytest.raises(UsageError, match=rf"column itemID counts the rows, and {name} may hold the ids"):
        imported(matrix(tmp_path), ids=ids)
    assert list(imported(matrix(tmp_path), ids=ids, id_column=name)[0]) == ["B1", "B2", "B3"]
    assert list(imported(matrix(tmp_path), ids=ids, id_column="itemID")[0]) == [0, 1, 2]


def test_a_table_that_numbers_its_rows_in_another_order_is_refused(tmp_path: Path) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("id,itemID\nB3,2\nB1,0\nB2,1\n")
    with pytest.raises(BadInput, match="column itemID numbers its rows in another order"):
        imported(matrix(tmp_path), ids=ids, id_column="id")


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_a_header_is_never_an_id_though_the_lines_are_as_many_as_the_vectors(tmp_path: Path, suffix: str) -> None:
    ids = tmp_path / f"ids.{suffix}"
    ids.write_text("movie_id\n1\n2\n")
    with pytest.raises(BadInput, match="found 3 items and 2 ids"):
        imported(matrix(tmp_path), ids=ids)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"b": 1, "a": 0, "c": 2}, ["a", "b", "c"]),
        ({"1": "y", "0": "x", "2": "z"}, ["x", "y", "z"]),
        ({"0": 9, "1": 8, "2": 7}, [9, 8, 7]),
        ({"9": 0, "8": 2, "7": 1}, [9, 7, 8]),
        ({"0": 0, "1": 1, "2": 2}, [0, 1, 2]),
    ],
)
def test_an_object_of_ids_and_rows_gives_each_row_its_id(
    tmp_path: Path, content: dict[str, Any], expected: list[Any]
) -> None:
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(content))
    found, _ = imported(matrix(tmp_path), ids=ids)
    assert found == dict(zip(expected, VECTORS.tolist(), strict=True))


@pytest.mark.parametrize("content", [{"0": 1, "1": 0, "2": 2}, {"a": 1, "b": 2, "c": 3}, {}])
def test_an_object_that_may_be_read_both_ways_or_neither_is_refused(tmp_path: Path, content: dict[str, int]) -> None:
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=r"rows|list of ids"):
        imported(matrix(tmp_path), ids=ids)


def test_ids_that_a_program_made_floats_or_a_column_are_ids(tmp_path: Path) -> None:
    for array in (np.array([3.0, 1.0, 2.0]), np.array([[3], [1], [2]])):
        np.save(tmp_path / "ids.npy", array)
        assert list(imported(matrix(tmp_path), ids=tmp_path / "ids.npy")[0]) == [3, 1, 2]
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["embeddings"], file["ids"] = VECTORS, np.array([3.0, 1.0, 2.0])
    assert list(imported(tmp_path / "v.h5")[0]) == [3, 1, 2]
    np.save(tmp_path / "ids.npy", np.array([1.5, 2, 3]))
    with pytest.raises(BadInput, match="expected ids in one dimension"):
        imported(matrix(tmp_path), ids=tmp_path / "ids.npy")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_year_or_a_title_beside_numbered_values_is_no_value(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"v.{suffix}"
    values = {"year": [1999.0, 2000.0], "e0": [1.0, 3.0], "e1": [2.0, 4.0]}
    table = pl.DataFrame({"movieId": [7, 8], "title": ["A", "B"], **values})
    table.write_csv(file) if suffix == "csv" else table.write_parquet(file)
    found, notes = imported(file)
    assert found == {7: [1, 2], 8: [3, 4]}
    assert "year" in notes[0]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_two_runs_of_numbered_columns_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"v.{suffix}"
    table = pl.DataFrame({"movieId": [7], "text_0": [1.0], "text_1": [2.0], "image_0": [3.0], "image_1": [4.0]})
    table.write_csv(file) if suffix == "csv" else table.write_parquet(file)
    with pytest.raises(UsageError, match="several runs of columns are numbered"):
        imported(file)


def test_decimal_commas_between_semicolons_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("item_id;f1;f2\n5;0,5;-1,25e-1\n6;3;4\n")
    assert imported(tmp_path / "v.csv")[0] == {5: [0.5, -0.125], 6: [3, 4]}


def test_lists_of_ids_and_of_vectors_in_one_object_belong_together(tmp_path: Path) -> None:
    content = {"ids": ["b", "a"], "embeddings": [[1, 2], [3, 4]], "documents": ["", ""]}
    (tmp_path / "v.json").write_text(json.dumps(content))
    assert imported(tmp_path / "v.json")[0] == {"b": [1, 2], "a": [3, 4]}


def test_files_named_after_images_have_the_images_ids_and_it_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for name, row in zip(("10.jpg", "2.png"), VECTORS, strict=False):
        np.save(folder / f"{name}.npy", row)
    found, notes = imported(folder)
    assert (found, len(notes)) == ({2: [3, 4], 10: [1, 2]}, 1)


def test_ids_that_come_twice_are_refused_naming_the_file(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\nb\na\n")
    with pytest.raises(BadInput, match=r"v\.npy: expected each id once, found 'a' 2 times \(1 such"):
        imported(matrix(tmp_path), ids=tmp_path / "ids.txt")


@pytest.mark.parametrize(("array", "ids"), [("image.npy", "ids.txt"), ("image_feat.npy", "i_id_mapping.csv")])
def test_a_folder_of_one_array_beside_its_ids_is_not_taken_for_a_file_for_each_id(
    tmp_path: Path, array: str, ids: str
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    np.save(folder / array, VECTORS)
    (folder / ids).write_text("id\titemID\na\t0\nb\t1\nc\t2\n" if ids.endswith("csv") else "a\nb\nc\n")
    with pytest.raises(UsageError, match=rf"import {folder / array} with --ids {folder / ids}$"):
        imported(folder)
    (folder / ids).unlink()
    with pytest.raises(UsageError, match=r"holds one array of 3 rows: .* import the array with --ids"):
        imported(folder)


def test_a_folder_without_arrays_names_one_below_that_has_some(tmp_path: Path) -> None:
    (tmp_path / "f" / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "f" / "notes.txt").write_text("x")
    np.save(tmp_path / "f" / "a" / "b" / "c" / "7.npy", VECTORS[0])
    with pytest.raises(BadInput, match=rf"name one of its folders, such as {tmp_path / 'f' / 'a' / 'b' / 'c'}$"):
        imported(tmp_path / "f")


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Int64])
def test_ids_of_arrow_as_polars_writes_it_are_ids(tmp_path: Path, kind: type[pl.DataType]) -> None:
    ids = ["7", "5", "6"]
    table = pl.DataFrame({"item_id": pl.Series(ids).cast(kind), "embedding": VECTORS.tolist()})
    table.write_ipc(tmp_path / "v.arrow")
    expected = [int(each) for each in ids] if kind == pl.Int64 else ids
    assert imported(tmp_path / "v.arrow")[0] == dict(zip(expected, VECTORS.tolist(), strict=True))


def test_base64_in_a_column_is_float32(tmp_path: Path) -> None:
    cells = [base64.b64encode(row.tobytes()).decode() for row in VECTORS]
    pl.DataFrame({"item_id": ["a", "b", "c"], "feature": cells}).write_csv(tmp_path / "v.csv")
    assert imported(tmp_path / "v.csv")[0] == dict(zip("abc", VECTORS.tolist(), strict=True))
    (tmp_path / "v.csv").write_text("item_id,feature\na,nonsense*\n")
    with pytest.raises(BadInput, match=r"v\.csv: line 2: expected numbers"):
        imported(tmp_path / "v.csv")
