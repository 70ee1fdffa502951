"""What a run says of users and films: the best unseen films of one user or of all, and single ratings."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import BadInput, UsageError
from ...data.runtime.untrusted_text import shown
from ..evaluation.item_lists import USERS_AT_ONCE, ItemLists, top_items
from ..models.recommender import Recommender
from ..runs.run import Run

_MOST_COMPARED = 2000  # ids that an unknown one is compared with, letter by letter

_Numbers = npt.NDArray[np.int64]
_Scores = npt.NDArray[np.float32]


def recommend(run: Run, user_id: int | str, k: int = 10) -> pl.DataFrame:
    """The k films that the user has not rated in training and would rate highest, best first; fewer where few are left.

    Columns: rank (Int64, from 1), item_id, title (String), prediction (Float32, on the ratings' scale), train_ratings
    (Int64: training ratings of the film by anybody). Films are ranked as in `ranking_scores`; among equal ones the
    earlier of the catalogue comes first. BadInput where the run knows no such user, with the nearest ids;
    UsageError for a k below 1.
    """
    recommender = run.recommender
    number = known_user(recommender, user_id)
    _refuse_small(k)
    block = number // USERS_AT_ONCE
    scores = ranking_scores(recommender)(block)
    first = block * USERS_AT_ONCE
    seen = ItemLists(recommender.rated_offsets, recommender.rated_items).of_users(number, number + 1)
    top = top_items(scores[[number - first]], seen, k)
    best = _as_table(recommender, np.array([number]), top)
    items = run_items(run).rename({"item_id": "known_id"})
    return best.hstack(items[best["item"]]).select("rank", "item_id", "title", "prediction", "train_ratings")


def recommend_all(run: Run, k: int = 10) -> pl.DataFrame:
    """`recommend` for every user the run knows: user_id, rank (Int64), item_id, prediction (Float32), by user and rank.

    UsageError for a k below 1.
    """
    _refuse_small(k)
    recommender = run.recommender
    users, block_scores = len(recommender.user_ids), ranking_scores(recommender)
    seen = ItemLists(recommender.rated_offsets, recommender.rated_items)
    tops = [
        top_items(block_scores(block), seen.of_users(start, min(start + USERS_AT_ONCE, users)), k)
        for block, start in enumerate(range(0, users, USERS_AT_ONCE))
    ]
    table = _as_table(recommender, np.arange(users), np.concatenate(tops))
    return table.select("user_id", "rank", "item_id", "prediction")


def ranks_by_product(recommender: Recommender) -> bool:
    """Whether the score of `joint_vectors` orders every user's films as the unclamped expected rating does.

    One ordinal head's expected rating grows with its score. The mean of several does not follow the mean score: each
    member bends it by the user's own level logits.
    """
    return recommender.is_one_product or len(recommender.vectors) == 1


def ranking_scores(recommender: Recommender) -> Callable[[int], _Scores]:
    """A function from the number of a block of `USERS_AT_ONCE` users to their scores (B, I) of all films.

    The scores rank films, they are no ratings: where one product ranks (`ranks_by_product`) they are that product, so
    that films predicted beyond the top of the scale are not all alike; else they are the expected ratings.
    """

    def users_of(block: int) -> slice:
        return slice(block * USERS_AT_ONCE, min((block + 1) * USERS_AT_ONCE, len(recommender.user_ids)))

    if not ranks_by_product(recommender):
        return lambda block: recommender.all_ratings(np.arange(len(recommender.user_ids))[users_of(block)])
    vectors = recommender.joint_vectors()
    return lambda block: vectors.scores(users_of(block)).numpy()


def predict(run: Run, pairs: pl.DataFrame, *, distribution: bool = False) -> pl.DataFrame:
    """The rating expected of each pair of ``pairs`` (user_id, item_id; other columns are left out), in their order.

    Columns: user_id and item_id as given, prediction (Float32) and reason (String). Where the run doesn't know the
    user, the film or both, prediction is null and reason says which; elsewhere reason is null. With ``distribution``
    p_1, p_2, ... (Float32) besides, the probability of each rating of the scale. BadInput where a column is absent or
    of another type than the run's ids, for a run without a rating model, and for ``distribution`` of one without an
    ordinal head.
    """
    recommender = run.recommender
    if not recommender.predicts:
        why = (
            "it was trained on interactions without ratings"
            if run.implicit
            else "it was trained with another objective"
        )
        raise BadInput(f"{run.folder} has no rating model to predict by: {why}; `cinefuse recommend` gives its lists")
    user = _numbers_of(pairs, "user_id", recommender.user_ids, recommender.user_numbers)
    item = _numbers_of(pairs, "item_id", recommender.item_ids, recommender.item_numbers)
    known = np.flatnonzero((user >= 0) & (item >= 0))
    prediction = np.full(len(pairs), np.nan, np.float32)
    prediction[known] = recommender.pair_ratings(user[known], item[known])
    reasons = np.array([None, "unknown user", "unknown film", "unknown user and film"], dtype=object)
    reason = reasons[(user < 0) + 2 * (item < 0)]
    predicted = pairs.select("user_id", "item_id").with_columns(
        prediction=pl.Series(prediction).fill_nan(None), reason=pl.Series(reason.tolist(), dtype=pl.String)
    )
    return predicted.hstack(_distribution(run, user, item, known)) if distribution else predicted


def known_user(recommender: Recommender, given: int | str) -> int:
    """The number of a user given by id, or by its digits where ids are whole numbers; BadInput where it is unknown."""
    ids = recommender.user_ids
    user = _as_id(given, ids)
    number = int(recommender.user_numbers([user])[0])
    if number < 0:
        raise BadInput(f"user {shown(user)}: the run knows no such user; the nearest ids are {_nearest(user, ids)}")
    return number


def run_items(run: Run) -> pl.DataFrame:
    """item_id, title, train_ratings of all films of a run, by number. BadInput where the table is damaged."""
    items = read_run_table(run, "items.parquet", ("item_id", "title", "train_ratings"))
    if items["item_id"].to_list() != run.recommender.item_ids.tolist():
        raise BadInput(f"{run.folder / 'items.parquet'} lists other films than the model: train the run again")
    return items


def read_run_table(run: Run, name: str, columns: tuple[str, ...]) -> pl.DataFrame:
    """The columns of a table of the run folder; BadInput where it is missing or damaged."""
    file = run.folder / name
    try:
        return pl.read_parquet(file, columns=list(columns))
    except FileNotFoundError:
        raise BadInput(f"{file} is missing: train the run again") from None
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise BadInput(f"{file} cannot be read ({str(fault).splitlines()[0]}): train the run again") from None


def _refuse_small(k: int) -> None:
    if k < 1:
        raise UsageError(f"k must be at least 1, found {k}")


def _as_table(recommender: Recommender, user: _Numbers, top: _Numbers) -> pl.DataFrame:
    """user_id, rank, film (its number), item_id, prediction: the places of ``top`` (B, k) that hold a film."""
    row, place = np.nonzero(top >= 0)
    item = top[row, place]
    return pl.DataFrame(
        {
            "user_id": _id_column(recommender.user_ids[user[row]], recommender.user_ids),
            "rank": place.astype(np.int64) + 1,
            "item": item,
            "item_id": _id_column(recommender.item_ids[item], recommender.item_ids),
            "prediction": recommender.pair_ratings(user[row], item),
        }
    )


def _id_column(ids: npt.NDArray[Any], all_ids: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(ids.tolist(), dtype=id_type(all_ids))


def id_type(ids: npt.NDArray[Any]) -> pl.DataType:
    """The type that tables give these ids: Int64 or String."""
    return pl.Int64() if ids.dtype.kind == "i" else pl.String()


def _numbers_of(
    pairs: pl.DataFrame, column: str, ids: npt.NDArray[Any], numbers: Callable[[list[Any]], _Numbers]
) -> _Numbers:
    if column not in pairs.columns:
        raise BadInput(f"pairs to predict lack the column {column!r}; they have {', '.join(pairs.columns) or 'none'}")
    given, wanted = pairs[column], id_type(ids)
    if given.dtype.is_integer() and wanted == pl.Int64:
        given = given.cast(pl.Int64, strict=False)
    elif given.dtype == pl.String and wanted == pl.Int64:
        whole = given.cast(pl.Int64, strict=False)
        given = whole.set(whole.cast(pl.String).ne_missing(given), None)  # "007" is no id of a whole number
    elif given.dtype != pl.String:
        kind = "whole numbers" if wanted == pl.Int64 else "text"
        raise BadInput(
            f"column {column} of the pairs: the run's ids are {kind} ({ids.tolist()[0]!r}), found {given.dtype}"
        )
    return numbers(given.to_list())


def _distribution(run: Run, user: _Numbers, item: _Numbers, known: _Numbers) -> pl.DataFrame:
    recommender = run.recommender
    found = recommender.distribution(user[known], item[known])
    if found is None:
        raise BadInput(
            f"{run.folder}: the run predicts a rating, no distribution; "
            "train one with `cinefuse fuse ... --set head=ordinal`"
        )
    chances = np.full((len(user), found.shape[1]), np.nan, np.float32)
    chances[known] = found
    return pl.DataFrame(
        {
            f"p_{level:g}": pl.Series(chance).fill_nan(None)
            for level, chance in zip(recommender.scale.levels, chances.T, strict=True)
        }
    )


def _as_id(given: object, ids: npt.NDArray[Any]) -> int | str:
    if ids.dtype.kind != "i":
        if isinstance(given, str):
            return given
        raise BadInput(
            f"user {shown(given)}: the run's user ids are text (such as {shown(ids[0])}), found {type(given).__name__}"
        )
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        return int(given)
    if isinstance(given, str) and re.fullmatch(r"-?[0-9]+", given.strip()):
        return int(given)
    raise BadInput(f"user {given!r}: the run's user ids are whole numbers (such as {int(ids[0])}); give one of them")


def _nearest(user: int | str, ids: npt.NDArray[Any]) -> str:
    """Up to three ids like this one: the nearest numbers, or the texts most like it."""
    known: list[Any] = ids.tolist()
    if isinstance(user, int):
        near = sorted(known, key=lambda other: (abs(other - user), other))[:3]
        return ", ".join(map(str, near))
    if len(known) > _MOST_COMPARED:
        known = sorted(known)
        place = bisect_left(known, user)
        known = known[max(0, place - _MOST_COMPARED // 2) : place + _MOST_COMPARED // 2]
    folded = {other.casefold(): other for other in known}
    alike = difflib.get_close_matches(user.casefold(), folded, n=3, cutoff=0.3)
    return ", ".join(repr(folded[other]) for other in alike) or f"{known[0]!r} ..."
