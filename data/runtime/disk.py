"""Atomic writes, and the operating system's disk errors as refusals of one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BadInput, NoSpace

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_SECONDS_BETWEEN_SENDING = 0.02


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing `path` into NoSpace (exit code 7) or BadInput (exit code 3)."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _FULL:
            raise NoSpace(
                f"{path}: the disk is full ({reason}); free some space and run the same command again: "
                "what is finished is kept"
            ) from error
        raise BadInput(
            f"{path}: cannot be written ({reason}); mend that and run the same command again: what is finished is kept"
        ) from error


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """`os.pwrite` all of `data` at byte `offset`, however many calls it takes."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        if written == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest, offset = rest[written:], offset + written


def write_all_appending(descriptor: int, data: bytes) -> None:
    """`os.write` all of `data`, however many calls it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_all(descriptor: int, buffer: memoryview, offset: int) -> None:
    """Fill `buffer` from byte `offset`. Raises EOFError where the file ends first."""
    while buffer:
        count = os.preadv(descriptor, [buffer], offset)
        if count == 0:
            raise EOFError
        buffer, offset = buffer[count:], offset + count


def reserve(descriptor: int, length: int) -> None:
    """Make the file `length` bytes long with room on the disk for them. Raises OSError (ENOSPC) if there is none.

    Where the system cannot reserve, the free space is checked instead.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, length)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        else:
            return
    free = os.fstatvfs(descriptor)
    if free.f_bavail * free.f_frsize < length:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(descriptor, length)


def reserve_parts(descriptor: int, parts: Iterable[tuple[int, int]]) -> None:
    """Room on the disk for `parts`, (offset, length) each, of a sparse file. Raises OSError (ENOSPC) if there is none.

    Where the system cannot reserve, the free space is checked instead.
    """
    supported, needed = hasattr(os, "posix_fallocate"), 0
    for offset, length in parts:
        if supported:
            try:
                os.posix_fallocate(descriptor, offset, length)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                supported = False
        if not supported:
            needed += length
    free = os.fstatvfs(descriptor)
    if free.f_bavail * free.f_frsize < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def written_behind(descriptor: int) -> Iterator[None]:
    """Inside, a thread sends to the disk what was written meanwhile, so that the last `fsync` finds little left.

    An OSError that the thread meets comes out at the end: the system reports a lost write only once.
    """
    ended = threading.Event()
    faults: list[OSError] = []

    def send() -> None:
        try:
            while not ended.wait(_SECONDS_BETWEEN_SENDING):
                os.fsync(descriptor)
        except OSError as fault:
            faults.append(fault)

    thread = threading.Thread(target=send, name="written-behind", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if faults:
        raise faults[0]


def put_in_place(temporary: Path, final: Path) -> None:
    """Rename `temporary` to `final` so that it survives a power cut: first the bytes reach the disk, then the name."""
    _sync(temporary, os.O_RDONLY)
    temporary.replace(final)
    try:
        _sync(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:  # some network disks cannot sync a folder
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file under a temporary name beside ``path``, make it durable, give it its name.

    Raises NoSpace or BadInput where the disk refuses; then ``path`` is what it was before.
    """
    temporary = path.with_name(f".{path.name}.new")
    with writing(path):
        try:
            temporary.write_bytes(content)
            put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """`write_atomically` as JSON that a person can read."""
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def file_system(path: Path) -> str:
    """The kind of file system that `path` lies on, as Linux calls it (ext4, nfs4, lustre); "" where that is unknown."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = [(Path(fields[1].encode().decode("unicode_escape")), fields[2]) for fields in map(str.split, lines)]
    above = [(len(folder.parts), kind) for folder, kind in mounts if path.resolve().is_relative_to(folder)]
    return max(above, default=(0, ""), key=lambda mount: mount[0])[1]


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
