"""The command `cinefuse study`: every model on every split and seed.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...data.commands.options import DatasetArgument, DeviceOption, ThreadsOption
from ...data.runtime.untrusted_text import printable
from .options import CacheArgument, SetOption, interruptible, one_at_most

if TYPE_CHECKING:
    from ..studies.study_results import Study

app = typer.Typer()


@app.command("study")
def study(
    dataset: DatasetArgument,
    cache: CacheArgument = None,
    *,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder for runs and tables")],
    folds: Annotated[
        str | None,
        typer.Option(help="folds that share a table: u1..u5, u1,u2 or kfold:5  [default: u1..u5 where there are such]"),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="a split with a table of its own, as cold-items:0.1; may be repeated")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="so many seeds, from 0 on")] = 1,
    models: Annotated[
        str | None, typer.Option(metavar="NAME,NAME,...", help="some of the models listed above  [default: all]")
    ] = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train every model on every split and seed, and write a table of what plots and posters add.

    The models of --models:

        bias              biases of users and films alone
        mf                biased matrix factorisation
        text, poster      presets of these names: plots or posters as CLS vectors
        both-cls          preset paper, plots and posters as CLS vectors
        both-tokens       preset paper, plots and posters as tokens
        best              preset best: plots and posters as linear side information
        best-none         preset best without plots and posters
        best-transformer  preset best, plots and posters by a Transformer instead
        best-fused        preset best, plots and posters in both ways

    Of interactions without ratings mf, best-none and best are compared, by their lists. OUT receives results.md,
    results.csv, lists.csv and runs.csv. Run the same command again to go on: finished runs are kept.
    """
    embeddings = one_at_most(cache)
    with interruptible(f"run the same command again to go on; everything finished is kept in {out}"):
        from ...data.runtime.progress import TerminalProgress
        from ...device import use_threads
        from ..runs.repeat import folds_named
        from ..studies.study import study as run_study

        use_threads(threads)
        done = run_study(
            dataset,
            embeddings,
            out,
            groups=[*([folds_named(folds)] if folds else []), *([each] for each in split or [])],
            seeds=seeds,
            models=[name.strip() for name in models.split(",")] if models else [],
            settings=settings or [],
            device=device,
            progress=TerminalProgress(),
        )
    _show(done)


def _show(study: Study) -> None:
    """One table: a row for each model, and for each group of splits its RMSE, or NDCG of lists, with an interval."""
    from rich.table import Table

    from ...data.runtime.terminal import screen

    console = screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("RMSE" if study.rates else "NDCG of lists")
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
    if not study.rates:
        titles = study.groups[0].titles
        for rows in zip(*(group.lists.to_dicts() for group in study.groups), strict=True):
            cells = [titles.get(rows[0]["model"], rows[0]["model"])]
            for row in rows:
                interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
                cells += ["" if row["ndcg"] is None else f"{row['ndcg']:.4f}", interval]
            table.add_row(*cells)
    console.print(table)
    if any(split.startswith("cold-items") for group in study.groups for split in group.splits):
        console.print("cold-items: the test films have no rating in the training part", soft_wrap=True)
    for line in study.skipped:
        console.print(printable(line), soft_wrap=True)
    others = "results.csv and runs.csv" if study.rates else "and in lists.csv"
    console.print(f"more in {printable(study.folder / 'results.md')}, {others}", soft_wrap=True)
