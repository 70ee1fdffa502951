"""What verifies a transferred file: the FILE.sha256 beside it, and checks of a part that was read by ranges.

FILE.sha256 has the format of `sha256sum -c`. The lines behind the first are comments to sha256sum: the content digest,
and the SHA-256 of each dataset that the embedding file itself cannot verify alone (a row's checksum covers its cls
together with its tokens).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.rows import row_checksum
from ..remote.partial_download import PartialDownload
from ..remote.remote_file import Span
from ..runtime.errors import DamagedFile
from .index import Index
from .selection import Selection

SUFFIX = ".sha256"
_WHOLE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_PART = re.compile(r"# (content|(?:text|image)/cls(?:_scale)?) ([0-9a-f]{64})")
_BLOCK = 2**20
_SAMPLE = 0.02  # rows read whole to prove a part, as a share of the bytes that are needed


def beside(address: str) -> str:
    """What the sidecar of the file at `address` is called.

    >>> beside("https://example.org/films.h5?version=2")
    'films.h5.sha256'
    """
    return address.partition("?")[0].rpartition("/")[2] + SUFFIX


@dataclass(frozen=True)
class Sidecar:
    """The SHA-256 of file `name`, its content digest, and the SHA-256 of its cls datasets, as far as they are known."""

    name: str
    sha256: str
    content: str | None = None
    datasets: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The sidecar's bytes."""
        digests = ({"content": self.content} if self.content else {}) | dict(self.datasets)
        lines = [f"{self.sha256}  {self.name}", *(f"# {name} {digest}" for name, digest in digests.items())]
        return ("\n".join(lines) + "\n").encode()

    @classmethod
    def parse(cls, content: bytes | None) -> Sidecar | None:
        """What a sidecar holds; None where it is none of ours (a web page, another format)."""
        lines = (content or b"").decode(errors="replace").splitlines()
        whole = [found for line in lines if (found := _WHOLE.fullmatch(line))]
        if len(whole) != 1:
            return None
        digests = {found[1]: found[2] for line in lines if (found := _PART.fullmatch(line))}
        return cls(whole[0][2], whole[0][1], digests.pop("content", None), digests)

    @classmethod
    def of(cls, path: Path, progress: Callable[[int], None] = lambda _: None) -> Sidecar:
        """Read the embedding file at `path` once and take its digests. Raises DamagedFile, BadInput."""
        whole, read = hashlib.sha256(), 0
        with EmbeddingFile.open(path, pending=True) as file, path.open("rb") as stream:
            parts = {
                name: (dataset, hashlib.sha256())
                for name, dataset in file.header.datasets.items()
                if name.endswith(("/cls", "/cls_scale"))
            }
            while block := stream.read(_BLOCK):
                whole.update(block)
                for dataset, digest in parts.values():
                    start, stop = dataset.offset - read, dataset.offset + dataset.length - read
                    digest.update(block[max(start, 0) : max(stop, 0)])
                read += len(block)
                progress(len(block))
            digests = {name: digest.hexdigest() for name, (_, digest) in parts.items()}
            return cls(path.name, whole.hexdigest(), file.content_digest, digests)


@dataclass(frozen=True, eq=False)
class RangeVerification:
    """What stands for the row checksums where only a part of a row is taken.

    A row's checksum covers cls and tokens together, so cls alone is proven by the SHA-256 of the whole cls dataset
    in the sidecar; failing that, some rows are read whole: they show that the bytes are where they should be,
    not that each is right.
    """

    method: str
    sentence: str
    datasets: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    spans: Sequence[Span] = ()

    @classmethod
    def choose(cls, index: Index, selection: Selection, sidecar: Sidecar | None, *, whole: bool) -> RangeVerification:
        """The strongest proof that can be had; `whole`: of a file that is here as a whole, and checked."""
        if selection.level == "tokens" or whole:
            return cls("row checksums", "every row's checksum agrees")
        names = [
            name
            for name in index.header.datasets
            if name.partition("/")[0] in index.modalities and name.endswith(("/cls", "/cls_scale"))
        ]
        finished = not any(modality.pending.any() for modality in index.modalities.values())
        if selection.ids is None and finished and sidecar and set(names) <= set(sidecar.datasets):
            published = {name: sidecar.datasets[name] for name in names}
            sentence = f"the SHA-256 of {' and '.join(names)} is the one in {beside(index.name)}"
            return cls("SHA-256 of each dataset", sentence, published)
        rows = _sample(index, selection)
        count = sum(map(len, rows.values()))
        spans = [span for name, some in rows.items() for row in some.tolist() for span in _row_spans(index, name, row)]
        return cls(f"{count} rows of a sample", f"only a sample agrees, rows: {count:,}", {}, rows, spans)

    def check(self, download: PartialDownload, index: Index) -> None:
        """Raise DamagedFile where the bytes in `download` are not what they must be."""
        for name, expected in self.datasets.items():
            dataset, digest = index.header.datasets[name], hashlib.sha256()
            for done in range(0, dataset.length, _BLOCK):
                digest.update(download.read(dataset.offset + done, min(_BLOCK, dataset.length - done)))
            if (found := digest.hexdigest()) != expected:
                raise DamagedFile(
                    f"{index.name}: expected {name} with SHA-256 {expected} ({beside(index.name)}), found {found}; "
                    "nothing was kept; pull again, or from another place"
                )
        for name, rows in self.rows.items():
            modality = index.modalities[name]
            for row in rows.tolist():
                cls, tokens, *scales = (download.read(span.start, len(span)) for span in _row_spans(index, name, row))
                status, reason = int(modality.status[row]), int(modality.reason[row])
                if row_checksum(cls, tokens, status, reason, b"".join(scales)) != int(modality.checksum[row]):
                    raise DamagedFile(
                        f"{index.name}: {name} of item {index.ids[row]} is damaged: its checksum disagrees with its "
                        "bytes; nothing was kept; pull again, or from another place"
                    )


def _row_spans(index: Index, name: str, row: int) -> list[Span]:
    """Where a row's bytes lie, in the order of its checksum: cls, tokens, and the scales of int8."""
    datasets, offsets = index.header.datasets, index.modalities[name].offsets
    spans = []
    for part in ("cls", "tokens", "cls_scale", "tokens_scale"):
        dataset = datasets.get(f"{name}/{part}")
        if dataset is None:
            continue
        stride = dataset.length // dataset.shape[0] if dataset.length else 0
        first, stop = (row, row + 1) if part.startswith("cls") else (int(offsets[row]), int(offsets[row + 1]))
        spans.append(Span(dataset.offset + first * stride, dataset.offset + stop * stride))
    return spans


def _sample(index: Index, selection: Selection) -> dict[str, npt.NDArray[np.int64]]:
    """Some finished rows of each modality, at least one: drawn by the file's own digest, so that a call resumes."""
    wanted = np.arange(len(index)) if selection.ids is None else index.rows(selection.ids)
    chosen = {}
    for name, modality in index.modalities.items():
        rows = wanted[~modality.pending[wanted]]
        drawn = np.random.default_rng(modality.checksum[:1]).permutation(rows)
        costs = np.cumsum([sum(map(len, _row_spans(index, name, row))) for row in drawn[:1000].tolist()])
        budget = _SAMPLE * len(rows) * len(_row_spans(index, name, 0)[0])
        chosen[name] = drawn[: max(1, int(np.searchsorted(costs, budget, side="right")))]
    return chosen
