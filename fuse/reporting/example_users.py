"""A few users for the report: the items each rated highest in training, and the run's recommendations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.runtime.parquet import scan_parquet
from ..evaluation.metrics import rmse
from ..evaluation.run_rows import Tested
from ..runs.run import Run
from ..serving.recommend import recommend
from ..serving.scoring import item_counts

_LEAST_RATED = 5  # training ratings, and test ratings


@dataclass(frozen=True, eq=False)
class ExampleUser:
    """One user: numbers of training and test ratings, and the RMSE over the latter (None where there are none).

    rated: item_id and rating, the highest first; None without the dataset. lists: the tables of `recommend` by each
    model that the run has, "ranking" and "rating". tested: the user's test ratings by item id.
    """

    user_id: int | str
    ratings: int
    test_ratings: int
    rmse: float | None
    rated: pl.DataFrame | None
    lists: dict[str, pl.DataFrame]
    tested: dict[Any, float]


def example_users(
    run: Run, tested: Tested, dataset: Path | None, *, users: int = 4, k: int = 10, rated: int = 6
) -> list[ExampleUser]:
    """A few users at even quantiles of the number of training ratings, whatever their error.

    Users with fewer than 5 ratings in training or in test are skipped where there are enough others.
    """
    chosen = evenly_chosen(run, tested, users)
    history = None if dataset is None else _history(run, dataset, [run.recommender.user_ids[user] for user in chosen])
    return [_example(run, tested, user, history, k, rated) for user in chosen]


def evenly_chosen(run: Run, tested: Tested, users: int) -> list[int]:
    """The numbers of ``users`` users, or of all where there are fewer, at even quantiles of training ratings."""
    counts = np.diff(run.recommender.rated_offsets)
    shown, tests = np.unique(tested.user, return_counts=True)
    enough = shown[(counts[shown] >= _LEAST_RATED) & (tests >= _LEAST_RATED)]
    candidates = enough if len(enough) >= users else shown
    candidates = candidates[np.argsort(counts[candidates], kind="stable")]
    places = (np.arange(users) + 0.5) / users * len(candidates)
    return [int(user) for user in candidates[np.unique(places.astype(np.int64))]]


def _history(run: Run, dataset: Path, user_ids: list[Any]) -> pl.DataFrame:
    """user_id, item_id, rating of the users' training and validation ratings; of an item rated twice the one kept."""
    split = run.split
    rows = np.sort(np.concatenate([split.train, split.validation])).astype(np.uint32)
    kept = pl.LazyFrame({"row": rows})
    ratings = scan_parquet(dataset / "ratings.parquet").select("user_id", "item_id", "rating")
    return (
        ratings.with_row_index("row")
        .filter(pl.col("user_id").is_in(user_ids))
        .join(kept, on="row", how="semi")
        .select("user_id", "item_id", "rating")
        .collect()
    )


def _example(run: Run, tested: Tested, user: int, history: pl.DataFrame | None, k: int, rated: int) -> ExampleUser:
    recommender = run.recommender
    user_id = recommender.user_ids.tolist()[user]
    own = tested.user == user
    models = [*(["ranking"] if run.ranking is not None else []), *(["rating"] if recommender.predicts else [])]
    items = recommender.item_ids[tested.item[own]].tolist()
    return ExampleUser(
        user_id=user_id,
        ratings=int(np.diff(recommender.rated_offsets)[user]),
        test_ratings=int(own.sum()),
        rmse=rmse(tested.rating[own], tested.prediction[own]) if own.any() and recommender.predicts else None,
        rated=None if history is None else _highest(run, history.filter(pl.col("user_id") == user_id), rated),
        lists={by: recommend(run, user_id, k, by=by) for by in models},
        tested=dict(zip(items, tested.rating[own].tolist(), strict=True)),
    )


def _highest(run: Run, own: pl.DataFrame, rated: int) -> pl.DataFrame:
    """The user's highest ratings; among equal ones the most rated items first."""
    recommender = run.recommender
    popularity = item_counts(recommender)
    numbers = recommender.item_numbers(own["item_id"].to_list())
    return (
        own.with_columns(item=pl.Series(numbers), popularity=pl.Series(popularity[numbers]))
        .sort("rating", "popularity", "item", descending=[True, True, False])
        .head(rated)
        .select("item_id", "rating")
    )
