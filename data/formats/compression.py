"""An embedding file compressed for the way: standard gzip or zstd, which `gunzip` and `zstd -d` undo without cinefuse.

The flat file is cut into blocks of 4 MiB, each a gzip member or zstd frame of its own (the formats allow any number of
them one behind the other), so that memory stays flat on both sides. Nothing in a compressed file is believed: its first
bytes must be an embedding file's header, which says how long the whole is, and not a byte more is ever decompressed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..embeddings.file import EmbeddingFile
from ..embeddings.format.header import FIRST_LINE_LENGTH
from ..embeddings.format.header_checks import declared_length, user_block_size
from ..runtime.disk import reserve, write_all, writing
from ..runtime.errors import BadInput, DamagedFile, UsageError
from ..runtime.parallel import side_by_side
from ..sharing.copying import created, new_file

COMPRESSIONS: Final = {"gzip": ".gz", "zstd": ".zst"}
_BLOCK: Final = 4 * 2**20
_MAGIC: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_LARGEST_FRAME: Final = 64 * 2**20  # what another program's zstd may keep in memory to decompress
_LEVEL: Final = {"gzip": 1, "zstd": 3}  # higher ones took many times longer for a hundredth of the size


def compression_of(path: Path) -> str | None:
    """ "gzip" or "zstd" by a file's first bytes; None for anything else. Raises BadInput where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such embedding file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def compress(
    source: Path,
    out: Path,
    compression: str,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write `source`, a finished or unfinished embedding file, compressed to `out`; returns the bytes written.

    `progress` receives the bytes of `source` compressed each time. Raises UsageError for an unknown compression or
    where zstd is not installed, and what opening `source` and `new_file` raise.
    """
    if compression not in COMPRESSIONS:
        raise UsageError(f"--compression: expected {' or '.join(COMPRESSIONS)}, found {compression}")
    pack = _packer(compression)
    with EmbeddingFile.open(source, pending=True) as file, new_file(out, overwrite=overwrite) as working, writing(out):
        length = file.header.file_length
        with source.open("rb") as flat, working.open("wb") as packed:
            with side_by_side(pack, _blocks(flat, length, source)) as parts:
                for at, part in zip(range(0, length, _BLOCK), parts, strict=True):
                    packed.write(part)
                    progress(min(_BLOCK, length - at))
            written = packed.tell()
    return written


def decompress(
    source: Path, out: Path, *, overwrite: bool = False, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Write to `out` the embedding file that `source` holds compressed, bit for bit.

    Its place on the disk is reserved once the header is read. Raises DamagedFile where it is cut short, holds
    something else or more than its header says, and what `new_file` raises.
    """
    compression = compression_of(source)
    if compression is None:
        raise DamagedFile(f"{source}: expected gzip or zstd, found something else")
    with (
        source.open("rb") as packed,
        closing(_unpacked(packed, compression, source)) as blocks,
        new_file(out, overwrite=overwrite) as working,
        writing(out),
    ):
        head = _head(blocks, source)
        length = _declared_length(head, source)
        with created(working) as descriptor:
            reserve(descriptor, length)
            at = 0
            for block in chain([head], blocks):
                if at + len(block) > length:
                    raise DamagedFile(
                        f"{source}: holds more than the {length:,} bytes that its header says; do not use it"
                    )
                write_all(descriptor, block, at)
                at += len(block)
                progress(len(block))
        if at != length:
            raise DamagedFile(f"{source}: cut short: expected {length:,} bytes inside, found {at:,}; fetch it again")
        EmbeddingFile.open(working, pending=True).close()


def _blocks(flat: BinaryIO, length: int, source: Path) -> Iterator[bytes]:
    for at in range(0, length, _BLOCK):
        block = flat.read(min(_BLOCK, length - at))
        if len(block) < min(_BLOCK, length - at):
            raise DamagedFile(f"{source}: it became shorter while it was read")
        yield block


def _packer(compression: str) -> Callable[[bytes], bytes]:
    if compression == "gzip":
        return _gzip_member
    zstandard = _zstandard()

    def zstd_frame(block: bytes) -> bytes:
        # a compressor of its own: they cannot be shared by threads
        packer = zstandard.ZstdCompressor(level=_LEVEL["zstd"], write_checksum=True, write_content_size=True)
        frame: bytes = packer.compress(block)
        return frame

    return zstd_frame


def _gzip_member(block: bytes) -> bytes:
    # 31: zlib's way to ask for gzip's header, which holds no time and no name: equal files give equal bytes
    packer = zlib.compressobj(_LEVEL["gzip"], zlib.DEFLATED, 31)
    return packer.compress(block) + packer.flush()


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise UsageError("zstd needs the package zstandard: pip install 'cinefuse[share]', or use gzip") from None
    return zstandard


def _unpacked(packed: BinaryIO, compression: str, source: Path) -> Generator[bytes]:
    """The decompressed bytes, a few `_BLOCK` at a time, whatever the file claims."""
    return _ungzipped(packed, source) if compression == "gzip" else _unzstd(packed, source)


def _ungzipped(packed: BinaryIO, source: Path) -> Generator[bytes]:
    rest = packed.read(_BLOCK)
    while rest:
        member = zlib.decompressobj(31)
        while not member.eof:
            try:
                block = member.decompress(rest, _BLOCK)
            except zlib.error as error:
                raise DamagedFile(f"{source}: damaged gzip ({error}); fetch it again") from None
            rest = member.unconsumed_tail or (b"" if member.eof else packed.read(_BLOCK))
            if block:
                yield block
            elif not rest and not member.eof:
                raise DamagedFile(f"{source}: cut short in the middle of a gzip member; fetch it again")
        rest = member.unused_data or packed.read(_BLOCK)


@dataclass(frozen=True)
class _Frame:
    """Where a zstd frame lies, and how long its content is, where its header gives it (else -1)."""

    offset: int
    length: int
    content: int

    @property
    def is_small(self) -> bool:
        """Whether it may be read and decompressed as a whole."""
        return 0 <= self.content <= _BLOCK and self.length <= 2 * _BLOCK


def _unzstd(packed: BinaryIO, source: Path) -> Generator[bytes]:
    zstandard = _zstandard()

    def content(frame: _Frame) -> bytes:
        whole: bytes = _unpacker(zstandard).decompress(os.pread(packed.fileno(), frame.length, frame.offset))
        return whole

    try:
        # ours are small, and several are decompressed at once; another program's may be one large frame, read in pieces
        for small, frames in groupby(_frames(packed, zstandard, source), lambda frame: frame.is_small):
            if small:
                with side_by_side(content, frames) as blocks:
                    yield from blocks
            else:
                for frame in frames:
                    packed.seek(frame.offset)
                    with _unpacker(zstandard).stream_reader(packed, closefd=False) as reader:
                        while block := reader.read(_BLOCK):
                            yield block
    except zstandard.ZstdError as error:
        raise DamagedFile(f"{source}: damaged zstd ({error}); fetch it again") from None


def _unpacker(zstandard: Any) -> Any:
    return zstandard.ZstdDecompressor(max_window_size=_LARGEST_FRAME)  # each thread needs its own


def _frames(packed: BinaryIO, zstandard: Any, source: Path) -> Iterator[_Frame]:
    """The frames of a zstd file (RFC 8878: headers give the lengths of blocks). Raises DamagedFile for a cut one.

    zstandard's reader does not notice a last frame that lacks its end, where the checksum of its content is.
    """
    at, size = 0, os.fstat(packed.fileno()).st_size
    while at < size:
        start = at
        head = os.pread(packed.fileno(), 18, at)
        if head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:  # to be skipped: its length follows
            at += 8 + int.from_bytes(head[4:8], "little")
            continue
        parameters = zstandard.get_frame_parameters(head)
        at += int(zstandard.frame_header_size(head))
        last = False
        while not last and at < size:
            block = int.from_bytes(os.pread(packed.fileno(), 3, at), "little")
            last, kind = bool(block & 1), block >> 1 & 3
            at += 3 + (1 if kind == 1 else block >> 3)  # kind 1: one byte, repeated
        at += 4 * bool(parameters.has_checksum)
        if not last or at > size:
            break
        unknown = parameters.content_size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)
        yield _Frame(start, at - start, -1 if unknown else parameters.content_size)
    if at != size:
        raise DamagedFile(f"{source}: cut short in the middle of a zstd frame; fetch it again")


def _head(blocks: Iterator[bytes], source: Path) -> bytes:
    """The first bytes of the flat file: at least its whole user block."""
    head = b""
    needed = FIRST_LINE_LENGTH
    for block in blocks:
        head += block
        if len(head) >= FIRST_LINE_LENGTH:
            needed = user_block_size(head[:FIRST_LINE_LENGTH], f"{source} (decompressed)")
        if len(head) >= needed:
            return head
    raise DamagedFile(f"{source}: holds no embedding file: {len(head):,} bytes inside, expected {needed:,} at least")


def _declared_length(head: bytes, source: Path) -> int:
    name = f"{source} (decompressed)"
    return declared_length(head[: user_block_size(head[:FIRST_LINE_LENGTH], name)], name)
