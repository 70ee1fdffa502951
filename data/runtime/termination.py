"""SIGTERM, which schedulers send before they kill: what is in flight is finished, then the job stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import Terminated

# what is in flight may take so many seconds; a scheduler kills some time after the signal
PATIENCE = 8.0


class Sigterm(KeyboardInterrupt):
    """SIGTERM met outside of a block that has to be finished. Whatever handles Ctrl-C handles it too."""


_unfinished = 0
_requested = False


@contextmanager
def ending_on_sigterm(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """SIGTERM inside ends the job with Terminated (exit code 143); its message ends with `how_to_go_on()`.

    At once, or where a `finished_first` block is open at its end, though no later than `PATIENCE` seconds on. Outside
    of the main thread it does nothing: only that one receives signals.
    """
    global _requested
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _requested = False
    before = signal.signal(signal.SIGTERM, _stop), signal.signal(signal.SIGALRM, _stop_now)
    try:
        yield
    except Sigterm:
        raise Terminated(f"stopped by SIGTERM; {how_to_go_on()}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])
        _requested = False  # the next job of this process starts anew


@contextmanager
def finished_first() -> Iterator[None]:
    """SIGTERM that comes inside takes effect at the end of the block."""
    global _unfinished
    _unfinished += 1
    try:
        yield
    finally:
        _unfinished -= 1
    if _requested and not _unfinished:
        raise Sigterm


def stop_requested() -> bool:
    """Whether SIGTERM has come: a long `finished_first` block begins nothing new then."""
    return _requested


def _stop(number: int, frame: FrameType | None) -> None:
    global _requested
    if _requested or not _unfinished:
        _requested = True
        raise Sigterm
    _requested = True
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)


def _stop_now(number: int, frame: FrameType | None) -> None:
    raise Sigterm
