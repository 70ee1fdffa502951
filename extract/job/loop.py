"""The loop of stage one: inputs are read one step ahead of the encoder, rows are written one step behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt

from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.rows import RowWriter
from ...data.runtime.processor import usable_cores
from ...data.runtime.termination import finished_first
from ..inputs.plan import ModalityPlan
from .batch import Batch, Encoded
from .feeds import Feed, Loading

BATCHES_AHEAD = 2
_BATCHES_BEHIND = 2


def encode_rows(
    file: EmbeddingFile,
    plan: ModalityPlan,
    batches: Iterable[npt.NDArray[np.int64]],
    feed: Feed,
    wanted: npt.NDArray[np.bool_],
    *,
    strict: bool,
    advance: Callable[[int, int, int], None],
) -> None:
    """Encode `batches` (each the rows that are encoded together) and write those rows that are `wanted` (N,).

    A whole batch is always encoded, even where a single row of it is wanted, so that every row comes out the same
    whenever it is computed. `advance` gets the items, encoder positions and bytes of each batch. With `strict` the
    first input that fails ends the job with BadInput.
    """
    ids = file.ids if strict else None
    dtype = file[plan.name].dtype
    with RowWriter(file) as writer, _write_behind() as submit:
        loading = _one_step_ahead(
            Batch(plan, feed, rows, rows, wanted[rows], None if ids is None else ids[rows]) for rows in batches
        )
        try:
            for batch, inputs in loading:
                with finished_first():
                    submit(partial(_write, batch.encode(inputs, dtype), writer, advance))
        finally:
            loading.close()
        submit(writer.sync)


def _write(encoded: Encoded, writer: RowWriter, advance: Callable[[int, int, int], None]) -> None:
    advance(*encoded.write(partial(writer.put, encoded.batch.plan.name)))


def _one_step_ahead(batches: Iterable[Batch]) -> Generator[tuple[Batch, Loading], None, None]:
    """Each batch, the inputs of the next ones loading meanwhile."""
    waiting: deque[tuple[Batch, Loading]] = deque()
    pool = ThreadPoolExecutor(loading_threads(), "load")
    try:
        for batch in batches:
            waiting.append((batch, batch.load(pool)))
            if len(waiting) > BATCHES_AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def loading_threads() -> int:
    """How many threads load inputs: one a core, but for the one that feeds the encoder."""
    return max(2, usable_cores() - 1)


@contextmanager
def _write_behind() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Runs what is submitted in one thread, in order, at most two batches behind; its errors surface at the next one.

    On the way out everything submitted is finished first, also after an error or Ctrl-C: what is computed is kept.
    """
    behind: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, "write") as pool:

        def submit(write: Callable[[], None]) -> None:
            while len(behind) >= _BATCHES_BEHIND or (behind and behind[0].done()):
                behind.popleft().result()
            behind.append(pool.submit(write))

        yield submit
        while behind:
            behind.popleft().result()
