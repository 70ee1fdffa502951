"""Which device trains, in which precision and on how many threads: what was asked for, or what the machine has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..data.errors import UsageError
from ..data.processor import has_native_bfloat16
from .config import Config, Precision

_WORTH_SHARING = 2**18  # numbers in a tensor; 128 films of CLS embeddings at width 128 are a quarter of it


def resolve_device(name: str) -> torch.device:
    """The device of that name; auto: a GPU where there is one. UsageError for one that is not there."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: this machine has no usable GPU; use --device cpu")
    return device


def resolve_precision(config: Config, device: torch.device) -> Precision:
    """What the config asks for; auto: bf16 where the hardware has it natively, else fp32."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and has_native_bfloat16() else "fp32"


@contextmanager
def threads_worth(numbers: int) -> Iterator[None]:
    """Compute on one thread where tensors hold no more than so few ``numbers``: to share them out takes longer.

    For then it is the threads' waiting for each other, at every operation, that takes the time (docs/benchmarks.md).
    """
    threads = torch.get_num_threads()
    if numbers >= _WORTH_SHARING or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
