"""Metrics of lists pooled over splits and seeds: means over all users of all cases, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from .measured_lists import Measured
from .metrics import resampled_sums

_Floats = npt.NDArray[np.float64]

_SCHEMA: dict[str, pl.DataType] = {"model": pl.String(), "runs": pl.Int64()} | {
    name: pl.Float64()
    for name in ("ndcg", "deviation", "low", "high", "recall", "minus_ease", "minus_ease_low", "minus_ease_high")
}


def pooled_lists(
    cases: Sequence[Sequence[Measured]],
    names: Sequence[str],
    cutoff: int,
    users: int,
    *,
    reference: str = "EASE",
    draws: int = 2000,
    seed: int = 0,
) -> pl.DataFrame:
    """A row for each method: the metrics of its lists over all cases, and the difference to the ``reference`` method.

    cases: of each split and seed the measured lists of all ``names``, in order, of ``users`` users numbered alike.
    cutoff: which of the cutoffs, by number. Columns: model, runs (cases), ndcg and recall (means over the users of all
    cases), deviation (of the cases' NDCG; null for one), low and high (95 %, whole users drawn with all their cases),
    minus_ease with its bounds (null in its own row, and where there is no such method).
    """
    sums = {name: np.zeros((users, 3)) for name in names}  # rows of a user, sum of NDCG, sum of recall
    of_case: dict[str, list[float]] = {name: [] for name in names}
    for case in cases:
        for name, found in zip(names, case, strict=True):
            ndcg, recall = found.values[:, cutoff, 0], found.values[:, cutoff, 1]
            sums[name][found.users] += np.column_stack([np.ones(len(ndcg)), ndcg, recall])
            of_case[name].append(float(ndcg.mean()) if len(ndcg) else np.nan)
    drawn = {name: _resampled(sums[name], draws, seed) for name in names}
    rows = []
    for name in names:
        total = sums[name].sum(axis=0)
        mean = total[1] / total[0] if total[0] else np.nan
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        deviation = float(np.std(of_case[name], ddof=1)) if len(cases) > 1 else None
        gap, gap_low, gap_high = None, None, None
        if reference in names and name != reference:
            its = sums[reference].sum(axis=0)
            gap = mean - its[1] / its[0] if its[0] else np.nan
            gap_low, gap_high = np.quantile(drawn[name] - drawn[reference], [0.025, 0.975])
        mean_recall = total[2] / total[0] if total[0] else np.nan
        rows.append((name, len(cases), mean, deviation, low, high, mean_recall, gap, gap_low, gap_high))
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row").fill_nan(None)


def _resampled(sums: _Floats, draws: int, seed: int) -> _Floats:
    """(draws,) means over as many users as have any row, drawn with replacement; NaN for fewer than two."""
    drawn = resampled_sums(sums[sums[:, 0] > 0, :2], seed, draws)
    means: _Floats = drawn[:, 1] / drawn[:, 0]
    return means
