"""One writer at a time, by a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .disk import writing
from .errors import Busy

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold the right to write `path`; its name plus ``.lock`` says who does.

    Raises Busy, naming the holder, where another process has it. A killed holder leaves the small file behind, but no
    lock. On file systems that cannot lock at all (some network disks) it warns and goes on.
    """
    lock = path.with_name(path.name + ".lock")
    descriptor = _acquire(path, lock)
    try:
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with writing(lock):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def growing(path: Path) -> Iterator[Path]:
    """As `sole_writer`, and gives a hidden place beside `path` for a new folder to grow in, where there is nothing yet.

    What a killed process left there is removed, and so is what is there at the end.
    """
    place = path.with_name(f".{path.name}.new")
    with sole_writer(path):
        shutil.rmtree(place, ignore_errors=True)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _acquire(path: Path, lock: Path) -> int:
    while True:
        with writing(lock):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with writing(lock):
                _lock_or_refuse(descriptor, path, lock)
            if _is_still(lock, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed the file between our opening and our locking it


def _lock_or_refuse(descriptor: int, path: Path, lock: Path) -> None:
    attempts: tuple[Callable[[int, int], None], ...] = (fcntl.flock, fcntl.lockf)
    for attempt in attempts:
        try:
            attempt(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise Busy(f"{path}: {_holder(lock)} is writing it; wait for that job, or stop it") from None
            if error.errno not in _UNSUPPORTED:
                raise
        else:
            return
    warnings.warn(f"{lock}: this file system has no locks; make sure no other job writes {path.name}", stacklevel=4)


def _is_still(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def writer_of(path: Path) -> str | None:
    """Who is writing `path` now, in words; None where nobody is, or only the lock of a process that is gone is left.

    It looks at what the holder wrote and takes no lock, which could make a job that starts just now be refused. A
    process on another machine is believed.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        holder = json.loads(lock.read_text())
        if holder["host"] == socket.gethostname():
            os.kill(int(holder["process"]), 0)
    except PermissionError:
        return _holder(lock)  # it lives, and is another user's
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _holder(lock)


def _holder(lock: Path) -> str:
    try:
        holder = json.loads(lock.read_text())
        return f"process {holder['process']} on {holder['host']} (since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
