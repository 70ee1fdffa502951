"""Ratings, items and rows of the embedding file, joined by number; the vectors themselves are never joined."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.dataset.catalog import Catalog
from ...data.dataset.folder import refuse_rows, rows_named
from ...data.runtime.errors import BadInput, UsageError
from ...data.runtime.parquet import scan_parquet
from .coverage import Coverage, Dropped, Presence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ...data.embeddings.file import EmbeddingFile

MISSING = ("mask", "drop", "error")
DUPLICATES = ("last", "first", "error")

_Bools = npt.NDArray[np.bool_]
_Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Joined:
    """U users, I items and the R ratings kept, by number.

    user_ids: (U,) int64, or object holding str; sorted, each once: all of users.parquet (if there) and ratings.parquet.
    item_ids: (I,) as `Catalog.ids`, in the catalogue's order; all items, also those never rated.
    user, item: (R,) int32 into user_ids and item_ids, in the order of ratings.parquet.
    rating: (R,) float32, finite.
    row: (R,) int64 row of ratings.parquet from 0, ascending.
    embedding_row: (I,) int64 row of the embedding file, -1 where it has no such item; None without a file.
    text, image: (I,) bool: the item has a text / image embedding; all False where the file has none, or without one.
    """

    user_ids: npt.NDArray[Any]
    item_ids: npt.NDArray[Any]
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    rating: npt.NDArray[np.float32]
    row: npt.NDArray[np.int64]
    embedding_row: npt.NDArray[np.int64] | None
    text: npt.NDArray[np.bool_]
    image: npt.NDArray[np.bool_]
    coverage: Coverage


def join(dataset: Path, embeddings: EmbeddingFile | None, *, missing: str = "mask", duplicates: str = "last") -> Joined:
    """Join the ratings of a dataset folder with its items and with the rows of `embeddings`.

    Ratings of items that the catalogue lacks are dropped. `missing` says what becomes of items without an embedding in
    any modality the file has: "mask" keeps them, "drop" drops their ratings, "error" refuses if there is one. Where a
    user rated an item more than once, `duplicates` keeps the "last" by timestamp (by row among equal ones; a rating
    without a timestamp counts as the earliest) or the "first", or refuses ("error"). A rating that several of these
    rules would drop is counted under the first of them, in this order.

    Raises UsageError for an unknown choice; BadInput where a table is absent, unreadable or of other types, where a
    rating is no finite number or lacks an id (rows named), and where catalogue, ratings and file share nothing.
    """
    _check_choice("missing", missing, MISSING)
    _check_choice("duplicates", duplicates, DUPLICATES)
    catalog = Catalog.open(dataset)
    items = catalog.items["item_id"]
    embedding_row, embedded = _embedded(items, catalog.ids, embeddings)
    modalities = embeddings.modalities if embeddings is not None else ()
    lacking = (
        ~np.logical_and.reduce([embedded[name] for name in modalities]) if modalities else np.zeros(len(items), bool)
    )

    file = dataset / "ratings.parquet"
    with _readable(file):
        ratings = _checked(file)
    users = _all_users(dataset / "users.parquet", ratings, file)
    with _readable(file):
        user, item, rating = _coded(ratings, users, items)
    unknown = item < 0
    if unknown.all():
        raise BadInput(_nothing_shared(file, ratings, items))
    if missing == "error" and lacking.any():
        raise BadInput(_items_lacking(items, lacking, item[~unknown], embeddings))

    unembedded = ~unknown & lacking[item] if missing == "drop" else np.zeros(len(item), bool)
    kept = ~(unknown | unembedded)
    if not kept.any():
        raise BadInput(
            f"{file}: no rating is of a film with {' and '.join(modalities)} embeddings; "
            "keep films without them (missing: mask), or extract them"
        )
    with _readable(file):
        repeated = _duplicates(ratings, file, user, item, kept, duplicates)
    kept &= ~repeated
    row = np.flatnonzero(kept)
    user, item, rating = user[row], item[row], rating[row]
    text, image = embedded["text"], embedded["image"]
    coverage = Coverage(
        modalities=modalities,
        ratings=len(kept),
        kept=len(row),
        unknown_item=Dropped.where(unknown),
        missing_embedding=Dropped.where(unembedded),
        duplicate=Dropped.where(repeated),
        users=len(users),
        users_with_ratings=_distinct(user, len(users)),
        items=len(items),
        rated_items=_distinct(item, len(items)),
        items_outside_file=0 if embedding_row is None else int((embedding_row < 0).sum()),
        items_with=Presence.of(text, image),
        ratings_with=Presence.of(text[item], image[item]),
    )
    return Joined(
        user_ids=_as_ids(users),
        item_ids=catalog.ids,
        user=user,
        item=item,
        rating=rating,
        row=row,
        embedding_row=embedding_row,
        text=text,
        image=image,
        coverage=coverage,
    )


def _check_choice(option: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise UsageError(f"{option}: expected {', '.join(choices[:-1])} or {choices[-1]}, found {given!r}")


def _embedded(
    items: pl.Series, ids: npt.NDArray[Any], embeddings: EmbeddingFile | None
) -> tuple[npt.NDArray[np.int64] | None, dict[str, _Bools]]:
    """Each item's row in the file, and per modality whether it has an embedding there."""
    embedded = {name: np.zeros(len(ids), bool) for name in ("text", "image")}
    if embeddings is None:
        return None, embedded
    rows = embeddings.find(ids)
    there = np.flatnonzero(rows >= 0)
    if not there.size:
        theirs = embeddings.ids
        raise BadInput(
            f"{embeddings.path}: of another catalogue: none of its {len(theirs):,} ids "
            f"({theirs[0].item()!r}, {'Int64' if theirs.dtype.kind == 'i' else 'String'}) is one of the "
            f"{len(items):,} films ({items[0]!r}, {items.dtype}); extract from this dataset"
        )
    for name in embeddings.modalities:
        embedded[name][there] = embeddings[name].has_embedding[rows[there]]
    return rows, embedded


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"{file} is missing: there are no ratings to learn from; import the dataset with them") from None
    except (pl.exceptions.PolarsError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise BadInput(f"{file} cannot be read as Parquet ({reason}): import the dataset again") from None


def _checked(file: Path) -> pl.LazyFrame:
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


def _all_users(file: Path, ratings: pl.LazyFrame, rated: Path) -> pl.Series:
    with _readable(rated):
        users = ratings.select(pl.col("user_id").unique()).collect(engine="streaming")["user_id"]
    if file.is_file():
        with _readable(file):
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


def _coded(ratings: pl.LazyFrame, users: pl.Series, items: pl.Series) -> tuple[_Codes, _Codes, npt.NDArray[np.float32]]:
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


def _duplicates(
    ratings: pl.LazyFrame, file: Path, user: _Codes, item: _Codes, candidate: _Bools, duplicates: str
) -> _Bools:
    """(rows,) True where another `candidate` row of the same user and item counts instead."""
    dropped = np.zeros(len(user), bool)
    rows, group = _rows_alike(user, item, candidate)
    if not rows.size:
        return dropped
    if duplicates == "error":
        raise BadInput(
            f"{file}: {rows_named(rows[:5].tolist(), len(rows))} rate a film that the same user rates in another row; "
            "remove the repeats, or let the last (or first) of them count"
        )
    # lexsort is stable, and rows ascend: among equal timestamps the later row comes last
    order = np.lexsort((_timestamps(ratings, rows), group))
    rows, group = rows[order], group[order]
    differs = group[1:] != group[:-1]
    counts = np.append(differs, True) if duplicates == "last" else np.insert(differs, 0, True)
    dropped[rows[~counts]] = True
    return dropped


def _rows_alike(user: _Codes, item: _Codes, candidate: _Bools) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """The candidate rows whose user and item occur in another one too, ascending, and a number for each such pair."""
    rows = np.flatnonzero(candidate)
    pair = user[rows] * np.int64(int(item.max()) + 1) + item[rows]
    ordered = np.sort(pair)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not repeated.size:
        return rows[:0], np.empty(0, np.int32)
    place = np.searchsorted(repeated, pair)
    np.minimum(place, len(repeated) - 1, out=place)
    again = repeated[place] == pair
    return rows[again], place[again].astype(np.int32)


def _timestamps(ratings: pl.LazyFrame, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if "timestamp" not in ratings.collect_schema():
        return np.zeros(len(rows), np.int64)
    given = ratings.select("timestamp").collect(engine="streaming")["timestamp"]
    when: npt.NDArray[np.int64] = given.gather(rows).fill_null(np.iinfo(np.int64).min).to_numpy()
    return when


def _nothing_shared(file: Path, ratings: pl.LazyFrame, items: pl.Series) -> str:
    rated = ratings.select("item_id").head(1).collect()["item_id"]
    return (
        f"{file}: none of its ratings is of a film in items.parquet: item_id is {rated[0]!r} ({rated.dtype}) in its "
        f"first row and {items[0]!r} ({items.dtype}) in the catalogue's; import both from one source"
    )


def _items_lacking(items: pl.Series, lacking: _Bools, rated: _Codes, embeddings: EmbeddingFile | None) -> str:
    path, modalities = (embeddings.path, " or ".join(embeddings.modalities)) if embeddings is not None else ("", "")
    which = np.flatnonzero(lacking)
    shown = ", ".join(map(str, items.gather(which[:5]).to_list())) + (", ..." if which.size > 5 else "")
    return (
        f"{path}: {which.size:,} of {len(items):,} films, with {int(lacking[rated].sum()):,} ratings, lack a "
        f"{modalities} embedding (item_id {shown}); extract them, or let missing be mask or drop"
    )


def _distinct(codes: _Codes, of: int) -> int:
    return int(np.count_nonzero(np.bincount(codes, minlength=of)))


def _as_ids(ids: pl.Series) -> npt.NDArray[Any]:
    return ids.to_numpy() if ids.dtype == pl.Int64 else np.array(ids.to_list(), dtype=object)
