"""Pull an embedding file, or a part of it, from a remote address; it gets its name only once it is verified.

All bytes gather in OUT.h5.part, which a later call continues. A part is cut by the plan of `selection`: the same
bytes that `cinefuse cache subset` would copy, read as byte ranges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..embeddings.file import EmbeddingFile, content_digest
from ..embeddings.format.header import Header
from ..embeddings.format.header_checks import parse_header, user_block_size
from ..embeddings.verification import verify
from ..remote.opening import HEAD, checked_head, first_bytes, open_remote
from ..remote.partial_download import PartialDownload
from ..remote.remote_file import RemoteFile, Span, TransferProgress, coalesced
from ..remote.retry import Retry
from ..runtime.disk import sha256_of, write_all, writing
from ..runtime.errors import DamagedFile, UsageError
from .copy_plan import Plan, select
from .copying import begin, created, finish, new_file
from .index import Index
from .lineage import descended
from .selection import Selection
from .transfer_checks import SUFFIX, RangeVerification, Sidecar, beside

_BLOCK = 8 * 2**20


@dataclass(frozen=True)
class Expected:
    """What the user knows of the file from another channel: SHA-256 of the bytes, content digest."""

    sha256: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Pulled:
    """What was pulled: `received` bytes, of which the file has `needed`, and what verified them."""

    path: Path
    source: str
    received: int
    needed: int
    resumed: int
    digest: str
    proof: str
    already: bool = False

    @classmethod
    def already_there(cls, path: Path, remote: RemoteFile) -> Pulled:
        """Nothing was to be done."""
        with EmbeddingFile.open(path, pending=True) as file:
            return cls(
                path, remote.shown, 0, 0, 0, file.content_digest, "its SHA-256 is the one expected", already=True
            )


def pull(
    source: str,
    out: Path,
    selection: Selection | None = None,
    *,
    expected: Expected | None = None,
    whole: bool = False,
    partial: bool = False,
    overwrite: bool = False,
    retry: Retry | None = None,
    progress: TransferProgress | None = None,
) -> Pulled:
    """Write to `out` the file at `source`, or what `selection` wants of it.

    `whole` allows downloading everything for a selection where the server sends no ranges; `partial` accepts rows that
    are pending. Raises DamagedFile where what arrives is not what it must be (then nothing of it is kept), BadInput
    where it cannot be had (then what arrived waits for the next call), and what `new_file` raises.
    """
    retry, expected = retry or Retry(), expected or Expected()
    if selection is not None and expected.sha256:
        raise UsageError("--sha256 is that of the whole file; a part is held against --digest, the content digest")
    if out.is_file() and not overwrite and selection is None:
        remote = open_remote(source, retry)
        if sha256_of(out) in _published_sha256(remote, expected).values():
            return Pulled.already_there(out, remote)
    with new_file(out, overwrite=overwrite) as working:
        remote = open_remote(source, retry)
        if selection is not None and not remote.ranges and not whole:
            raise UsageError(
                f"{remote.shown}: its server sends no parts of a file, so this would cost all of it "
                f"({_size(remote.size)}); say --whole to download everything and keep the part"
            )
        wanted = None if selection is None else _label(selection)
        with PartialDownload(
            out.with_name(out.name + ".part"), remote, wanted, retry, progress or TransferProgress()
        ) as download:
            transfer = _Transfer(remote, download, retry, expected, partial)
            try:
                pulled = _twice(download, lambda: transfer.bring(selection, out, working))
            except DamagedFile:
                download.discard()
                raise
    download.discard()
    return pulled


def _twice(download: PartialDownload, work: Callable[[], Pulled]) -> Pulled:
    """Bytes of an earlier call may be those of another file; only a fresh transfer shows which."""
    try:
        return work()
    except DamagedFile:
        if not download.resumed:
            raise
        download.truncate()
        return work()


@dataclass(frozen=True)
class _Transfer:
    remote: RemoteFile
    download: PartialDownload
    retry: Retry
    expected: Expected
    partial: bool

    def bring(self, selection: Selection | None, out: Path, working: Path) -> Pulled:
        """Fetch, prove and write under the name `working` what becomes `out`."""
        if self.remote.ranges and self.remote.size is not None:
            self.download.fetch([Span(0, min(HEAD, self.remote.size))])
            checked_head(self.download.read(0, min(HEAD, self.remote.size)), self.remote)
        else:
            checked_head(first_bytes(self.remote, self.retry), self.remote)
        if selection is None:
            return self._whole(out, working)
        return self._part(selection, out, working)

    def _whole(self, out: Path, working: Path) -> Pulled:
        if self.remote.size is not None:
            self.download.expect(self.remote.size)
        self.download.fetch_whole()
        self.remote.check_unchanged()
        published = _published_sha256(self.remote, self.expected)
        found = sha256_of(self.download.path) if published else ""
        for who, sha256 in published.items():
            if found != sha256:
                raise DamagedFile(
                    f"{self.remote.shown}: expected SHA-256 {sha256} ({who}), found {found}: "
                    "another file or damaged bytes; they were thrown away"
                )
        self._verify(self.download.path)
        with EmbeddingFile.open(self.download.path, pending=True) as file:
            digest = file.content_digest
        self._hold_against(digest, {})
        with writing(out):
            self.download.path.replace(working)
        return self._pulled(
            out, self.download.size, digest, f"every row's checksum agrees; {_vouched('SHA-256', published)}"
        )

    def _part(self, selection: Selection, out: Path, working: Path) -> Pulled:
        if not self.remote.ranges:
            self.download.fetch_whole()
            self._verify(self.download.path)
        header = self._header()
        self.download.fetch(_small_spans(header, selection))
        index = Index.read(self.download, self.remote.shown, selection.modalities)
        selection = selection.of_kind(index)
        digest = content_digest(header, lambda name: self._dataset(header, name))
        sidecar = Sidecar.parse(self.remote.sidecar(SUFFIX))
        named = beside(self.remote.shown)
        vouching = self._hold_against(digest, {} if sidecar is None else {named: sidecar.content})
        proof = RangeVerification.choose(index, selection, sidecar, whole=not self.remote.ranges)
        options = {"source": self.remote.shown, **selection.options(len(index)), "proven_by": proof.method}
        plan = select(index, selection, descended([index.header.about], [digest], "pull", options))
        if plan.pending and not self.partial:
            raise DamagedFile(
                f"{self.remote.shown}: expected a finished file, found {plan.pending:,} rows pending; "
                "ask its owner to finish it, or say --partial"
            )
        self._fetch(plan, proof)
        self.remote.check_unchanged()
        proof.check(self.download, index)
        with writing(working):
            self._write(plan, working)
        self._verify(working)
        return self._pulled(out, plan.header.file_length, digest, f"{proof.sentence}; {vouching}")

    def _header(self) -> Header:
        """The header, and all bytes up to the first dataset in the download."""
        first = self.download.read(0, min(HEAD, self.download.size))
        block = user_block_size(first, self.remote.shown)
        self.download.fetch([Span(0, min(block, self.download.size))])
        header = parse_header(
            self.download.read(0, min(block, self.download.size)), self.download.size, self.remote.shown
        )
        self.download.fetch([Span(0, block + header.metadata_length)])
        return header

    def _dataset(self, header: Header, name: str) -> bytes:
        dataset = header.datasets[name]
        return self.download.read(dataset.offset, dataset.length)

    def _fetch(self, plan: Plan, proof: RangeVerification) -> None:
        runs = plan.copies[0]
        spans = [Span(start, start + length) for start, length in runs[:, :2].tolist()]
        spans = coalesced([*spans, *proof.spans])
        self.download.expect(sum(map(len, spans)))
        self.download.fetch(spans)

    def _write(self, plan: Plan, working: Path) -> None:
        with created(working) as descriptor:
            begin(plan, descriptor)
            for start, length, place in plan.copies[0].tolist():
                for done in range(0, length, _BLOCK):
                    content = self.download.read(start + done, min(_BLOCK, length - done))
                    write_all(descriptor, content, place + done)
        finish(plan, working)

    def _verify(self, path: Path) -> None:
        """Refuse what `cinefuse cache verify` would not pass."""
        report = verify(path)
        if not report.sound:
            more = f" and {len(report.problems) - 1:,} problems more" if len(report.problems) > 1 else ""
            raise DamagedFile(
                f"{self.remote.shown}: what arrived is damaged: {report.problems[0]}{more}; it was thrown away; "
                "pull again, or from another place"
            )
        if not report.complete and not self.partial:
            waiting = sum(report.pending.values())
            raise DamagedFile(
                f"{self.remote.shown}: expected a finished file, found {waiting:,} rows pending; "
                "ask its owner to finish it, or say --partial"
            )

    def _hold_against(self, digest: str, others: Mapping[str, str | None]) -> str:
        """A clause that names what confirms `digest` as the content digest. Raises DamagedFile where it is another."""
        published = {"--digest": self.expected.digest} if self.expected.digest else others
        named = {who: value for who, value in published.items() if value}
        for who, value in named.items():
            if value != digest:
                raise DamagedFile(
                    f"{self.remote.shown}: expected content digest {value} ({who}), found {digest}: another file; "
                    "nothing was kept"
                )
        return _vouched("content digest", named)

    def _pulled(self, out: Path, needed: int, digest: str, proof: str) -> Pulled:
        return Pulled(out, self.remote.shown, self.download.received, needed, self.download.resumed, digest, proof)


def _small_spans(header: Header, selection: Selection) -> list[Span]:
    """Ids, what `Index.read` reads of the wanted modalities, and of the others what the content digest needs."""
    datasets = header.datasets

    def through(first: str, last: str) -> Span:
        return Span(datasets[first].offset, datasets[last].offset + datasets[last].length)

    spans = [through("items/id", "items/id")]
    for name in header.modalities:
        if selection.modalities is None or name in selection.modalities:
            spans.append(through(f"{name}/offsets", f"{name}/checksum"))
        else:
            spans += [through(f"{name}/status", f"{name}/reason"), through(f"{name}/checksum", f"{name}/checksum")]
    return spans


def _published_sha256(remote: RemoteFile, expected: Expected) -> dict[str, str]:
    """The SHA-256 of the whole file by where it is published; one that the user gave replaces all others."""
    if expected.sha256:
        return {"--sha256": expected.sha256}
    sidecar = Sidecar.parse(remote.sidecar(SUFFIX))
    published = {beside(remote.shown): sidecar.sha256} if sidecar else {}
    return published | ({"the store": remote.sha256} if remote.sha256 else {})


def _vouched(what: str, published: Iterable[str]) -> str:
    by = " and ".join(published)
    return f"its {what} is the one given by {by}" if by else f"no {what} was published to compare with"


def _label(selection: Selection) -> list[object]:
    """A key for this selection, ready for JSON."""
    ids = None if selection.ids is None else hashlib.sha256("\n".join(map(str, selection.ids)).encode()).hexdigest()
    return [list(selection.modalities or ()), selection.level, ids]


def _size(count: int | None) -> str:
    return "of unknown size" if count is None else f"{count:,} bytes"
