"""Progress of long work: a bar on a terminal or in a notebook, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import rich.progress
from rich.console import Console

Unit = Literal["items", "users", "trials", "bytes", "steps"]
_PASSING: tuple[Unit, ...] = ("bytes", "steps")  # their phases leave nothing behind
"""What a phase counts. The end of a phase of steps is a message of its caller, such as the errors of an epoch."""

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.05


class Progress(Protocol):
    """Receives the progress of long work. Every long function takes one; None stands for `NoProgress`."""

    def message(self, text: str) -> None:
        """Show one line of information."""

    def event(self, kind: str, /, **fields: Any) -> None:
        """Record an event for programs, `fields` ready for JSON; people see the same elsewhere."""

    def phase(
        self, name: str, total: int | None = None, unit: Unit = "items", *, work: int = 0
    ) -> AbstractContextManager[Phase]:
        """Open a phase of `total` items, bytes or the like (None: not known yet) for the duration of a `with` block.

        `work` is the total cost in units of the caller's own where items differ in cost; 0 if all cost the same.
        """


@dataclass
class Phase:
    """The running counts of one phase. `size` is in bytes; in a phase of bytes `done` counts them already."""

    name: str
    total: int | None = None
    unit: Unit = "items"
    work: int = 0
    done: int = 0
    work_done: int = 0
    size_done: int = 0
    started: float = field(default_factory=time.monotonic)

    def advance(self, count: int, work: int = 0, size: int = 0) -> None:
        """Add to the counts; a negative `count` takes back what has to be done again."""
        self.done += count
        self.work_done += work
        self.size_done += size

    def expect(self, total: int) -> None:
        """Set the total, once it is known."""
        self.total = total

    @property
    def seconds(self) -> float:
        """Seconds since the phase began, never 0."""
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def share_done(self) -> float | None:
        """The share of the phase that is done, 0 to 1; None where the total is unknown."""
        if self.work:
            return self.work_done / self.work
        return None if self.total is None else self.done / max(self.total, 1)

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end at the pace so far; None where that is not known."""
        share = self.share_done
        if not share:
            return None
        return self.seconds / share * (1 - share) if share < 1 else 0.0

    @property
    def megabytes_per_second(self) -> float:
        """Megabytes per second so far."""
        return (self.done if self.unit == "bytes" else self.size_done) / self.seconds / 1e6

    @property
    def rates(self) -> str:
        """Items, or steps, and megabytes per second so far."""
        parts = [] if self.unit == "bytes" else [f"{self.done / self.seconds:,.1f} {self.unit}/s"]
        if self.unit == "bytes" or self.size_done:
            parts.append(f"{self.megabytes_per_second:.1f} MB/s")
        return "  ".join(parts)

    @property
    def counts(self) -> str:
        """How much is done, of how much."""
        return f"{self.done:,}" + ("" if self.total is None else f"/{self.total:,}")


class NoProgress:
    """Shows nothing."""

    def message(self, text: str) -> None:
        """Drop the line."""

    def event(self, kind: str, /, **fields: Any) -> None:
        """Drop the event."""

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: Unit = "items", *, work: int = 0) -> Iterator[Phase]:
        """Count, and show nothing."""
        yield Phase(name, total, unit, work)


class TerminalProgress:
    """Shows a bar with rates and the time left on standard error; in a log, a line every 10 seconds.

    A phase of items, users or trials leaves its bar, or its last line, behind; one of bytes or steps leaves nothing. A
    notebook shows bars where ipywidgets is installed. A phase inside another one is not shown.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._is_open = False

    def message(self, text: str) -> None:
        """Print the line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def event(self, kind: str, /, **fields: Any) -> None:
        """Show nothing: events are for programs."""

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: Unit = "items", *, work: int = 0) -> Iterator[Phase]:
        """Show the phase while it runs."""
        if self._is_open:
            yield Phase(name, total, unit, work)
            return
        self._is_open = True
        try:
            if self._has_bars():
                with rich.progress.Progress(*_columns(unit), console=self._console, transient=unit in _PASSING) as bar:
                    phase = _BarPhase(name, total, unit, work, bar=bar, task=bar.add_task(name, total=None, text=""))
                    phase.show()
                    try:
                        yield phase
                    finally:
                        phase.show()
            else:
                yield _LoggedPhase(name, total, unit, work, log=self)
        finally:
            self._is_open = False

    def _has_bars(self) -> bool:
        return self._console.is_terminal or (self._console.is_jupyter and find_spec("ipywidgets") is not None)


def _columns(unit: Unit) -> list[rich.progress.ProgressColumn]:
    if unit == "bytes":
        return [
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.DownloadColumn(),
            rich.progress.TransferSpeedColumn(),
            rich.progress.TimeRemainingColumn(),
        ]
    return [
        rich.progress.TextColumn("{task.description:<16}", markup=False),
        rich.progress.BarColumn(bar_width=30),
        rich.progress.TextColumn("{task.fields[text]}", markup=False),
        rich.progress.TimeRemainingColumn(),
    ]


@dataclass(kw_only=True)
class _BarPhase(Phase):
    bar: rich.progress.Progress
    task: rich.progress.TaskID
    shown: float = 0.0

    def advance(self, count: int, work: int = 0, size: int = 0) -> None:
        super().advance(count, work, size)
        if time.monotonic() - self.shown >= _SECONDS_BETWEEN_UPDATES:
            self.show()

    def expect(self, total: int) -> None:
        super().expect(total)
        self.show()

    def show(self) -> None:
        self.shown = time.monotonic()
        if self.unit == "bytes":
            self.bar.update(self.task, completed=self.done, total=self.total)
        else:
            share = self.share_done
            total = None if share is None else 1.0
            self.bar.update(self.task, completed=share or 0.0, total=total, text=f"{self.counts} {self.rates}")


@dataclass(kw_only=True)
class _LoggedPhase(Phase):
    log: TerminalProgress
    logged: float = field(default_factory=time.monotonic)

    def advance(self, count: int, work: int = 0, size: int = 0) -> None:
        super().advance(count, work, size)
        is_last = self.unit not in _PASSING and self.total is not None and self.done >= self.total
        if is_last or time.monotonic() - self.logged >= _SECONDS_BETWEEN_LINES:
            self.logged = time.monotonic()
            left = "" if self.seconds_left is None else f"  {self.seconds_left:,.0f} s left"
            self.log.message(f"{self.name}: {self.counts}  {self.rates}{left}")
