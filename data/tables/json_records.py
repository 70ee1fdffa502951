"""JSON as people keep records in it: an object a line, an array, an object of records, or lines of Python literals."""

from __future__ import annotations

import ast
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..runtime.errors import BadInput
from ..runtime.parquet import scan_parquet
from .delimited import ROW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RECORDS_AT_ONCE = 50_000
_BLOCK = 1 << 20

Record = dict[str, Any]


def read_records(file: Path, text: Path, scratch: Path) -> tuple[pl.LazyFrame, list[str]]:
    """Rewrite the records in the UTF-8 ``text`` of ``file`` as Parquet in ``scratch``: ROW and text columns alone.

    Numbers keep their digits, so ids stay exact; lists and objects become JSON text; null and NaN are nulls. Also gives
    what was changed in reading. BadInput, naming the line, where there is no object.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch))
    replaced = rows = 0
    blocks: list[Path] = []
    for block in _blocks(_records(file, text)):
        for record in block:
            replaced += sum(map(_lone_surrogates, record.values()))
        names = dict.fromkeys(name for record in block for name in record)
        series = [pl.Series(ROW, range(rows, rows + len(block)), dtype=pl.get_index_type())]
        series += [pl.Series(name, [_as_text(record.get(name)) for record in block], dtype=pl.String) for name in names]
        path = folder / f"{len(blocks):06}.parquet"
        pl.DataFrame(series).write_parquet(path)
        blocks.append(path)
        rows += len(block)
    if not blocks:
        raise BadInput(f"{file} holds no records; expected one JSON object a line, or an array of objects")
    frame = pl.concat([scan_parquet(path) for path in blocks], how="diagonal")
    notes = [f"{file.name}: {replaced:,} lone surrogates are no characters; each became U+FFFD"] if replaced else []
    return frame, notes


def _records(file: Path, text: Path) -> Iterator[Record]:
    with text.open(encoding="utf-8-sig", newline="\n") as lines:
        start = lines.read(_BLOCK).lstrip()[:1]
    if start == "[":
        return _of_array(file, text)
    if start == "{" and file.name.lower().removesuffix(".gz").endswith(".json") and not _first_line_is_whole(text):
        return _of_document(file, text)
    return _of_lines(file, text)


def _first_line_is_whole(text: Path) -> bool:
    with text.open(encoding="utf-8-sig", newline="\n") as lines:
        first = next((line for line in lines if line.strip()), "")
        alone = not any(line.strip() for line in lines)
    try:
        record = _loads(first)
    except (ValueError, RecursionError):
        return first.lstrip().startswith("{'")
    return not (alone and isinstance(record, dict) and _holds_records(record))


def _of_lines(file: Path, text: Path) -> Iterator[Record]:
    with text.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = _loads(line)
            except (ValueError, RecursionError):
                record = _literal(line)
                if record is None:
                    raise BadInput(f"{file}, line {number:,}: not a JSON object; expected one object a line") from None
            if not isinstance(record, dict):
                raise BadInput(f"{file}, line {number:,}: expected a JSON object, found {type(record).__name__}")
            yield record


def _of_array(file: Path, text: Path) -> Iterator[Record]:
    """The objects of one array, decoded one by one: memory holds one record and a block of text."""
    decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_nothing)
    with text.open(encoding="utf-8-sig") as source:
        rest = source.read(_BLOCK).lstrip()[1:]
        number = 0
        while True:
            rest = rest.lstrip(" \t\r\n,")
            if rest.startswith("]"):
                return
            try:
                record, end = decoder.raw_decode(rest)
            except (ValueError, RecursionError):
                more = source.read(max(_BLOCK, len(rest)))
                if not more:
                    problem = "the array is not closed" if not rest else "not valid JSON"
                    raise BadInput(f"{file}, record {number + 1:,}: {problem}; expected an array of objects") from None
                rest += more
                continue
            number += 1
            if not isinstance(record, dict):
                raise BadInput(f"{file}, record {number:,}: expected an object, found {type(record).__name__}")
            yield record
            rest = rest[end:]


def _of_document(file: Path, text: Path) -> Iterator[Record]:
    """The records inside one object: its one list of objects, columns as pandas writes them, or objects by their id."""
    try:
        document = _loads(text.read_text("utf-8-sig"))
    except (ValueError, RecursionError):
        raise BadInput(f"{file} is neither one JSON object a line nor one JSON document; expected either") from None
    if not isinstance(document, dict) or not _holds_records(document):
        raise BadInput(f"{file}: expected one object a line, or an object that holds a list of objects")
    if _is_split(document):
        return iter([dict(zip(document["columns"], row, strict=False)) for row in document["data"]])
    lists = [value for value in document.values() if isinstance(value, list) and _all_objects(value)]
    if lists:
        if len(lists) > 1:
            some = ", ".join(name for name, value in document.items() if isinstance(value, list))
            raise BadInput(f"{file} holds several lists of objects ({some}); keep one of them in a file of its own")
        return iter(lists[0])
    first = next(iter(document.values()))
    if all(index.isdigit() for index in first):  # column -> row -> value
        return iter([{name: column.get(index) for name, column in document.items()} for index in first])
    return iter([{"id": key, **record} for key, record in document.items()])


def _is_split(document: Record) -> bool:
    """Whether it is a table as pandas writes it with orient="split": names of columns, and a list for each row."""
    columns, rows = document.get("columns"), document.get("data")
    return (
        isinstance(columns, list)
        and isinstance(rows, list)
        and all(isinstance(name, str) for name in columns)
        and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    )


def _holds_records(document: Record) -> bool:
    if _is_split(document):
        return True
    if any(isinstance(value, list) and value and _all_objects(value) for value in document.values()):
        return not any(name.casefold() in ("title", "name") for name in document)
    return bool(document) and _all_objects(document.values())


def _all_objects(values: Iterable[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _blocks(records: Iterator[Record]) -> Iterator[list[Record]]:
    block: list[Record] = []
    for record in records:
        block.append(record)
        if len(block) == _RECORDS_AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _nothing(_: str) -> None:
    """NaN and Infinity, which some programs write, are no values."""


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=_nothing)


def _literal(line: str) -> Any:
    """A line that Python's ``print`` wrote of a dict; None for any other. Nothing is evaluated but literals."""
    if line.lstrip().startswith(("{'", '{"')):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(line.strip())
    return None


def _as_text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lone_surrogates(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_lone_surrogates, value))
    if not isinstance(value, str):
        return 0
    return sum("\ud800" <= character <= "\udfff" for character in value)
