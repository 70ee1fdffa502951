"""How good a run is on its test part: error with its uncertainty, by popularity, and rank among all unseen films."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import BadInput, UsageError
from ..models.heads import Scale
from ..models.recommender import Recommender
from ..runs.run import Run
from ..serving.recommend import USERS_AT_ONCE, ranking_scores
from .item_lists import ItemLists
from .metrics import Interval, bootstrap_interval, by_popularity
from .ranking_metrics import Ranking, ranking

_LIKED_SHARE = 0.8  # of the scale's top: 4 of 5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the test part of a run says.

    ``rmse`` and ``mae`` come with the bounds of 95 % percentile intervals over ``draws`` draws of whole users, from
    ``seed``. ``ndcg`` and ``recall`` are means over the ``ranked_users`` who rated a test film ``liked`` or more, each
    ranked among *all* films not seen in training or validation, cut at ``k``; NaN where there is no such user.
    ``by_item`` and ``by_user`` are `metrics.by_popularity` over training ratings of the film, and of the user.
    Users and films are unseen where they have no training rating; ``of_unseen`` counts their test ratings.
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
    k: int
    liked: float
    ranked_users: int
    ndcg: float
    recall: float
    by_item: pl.DataFrame
    by_user: pl.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON: intervals as value, low and high; tables as lists of rows; NaN as None."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("rmse", "mae"):
            plain[name] = {bound: _or_none(value) for bound, value in asdict(plain[name]).items()}
        for name in ("by_item", "by_user"):
            plain[name] = plain[name].to_dicts()
        return plain | {name: _or_none(plain[name]) for name in ("ndcg", "recall")}


@dataclass(frozen=True, eq=False)
class Tested:
    """The test part by number: user, film (R,) int64; rating, prediction (R,) float32."""

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    rating: npt.NDArray[np.float32]
    prediction: npt.NDArray[np.float32]

    @classmethod
    def of(cls, run: Run) -> Tested:
        """Read a run's predictions. BadInput where it has none, or they are damaged or not of this model."""
        table = tested_table(run)
        user = run.recommender.user_numbers(table["user_id"].to_list())
        item = run.recommender.item_numbers(table["item_id"].to_list())
        if (user < 0).any() or (item < 0).any():
            raise BadInput(
                f"{run.folder / 'predictions.parquet'} names users or films that the run's model doesn't know: "
                "it is of another run; train the run again"
            )
        return cls(user, item, table["rating"].to_numpy(), table["prediction"].to_numpy())


def tested_table(run: Run) -> pl.DataFrame:
    """user_id, item_id, rating, prediction of the test part; BadInput where there is none or it cannot be read."""
    try:
        return run.predictions().select("user_id", "item_id", "rating", "prediction")
    except (pl.exceptions.PolarsError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise BadInput(f"{run.folder / 'predictions.parquet'} cannot be read ({reason}): train the run again") from None


def evaluate(run: Run, *, k: int = 10, liked: float | None = None, draws: int = 2000, seed: int = 0) -> Evaluation:
    """Measure a run on its test part, writing nothing.

    ``liked`` is the lowest rating that makes a test film relevant; None takes the lowest level of the training ratings
    that is at least four fifths of the highest (`liked_by_default`). Films are ranked as `recommend` ranks them.
    BadInput where the run had no test part; UsageError for k or draws below 1, a negative seed, or a ``liked`` that is
    no number.
    """
    _refuse(k, liked, draws, seed)
    recommender, tested = run.recommender, Tested.of(run)
    liked = liked_by_default(recommender.scale) if liked is None else liked
    errors = bootstrap_interval(tested.rating, tested.prediction, tested.user, draws=draws, seed=seed)
    ranked = _ranked(recommender, tested, k, liked)
    of_user, of_item = np.diff(recommender.rated_offsets)[tested.user], _item_counts(recommender)[tested.item]
    return Evaluation(
        name=run.folder.resolve().name,
        preset=run.config.preset,
        split=str(run.about["split"]),
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
        k=k,
        liked=liked,
        ranked_users=len(ranked.users),
        ndcg=ranked.mean_ndcg,
        recall=ranked.mean_recall,
        by_item=by_popularity(tested.rating, tested.prediction, of_item),
        by_user=by_popularity(tested.rating, tested.prediction, of_user),
    )


def liked_by_default(scale: Scale) -> float:
    """The lowest level of at least four fifths of the highest: 4 where ratings go to 5, 8 where they go to 10."""
    top = scale.levels[-1]
    return min((level for level in scale.levels if level >= _LIKED_SHARE * top - 1e-6 * abs(top)), default=top)


def _refuse(k: int, liked: float | None, draws: int, seed: int) -> None:
    for name, value, least in (("k", k, 1), ("draws", draws, 1), ("seed", seed, 0)):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, found {value}")
    if liked is not None and not math.isfinite(liked):
        raise UsageError(f"liked must be a rating, such as 4, found {liked}")


def _ranked(recommender: Recommender, tested: Tested, k: int, liked: float) -> Ranking:
    """Where each user's liked test films stand among all films that the user had not seen."""
    users, items = len(recommender.user_ids), len(recommender.item_ids)
    seen = ItemLists(recommender.rated_offsets, recommender.rated_items)
    # as the ratings are: 4.2 in float32 is less than 4.2
    relevant = tested.rating >= np.float32(liked)
    user, item = tested.user[relevant], tested.item[relevant]
    watched = np.repeat(np.arange(users), np.diff(seen.offsets)) * items + seen.items
    new = ~np.isin(user * items + item, watched)
    lists = ItemLists.of(user[new], item[new], users)
    block_scores = ranking_scores(recommender)
    chunks = []
    for block in np.unique(user[new] // USERS_AT_ONCE).tolist():
        start, stop = block * USERS_AT_ONCE, min((block + 1) * USERS_AT_ONCE, users)
        found = ranking(block_scores(block), seen.of_users(start, stop), lists.of_users(start, stop), k)
        chunks.append((start, found))
    return Ranking.joined(chunks)


def _item_counts(recommender: Recommender) -> npt.NDArray[np.int64]:
    return np.bincount(recommender.rated_items, minlength=len(recommender.item_ids))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
