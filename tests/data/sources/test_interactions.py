"""Laws of importing plays, clicks and likes, and of the k-core."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.dataset.assembly import Choices, ImportReport
from cinefuse.data.dataset.folder import Description
from cinefuse.data.dataset.interactions import in_core
from cinefuse.data.dataset.summary import dataset_info
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sources.own_tables import import_table


def imported(folder: Path, columns: dict[str, list[Any]], *, option: str = "interactions", **more: Any) -> ImportReport:
    file = folder / "plays.csv"
    pl.DataFrame(columns).write_csv(file)
    return import_table(folder / "dataset", **{option: file}, choices=Choices(overwrite=True), **more)


def rows_of(report: ImportReport) -> list[dict[str, Any]]:
    return pl.read_parquet(report.folder / "ratings.parquet").to_dicts()


PLAYS = {"user_id": [1, 1, 2, 2], "item_id": [7, 8, 7, 9], "plays": [3, 1, 20, 2], "timestamp": [50, 40, 30, 20]}


def test_plays_are_rows_of_a_user_and_an_item_and_the_dataset_says_that_they_are_no_ratings(tmp_path: Path) -> None:
    report = imported(tmp_path, PLAYS)
    assert Description.read(report.folder).implicit
    assert rows_of(report) == [
        {"user_id": u, "item_id": i, "rating": 1.0, "timestamp": t, "count": float(c)}
        for u, i, c, t in zip(*PLAYS.values(), strict=True)
        for u, i, t, c in [(u, i, t, c)]
    ]
    assert report.counts["interactions"] == 4
    assert not report.warnings
    assert dataset_info(report.folder)["implicit"]


def test_users_and_items_alone_are_enough(tmp_path: Path) -> None:
    report = imported(tmp_path, {"user_id": ["a", "b"], "item_id": ["x", "y"]})
    assert [row["count"] for row in rows_of(report)] == [1.0, 1.0]
    assert "timestamp" not in rows_of(report)[0]


def test_the_same_event_a_thousand_times_is_one_row_with_its_count_and_its_earliest_time(tmp_path: Path) -> None:
    times = list(range(2000, 1000, -1))
    report = imported(tmp_path, {"user_id": [5] * 1000 + [6], "item_id": [1] * 1000 + [1], "timestamp": [*times, 7]})
    assert rows_of(report) == [
        {"user_id": 5, "item_id": 1, "rating": 1.0, "timestamp": 1001, "count": 1000.0},
        {"user_id": 6, "item_id": 1, "rating": 1.0, "timestamp": 7, "count": 1.0},
    ]
    assert any("999 rows repeat a user and film" in line for line in report.warnings)


def test_a_count_of_zero_is_no_interaction(tmp_path: Path) -> None:
    report = imported(tmp_path, PLAYS | {"plays": [3, 0, 0, 2]})
    assert [(row["user_id"], row["item_id"]) for row in rows_of(report)] == [(1, 7), (2, 9)]
    assert any("2 rows with a count of 0 are no interaction" in line for line in report.warnings)


def test_rows_of_several_kinds_are_taken_alike_and_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text("visitorid,itemid,event\n1,10,view\n1,10,addtocart\n2,10,view\n")
    warnings = import_table(tmp_path / "out", interactions=file).warnings
    assert any("rows of every kind in column event (addtocart, view) are taken alike" in said for said in warnings)


def test_likes_of_yes_and_no_are_interactions_where_they_are_yes(tmp_path: Path) -> None:
    for liked in (["true", "false", "True", "no"], [1, 0, 1, 0], [True, False, True, False]):
        report = imported(tmp_path, {"user_id": [1, 1, 2, 2], "item_id": [7, 8, 7, 9], "liked": liked})
        assert [(row["user_id"], row["item_id"]) for row in rows_of(report)] == [(1, 7), (2, 7)]


@pytest.mark.parametrize(
    ("plays", "says"),
    [
        ([3, -1, 20, -2], r"plays\.csv: rows 2, 4 with a count below 0"),
        (["3", "many", "20", "2"], r"plays\.csv: row 2 with a count that is not a number"),
        ([3.0, None, 20.0, 2.0], r"plays\.csv: row 2 with a count that is not a number"),
        ([0, 0, 0, 0], "no interaction with a count above 0"),
    ],
)
def test_counts_that_are_none_are_refused_by_row(tmp_path: Path, plays: list[Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        imported(tmp_path, PLAYS | {"plays": plays})
    assert not (tmp_path / "dataset").exists()


def test_a_row_without_a_user_is_refused_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="row 3 without an id in column user_id"):
        imported(tmp_path, PLAYS | {"user_id": [1, 1, None, 2]})


def test_a_pair_that_is_marked_once_as_not_test_is_not_in_the_test_part(tmp_path: Path) -> None:
    report = imported(tmp_path, {"user_id": [1, 1, 2], "item_id": [7, 7, 7], "test": [True, False, True]})
    assert [row["test"] for row in rows_of(report)] == [False, True]


def test_ratings_without_any_column_that_could_be_one_are_taken_as_interactions_and_it_is_said(tmp_path: Path) -> None:
    report = imported(tmp_path, PLAYS, option="ratings")
    assert Description.read(report.folder).implicit
    assert "plays.csv has no column of ratings: its rows are taken as plays, clicks or likes" in report.warnings
    for unknown in ({"points": [1, 2, 3, 4]}, {"liked": [0, 1, 1, 0]}):
        with pytest.raises(UsageError, match=r"no column for rating.* give the table as --interactions"):
            imported(tmp_path, PLAYS | unknown, option="ratings")


def test_ratings_given_as_interactions_are_not_read_and_it_is_said(tmp_path: Path) -> None:
    report = imported(tmp_path, PLAYS | {"rating": [1, 2, 3, 4]})
    assert {row["rating"] for row in rows_of(report)} == {1.0}
    assert any("its column rating is not read" in line for line in report.warnings)


def test_ratings_stay_ratings(tmp_path: Path) -> None:
    report = imported(tmp_path, PLAYS | {"rating": [1, 2, 3, 4]}, option="ratings")
    assert not Description.read(report.folder).implicit
    assert [row["rating"] for row in rows_of(report)] == [1, 2, 3, 4]


def test_both_tables_or_a_core_of_nothing_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    pl.DataFrame(PLAYS).write_csv(file)
    with pytest.raises(UsageError, match="expected one of them, found both"):
        import_table(tmp_path / "dataset", ratings=file, interactions=file)
    with pytest.raises(UsageError, match="--core needs"):
        import_table(tmp_path / "dataset", file, core=5)
    with pytest.raises(UsageError, match="--core must be at least 1, found 0"):
        imported(tmp_path, PLAYS, core=0)
    with pytest.raises(BadInput, match="its 5-core is empty"):
        imported(tmp_path, PLAYS, core=5)


@settings(max_examples=200, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7))), st.integers(1, 5))
def test_a_core_is_the_largest_part_in_which_all_have_enough(pairs: set[tuple[int, int]], least: int) -> None:
    rows = sorted(pairs)
    user, item = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
    kept = in_core(user, item, least)
    inside = {row for row, is_kept in zip(rows, kept, strict=True) if is_kept}
    for side in (0, 1):
        assert all(count >= least for count in Counter(row[side] for row in inside).values())
    # by hand: whatever is removed one at a time, in any order, ends in the same part
    left = set(rows)
    while poor := [
        row for row in left if min(sum(other[side] == row[side] for other in left) for side in (0, 1)) < least
    ]:
        left.remove(poor[-1])
    assert inside == left


def test_a_core_keeps_its_items_and_their_texts_alone(tmp_path: Path) -> None:
    pairs = [(user, item) for user in range(6) for item in range(6)] + [(0, 90), (77, 1)]
    table = {"user_id": [user for user, _ in pairs], "item_id": [item for _, item in pairs]}
    items = tmp_path / "items.csv"
    pl.DataFrame({"item_id": [*range(6), 90, 91], "title": [f"Film {n}" for n in range(8)]}).write_csv(items)
    report = imported(tmp_path, table, items=items, core=5)
    assert pl.read_parquet(report.folder / "items.parquet")["item_id"].to_list() == list(range(6))
    assert report.counts["interactions"] == 36
    note = "5-core: 36 of 38 pairs of a user and film, 6 of 7 users and 6 of 7 films are left"
    assert note in report.warnings


def test_the_core_counts_a_film_rated_twice_by_a_user_once(tmp_path: Path) -> None:
    table = {"user_id": [1, 1, 2], "item_id": [1, 1, 1], "rating": [3, 4, 5]}
    with pytest.raises(BadInput, match="its 2-core is empty"):
        imported(tmp_path, table, option="ratings", core=2)


def test_the_command_line_imports_interactions_and_counts_them(tmp_path: Path) -> None:
    file = tmp_path / "plays.csv"
    pl.DataFrame(PLAYS).write_csv(file)
    out = tmp_path / "dataset"
    done = CliRunner().invoke(app, ["data", "import", "table", str(out), "--interactions", str(file)])
    assert done.exit_code == 0, done.output
    assert "4 interactions, 2 users" in done.output
    shown = CliRunner().invoke(app, ["data", "info", str(out)])
    assert "interactions" in shown.output
    assert "mean" not in shown.output
