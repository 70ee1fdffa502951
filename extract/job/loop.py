"""The loop of stage one: inputs are read one step ahead of the encoder, rows are written one step behind it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.ids import IdArray
from ...data.embeddings.rows import RowWriter
from ...data.embeddings.status import Reason, Status
from ...data.runtime.errors import BadInput
from ...data.runtime.processor import usable_cores
from ...data.runtime.termination import finished_first
from ..inputs.decoders import Decoded, Decoders, Poster, side_by_side
from ..inputs.pixels import poster_pixels
from ..inputs.plan import ModalityPlan
from ..inputs.poster_files import PosterLimits, PosterProblem, read_poster
from ..inputs.processor_pixels import Inputs, Pixels, ProcessorPixels
from ..models.encoders import Embedded, ImageEncoder, TextEncoder, is_out_of_memory
from ..models.source import ModelSource
from ..models.structure import Structure

BATCHES_AHEAD = 2
_BATCHES_BEHIND = 2


class Feed(Protocol):
    """Where an encoder's inputs come from: `load` runs in threads, one input each; `encode` takes a batch of them."""

    def load(self, row: int) -> Any: ...

    def encode(self, inputs: list[Any]) -> Embedded: ...


class TextFeed:
    """Token ids out of the plan, padded to the longest of the batch."""

    def __init__(self, plan: ModalityPlan, encoder: TextEncoder) -> None:
        if plan.input_ids is None:
            raise ValueError("a text plan has input_ids")
        self._ids, self._plan, self._encoder = plan.input_ids, plan, encoder

    def load(self, row: int) -> npt.NDArray[np.int32]:
        """(1 + T_i,) token ids, CLS first; (T_i,) of an encoder without CLS."""
        ids = self._ids[self._plan.starts[row] : self._plan.starts[row + 1]]
        if not self._plan.has_cls:
            return np.ascontiguousarray(ids)
        return np.concatenate((np.array([self._plan.cls_id], np.int32), ids))

    def encode(self, inputs: list[npt.NDArray[Any]]) -> Embedded:
        """Hidden states (B, T, D), T the longest input's length, and vectors."""
        lengths = np.array([len(ids) for ids in inputs], np.int64)
        padded = np.full((len(inputs), lengths.max()), self._plan.pad_id, np.int32)
        for place, ids in zip(padded, inputs, strict=True):
            place[: len(ids)] = ids
        return self._encoder.embed(padded, lengths)


class PosterFeed:
    """Posters decoded and resized to pixels."""

    def __init__(
        self,
        plan: ModalityPlan,
        encoder: ImageEncoder,
        posters: list[str | None],
        root: Path,
        recipe: Pixels,
        limits: PosterLimits,
    ) -> None:
        self._plan, self._encoder, self._posters, self._root = plan, encoder, posters, root
        self._recipe, self._limits = recipe, limits
        # not `_from_file` itself: a feed that held itself would keep the file of its plan mapped until a collection
        self._read: Callable[[int], bytes] | None = None
        self._decoders: Decoders | None = None

    def reading(self, read: Callable[[int], bytes]) -> PosterFeed:
        """The same feed with posters as `read` gives them, in place of files."""
        other = copy(self)
        other._read = read
        return other

    def decoding(self, decoders: Decoders) -> PosterFeed:
        """The same feed with posters that processes decode, in place of threads."""
        other = copy(self)
        other._decoders = decoders
        return other

    def begin(self, rows: list[int]) -> Loading | None:
        """Have processes begin to load the posters of a batch; None where threads are to do it."""
        if self._decoders is None:
            return None
        posters = [Poster(self._posters[row] or "", self._plan.digest[row].tobytes()) for row in rows]
        return dict(zip(rows, self._decoders.begin(posters), strict=True))

    def load(self, row: int) -> npt.NDArray[np.uint8] | Inputs:
        """(H, W, 3) pixels, or what the model's own image processor makes.

        Raises PosterProblem, also where the file is no longer the one the plan saw.
        """
        raw = (self._read or self._from_file)(row)
        if hashlib.sha256(raw).digest() != self._plan.digest[row].tobytes():
            raise PosterProblem(Reason.CHANGED)
        if isinstance(self._recipe, ProcessorPixels):
            return self._recipe.load(raw, self._limits)
        return poster_pixels(raw, self._recipe, self._limits)

    def _from_file(self, row: int) -> bytes:
        path = self._posters[row]
        if path is None:
            raise PosterProblem(Reason.NOT_GIVEN)
        return read_poster(path, self._root, self._limits)

    def encode(self, inputs: list[Any]) -> Embedded:
        """Hidden states (B, 1 + P, D), CLS, then the patches, and vectors."""
        if isinstance(self._recipe, ProcessorPixels):
            return self._encoder.embed_inputs(stacked(inputs))
        return self._encoder.embed(side_by_side(inputs))


def load_encoder(
    source: ModelSource,
    recipe: Pixels | None,
    layer: int | None,
    device: str,
    precision: str,
    compile_: bool,
    structure: Structure | None = None,
    prompt_length: int = 0,
) -> TextEncoder | ImageEncoder:
    """The frozen encoder on its device: of posters where there is a `recipe` for their pixels, else of text.

    Raises BadInput where it does not run.
    """
    how: dict[str, Any] = {"device": device, "precision": precision, "layer": layer, "compile": compile_}
    how["structure"] = structure
    if recipe is None:
        return TextEncoder.load(source, **how, prompt_length=prompt_length)
    if isinstance(recipe, ProcessorPixels):
        encoder = ImageEncoder.load(source, **how)
        sample = recipe.at(source).sample()
        encoder.try_out(source, lambda: encoder.embed_inputs(sample))
        return encoder
    encoder = ImageEncoder.load(
        source,
        mean=recipe.mean,
        std=recipe.std,
        rescale_factor=recipe.rescale_factor,
        pixels=recipe.output,
        **how,
    )
    encoder.try_out(source, lambda: encoder.embed(np.zeros((1, *recipe.output, 3), np.uint8)))
    return encoder


def stacked(inputs: list[Inputs]) -> Inputs:
    """The inputs of several images, each (1, ...), as those of one batch, (B, ...)."""
    return {key: np.concatenate([one[key] for one in inputs]) for key in inputs[0]}


def feed_for(
    plan: ModalityPlan,
    encoder: TextEncoder | ImageEncoder,
    recipe: Pixels | None,
    posters: list[str | None],
    root: Path,
    limits: PosterLimits,
) -> Feed:
    """The inputs of `plan` for `encoder`; `posters` are as long as the plan, for posters alone."""
    if isinstance(encoder, TextEncoder):
        return TextFeed(plan, encoder)
    if recipe is None:
        raise ValueError("an image encoder needs the recipe of its pixels")
    return PosterFeed(plan, encoder, posters, root, recipe, limits)


@dataclass(frozen=True)
class Batch:
    """Inputs that are encoded together: where they stand in `plan` and `feed`, and their `rows` in the file, (K,) each.

    `wanted` (K,) says which of the rows are to be written. A plan of a whole catalogue has equal `places` and `rows`.
    Where `items` (K,) are given, the first input that fails ends the job, and is named.
    """

    plan: ModalityPlan
    feed: Feed
    places: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.bool_]
    items: IdArray | None = None

    def load(self, pool: ThreadPoolExecutor) -> Loading:
        """Begin to load each distinct input among them."""
        _, first = np.unique(self.plan.digest[self.places], axis=0, return_index=True)
        places = self.places[np.sort(first)].tolist()
        begun = self.feed.begin(places) if isinstance(self.feed, PosterFeed) else None
        return begun if begun is not None else {place: pool.submit(self.feed.load, place) for place in places}

    def encode(self, loading: Loading, dtype: str) -> Encoded:
        """Wait for the inputs and encode them, for storage as `dtype`. Raises BadInput where `items` says so."""
        good: dict[int, npt.NDArray[Any]] = {}
        failed: dict[int, PosterProblem] = {}
        for place, future in loading.items():
            try:
                good[place] = future.result()
            except PosterProblem as problem:
                failed[place] = problem
        if self.items is not None and failed:
            place, first = next(iter(failed.items()))
            item = self.items[self.places == place][0]
            raise BadInput(f"{self.plan.name} of item {item}: {first.reason.sentence} (--strict)")
        return Encoded(self, list(good), _encode(self.feed, list(good.values()), dtype), failed)


Loading = dict[int, "Future[npt.NDArray[Any]] | Decoded"]


class Sink(Protocol):
    """Where rows go: a `RowWriter`, or whatever takes them to one."""

    def write(
        self,
        modality: str,
        row: int,
        cls: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        status: Status,
        reason: Reason = ...,
    ) -> None: ...

    def write_absent(self, modality: str, row: int, status: Status, reason: Reason) -> None: ...


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
    advance(*encoded.write(writer))


@dataclass(frozen=True)
class _Stored:
    """An encoded batch in the storage dtype on the host: `values` (B, T, D), `finite` (B, T), once `ready` returns.

    The first `skip` positions are no tokens. `vectors` (B, V) are those of items; None: they are the first position.
    """

    values: torch.Tensor
    finite: torch.Tensor
    ready: Callable[[], None]
    vectors: torch.Tensor | None = None
    skip: int = 1

    @classmethod
    def joined(cls, parts: Sequence[_Stored]) -> _Stored:
        """Several batches as one, padded to the longest; waits until all of them are on the host."""
        for part in parts:
            part.ready()
        longest = max(part.values.shape[1] for part in parts)
        values = [pad(part.values, (0, 0, 0, longest - part.values.shape[1])) for part in parts]
        finite = [pad(part.finite, (0, longest - part.finite.shape[1]), value=True) for part in parts]
        vectors = [part.vectors for part in parts if part.vectors is not None]
        whole = torch.cat(vectors) if vectors else None
        return cls(torch.cat(values), torch.cat(finite), lambda: None, whole, parts[0].skip)


@dataclass(frozen=True)
class Encoded:
    """A batch behind its encoder: `encoded` are the places whose inputs it read, `failed` those it could not."""

    batch: Batch
    encoded: list[int]
    stored: _Stored | None
    failed: dict[int, PosterProblem]

    def write(self, sink: Sink) -> tuple[int, int, int]:
        """Put the wanted rows into `sink`. Gives the items written, encoder positions and bytes."""
        plan, batch = self.batch.plan, self.batch
        values, finite, vectors = self._on_host()
        skip = 1 if self.stored is None else self.stored.skip
        index = {plan.digest[place].tobytes(): number for number, place in enumerate(self.encoded)}
        problems = {plan.digest[place].tobytes(): problem.reason for place, problem in self.failed.items()}
        written = 0
        for place, row in zip(batch.places[batch.wanted].tolist(), batch.rows[batch.wanted].tolist(), strict=True):
            digest = plan.digest[place].tobytes()
            if digest in problems:
                sink.write_absent(plan.name, row, Status.FAILED, problems[digest])
                continue
            number = index[digest]
            length = skip + int(plan.lengths[place])
            embedding = values[number, :length]  # (1 + T_i, D), (T_i, D) without a CLS
            vector = embedding[0] if vectors is None else vectors[number]
            if not finite[number, :length].all() or not _is_finite(vector):
                sink.write_absent(plan.name, row, Status.FAILED, Reason.NOT_FINITE)
                continue
            status, reason = Status(plan.status[place]), Reason(plan.reason[place])
            tokens = embedding[skip : skip + int(plan.stored_lengths[place])]  # (T_i, D), or none
            sink.write(plan.name, row, vector, tokens, status, reason)
            written += vector.nbytes + tokens.nbytes
        positions = int(plan.positions_of[self.encoded].sum()) if self.encoded else 0
        return int(batch.wanted.sum()), positions, written

    def _on_host(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], npt.NDArray[Any] | None]:
        if self.stored is None:
            return np.empty((0, 0, 0)), np.empty((0, 0), np.bool_), None
        self.stored.ready()
        vectors = self.stored.vectors
        return (
            _as_numpy(self.stored.values),
            self.stored.finite.numpy(),
            None if vectors is None else _as_numpy(vectors),
        )


def _as_numpy(values: torch.Tensor) -> npt.NDArray[Any]:
    # numpy has no bfloat16: its bits
    return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()


def _is_finite(vector: npt.NDArray[Any]) -> bool:
    if vector.dtype == np.uint16:  # the bits of bfloat16, all of whose exponent are ones in what is not finite
        return bool(((vector & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(vector).all())


def _encode(feed: Feed, inputs: list[Any], dtype: str) -> _Stored | None:
    if not inputs:
        return None
    with torch.inference_mode():
        try:
            return _stored(feed, inputs, dtype)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # outside the except block: the error's traceback would keep the failed batch's tensors alive
        _free_memory()
        return _stored_or_halved(feed, inputs, dtype)


def _stored_or_halved(feed: Feed, inputs: list[Any], dtype: str) -> _Stored:
    """As `_stored`; what does not fit the device's memory is encoded in two halves, which are joined on the host.

    Whatever needs memory may be what fails: the encoder, rounding to ``dtype``, pinned memory, the copy to the host.
    """
    try:
        return _stored(feed, inputs, dtype)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(inputs) == 1:
            advice = "use a smaller model or max length"
            if not isinstance(error, MemoryError) and "CPUAllocator" not in str(error):
                advice += ", or --device cpu"
            raise BadInput(f"one single input does not fit the device's memory; {advice}") from error
    _free_memory()
    middle = len(inputs) // 2
    return _Stored.joined([_stored_or_halved(feed, half, dtype) for half in (inputs[:middle], inputs[middle:])])


def _free_memory() -> None:
    """Give back what torch's allocator keeps, once copies that still read it are done: the batch may fit then."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device in _copy_streams:
            torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def _stored(feed: Feed, inputs: list[Any], dtype: str) -> _Stored:
    """A batch encoded in one call, on its way to the host."""
    embedded = feed.encode(inputs)
    values = embedded.hidden.to(getattr(torch, dtype)).contiguous()  # (B, T, D)
    stored = _to_host(values, torch.isfinite(values).all(-1))
    if embedded.vectors is None:
        return replace(stored, skip=embedded.skip)
    vectors = embedded.vectors.to(getattr(torch, dtype)).contiguous().cpu()
    return replace(stored, vectors=vectors, skip=embedded.skip)


def _to_host(values: torch.Tensor, finite: torch.Tensor) -> _Stored:
    if values.device.type != "cuda":
        return _Stored(values.cpu(), finite.cpu(), lambda: None)
    # copied on a stream of its own, so that the next batch computes meanwhile
    computed, copied = event_after_work_on(values.device), torch.cuda.Event()  # type: ignore[no-untyped-call]
    stream = _copy_stream(values.device)
    on_host = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in (values, finite)]
    with torch.cuda.stream(stream):
        stream.wait_event(computed)
        for target, source in zip(on_host, (values, finite), strict=True):
            target.copy_(source, non_blocking=True)
            source.record_stream(stream)
        copied.record(stream)
    return _Stored(on_host[0], on_host[1], copied.synchronize)


def event_after_work_on(device: torch.device) -> torch.cuda.Event:
    """An event that completes when everything queued so far on the current stream of `device` is done."""
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


_copy_streams: dict[torch.device, torch.cuda.Stream] = {}


def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    if device not in _copy_streams:
        _copy_streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _copy_streams[device]


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
