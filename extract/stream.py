"""The loop of stage one: inputs are read one step ahead of the encoder, rows are written one step behind it."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..data.embeddings import EmbeddingFile
from ..data.errors import BadInput
from ..data.rows import RowWriter
from ..data.status import Reason, Status
from .encoders import ImageEncoder, TextEncoder, is_out_of_memory
from .images import poster_pixels
from .plan import ModalityPlan
from .poster import PosterLimits, PosterProblem, read_poster
from .recipe import PixelRecipe

_BATCHES_AHEAD = 2
_BATCHES_BEHIND = 2


class Feed(Protocol):
    """Where an encoder's inputs come from: `load` runs in threads, one input each; `encode` takes a batch of them."""

    def load(self, row: int) -> npt.NDArray[Any]: ...

    def encode(self, inputs: list[npt.NDArray[Any]]) -> torch.Tensor: ...


class TextFeed:
    """Token ids out of the plan, padded to the longest of the batch."""

    def __init__(self, plan: ModalityPlan, encoder: TextEncoder) -> None:
        if plan.input_ids is None:
            raise ValueError("a text plan has input_ids")
        self._ids, self._plan, self._encoder = plan.input_ids, plan, encoder
        self._offsets = np.concatenate(([0], np.cumsum(plan.lengths)))

    def load(self, row: int) -> npt.NDArray[np.int32]:
        """(1 + T_i,) token ids, CLS first."""
        ids = self._ids[self._offsets[row] : self._offsets[row + 1]]
        return np.concatenate((np.array([self._plan.cls_id], np.int32), ids))

    def encode(self, inputs: list[npt.NDArray[Any]]) -> torch.Tensor:
        """(B, T, D), T the longest input's length."""
        lengths = np.array([len(ids) for ids in inputs], np.int64)
        padded = np.full((len(inputs), lengths.max()), self._plan.pad_id, np.int32)
        for place, ids in zip(padded, inputs, strict=True):
            place[: len(ids)] = ids
        return self._encoder.encode(padded, lengths)


class PosterFeed:
    """Posters decoded and resized to pixels."""

    def __init__(
        self,
        plan: ModalityPlan,
        encoder: ImageEncoder,
        posters: list[str | None],
        root: Path,
        recipe: PixelRecipe,
        limits: PosterLimits,
    ) -> None:
        self._plan, self._encoder, self._posters, self._root = plan, encoder, posters, root
        self._recipe, self._limits = recipe, limits

    def load(self, row: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) pixels. Raises PosterProblem, also where the file is no longer the one the plan saw."""
        path = self._posters[row]
        if path is None:
            raise PosterProblem(Reason.NOT_GIVEN)
        raw = read_poster(path, self._root, self._limits)
        if hashlib.sha256(raw).digest() != self._plan.digest[row].tobytes():
            raise PosterProblem(Reason.CHANGED)
        return poster_pixels(raw, self._recipe, self._limits)

    def encode(self, inputs: list[npt.NDArray[Any]]) -> torch.Tensor:
        """(B, 1 + P, D): CLS, then the patches."""
        return self._encoder.encode(np.stack(inputs))


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
    whenever it is computed. `advance` is told the items, encoder positions and bytes of each batch. With `strict` the
    first input that fails ends the job with BadInput.
    """
    ids, dtype = file.ids, file[plan.name].dtype
    with RowWriter(file) as writer, _write_behind() as submit:
        loading = _one_step_ahead(batches, plan, feed.load)
        try:
            for rows, loaded in loading:
                failed = {row: error for row, error in loaded.items() if isinstance(error, PosterProblem)}
                if strict and failed:
                    row, problem = next(iter(failed.items()))
                    raise BadInput(f"{plan.name} of item {ids[row]}: {problem.reason.sentence} (--strict)")
                good = {row: value for row, value in loaded.items() if not isinstance(value, PosterProblem)}
                stored = _encode(feed, list(good.values()), dtype)
                submit(_Write(plan, writer, rows, list(good), stored, failed, wanted, advance))
        finally:
            loading.close()
        submit(writer.sync)


@dataclass(frozen=True)
class _Stored:
    """An encoded batch in the storage dtype on the host: `values` (B, T, D), `finite` (B, T), once `ready` returns."""

    values: torch.Tensor
    finite: torch.Tensor
    ready: Callable[[], None]


@dataclass(frozen=True)
class _Write:
    """Writes the wanted rows of one batch. Runs in the writing thread."""

    plan: ModalityPlan
    writer: RowWriter
    rows: npt.NDArray[np.int64]
    encoded: list[int]
    stored: _Stored | None
    failed: dict[int, PosterProblem]
    wanted: npt.NDArray[np.bool_]
    advance: Callable[[int, int, int], None]

    def __call__(self) -> None:
        values, finite = self._on_host()
        place = {self.plan.digest[row].tobytes(): index for index, row in enumerate(self.encoded)}
        problems = {self.plan.digest[row].tobytes(): problem.reason for row, problem in self.failed.items()}
        written = 0
        for row in self.rows[self.wanted[self.rows]].tolist():
            digest = self.plan.digest[row].tobytes()
            if digest in problems:
                self.writer.write_absent(self.plan.name, row, Status.FAILED, problems[digest])
                continue
            length = 1 + int(self.plan.lengths[row])
            embedding = values[place[digest], :length]  # (1 + T_i, D)
            if not finite[place[digest], :length].all():
                self.writer.write_absent(self.plan.name, row, Status.FAILED, Reason.NOT_FINITE)
                continue
            status, reason = Status(self.plan.status[row]), Reason(self.plan.reason[row])
            tokens = embedding[1 : 1 + int(self.plan.stored_lengths[row])]  # (T_i, D), or none
            self.writer.write(self.plan.name, row, embedding[0], tokens, status, reason)
            written += embedding[0].nbytes + tokens.nbytes
        positions = int((self.plan.lengths[self.encoded] + 1).sum()) if self.encoded else 0
        self.advance(int(self.wanted[self.rows].sum()), positions, written)

    def _on_host(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        if self.stored is None:
            return np.empty((0, 0, 0)), np.empty((0, 0), np.bool_)
        self.stored.ready()
        values = self.stored.values
        # numpy has no bfloat16: its bits
        return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy(), (
            self.stored.finite.numpy()
        )


def _encode(feed: Feed, inputs: list[npt.NDArray[Any]], dtype: str) -> _Stored | None:
    if not inputs:
        return None
    with torch.inference_mode():
        hidden = _encode_or_halve(feed, inputs)  # (B, T, D)
        values = hidden.to(getattr(torch, dtype)).contiguous()
        return _to_host(values, torch.isfinite(values).all(-1))


def _encode_or_halve(feed: Feed, inputs: list[npt.NDArray[Any]]) -> torch.Tensor:
    try:
        return feed.encode(inputs)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(inputs) == 1:
            raise BadInput(
                "one single input does not fit the device's memory; use a smaller model or max length, or --device cpu"
            ) from error
    # outside the except block: the error's traceback would keep the failed batch's tensors alive
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(inputs) // 2
    halves = [_encode_or_halve(feed, inputs[:middle]), _encode_or_halve(feed, inputs[middle:])]
    longest = max(half.shape[1] for half in halves)
    return torch.cat([torch.nn.functional.pad(half, (0, 0, 0, longest - half.shape[1])) for half in halves])


def _to_host(values: torch.Tensor, finite: torch.Tensor) -> _Stored:
    if values.device.type != "cuda":
        return _Stored(values.cpu(), finite.cpu(), lambda: None)
    # copied on a stream of its own, so that the next batch computes meanwhile
    computed, copied = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]
    computed.record()
    stream = _copy_stream(values.device)
    with torch.cuda.stream(stream):
        stream.wait_event(computed)
        on_host = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in (values, finite)]
        for target, source in zip(on_host, (values, finite), strict=True):
            target.copy_(source, non_blocking=True)
            source.record_stream(stream)
        copied.record(stream)
    return _Stored(on_host[0], on_host[1], copied.synchronize)


_copy_streams: dict[torch.device, torch.cuda.Stream] = {}


def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    if device not in _copy_streams:
        _copy_streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _copy_streams[device]


def _one_step_ahead(
    batches: Iterable[npt.NDArray[np.int64]], plan: ModalityPlan, load: Callable[[int], npt.NDArray[Any]]
) -> Generator[tuple[npt.NDArray[np.int64], dict[int, npt.NDArray[Any] | PosterProblem]], None, None]:
    """Each batch's rows, and what was loaded for each distinct input among them."""
    waiting: deque[tuple[npt.NDArray[np.int64], dict[int, Future[npt.NDArray[Any]]]]] = deque()
    pool = ThreadPoolExecutor(max(2, (os.cpu_count() or 1) - 1), "load")
    try:
        for rows in batches:
            _, first = np.unique(plan.digest[rows], axis=0, return_index=True)
            waiting.append((rows, {row: pool.submit(load, row) for row in rows[np.sort(first)].tolist()}))
            if len(waiting) > _BATCHES_AHEAD:
                yield _loaded(*waiting.popleft())
        while waiting:
            yield _loaded(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _loaded(
    rows: npt.NDArray[np.int64], futures: dict[int, Future[npt.NDArray[Any]]]
) -> tuple[npt.NDArray[np.int64], dict[int, npt.NDArray[Any] | PosterProblem]]:
    loaded: dict[int, npt.NDArray[Any] | PosterProblem] = {}
    for row, future in futures.items():
        try:
            loaded[row] = future.result()
        except PosterProblem as problem:
            loaded[row] = problem
    return rows, loaded


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
