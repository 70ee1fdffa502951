"""The plan of posters: each file is read, hashed and probed in threads, without decoding a pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...data.embeddings.status import Reason, Status
from ...data.runtime.processor import usable_cores
from .plan import ModalityPlan, chunks
from .poster_files import PosterLimits, PosterProblem, read_poster
from .poster_header import checked_format

_POSTERS_AT_A_TIME = 64


class Probed(NamedTuple):
    """What is known of some posters, one after another: a byte of status and reason each, and 32 of digest."""

    status: bytes
    reason: bytes
    digest: bytes


@contextmanager
def probing(posters: list[str | None], root: Path, limits: PosterLimits) -> Iterator[Iterator[Probed]]:
    """Begins to read and probe every poster (None: the item has none) in threads, and gives what they find, in order.

    No pixel is decoded. It goes on while the caller does something else; on the way out what has not begun is dropped.
    """

    def probe(chunk: list[str | None]) -> Probed:
        found = [_probe(path, root, limits) for path in chunk]
        status, reason, digest = zip(*found, strict=True)
        return Probed(bytes(status), bytes(reason), b"".join(digest))

    pool = ThreadPoolExecutor(min(8, usable_cores() * 2), "probe")
    try:
        begun = [pool.submit(probe, chunk) for chunk in chunks(posters, _POSTERS_AT_A_TIME)]
        yield (chunk.result() for chunk in begun)
    finally:
        pool.shutdown(cancel_futures=True)


def _probe(path: str | None, root: Path, limits: PosterLimits) -> tuple[Status, Reason, bytes]:
    if path is None:
        return Status.MISSING, Reason.NOT_GIVEN, bytes(32)
    try:
        raw = read_poster(path, root, limits)
        checked_format(raw, limits)
    except PosterProblem as problem:
        return Status.FAILED, problem.reason, bytes(32)
    return Status.OK, Reason.NONE, hashlib.sha256(raw).digest()


def plan_posters(
    probed: Iterable[Probed],
    *,
    width: int,
    patches: int,
    progress: Callable[[int], None],
    has_cls: bool = True,
    token_width: int | None = None,
) -> ModalityPlan:
    """The plan of posters as `probing` finds them; `cut_posters` makes the batches."""
    pieces = []
    for piece in probed:
        pieces.append(piece)
        progress(len(piece.status))
    status, reason, digest = (
        np.frombuffer(b"".join(getattr(piece, name) for piece in pieces), np.uint8) for name in Probed._fields
    )
    return ModalityPlan(
        name="image",
        width=width,
        status=status,
        reason=reason,
        lengths=np.where(status == Status.OK, patches, 0).astype(np.int64),
        digest=digest.reshape(-1, 32),
        batch=np.full(len(status), -1, np.int32),
        has_cls=has_cls,
        token_width=token_width,
    )
