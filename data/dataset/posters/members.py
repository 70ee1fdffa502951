"""Posters that lie inside a tar, a zip or a Parquet file, and are read there: no copy, no index, one read each.

A dataset's `poster` names such a one behind the file's path:

    shards/000.tar::1536+20480         the 20,480 bytes from 1,536 on; also of a zip that stores uncompressed
    posters.zip::1536+20480z           the same, deflated
    posters.parquet::image.bytes/3/17  row 17 of row group 3, in the column image.bytes
"""

from __future__ import annotations

import os
import re
import tarfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ...runtime.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARCHIVES = (".tar", ".zip")
_REFERENCE = re.compile(
    r"(?P<file>.+\.(?P<kind>tar|zip|parquet))::"
    r"(?:(?P<offset>\d{1,18})\+(?P<length>\d{1,18})(?P<packed>z?)|(?P<column>.+)/(?P<group>\d{1,9})/(?P<row>\d{1,9}))",
    re.DOTALL | re.IGNORECASE,
)
_MOST_CACHED = 512 * 2**20
_DONE_KEPT = 2
_FOOTERS_KEPT = 8


class MemberFault(Exception):
    """A poster is not where its reference says."""


class MemberTooLarge(MemberFault):
    """A poster has more bytes than are taken."""


@dataclass(frozen=True)
class Member:
    """One poster inside the file ``file``: ``length`` bytes at ``offset``, or a cell of a Parquet ``column``."""

    file: str
    offset: int = 0
    length: int = 0
    packed: bool = False
    column: str = ""
    group: int = 0
    row: int = 0

    @classmethod
    def parse(cls, poster: str) -> Member | None:
        """The member that a catalogue's poster names; None where it is the path of a file."""
        found = _REFERENCE.fullmatch(poster)
        if found is None or (found["column"] is not None) != (found["kind"].lower() == "parquet"):
            return None
        if found["column"] is not None:
            return cls(found["file"], column=found["column"], group=int(found["group"]), row=int(found["row"]))
        return cls(found["file"], int(found["offset"]), int(found["length"]), bool(found["packed"]))

    def __str__(self) -> str:
        """The reference, as `parse` reads it."""
        if self.column:
            return f"{self.file}::{self.column}/{self.group}/{self.row}"
        return f"{self.file}::{self.offset}+{self.length}" + "z" * self.packed

    def read(self, descriptor: int, most: int) -> bytes:
        """Its bytes, out of the open file; at most ``most`` of them. MemberFault where they are not there."""
        if self.column:
            return _CELLS.read(self, descriptor, most)
        if self.length > most:
            raise MemberTooLarge(f"{self.length:,} bytes")
        if self.offset + self.length > os.fstat(descriptor).st_size:
            raise MemberFault("the file ends before it")
        raw = os.pread(descriptor, self.length, self.offset)
        while len(raw) < self.length and (more := os.pread(descriptor, self.length - len(raw), self.offset + len(raw))):
            raw += more
        return _inflated(raw, most) if self.packed else raw


def _inflated(raw: bytes, most: int) -> bytes:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflate.decompress(raw, most + 1)
    except zlib.error as fault:
        raise MemberFault(str(fault)) from None
    if len(content) > most:
        raise MemberTooLarge("more bytes when inflated")
    if not inflate.eof:
        raise MemberFault("its data are cut off")
    return content


@dataclass
class _Group:
    """The cells of one row group, and how many reads are left until each may have been read once."""

    cells: Any
    unread: int


class _Cells:
    """Cells of Parquet columns, read a row group at a time: neighbours are mostly read one after another.

    Of groups of which as many cells were read as they have, only the last two stay, so that a pass over a whole file
    fills the same memory again and again: fresh pages cost more than the reading. Others stay up to `_MOST_CACHED`.
    Footers stay for a few files: parsing one takes longer the more row groups there are.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[Any, ...], _Group] = OrderedDict()
        self._footers: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[tuple[Any, ...], threading.Lock] = {}

    def read(self, member: Member, descriptor: int, most: int) -> bytes:
        found = os.fstat(descriptor)
        file = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        key = (*file, member.column, member.group)
        with self._lock:
            own = self._reading.setdefault(key, threading.Lock())
        with own:  # one thread reads a row group, the others wait for it
            with self._lock:
                group = self._groups.get(key)
            if group is None:
                cells, footer = _column_of(descriptor, member.column, member.group, self._footers.get(file))
                group = _Group(cells, len(cells))
                self._keep_footer(file, footer)
                self._keep(key, group)
        if member.row >= len(group.cells):
            raise MemberFault("no such row")
        value = group.cells[member.row].as_py()
        self._count(key, group)
        if value is None:
            raise MemberFault("the cell is empty")
        if len(value) > most:
            raise MemberTooLarge(f"{len(value):,} bytes")
        return bytes(value)

    def _keep_footer(self, file: tuple[int, ...], footer: Any) -> None:
        with self._lock:
            self._footers[file] = footer
            if len(self._footers) > _FOOTERS_KEPT:
                self._footers.popitem(last=False)

    def _keep(self, key: tuple[Any, ...], group: _Group) -> None:
        with self._lock:
            self._groups[key] = group
            while len(self._groups) > 1 and sum(one.cells.nbytes for one in self._groups.values()) > _MOST_CACHED:
                self._drop(next(iter(self._groups)))

    def _count(self, key: tuple[Any, ...], group: _Group) -> None:
        with self._lock:
            group.unread -= 1
            if group.unread == 0 and self._groups.get(key) is group:
                self._groups.move_to_end(key)
                for done in [key for key, group in self._groups.items() if group.unread <= 0][:-_DONE_KEPT]:
                    self._drop(done)

    def _drop(self, key: tuple[Any, ...]) -> None:
        del self._groups[key]
        self._reading.pop(key, None)


def _column_of(descriptor: int, column: str, group: int, footer: Any | None) -> tuple[Any, Any]:
    """The cells of a row group, and the file's footer: the one given, or as read."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            stream.seek(0)
            file = pq.ParquetFile(stream, metadata=footer, pre_buffer=False)
            if group >= file.num_row_groups:
                raise MemberFault("no such row group")
            cells = file.read_row_group(group, columns=[column], use_threads=False).column(0)
        for name in column.split(".")[1:]:
            cells = pc.struct_field(cells, name)
        if not (pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type)):
            raise MemberFault(f"the column holds {cells.type}")
        return cells, file.metadata
    except (pa.ArrowException, OSError, KeyError, IndexError) as fault:
        raise MemberFault(str(fault).splitlines()[0] if str(fault) else "unreadable") from None


_CELLS = _Cells()


def archive_members(file: Path) -> Iterator[tuple[str, Member]]:
    """Name and place of every regular file in a tar or zip, as it can be read in place; ``Member.file`` is its name.

    BadInput where the archive is compressed as a whole, encrypted, or broken.
    """
    try:
        if file.suffix.lower() == ".zip":
            yield from _zip_members(file)
        else:
            with tarfile.open(file, "r:") as archive:
                for entry in archive:
                    if entry.isreg() and not entry.issparse():
                        yield entry.name, Member(file.name, entry.offset_data, entry.size)
                    archive.members = []  # type: ignore[attr-defined]  # else all entries stay in memory
    # NotImplementedError: a version of zip that zipfile does not know
    except (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, EOFError) as fault:
        raise BadInput(
            f"{file} cannot be read as {file.suffix[1:]} ({fault}); a compressed tar (.tar.gz) has to be unpacked: "
            "posters are read in place"
        ) from None


def _zip_members(file: Path) -> Iterator[tuple[str, Member]]:
    with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
                raise BadInput(
                    f"{file}, member {entry.filename}: compressed by other means than deflate, or encrypted; "
                    "unpack the archive, or make it again with plain zip"
                )
            start = _data_of(stream, entry)
            yield entry.filename, Member(file.name, start, entry.compress_size, entry.compress_type != 0)


def _data_of(stream: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where a member's data start: behind its local header, whose extra field may be longer than the directory's."""
    stream.seek(entry.header_offset)
    header = stream.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no local header of {entry.filename}")
    name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return entry.header_offset + 30 + name + extra
