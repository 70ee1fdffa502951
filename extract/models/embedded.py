"""A batch behind its encoder: as it comes out on the device, and as it is stored, on the host.

What does not fit the device's memory is encoded in halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import pad

from ...data.runtime.errors import BadInput
from .failures import is_out_of_memory

Encode = Callable[[list[Any]], "Embedded"]


@dataclass(frozen=True)
class Embedded:
    """A batch behind its encoder: ``hidden`` (B, P, D) on the device, of which the first ``skip`` are no tokens.

    ``vectors`` (B, V) are the inputs' vectors; None: they are the first position.
    """

    hidden: torch.Tensor
    vectors: torch.Tensor | None
    skip: int

    @classmethod
    def joined(cls, parts: Sequence[Embedded]) -> Embedded:
        """Several batches as one, padded to the longest."""
        longest = max(part.hidden.shape[1] for part in parts)
        hidden = [pad(part.hidden, (0, 0, 0, longest - part.hidden.shape[1])) for part in parts]
        vectors = [part.vectors for part in parts if part.vectors is not None]
        return cls(torch.cat(hidden), torch.cat(vectors) if vectors else None, parts[0].skip)


@dataclass(frozen=True)
class Stored:
    """An encoded batch in the storage dtype on the host: `values` (B, T, D), `finite` (B, T), once `ready` returns.

    The first `skip` positions are no tokens. `vectors` (B, V) are those of items; None: they are the first position.
    """

    values: torch.Tensor
    finite: torch.Tensor
    ready: Callable[[], None]
    vectors: torch.Tensor | None = None
    skip: int = 1

    @classmethod
    def joined(cls, parts: Sequence[Stored]) -> Stored:
        """Several batches as one, padded to the longest; waits until all of them are on the host."""
        for part in parts:
            part.ready()
        longest = max(part.values.shape[1] for part in parts)
        values = [pad(part.values, (0, 0, 0, longest - part.values.shape[1])) for part in parts]
        finite = [pad(part.finite, (0, longest - part.finite.shape[1]), value=True) for part in parts]
        vectors = [part.vectors for part in parts if part.vectors is not None]
        whole = torch.cat(vectors) if vectors else None
        return cls(torch.cat(values), torch.cat(finite), lambda: None, whole, parts[0].skip)


def encode_for_storage(encode: Encode, inputs: list[Any], dtype: str) -> Stored | None:
    """What ``encode`` makes of a batch, in the storage ``dtype`` and on its way to the host; None of no inputs."""
    if not inputs:
        return None
    with torch.inference_mode():
        try:
            return _stored(encode, inputs, dtype)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # outside the except block: the error's traceback would keep the failed batch's tensors alive
        _free_memory()
        return _stored_or_halved(encode, inputs, dtype)


def _stored_or_halved(encode: Encode, inputs: list[Any], dtype: str) -> Stored:
    """As `_stored`; what does not fit the device's memory is encoded in two halves, which are joined on the host.

    Whatever needs memory may be what fails: the encoder, rounding to ``dtype``, pinned memory, the copy to the host.
    """
    try:
        return _stored(encode, inputs, dtype)
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
    return Stored.joined([_stored_or_halved(encode, half, dtype) for half in (inputs[:middle], inputs[middle:])])


def _free_memory() -> None:
    """Give back what torch's allocator keeps, once copies that still read it are done: the batch may fit then."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device in _copy_streams:
            torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def _stored(encode: Encode, inputs: list[Any], dtype: str) -> Stored:
    """A batch encoded in one call, on its way to the host."""
    embedded = encode(inputs)
    values = embedded.hidden.to(getattr(torch, dtype)).contiguous()  # (B, T, D)
    stored = _to_host(values, torch.isfinite(values).all(-1))
    if embedded.vectors is None:
        return replace(stored, skip=embedded.skip)
    vectors = embedded.vectors.to(getattr(torch, dtype)).contiguous().cpu()
    return replace(stored, vectors=vectors, skip=embedded.skip)


def _to_host(values: torch.Tensor, finite: torch.Tensor) -> Stored:
    if values.device.type != "cuda":
        return Stored(values.cpu(), finite.cpu(), lambda: None)
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
    return Stored(on_host[0], on_host[1], copied.synchronize)


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
