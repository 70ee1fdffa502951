"""What a person sees of a transfer: a bar over its bytes on a terminal, nothing in a log; then one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..remote.remote_file import TransferProgress
from ..runtime.terminal import size
from ..runtime.untrusted_text import printable
from ..sharing.pull import Pulled
from ..sharing.push import Pushed


class _Bar(TransferProgress):
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def expect(self, total: int) -> None:
        self._bar.update(self._task, total=total)

    def advance(self, count: int) -> None:
        self._bar.advance(self._task, count)


@contextmanager
def transfer_bar(verb: str) -> Iterator[TransferProgress]:
    """A bar on standard error while bytes come or go, gone when done."""
    columns = (TextColumn(verb), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Bar(bar, bar.add_task("", total=None))


def pulled_line(pulled: Pulled) -> str:
    """What was brought, what of it crossed the network, and what proves it."""
    if pulled.already:
        return printable(f"{pulled.path}: already there; {pulled.proof}")
    before = f", {size(pulled.resumed)} were here already" if pulled.resumed else ""
    lines = (
        f"{pulled.path}: {size(pulled.needed)} ({size(pulled.received)} received{before}) from {pulled.source}",
        f"proof: {pulled.proof}",
        f"content digest of the source: {pulled.digest}",
    )
    return "\n".join(map(printable, lines))


def pushed_line(pushed: Pushed) -> str:
    """Where the file is, and what proves it."""
    verb = "already there" if pushed.already else "pushed"
    beside = f", with {', '.join(pushed.beside)}" if pushed.beside else ""
    return printable(f"{pushed.address}: {verb}{beside}; {pushed.proof}; SHA-256 {pushed.sha256}")
