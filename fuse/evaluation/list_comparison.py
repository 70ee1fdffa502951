"""Compare the lists of several runs and the baselines on the same users and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ...data.runtime.errors import BadInput, UsageError
from ...data.runtime.progress import NoProgress, Progress
from ..runs.run import Run
from .baselines import baselines
from .comparison import names_of
from .evaluate import THIS_RUN, list_task, measure_methods, run_scores
from .list_tables import difference_table, headline, quality_table
from .measured_lists import BlockScores, ListTask, Measured
from .protocol import Protocol, protocol_for
from .ranking_metrics import METRICS
from .run_rows import Tested, history_of


@dataclass(frozen=True, eq=False)
class ListComparison:
    """Lists of runs and baselines, judged by one protocol.

    ``table`` has a row a run, in their order, then one a baseline: name, kind ("run" or "baseline"), users (Int64);
    ndcg, recall, precision, map, mrr and hit_rate at ``k`` with _low and _high; coverage, novelty, head_share; and
    ndcg_difference, ndcg_difference_low and _high: the row's NDCG minus the first run's (above 0 it is better; null in
    the first row). ``not_run`` names baselines that could not be run, with the reason.
    """

    protocol: str
    protocol_says: str
    k: int
    table: pl.DataFrame
    not_run: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"table": self.table.to_dicts(), "not_run": list(self.not_run)}


def compare_lists(
    runs: Sequence[Run],
    *,
    k: int | None = None,
    protocol: str = "auto",
    draws: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> ListComparison:
    """Judge the lists of all runs as `evaluate` does, with paired differences to the first run's.

    Bounds are of 95 % percentile intervals over ``draws`` draws of whole users, the same for all. BadInput where two
    runs were not trained and tested on the same rows; UsageError for no run, and as `evaluate` raises it.
    """
    case = measured_case(runs, k=k, protocol=protocol, progress=progress)
    chosen, task, measured = case.protocol, case.task, case.measured
    quality = quality_table(task, measured, draws=draws, seed=seed)
    differences = difference_table(task, measured, draws=draws, seed=seed)
    table = headline(quality, differences, chosen.k).select(
        pl.col("method").alias("name"),
        pl.when(pl.col("method").is_in(case.baselines)).then(pl.lit("baseline")).otherwise(pl.lit("run")).alias("kind"),
        "users",
        *(f"{name}{bound}" for name in METRICS for bound in ("", "_low", "_high")),
        "coverage",
        "novelty",
        "head_share",
        # the table of differences has the first minus the other, this one the other minus the first
        ndcg_difference=-pl.col("difference"),
        ndcg_difference_low=-pl.col("high"),
        ndcg_difference_high=-pl.col("low"),
    )
    return ListComparison(chosen.name, chosen.sentence(), chosen.k, table, case.not_run)


@dataclass(frozen=True, eq=False)
class Case:
    """The lists of several runs on the same rows, and of the baselines: ``measured`` by name."""

    protocol: Protocol
    task: ListTask
    measured: dict[str, Measured]
    baselines: tuple[str, ...]
    not_run: tuple[str, ...]


def measured_case(
    runs: Sequence[Run], *, k: int | None = None, protocol: str = "auto", progress: Progress | None = None
) -> Case:
    """Make and measure the lists of all runs and baselines; refused as `compare_lists` says."""
    if not runs:
        raise UsageError("nothing to compare: name at least one run folder")
    progress = progress or NoProgress()
    first = runs[0]
    for run in runs[1:]:
        _refuse_other_rows(first, run)
    chosen = protocol_for(first.recommender.scale, name=protocol, k=k, implicit=first.implicit)
    task = list_task(first.recommender, Tested.rows_of(first), chosen)
    others = baselines(history_of(first, chosen), chosen.k, progress.message) if len(task.user) else []
    scores: dict[str, BlockScores] = {}
    names = names_of(runs)
    for number, (name, run) in enumerate(zip(names, runs, strict=True)):
        scores[name if names.index(name) == number else f"{name} ({number + 1})"] = run_scores(run)[THIS_RUN]
    measured = measure_methods(task, scores, others, progress)
    absent = tuple(f"{other.name}: {other.reason}" for other in others if other.reason)
    return Case(chosen, task, measured, tuple(other.name for other in others if other.scores is not None), absent)


def _refuse_other_rows(first: Run, other: Run) -> None:
    one, two = first.recommender, other.recommender
    same = (
        np.array_equal(one.user_ids, two.user_ids)
        and np.array_equal(one.item_ids, two.item_ids)
        and np.array_equal(one.rated_offsets, two.rated_offsets)
        and np.array_equal(one.rated_items, two.rated_items)
        and np.array_equal(first.split.test, other.split.test)
    )
    if not same:
        raise BadInput(
            f"{first.folder} and {other.folder} were not trained and tested on the same rows (splits "
            f"{first.record.split} and {other.record.split}): their lists can't be compared; compare runs of one "
            "dataset and split"
        )
