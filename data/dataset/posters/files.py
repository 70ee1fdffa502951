"""The file or member that a poster's path leads to, inside its folder alone: found, read, copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .members import Member, MemberFault


def poster_inside(root: Path, poster: str) -> Path | None:
    """The file a relative poster path leads to, if it is a regular file inside ``root`` (both resolved); else None.

    Of a poster inside an archive or a Parquet file it is that file.
    """
    member = Member.parse(poster)
    path = poster if member is None else member.file
    if Path(path).is_absolute():
        return None
    try:
        file = (root / path).resolve()
        return file if file.is_relative_to(root.resolve()) and file.is_file() else None
    except (OSError, ValueError, RuntimeError):  # the last is a loop of links, until Python 3.13
        return None


def poster_bytes(root: Path, poster: str, most: int = 64 * 2**20) -> bytes | None:
    """The bytes of a poster, wherever it lies inside ``root``; None where there is none, or more than ``most``."""
    file = poster_inside(root, poster)
    if file is None:
        return None
    member = Member.parse(poster)
    try:
        if member is None:
            return file.read_bytes() if file.stat().st_size <= most else None
        with file.open("rb") as stream:
            return member.read(stream.fileno(), most)
    except (OSError, MemberFault):
        return None


def copy_posters(posters: list[str], source: Path, folder: Path) -> tuple[str, int]:
    """Copy poster files into ``folder``/posters under their relative paths; archives and Parquet files as they are.

    Gives where the paths start now (relative to ``folder``) and how many were no regular files inside ``source``.
    """
    # Paths that already start with "posters/" need no second folder of that name.
    root = "." if posters and all(Path(poster).parts[:1] == ("posters",) for poster in posters) else "posters"
    (folder / "posters").mkdir()
    missing = 0
    for poster in dict.fromkeys(posters):
        member = Member.parse(poster)
        path = poster if member is None else member.file
        file = poster_inside(source, poster)
        if file is None or os.pardir in Path(path).parts:
            missing += 1
            continue
        target = folder / root / path
        if member is not None and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return root, missing


def file_of(poster: str) -> str:
    """The path of the file that a poster lies in: its own, or that of the archive around it."""
    member = Member.parse(poster)
    return poster if member is None else member.file
