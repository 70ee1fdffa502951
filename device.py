"""What both stages need of torch: the device, the precision and the number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch

from .data.runtime.errors import UsageError
from .data.runtime.processor import has_native_bfloat16, usable_cores

Precision = Literal["bf16", "fp32"]

_FEWEST_NUMBERS_TO_SHARE = 2**18  # 128 items of CLS embeddings at width 128 are a quarter of it

# torch counts the cores of the machine or of the affinity mask, but not what a container's CPU quota allows
if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_cores():
    torch.set_num_threads(usable_cores())


def use_threads(threads: int | None) -> None:
    """Compute on so many CPU threads from now on, in this process. None leaves them as they are."""
    if threads is not None:
        torch.set_num_threads(threads)


def resolve_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda``, ``cuda:n`` or ``mps`` as a device that is there. Raises UsageError otherwise."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(f"--device {name}: this machine has {count} CUDA devices; use --device cpu or auto")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise UsageError(f"--device {name}: this machine has no Apple GPU; use --device cpu or auto")
    elif device.type != "cpu":
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps")
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """``bf16`` or ``fp32``; ``auto`` is bf16 where the hardware multiplies it natively. Raises UsageError otherwise."""
    if name in ("bf16", "fp32"):
        return cast("Precision", name)
    if name != "auto":
        raise UsageError(f"--precision {name}: expected auto, bf16 or fp32")
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and has_native_bfloat16() else "fp32"


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread inside, so that the result does not depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def threads_for(numbers: int) -> Iterator[None]:
    """Compute on one thread where tensors hold too few ``numbers`` to be worth sharing out among all.

    Below that the threads' waiting for each other, at every operation, takes longer than the work (docs/benchmarks.md).
    """
    if numbers >= _FEWEST_NUMBERS_TO_SHARE or torch.get_num_threads() == 1:
        yield
        return
    with one_thread():
        yield
