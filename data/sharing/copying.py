"""Carrying out a plan: bytes copied from local files, every row checked, the header last of all."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.format.header import Header
from ..embeddings.format.layout import UNKNOWN_SHA256
from ..embeddings.verification import checksums_now, row_checker
from ..runtime.disk import put_in_place, read_all, reserve, write_all, writing, written_behind
from ..runtime.errors import BadInput, DamagedFile
from ..runtime.lock import sole_writer
from ..runtime.parallel import blocks_of_rows, side_by_side
from .copy_plan import Plan, with_input_ids
from .lineage import with_digest

_BLOCK = 8 * 2**20
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
_MOST_NAMED = 5
_NOTHING: Mapping[str, npt.NDArray[np.uint64]] = {}


@contextmanager
def new_file(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """The right to make `out`, and the name under which to make it; it gets its own when the block ends well.

    An error or Ctrl-C leaves nothing behind; what a killed job left under the working name, the next one replaces.
    Raises BadInput where `out` is there already or its folder is not, Busy where another process makes it.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"{out}: expected the path of a file to write in a folder that exists")
    with sole_writer(out):
        if out.exists() and not overwrite:
            raise BadInput(f"{out}: is there already; choose another name, or say --overwrite")
        working = out.with_name(f".{out.name}.new")
        try:
            yield working
            with writing(out):
                put_in_place(working, out)
        finally:
            with suppress(OSError):
                working.unlink(missing_ok=True)


@contextmanager
def created(working: Path) -> Iterator[int]:
    """A descriptor that reads and writes the file `working`, which is new and empty; the disk is kept at work."""
    descriptor = os.open(working, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with written_behind(descriptor):
            yield descriptor
    finally:
        os.close(descriptor)


def begin(plan: Plan, descriptor: int) -> None:
    """Reserve the place of the whole file and write what is known of it by now. Raises OSError (ENOSPC) if it cannot.

    No header is written, so the file is no embedding file before `finish`.
    """
    reserve(descriptor, plan.header.file_length)
    for offset, content in plan.known:
        write_all(descriptor, content, offset)


def copy_locally(plan: Plan, descriptor: int, sources: Sequence[Path], progress: Callable[[int], None]) -> None:
    """Copy every run of bytes of `plan` from local files; `progress` gets the bytes of each piece."""
    for path, copies in zip(sources, plan.copies, strict=True):
        with path.open("rb") as source:
            for offset, length, place in copies.tolist():
                copy_run(source.fileno(), descriptor, (offset, length, place), path, progress)


def copy_run(source: int, target: int, run: tuple[int, int, int], path: Path, progress: Callable[[int], None]) -> None:
    """Copy one run (source offset, length, target offset) between two descriptors. Raises DamagedFile at an early end.

    `path` is the source's name.
    """
    offset, length, place = run
    while length:
        count = _copy_some(source, target, offset, min(length, _BLOCK), place)
        if count == 0:
            raise DamagedFile(f"{path}: it became shorter while it was read")
        offset, length, place = offset + count, length - count, place + count
        progress(count)


def _copy_some(source: int, target: int, offset: int, length: int, place: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, length, offset, place)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
    block = os.pread(source, length, offset)
    write_all(target, block, place)
    return len(block)


def finish(
    plan: Plan,
    path: Path,
    *,
    progress: Callable[[int], None] = lambda _: None,
    made: Mapping[str, npt.NDArray[np.uint64]] = _NOTHING,
) -> Header:
    """Check every row that was copied to `path`, write the checksums, then the header; the file is whole.

    `made` has the checksums (N,) of modalities whose rows were not copied but made by the caller. `progress` gets the
    number of bytes checked each time. Returns the header as written. Raises DamagedFile naming the rows whose bytes
    are not what their checksum says; then there is no header.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for name, checksums in {**plan.checksums, **made}.items():
            write_all(descriptor, checksums.astype("<u8").tobytes(), plan.header.datasets[f"{name}/checksum"].offset)
        header = with_input_ids(plan, _sha256_of(descriptor, plan.header, "text/input_ids"))
        write_all(descriptor, header.encode(), 0)
        try:
            _check_rows(plan, path, descriptor, progress, [name for name in plan.checksums if name not in made])
        except BaseException:
            write_all(descriptor, bytes(header.user_block), 0)
            raise
        with EmbeddingFile.open(path, pending=True) as file:
            header = replace(header, about=with_digest(header.about, file.content_digest))
        write_all(descriptor, header.encode(), 0)
    finally:
        os.close(descriptor)
    return header


def _sha256_of(descriptor: int, header: Header, name: str) -> str:
    dataset = header.datasets.get(name)
    if dataset is None:
        return UNKNOWN_SHA256
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_BLOCK, max(dataset.length, 1))))
    for start in range(0, dataset.length, len(buffer)):
        block = buffer[: min(len(buffer), dataset.length - start)]
        read_all(descriptor, block, dataset.offset + start)
        digest.update(block)
    return digest.hexdigest()


def _check_rows(
    plan: Plan, path: Path, descriptor: int, progress: Callable[[int], None], modalities: Sequence[str]
) -> None:
    damaged: list[str] = []
    count = 0
    with EmbeddingFile.open(path, pending=True) as file:
        for name in modalities:
            expected, renewed, modality = plan.checksums[name], plan.renewed[name], file[name]
            place = plan.header.datasets[f"{name}/checksum"].offset
            rows = np.flatnonzero(expected)
            tokens = modality.offsets[rows + 1] - modality.offsets[rows]
            ends = np.cumsum((modality.width + tokens * modality.token_width) * modality.raw_cls.itemsize)
            blocks = [rows[first:end] for first, end in blocks_of_rows(ends, _BLOCK)]
            with side_by_side(partial(_checksums, file, name), blocks) as checked:
                for read, checksums in checked:
                    progress(read)
                    for row, checksum in checksums:
                        if renewed[row]:
                            write_all(descriptor, struct.pack("<Q", checksum), place + 8 * row)
                        elif checksum != int(expected[row]):
                            count += 1
                            damaged += [f"{name} of item {_item(file, row)}"] if count <= _MOST_NAMED else []
    if count:
        raise damaged_rows(plan.sources, damaged, count)


def _checksums(file: EmbeddingFile, name: str, rows: npt.NDArray[np.int64]) -> tuple[int, list[tuple[int, int]]]:
    """How many bytes `rows` have, and the checksum that each of them has now."""
    read: list[int] = []
    checksums = list(checksums_now(file, name, rows, read.append))
    return sum(read), checksums


def damaged_rows(sources: Sequence[str], damaged: Sequence[str], count: int) -> DamagedFile:
    """The refusal to copy rows that are not what they were."""
    more = f" and {count - len(damaged):,} more" if count > len(damaged) else ""
    return DamagedFile(
        f"{', '.join(sources)}: {count:,} rows are damaged ({', '.join(damaged)}{more}): nothing was written; "
        "`cinefuse extract` computes them again, `cinefuse cache verify` names them all"
    )


def _item(file: EmbeddingFile, row: int) -> Any:
    return file.ids[row].item()


def refuse_damaged(file: EmbeddingFile, name: str, rows: npt.NDArray[np.int64]) -> None:
    """Check `rows` of a file against their checksums. Raises DamagedFile naming those that are damaged."""
    stored = file[name].checksum
    damaged = [row for row, checksum in checksums_now(file, name, rows) if checksum != int(stored[row])]
    if damaged:
        named = [f"{name} of item {_item(file, row)}" for row in damaged[:_MOST_NAMED]]
        raise damaged_rows([str(file.path)], named, len(damaged))


def damage_refused(file: EmbeddingFile, name: str) -> Callable[[npt.NDArray[np.intp]], None]:
    """What `refuse_damaged` does, for callers that go through a file a few rows at a time: it keeps one reader."""
    check, stored = row_checker(file, name), file[name].checksum

    def refuse(rows: npt.NDArray[np.intp]) -> None:
        damaged = [row for row in rows.tolist() if check(row) != int(stored[row])]
        if damaged:
            named = [f"{name} of item {_item(file, row)}" for row in damaged[:_MOST_NAMED]]
            raise damaged_rows([str(file.path)], named, len(damaged))

    return refuse
