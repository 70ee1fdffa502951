"""What transformers and the code of models print and raise: kept from the terminal, or said in one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from ...data.runtime.errors import BadInput, CinefuseError

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar, no loading report and no warning."""
    from transformers.utils import logging

    hub: Any = logging
    verbosity, bar = hub.get_verbosity(), hub.is_progress_bar_enabled()
    hub.set_verbosity(hub.CRITICAL)
    hub.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.set_verbosity(verbosity)
        if bar:
            hub.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error says, cut to one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a batch did not fit the device (or host) memory: a smaller batch may."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def refuse_failing(name: str, error: Exception, rounded: bool) -> NoReturn:
    """Raises BadInput in one line; too little memory, and what is a refusal already, stay as they are.

    ``rounded``: it was computed in bfloat16, which some operations lack.
    """
    if isinstance(error, CinefuseError) or is_out_of_memory(error):
        raise error
    advice = "try --precision fp32, or choose another model" if rounded else "choose another model"
    raise BadInput(
        f"{name}: transformers cannot run it: {type(error).__name__}: {first_line(error)}; {advice}"
    ) from error
