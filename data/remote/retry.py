"""Which failures of a transfer are worth a retry, and how long to wait before it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Final, TypeVar

from ..runtime.errors import BadInput
from .address import redacted

_LONGEST_PAUSE: Final = 60.0  # seconds
_LONGEST_RETRY_AFTER: Final = 300.0  # seconds; a server that wants more is tried earlier

_Result = TypeVar("_Result")


class TransientTransferError(Exception):
    """A transfer failed in a way that may pass: the same request may succeed a moment later.

    `retry_after` are the seconds that the server asks to be left alone for, 0 where it does not say.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Retry:
    """Counts failed attempts in a row and waits before the next: `pause` seconds, doubled each time, at most a minute.

    `given_up` is shared by all requests of a transfer: once set, none of them waits or reads any longer.
    """

    def __init__(self, tries: int = 5, pause: float = 1.0, given_up: Event | None = None) -> None:
        self.tries, self.pause, self.failed = tries, pause, 0
        self.given_up = given_up or Event()

    def renewed(self) -> Retry:
        """The same limits with a count of its own, for another request."""
        return Retry(self.tries, self.pause, self.given_up)

    def reset(self) -> None:
        """Start the count again: something arrived."""
        self.failed = 0

    def wait_after(self, where: str, fault: Exception) -> None:
        """Wait before the next attempt, as long as the server asked for; raises BadInput after the last one."""
        self.failed += 1
        if self.failed >= self.tries:
            raise BadInput(
                f"{where}: {self.tries} attempts in a row failed (last: {redacted(fault)}); what arrived is kept, "
                "the same command continues it"
            ) from None
        pause = min(_LONGEST_PAUSE, self.pause * 2 ** (self.failed - 1))
        if isinstance(fault, TransientTransferError):
            pause = max(pause, min(fault.retry_after, _LONGEST_RETRY_AFTER))
        if self.given_up.wait(pause):
            raise BadInput(f"{where}: given up; what arrived is kept, the same command continues it") from None


def with_retries(retry: Retry, where: str, work: Callable[[], _Result]) -> _Result:
    """The result of `work`, called again after each TransientTransferError. Raises BadInput when `retry` is used up."""
    retry = retry.renewed()
    while True:
        try:
            return work()
        except TransientTransferError as fault:
            retry.wait_after(where, fault)
