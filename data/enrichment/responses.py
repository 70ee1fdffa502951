"""Responses kept: what a service has answered once is not requested again, by whatever run and for whatever dataset.

    RESPONSES.sqlite   one row a request: its address without a key, the status, the body, when
    posters/           one file a poster, named by the SHA-256 of its address; whole and checked once it has its name

A row or file is complete as soon as it exists, so a run may be killed at any moment.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.disk import write_atomically, writing
from ..runtime.errors import BadInput, NoSpace
from .client import Response

if TYPE_CHECKING:
    from types import TracebackType

SUFFIXES = ("jpg", "png", "webp", "gif")

_SCHEMA = """
create table if not exists responses (
    request text primary key, status integer not null, body blob not null, fetched real not null
) without rowid;
"""


def default_cache() -> Path:
    """Where responses are kept by default: CINEFUSE_CACHE, else cinefuse/ in the user's folder for caches."""
    if given := os.environ.get("CINEFUSE_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cinefuse"


class Responses:
    """The responses of one service in a folder. ``max_age`` in seconds: older ones count as never fetched."""

    def __init__(self, folder: Path, max_age: float) -> None:
        self._folder, self._posters, self._max_age = folder, folder / "posters", max_age
        self.file = folder / "responses.sqlite"
        with writing(self.file):
            self._posters.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(self.file, isolation_level=None)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=normal")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as fault:
            raise BadInput(f"{self.file} cannot be used ({fault}): name another folder with --cache") from None

    def __enter__(self) -> Responses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def get(self, request: str) -> Response | None:
        """The answer to a request; None where it was never answered, or too long ago."""
        query = "select status, body, fetched from responses where request = ?"
        try:
            row = self._db.execute(query, (request,)).fetchone()
            if row is None or time.time() - row[2] > self._max_age:
                return None
            return Response(row[0], zlib.decompress(row[1]))
        except (sqlite3.DatabaseError, zlib.error) as fault:
            raise BadInput(
                f"{self.file} is damaged ({fault}): remove it, or name another folder with --cache"
            ) from None

    def put(self, request: str, response: Response) -> None:
        """Keep a response. Raises NoSpace or BadInput where the disk refuses."""
        row = (request, response.status, zlib.compress(response.body, 1), time.time())
        try:
            self._db.execute("insert or replace into responses values (?, ?, ?, ?)", row)
        except sqlite3.Error as fault:
            kind = NoSpace if "full" in str(fault) else BadInput
            raise kind(
                f"{self.file}: cannot be written ({fault}); what is finished is kept, the same command continues"
            ) from None

    def poster(self, address: str) -> Path | None:
        """The file of a poster that was fetched; None where there is none."""
        name = _poster_name(address)
        places = (self._posters / f"{name}.{suffix}" for suffix in SUFFIXES)
        return next((file for file in places if file.exists()), None)

    def put_poster(self, address: str, suffix: str, content: bytes) -> Path:
        """Keep a checked poster. Raises NoSpace or BadInput where the disk refuses."""
        file = self._posters / f"{_poster_name(address)}.{suffix}"
        write_atomically(file, content)
        return file


def _poster_name(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:32]
