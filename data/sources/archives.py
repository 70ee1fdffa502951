"""Download a MovieLens archive: resumed, retried, and never under its final name before its checksum matched.

The bytes grow in NAME.zip.part, which a later call continues with an HTTP range. Beside the archive lies
NAME.zip.sha256, in the format of `sha256sum -c`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from ..remote.retry import Patience
from ..runtime.disk import sha256_of
from ..runtime.errors import BadInput, Busy, NoSpace, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GROUPLENS = "https://files.grouplens.org/datasets/movielens"

# MD5 as GroupLens publishes it in NAME.zip.md5. ml-latest-small is re-made from time to time: its checksum is asked
# for when it is fetched, and where none is published its SHA-256 is only recorded and the zip's own CRCs are checked.
PUBLISHED_MD5: dict[str, str | None] = {
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-latest-small": None,
    "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "d472be332d4daa821edc399621853b57",
}

_BLOCK = 1 << 18
_TIMEOUT = 30.0
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_NETWORK_FAULTS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)

if TYPE_CHECKING:
    Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Fetched:
    """An archive on disk: its path, SHA-256, the checksum it was held against ("" if none), whether it was there."""

    file: Path
    sha256: str
    checked: str
    already: bool


def fetch(
    name: str,
    out: Path,
    *,
    mirror: str = GROUPLENS,
    checksum: str | None = None,
    tries: int = 5,
    pause: float = 1.0,
    progress: Progress | None = None,
) -> Fetched:
    """Bring one archive to ``out``: a file if it ends in .zip, else a folder, made where needed.

    ``checksum`` ("md5:HEX" or "sha256:HEX") replaces the published one. ``tries`` counts attempts in a row that brought
    nothing; ``pause`` seconds before the second, doubled each time. ``progress`` is told (bytes here, bytes in all or
    None). UsageError for an unknown name or address, BadInput where the server has no such file or other bytes, Busy
    where another process fetches to the same place, NoSpace on a full disk.
    """
    if name not in PUBLISHED_MD5:
        raise UsageError(f"{name}: unknown dataset; there are {', '.join(PUBLISHED_MD5)}")
    if not mirror.startswith(("http://", "https://")):
        raise UsageError(f"--mirror {mirror}: expected an address that starts with http:// or https://")
    url = f"{mirror.rstrip('/')}/{name}.zip"
    file = out if out.suffix == ".zip" else out / f"{name}.zip"
    expected = _checked_form(checksum) if checksum else f"md5:{PUBLISHED_MD5[name]}" if PUBLISHED_MD5[name] else ""
    if file.exists():
        return _already_there(file, expected)
    patience = Patience(tries, pause)
    with _disk_faults_told(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(file.name + ".part")
        with part.open("ab") as stream:
            _lock(stream, part)
            expected = expected or _published_checksum(url)
            resumed = stream.tell() > 0
            _download(url, stream, patience, progress or (lambda here, total: None))
            if resumed and _fault_of(part, expected):
                # The earlier bytes may be of another version of the file; only a whole fresh one can tell.
                _start_over(stream)
                _download(url, stream, patience, progress or (lambda here, total: None))
            stream.flush()
            os.fsync(stream.fileno())
            if fault := _fault_of(part, expected):
                part.unlink()
                raise BadInput(f"{url}: {fault}; the bytes were thrown away. Try again, or another --mirror")
            sha256 = sha256_of(part)
            file.with_name(file.name + ".sha256").write_text(f"{sha256}  {file.name}\n", "ascii")
            part.rename(file)
    return Fetched(file, sha256, expected, already=False)


def _already_there(file: Path, expected: str) -> Fetched:
    if fault := _fault_of(file, expected):
        raise BadInput(f"{file} exists, but {fault}: remove it and fetch again")
    return Fetched(file, sha256_of(file), expected, already=True)


def _download(url: str, stream: IO[bytes], patience: Patience, progress: Progress) -> None:
    """Append to ``stream`` until it holds the whole file, however often the connection breaks."""
    while True:
        before = stream.tell()
        try:
            if _receive(url, stream, progress):
                return
            fault: Exception = ConnectionError("the connection closed before the end")
        except urllib.error.HTTPError as refusal:
            refusal.close()
            if refusal.code not in _TRY_AGAIN:
                raise BadInput(
                    f"{url}: the server answers {refusal.code} {refusal.reason}; check the address"
                ) from None
            fault = refusal
        except _NETWORK_FAULTS as broken:
            fault = broken
        stream.flush()
        if stream.tell() > before:
            patience.progress_was_made()
        patience.wait_after(url, fault)


def _receive(url: str, stream: IO[bytes], progress: Progress) -> bool:
    """Make one request for what is missing; True when the file is whole."""
    here = stream.tell()
    # Compressed on the way, a range would count other bytes.
    headers = {"User-Agent": "cinefuse", "Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as refusal:
        if refusal.code != 416:
            raise
        # Nothing lies beyond our bytes: they are the whole file, or of another one. The checksum tells.
        refusal.close()
        return True
    with response:
        if response.status == 206 and _first_byte(response) != here:
            raise ConnectionError("the server sent another range than the one asked for")
        if response.status != 206 and here:
            _start_over(stream)
            here = 0
        length = response.headers.get("Content-Length")
        total = here + int(length) if length and length.isdigit() else None
        while block := response.read(_BLOCK):
            stream.write(block)
            here += len(block)
            progress(here, total)
    return total is None or here == total


def _start_over(stream: IO[bytes]) -> None:
    stream.seek(0)
    stream.truncate()


def _first_byte(response: Any) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _published_checksum(url: str) -> str:
    """Ask for NAME.zip.md5 beside the archive; "" where there is none that can be read."""
    request = urllib.request.Request(url + ".md5", headers={"User-Agent": "cinefuse"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            found = re.search(rb"\b[0-9a-fA-F]{32}\b", response.read(1000))
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return ""
    except _NETWORK_FAULTS:
        return ""
    return f"md5:{found[0].decode().lower()}" if found else ""


def _checked_form(checksum: str) -> str:
    kind, _, digits = checksum.lower().partition(":")
    if not re.fullmatch("[0-9a-f]+", digits) or (kind, len(digits)) not in (("md5", 32), ("sha256", 64)):
        raise UsageError(f"--checksum {checksum}: expected md5: and 32, or sha256: and 64 hexadecimal digits")
    return f"{kind}:{digits}"


def _fault_of(file: Path, expected: str) -> str:
    """What is wrong with an archive's bytes, as part of a sentence; "" if nothing."""
    if expected:
        kind, _, digits = expected.partition(":")
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, kind).hexdigest()
        return "" if found == digits else f"its {kind.upper()} is {found}, expected {digits}"
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as fault:
        return f"it is not a whole zip archive ({fault})"
    return f"its member {broken} is damaged" if broken else ""


def _lock(stream: IO[bytes], part: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(f"{part}: another process is fetching it; wait for that one, or choose another folder") from None


@contextmanager
def _disk_faults_told(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno == errno.ENOSPC:
            raise NoSpace(f"{file.parent}: the disk is full; free space, the same command continues") from None
        raise BadInput(f"{fault.filename or file}: {fault.strerror or fault}") from None
