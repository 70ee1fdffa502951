"""Records of delimited text: cut at a separator by a way to quote; and which separator a file has."""

from __future__ import annotations

import codecs
import csv
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SEPARATORS = (",", ";", "\t", "|", "::", "\t\t", " ")
_SAMPLE_LINES = 500
_LONGEST_SAMPLE = 1 << 22
_SEPARATOR_LINE = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([,;\t|])"?\r?\n')
_ESCAPED = re.compile(r'\\([\\"])')


class Malformed(Exception):
    """A record that the way of reading cannot take."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line:,}: {why}")


def without_first_lines(text: Path, scratch: Path) -> tuple[Path, str | None]:
    """The table without empty lines before its header, and without one such as "sep=;", and what that says.

    Spreadsheets write and read such a line.
    """
    with text.open("rb") as source:
        stated, start = None, 0
        while line := source.readline():
            found = _SEPARATOR_LINE.fullmatch(line) if stated is None else None
            if found is None and line.strip(codecs.BOM_UTF8 + b" \t\r\n"):
                break
            stated, start = found or stated, source.tell()
        if not start:
            return text, None
        source.seek(start)
        copy = Path(tempfile.mkdtemp(dir=scratch)) / text.name
        with copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return copy, None if stated is None else stated[1].decode()


def records_of(
    lines: Iterable[str], separator: str, way: str, *, strict: bool = True
) -> Iterator[tuple[int, int, list[str]]]:
    """First line, last line and fields of each record."""
    if way == "none":
        for number, line in enumerate(lines, 1):
            bare = line.rstrip("\r\n")
            yield number, number, bare.split(separator) if bare else []
        return
    csv.field_size_limit(sys.maxsize)
    if way == "backslash":
        lines = (_ESCAPED.sub(lambda match: '""' if match[1] == '"' else "\\", line) for line in lines)
    reader = csv.reader(lines, delimiter=separator, strict=strict)
    start = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            opened = "unexpected end" in str(fault)
            why = (
                "a double quote is opened and never closed" if opened else "text stands beside a quoted field's quotes"
            )
            raise Malformed(start if opened else reader.line_num, why) from None
        yield start, reader.line_num, fields
        start = reader.line_num + 1


def separator_of(text: Path, file: Path, columns: int) -> str:
    """What stands between the fields: what gives most of the first records as many fields as the header.

    BadInput where the lines end as no program of this century ends them.
    """
    with text.open(encoding="utf-8-sig", newline="\n") as lines:
        sample = [line for line in lines.readlines(_LONGEST_SAMPLE) if line.strip("\r\n")][:_SAMPLE_LINES]
    if not sample:
        return ","
    if "\r" in sample[0].rstrip("\r\n"):
        raise BadInput(f"{file}: its lines end with CR alone; save it with ordinary line ends (LF, or CR LF)")
    usual = "\t" if file.suffix.lower() in (".tsv", ".tab") else ","
    best, highest = _most_agreed(sample, usual, columns)
    if columns and highest[0] < 0.9:  # the names do not fit the file: what it has is found for the refusal
        best, _ = _most_agreed(sample, usual, 0)
    return best


def _most_agreed(sample: list[str], usual: str, columns: int) -> tuple[str, tuple[float, int]]:
    best, highest = usual, (0.0, 0)
    for separator in sorted(_SEPARATORS, key=lambda one: one != usual):
        if separator == " " and highest[0] > 0:
            continue
        for way in ("none",) if len(separator) > 1 else ("double", "none"):
            score = _agreement(sample, separator, way, columns)
            if score > highest:
                best, highest = separator, score
    return best, highest


def _agreement(sample: list[str], separator: str, way: str, columns: int) -> tuple[float, int]:
    """Share of records with as many fields as the first (or as ``columns``), and that number; (0, 0) for one field."""
    sizes = []
    try:
        for _, _, fields in records_of(sample, separator, way):
            sizes.append(len(fields))
    except Malformed:
        if not sizes:
            return 0.0, 0
        sizes.append(0)  # the sample may end inside a record
    wanted = columns or sizes[0]
    if wanted < 2:
        return 0.0, 0
    body = sizes if columns or len(sizes) == 1 else sizes[1:]
    return sum(size == wanted for size in body) / max(1, len(body)), wanted
