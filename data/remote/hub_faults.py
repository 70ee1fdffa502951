"""Faults of the Hugging Face Hub, by whatever HTTP library huggingface_hub met them: those that pass, and a timeout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .retry import PASSING_STATUS, TransientTransferError, retry_after


def chain(fault: BaseException) -> Iterator[BaseException]:
    """The fault and what caused it."""
    one: BaseException | None = fault
    for _ in range(8):
        if one is None:
            return
        yield one
        one = one.__cause__


def kinds_of(fault: BaseException) -> set[str]:
    """The names of the fault's class and of all those it is derived from."""
    return {kind.__name__ for kind in type(fault).__mro__}


def status_of(fault: BaseException) -> int | None:
    """The status that the Hub answered; None where it did not."""
    status = getattr(getattr(fault, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def passing_fault(fault: Exception) -> TransientTransferError | None:
    """What went wrong for a while; None where it is nothing of that kind."""
    for one in chain(fault):
        status, kinds = status_of(one), kinds_of(one)
        if status is not None and (status in PASSING_STATUS or status >= 500):
            header = getattr(one, "response").headers.get("Retry-After", "")  # noqa: B009  of any HTTP library
            return TransientTransferError(f"the hub answers {status}", retry_after(header))
        if kinds & {"ConnectTimeout", "ConnectError"}:
            return TransientTransferError("the hub cannot be reached")
        if "TimeoutException" in kinds:
            return TransientTransferError(f"the hub has sent nothing for {_patience():g} s")
        if "TransportError" in kinds or "Consistency check failed" in str(one):
            return TransientTransferError("the connection broke")
    return None


@contextmanager
def never_waiting_for_ever() -> Iterator[None]:
    """Inside, huggingface_hub's requests have a timeout: those for listings have none of their own."""
    from huggingface_hub import get_session

    def limit(request: Any) -> None:
        given = request.extensions.get("timeout", {})
        limits = {kind: given.get(kind) or _patience() for kind in ("connect", "read", "write")}
        request.extensions = {**request.extensions, "timeout": {**given, **limits}}

    session = get_session()
    hooks = session.event_hooks
    session.event_hooks = {**hooks, "request": [*hooks.get("request", []), limit]}
    try:
        yield
    finally:
        session.event_hooks = hooks


def _patience() -> float:
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
