"""Laws of importing a table of ratings alone, of the boolean columns it keeps, and of splits by such a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cinefuse.data.dataset.assembly import Choices
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.splits import split_ratings
from cinefuse.data.dataset.summary import dataset_info
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sources.own_tables import import_table


def imported(
    folder: Path, suffix: str = "parquet", columns: dict[str, list[Any]] | None = None, **options: Any
) -> Path:
    """A dataset folder of a table of ratings alone."""
    given: dict[str, list[Any]] = {
        "user_id": [1, 1, 2, 3],
        "item_id": [10, 9, 10, 100],
        "rating": [4.0, 0.0, 3.5, 5.0],
        "test": [False, True, False, True],
    }
    table = pl.DataFrame(given | (columns or {}))
    file = folder / f"ratings.{suffix}"
    write = {"parquet": table.write_parquet, "jsonl": table.write_ndjson, "csv": table.write_csv}
    write[suffix](file)
    return import_table(folder / "dataset", ratings=file, choices=Choices(overwrite=True), **options).folder


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_ratings_alone_make_a_dataset_of_the_items_rated_in_the_order_of_their_ids(tmp_path: Path, suffix: str) -> None:
    folder = imported(tmp_path, suffix)
    assert Catalog.open(folder).items.rows() == [(item, "", None, [], [], None, None) for item in (9, 10, 100)]
    ratings = pl.read_parquet(folder / "ratings.parquet")
    assert ratings.columns == ["user_id", "item_id", "rating", "test"]
    assert ratings["test"].to_list() == [False, True, False, True]
    info = dataset_info(folder)
    assert (info["items"], info["ratings"]["unknown_items"]) == (3, 0)
    assert info["splits"] == {"column:test": {"train": 2, "test": 2}}


def test_neither_items_nor_ratings_make_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--ratings FILE, --items FILE, or both"):
        import_table(tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("values", [[0, 1, 0, 1], ["no", "True ", "FALSE", "true"], [False, True, None, True]], ids=str)
def test_only_a_column_that_says_yes_or_no_in_every_row_is_kept(tmp_path: Path, values: list[Any]) -> None:
    folder = imported(tmp_path, columns={"test": values, "note": ["a", "b", "c", "d"], "score": [1, 2, 0, 1]})
    kept = pl.read_parquet_schema(folder / "ratings.parquet")
    assert ("test" in kept) == (values == [0, 1, 0, 1])
    assert not {"note", "score"} & set(kept)


def test_true_rows_of_a_column_are_the_test_part_and_validation_is_drawn_from_the_others(tmp_path: Path) -> None:
    marks = [row % 4 == 0 for row in range(80)]
    columns = {"user_id": [1] * 80, "item_id": list(range(80)), "rating": [3.0] * 80, "test": marks}
    split = split_ratings(imported(tmp_path, columns=columns), "column:test", validation=0.2)
    assert split.test.tolist() == np.flatnonzero(marks).tolist()
    assert len(split.validation) == 12
    assert sorted([*split.train, *split.validation, *split.test]) == list(range(80))


def test_a_column_that_is_none_is_refused_with_those_there_are(tmp_path: Path) -> None:
    folder = imported(tmp_path)
    with pytest.raises(
        UsageError, match=r"no boolean column 'tset' \(did you mean test\?\); its boolean columns are test;"
    ):
        split_ratings(folder, "column:tset")
    with pytest.raises(UsageError, match="no boolean column 'rating'"):
        split_ratings(folder, "column:rating")
    with pytest.raises(UsageError, match="malformed"):
        split_ratings(folder, "column:")
    with pytest.raises(BadInput, match="its test part is empty; expected a column that is true in some rows"):
        split_ratings(imported(tmp_path, columns={"test": [False] * 4}), "column:test")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_rating_that_means_not_rated_is_left_out(tmp_path: Path, suffix: str) -> None:
    folder = imported(tmp_path, suffix, drop_rating=0)
    assert pl.read_parquet(folder / "ratings.parquet")["rating"].to_list() == [4.0, 3.5, 5.0]
    assert Catalog.open(folder).ids.tolist() == [10, 100]


def test_a_row_at_fault_keeps_its_number_where_others_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="row 4 with a rating that is not a number"):
        imported(tmp_path, columns={"rating": [4.0, 0.0, 3.5, float("nan")]}, drop_rating=0)


@pytest.mark.parametrize(
    "words", [("True", "False"), ("yes", " NO "), ("thumbs up", "thumbs_down"), ("Like", "dislike")]
)
def test_thumbs_as_words_are_ratings_of_1_and_0(tmp_path: Path, words: tuple[str, str]) -> None:
    folder = imported(tmp_path, "csv", {"rating": [words[0], words[1], words[0], words[1]]})
    assert pl.read_parquet(folder / "ratings.parquet")["rating"].to_list() == [1.0, 0.0, 1.0, 0.0]


def test_a_rating_that_is_no_number_is_shown(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"row 3 with a rating that is not a number \(the first is 'so-so'\)"):
        imported(tmp_path, columns={"rating": ["4", "3", "so-so", "2"]})
    with pytest.raises(BadInput, match=r"row 4 with a rating outside 0 to 4 \(the first is 5\.0\)"):
        imported(tmp_path, scale=(0, 4))
    with pytest.raises(BadInput, match=r"row 2 with a timestamp that is neither .* \(the first is 'soon'\)"):
        imported(tmp_path, columns={"timestamp": ["2001-01-01", "soon", "2001-01-01", "2001-01-01"]})


def test_times_under_another_name_are_taken_and_durations_are_not(tmp_path: Path) -> None:
    def times(name: str, values: list[Any]) -> list[Any] | None:
        kept = pl.read_parquet(imported(tmp_path, "csv", {name: values}) / "ratings.parquet")
        return kept["timestamp"].to_list() if "timestamp" in kept.columns else None

    assert times("created_at", ["2001-01-01 00:00:00"] * 4) == [978307200] * 4
    assert times("date", ["31.12.2000"] * 4) == [978220800] * 4
    assert times("time", [90, 120, 15, 3]) is None
    assert times("date", ["soon"] * 4) is None


def test_a_matrix_of_users_and_items_is_refused_as_one(tmp_path: Path) -> None:
    films = {f"Film {number}": [5, None, 3, 1] for number in range(8)}
    for users in ({"user_id": [1, 2, 3, 4]}, {"": [1, 2, 3, 4]}):
        file = tmp_path / "wide.csv"
        pl.DataFrame(users | films).write_csv(file)
        with pytest.raises(BadInput, match=r"a matrix with a column for each of 8 films; .* unpivot"):
            import_table(tmp_path / "dataset", ratings=file)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("user,Alien,Brazil,Heat\nann,5,,3\nbob,4,2,\n", "each of 3 films.*index='user'"),
        ("title,user_1,user_2,user_3\nAlien,5,,3\nBrazil,4,2,\n", "each of 3 users.*index='title'"),
        (",1,2,3,4\n1,5,0,3,1\n2,4,2,0,1\n", "each of 4 films"),
        ("1,10,4,978300760\n1,11,3,978300761\n", "its first line names no columns"),
        ("order_id,product_id,add_to_cart_order,reordered\n2,33120,1,1\n2,28985,2,1\n", "no column for user_id"),
        ("product,price,width,depth\n1,2,3,4\n", "no column for user_id"),
    ],
)
def test_a_matrix_is_known_by_either_side_and_nothing_else_is_called_one(tmp_path: Path, table: str, says: str) -> None:
    file = tmp_path / "wide.csv"
    file.write_text(table)
    with pytest.raises((BadInput, UsageError), match=says):
        import_table(tmp_path / "dataset", ratings=file)


def test_ids_that_are_objects_or_lists_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "ratings.jsonl"
    file.write_text('{"user": {"id": 1}, "movie": "a", "rating": 4}\n{"user": {"id": 2}, "movie": "a", "rating": 3}\n')
    with pytest.raises(BadInput, match="expected an id in each row, found an object or a list"):
        import_table(tmp_path / "dataset", ratings=file)
    lists = tmp_path / "ratings.parquet"
    pl.DataFrame({"user": ["a"], "item": [[1, 2]], "rating": [4.0]}).write_parquet(lists)
    with pytest.raises(BadInput, match=r"expected an id in each row, found List\(Int64\).*explode"):
        import_table(tmp_path / "dataset", ratings=lists)


def test_titles_are_the_ids_of_ratings_that_have_no_others_and_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("user,title,rating\nann,Heat,4\nbob,Brazil,2\nann,Brazil,1\n")
    report = import_table(tmp_path / "dataset", ratings=file)
    assert Catalog.open(report.folder).ids.tolist() == ["Brazil", "Heat"]
    assert any("films are known by the column title" in warning for warning in report.warnings)


def test_counts_are_not_also_said_to_hold_a_mark_for_not_rated(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    plays = [*range(1, 40), 90_000]
    pl.DataFrame({"user": range(40), "item": range(40), "rating": plays}).write_csv(file)
    warnings = import_table(tmp_path / "dataset", ratings=file).warnings
    assert ["if they are counts" in warning for warning in warnings] == [True]


@pytest.mark.parametrize(
    ("dropped", "says"), [(0, "1 rows with the rating 0 were left out"), (9, "no row has the rating 9")]
)
def test_how_many_ratings_were_dropped_is_said(tmp_path: Path, dropped: float, says: str) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("user_id,item_id,rating\n1,1,0\n1,2,4\n2,1,3\n")
    warnings = import_table(tmp_path / "dataset", ratings=file, drop_rating=dropped).warnings
    assert [says in warning for warning in warnings] == [True]


def test_users_that_differ_by_white_space_alone_are_kept_apart_and_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("user,item,rating\nann,1,4\nann ,2,3\nbob ,2,3\n")
    warnings = import_table(tmp_path / "dataset", ratings=file).warnings
    assert any("1 ids in the column for user_id differ from others by white space alone" in said for said in warnings)
