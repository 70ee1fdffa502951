"""Points in time as tables have them: years out of dates, seconds since 1970 out of milliseconds and ISO dates."""

from __future__ import annotations

import polars as pl

from .words import means_nothing

_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_LATEST_SECOND = 10**11  # the year 5138: larger numbers count something smaller
_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S%.f", "%Y/%m/%d %H:%M")
_DAYS = ("%Y-%m-%d", "%Y/%m/%d")


def year(given: pl.Expr, dtype: pl.DataType | None) -> pl.Expr:
    """The year as Int32 of a number, a date, or text such as 1995, 1995.0, 1995-10-30, 30-Oct-1995 or 2001–2003.

    Null where there is none; the year 0, which no calendar has, stands for none.
    """
    if dtype is not None and dtype.is_temporal():
        return given.dt.year().cast(pl.Int32)
    if dtype == pl.String:
        text = given.str.strip_chars()
        whole = text.str.extract(r"^(-?\d{1,4})(?:\.0+)?$", 1)
        first = text.str.extract(r"^(\d{4})(?:[-–—/.T ]|$)", 1)
        last = text.str.extract(r"(?:^|[-/. ,])(\d{4})$", 1)
        given = pl.coalesce(whole, first, last)
    number = given.cast(pl.Int32, strict=False)
    return pl.when(number != 0).then(number)


def seconds(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    """The table with ``column`` in whole seconds since 1970 (Int64) where it can be read so, and what was done.

    Milliseconds and finer are known by their size, text by ISO 8601; a word for a missing value becomes null. What
    cannot be read stays as it is, for whoever checks the rows to name.
    """
    dtype = table.collect_schema()[column]
    value = pl.col(column)
    if dtype == pl.String:
        value = pl.when(~means_nothing(value) & (value.str.strip_chars() != "")).then(value.str.strip_chars())
        table = table.with_columns(value.alias(column))
        value = pl.col(column)
        numbers = value.cast(pl.Float64, strict=False)
        counted = table.select(value.count().alias("given"), numbers.count().alias("numbers"))
        found = counted.collect(engine="streaming").row(0, named=True)
        if not found["numbers"] and found["given"]:
            return _of_dates(table, column, name)
        if found["numbers"] < found["given"]:
            return table, []
    elif not dtype.is_numeric():
        return table, []
    return _of_numbers(table, column, name)


def _of_numbers(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    number = pl.col(column).cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number)
    largest = table.select(number.abs().max()).collect(engine="streaming").item()
    whole = pl.coalesce(pl.col(column).cast(pl.Int64, strict=False), number.floor().cast(pl.Int64, strict=False))
    if largest is None:
        return table.with_columns(whole.alias(column)), []
    unit, divisor = next(
        ((unit, divisor) for unit, divisor in _UNITS if largest / divisor < _LATEST_SECOND), _UNITS[-1]
    )
    fractions = table.select((number != number.floor()).any()).collect(engine="streaming").item()
    notes = []
    if divisor > 1:
        notes.append(f"{name}: timestamps are {unit} since 1970; they were made seconds")
    elif fractions:
        notes.append(f"{name}: timestamps have fractions of a second; these were cut off")
    return table.with_columns((whole // divisor).alias(column)), notes


def _of_dates(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    text = pl.col(column).str.replace(r"(\d)T(\d)", "$1 $2")
    zone = r"\s*(?:Z|UTC|[+-]\d{2}:?\d{2})$"
    offset = text.str.extract(r"([+-])(\d{2}):?(\d{2})$", 1)
    hours = text.str.extract(r" \d{2}:\d{2}.*[+-](\d{2}):?\d{2}$", 1).cast(pl.Int64, strict=False)
    minutes = text.str.extract(r" \d{2}:\d{2}.*[+-]\d{2}:?(\d{2})$", 1).cast(pl.Int64, strict=False)
    sign = pl.when(offset == "-").then(-1).otherwise(1)
    shift = (sign * (hours * 3600 + minutes * 60)).fill_null(0)
    has_zone = text.str.contains(r"\d{2}:\d{2}.*" + zone) | text.str.contains(r"(?:Z|UTC)$")
    bare = pl.when(has_zone).then(text.str.replace(zone, "")).otherwise(text)
    parsed = [bare.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("s") for form in _FORMATS]
    parsed += [bare.str.to_date(form, strict=False).dt.epoch("s") for form in _DAYS]
    point = pl.coalesce(parsed) - shift
    unread = table.select((pl.col(column).is_not_null() & point.is_null()).any()).collect(engine="streaming").item()
    if unread:
        return table, []
    return table.with_columns(point.alias(column)), [
        f"{name}: timestamps are dates; they were made seconds since 1970, in UTC where no zone stands with them"
    ]


def decimal_points(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    """The table with points for the decimal commas of a text column of numbers, and a sentence where it had some."""
    if table.collect_schema()[column] != pl.String:
        return table, []
    value = pl.col(column).str.strip_chars()
    found = table.select(
        commas=value.str.contains(r"^-?\d+,\d+$").any(), other=~value.str.contains(r"^-?\d*(?:,\d+)?$").all()
    ).collect(engine="streaming")
    if not found["commas"].item() or found["other"].item():
        return table, []
    return table.with_columns(value.str.replace(",", ".", literal=True).alias(column)), [
        f"{name}: numbers in the column for {column} have decimal commas; 4,5 is read as 4.5"
    ]
