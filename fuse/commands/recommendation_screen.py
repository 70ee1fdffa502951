"""What `cinefuse recommend` and `similar` show on a terminal."""

from __future__ import annotations

import polars as pl
from rich.console import Console
from rich.table import Table

from ...data.runtime.terminal import screen
from ...data.runtime.untrusted_text import printable


def show_recommendations(films: pl.DataFrame, whose: str, k: int, console: Console | None = None) -> None:
    """The table of `recommend` for one user, of which ``k`` films were wanted."""
    console = console or screen()
    if films.is_empty():
        console.print(f"{printable(whose)}: no film is left that they have not rated", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("film", overflow="fold")
    table.add_column("title", overflow="fold")
    table.add_column("expected", justify="right")
    table.add_column("rated by", justify="right")
    because = films["because_item_id"].count() > 0
    if because:
        table.add_column("because of", overflow="fold")
        table.add_column("adds", justify="right")
    for film in films.to_dicts():
        names = printable(film["item_id"]), printable(film["title"] or "")
        expected = "" if film["prediction"] is None else f"{film['prediction']:.2f}"
        rated = f"{film['train_ratings']:,}" if film["train_ratings"] else "new"
        liked = film["because_title"] or ("" if film["because_item_id"] is None else film["because_item_id"])
        reason = [printable(liked), _added(film["because_score"], film["score"])]
        table.add_row(str(film["rank"]), *names, expected, rated, *(reason if because else []))
    console.print(table)
    if len(films) < k:
        console.print(f"{len(films):,} of {k:,} wanted: no more are left", soft_wrap=True)


def _added(score: float | None, whole: float) -> str:
    """What one film adds to a score, as a share of it where that means something."""
    if score is None:
        return ""
    return f"{score / whole:.0%}" if whole >= score else f"{score:+.3f}"


def show_similar(films: pl.DataFrame, console: Console | None = None) -> None:
    """The table of `similar`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("film", overflow="fold")
    table.add_column("title", overflow="fold")
    for name in ("likeness", "content", "taste", "rated by"):
        table.add_column(name, justify="right")
    for film in films.to_dicts():
        figures = ("" if film[name] is None else f"{film[name]:.2f}" for name in ("likeness", "content", "taste"))
        rated = f"{film['train_ratings']:,}" if film["train_ratings"] else "new"
        table.add_row(str(film["rank"]), printable(film["item_id"]), printable(film["title"] or ""), *figures, rated)
    (console or screen()).print(table)
