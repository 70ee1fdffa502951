"""Ids as tables have them: exact whole numbers or text, also where a program made floats of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXACT = 2**53  # floats beyond it are not every whole number
_ROUNDED = r"^\d(?:[.,]\d+)?[eE]\+\d{2,}$"
_NESTED = r"(?s)^\s*(?:\[.*\]|\{.*\})\s*$"
_FLOAT_WRITTEN = r"^-?(?:0|[1-9]\d*)\.0+$"


def exact_ids(table: pl.LazyFrame, columns: Sequence[str], name: str) -> tuple[pl.LazyFrame, list[str]]:
    """The table with the id ``columns`` as text, and a sentence for each column whose ids were written as floats.

    A column all of whose ids end in ".0" held whole numbers before a program made floats of them, for a blank among
    them: "862.0" is 862, and rows with such a blank are left out. Floats of Parquet are taken if whole and exact.
    BadInput for any other type.
    """
    schema = table.collect_schema()
    notes: list[str] = []
    for column in columns:
        dtype = schema[column]
        value = pl.col(column)
        if dtype.is_float():
            value = pl.when(value.is_finite()).then(value)
            faulty = (value != value.floor()) | (value.abs() >= _EXACT)
            if wrong := table.select(faulty.fill_null(False).sum()).collect(engine="streaming").item():
                raise BadInput(
                    f"{name}, column for {column}: ids must be integers or text, found {dtype} with {wrong:,} that are "
                    "not exact whole numbers; convert it where the table is made (a float cannot hold every id)"
                )
            table, blank = _without_blanks(
                table.with_columns(value.cast(pl.Int64).cast(pl.String).alias(column)), column
            )
            notes.append(
                f"{name}: ids in the column for {column} are floats ({dtype}); they were read as whole numbers{blank}"
            )
        elif dtype.is_decimal() or dtype == pl.Binary:
            table = table.with_columns(_as_text(table, column, dtype, name))
        elif dtype.is_integer() or dtype in (pl.Categorical, pl.Enum):
            table = table.with_columns(value.cast(pl.String))
        elif dtype == pl.String:
            given = value.filter(value.is_not_null() & (value != ""))
            found = table.select(
                written=given.str.contains(_FLOAT_WRITTEN).all() & (given.len() > 0),
                first=given.first(),
                padded=(given != given.str.strip_chars(" ")).all() & (given.len() > 0),
                some_padded=(given != given.str.strip_chars()).any(),
                rounded=given.filter(given.str.contains(_ROUNDED)).first(),
                how_many_rounded=given.str.contains(_ROUNDED).sum(),
                nested=given.str.contains(_NESTED).all() & (given.len() > 0),
            ).collect(engine="streaming")
            if found["nested"].item() and _is_nested(first := found["first"].item()):
                raise BadInput(
                    f"{name}, column for {column}: expected an id in each row, found an object or a list "
                    f"({first[:60]}); write the id itself into a column, a row for each"
                )
            if found["padded"].item():
                table = table.with_columns(value.str.strip_chars(" "))
                notes.append(
                    f"{name}: all ids in the column for {column} have white space around them; it is taken away"
                )
            elif column == "user_id" and found["some_padded"].item():
                bare = table.select(given=value.n_unique(), bare=value.str.strip_chars().n_unique()).collect()
                if fewer := bare["given"].item() - bare["bare"].item():
                    notes.append(
                        f"{name}: {fewer:,} ids in the column for {column} differ from others by white space alone; "
                        "they are kept apart"
                    )
            if found["how_many_rounded"].item():
                notes.append(
                    f"{name}: {found['how_many_rounded'].item():,} ids in the column for {column} are written as "
                    f"{found['rounded'].item()}: a spreadsheet rounded them, and several may have become one; save "
                    "them as text"
                )
            if found["written"].item():
                first = found["first"].item()
                whole = first.partition(".")[0]
                table, blank = _without_blanks(table.with_columns(value.str.replace(r"\.0+$", "")), column)
                notes.append(
                    f"{name}: ids in the column for {column} are written as floats; {first} is read as {whole}{blank}"
                )
        elif dtype.is_nested():
            raise BadInput(
                f"{name}, column for {column}: expected an id in each row, found {dtype}; write the id itself into a "
                "column, a row for each, in Polars by table.explode(...) or .struct.field(...)"
            )
        else:
            raise BadInput(
                f"{name}, column for {column}: ids must be integers or text, found {dtype}; "
                "convert it where the table is made"
            )
    return table, notes


def _is_nested(cell: str) -> bool:
    try:
        return isinstance(json.loads(cell), dict | list)
    except (ValueError, RecursionError):
        return False


def _as_text(table: pl.LazyFrame, column: str, dtype: pl.DataType, name: str) -> pl.Expr:
    """Ids as text that a database wrote as decimals without a fraction, or text that lost its type and became bytes."""
    text = pl.col(column).cast(pl.String)
    if dtype.is_decimal():
        faulty = ~text.str.contains(r"^-?\d+(?:\.0*)?$")
        text = text.str.replace(r"\.0*$", "")
        what = "some that are not whole numbers"
    else:
        faulty, what = text.is_null() & pl.col(column).is_not_null(), "bytes that are not UTF-8 text"
    try:
        wrong = table.select(faulty.any()).collect(engine="streaming").item()
    except pl.exceptions.ComputeError:
        wrong = True
    if wrong:
        raise BadInput(
            f"{name}, column for {column}: ids must be integers or text, found {dtype} with {what}; convert it where "
            "the table is made"
        )
    return text


def _without_blanks(table: pl.LazyFrame, column: str) -> tuple[pl.LazyFrame, str]:
    """The rows that have an id, and what to say of the others."""
    blank = pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")
    count = table.select(blank.sum()).collect(engine="streaming").item()
    return table.filter(~blank), f"; {count:,} rows without one were left out" if count else ""
