"""Delimited text as it is found: what stands between fields and what quotes mean, judged by all of the file.

A file without a double quote is scanned by Polars. One with quotes is read record by record, because a quote that
stands for itself (`"Swing" the Master`) would swallow rows in silence: every record must have the header's fields.
"""

from __future__ import annotations

import mmap
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import BadInput, UsageError
from ..runtime.parquet import scan_parquet
from .records import Malformed, records_of, separator_of, without_first_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


# Beside the source's own columns, so a name that no source has.
ROW = "__row"
QUOTES = ("auto", "double", "backslash", "none")
_UNIT = "\x1f"  # in place of a separator of two characters, which Polars does not cut at
_ROWS_AT_ONCE = 50_000
_LARGE = 1 << 26


@dataclass(frozen=True)
class Layout:
    """What a user says of a delimited file; the rest is found out.

    ``quotes`` is one of QUOTES: "double" writes a quote inside quoted text twice, "backslash" puts one before it, with
    "none" a quote stands for itself. ``columns`` names the columns of a file without a header. ``skip`` leaves out and
    counts records with more fields than the header; ``lenient`` takes what stands beside a quoted field's quotes as its
    text, for sources that are known to need it.
    """

    quotes: str = "auto"
    columns: tuple[str, ...] = ()
    separator: str | None = None
    skip: bool = False
    lenient: bool = False

    def __post_init__(self) -> None:
        """Refuse (UsageError) an unknown way to quote."""
        if self.quotes not in QUOTES:
            raise UsageError(f"--quote {self.quotes}: expected {', '.join(QUOTES)}")


@dataclass
class _Found:
    """What reading one file came upon."""

    notes: list[str] = field(default_factory=list)
    short: list[int] = field(default_factory=list)
    long: list[int] = field(default_factory=list)


def scan_text(file: Path, separator: str, names: list[str] | None = None, *, quotes: bool = True) -> pl.LazyFrame:
    """Scan delimited UTF-8 text, all columns String, with ROW from 0; wholly empty lines are left out.

    ``names`` are the columns of a file without a header.
    """
    frame = pl.scan_csv(
        file,
        glob=False,
        separator=separator,
        has_header=names is None,
        new_columns=names,
        infer_schema=False,
        quote_char='"' if quotes else None,
        row_index_name=ROW,
    )
    return frame.filter(~pl.all_horizontal(pl.exclude(ROW).is_null()))


def read_delimited(file: Path, text: Path, scratch: Path, layout: Layout) -> tuple[pl.LazyFrame, list[str]]:
    """Read the UTF-8 ``text`` of ``file``: all columns String, ROW from 0, and what is to be known of the reading.

    BadInput, naming the line, where no way of reading gives every record the header's fields.
    """
    text, stated = without_first_lines(text, scratch)
    separator = layout.separator or stated or separator_of(text, file, len(layout.columns))
    where = Path(tempfile.mkdtemp(dir=scratch))
    _refuse_other_width(file, text, separator, layout)
    found = _Found()
    quoted = layout.quotes != "none" and len(separator) == 1 and _holds(text, b'"')
    if not quoted and not layout.skip:
        if len(separator) > 1:
            text, separator = _cut_at_units(text, separator, where / "units"), _UNIT
        names = list(layout.columns) or None
        found.short = _short_lines(file, text, separator, names)
        frame = scan_text(text, separator, names, quotes=False)
    else:
        frame = _records(file, text, where, separator, layout, found, quoted=quoted)
    for kind, lines, what in (("fewer", found.short, "the rest is empty"), ("more", found.long, "they were left out")):
        if lines:
            some = ", ".join(f"{line:,}" for line in lines[:3]) + ", ..." * (len(lines) > 3)
            found.notes.append(
                f"{file.name}: {len(lines):,} records have {kind} fields than the header (line {some}); {what}"
            )
    return frame, found.notes


def _refuse_other_width(file: Path, text: Path, separator: str, layout: Layout) -> None:
    """BadInput where the first record has another number of fields than ``layout`` names columns."""
    if not layout.columns or layout.skip:
        return
    quotes = layout.quotes if layout.quotes in ("none", "backslash") else "double"
    with text.open(encoding="utf-8-sig", newline="") as lines:
        try:
            _, _, fields = next(records_of(lines, separator, "none" if len(separator) > 1 else quotes), (1, 1, []))
        except Malformed:
            return
    if fields and len(fields) != len(layout.columns):
        raise BadInput(
            f"{file}: {len(layout.columns)} columns are named ({', '.join(layout.columns)}), and its first line has "
            f"{len(fields)} fields; name each of them"
        )


def _records(
    file: Path, text: Path, where: Path, separator: str, layout: Layout, found: _Found, *, quoted: bool
) -> pl.LazyFrame:
    """Try the ways to quote in turn; the first that gives every record the header's fields is the file's."""
    ways = [layout.quotes] if layout.quotes != "auto" else ["double"]
    if not quoted:
        ways = ["none"]
    elif layout.quotes == "auto":
        ways += ["backslash"] * _holds(text, b'\\"')
        ways += ["none"] * (separator not in ",;")  # between commas a quote is hardly ever meant for itself
    first: Malformed | None = None
    for way in ways:
        found.short.clear()
        found.long.clear()
        strict = way == "none" and layout.quotes == "auto" and not layout.skip
        try:
            frame, merged = _blocks(text, where / way, separator, way, layout, found)
            if strict and found.short:
                raise Malformed(found.short[0], "fewer fields than the header has columns")
        except Malformed as fault:
            first = first or fault
            continue
        if way == "double" and layout.quotes == "auto" and merged and _every_line_is_whole(text, separator, layout):
            first = first or Malformed(merged, "a double quote is opened there and closed in a later line")
            continue
        if first is not None and way == "none":
            found.notes.append(
                f"{file.name}: double quotes stand for themselves ({first}); --quote none says so beforehand"
            )
        return frame
    raise BadInput(
        f'{file} cannot be read as a table: {first}; inside quoted text write a double quote twice, as "", '
        "or say --quote none if quotes stand for themselves"
    )


def _blocks(
    text: Path, where: Path, separator: str, way: str, layout: Layout, found: _Found
) -> tuple[pl.LazyFrame, int]:
    """Write records to Parquet, block by block. Also the first line of the first record that spans lines, else 0."""
    where.mkdir()
    files: list[Path] = []
    merged = 0
    with text.open(encoding="utf-8-sig", newline="") as lines:
        records = records_of(lines, separator, way, strict=not layout.lenient)
        names = list(layout.columns) or _unique(next(records, (1, 1, [""]))[2])
        block: list[list[str | None]] = []
        rows: list[int] = []
        for row, (start, end, fields) in enumerate(records):
            if end > start and not merged:
                merged = start
            if not any(fields):
                continue
            if len(fields) > len(names):
                if not layout.skip:
                    raise Malformed(start, f"{len(fields)} fields, where the header has {len(names)} columns")
                found.long.append(start)
                continue
            if len(fields) < len(names):
                found.short.append(start)
            block.append([value or None for value in fields] + [None] * (len(names) - len(fields)))
            rows.append(row)
            if len(block) == _ROWS_AT_ONCE:
                files.append(_write_block(block, rows, names, where / f"{len(files):06}.parquet"))
                block, rows = [], []
        if block or not files:
            files.append(_write_block(block, rows, names, where / f"{len(files):06}.parquet"))
    return scan_parquet(files), merged


def _write_block(block: list[list[str | None]], rows: list[int], names: list[str], file: Path) -> Path:
    columns: Iterable[Sequence[str | None]] = zip(*block, strict=True) if block else ([] for _ in names)
    series = [pl.Series(ROW, rows, dtype=pl.get_index_type())]
    series += [pl.Series(name, values, dtype=pl.String) for name, values in zip(names, columns, strict=True)]
    pl.DataFrame(series).write_parquet(file, compression="lz4")
    return file


def _every_line_is_whole(text: Path, separator: str, layout: Layout) -> bool:
    """Whether each line by itself has the header's fields, quotes taken for themselves."""
    with text.open(encoding="utf-8-sig", newline="") as lines:
        fields = len(layout.columns) or lines.readline().count(separator) + 1
        return fields > 1 and all(line.count(separator) == fields - 1 for line in lines if line.strip("\r\n"))


def _short_lines(file: Path, text: Path, separator: str, names: list[str] | None) -> list[int]:
    """Numbers of the lines with fewer fields than the header (or ``names``); BadInput where one has more.

    One pass that counts bytes where all is well: a file of 25 million ratings must not be cut up twice.
    """
    cut = separator.encode()
    with text.open("rb") as stream:
        columns = len(names) if names else stream.readline().count(cut) + 1
        stream.seek(0)
        cuts = ends = 0
        last = b"\n"
        while block := stream.read(1 << 22):
            cuts, ends, last = cuts + block.count(cut), ends + block.count(b"\n"), block[-1:]
        # long and short lines may make up for each other
        if cuts == (columns - 1) * (ends + (last != b"\n")) and not _is_ragged(text, separator, names):
            return []
        stream.seek(0)
        short = []
        for number, line in enumerate(stream, 1):
            fields = line.count(cut) + 1
            if fields > columns:
                raise BadInput(
                    f"{file} cannot be read as a table: a row has more fields than the header has columns (line "
                    f"{number:,}: {fields}, expected {columns}); put text that holds the separator in double quotes"
                )
            if fields < columns and line.strip(b"\r\n"):
                short.append(number)
        return short


def _is_ragged(text: Path, separator: str, names: list[str] | None) -> bool:
    """Whether a line has more fields than the header. Of a large file Polars finds out when it is used."""
    if text.stat().st_size > _LARGE:
        return False
    try:
        scan_text(text, separator, names, quotes=False).select(pl.len()).collect(engine="streaming")
    except pl.exceptions.PolarsError:
        return True
    return False


def _unique(header: list[str]) -> list[str]:
    """The names of a header, each once: a second "x" is "x_2", a nameless one "column_N"."""
    seen: Counter[str] = Counter()
    names = []
    for number, given in enumerate(header, 1):
        name = given or f"column_{number}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def _holds(file: Path, wanted: bytes) -> bool:
    if not file.stat().st_size:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(wanted) >= 0


def _cut_at_units(text: Path, separator: str, copy: Path) -> Path:
    with text.open("rb") as source, copy.open("wb") as target:
        for line in source:
            target.write(line.replace(separator.encode(), _UNIT.encode()))
    return copy
