"""Files in any store that fsspec supports: s3://, gs://, abfs://, sftp://, file://, a plain folder."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ..runtime.errors import BadInput, CinefuseError, DamagedFile, NoSpace, UsageError
from .address import redacted, without_query
from .remote_file import REQUEST
from .retry import Retry, TransientTransferError, with_retries

PART: Final = 64 * 2**20  # bytes of one part of an upload in parts; a store's digest of such a file depends on it
_MOST_PARTS: Final = 10_000
_PATIENT_TIMEOUT: Final = 600
_APPEAR_WHOLE: Final = {"s3", "s3a", "gs", "gcs", "abfs", "az", "oss", "oci", "tos"}
_PACKAGES: Final = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "sftp": "paramiko",
}  # fmt: skip
_VERSION_KEYS: Final = (
    "ETag", "etag", "VersionId", "generation", "md5Hash", "LastModified", "last_modified", "mtime", "ino",
)  # fmt: skip
_LARGEST_SIDECAR: Final = 2**20


class Store:
    """The store of one address, and the path there. `path` may be followed by a suffix for the files beside it."""

    def __init__(self, address: str) -> None:
        self.shown = without_query(address)
        scheme, _, rest = address.partition("://")
        self.scheme = scheme if rest else "file"
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise _missing(self.shown, "fsspec") from None
        # the last request of a multipart upload is answered only once the store has joined the parts
        options = {"config_kwargs": {"read_timeout": _PATIENT_TIMEOUT}} if self.scheme in ("s3", "s3a") else {}
        try:
            self.fs, self.path = url_to_fs(address, use_listings_cache=False, **options)
        except ImportError:
            raise _missing(self.shown, _PACKAGES.get(self.scheme, f"fsspec's package for {self.scheme}://")) from None
        except ValueError:
            raise UsageError(
                f"{self.shown}: expected s3://, gs://, file://, hf://, http(s):// or a path, found {self.scheme}://"
            ) from None

    def info(self, suffix: str = "") -> dict[str, Any] | None:
        """The store's current record of the file; None where there is none."""
        with self._refusals():
            try:
                self.fs.invalidate_cache()
                found: dict[str, Any] = self.fs.info(self.path + suffix)
            except FileNotFoundError:
                return None
        if found.get("type") == "directory":
            raise UsageError(f"{self.shown}: expected a file, found a folder")
        return found

    def read(self, start: int, stop: int, suffix: str = "") -> bytes:
        """At most the bytes from `start` to `stop`. Raises TransientTransferError where trying again makes sense."""
        with self._refusals():
            content: bytes = self.fs.cat_file(self.path + suffix, start=start, end=stop)
        return content

    def write(self, content: bytes, suffix: str) -> None:
        """Replace a small file beside the path."""
        with self._refusals(), self._to_a_bucket():
            self._make_room()
            self.fs.pipe_file(self.path + suffix, content)

    def remove(self, suffix: str) -> None:
        """Remove a small file beside the path, if there is one."""
        with self._refusals(), suppress(FileNotFoundError):
            self.fs.rm_file(self.path + suffix)

    def sha256(self, size: int) -> str:
        """The SHA-256 of what is there, every byte read back."""
        digest = hashlib.sha256()
        for start in range(0, size, REQUEST):
            digest.update(self.read(start, min(start + REQUEST, size)))
        return digest.hexdigest()

    def upload(self, file: Path, progress: Callable[[int], None]) -> None:
        """Put the file there; under its name it appears whole, or not at all.

        Object stores show an object only when its last part has arrived; elsewhere it grows under another name.
        """
        from fsspec.callbacks import Callback

        class _Count(Callback):  # type: ignore[misc, unused-ignore]
            def relative_update(self, inc: int = 1) -> None:
                progress(inc)

        with self._refusals(), self._to_a_bucket():
            if self.scheme in _APPEAR_WHOLE:
                options = {"chunksize": part_size(file.stat().st_size)} if self.scheme in ("s3", "s3a") else {}
                self.fs.put_file(str(file), self.path, callback=_Count(), **options)
                return
            self._make_room()
            folder, _, name = self.path.rpartition("/")
            growing = f"{folder}/.{name}.part"
            try:
                self.fs.put_file(str(file), growing, callback=_Count())
                self.fs.mv(growing, self.path)
            except BaseException:
                if self.fs.exists(growing):
                    self.fs.rm_file(growing)
                raise

    def _make_room(self) -> None:
        if self.scheme not in _APPEAR_WHOLE:
            self.fs.makedirs(self.fs._parent(self.path), exist_ok=True)

    @contextmanager
    def _to_a_bucket(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as fault:
            if "upload" in str(fault).lower():  # a multipart upload was completed, but the response was lost
                raise TransientTransferError(_line(fault)) from None
            raise BadInput(f"{self.shown}: there is no such bucket or folder ({_line(fault)}); make it first") from None

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn any exception of a store's library into a refusal, or into TransientTransferError."""
        try:
            yield
        except (CinefuseError, TransientTransferError, FileNotFoundError):
            raise
        except PermissionError as fault:
            raise BadInput(
                f"{self.shown}: the store refuses ({_line(fault)}); check your rights and the name"
            ) from None
        except OSError as fault:
            if self.scheme == "file":
                kind = NoSpace if fault.errno in (28, 122) else BadInput
                raise kind(f"{self.shown}: {fault.strerror or fault}; mend that and run the same again") from None
            raise TransientTransferError(_line(fault)) from None
        except Exception as fault:
            if "Credential" in type(fault).__name__ or "Unauthorized" in type(fault).__name__:
                raise BadInput(
                    f"{self.shown}: no credentials for {self.scheme}:// ({_line(fault)}); set them as its own "
                    "programs read them, or FSSPEC_S3_ANON=true for a public bucket"
                ) from None
            raise TransientTransferError(_line(fault)) from None


class StoreFile:
    """A file of a store, for reading."""

    ranges = True
    sha256 = None

    def __init__(self, store: Store, info: Mapping[str, Any]) -> None:
        self.shown = store.shown
        self._store = store
        self.size = int(info["size"])
        self.identity: Mapping[str, str] = _identity(info)

    @classmethod
    def open(cls, address: str, retry: Retry) -> StoreFile:
        """The file at `address`. Raises BadInput where there is none."""
        store = Store(address)
        info = with_retries(retry, store.shown, store.info)
        if info is None:
            raise BadInput(f"{store.shown}: there is no such file; check the address")
        return cls(store, info)

    def stream(self, start: int, stop: int | None) -> Generator[bytes, None, None]:
        """The bytes from `start` to `stop` as one block."""
        stop = self.size if stop is None else stop
        try:
            content = self._store.read(start, stop)
        except FileNotFoundError:
            raise self._changed("gone") from None
        if len(content) > stop - start:
            raise DamagedFile(
                f"{self.shown}: expected bytes {start}-{stop - 1}, the store sent {len(content):,} bytes; "
                "do not trust it, try another"
            )
        yield content

    def check_unchanged(self) -> None:
        """Compare size and version once more; of stores that keep neither ETag nor date, the size alone."""
        info = with_retries(Retry(), self.shown, self._store.info)
        if info is None:
            raise self._changed("gone")
        if (int(info["size"]), _identity(info)) != (self.size, self.identity):
            raise self._changed("another version of it")

    def sidecar(self, suffix: str) -> bytes | None:
        """The file beside it, at most a megabyte."""
        try:
            content = with_retries(
                Retry(), self.shown + suffix, lambda: self._store.read(0, _LARGEST_SIDECAR + 1, suffix)
            )
        except (FileNotFoundError, BadInput):
            return None
        return content if len(content) <= _LARGEST_SIDECAR else None

    def _changed(self, found: str) -> DamagedFile:
        return DamagedFile(f"{self.shown}: the file changed while it was read: now it is {found}; pull it again")


def part_size(length: int) -> int:
    """Bytes of each part when a file of `length` bytes is uploaded in parts."""
    return max(PART, -(-length // _MOST_PARTS))


def agrees(info: Mapping[str, Any], file: Path) -> bool:
    """Whether the store's own digest proves that its bytes are those of `file`; False also where it keeps none.

    S3 and its kin keep the MD5, or the MD5 of the parts' MD5s (unless the bytes are encrypted with a key of one's own),
    Google the MD5 of what came in one piece.
    """
    if digest := info.get("md5Hash"):
        return bool(base64.b64decode(digest) == _md5_of_parts(file, None)[0])
    found = re.fullmatch(r"([0-9a-f]{32})(-\d+)?", str(info.get("ETag", "")).strip('"').lower())
    if found is None:
        return False
    if not found[2]:
        return _md5_of_parts(file, None)[0].hex() == found[1]
    pieces = _md5_of_parts(file, part_size(file.stat().st_size))
    return hashlib.md5(b"".join(pieces), usedforsecurity=False).hexdigest() == found[1]


def _md5_of_parts(file: Path, part: int | None) -> list[bytes]:
    pieces = []
    with file.open("rb") as stream:
        while True:
            digest, left = hashlib.md5(usedforsecurity=False), part
            while block := stream.read(2**20 if left is None else min(2**20, left)):
                digest.update(block)
                left = None if left is None else left - len(block)
            pieces.append(digest.digest())
            if part is None or stream.tell() >= file.stat().st_size:
                return pieces


def _identity(info: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(info[key])[:200] for key in _VERSION_KEYS if info.get(key) is not None}


def _missing(shown: str, package: str) -> UsageError:
    return UsageError(f"{shown}: needs {package}, which is not installed: pip install 'cinefuse[share]' or {package}")


def _line(fault: BaseException) -> str:
    text = redacted(fault).strip() or type(fault).__name__
    return text.splitlines()[0][:300]
