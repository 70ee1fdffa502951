"""Blocks worked on by a few threads at once: numpy, compressors and the disk let go of the interpreter meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .processor import usable_cores

_MOST_THREADS = 4  # the disk is the limit soon after
_AHEAD = 2  # pieces a thread that are begun before they are asked for: memory stays flat

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def blocks_of_rows(ends: npt.NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Rows cut into blocks, first row and end of each; `ends` (N,) is the size of all rows up to and with each.

    A block has at most the size `most`, or is one larger row.
    """
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
        yield start, stop
        start = stop


@contextmanager
def side_by_side(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Iterator[Result]]:
    """`work` of each of `pieces`, in their order; inside the block several are worked on at once.

    `pieces` are drawn in the caller's thread, a few ahead. What `work` raises comes out where its result would. However
    the block ends, nothing is at work any more once it has: what `work` writes to may be closed then.
    """
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(_threads(), "side-by-side") as pool:

        def results() -> Iterator[Result]:
            rest = iter(pieces)
            begun.extend(pool.submit(work, piece) for piece in islice(rest, _AHEAD * _threads()))
            while begun:
                yield begun.popleft().result()
                begun.extend(pool.submit(work, piece) for piece in islice(rest, 1))

        try:
            yield results()
        finally:
            for future in begun:
                future.cancel()


def _threads() -> int:
    return min(_MOST_THREADS, usable_cores())
