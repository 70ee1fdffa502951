"""What a person sees while a long job runs: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 10.0


class Watcher(Protocol):
    """Is told how a job goes on."""

    def say(self, line: str) -> None:
        """One line of information."""

    def event(self, name: str, /, **fields: Any) -> None:
        """Something that programs want to know and people see elsewhere; `fields` are ready for JSON."""

    @contextmanager
    def phase(self, name: str, items: int, work: int = 0) -> Iterator[Phase]:
        """A stretch of work over so many items, which cost `work` units in all (0: each item costs the same)."""


@dataclass
class Phase:
    """The running counts of one stretch of work."""

    name: str
    items: int
    work: int = 0
    items_done: int = 0
    work_done: int = 0
    bytes_done: int = 0
    started: float = field(default_factory=time.monotonic)

    def advance(self, items: int, work: int = 0, size: int = 0) -> None:
        """Count so many more items, units of work, and bytes."""
        self.items_done += items
        self.work_done += work
        self.bytes_done += size

    @property
    def seconds(self) -> float:
        """Seconds since the phase began, never 0."""
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def share_done(self) -> float:
        """How much of the phase is behind us, 0 to 1."""
        return self.work_done / self.work if self.work else self.items_done / max(self.items, 1)

    @property
    def rates(self) -> str:
        """Items and megabytes per second so far."""
        megabytes = f"  {self.bytes_done / self.seconds / 1e6:.1f} MB/s" if self.bytes_done else ""
        return f"{self.items_done / self.seconds:,.1f} items/s{megabytes}"


class Silent:
    """Tells nobody."""

    def say(self, line: str) -> None:
        """Drop the line."""

    def event(self, name: str, /, **fields: Any) -> None:
        """Drop the event."""

    @contextmanager
    def phase(self, name: str, items: int, work: int = 0) -> Iterator[Phase]:
        """Count, and show nothing."""
        yield Phase(name, items, work)


class Terminal:
    """Shows a bar with items/s, MB/s and the time left; where standard error is no terminal, a line every 10 s."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def say(self, line: str) -> None:
        """Print the line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def event(self, name: str, /, **fields: Any) -> None:
        """Show nothing: events are for programs."""

    @contextmanager
    def phase(self, name: str, items: int, work: int = 0) -> Iterator[Phase]:
        """Show the phase while it runs."""
        if self._console.is_terminal:
            with self._bar() as bar:
                task = bar.add_task(name, total=1.0, items=f"0/{items:,}", rates="")
                yield _ShownPhase(name, items, work, bar=bar, task=task)
        else:
            yield _LoggedPhase(name, items, work, log=self)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[items]}"),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(),
            console=self._console,
        )


@dataclass(kw_only=True)
class _ShownPhase(Phase):
    bar: Progress
    task: TaskID

    def advance(self, items: int, work: int = 0, size: int = 0) -> None:
        super().advance(items, work, size)
        self.bar.update(
            self.task,
            completed=self.share_done,
            items=f"{self.items_done:,}/{self.items:,}",
            rates=self.rates,
        )


@dataclass(kw_only=True)
class _LoggedPhase(Phase):
    log: Terminal
    told: float = field(default_factory=time.monotonic)

    def advance(self, items: int, work: int = 0, size: int = 0) -> None:
        super().advance(items, work, size)
        finished = self.items_done >= self.items
        if finished or time.monotonic() - self.told >= _SECONDS_BETWEEN_LINES:
            self.told = time.monotonic()
            done = self.share_done
            left = self.seconds / done * (1 - done) if 0 < done < 1 else 0.0
            self.log.say(f"{self.name}: {self.items_done:,}/{self.items:,}  {self.rates}  {left:,.0f} s left")
