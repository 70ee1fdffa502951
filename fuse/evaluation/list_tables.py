"""Tables of measured lists: means with intervals, paired differences, and figures of the whole catalogue."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from .measured_lists import ListTask, Measured
from .metrics import resampled_sums
from .ranking_metrics import METRICS

_Floats = npt.NDArray[np.float64]

ACTIVITY: tuple[tuple[str, int], ...] = (
    ("no", 0),
    ("1-4", 1),
    ("5-19", 5),
    ("20-49", 20),
    ("50-199", 50),
    ("200+", 200),
)
"""Bands of users by activity: a name, and the fewest training rows of a user in it."""

_HEAD_SHARE = 0.2
_BOUNDED = [f"{metric}{bound}" for metric in METRICS for bound in ("", "_low", "_high")]
_OF_CATALOGUE = ("coverage", "novelty", "head_share", "rated_share", "mean_rating")
_QUALITY: dict[str, pl.DataType] = {"method": pl.String(), "k": pl.Int64(), "users": pl.Int64()} | {
    name: pl.Float64() for name in (*_BOUNDED, *_OF_CATALOGUE)
}
_DIFFERENCES: dict[str, pl.DataType] = {"method": pl.String(), "k": pl.Int64(), "metric": pl.String()} | {
    name: pl.Float64() for name in ("difference", "low", "high")
}


def quality_table(task: ListTask, methods: Mapping[str, Measured], *, draws: int, seed: int) -> pl.DataFrame:
    """The quality of each method's lists: a row a method and cutoff.

    method (String), k, users (Int64); each of `METRICS` (the mean over the users with a relevant item) with its _low
    and _high, the bounds of 95 % percentile intervals over ``draws`` draws of whole users; coverage, the share of all
    items that are in any list; novelty, the mean over places of -log2 of the share of users who have the item in
    training (at least one user is counted for an item; Vargas and Castells 2011, Rank and relevance in novelty and
    diversity metrics); head_share, the share of places that the most popular fifth of the rated items hold;
    rated_share, the share of places whose item the user rated in the test part, and mean_rating of those (null for
    implicit feedback). Null where there is no such user, and bounds where there are fewer than two.
    """
    count, users = np.bincount(task.seen.items, minlength=task.items), len(task.seen)
    information = -np.log2(np.maximum(count, 1) / max(users, 1))
    head = np.zeros(task.items, np.bool_)
    head[np.argsort(-count, kind="stable")[: math.ceil(_HEAD_SHARE * np.count_nonzero(count))]] = True
    rows: list[dict[str, Any]] = []
    for name, found in methods.items():
        means = _means(found)
        low, high = np.quantile(_resampled(found, draws, seed), [0.025, 0.975], axis=0)
        for number, k in enumerate(task.cutoffs):
            row: dict[str, Any] = {"method": name, "k": k, "users": len(found.users)}
            for place, metric in enumerate(METRICS, number * len(METRICS)):
                row |= {metric: means[place], f"{metric}_low": low[place], f"{metric}_high": high[place]}
            rows.append(row | _of_catalogue(task, found, number, information, head))
    return pl.DataFrame(rows, schema=_QUALITY, orient="row").fill_nan(None)


def _of_catalogue(
    task: ListTask, found: Measured, number: int, information: _Floats, head: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Figures of all lists together, at one cutoff."""
    listed = found.listed[number]
    places, rated = int(listed.sum()), int(found.rated[number])
    if not places:
        return dict.fromkeys(_OF_CATALOGUE, math.nan)
    return {
        "coverage": np.count_nonzero(listed) / task.items,
        "novelty": float(np.sum(listed * information)) / places,
        "head_share": int(listed[head].sum()) / places,
        "rated_share": math.nan if task.implicit else rated / places,
        "mean_rating": float(found.rating_sum[number]) / rated if rated and not task.implicit else math.nan,
    }


def difference_table(task: ListTask, methods: Mapping[str, Measured], *, draws: int, seed: int) -> pl.DataFrame:
    """The first method minus each other one: a row a method, cutoff and metric.

    method, metric (String), k (Int64), difference (above 0: the first is better), low, high (Float64, null as in
    `quality_table`), by the same draws of users for both.
    """
    first, *others = methods
    drawn, means = _resampled(methods[first], draws, seed), _means(methods[first])
    rows: list[dict[str, Any]] = []
    for name in others:
        gaps = means - _means(methods[name])
        low, high = np.quantile(drawn - _resampled(methods[name], draws, seed), [0.025, 0.975], axis=0)
        names = ((k, metric) for k in task.cutoffs for metric in METRICS)
        for place, (k, metric) in enumerate(names):
            bounds = {"difference": gaps[place], "low": low[place], "high": high[place]}
            rows.append({"method": name, "k": k, "metric": metric, **bounds})
    return pl.DataFrame(rows, schema=_DIFFERENCES, orient="row").fill_nan(None)


def headline(quality: pl.DataFrame, differences: pl.DataFrame, k: int) -> pl.DataFrame:
    """The rows of a `quality_table` at length k, with difference, low and high of NDCG, null in the first row."""
    gaps = differences.filter((pl.col("k") == k) & (pl.col("metric") == "ndcg")).drop("k", "metric")
    return quality.filter(pl.col("k") == k).join(gaps, on="method", how="left", maintain_order="left")


def activity_table(task: ListTask, methods: Mapping[str, Measured], k: int) -> pl.DataFrame:
    """NDCG and recall at one of the cutoffs by how many training rows the user has.

    A row a method and band of `ACTIVITY` with users in it: band (String), users (Int64), method (String), ndcg, recall.
    """
    number = task.cutoffs.index(k)
    of_user = np.diff(task.seen.offsets)
    rows = []
    for name, found in methods.items():
        band = np.searchsorted([fewest for _, fewest in ACTIVITY], of_user[found.users], side="right") - 1
        for place in np.unique(band).tolist():
            inside = found.values[band == place, number]
            rows.append((ACTIVITY[place][0], len(inside), name, float(inside[:, 0].mean()), float(inside[:, 1].mean())))
    schema = {"band": pl.String, "users": pl.Int64, "method": pl.String, "ndcg": pl.Float64, "recall": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def resampled_means(values: _Floats, *, draws: int, seed: int) -> _Floats:
    """(draws, columns): means over as many rows of ``values`` (N, columns) as there are, drawn with replacement.

    One row of NaN where there are fewer than two. The same seed draws the same rows whatever the columns.
    """
    return resampled_sums(values, seed, draws) / max(len(values), 1)


def _resampled(found: Measured, draws: int, seed: int) -> _Floats:
    return resampled_means(_flat(found), draws=draws, seed=seed)


def _means(found: Measured) -> _Floats:
    """(C * M,) means over users, NaN where there is none."""
    flat = _flat(found)
    return flat.mean(axis=0) if len(flat) else np.full(flat.shape[1], np.nan)


def _flat(found: Measured) -> _Floats:
    """(N, C * M): the values of each user."""
    users, cutoffs, metrics = found.values.shape
    return found.values.reshape(users, cutoffs * metrics)
