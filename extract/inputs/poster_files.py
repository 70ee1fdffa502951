"""One poster of the poster folder: its limits, and how its file is opened without ever leaving the folder."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...data.dataset.posters.members import Member, MemberFault, MemberTooLarge
from ...data.embeddings.status import Reason


class PosterProblem(Exception):
    """One poster cannot be used. Never shown to a user as it is: the run records the reason and goes on."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


@dataclass(frozen=True)
class PosterLimits:
    """The most one poster may take: pixels (decoded, and after resizing) and bytes in its file."""

    max_pixels: int = 32_000_000
    max_bytes: int = 64 * 2**20


# Without O_NONBLOCK opening a FIFO waits for its writer; without O_NOFOLLOW a link swapped in late leads outside.
_OPEN_POSTER = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
_OPEN_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_FOLDER = _OPEN_ROOT | os.O_NOFOLLOW

_REASON_OF_ERRNO = {
    errno.ENOENT: Reason.NOT_FOUND,
    errno.ENOTDIR: Reason.NOT_FOUND,
    errno.ENAMETOOLONG: Reason.NOT_FOUND,
    errno.ENXIO: Reason.NOT_A_FILE,
    errno.ENODEV: Reason.NOT_A_FILE,
    errno.EOPNOTSUPP: Reason.NOT_A_FILE,
}


def read_poster(path: str, root: Path, limits: PosterLimits) -> bytes:
    """The raw bytes of one poster; ``path`` is relative to ``root``, as the catalogue gives it.

    A poster inside a tar, zip or Parquet file is read in place. Raises PosterProblem. Nothing outside the real path of
    ``root`` is ever opened, and only regular files are read. Symbolic links are followed as long as they stay inside.
    """
    member = Member.parse(path)
    try:
        descriptor = _open_inside(path if member is None else member.file, root)
        try:
            return (
                _read_all(descriptor, limits.max_bytes) if member is None else _read_member(descriptor, member, limits)
            )
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PosterProblem(_REASON_OF_ERRNO.get(error.errno or 0, Reason.UNREADABLE)) from error
    except ValueError as error:  # a NUL or a lone surrogate: no file can have that name
        raise PosterProblem(Reason.NOT_FOUND) from error


def _open_inside(path: str, root: Path) -> int:
    """Open a poster by walking down from the folder, each step relative to the one before and never through a link.

    Where links or ".." are in the way, they are first resolved by reading them, which opens nothing. The walk that
    follows refuses links again, so one put in place meanwhile cannot lead out.
    """
    steps = _steps(path)
    if path.startswith("/"):
        raise PosterProblem(Reason.OUTSIDE_FOLDER)
    if os.pardir not in steps:
        try:
            return _walk_down(root, steps)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
    real_root = os.path.realpath(root)
    steps = Path(os.path.relpath(os.path.realpath(Path(real_root, path)), real_root)).parts
    if os.pardir in steps:
        raise PosterProblem(Reason.OUTSIDE_FOLDER)
    return _walk_down(root, steps)


@lru_cache(64)
def _steps(path: str) -> tuple[str, ...]:
    """The parts of a relative path; thousands of posters lie in one archive."""
    return Path(path).parts


def _walk_down(root: Path, steps: tuple[str, ...]) -> int:
    *folders, name = steps or (os.curdir,)
    here = os.open(root, _OPEN_ROOT)
    try:
        for folder in folders:
            above, here = here, os.open(folder, _OPEN_FOLDER, dir_fd=here)
            os.close(above)
        return os.open(name, _OPEN_POSTER, dir_fd=here)
    finally:
        os.close(here)


def _read_member(descriptor: int, member: Member, limits: PosterLimits) -> bytes:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise PosterProblem(Reason.NOT_A_FILE)
    try:
        raw = member.read(descriptor, limits.max_bytes)
    except MemberTooLarge as fault:
        raise PosterProblem(Reason.FILE_TOO_LARGE) from fault
    except MemberFault as fault:
        raise PosterProblem(Reason.UNREADABLE) from fault
    if not raw:
        raise PosterProblem(Reason.EMPTY)
    return raw


def _read_all(descriptor: int, max_bytes: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise PosterProblem(Reason.NOT_A_FILE)
    pieces: list[bytes] = []
    length = 0
    # The size is a hint: a file still being copied may hold more or less by the time it is read.
    while length <= max_bytes >= found.st_size and (piece := os.read(descriptor, found.st_size + 1)):
        pieces.append(piece)
        length += len(piece)
    if max(length, found.st_size) > max_bytes:
        raise PosterProblem(Reason.FILE_TOO_LARGE)
    if length == 0:
        raise PosterProblem(Reason.EMPTY)
    return b"".join(pieces)
