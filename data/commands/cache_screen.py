"""What the commands of `cinefuse cache` say on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from ..embeddings.file import EmbeddingFile
from ..embeddings.summary import Failure
from ..embeddings.verification import Report
from ..runtime.terminal import screen, size
from ..runtime.untrusted_text import printable
from ..sharing.diff import Difference, RowDifference
from ..sharing.lineage import lineage_lines

if TYPE_CHECKING:
    from ..formats.convert import Made
    from ..formats.imports import Imported

_MOST_PROBLEMS = 20
_SECONDS_APART = 2.0


def show_overview(summary: dict[str, Any], writer: str | None = None) -> None:
    """One screen: what the file is, what made it, how much of the catalogue it covers; `writer` fills it now."""
    console = screen()
    state = "unfinished: run the same extract again to go on"
    if summary["complete"] or writer:
        state = "complete" if summary["complete"] else f"{writer} is writing it"
    line = Text.assemble(
        (printable(summary["path"]), "bold"), f"  {size(summary['bytes'])}, {summary['items']:,} items, {state}"
    )
    console.print(line, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("")
    for name in summary["modalities"]:
        table.add_column(name)
    columns = [_column(modality) for modality in summary["modalities"].values()]
    for row in columns[0]:
        table.add_row(row, *(printable(column.get(row, "")) for column in columns))
    console.print(table)
    about = summary["about"]
    for key in ("catalogue", "source", "attribution", "licence", "made_by"):
        if about.get(key):
            console.print(f"{key.replace('_', ' '):<11} {printable(about[key])}", soft_wrap=True)
    if isinstance(about.get("libraries"), dict):
        libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
        console.print(f"libraries   {printable(libraries)}", soft_wrap=True)
    for number, step in enumerate(lineage_lines(about)):
        console.print(f"{'lineage' if number == 0 else '':<11} {printable(step)}", soft_wrap=True)
    console.print(f"digest      {summary['content_digest']}", soft_wrap=True)


def _column(modality: dict[str, Any]) -> dict[str, str]:
    fingerprint, status = modality["fingerprint"], modality["status"]
    tokens, per_item = modality["tokens"], modality["tokens_per_item"]
    grid = modality.get("grid")
    if not (isinstance(grid, list) and len(grid) == 2):
        grid = None  # whatever its writer claims
    return {
        "model": str(modality.get("model")),
        "revision": str(modality.get("revision") or "local folder")[:16],
        "weights": str(fingerprint.get("weights"))[:16],
        "layer": str(fingerprint.get("layer")),
        "computed in": str(fingerprint.get("precision")),
        "stored as": f"{modality['dtype']} x {modality['width']}",
        "tokens": f"{tokens:,}" + (f", {grid[0]} x {grid[1]} patches each" if grid else "")
        if tokens
        else "none, CLS alone" * (status["ok"] + status["truncated"] > 0),
        "per item": "" if grid or not per_item or not tokens else "{} - {} - {} (5 %, median, 95 %)".format(*per_item),
        "bytes": size(modality["bytes"]),
        "with embedding": f"{status['ok'] + status['truncated']:,}",
        "  of those cut": f"{status['truncated']:,}",
        "missing": f"{status['missing']:,}",
        "failed": f"{status['failed']:,}",
        "pending": f"{status['pending']:,}",
    }


def show_progress(file: EmbeddingFile, writer: str | None) -> None:
    """How far an unfinished file is; while somebody writes it also how fast, by a look two seconds apart."""
    before = file.pending
    if not any(before.values()):
        return
    began = time.monotonic()
    if writer:
        time.sleep(_SECONDS_APART)
    after, seconds = file.pending, time.monotonic() - began
    for name, waiting in after.items():
        done = len(file) - waiting
        rate = (before[name] - waiting) / seconds if writer else 0.0
        speed = f", {rate:.3g} rows/s, {_minutes(waiting / rate)} left" if rate else ""
        screen().print(
            f"{name:<11} {done:,} of {len(file):,} done ({100 * done / len(file):.0f} %){speed}", soft_wrap=True
        )


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def show_failures(found: Iterable[Failure], absent: Mapping[str, int]) -> None:
    """A table of items that could not be embedded, and why; `absent` counts those that have nothing to embed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("item", overflow="fold")
    for column in ("modality", "status", "why"):
        table.add_column(column)
    for failure in found:
        names = printable(failure.item), failure.modality, failure.status.name.lower()
        table.add_row(*names, failure.reason.sentence)
    if table.row_count:
        screen().print(table)
    elif any(absent.values()):
        screen().print("nothing failed")
    else:
        screen().print("every item has its embeddings")
    for name, count in absent.items():
        if count:
            screen().print(f"{count:,} items have no {name} in the catalogue (--missing lists them)")


def show_report(report: Report) -> None:
    """What `verify` found, problem by problem, at most twenty of them."""
    console = screen()
    for problem in report.problems[:_MOST_PROBLEMS]:
        console.print(printable(problem), soft_wrap=True)
    if len(report.problems) > _MOST_PROBLEMS:
        console.print(f"... and {len(report.problems) - _MOST_PROBLEMS:,} more (--json has them all)")
    waiting = " and ".join(f"{count:,} {name}" for name, count in report.pending.items() if count)
    if waiting:
        console.print(f"{waiting} rows are pending: run the same extract again")
    if report.complete:
        sound = f"sound. {report.rows:,} items, {size(report.bytes)}, every checksum agrees"
        console.print(f"{printable(report.path)}: {sound}", soft_wrap=True)


@contextmanager
def verify_bar(path: Path) -> Iterator[Callable[[int], None]]:
    """A bar over the bytes of `path`, gone when done, nothing at all in a log; yields the callback for bytes read."""
    with bytes_bar("verifying", path.stat().st_size if path.is_file() else None) as advance:
        yield advance


@contextmanager
def bytes_bar(verb: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar over so many bytes, gone when done, nothing at all in a log; yields the callback for bytes done."""
    columns = (TextColumn(verb), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def show_made(path: Path) -> None:
    """One line about an embedding file that was just made, and what it waits for."""
    with EmbeddingFile.open(path, pending=True) as file:
        what = " + ".join(f"{name} {file[name].dtype}" for name in file.modalities)
        waiting = " and ".join(f"{count:,} {name}" for name, count in file.pending.items() if count)
        line = f"{printable(path)}: {len(file):,} items, {what}, {size(file.header.file_length)}"
        screen().print(f"{line}, digest {file.content_digest}", soft_wrap=True)
        if waiting:
            screen().print(f"{waiting} rows are pending as they were: `cinefuse extract` into this file finishes them")


def show_without_vector(made: Made, out: Path) -> None:
    """How many items an export found without a vector, and where they are listed."""
    for name, count in made.missing.items():
        if count:
            listed = printable(out / "missing.csv")
            screen().print(f"{count:,} of {made.items:,} items have no {name} vector: {listed}", soft_wrap=True)


def show_imported(imported: Imported) -> None:
    """How many items have a vector, where not all have, and what else a person should know."""
    console = screen()
    if imported.missing or imported.failed:
        console.print(
            f"{imported.embedded:,} with a vector, {imported.missing:,} without one, "
            f"{imported.failed:,} with one that is not finite"
        )
    for note in imported.notes:
        console.print(f"note: {printable(note)}", soft_wrap=True)


def show_difference(found: Difference, most: int) -> None:
    """What `diff` found: what is in one file alone, then the rows that differ, at most so many."""
    console = screen()
    for path, items, modalities in zip(found.files, found.only_in, found.modalities_only_in, strict=True):
        if items:
            some = ", ".join(printable(item) for item in items[:most]) + (", ..." if len(items) > most else "")
            console.print(f"only in {printable(path)}: {len(items):,} items: {some}", soft_wrap=True)
        if modalities:
            console.print(f"only in {printable(path)}: {' and '.join(modalities)}", soft_wrap=True)
    for name, lines in found.fingerprints.items():
        for line in lines:
            console.print(f"{name} was made differently: {printable(line)}", soft_wrap=True)
    if not found.same_order:
        console.print("the items lie in another order")
    for name, count in found.compared.items():
        rows = [row for row in found.rows if row.modality == name]
        apart = [row.max_abs for row in rows if row.max_abs is not None]
        cosines = [row.cosine for row in rows if row.cosine is not None]
        by = f"; by at most {max(apart):.3g}, cosine at least {min(cosines):.6f}" if apart else ""
        console.print(f"{name}: {len(rows):,} of {count:,} items differ{by}")
    if found.rows:
        _show_rows(found.rows, most)
    if found.equal:
        console.print("equal: same items, same order, same embeddings")


def _show_rows(rows: list[RowDifference], most: int) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("item", overflow="fold")
    for column in ("modality", "what", "largest difference", "smallest cosine"):
        table.add_column(column)
    worst = sorted(rows, key=lambda row: (not row.what, -(row.max_abs or 0.0)))[:most]
    for row in worst:
        values = (
            "" if row.max_abs is None else f"{row.max_abs:.4g}",
            "" if row.cosine is None else f"{row.cosine:.7f}",
        )
        table.add_row(printable(row.item), row.modality, printable(row.what), *values)
    screen().print(table)
    if len(rows) > most:
        screen().print(f"... and {len(rows) - most:,} more (--json has them all)")
