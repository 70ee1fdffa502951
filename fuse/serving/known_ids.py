"""Find ids given by users in a run, or refuse them with the nearest ones."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import BadInput
from ...data.runtime.untrusted_text import shown
from ..models.recommender import Recommender

_MOST_COMPARED = 2000  # ids that an unknown one is compared with, letter by letter


def known_user(recommender: Recommender, given: int | str) -> int:
    """The number of a user given by id, or by its digits where ids are integers; BadInput where it is unknown."""
    ids = recommender.user_ids
    user = _as_id(given, ids, "user")
    number = int(recommender.user_numbers([user])[0])
    if number < 0:
        raise BadInput(f"user {shown(user)}: the run knows no such user; the nearest ids are {_nearest(user, ids)}")
    return number


def item_numbers_of(recommender: Recommender, given: Sequence[Any], option: str) -> npt.NDArray[np.int64]:
    """(n,) the numbers of items given by id, as `known_user` takes ids, to the ``option`` of a command.

    BadInput where one is unknown, with the nearest ids.
    """
    ids = recommender.item_ids
    items = [_as_id(one, ids, "film") for one in given]
    numbers = recommender.item_numbers(items)
    if unknown := [item for item, number in zip(items, numbers.tolist(), strict=True) if number < 0]:
        more = f" (and {len(unknown) - 1:,} others)" if len(unknown) > 1 else ""
        raise BadInput(
            f"{option}: the run knows no film {shown(unknown[0])}{more}; "
            f"the nearest ids are {_nearest(unknown[0], ids)}"
        )
    return numbers


def id_type(ids: npt.NDArray[Any]) -> pl.DataType:
    """The type that tables give these ids: Int64 or String."""
    return pl.Int64() if ids.dtype.kind == "i" else pl.String()


def id_column(ids: npt.NDArray[Any], all_ids: npt.NDArray[Any]) -> pl.Series:
    """``ids`` (n,) as a column of the type that ``all_ids`` have."""
    return pl.Series(ids.tolist(), dtype=id_type(all_ids))


def _as_id(given: object, ids: npt.NDArray[Any], what: str) -> int | str:
    if ids.dtype.kind != "i":
        if isinstance(given, str):
            return given
        raise BadInput(
            f"{what} {shown(given)}: the run's {what} ids are text (such as {shown(ids[0])}), "
            f"found {type(given).__name__}"
        )
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        return int(given)
    if isinstance(given, str) and re.fullmatch(r"-?[0-9]+", given.strip()):
        return int(given)
    raise BadInput(
        f"{what} {shown(given)}: the run's {what} ids are whole numbers (such as {int(ids[0])}); give one of them"
    )


def _nearest(user: int | str, ids: npt.NDArray[Any]) -> str:
    """Up to three ids: the nearest numbers, or the most similar texts."""
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
