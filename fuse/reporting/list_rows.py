"""The table of lists on the page: this run beside its rating model and the baselines, at the headline's length."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..evaluation.evaluate import BY_RATING, THIS_RUN, Evaluation

_TITLES = {THIS_RUN: "this run", BY_RATING: "by predicted rating"}


@dataclass(frozen=True)
class ListRow:
    """One method: its figures and the run's NDCG minus its own, with bounds; None where unknown."""

    method: str
    ndcg: float | None
    recall: float | None
    coverage: float | None
    mean_rating: float | None
    difference: float | None
    low: float | None
    high: float | None


def list_rows(found: Evaluation) -> list[ListRow]:
    """A row for each method of `Evaluation.lists`, this run first."""
    gaps = found.differences.filter((pl.col("k") == found.k) & (pl.col("metric") == "ndcg"))
    of_method = {row["method"]: row for row in gaps.to_dicts()}
    rows = []
    for row in found.lists.filter(pl.col("k") == found.k).to_dicts():
        gap = of_method.get(row["method"], {})
        figures = (row[name] for name in ("ndcg", "recall", "coverage", "mean_rating"))
        bounds = (gap.get(name) for name in ("difference", "low", "high"))
        rows.append(ListRow(_TITLES.get(row["method"], row["method"]), *figures, *bounds))
    return rows
