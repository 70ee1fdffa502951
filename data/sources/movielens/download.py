"""Download a MovieLens archive; it gets its name once its checksum matched.

The bytes grow in NAME.zip.part, which a later call continues. Beside the archive lies NAME.zip.sha256, in the format of
`sha256sum -c`.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ...remote.partial_download import PartialDownload
from ...remote.remote_file import RemoteFile, TransferProgress
from ...remote.retry import Retry
from ...remote.web_file import WebFile
from ...runtime.disk import put_in_place, sha256_of, write_atomically, writing
from ...runtime.errors import BadInput, DamagedFile, UsageError
from ...runtime.lock import sole_writer
from ...runtime.zip_archives import ZIP_FAULTS

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
    retry: Retry | None = None,
    progress: TransferProgress | None = None,
) -> Fetched:
    """Bring one archive to ``out``: a file if it ends in .zip, else a folder, made where needed.

    ``checksum`` ("md5:HEX" or "sha256:HEX") replaces the published one. UsageError for an unknown name or address,
    BadInput where the server has no such file or other bytes, Busy where another process fetches to the same place,
    NoSpace on a full disk.
    """
    if name not in PUBLISHED_MD5:
        raise UsageError(f"{name}: unknown dataset; there are {', '.join(PUBLISHED_MD5)}")
    if not mirror.startswith(("http://", "https://")):
        raise UsageError(f"--mirror {mirror}: expected an address that starts with http:// or https://")
    file = out if out.suffix == ".zip" else out / f"{name}.zip"
    expected = _checked_form(checksum) if checksum else f"md5:{PUBLISHED_MD5[name]}" if PUBLISHED_MD5[name] else ""
    if file.exists():
        return _already_there(file, expected)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(file):
        if file.exists():  # the process that held the lock until now brought it
            return _already_there(file, expected)
        retry = retry or Retry()
        try:
            remote = WebFile(f"{mirror.rstrip('/')}/{name}.zip", retry)
            expected = expected or _published_checksum(remote)
            return _download(remote, file, expected, retry, progress or TransferProgress())
        except DamagedFile as fault:  # exit code 4 is for embedding files
            raise BadInput(str(fault)) from None


def _already_there(file: Path, expected: str) -> Fetched:
    if fault := _fault_of(file, expected):
        raise BadInput(f"{file} exists, but {fault}: remove it and fetch again")
    return Fetched(file, sha256_of(file), expected, already=True)


def _download(remote: RemoteFile, file: Path, expected: str, retry: Retry, progress: TransferProgress) -> Fetched:
    """Bring the remote file to the part file, check it there, and give it its name."""
    part = file.with_name(file.name + ".part")
    with PartialDownload(part, remote, None, retry, progress) as download:
        if remote.size is not None:
            download.expect(remote.size)
        download.fetch_whole(parallel=False)
        if download.resumed and _fault_of(part, expected):
            # the bytes of an earlier call may be of another version of the file; only a fresh transfer shows that
            progress.advance(-download.length)
            download.truncate()
            download.fetch_whole(parallel=False)
        if fault := _fault_of(part, expected):
            download.discard()
            raise BadInput(f"{remote.shown}: {fault}; the bytes were thrown away. Try again, or another --mirror")
        sha256 = sha256_of(part)
        write_atomically(file.with_name(file.name + ".sha256"), f"{sha256}  {file.name}\n".encode())
        with writing(file):
            put_in_place(part, file)
        download.discard_label()
    return Fetched(file, sha256, expected, already=False)


def _published_checksum(remote: RemoteFile) -> str:
    """The checksum in NAME.zip.md5 beside the archive; "" where there is none."""
    found = re.search(rb"\b[0-9a-fA-F]{32}\b", (remote.sidecar(".md5") or b"")[:1000])
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
    except ZIP_FAULTS as fault:
        return f"it is not a whole zip archive ({fault})"
    return f"its member {broken} is damaged" if broken else ""
