"""Which failures of a transfer are worth a retry, and how long to wait before it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event
from typing import Final, TypeVar

from ..runtime.errors import BadInput
from .address import redacted

_LONGEST_PAUSE: Final = 60.0  # seconds
LONGEST_RETRY_AFTER: Final = 300.0  # seconds; no server is waited for longer
PASSING_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

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

    `given_up` is shared by all requests of a transfer: once set, none of them waits or reads any longer. `part` names
    the file that grows, so that a refusal promises what is really there.
    """

    def __init__(self, tries: int = 5, pause: float = 1.0, given_up: Event | None = None) -> None:
        self.tries, self.pause, self.failed = tries, pause, 0
        self.given_up = given_up or Event()
        self.part: Path | None = None

    def renewed(self) -> Retry:
        """The same limits with a count of its own, for another request."""
        again = Retry(self.tries, self.pause, self.given_up)
        again.part = self.part
        return again

    def reset(self) -> None:
        """Start the count again: something arrived."""
        self.failed = 0

    def wait_after(self, where: str, fault: Exception) -> None:
        """Wait before the next attempt, as long as the server asked for; raises BadInput after the last one."""
        self.failed += 1
        if self.failed >= self.tries:
            raise BadInput(
                f"{where}: {self.tries} attempts in a row failed (last: {redacted(fault)}); {self._how_to_go_on()}"
            ) from None
        pause = min(_LONGEST_PAUSE, self.pause * 2 ** (self.failed - 1))
        if isinstance(fault, TransientTransferError):
            pause = max(pause, min(fault.retry_after, LONGEST_RETRY_AFTER))
        if self.given_up.wait(pause):
            raise BadInput(f"{where}: given up; {self._how_to_go_on()}") from None

    def _how_to_go_on(self) -> str:
        if self.part is not None and self.part.exists() and self.part.stat().st_size:
            return "what arrived is kept, the same command continues it"
        return "nothing arrived; run the same command again later"


def retry_after(header: str) -> float:
    """Seconds from a Retry-After, which is a number or a date; 0 where it is neither."""
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    return 0.0


def with_retries(retry: Retry, where: str, work: Callable[[], _Result]) -> _Result:
    """The result of `work`, called again after each TransientTransferError. Raises BadInput when `retry` is used up."""
    retry = retry.renewed()
    while True:
        try:
            return work()
        except TransientTransferError as fault:
            retry.wait_after(where, fault)
