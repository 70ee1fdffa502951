"""The rows of a run by number: its test part with predictions, and its training rows for baselines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import BadInput, CinefuseError
from ...data.runtime.parquet import read_parquet
from ..inputs.run_file import readable
from ..models.recommender import Recommender
from ..runs.dataset_of_run import dataset_of
from ..runs.run import Run
from .baselines import History
from .protocol import Protocol

_HELD_SHARE = 10
_MEASURED_BY = "`cinefuse evaluate` measures its lists, `cinefuse compare` those of several runs"


@dataclass(frozen=True, eq=False)
class Tested:
    """The test part by number: user, item (R,) int64; rating, prediction (R,) float32.

    Predictions are NaN where the run has no rating model.
    """

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    rating: npt.NDArray[np.float32]
    prediction: npt.NDArray[np.float32]

    @classmethod
    def rows_of(cls, run: Run, dataset: Path | None = None) -> Tested:
        """`of`; of a run without a rating model the test rows of its dataset, found by `dataset_of`."""
        if run.recommender.predicts:
            return cls.of(run)
        rows = run.split.test
        if not len(rows):
            raise BadInput(f"{run.folder}: the run's split {run.record.split!r} has no test part to evaluate on")
        table = _ratings(dataset_of(run, dataset))[rows]
        user, item = _numbers(run.recommender, table)
        return cls(user, item, table["rating"].to_numpy(), np.full(len(rows), np.nan, np.float32))

    @classmethod
    def of(cls, run: Run) -> Tested:
        """Read a run's predictions. BadInput where it has none, or they are damaged or not of this model."""
        table = tested_table(run)
        user, item = _numbers(run.recommender, table)
        if (user < 0).any() or (item < 0).any():
            raise BadInput(
                f"{run.files.predictions} names users or films that the run's model doesn't know: "
                "it is of another run; train the run again"
            )
        return cls(user, item, table["rating"].to_numpy(), table["prediction"].to_numpy())


def tested_table(run: Run) -> pl.DataFrame:
    """user_id, item_id, rating, prediction of the test part; BadInput where there is none or it cannot be read."""
    if not run.recommender.predicts:
        raise BadInput(f"{run.folder} has no rating model, so it predicted no test rating: {_MEASURED_BY}")
    with readable(run.files.predictions):
        return run.predictions().select("user_id", "item_id", "rating", "prediction")


def history_of(run: Run, protocol: Protocol, dataset: Path | None = None) -> History:
    """The training and validation rows of a run; ``dataset`` says where its dataset is now, if it has moved.

    Held out is its validation part, or a random tenth where it has none. Where the dataset is missing or is not the
    run's, the rows are those in the model file, and all of them count as liked.
    """
    recommender = run.recommender
    try:
        table, split = _ratings(dataset_of(run, dataset)), run.split
    except (CinefuseError, OSError, pl.exceptions.PolarsError):
        return _without_ratings(recommender)
    rows = np.concatenate([split.train, split.validation])
    known = table[rows]
    user, item = _numbers(recommender, known)
    rating = known["rating"].to_numpy()
    if (user < 0).any() or (item < 0).any():
        return _without_ratings(recommender)
    held = np.repeat([False, True], [len(split.train), len(split.validation)])
    if not len(split.validation):
        held = _tenth(len(rows))
    return History(len(recommender.user_ids), len(recommender.item_ids), user, item, protocol.relevant(rating), held)


def _ratings(dataset: Path) -> pl.DataFrame:
    """user_id, item_id and rating of every row of a dataset folder, in its order."""
    return read_parquet(dataset / "ratings.parquet", columns=["user_id", "item_id", "rating"])


def _numbers(recommender: Recommender, rows: pl.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(R,) each: the numbers of the rows' users and items, -1 for one that the model doesn't know."""
    return (
        recommender.user_numbers(rows["user_id"].to_list()),
        recommender.item_numbers(rows["item_id"].to_list()),
    )


def _without_ratings(recommender: Recommender) -> History:
    user = np.repeat(np.arange(len(recommender.user_ids)), np.diff(recommender.rated_offsets))
    everything = np.ones(len(user), np.bool_)
    users, items = len(recommender.user_ids), len(recommender.item_ids)
    return History(users, items, user, recommender.rated_items, everything, _tenth(len(user)))


def _tenth(rows: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    held = np.zeros(rows, np.bool_)
    held[np.random.default_rng(0).permutation(rows)[: rows // _HELD_SHARE]] = True
    return held
