"""FILE.sha256: what a file's bytes must be, in the format of `sha256sum -c`, for anyone who pulls all or part of it.

The lines behind the first are comments to sha256sum: the content digest, and the SHA-256 of each dataset that the file
itself cannot prove alone (a row's checksum covers its cls together with its tokens).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..embeddings.file import EmbeddingFile

SUFFIX = ".sha256"
_BLOCK = 2**20
_WHOLE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_PART = re.compile(r"# (content|(?:text|image)/cls(?:_scale)?) ([0-9a-f]{64})")


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
