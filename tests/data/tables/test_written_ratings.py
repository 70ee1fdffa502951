"""Laws of ratings written otherwise than as numbers: one way a column, and what is of several is left to be named."""

from __future__ import annotations

import polars as pl
import pytest

from cinefuse.data.tables.written_ratings import decimal_points, stars_and_shares


def test_decimal_commas_are_points_where_all_numbers_have_that_form() -> None:
    frame, notes = decimal_points(pl.LazyFrame({"r": ["4,5", "3", "2,0"]}), "r", "r.csv")
    assert (frame.collect()["r"].to_list(), len(notes)) == (["4.5", "3", "2.0"], 1)
    for cells in (["4,5", "4.5"], ["1,000,000", "4,5"], ["a,5"]):
        assert decimal_points(pl.LazyFrame({"r": cells}), "r", "r.csv")[0].collect()["r"].to_list() == cells


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["★★★½", "★", "½", "★★★★★"], [3.5, 1, 0.5, 5]),
        (["★★★☆☆", "★★★★★"], [3, 5]),
        (["⭐⭐⭐", "⭐️⭐️"], [3, 2]),
        (["4/5", "3.5/5", "3,5 / 5"], [4, 3.5, 3.5]),
        (["8 out of 10", "7 of 10 stars"], [8, 7]),
        (["4 stars", "1 star", "3.5 Stars"], [4, 1, 3.5]),
        (["80%", "75 %"], [80, 75]),
    ],
)
def test_stars_shares_and_percents_are_numbers_and_it_is_said(cells: list[str], numbers: list[float]) -> None:
    frame, notes = stars_and_shares(pl.LazyFrame({"rating": cells}), "rating", "r.csv")
    assert frame.collect()["rating"].to_list() == numbers
    assert notes == [f"r.csv: the column for rating is written as {cells[0]}; it is read as {numbers[0]:g}"]


@pytest.mark.parametrize(
    "cells",
    [["4/5", "7/10"], ["★★★", "80%"], ["4/5", "4"], ["4", "3.5"], ["good", "bad"], ["★★★", None], ["☆☆☆", "☆"], []],
)
def test_ratings_written_in_several_ways_stay_as_they_are(cells: list[str]) -> None:
    frame, notes = stars_and_shares(pl.LazyFrame({"rating": cells}, {"rating": pl.String}), "rating", "r.csv")
    assert (frame.collect()["rating"].to_list(), notes) == (cells, [])
