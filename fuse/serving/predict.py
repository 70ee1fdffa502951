"""Predict ratings of pairs of a user and an item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import BadInput
from ..runs.run import Run
from .known_ids import id_type

_Numbers = npt.NDArray[np.int64]


def predict(run: Run, pairs: pl.DataFrame, *, distribution: bool = False) -> pl.DataFrame:
    """The rating expected of each pair of ``pairs`` (user_id, item_id; other columns are left out), in their order.

    Columns: user_id and item_id, of the run's type (as given where some are no such ids), prediction (Float32) and
    reason (String). Where the run doesn't know the user, the item or both, prediction is null and reason says which;
    elsewhere reason is null. With ``distribution`` p_1, p_2, ... (Float32) besides, the probability of each rating of
    the scale. BadInput where a column is absent or of another type than the run's ids, for ``distribution`` of a run
    without an ordinal head, and for a run without a rating model.
    """
    recommender = run.recommender
    if not recommender.predicts:
        why = (
            "it was trained on interactions without ratings"
            if run.implicit
            else "it was trained with another objective"
        )
        raise BadInput(f"{run.folder} has no rating model to predict by: {why}; `cinefuse recommend` gives its lists")
    for column, ids in (("user_id", recommender.user_ids), ("item_id", recommender.item_ids)):
        if column in pairs.columns:
            pairs = pairs.with_columns(_of_type(pairs[column], id_type(ids)))
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


def _of_type(given: pl.Series, wanted: pl.DataType) -> pl.Series:
    """Ids as integers where the run's are, also from text or floats; unchanged where one is not an integer."""
    if wanted != pl.Int64 or not (given.dtype == pl.String or given.dtype.is_float()):
        return given
    whole = given.cast(pl.Int64, strict=False)
    back = whole.cast(given.dtype)
    return whole if bool(back.eq_missing(given).all()) else given


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
