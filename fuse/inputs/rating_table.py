"""The rating table of a dataset folder: read, checked, and its users and items as numbers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.dataset.folder import refuse_rows
from ...data.dataset.rating_scale import looks_like_counts
from ...data.runtime.errors import BadInput
from ...data.runtime.parquet import scan_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_Codes = npt.NDArray[np.int32]
_Ratings = npt.NDArray[np.float32]


@contextmanager
def readable_table(file: Path) -> Iterator[None]:
    """BadInput where a table of the dataset is missing, or is no Parquet."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"{file} is missing: there are no ratings to learn from; import the dataset with them") from None
    except (pl.exceptions.PolarsError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise BadInput(f"{file} cannot be read as Parquet ({reason}): import the dataset again") from None


def checked_ratings(file: Path) -> pl.LazyFrame:
    """user_id, item_id (Int64 or String, none null), rating (Float32, finite), perhaps timestamp (Int64)."""
    table = scan_parquet(file)
    schema = table.collect_schema()
    if absent := [name for name in ("user_id", "item_id", "rating") if name not in schema]:
        raise BadInput(f"{file} lacks the column {absent[0]!r}; it has {', '.join(schema)}")
    if not schema["rating"].is_numeric():
        raise BadInput(f"{file}, column rating: expected numbers, found {schema['rating']}")
    columns = [_id(name, schema[name], file) for name in ("user_id", "item_id")]
    columns.append(pl.col("rating").cast(pl.Float32, strict=False))
    if dated := schema.get("timestamp"):
        if not (dated.is_integer() or dated.is_temporal()):
            raise BadInput(f"{file}, column timestamp: expected whole seconds or points in time, found {dated}")
        columns.append(pl.col("timestamp").to_physical().cast(pl.Int64))
    ratings = table.select(columns)
    faults = {
        f"without a {name}; every rating needs one": pl.col(name).is_null() for name in ("user_id", "item_id")
    } | {"with a rating that is not a number; correct or remove them": ~pl.col("rating").is_finite().fill_null(False)}
    refuse_rows(ratings.with_row_index("row"), faults, str(file))
    if ratings.select(pl.len()).collect().item() == 0:
        raise BadInput(f"{file} holds no rating: there is nothing to learn from; import the dataset with ratings")
    return ratings


def _id(name: str, dtype: pl.DataType, file: Path) -> pl.Expr:
    if dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128):
        return pl.col(name).cast(pl.Int64)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return pl.col(name).cast(pl.String)
    raise BadInput(f"{file}, column {name}: expected Int64 or String, found {dtype}; import the dataset again")


def all_users(file: Path, ratings: pl.LazyFrame, rated: Path) -> pl.Series:
    """The ids of all users of users.parquet, where it is there, and of ``ratings`` (of the file ``rated``), sorted."""
    with readable_table(rated):
        users = ratings.select(pl.col("user_id").unique()).collect(engine="streaming")["user_id"]
    if file.is_file():
        with readable_table(file):
            table = scan_parquet(file)
            schema = table.collect_schema()
            if "user_id" not in schema:
                raise BadInput(f"{file} lacks the column 'user_id'; it has {', '.join(schema)}")
            known = table.select(_id("user_id", schema["user_id"], file))
            faults = {"without a user_id; every user needs one": pl.col("user_id").is_null()}
            refuse_rows(known.with_row_index("row"), faults, str(file))
            listed = known.collect()["user_id"]
        if listed.dtype != users.dtype:
            raise BadInput(
                f"{file}: expected user_id as in ratings.parquet ({users.min()!r}, {users.dtype}), "
                f"found {listed.dtype}; import the dataset again"
            )
        users = pl.concat([users, listed]).unique()
    return users.sort()


def coded_ratings(ratings: pl.LazyFrame, users: pl.Series, items: pl.Series) -> tuple[_Codes, _Codes, _Ratings]:
    """(rows,) each: index of the user, index of the item (-1 where it is unknown), and the rating."""
    if ratings.collect_schema()["item_id"] != items.dtype:
        # a number is never an id of text, nor a text one of a number: there is nothing to look up
        items = items.clear().cast(ratings.collect_schema()["item_id"])
    numbered_users = pl.LazyFrame({"user_id": users}).with_row_index("user")
    numbered_items = pl.LazyFrame({"item_id": items}).with_row_index("item")
    coded = (
        ratings.select("user_id", "item_id", "rating")
        .join(numbered_users, on="user_id", how="left", maintain_order="left")
        .join(numbered_items, on="item_id", how="left", maintain_order="left")
        .select(pl.col("user").cast(pl.Int32), pl.col("item").cast(pl.Int32).fill_null(-1), "rating")
        .collect(engine="streaming")
    )
    # one column at a time: table and arrays together would need the memory twice
    user, item, rating = (coded.drop_in_place(name).to_numpy() for name in ("user", "item", "rating"))
    return user, item, rating


def refuse_counts(dataset: Path, rating: npt.NDArray[Any]) -> None:
    """BadInput where the ratings (R,) are counts: a few large ones would dominate every error."""
    lowest, median, highest = (float(value) for value in (rating.min(), np.median(rating), rating.max()))
    if looks_like_counts(lowest, median, highest, len(np.unique(rating))):
        raise BadInput(
            f"{dataset / 'ratings.parquet'}: the ratings run from {lowest:g} to {highest:g} with a median of "
            f"{median:g}, as counts do: import them with --log-ratings, which keeps log(1 + count); or rank by them "
            "with --objective ranking; or take them as ratings with --set head=squared"
        )
