"""A whole extraction as a scheduler sees it: started, watched by its events, stopped by SIGTERM, ended with a code."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ...data.runtime.event_log import EventLog
from ...data.runtime.progress import Progress, TerminalProgress
from ...data.runtime.termination import ending_on_sigterm
from ..cluster.connection import Cluster
from .settings import Settings
from .slices import Slice


def run_batch(
    dataset: Path,
    out: Path,
    settings: Settings,
    share: Slice | None = None,
    cluster: Cluster | None = None,
    log: str | None = None,
) -> None:
    """Extract, reporting to people on the terminal and to programs in `log` (a file, or ``-``: standard output).

    Raises Terminated where SIGTERM came, Interrupted on Ctrl-C: whatever is finished is kept.
    """
    events = None if log is None else EventLog(log, TerminalProgress())
    progress: Progress = events or TerminalProgress()
    job: AbstractContextManager[None] = nullcontext()
    if events is not None:
        fields = {"dataset": str(dataset), "out": str(out), "engine": "local" if cluster is None else "ray"}
        job = events.job("extract", **fields, **({"slice": str(share)} if share else {}))
    with job, ending_on_sigterm(lambda: _how_to_go_on(out)):
        from ..commands.screen import show_summary
        from .extraction import Engine, ThisProcess, extract

        engine: AbstractContextManager[Engine] = nullcontext(ThisProcess())
        if cluster is not None:
            from ..cluster.engine import RayEngine

            engine = RayEngine(cluster, settings, out, progress)
        with engine as encoding:
            summary = extract(dataset, out, encoding.settled(settings), progress, share=share, engine=encoding)
        for outcome in summary.outcomes:
            progress.event("done", **outcome.record)
        progress.event("file", path=str(out), bytes=summary.bytes, content_digest=summary.content_digest)
        show_summary(summary, share, aside=log == "-")


def _how_to_go_on(out: Path) -> str:
    partial = Path(f"{out}.partial")
    kept = f"what is finished is kept in {partial}: " if partial.exists() else ""
    return f"{kept}run the same command again to {'go on' if kept else 'start'}"
