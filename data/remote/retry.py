"""How long a network is waited for: a few attempts in a row that bring nothing, with growing pauses between them."""

from __future__ import annotations

from threading import Event

from ..runtime.errors import BadInput
from .address import redacted


class Patience:
    """Counts attempts in a row that brought nothing, and waits longer before each next one.

    `given_up` is shared by all requests of a transfer: set, none of them waits or reads any longer.
    """

    def __init__(self, tries: int = 5, pause: float = 1.0, given_up: Event | None = None) -> None:
        self.tries, self.pause, self.failed = tries, pause, 0
        self.given_up = given_up or Event()

    def another(self) -> Patience:
        """The same patience for another request."""
        return Patience(self.tries, self.pause, self.given_up)

    def progress_was_made(self) -> None:
        """Something arrived: the count starts again."""
        self.failed = 0

    def wait_after(self, where: str, fault: Exception) -> None:
        """Wait; raises BadInput where that was the last attempt."""
        self.failed += 1
        if self.failed >= self.tries:
            raise BadInput(
                f"{where}: {self.tries} attempts in a row failed (last: {redacted(fault)}); what arrived is kept, "
                "the same command continues it"
            ) from None
        if self.given_up.wait(min(60.0, self.pause * 2 ** (self.failed - 1))):
            raise BadInput(f"{where}: given up; what arrived is kept, the same command continues it") from None
