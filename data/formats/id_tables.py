"""Ids that lie beside vectors: one a line, a column of a CSV or Parquet table, an array, a JSON list."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..embeddings.ids import IdArray
from ..runtime.errors import BadInput, UsageError
from .table_imports import Table
from .vectors import is_known, known_column, numbers_if_all

_TABLES: Final = {".csv": None, ".tsv": "\t", ".tab": "\t"}  # by suffix, with the separator where that says it


def read_ids(path: Path, column: str | None, items: int | None) -> IdArray:
    """The ids in `path`, (N,) int64 or str; whole numbers are numbers, unless a typed column says text.

    Text has one id a line; a table's column is `column` (a name of its header, or its number from 1), or the only one
    that is called as ids are. `items` is how many ids are wanted, if known: one line more means a header. Raises
    BadInput for a file that cannot be read, UsageError where the column must be named.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return array_ids(load_array(path), path)
    if suffix in (".parquet", ".arrow", ".feather"):
        return _column_ids(path, column)
    text = _text(path)
    if suffix == ".json":
        return _json_ids(text, path)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadInput(f"{path}: expected one id a line, found none")
    if suffix in _TABLES or "\t" in lines[0]:
        return numbers_if_all(_from_table(text, path, _TABLES.get(suffix), column, items))
    ids = [line.strip() for line in lines]
    header = is_known(ids[0]) and ((items is not None and len(ids) == items + 1) or _are_numbers(ids[1:]))
    return numbers_if_all(ids[1:] if header else ids)


def _are_numbers(ids: Iterable[str]) -> bool:
    """Whether there are ids, all of them whole numbers: then a first line "id" is no id."""
    given = [value.strip() for value in ids]
    return bool(given) and numbers_if_all(given).dtype.kind == "i"


def array_ids(array: npt.NDArray[Any], path: object) -> IdArray:
    """An array of one dimension as ids: integers as they are, text as `numbers_if_all` reads it."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "f" and np.array_equal(array, np.trunc(array)) and np.abs(array).max(initial=0) < 2**53:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iuUSO":
        raise BadInput(f"{path}: expected ids in one dimension, whole numbers or text, found {_kind(array)}")
    if array.dtype.kind in "iu":
        return array.astype(np.int64) if array.max(initial=0) < 2**63 else array
    values = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in array.tolist()]
    if not all(isinstance(value, str) for value in values):
        return _mixed(values, path)
    return numbers_if_all(values)


def load_array(path: Path) -> npt.NDArray[Any]:
    """The array in an .npy, mapped. Raises BadInput; an array of Python objects is never loaded."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise BadInput(f"{path}: cannot be read as .npy ({str(fault).splitlines()[0]})") from None
    return array


def _kind(array: npt.NDArray[Any]) -> str:
    return f"{list(array.shape)} of {array.dtype}"


def _mixed(values: list[Any], path: object) -> IdArray:
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values, np.int64)
    raise BadInput(f"{path}: expected ids that are all whole numbers or all text, found others")


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise BadInput(f"{path}: expected a text file of ids in UTF-8 ({fault})") from None


def _json_ids(text: str, path: Path) -> IdArray:
    try:
        values = json.loads(text)
    except ValueError as fault:
        raise BadInput(f"{path}: cannot be read as JSON ({fault})") from None
    if isinstance(values, dict):
        values = _by_row(values, path)
    if not isinstance(values, list) or not values:
        raise BadInput(f"{path}: expected a list of ids, or an object of each id's row or each row's id")
    return np.array(values, object) if all(isinstance(value, str) for value in values) else _mixed(values, path)


def _by_row(found: dict[str, Any], path: Path) -> list[Any]:
    """The ids in the order of their rows, of an object of each id's row, or of each row's id; rows count from 0."""
    rows = {str(row) for row in range(len(found))}
    ids_of_rows = set(found) == rows
    rows_of_ids = all(isinstance(row, int) for row in found.values()) and {*map(str, found.values())} == rows
    if ids_of_rows and rows_of_ids and any(key != str(row) for key, row in found.items()):
        raise BadInput(f"{path}: its keys and its values are both rows from 0; write a list of the ids in order")
    if ids_of_rows:
        return [found[str(row)] for row in range(len(found))]
    if rows_of_ids:
        ids: list[Any] = numbers_if_all(sorted(found, key=lambda key: int(found[key]))).tolist()
        return ids
    raise BadInput(f"{path}: expected rows from 0 to {len(found) - 1:,} as the object's keys or values, found others")


def _from_table(text: str, path: Path, separator: str | None, column: str | None, items: int | None) -> list[str]:
    first = next(line for line in text.splitlines() if line.strip())
    separator = separator or max("\t;,", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(cell.strip() for cell in row)]
    except csv.Error as fault:
        raise BadInput(f"{path}: cannot be read as a table ({fault})") from None
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise BadInput(f"{path}: row {number}: expected {width} columns as in the first, found {len(row)}")
    place, header = _place(rows, path, column, items)
    if header:
        _refuse_other_order(rows, place, path, named=column is not None)
    return [row[place].strip() for row in rows[header:]]


def _refuse_other_order(rows: list[list[str]], place: int, path: Path, *, named: bool) -> None:
    """Refuse a table that says itself which row of the vectors is whose, and otherwise than by its order.

    MMRec's i_id_mapping.csv has such a column; where it stands for the ids beside a column of ids, that is meant.
    """
    body = [[cell.strip() for cell in row] for row in rows[1:]]
    counting = [str(row) for row in range(len(body))]
    for other, name in enumerate(rows[0]):
        column = [row[other] for row in body]
        ids = [cell.strip() for n, cell in enumerate(rows[0]) if n != place and is_known(cell.strip())]
        if other == place and not named and ids and column == counting:
            raise UsageError(
                f"{path}: column {name.strip()} counts the rows, and {ids[0]} may hold the ids; name one with "
                "--id-column"
            )
        if other != place and len(body) > 2 and column != counting and sorted(column) == sorted(counting):
            raise BadInput(
                f"{path}: column {name.strip()} numbers its rows in another order than they stand in; if it numbers "
                "those of the vectors, sort the file by it, else leave it out"
            )


def _place(rows: list[list[str]], path: Path, column: str | None, items: int | None) -> tuple[int, bool]:
    """Which column has the ids, and whether the first row is a header."""
    names = [cell.strip() for cell in rows[0]]
    one_more = items is not None and len(rows) == items + 1
    if column is not None and column in names and items != len(rows):
        return names.index(column), True
    if column is not None:
        if not column.isdigit() or not 1 <= int(column) <= len(names):
            raise UsageError(f"{path}: --id-column: expected one of {', '.join(names[:10])}, found {column}")
        return int(column) - 1, one_more or (items is None and any(map(is_known, names)))
    if len(names) == 1:
        return 0, one_more or (is_known(names[0]) and (items is None or _are_numbers(row[0] for row in rows[1:])))
    if items == len(rows) or not any(map(is_known, names)):
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise UsageError(
            f"{path}: has {len(names)} columns (its first line: {shown}); name that of the ids with --id-column, "
            "by its name in the header or its number: 1, 2, ..."
        )
    return names.index(known_column(names, path)), True


def _column_ids(path: Path, column: str | None) -> IdArray:
    table = Table([path])
    return table.ids(column or known_column(table.names, path))
