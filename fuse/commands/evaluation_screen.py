"""What `cinefuse evaluate`, `compare` and `recommend` show on a terminal."""

from __future__ import annotations

import polars as pl
from rich.console import Console
from rich.table import Table

from ...data.runtime.terminal import screen
from ...data.runtime.untrusted_text import printable
from ..evaluation.evaluate import Evaluation
from ..evaluation.metrics import Interval


def show_evaluation(found: Evaluation, console: Console | None = None) -> None:
    """Errors with their intervals, rank among all films, and errors by popularity."""
    console = console or screen()
    console.print(
        f"{printable(found.name)}: preset {found.preset}, split {printable(found.split)}, {found.test_ratings:,} test "
        f"ratings of {found.test_items:,} films by {found.test_users:,} users",
        soft_wrap=True,
    )
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="cyan", justify="right", no_wrap=True)
    facts.add_column(justify="right")
    facts.add_column()
    facts.add_row("RMSE", f"{found.rmse.value:.4f}", _bounds(found.rmse))
    facts.add_row("MAE", f"{found.mae.value:.4f}", _bounds(found.mae))
    ranked = (
        f"{found.ranked_users:,} users with a test rating of {found.liked:g} or more; all films new to them compete"
    )
    facts.add_row(f"NDCG@{found.k}", _figure(found.ndcg), ranked)
    facts.add_row(f"Recall@{found.k}", _figure(found.recall), "")
    facts.add_row(
        "new users", f"{found.unseen_users:,}", f"with {found.of_unseen_users:,} test ratings and none in training"
    )
    facts.add_row(
        "new films", f"{found.unrated_items:,}", f"with {found.of_unseen_items:,} test ratings and none in training"
    )
    console.print(facts)
    console.print(_by_popularity(found))


def _by_popularity(found: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("test ratings", "RMSE", "MAE"):
        table.add_column(name, justify="right")
    for side, bands in (("films", found.by_item), ("users", found.by_user)):
        for band in bands.to_dicts():
            name = f"{side} with {'no' if band['band'] == 'unseen' else band['band']} training ratings"
            table.add_row(name, f"{band['ratings']:,}", _figure(band["rmse"]), _figure(band["mae"]))
    return table


def show_comparison(runs: pl.DataFrame, console: Console | None = None) -> None:
    """The table of `compare`: each run's RMSE, and what it lies from the first's."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    for name in ("preset", "split"):
        table.add_column(name, overflow="fold")
    for name in ("RMSE", "95 %", "minus first", "95 %"):
        table.add_column(name, justify="right", min_width=7)
    for run in runs.to_dicts():
        named = (printable(run[name]) for name in ("name", "preset", "split"))
        rmse = _figure(run["rmse"]), _between(run["rmse_low"], run["rmse_high"], "")
        difference = _figure(run["difference"], "+"), _between(run["difference_low"], run["difference_high"], "+")
        table.add_row(*named, *rmse, *difference)
    (console or screen()).print(table)


def show_recommendations(films: pl.DataFrame, user_id: object, console: Console | None = None) -> None:
    """The table of `recommend` for one user."""
    console = console or screen()
    if films.is_empty():
        console.print(f"user {printable(user_id)} has seen every film of the catalogue", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("film", overflow="fold")
    table.add_column("title", overflow="fold")
    table.add_column("predicted", justify="right")
    table.add_column("rated by", justify="right")
    for film in films.to_dicts():
        names = printable(film["item_id"]), printable(film["title"] or "")
        table.add_row(str(film["rank"]), *names, f"{film['prediction']:.2f}", f"{film['train_ratings']:,}")
    console.print(table)


def _bounds(interval: Interval) -> str:
    found = _between(interval.low, interval.high, "")
    return f"95 % {found}" if found else "no interval: one user only"


def _between(low: float | None, high: float | None, sign: str) -> str:
    if low is None or high is None or low != low:
        return ""
    return f"{low:{sign}.4f} to {high:{sign}.4f}"


def _figure(value: float | None, sign: str = "") -> str:
    return "" if value is None or value != value else f"{value:{sign}.4f}"
