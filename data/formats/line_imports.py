"""Vectors in text, a line for each item: JSON lines as embedding services give them, and CSV or TSV.

Text is read twice, first for ids and lengths and then for the vectors, so that one line is in memory at a time.
"""

from __future__ import annotations

import base64
import binascii
import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import numpy.typing as npt

from ..embeddings.ids import IdArray
from ..runtime.errors import BadInput, UsageError
from .vectors import NONE_AT_ALL, Vectors, Where, checked_width, is_known, known_column, numbers_if_all, value_columns

JSON_LINES: Final = (".jsonl", ".ndjson", ".jsonlines")
DELIMITED: Final = {".csv": None, ".tsv": "\t", ".itememb": "\t", ".textemb": "\t", ".imageemb": "\t"}
# where services put the vector: plain lines, OpenAI's batch output, Gemini's, Cohere's
_VECTORS: Final = (
    *("embedding", "response.body.data", "response.embedding.values", "embeddings", "vector", "features"),
    "values",  # Pinecone's
)
_DECIMAL_COMMA: Final = re.compile(r"^(\s*-?\d+),(\d+(?:[eE][+-]?\d+)?\s*)$")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}")  # without blanks and commas
_LONGEST_LINE: Final = 2**28

_Entry = tuple[Any, npt.NDArray[np.float32] | None, bool]  # id, (T, D) or none, whether it is one vector


def json_line_vectors(files: Sequence[Path], where: Where) -> Vectors:
    """The vectors of JSON lines: an id and a list of numbers (or of lists) each, or OpenAI's batch output.

    A line whose request failed has no vector. Raises BadInput naming the line that is not as expected.
    """
    id_key: list[str] = [where.id_column] if where.id_column else []

    def entries() -> Iterator[_Entry]:
        for file in files:
            for number, line in enumerate(_lines(file), 1):
                if line.strip():
                    yield _json_entry(line, f"{file}: line {number}", id_key, where.column)

    # JSON says which ids are text, but for custom_id, which is text whatever it was made of
    return _vectors(entries, str(files[0]), typed=lambda: "custom_id" not in id_key)


def json_vectors(file: Path, where: Where) -> Vectors:
    """The vectors of a JSON file: a list of objects as lines of JSON have them, or an object of ids and vectors."""
    try:
        with _opened(file) as text:
            found = json.load(text)
    except (ValueError, RecursionError) as fault:
        raise BadInput(f"{file}: cannot be read as JSON ({fault})") from None
    id_key: list[str] = [where.id_column] if where.id_column else []
    if isinstance(found, dict) and (columns := _columns(found, where)):
        found = [{columns[0]: item, "embedding": vector} for item, vector in zip(*map(found.get, columns), strict=True)]
        id_key, where = [columns[0]], Where(column="embedding")

    def entries() -> Iterator[_Entry]:
        if isinstance(found, dict):
            for item, vector in found.items():
                yield item, *(_numbers(vector, f"{file}: item {item}") if vector else (None, True))
        for number, record in enumerate(found if isinstance(found, list) else [], 1):
            yield _entry(record, f"{file}: object {number}", id_key, where.column)

    return _vectors(entries, str(file), typed=lambda: not isinstance(found, dict) and "custom_id" not in id_key)


def _columns(found: dict[str, Any], where: Where) -> tuple[str, str] | None:
    """The keys of ids and vectors where an object holds a list of each, as Chroma gives them; else None."""
    ids = where.id_column or next((key for key in found if is_known(key)), None)
    vectors = where.column or next((key for key in _VECTORS if key in found), None)
    if ids is None or vectors is None or not all(isinstance(found.get(key), list) for key in (ids, vectors)):
        return None
    return (ids, vectors) if len(found[ids]) == len(found[vectors]) else None


def delimited_vectors(file: Path, where: Where) -> Vectors:
    """The vectors of a CSV or TSV with a header: a column of numbers for each value, or one column of lists as text.

    RecBole's ``name:float_seq`` columns, numbers with blanks between, are lists too.
    """
    with _opened(file) as text:
        sample = text.readline()
    separator = DELIMITED.get(file.suffix.lower().removesuffix(".gz")) or max("\t;,", key=sample.count)
    names = [name.strip() for name in next(csv.reader([sample], delimiter=separator), [])]
    id_name = where.id_column or _id_column(names, file)
    if id_name not in names:
        raise UsageError(f"{file}: --id-column: expected one of {', '.join(names[:10])}, found {id_name}")
    id_place = names.index(id_name)
    if where.column is not None and where.column not in names:
        raise UsageError(f"{file}: --column: expected one of {', '.join(names[:10])}, found {where.column}")
    others = [name for n, name in enumerate(names) if n != id_place]
    wanted, notes = value_columns(others, file) if where.column is None else ([where.column], ())
    places = [n for n, name in enumerate(names) if n != id_place and name in wanted]

    def entries() -> Iterator[_Entry]:
        with _opened(file) as text:
            rows = csv.reader(text, delimiter=separator)
            next(rows)
            for number, row in enumerate(rows, 2):
                if row:
                    if separator != ",":  # spreadsheets in many languages write 0,5
                        row = [_DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in row]
                    yield _row_entry(row, id_place, places, len(names), f"{file}: line {number}")

    csv.field_size_limit(_LONGEST_LINE)
    found = _vectors(entries, str(file), typed=lambda: False)
    found.notes += notes
    return found


def _id_column(names: list[str], file: Path) -> str:
    tokens = [name for name in names if name.endswith(":token")]  # RecBole's name:type
    return tokens[0] if len(tokens) == 1 else known_column(names, file)


def _vectors(entries: Callable[[], Iterator[_Entry]], source: str, *, typed: Callable[[], bool]) -> Vectors:
    ids: list[Any] = []
    lengths: list[int] = []
    width = 0
    single = True
    for item, matrix, one in entries():
        ids.append(item)
        if matrix is None:
            lengths.append(NONE_AT_ALL)
            continue
        lengths.append(len(matrix))
        single &= one
        width = width or checked_width(matrix.shape[1], source)
        if matrix.shape[1] != width:
            raise BadInput(
                f"{source}: item {item}: expected vectors of {width} values as the first, found {matrix.shape[1]}"
            )
    if not width:
        raise BadInput(f"{source}: holds no vector at all")
    absent = lengths.count(NONE_AT_ALL)
    return Vectors(
        ids=_ids(ids, source, typed()),
        lengths=np.array(lengths, np.int64),
        width=width,
        dtype="float32",
        single=single,
        matrices=lambda: (np.empty((0, width), np.float32) if m is None else m for _, m, _ in entries()),
        notes=(f"{absent:,} lines have no vector: empty, or their request failed",) if absent else (),
    )


def _ids(ids: list[Any], source: str, typed: bool) -> IdArray:
    if all(isinstance(item, str) for item in ids):
        return np.array(ids, object) if typed else numbers_if_all(ids)
    if all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        return np.array(ids, np.int64 if max(map(abs, ids)) < 2**63 else object)
    raise BadInput(f"{source}: expected ids that are all text or all whole numbers, found others")


def _json_entry(line: str, place: str, id_key: list[str], column: str | None) -> _Entry:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise BadInput(f"{place}: cannot be read as JSON ({fault})") from None
    return _entry(record, place, id_key, column)


def _entry(record: Any, place: str, id_key: list[str], column: str | None) -> _Entry:
    if not isinstance(record, dict):
        raise BadInput(f"{place}: expected an object with an id and an embedding, found {type(record).__name__}")
    if not id_key:
        # OpenAI's own "id" is that of the request
        known = [key for key in ("custom_id", "key") if key in record and "response" in record]
        id_key.append(known[0] if known else known_column([key for key in record if is_known(key)] or [*record], place))
    item = record.get(id_key[0])
    if item is None or isinstance(item, dict | list | float | bool):
        raise BadInput(f"{place}: expected an id in {id_key[0]}, found {json.dumps(item)[:60]}")
    found = _at(record, column) if column else next((v for v in (_at(record, key) for key in _VECTORS) if v), None)
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        if len(found) != 1:
            raise BadInput(f"{place}: item {item}: expected one embedding, found {len(found)}: one request, one input")
        found = found[0].get("embedding")
    if found is None or found == []:
        if column is None and not record.keys() & {"response", "error"} and not _names_one(record):
            raise UsageError(f"{place}: name the key of the vector with --column: {', '.join(record)}")
        return item, None, True
    return item, *_numbers(found, f"{place}: item {item}")


def _names_one(record: dict[str, Any]) -> bool:
    return any(key in record for key in _VECTORS)


def _at(record: Any, path: str) -> Any:
    """What lies at a path such as ``response.body.data.0.embedding``; None where there is nothing."""
    for part in path.split("."):
        if isinstance(record, dict):
            record = record.get(part)
        elif isinstance(record, list) and part.isdigit() and int(part) < len(record):
            record = record[int(part)]
        else:
            return None
    return record


def _numbers(found: Any, place: str) -> tuple[npt.NDArray[np.float32], bool]:
    if isinstance(found, str):  # the services' encoding_format base64: float32, little-endian
        try:
            one = np.frombuffer(base64.b64decode(found, validate=True), "<f4")
        except (ValueError, binascii.Error):
            raise BadInput(f"{place}: expected numbers or base64 of float32, found text") from None
        return one.reshape(1, -1), True
    try:
        values = np.array(found, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise BadInput(f"{place}: expected a list of numbers, or lists of one length, found others") from None
    if values.ndim not in (1, 2):
        raise BadInput(f"{place}: expected a list of numbers, or a list of such lists, found {values.ndim} in another")
    return (values.reshape(1, -1), True) if values.ndim == 1 else (values, False)


def _row_entry(row: list[str], id_place: int, places: list[int], columns: int, place: str) -> _Entry:
    if len(row) != columns:
        raise BadInput(f"{place}: expected {columns} columns as in the header, found {len(row)}")
    item = row[id_place].strip()
    cells = [row[n].strip() for n in places]
    if not item:
        raise BadInput(f"{place}: expected an id, found none")
    if not any(cells):
        return item, None, True
    try:
        if len(cells) == 1 and not _is_number(cells[0]):
            text = cells[0]
            if _BASE64.fullmatch(text):
                return item, *_numbers(text, place)
            values = json.loads(text) if text.startswith("[") and "," in text else text.strip("[]").split()
            return item, *_numbers([float(v) for v in values] if isinstance(values[0], str) else values, place)
        # an empty cell is a value that is not there: the whole vector is then not finite
        return item, np.array([[float(cell or "nan") for cell in cells]], np.float32), True
    except (ValueError, IndexError):
        raise BadInput(f"{place}: expected numbers, found {cells[0][:40]!r}; name the vectors with --column") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _opened(file: Path) -> TextIO:
    try:
        if file.suffix.lower() == ".gz":
            return io.TextIOWrapper(gzip.open(file), "utf-8-sig", newline="")
        return file.open(encoding="utf-8-sig", newline="")
    except OSError as fault:
        raise BadInput(f"{file}: cannot be read ({fault.strerror})") from None


def _lines(file: Path) -> Iterator[str]:
    try:
        with _opened(file) as text:
            while line := text.readline(_LONGEST_LINE):
                yield line
    except (OSError, UnicodeDecodeError, EOFError) as fault:
        raise BadInput(f"{file}: cannot be read as text in UTF-8 ({fault})") from None
