"""Laws of points in time and numbers: what a table means by them, as years and as seconds since 1970."""

from __future__ import annotations

import datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.tables.dates import read_times, seconds, year
from cinefuse.data.tables.ids import exact_ids


def as_seconds(*values: object) -> list[object]:
    frame, _ = seconds(pl.LazyFrame({"t": pl.Series(values)}), "t", "r.csv")
    return frame.collect()["t"].to_list()


@pytest.mark.parametrize(
    "value",
    [
        *("978307200", "978307200.0", "9.783072e8", "978307200000", "978307200000000", 978307200, 978307200000),
        *(978307200.0, 978307200000.5, "2001-01-01", "2001-01-01 00:00:00", "2001-01-01T00:00:00Z", "2001/01/01"),
        *("2001-01-01T00:00:00.000Z", "2001-01-01T02:00:00+02:00", "2000-12-31 19:30:00-0430", "2001-01-01 00:00"),
        *("2001-01-01 00:00:00 UTC", "01.01.2001", "01.01.2001 00:00", "1 January 2001", "01-Jan-2001 00:00:00"),
        *("January 1, 2001", "1 1, 2001", "Mon, 01 Jan 2001 02:00:00 +0200", "20010101", 20010101, "2001", 2001),
    ],
)
def test_seconds_milliseconds_floats_and_iso_dates_are_one_point_in_time(value: object) -> None:
    assert as_seconds(value, value) == [978307200] * 2


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["01/02/2001", "13/02/2001"], [980985600, 982022400]),
        (["02/01/2001", "02/13/2001 12:30"], [980985600, 982067400]),
        (["02/01/2001 12:00:00 AM", "02/13/2001 12:30:00 PM"], [980985600, 982067400]),
        (["01/02/2001", "03/04/2001"], ["01/02/2001", "03/04/2001"]),  # of either order
        (["13/02/2001", "02/13/2001"], ["13/02/2001", "02/13/2001"]),
    ],
)
def test_the_order_of_day_and_month_is_read_off_a_number_above_12_or_not_at_all(
    cells: list[str], expected: list[object]
) -> None:
    assert as_seconds(*cells) == expected


@pytest.mark.parametrize("cell", ["31.12.15", "15-12-31", "31-Dec-15", "31.12.15 10:00", "0015-12-31"])
def test_a_year_of_two_digits_is_no_year_of_antiquity(cell: str) -> None:
    assert as_seconds(cell, "") == [cell, None]
    read, notes = read_times(pl.LazyFrame({"timestamp": [cell]}), "r.csv", "date", doubtful=True)
    assert (read.collect_schema().names(), len(notes)) == ([], 1)


@pytest.mark.parametrize("clock", ["9:05:10 +0100", "09:05:10 +01:00", "9:05:10+0100", "9:05:10 UTC", "8:05:10Z"])
def test_a_zone_counts_behind_an_hour_of_one_digit_too(clock: str) -> None:
    hour = 8 if clock.endswith(("00", "Z")) else 9
    assert as_seconds(f"2015-12-31 {clock}") == [1451520310 + 3600 * hour]


@pytest.mark.parametrize("cells", [["soon", "2001-01-01"], [90.5, 120.0], ["PT1H", None], [None, None]], ids=str)
def test_a_column_that_only_may_be_times_is_left_out_where_it_is_not(cells: list[object]) -> None:
    table = pl.LazyFrame({"timestamp": pl.Series(cells, dtype=pl.Float64 if cells == [90.5, 120.0] else pl.String)})
    read, notes = read_times(table, "r.csv", "time", doubtful=True)
    assert (read.collect_schema().names(), len(notes)) == ([], 1)
    assert "timestamp" in read_times(table, "r.csv", "time", doubtful=False)[0].collect_schema()


def test_a_word_for_nothing_is_no_point_in_time() -> None:
    assert as_seconds("978307200", "\\N", "", None) == [978307200, None, None, None]


def test_what_is_no_point_in_time_stays_for_whoever_names_the_rows() -> None:
    assert as_seconds("978307200", "soon") == ["978307200", "soon"]
    assert as_seconds("2001-01-01", "soon") == ["978307200", "soon"]
    assert as_seconds("2001-01-01", "٣١/١٢/٢٠٠١") == ["978307200", "٣١/١٢/٢٠٠١"]  # digits that no form of dates reads


@given(st.integers(0, 4_000_000_000), st.sampled_from([1, 10**3, 10**6]))
def test_any_second_comes_back_as_a_date_and_as_a_finer_number(second: int, unit: int) -> None:
    when = datetime.datetime.fromtimestamp(second, datetime.UTC)
    assert as_seconds(when.isoformat()) == [second]
    if second > 10**8:
        assert as_seconds(second * unit) == [second]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        *(("1995", 1995), ("1995.0", 1995), (" 1995 ", 1995), ("1995-10-30", 1995), ("1995-10-30 00:00:00", 1995)),
        *(("30-Oct-1995", 1995), ("10/30/1995", 1995), ("2001–2003", 2001), ("2001-", 2001), ("Oct 30, 1995", 1995)),
        *(("-720", -720), ("0", None), ("soon", None), ("19951030", None), ("95", 95)),
    ],
)
def test_a_year_is_read_off_numbers_and_dates(cell: str, expected: int | None) -> None:
    assert pl.Series("y", [cell]).to_frame().select(year(pl.col("y"), pl.String()))["y"].to_list() == [expected]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["862.0", "5.0", None, ""], ["862", "5"]),
        (["862.0", "5"], ["862.0", "5"]),
        (["007.0"], ["007.0"]),
        (["862.5", "5.0"], ["862.5", "5.0"]),
        ([862.0, float("nan")], ["862"]),
        ([Decimal(862), Decimal("5.00")], ["862", "5"]),
        ([b"tt862", "\N{SNOWMAN}".encode()], ["tt862", "\N{SNOWMAN}"]),
        (["007", "7"], ["007", "7"]),
    ],
)
def test_ids_are_whole_numbers_again_where_all_were_made_floats(ids: list[object], expected: list[object]) -> None:
    assert exact_ids(pl.LazyFrame({"id": pl.Series(ids)}), ["id"], "t")[0].collect()["id"].to_list() == expected


@pytest.mark.parametrize("ids", [[Decimal("8.5")], [b"\xff\xfe"], [datetime.date(2001, 1, 1)]], ids=str)
def test_an_id_that_is_neither_a_whole_number_nor_text_is_refused_with_its_type(ids: list[object]) -> None:
    with pytest.raises(BadInput, match=r"ids must be integers or text, found (Decimal|Binary|Date)"):
        exact_ids(pl.LazyFrame({"id": pl.Series(ids)}), ["id"], "t")


def test_ids_that_a_spreadsheet_padded_or_rounded_are_noticed() -> None:
    frame, notes = exact_ids(pl.LazyFrame({"id": [" a ", " b", None]}), ["id"], "t")
    assert (frame.collect()["id"].to_list(), len(notes)) == (["a", "b", None], 1)
    frame, notes = exact_ids(pl.LazyFrame({"id": [" a ", "b"]}), ["id"], "t")
    assert (frame.collect()["id"].to_list(), notes) == ([" a ", "b"], [])
    _, notes = exact_ids(pl.LazyFrame({"id": ["9.78044E+12", "12", "1e5"]}), ["id"], "t")
    assert ["1 ids in the column for id are written as 9.78044E+12" in note for note in notes] == [True]


def test_numbers_and_dates_of_one_column_are_each_read_by_their_form() -> None:
    cells = ["2015-12-31 23:59:00", "1451606340", "1451606340000", "1451606340.5", None, "12/31/2015", "20151231"]
    frame, notes = seconds(pl.LazyFrame({"t": cells}), "t", "r.csv")
    assert frame.collect()["t"].to_list() == [1451606340] * 4 + [None, 1451520000, 1451520000]
    assert "partly numbers, partly dates" in notes[0]


@pytest.mark.parametrize(("stray", "named"), [("7", "7 in a column of dates"), ("soon", "soon")])
def test_a_cell_of_a_mixed_column_that_is_no_point_in_time_stays_to_be_named(stray: str, named: str) -> None:
    frame, notes = seconds(pl.LazyFrame({"t": ["2015-12-31", "1451606340", stray]}), "t", "r.csv")
    assert (frame.collect()["t"].to_list(), notes) == (["1451520000", "1451606340", named], [])


def test_days_with_fractions_as_spreadsheets_count_them_are_points_in_time() -> None:
    frame, notes = seconds(pl.LazyFrame({"t": ["44197.5", "44198.25", None]}), "t", "r.csv")
    assert frame.collect()["t"].to_list() == [1609502400, 1609567200, None]
    assert "days as spreadsheets count them" in notes[0]
    assert seconds(pl.LazyFrame({"t": ["44197", "44198"]}), "t", "r.csv")[0].collect()["t"].to_list() == [44197, 44198]


@pytest.mark.parametrize("zone", ["+02", "+0200", "+02:00", " +02"])
def test_a_zone_may_have_hours_alone(zone: str) -> None:
    frame, _ = seconds(pl.LazyFrame({"t": [f"2021-01-01 10:00:00{zone}"]}), "t", "r.csv")
    assert frame.collect()["t"].to_list() == [1609488000]
