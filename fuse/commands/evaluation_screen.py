"""What `cinefuse evaluate`, `compare` and `recommend` show on a terminal."""

from __future__ import annotations

import polars as pl
from rich.console import Console
from rich.table import Table

from ...data.runtime.terminal import screen
from ...data.runtime.untrusted_text import printable
from ..evaluation.evaluate import Evaluation
from ..evaluation.list_comparison import ListComparison
from ..evaluation.list_tables import headline
from ..evaluation.metrics import Interval
from .training_screen import show_warnings


def show_evaluation(found: Evaluation, console: Console | None = None) -> None:
    """Errors with their intervals and by popularity; lists beside the baselines; last, the baselines not beaten."""
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
    if found.rmse.value == found.rmse.value:
        facts.add_row("RMSE", f"{found.rmse.value:.4f}", _bounds(found.rmse))
        if found.bias_rmse is not None:
            facts.add_row("biases alone", f"{found.bias_rmse:.4f}", "RMSE of the mean and user and item biases")
        if found.validation_rmse is not None:
            whose = f"of the first of {found.averaged} averaged models, " if found.averaged > 1 else ""
            advice = "choose between runs by this, not by the test part"
            beside = f"{whose}biases alone {found.bias_validation_rmse:.4f}; {advice}"
            facts.add_row("validation RMSE", f"{found.validation_rmse:.4f}", beside)
        facts.add_row("MAE", f"{found.mae.value:.4f}", _bounds(found.mae))
    else:
        facts.add_row("RMSE", "none", "the run has no rating model")
    facts.add_row(
        "new users", f"{found.unseen_users:,}", f"with {found.of_unseen_users:,} test ratings and none in training"
    )
    facts.add_row(
        "new films", f"{found.unrated_items:,}", f"with {found.of_unseen_items:,} test ratings and none in training"
    )
    console.print(facts)
    if found.rmse.value == found.rmse.value:
        console.print(_by_popularity(found))
    _show_lists(found, console)


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


def _show_lists(found: Evaluation, console: Console) -> None:
    console.print()
    console.print(f"{found.protocol_says}; users with such a film: {found.ranked_users:,}", soft_wrap=True)
    for each in found.baselines:
        how = f"not run: {each['not_run']}" if each["not_run"] else each["settings"]
        console.print(printable(f"{each['name']}: {how}"), soft_wrap=True)
    console.print(_headline(found))
    console.print(_at_lengths(found))
    console.print(_by_activity(found))
    show_warnings(found.warnings, console)


def _headline(found: Evaluation) -> Table:
    """NDCG and recall of each method at the protocol's length, and what the run's NDCG lies from it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    k = found.k
    for name in (f"NDCG@{k}", "95 %", f"Recall@{k}", "95 %", "this run minus it, NDCG", "95 %"):
        table.add_column(name, justify="right", min_width=6)
    for row in headline(found.lists, found.differences, k).to_dicts():
        own = [_figure(row["ndcg"]), _between(row["ndcg_low"], row["ndcg_high"], "")]
        own += [_figure(row["recall"]), _between(row["recall_low"], row["recall_high"], "")]
        minus = [_figure(row["difference"], "+"), _between(row["low"], row["high"], "+")]
        table.add_row(printable(row["method"]), *own, *minus)
    return table


_LENGTHS = (
    ("NDCG", "ndcg"),
    ("Recall", "recall"),
    ("Precision", "precision"),
    ("MAP", "map"),
    ("MRR", "mrr"),
    ("hit rate", "hit_rate"),
)


def _at_lengths(found: Evaluation) -> Table:
    """Every metric of every method at every length of lists."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    rated = found.lists["mean_rating"].is_not_null().any()
    names = [name for name, _ in _LENGTHS]
    for name in ("k", *names, "coverage", "novelty", "head", *(["rated", "as"] if rated else [])):
        table.add_column(name, justify="right")
    for row in found.lists.sort("k", maintain_order=True).to_dicts():
        cells = [_figure(row[name]) for _, name in _LENGTHS]
        cells += [_share(row["coverage"]), "" if row["novelty"] is None else f"{row['novelty']:.2f}"]
        cells += [_share(row["head_share"])]
        if rated:
            mean = row["mean_rating"]
            cells += [_share(row["rated_share"]), "" if mean is None else f"{mean:.2f}"]
        table.add_row(printable(row["method"]), str(row["k"]), *cells)
    of_rated = "; rated: places of films that the user rated in the test part, as: their mean rating" if rated else ""
    table.caption = (
        "coverage: films in any list; novelty: bits; head: places of the most rated fifth of the rated films" + of_rated
    )
    table.caption_justify = "left"
    return table


def _by_activity(found: Evaluation) -> Table:
    """NDCG of each method for users of each band of training rows."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    methods = found.by_activity["method"].unique(maintain_order=True).to_list()
    table.add_column(f"NDCG@{found.k} of users with")
    table.add_column("users", justify="right")
    for method in methods:
        table.add_column(printable(method), justify="right")
    for (band, users), rows in found.by_activity.group_by("band", "users", maintain_order=True):
        of_method = dict(rows.select("method", "ndcg").iter_rows())
        figures = (_figure(of_method[method]) for method in methods)
        table.add_row(f"{band} training ratings", f"{users:,}", *figures)
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


def show_list_comparison(lists: ListComparison, console: Console | None = None) -> None:
    """The table of `compare_lists`: each run and baseline, and what its NDCG lies from the first run's."""
    console = console or screen()
    console.print()
    console.print(lists.protocol_says, soft_wrap=True)
    for line in lists.not_run:
        console.print(printable(f"not run: {line}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("lists of", overflow="fold")
    for name in (f"NDCG@{lists.k}", "95 %", f"Recall@{lists.k}", "coverage", "NDCG minus first", "95 %"):
        table.add_column(name, justify="right", min_width=7)
    for row in lists.table.to_dicts():
        own = [_figure(row["ndcg"]), _between(row["ndcg_low"], row["ndcg_high"], ""), _figure(row["recall"])]
        low, high = row["ndcg_difference_low"], row["ndcg_difference_high"]
        gap = [_figure(row["ndcg_difference"], "+"), _between(low, high, "+")]
        table.add_row(printable(row["name"]), *own, _share(row["coverage"]), *gap)
    console.print(table)


def _bounds(interval: Interval) -> str:
    found = _between(interval.low, interval.high, "")
    return f"95 % {found}" if found else "no interval: one user only"


def _between(low: float | None, high: float | None, sign: str) -> str:
    if low is None or high is None or low != low:
        return ""
    return f"{low:{sign}.4f} to {high:{sign}.4f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _figure(value: float | None, sign: str = "") -> str:
    return "" if value is None or value != value else f"{value:{sign}.4f}"
