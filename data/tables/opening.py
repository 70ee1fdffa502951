"""A table's file opened by what it is: its suffix, what compresses it, its encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import shutil
import tempfile
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..runtime.errors import BadInput, UsageError
from ..runtime.parquet import scan_parquet
from ..runtime.zip_archives import ZIP_FAULTS, files_in_zip, unpack_file
from .delimited import ROW, Layout, read_delimited
from .json_records import read_records
from .table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

_DELIMITED = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data", ".inter", ".item", ".user")
_JSON = (".jsonl", ".ndjson", ".json")
_COMPRESSED: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_NO_TABLES = {
    b"PK\x03\x04": "a spreadsheet or zip under another name: save it as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "a spreadsheet under another name: save it as CSV",
    b"\x1f\x8b": "compressed by gzip: give it a name that ends in .gz",
    b"PAR1": "Parquet: give it a name that ends in .parquet",
    b"<!doctype": "a web page, not a table: fetch it again",
    b"<html": "a web page, not a table: fetch it again",
    b"version https://git-lfs": "a pointer that Git LFS left in place of the table: fetch it by `git lfs pull`",
}
_TYPED = (":token", ":float", ":token_seq", ":float_seq")


def open_table(file: Path, scratch: Path, encoding: str = "utf-8", layout: Layout | None = None) -> Table:
    """Open a table by its suffix: delimited text, Parquet or JSON, also compressed (.gz, .bz2, .xz, a .zip of one).

    Delimited text is .csv, .tsv, .txt, .dat and the like; what separates its fields is found out, unless ``layout``
    says. Text that is not valid in ``encoding`` is refused (BadInput naming the line), never guessed. ``scratch`` takes
    unpacked and re-encoded copies, which are as large as the table.
    """
    if not file.is_file():
        raise BadInput(f"{file}: {'expected a table, found a folder' if file.is_dir() else 'no such file'}")
    try:
        plain = _unpacked(file, scratch)
        suffix = plain.suffix.lower()
        if suffix == ".parquet":
            _refuse_another_kind(file, plain, but=b"PAR1")
            table = Table(file.name, scan_parquet(plain).with_row_index(ROW))
        elif suffix in _JSON:
            _refuse_another_kind(file, plain)
            table = Table(file.name, *read_records(file, as_utf8(plain, scratch, encoding), scratch))
        elif suffix in _DELIMITED:
            _refuse_another_kind(file, plain)
            text = as_utf8(plain, scratch, encoding)
            table = Table(file.name, *read_delimited(file, text, scratch, layout or Layout()))
            table = _without_types(table)
        else:
            known = ", ".join((*_DELIMITED, ".parquet", *_JSON))
            raise BadInput(
                f"{file}: expected {known}, perhaps with .gz or in a .zip, found {suffix or 'no suffix'!r}; save it as "
                "one of these"
            )
        table.columns  # noqa: B018  a table that cannot be read is found out here
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise BadInput(f"{file} cannot be read as a table: {str(fault).splitlines()[0]}") from None
    return table


def _unpacked(file: Path, scratch: Path) -> Path:
    """The file itself, or an unpacked copy of it under its name without the last suffix."""
    if file.suffix.lower() == ".zip":
        return _only_member(file, scratch)
    unpack = _COMPRESSED.get(file.suffix.lower())
    if unpack is None:
        return file
    copy = Path(tempfile.mkdtemp(dir=scratch)) / file.stem
    try:
        with unpack(file) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as fault:
        raise BadInput(f"{file} cannot be unpacked ({fault}): fetch it again") from None
    return copy


def _only_member(file: Path, scratch: Path) -> Path:
    """A copy of the one file in a zip; BadInput where there are more, or none."""
    try:
        entries = files_in_zip(file)
        if len(entries) != 1:
            names = ", ".join(entry.filename for entry in entries[:5])
            raise BadInput(
                f"{file}: expected a zip of one table, found {len(entries):,} files ({names}); unpack it, and name the "
                "table"
            )
        copy = Path(tempfile.mkdtemp(dir=scratch)) / Path(entries[0].filename).name
        unpack_file(file, entries[0], copy)
    except ZIP_FAULTS as fault:
        raise BadInput(f"{file} cannot be unpacked ({fault}): fetch it again, or unpack it by hand") from None
    return copy


def _refuse_another_kind(file: Path, text: Path, but: bytes | None = None) -> None:
    """BadInput for what often lies under a table's name and is none; ``but`` is how this kind begins."""
    with text.open("rb") as stream:
        start = stream.read(512).lstrip(codecs.BOM_UTF8 + b" \t\r\n")
    kind = next(
        (
            says
            for begins, says in _NO_TABLES.items()
            if begins != but and start[: len(begins)].lower() == begins.lower()
        ),
        None,
    )
    if kind is not None:
        raise BadInput(f"{file} is {kind}")


def _without_types(table: Table) -> Table:
    """RecBole writes a column's type behind its name: "genres:token_seq" is genres, its words separated by spaces."""
    names = table.columns
    if not names or not all(name.endswith(_TYPED) for name in names):
        return table
    columns = [pl.col(ROW)]
    for name in names:
        plain, _, kind = name.rpartition(":")
        column = pl.col(name).str.split(" ") if kind.endswith("_seq") else pl.col(name)
        columns.append(column.alias(plain))
    return Table(table.name, table.frame.select(columns), table.notes)


def utf8_or_latin(file: Path, scratch: Path) -> str:
    """The encoding of a text file of a source that is known to use one of these two: "utf-8", else "latin-1"."""
    try:
        as_utf8(file, scratch, "utf-8")
    except BadInput:
        return "latin-1"
    return "utf-8"


def as_utf8(file: Path, scratch: Path, encoding: str) -> Path:
    """Check a text file's encoding to the end; return it, or a UTF-8 copy of it where it has another one."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise UsageError(f"--encoding {encoding}: unknown; for instance utf-8, latin-1, cp1252, utf-16") from None
    if name == "utf-8" and _starts_as_utf16(file):  # as spreadsheets save "Unicode text"
        name = "utf-16"
    copy = None if name == "utf-8" else Path(tempfile.mkdtemp(dir=scratch)) / file.name
    decoder = codecs.getincrementaldecoder(name)()
    line = 1
    with file.open("rb") as source, copy.open("wb") if copy else nullcontext() as target:
        while True:
            block = source.read(1 << 22)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as fault:
                line += fault.object[: fault.start].count(b"\n")
                byte = fault.object[fault.start]
                raise BadInput(
                    f"{file} is not valid {name}: byte 0x{byte:02x} in line {line:,}; say how it is encoded, for "
                    "instance --encoding cp1252 or --encoding latin-1"
                ) from None
            line += block.count(b"\n")
            if target:
                target.write(text.encode("utf-8", "replace"))
            if not block:
                return copy or file


def _starts_as_utf16(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
