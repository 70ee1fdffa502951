"""Evaluate a run on its test part: errors with intervals and by popularity, and lists among all unseen items."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import UsageError
from ...data.runtime.progress import NoProgress, Progress
from ..models.recommender import Recommender
from ..runs.run import Run
from ..serving.scoring import item_counts, list_scores
from .baselines import Baseline, baselines
from .item_lists import ItemLists
from .list_tables import activity_table, difference_table, headline, quality_table
from .measured_lists import BlockScores, ListTask, Measured, measure
from .metrics import ErrorIntervals, Interval, bootstrap_interval, by_popularity
from .protocol import Protocol, protocol_for
from .run_rows import Tested, history_of

THIS_RUN, BY_RATING = "this run", "its ratings"
"""Methods that are the run's own: the lists it recommends, and the order of its predicted ratings."""

_TABLES = ("lists", "differences", "by_activity", "by_item", "by_user")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of a run on its test part.

    ``rmse`` and ``mae`` come with the bounds of 95 % percentile intervals over ``draws`` draws of whole users, from
    ``seed``; NaN where the run has no rating model. ``by_item`` and ``by_user`` are `metrics.by_popularity` over
    training ratings of the item and of the user. Users and items are unseen where they have no training rating;
    ``of_unseen`` counts their test ratings.

    Lists are measured by ``protocol``, in words ``protocol_says``: ``ndcg`` and ``recall`` are means over the
    ``ranked_users`` with a relevant test item, each ranked among *all* items not seen in training or validation, cut at
    ``k``; NaN where there is no such user. ``lists`` (`list_tables.quality_table`) and ``differences`` hold this run
    and the baselines at 5, 10, 20 and ``k``, ``by_activity`` (`activity_table`) the same by users' training rows;
    ``baselines`` has the settings of each, or the reason why it was not run. ``warnings`` are sentences: those
    of the run, and baselines that the lists don't beat.

    ``validation_rmse`` is the run's own, ``bias_rmse`` and ``bias_validation_rmse`` those of user and item biases alone
    on the same ratings; None where the run has none.
    """

    name: str
    preset: str
    split: str
    test_ratings: int
    test_users: int
    test_items: int
    unseen_users: int
    unrated_items: int
    of_unseen_users: int
    of_unseen_items: int
    rmse: Interval
    mae: Interval
    draws: int
    seed: int
    protocol: str
    protocol_says: str
    k: int
    liked: float | None
    ranked_users: int
    ndcg: float
    recall: float
    lists: pl.DataFrame
    differences: pl.DataFrame
    by_activity: pl.DataFrame
    baselines: list[dict[str, str]]
    warnings: list[str]
    by_item: pl.DataFrame
    by_user: pl.DataFrame
    validation_rmse: float | None
    averaged: int
    bias_rmse: float | None
    bias_validation_rmse: float | None

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON: intervals as value, low and high; tables as lists of rows; NaN as None."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("rmse", "mae"):
            plain[name] = {bound: _or_none(value) for bound, value in asdict(plain[name]).items()}
        for name in _TABLES:
            plain[name] = plain[name].to_dicts()
        return plain | {name: _or_none(plain[name]) for name in ("ndcg", "recall")}


def evaluate(
    run: Run,
    *,
    k: int | None = None,
    liked: float | None = None,
    protocol: str = "auto",
    beside: bool = True,
    dataset: Path | None = None,
    draws: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a run on its test part, writing nothing.

    ``protocol`` is "movielens", "mmrec" or "auto" (`protocol.protocol_for`, which says what ``k`` and ``liked`` are
    by default). Items are ranked as `recommend` ranks them, ``beside`` the baselines of `baselines.baselines` on the
    same rows; without it they are left out. ``dataset`` says where the run's dataset is now, if it has moved. BadInput
    where the run had no test part; UsageError for k or draws below 1, a negative seed, or a ``liked`` that is no
    number.
    """
    for name, value, least in (("draws", draws, 1), ("seed", seed, 0)):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, found {value}")
    progress = progress or NoProgress()
    recommender, summary = run.recommender, run.summary
    chosen = protocol_for(recommender.scale, name=protocol, k=k, liked=liked, implicit=run.implicit)
    tested = Tested.rows_of(run, dataset)
    errors = _errors(recommender, tested, draws=draws, seed=seed)
    of_user, of_item = np.diff(recommender.rated_offsets)[tested.user], item_counts(recommender)[tested.item]
    task = list_task(recommender, tested, chosen)
    others: list[Baseline] = []
    if beside and len(task.user):
        others = baselines(history_of(run, chosen, dataset), chosen.k, progress.message)
    measured = measure_methods(task, run_scores(run), others, progress)
    lists = quality_table(task, measured, draws=draws, seed=seed)
    differences = difference_table(task, measured, draws=draws, seed=seed)
    own = lists.filter((pl.col("method") == THIS_RUN) & (pl.col("k") == chosen.k)).row(0, named=True)
    return Evaluation(
        name=run.folder.resolve().name,
        preset=run.config.preset,
        split=run.record.split,
        test_ratings=len(tested.rating),
        test_users=len(np.unique(tested.user)),
        test_items=len(np.unique(tested.item)),
        unseen_users=len(np.unique(tested.user[of_user == 0])),
        unrated_items=len(np.unique(tested.item[of_item == 0])),
        of_unseen_users=int((of_user == 0).sum()),
        of_unseen_items=int((of_item == 0).sum()),
        rmse=errors.rmse,
        mae=errors.mae,
        draws=draws,
        seed=seed,
        protocol=chosen.name,
        protocol_says=chosen.sentence(),
        k=chosen.k,
        liked=chosen.liked,
        ranked_users=own["users"],
        ndcg=math.nan if own["ndcg"] is None else own["ndcg"],
        recall=math.nan if own["recall"] is None else own["recall"],
        lists=lists,
        differences=differences,
        by_activity=activity_table(task, measured, chosen.k),
        baselines=[{"name": other.name, "settings": other.settings, "not_run": other.reason} for other in others],
        warnings=[*summary.warnings, *not_beaten(lists, differences, chosen.k)],
        by_item=_by_popularity(recommender, tested, of_item),
        by_user=_by_popularity(recommender, tested, of_user),
        validation_rmse=summary.validation_rmse,
        averaged=summary.averaged,
        bias_rmse=summary.bias_rmse,
        bias_validation_rmse=summary.bias_validation_rmse,
    )


def list_task(recommender: Recommender, tested: Tested, protocol: Protocol) -> ListTask:
    """The lists of a run's test users, to be measured by a protocol."""
    return ListTask.of(
        ItemLists(recommender.rated_offsets, recommender.rated_items),
        len(recommender.item_ids),
        tested.user,
        tested.item,
        tested.rating,
        protocol.relevant(tested.rating),
        protocol.cutoffs,
        implicit=protocol.name == "mmrec",
    )


def measure_methods(
    task: ListTask, own: dict[str, BlockScores], others: list[Baseline], progress: Progress
) -> dict[str, Measured]:
    """The lists of the ``own`` scores of runs, then those of each baseline that could be run."""
    scores = own | {other.name: other.scores for other in others if other.scores is not None}
    measured = {}
    users = len(np.unique(task.user))
    for name, block_scores in scores.items():
        with progress.phase(f"lists of {name}", users, "users") as phase:
            measured[name] = measure(task, block_scores, phase.advance)
    return measured


def run_scores(run: Run) -> dict[str, BlockScores]:
    """The scores that the run's lists are made of, and those of its rating model where that makes other lists."""
    beside = run.ranking is not None and run.recommender.predicts
    return {THIS_RUN: list_scores(run)} | ({BY_RATING: list_scores(run, "rating")} if beside else {})


def not_beaten(lists: pl.DataFrame, differences: pl.DataFrame, k: int) -> list[str]:
    """A sentence for each baseline whose NDCG at ``k`` the first method doesn't exceed by more than chance."""
    first, *others = headline(lists, differences, k).to_dicts()
    ours, found = first["ndcg"], []
    for row in others:
        name = row["method"]
        if (
            name == BY_RATING
            or ours is None
            or row["difference"] is None
            or (row["low"] is not None and row["low"] > 0)
        ):
            continue
        bounds = (
            ""
            if row["low"] is None
            else f", difference {row['difference']:+.4f}, 95 % {row['low']:+.4f} to {row['high']:+.4f}"
        )
        figures = f"NDCG@{k} {ours:.4f} against {row['ndcg']:.4f}{bounds}"
        if row["high"] is not None and row["high"] < 0:
            found.append(f"the lists of this run are worse than {name}: {figures}")
        else:
            found.append(f"the lists of this run are not measurably better than {name}: {figures}")
    return found


def _errors(recommender: Recommender, tested: Tested, *, draws: int, seed: int) -> ErrorIntervals:
    if not recommender.predicts:
        unknown = Interval(math.nan, math.nan, math.nan)
        return ErrorIntervals(unknown, unknown)
    return bootstrap_interval(tested.rating, tested.prediction, tested.user, draws=draws, seed=seed)


def _by_popularity(recommender: Recommender, tested: Tested, counts: npt.NDArray[np.int64]) -> pl.DataFrame:
    if recommender.predicts:
        return by_popularity(tested.rating, tested.prediction, counts)
    absent = pl.lit(None, pl.Float64)
    return by_popularity(tested.rating, tested.rating, counts).with_columns(rmse=absent, mae=absent)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
