"""Ratings, items and rows of the embedding file, joined by number; the vectors themselves are never joined."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.dataset.catalog import Catalog
from ...data.dataset.folder import rows_named
from ...data.runtime.errors import BadInput, UsageError
from .coverage import Coverage, Dropped, Presence
from .rating_table import all_users, checked_ratings, coded_ratings, readable_table

if TYPE_CHECKING:
    from pathlib import Path

    from ...data.embeddings.file import EmbeddingFile

MISSING = ("mask", "drop", "error")
DUPLICATES = ("last", "first", "error")
_MOST_TEXTS = 10_000  # compared with those that were embedded

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
    with readable_table(file):
        ratings = checked_ratings(file)
    users = all_users(dataset / "users.parquet", ratings, file)
    with readable_table(file):
        user, item, rating = coded_ratings(ratings, users, items)
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
    with readable_table(file):
        repeated = _duplicates(ratings, file, user, item, kept, duplicates)
    kept &= ~repeated
    row = np.flatnonzero(kept)
    user, item, rating = user[row], item[row], rating[row]
    text, image = embedded["text"], embedded["image"]
    other_texts = _other_texts(catalog, embedding_row, text, embeddings)
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
        texts_compared=len(other_texts),
        other_texts=sum(other_texts),
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


def _other_texts(
    catalog: Catalog, rows: npt.NDArray[np.int64] | None, embedded: _Bools, embeddings: EmbeddingFile | None
) -> list[bool]:
    """For each of the first embedded items with a text here and a digest there: whether that was another text.

    Ids alone do not show that a file is of another catalogue where both count from 1.
    """
    if embeddings is None or rows is None or not embedded.any():
        return []
    modality = embeddings["text"]
    try:
        texts = catalog.texts(modality.fingerprint.get("template") or "{text}")
    except UsageError:  # it names columns that this catalogue lacks
        return []
    first = np.flatnonzero(embedded)[:_MOST_TEXTS]
    differs: list[bool] = []
    for item, text in enumerate(islice(texts, int(first[-1]) + 1)):
        digest = modality.digest[rows[item]]
        if embedded[item] and text is not None and digest.any():  # of imported embeddings it is not known
            differs.append(digest.tobytes() != hashlib.sha256(text.encode("utf-8", "replace")).digest())
    return differs


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
