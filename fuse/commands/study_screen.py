"""What `cinefuse study` shows on a terminal: one table, a row a model, a pair of columns for each group of splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ...data.runtime.terminal import screen
from ...data.runtime.untrusted_text import printable

if TYPE_CHECKING:
    from ..runs.study import Study

_COLD = "cold-items"


def show_study(study: Study, console: Console | None = None) -> None:
    """RMSE of each model on the test ratings of each group of splits, with intervals; then where more is told."""
    console = console or screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("RMSE")
    for group in study.groups:
        table.add_column(printable(" ".join(group.splits)), justify="right")
        table.add_column("95 %", justify="right")
    for rows in zip(*(group.rows for group in study.groups), strict=True):
        cells = [rows[0].title]
        for row in rows:
            interval = row.interval()
            known = interval.low == interval.low
            cells += [str(row.spread()), f"{interval.low:.3f} to {interval.high:.3f}" if known else ""]
        table.add_row(*cells)
    console.print(table)
    if any(split.startswith(_COLD) for group in study.groups for split in group.splits):
        console.print(f"{_COLD}: the test films have no rating in the training part", soft_wrap=True)
    for line in study.skipped:
        console.print(printable(line), soft_wrap=True)
    console.print(f"more in {printable(study.folder / 'results.md')}, results.csv and runs.csv", soft_wrap=True)
