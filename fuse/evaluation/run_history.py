"""The training rows of a run as baselines read them: with their ratings where the dataset is at hand, else without."""

from __future__ import annotations

import numpy as np
import polars as pl

from ...data.runtime.errors import CinefuseError
from ..models.recommender import Recommender
from ..runs.dataset_of_run import dataset_of
from ..runs.run import Run
from .baselines import History
from .protocol import Protocol

_HELD_SHARE = 10


def history_of(run: Run, protocol: Protocol) -> History:
    """The training and validation rows of a run.

    Held out is its validation part, or a random tenth where it has none. Where the dataset isn't there any more, or is
    another one, the rows are those that the model file lists, and all of them count as liked.
    """
    recommender = run.recommender
    try:
        dataset = dataset_of(run)
        split = run.split
        table = pl.read_parquet(dataset / "ratings.parquet", columns=["user_id", "item_id", "rating"])
    except (CinefuseError, OSError, pl.exceptions.PolarsError):
        return _without_ratings(recommender)
    rows = np.concatenate([split.train, split.validation])
    known = table[rows]
    user = recommender.user_numbers(known["user_id"].to_list())
    item = recommender.item_numbers(known["item_id"].to_list())
    rating = known["rating"].to_numpy()
    if (user < 0).any() or (item < 0).any():
        return _without_ratings(recommender)
    held = np.repeat([False, True], [len(split.train), len(split.validation)])
    if not len(split.validation):
        held = _tenth(len(rows))
    return History(len(recommender.user_ids), len(recommender.item_ids), user, item, protocol.relevant(rating), held)


def _without_ratings(recommender: Recommender) -> History:
    user = np.repeat(np.arange(len(recommender.user_ids)), np.diff(recommender.rated_offsets))
    everything = np.ones(len(user), np.bool_)
    users, items = len(recommender.user_ids), len(recommender.item_ids)
    return History(users, items, user, recommender.rated_items, everything, _tenth(len(user)))


def _tenth(rows: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    held = np.zeros(rows, np.bool_)
    held[np.random.default_rng(0).permutation(rows)[: rows // _HELD_SHARE]] = True
    return held
