"""Side information as matrices: features of users and items besides ratings, texts and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import Tensor

from ...data.dataset.catalog import Catalog
from ...data.runtime.errors import BadInput
from ...data.runtime.parquet import read_parquet
from .sparse import SparseProduct


@dataclass(frozen=True, eq=False)
class SideInformation:
    """Features besides ratings and tokens, on the device of the training.

    user: (U, S). item: (I, C), genres and years, principal components. shown: (I, C'), the part the Transformer reads.
    tags: (I, T), ones where an item has a tag.
    """

    user: Tensor
    item: Tensor
    shown: Tensor
    tags: SparseProduct | None = None


Floats = npt.NDArray[np.float32]

_FIRST_YEAR, _YEARS_A_BIN, _YEAR_BINS = 1920, 7, 16
_AGE_LIMITS = (18, 25, 35, 45, 50, 56)  # as MovieLens 1M cuts them


def side_columns(dataset: Path) -> dict[str, list[str]]:
    """What the columns of `item_features` and `user_features` mean, in order; years, which never change, left out."""
    users = _read_users(dataset)
    bands = [] if users is None else [name for block in _user_values(users) for name in _names(block)]
    return {"item": _genre_names(Catalog.open(dataset).items), "user": bands}


def _genre_names(items: pl.DataFrame) -> list[str]:
    return sorted({name for row in items["genres"].fill_null([]).to_list() for name in row})


def item_features(items: pl.DataFrame) -> Floats:
    """(I, G + 16): genres scaled to unit length, and the year in bins of seven years from 1920.

    ``items`` has genres (List[String]) and year (Int32), both may be null: then their columns are 0.
    """
    genres = items["genres"].fill_null([])
    names = _genre_names(items)
    column = {name: place for place, name in enumerate(names)}
    flags = np.zeros((items.height, len(names)), np.float32)
    for row, given in enumerate(genres.to_list()):
        flags[row, [column[name] for name in given]] = 1
    flags /= np.sqrt(np.maximum(flags.sum(1, keepdims=True), 1))
    years = np.zeros((items.height, _YEAR_BINS), np.float32)
    known = items["year"].is_not_null().to_numpy()
    bins = (items["year"].drop_nulls().to_numpy() - _FIRST_YEAR) // _YEARS_A_BIN
    years[np.flatnonzero(known), bins.clip(0, _YEAR_BINS - 1)] = 1
    return np.hstack([flags, years])


def user_features(dataset: Path, user_ids: npt.NDArray[Any]) -> Floats:
    """(U, S): occupation, gender and age of `users.parquet` as flags; 0 for users it doesn't list, S = 0 without it.

    Ages are cut at 18, 25, 35, 45, 50 and 56. BadInput where the file lists a user twice or cannot be read.
    """
    users = _read_users(dataset)
    if users is None:
        return np.zeros((len(user_ids), 0), np.float32)
    place = {user: row for row, user in enumerate(user_ids.tolist())}
    rows = np.array([place.get(user, -1) for user in users["user_id"].to_list()], np.int64)
    blocks = [_flags(values) for values in _user_values(users)]
    side = np.zeros((len(user_ids), sum(block.shape[1] for block in blocks)), np.float32)
    if blocks:
        side[rows[rows >= 0]] = np.hstack(blocks)[rows >= 0]
    return side


def _read_users(dataset: Path) -> pl.DataFrame | None:
    file = dataset / "users.parquet"
    if not file.is_file():
        return None
    try:
        users = read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise BadInput(f"{file} cannot be read as Parquet ({str(fault).splitlines()[0]}): import it again") from None
    if "user_id" not in users.columns or users["user_id"].is_duplicated().any():
        raise BadInput(f"{file}: expected a column user_id with each user once; import the dataset again")
    return users


def _user_values(users: pl.DataFrame) -> list[pl.Series]:
    """A column for each feature of users, ages as the number of their band; null where it is unknown."""
    known = [users[name].cast(pl.String) for name in ("occupation", "gender") if name in users.columns]
    if "age" in users.columns:
        age = users["age"].cast(pl.Float64, strict=False).fill_nan(None)
        bands = pl.Series("age", np.searchsorted(_AGE_LIMITS, age.fill_null(0).to_numpy(), side="right").astype(str))
        known.append(bands.set(age.is_null(), None))
    return known


def _names(values: pl.Series) -> list[str]:
    return [f"{values.name} {name}" for name in _kinds(values)]


def _kinds(values: pl.Series) -> list[str]:
    return sorted(values.drop_nulls().unique().to_list())


def _flags(values: pl.Series) -> Floats:
    names = _kinds(values)
    flags = np.zeros((len(values), len(names)), np.float32)
    for column, name in enumerate(names):
        flags[:, column] = (values == name).fill_null(False).to_numpy()
    return flags
