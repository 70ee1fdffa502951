"""`cache info` and `cache verify` on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from .overview import Failure
from .verify import Report

_MOST_PROBLEMS = 20


def show_overview(told: dict[str, Any]) -> None:
    """One screen: what the file is, what made it, how much of the catalogue it covers."""
    console = Console(highlight=False)
    state = "complete" if told["complete"] else "[bold]unfinished[/bold]: run the same extract again to go on"
    console.print(f"[bold]{told['path']}[/bold]  {size(told['bytes'])}, {told['items']:,} items, {state}")
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("")
    for name in told["modalities"]:
        table.add_column(name)
    columns = [_column(modality) for modality in told["modalities"].values()]
    for row in columns[0]:
        table.add_row(row, *(column.get(row, "") for column in columns))
    console.print(table)
    about = told["about"]
    for key in ("catalogue", "source", "licence", "made_by"):
        if about.get(key):
            console.print(f"{key.replace('_', ' '):<11} {about[key]}", markup=False)
    if isinstance(about.get("libraries"), dict):
        console.print("libraries   " + ", ".join(f"{k} {v}" for k, v in about["libraries"].items()), markup=False)
    console.print(f"digest      {told['content_digest']}")


def _column(modality: dict[str, Any]) -> dict[str, str]:
    fingerprint, status = modality["fingerprint"], modality["status"]
    per_item = modality["tokens_per_item"]
    grid = modality.get("grid")
    return {
        "model": str(modality.get("model")),
        "revision": str(modality.get("revision") or "local folder")[:16],
        "weights": str(fingerprint.get("weights"))[:16],
        "layer": str(fingerprint.get("layer")),
        "computed in": str(fingerprint.get("precision")),
        "stored as": f"{modality['dtype']} x {modality['width']}",
        "tokens": f"{modality['tokens']:,}" + (f", {grid[0]} x {grid[1]} patches each" if grid else ""),
        "per item": "" if grid or not per_item else "{} - {} - {} (5 %, median, 95 %)".format(*per_item),
        "bytes": size(modality["bytes"]),
        "with embedding": f"{status['ok'] + status['truncated']:,}",
        "  of those cut": f"{status['truncated']:,}",
        "missing": f"{status['missing']:,}",
        "failed": f"{status['failed']:,}",
        "pending": f"{status['pending']:,}",
    }


def show_failures(found: Iterable[Failure]) -> None:
    """A table of every item without an embedding, and why."""
    table = Table("item", "modality", "status", "why", box=None, pad_edge=False, header_style="bold")
    for failure in found:
        table.add_row(str(failure.item), failure.modality, failure.status.name.lower(), failure.reason.sentence)
    console = Console(highlight=False)
    console.print(table if table.row_count else "every item has its embeddings")


def show_report(report: Report) -> None:
    """What `verify` found, problem by problem, at most twenty of them."""
    console = Console(highlight=False)
    for problem in report.problems[:_MOST_PROBLEMS]:
        console.print(str(problem), markup=False)
    if len(report.problems) > _MOST_PROBLEMS:
        console.print(f"... and {len(report.problems) - _MOST_PROBLEMS:,} more (--json has them all)")
    waiting = " and ".join(f"{count:,} {name}" for name, count in report.pending.items() if count)
    if waiting:
        console.print(f"{waiting} rows are pending: run the same extract again")
    if report.complete:
        console.print(f"{report.path}: sound. {report.rows:,} items, {size(report.bytes)}, every checksum agrees")


@contextmanager
def verify_bar(path: Path) -> Iterator[Callable[[int], None]]:
    """A bar over the bytes of `path` on standard error, gone when done; yields what is told of bytes read."""
    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=path.stat().st_size if path.is_file() else None)
        yield lambda count: bar.advance(task, count)


def size(count: int) -> str:
    """Bytes as a person says them."""
    value, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{count:,} bytes" if unit == "bytes" else f"{value:.2f} {unit}"
