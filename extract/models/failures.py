"""What the code of models raises: too little memory, where a smaller batch may fit, or a failure said in one line."""

from __future__ import annotations

from typing import NoReturn

from ...data.runtime.errors import BadInput, CinefuseError

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


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
