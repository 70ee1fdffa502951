"""Points in time as tables have them: years out of dates, seconds since 1970 out of milliseconds and ISO dates."""

from __future__ import annotations

import polars as pl

from .words import means_nothing

_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_FIRST_PLAUSIBLE_SECOND = 10**8
_LATEST_SECOND = 10**11  # the year 5138: larger numbers count something smaller
_DAYS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
    "%m %d, %Y",
)
_DAY_FIRST, _MONTH_FIRST = ("%d/%m/%Y", "%d-%m-%Y"), ("%m/%d/%Y", "%m-%d-%Y")
_CLOCKS = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_WEEKDAYS = r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s+"
_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_SAMPLE = 1_000
_DATES = "__dates"
_SPREADSHEET_DAYS = (25_569, 73_415)  # from 1970 to 2100, counted from 1899-12-30


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

    Milliseconds and finer are known by their size; text may be ISO 8601 or a date as spreadsheets and mails write it; a
    word for a missing value becomes null. A cell that cannot be read stays as it is, text among text, for whoever
    checks the rows to name.
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
            return _of_both(table, column, name)
    elif not dtype.is_numeric():
        return table, []
    return _of_numbers(table, column, name)


def read_times(table: pl.LazyFrame, name: str, column: str, *, doubtful: bool) -> tuple[pl.LazyFrame, list[str]]:
    """The table with its column timestamp in `seconds`; ``column`` is what the source calls it.

    Where its name makes it ``doubtful`` that it holds points in time, it is dropped, with a note, if any cell
    cannot be read or the last time is before 1973, as it is in a column of durations.
    """
    read, notes = seconds(table, "timestamp", name)
    dtype = read.collect_schema()["timestamp"]
    if not doubtful or dtype in (pl.Date, pl.Datetime):
        return read, notes
    if dtype.is_integer():
        last = read.select(pl.col("timestamp").max()).collect(engine="streaming").item()
        if last is not None and last >= _FIRST_PLAUSIBLE_SECOND:
            return read, notes
    return table.drop("timestamp"), [
        f"{name}: the column {column} is not read as times, as not all its cells are such; --timestamp {column} names "
        "the rows"
    ]


def _of_numbers(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    number = pl.col(column).cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number)
    largest = table.select(number.abs().max()).collect(engine="streaming").item()
    whole = pl.coalesce(pl.col(column).cast(pl.Int64, strict=False), number.floor().cast(pl.Int64, strict=False))
    if largest is None:
        return table.with_columns(whole.alias(column)), []
    if (days := _written_as_one_number(table, whole)) is not None:
        note = f"{name}: timestamps are years or days such as 20151231; they were made seconds since 1970, in UTC"
        return table.with_columns(days.alias(column)), [note]
    fractions = table.select((number != number.floor()).any()).collect(engine="streaming").item()
    if fractions and _all_between(table, number, *_SPREADSHEET_DAYS):
        seconds = ((number - _SPREADSHEET_DAYS[0]) * 86_400).round().cast(pl.Int64)
        note = f"{name}: timestamps are days as spreadsheets count them; they were made seconds since 1970, in UTC"
        return table.with_columns(seconds.alias(column)), [note]
    unit, divisor = next(
        ((unit, divisor) for unit, divisor in _UNITS if largest / divisor < _LATEST_SECOND), _UNITS[-1]
    )
    notes = []
    if divisor > 1:
        notes.append(f"{name}: timestamps are {unit} since 1970; they were made seconds")
    elif fractions:
        notes.append(f"{name}: timestamps have fractions of a second; these were cut off")
    return table.with_columns((whole // divisor).alias(column)), notes


def _all_between(table: pl.LazyFrame, number: pl.Expr, low: int, high: int) -> bool:
    return bool(table.select(number.is_between(low, high).all()).collect(engine="streaming").item())


def _of_both(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    """Numbers and dates in one column: each number by its own size, the rest as dates.

    A number that is no point in time by itself becomes text that says so, or it would be taken for a second of 1970.
    """
    number = pl.col(column).cast(pl.Float64, strict=False)
    dates = pl.when(number.is_null()).then(pl.col(column)).alias(_DATES)
    table, _ = _of_dates(table.with_columns(dates), _DATES, name)
    points = [pl.col(column).str.to_date("%Y%m%d", strict=False).dt.epoch("s")]
    points[0] = pl.when(number.is_between(_FIRST_YEAR * 10_000, (_LAST_YEAR + 1) * 10_000)).then(points[0])
    for _, divisor in _UNITS:
        fits = number.is_between(_FIRST_PLAUSIBLE_SECOND * divisor, _LATEST_SECOND * divisor, "left")
        points.append(pl.when(fits).then(number / divisor).floor().cast(pl.Int64))
    read = pl.coalesce(*points, pl.col(_DATES).cast(pl.Int64, strict=False))
    unread = table.select((pl.col(column).is_not_null() & read.is_null()).any()).collect(engine="streaming").item()
    if unread:
        stray = (
            pl.when(number.is_not_null()).then(pl.format("{} in a column of dates", column)).otherwise(pl.col(column))
        )
        return table.with_columns(pl.coalesce(read.cast(pl.String), stray).alias(column)).drop(_DATES), []
    return table.with_columns(read.alias(column)).drop(_DATES), [
        f"{name}: timestamps are partly numbers, partly dates; each was made seconds since 1970 by its own form, in UTC"
    ]


def _written_as_one_number(table: pl.LazyFrame, whole: pl.Expr) -> pl.Expr | None:
    """Seconds of days written as 20151231, or of years, where all numbers are such; else None."""
    ends = table.select(low=whole.min(), high=whole.max()).collect(engine="streaming").row(0, named=True)
    for unit in (1, 10_000):
        if _FIRST_YEAR * unit <= ends["low"] and ends["high"] < (_LAST_YEAR + 1) * unit:
            text = whole.cast(pl.String) + ("0101" if unit == 1 else "")
            day = text.str.to_date("%Y%m%d", strict=False).dt.epoch("s")
            unread = table.select((whole.is_not_null() & day.is_null()).any()).collect(engine="streaming").item()
            return None if unread else day
    return None


def _of_dates(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    text = pl.col(column).str.replace(r"(\d)T(\d)", "$1 $2").str.replace(_WEEKDAYS, "")
    zone = r"\s*(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
    offset = r" \d{1,2}:\d{2}.*([+-])(\d{2})(?::?(\d{2}))?$"
    sign, hours, minutes = (text.str.extract(offset, part) for part in (1, 2, 3))
    ahead = hours.cast(pl.Int64, strict=False) * 3600 + minutes.cast(pl.Int64, strict=False).fill_null(0) * 60
    shift = pl.when(sign == "-").then(-ahead).otherwise(ahead).fill_null(0)
    has_zone = text.str.contains(r" \d{1,2}:\d{2}.*" + zone) | text.str.contains(r"(?:Z|UTC|GMT)$")
    bare = pl.when(has_zone).then(text.str.replace(zone, "")).otherwise(text)
    days = (*_DAYS, *_order_of_slashes(table, bare))
    parsed = {f"{day} {clock}": _point(bare, f"{day} {clock}") for day in days for clock in _CLOCKS}
    parsed |= {day: _point(bare, day) for day in days}
    # most tables have one form, which their first rows show; the others would be tried in vain in every row
    sample = table.select(bare.alias("t")).filter(pl.col("t").is_not_null()).head(_SAMPLE).collect()
    read = sample.select(_point(pl.col("t"), form).count().alias(form) for form in parsed).row(0, named=True)
    found = [form for form in parsed if read[form]]
    if not found:
        return table, []
    for forms in (found, list(parsed)):
        point = pl.coalesce([parsed[form] for form in forms]) - shift
        unread = (pl.col(column).is_not_null() & point.is_null()).any()
        if not table.select(unread).collect(engine="streaming").item():
            return table.with_columns(point.alias(column)), [
                f"{name}: timestamps are dates; they were made seconds since 1970, in UTC where no zone stands with "
                "them" + _said_order(found)
            ]
    return table.with_columns(pl.coalesce(point.cast(pl.String), pl.col(column)).alias(column)), []


def _point(text: pl.Expr, form: str) -> pl.Expr:
    """Seconds since 1970; null where the year is implausible, as in 31.12.15, read as the year 15."""
    if "%H" in form or "%I" in form:
        point = text.str.to_datetime(form, strict=False, time_unit="us")
    else:
        point = text.str.to_date(form, strict=False)
    return pl.when(point.dt.year().is_between(_FIRST_YEAR, _LAST_YEAR)).then(point.dt.epoch("s"))


def _order_of_slashes(table: pl.LazyFrame, text: pl.Expr) -> tuple[str, ...]:
    """Forms of dates such as 31/12/2015: day or month first, as a number above 12 says; none where no number does."""
    parts = [text.str.extract(r"^(\d{1,2})[/-](\d{1,2})[/-]\d{4}\b", place) for place in (1, 2)]
    parts = [part.cast(pl.Int8, strict=False) for part in parts]  # \d is a digit of any script
    largest = table.select(first=parts[0].max(), second=parts[1].max()).collect(engine="streaming").row(0, named=True)
    first, second = largest["first"] or 0, largest["second"] or 0
    if (first > 12) == (second > 12):
        return ()
    return _DAY_FIRST if first > 12 else _MONTH_FIRST


def _said_order(forms: list[str]) -> str:
    if any(form.startswith(_DAY_FIRST) for form in forms):
        return "; the day stands first"
    return "; the month stands first" if any(form.startswith(_MONTH_FIRST) for form in forms) else ""
