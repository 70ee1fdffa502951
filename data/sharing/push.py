"""Putting an embedding file elsewhere: checked before it leaves, never over another one, proven once it is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..embeddings.file import EmbeddingFile
from ..embeddings.verification import verify
from ..remote.address import HubPlace, holds_credentials, hub_place, is_web
from ..remote.opening import HEAD, first_bytes
from ..remote.remote_file import RemoteFile, TransferProgress
from ..remote.retry import Retry, TransientTransferError, with_retries
from ..remote.store import Store, StoreFile, agrees
from ..runtime.errors import BadInput, DamagedFile, UsageError
from .transfer_checks import SUFFIX, Sidecar

_CARD = "README.md"


@dataclass(frozen=True)
class Pushed:
    """Where a file is now, its SHA-256, the files beside it, and what proves that it arrived."""

    address: str
    sha256: str
    beside: tuple[str, ...]
    proof: str
    already: bool = False


class _Destination(Protocol):
    shown: str

    def found(self) -> RemoteFile | None:
        """The file that is there now."""

    def put(self, file: Path, sidecar: bytes, card: bytes | None) -> tuple[str, ...]:
        """Put the file there, then what belongs beside it; the names of the latter."""

    def proof(self, file: Path, sidecar: Sidecar) -> str:
        """Ask what is there now. Raises DamagedFile where it is not `file`."""


def push(
    file: Path,
    destination: str,
    *,
    card: Path | None = None,
    overwrite: bool = False,
    partial: bool = False,
    public: bool = False,
    retry: Retry | None = None,
    progress: TransferProgress | None = None,
) -> Pushed:
    """Put the embedding file `file` at `destination`: hf://datasets/OWNER/NAME[/FILE.h5], OWNER/NAME, a store, a path.

    It is checked whole first, must be finished unless `partial`, and replaces another file only with `overwrite`.
    Beside it goes FILE.sha256 and, where given, `card`; a Hub repository without a card gets one that is made here. A
    new one is private unless `public`. Raises DamagedFile for a file that is not sound or did not arrive as it left,
    BadInput, UsageError.
    """
    retry, progress = retry or Retry(), progress or TransferProgress()
    place = _destination(destination, file.name, retry, progress, public)
    _refuse_unsound(file, partial)
    content = None if card is None else _read_card(card)
    _refuse_credentials(file)
    sidecar = replace(Sidecar.of(file), name=place.shown.rpartition("/")[2])
    there = place.found()
    if there is not None:
        same = _is_same(there, file, sidecar)
        if not same and not overwrite:
            raise BadInput(f"{place.shown}: another file is there already; choose another name, or say --overwrite")
        if same and there.sidecar(SUFFIX) == sidecar.encode() and content is None:
            return Pushed(place.shown, sidecar.sha256, (), place.proof(file, sidecar), already=True)
    progress.expect(file.stat().st_size)
    beside = place.put(file, sidecar.encode(), content)
    return Pushed(place.shown, sidecar.sha256, beside, place.proof(file, sidecar))


def _destination(destination: str, name: str, retry: Retry, progress: TransferProgress, public: bool) -> _Destination:
    if place := hub_place(destination):
        path = place.path or name
        if not path.endswith(".h5"):
            path = f"{path}/{name}"
        return _OnHub(replace(place, path=path), retry, public)
    if public:
        raise UsageError("--public is for the Hub; elsewhere the store's own rules say who may read")
    if is_web(destination):
        raise UsageError("http(s)://: a web server takes no files; push to s3://, gs://, hf://datasets/… or a folder")
    into_folder = destination.endswith("/") or ("://" not in destination and Path(destination).is_dir())
    return _InStore(destination.rstrip("/") + f"/{name}" if into_folder else destination, retry, progress)


class _InStore:
    """A place in a store that fsspec reaches."""

    def __init__(self, address: str, retry: Retry, progress: TransferProgress) -> None:
        self._store = Store(address)
        self._retry, self._progress = retry, progress
        self.shown = self._store.shown

    def found(self) -> RemoteFile | None:
        info = with_retries(self._retry, self.shown, self._store.info)
        return None if info is None else StoreFile(self._store, info)

    def put(self, file: Path, sidecar: bytes, card: bytes | None) -> tuple[str, ...]:
        there = self.found()
        if there is None or not _is_same(there, file, Sidecar.parse(sidecar)):
            # a sidecar that describes the old bytes must not outlive them
            with_retries(self._retry, self.shown, lambda: self._store.remove(SUFFIX))
            with_retries(self._retry, self.shown, lambda: self._upload(file))
        beside = {SUFFIX: sidecar} | ({} if card is None else {".md": card})
        for suffix, content in beside.items():
            self._put_beside(suffix, content)
        return tuple(self.shown + suffix for suffix in beside)

    def _upload(self, file: Path) -> None:
        """Put the file there; where the response was lost, check first whether the file arrived."""
        try:
            self._store.upload(file, self._progress.advance)
        except TransientTransferError:
            info = self._store.info()
            if info is None or int(info["size"]) != file.stat().st_size or not agrees(info, file):
                raise

    def _put_beside(self, suffix: str, content: bytes) -> None:
        with_retries(self._retry, self.shown + suffix, lambda: self._store.write(content, suffix))

    def proof(self, file: Path, sidecar: Sidecar) -> str:
        """Compare the store's own digest where it has one, else read everything back."""
        info = with_retries(self._retry, self.shown, self._store.info)
        if info is None:
            raise DamagedFile(f"{self.shown}: expected the file that was just put there, found none")
        there = StoreFile(self._store, info)
        _refuse_another(there, file, self._retry)
        if agrees(info, file):
            return "size, header and the store's own digest agree"
        found = with_retries(self._retry, self.shown, lambda: self._store.sha256(there.size))
        if found != sidecar.sha256:
            raise DamagedFile(f"{self.shown}: expected SHA-256 {sidecar.sha256}, read back {found}; push it again")
        return "size, header and, read back, every byte agree"


class _OnHub:
    """A place in a dataset repository on the Hub."""

    def __init__(self, place: HubPlace, retry: Retry, public: bool) -> None:
        self._place, self._retry, self._public = place, retry, public
        self.shown = place.shown

    def found(self) -> RemoteFile | None:
        from ..remote.hub import find_hub_file

        return find_hub_file(self._place, self._retry)

    def put(self, file: Path, sidecar: bytes, card: bytes | None) -> tuple[str, ...]:
        from ..remote.hub import has_card, push_to_hub

        contents: dict[str, Path | bytes] = {self._place.path: file, self._place.path + SUFFIX: sidecar}
        if card is None and not has_card(self._place):
            card = self._made_card(file)
        if card is not None:
            contents[_CARD] = card
        push_to_hub(self._place, contents, public=self._public)
        return tuple(list(contents)[1:])

    def _made_card(self, file: Path) -> bytes | None:
        """The card for a repository without one; None for an unfinished file, which has no figures to show yet."""
        from .data_card import card

        with EmbeddingFile.open(file, pending=True) as opened:
            if any(opened.pending.values()):
                return None
        text = card(file, repo=self._place.repo)
        return None if holds_credentials(text) else text.encode()

    def proof(self, file: Path, sidecar: Sidecar) -> str:
        there = self.found()
        if there is None:
            raise DamagedFile(f"{self.shown}: expected the file that was just put there, found none")
        _refuse_another(there, file, self._retry)
        if there.sha256 != sidecar.sha256:
            raise DamagedFile(
                f"{self.shown}: expected SHA-256 {sidecar.sha256}, the Hub reports {there.sha256}; push it again"
            )
        return "size, header and the SHA-256 that the Hub reports agree"


def _refuse_unsound(file: Path, partial: bool) -> None:
    report = verify(file)
    if not report.sound:
        raise DamagedFile(
            f"{file}: expected a sound file, found {len(report.problems):,} problems ({report.problems[0]}); "
            "`cinefuse cache verify` names them all"
        )
    if not report.complete and not partial:
        waiting = sum(report.pending.values())
        raise DamagedFile(
            f"{file}: expected a finished file, found {waiting:,} rows pending; say --partial to share it"
        )


def _refuse_credentials(file: Path) -> None:
    """A header is public once the file is."""
    with file.open("rb") as stream:
        if holds_credentials(stream.read(HEAD).decode(errors="replace")):
            raise BadInput(f"{file}: its header holds a password or token; nothing was sent; make the file without it")


def _read_card(card: Path) -> bytes:
    try:
        content = card.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError) as fault:
        raise BadInput(f"{card}: expected a card in Markdown ({fault})") from None
    if holds_credentials(text):
        raise BadInput(f"{card}: holds a password or token; nothing was sent; take it out")
    return content


def _is_same(there: RemoteFile, file: Path, sidecar: Sidecar | None) -> bool:
    """Whether the file there is `file`, as far as its size, its header and the digest published for it show."""
    if sidecar is None or there.size != file.stat().st_size:
        return False
    beside = Sidecar.parse(there.sidecar(SUFFIX))
    published = there.sha256 or (beside.sha256 if beside else None)
    return published == sidecar.sha256 and first_bytes(there, Retry()) == _own_head(file)


def _refuse_another(there: RemoteFile, file: Path, retry: Retry) -> None:
    if there.size != file.stat().st_size:
        raise DamagedFile(f"{there.shown}: expected {file.stat().st_size:,} bytes, found {there.size}; push it again")
    if first_bytes(there, retry) != _own_head(file):
        raise DamagedFile(f"{there.shown}: expected the header of {file.name}, found another; push it again")


def _own_head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(HEAD)
