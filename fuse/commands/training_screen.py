"""How a run, or several, went: what `cinefuse fuse` shows at its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...data.runtime.terminal import screen
from ...data.runtime.untrusted_text import printable
from ..runs.record import RunRecord
from ..runs.summary import RunSummary

_ERRORS = ("validation_rmse", "rmse", "bias_rmse", "mae")


def show_run(folder: Path, record: RunRecord, summary: RunSummary, user: object, *, has_test: bool = True) -> None:
    """How a finished run went, where it lies, and the next commands; ``user`` is one to recommend films to.

    ``has_test``: whether the run has a test part to evaluate.
    """
    config = record.config
    console = screen()
    console.print(f"preset      {config.preset}, split {printable(record.split)}, seed {config.seed}")
    for number, line in enumerate(summary.choices or ()):
        console.print(f"{'' if number else 'settings':<11} {line.strip()}", soft_wrap=True)
    if summary.validation_rmse is not None:
        held_out = f"RMSE {summary.validation_rmse:.4f} of {summary.validation_ratings:,} ratings"
        whose = f" by the first of the {summary.averaged} averaged models" if summary.averaged > 1 else ""
        console.print(f"validation  {held_out}{whose}; biases alone {summary.bias_validation_rmse:.4f}")
    if summary.rmse is not None:
        tested = f"RMSE {summary.rmse:.4f}, MAE {summary.mae:.4f} of {summary.test_ratings:,} ratings"
        beside = f"; biases alone RMSE {summary.bias_rmse:.4f}" if summary.bias_rmse is not None else ""
        console.print(f"test        {tested}{beside}")
    elif config.objective != "ranking":
        console.print("test        none: the split keeps no ratings for it")
    if config.objective != "ranking":
        chosen = ", by validation" if config.patience else ""
        console.print(f"epochs      {summary.chosen_epochs} of {config.epochs}{chosen}")
    if ranking := summary.ranking:
        figure = ranking["validation_ndcg"]
        reached = (
            "not chosen by validation, which lacks ratings or users who like a film"
            if figure is None
            else f"NDCG@10 {figure:.4f} on the validation part"
        )
        weight = f", weight of the rating model {ranking['rating']:g}" if ranking.get("rating") else ""
        console.print(f"ranking     {reached}, share of the item-item part {ranking['share']:g}{weight}")
    console.print(f"seconds     {summary.seconds:.1f}")
    console.print(f"run folder  {printable(folder)}", soft_wrap=True)
    run = shlex.quote(str(folder))
    recommend = f"recommend {run} --user {shlex.quote(str(user))} -k 10"
    for number, words in enumerate([f"evaluate {run}", recommend] if has_test else [recommend]):
        console.print(f"{'' if number else 'next':<11} cinefuse {printable(words)}", soft_wrap=True)
    show_warnings(summary.warnings, console)


def show_warnings(warnings: Iterable[str], console: Console) -> None:
    """What a user has to know before trusting a run, a line each."""
    for warning in warnings:
        console.print(Text.assemble(("warning: ", "yellow"), printable(warning)), soft_wrap=True)


def show_repeated(repeated: dict[str, Any]) -> None:
    """The runs of `Repeated.as_dict`, one a line, with mean and deviation below."""
    console = screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("split")
    for column in ("seed", "validation RMSE", "test RMSE", "biases alone", "test MAE", "epochs", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("run folder", overflow="fold")
    for run in repeated["runs"]:
        errors = (f"{run[name]:.4f}" if name in run else "" for name in _ERRORS)
        figures = str(run["seed"]), *errors, str(run["chosen_epochs"]), f"{run['seconds']:.1f}"
        table.add_row(printable(run["split"]), *figures, printable(run["run"]))
    for name in ("mean", "deviation"):
        spreads = [repeated[figure] and repeated[figure][name] for figure in _ERRORS]
        table.add_row(name, "", *("" if value is None else f"{value:.4f}" for value in spreads), "", "", "")
    console.print(table)
    for run in repeated["runs"]:
        show_warnings((f"{run['run']}: {warning}" for warning in run.get("warnings", [])), console)
