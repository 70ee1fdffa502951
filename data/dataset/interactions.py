"""Data without ratings: plays, clicks and likes, as one row a user and item; and the k-core of any table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from ..runtime.errors import BadInput, UsageError
from .folder import refuse_rows
from .ratings import RatingTable, as_timestamp

_TRUE, _FALSE = ("true", "yes"), ("false", "no")


def interactions(table: RatingTable) -> RatingTable:
    """The rows of a table as implicit feedback: one row a user and item, each with the rating 1.

    ``table.frame`` may have a column count (else every row is one event) and no column rating. Rows with a count of 0
    are no event and are left out. Of several rows of a user and item the counts are added, the earliest time is kept,
    since that is when the user found the item, and a Boolean column is true where it is true in all of them. The notes
    say how many rows that concerns. BadInput, naming rows, for a count that is negative or no number, and for what
    `RatingTable.check` refuses; BadInput where nothing is left.
    """
    given = replace(table, frame=table.frame.with_columns(rating=pl.lit(1.0, pl.Float32)), implicit=True)
    given.check()
    frame = given.with_text_ids()
    schema = frame.collect_schema()
    counted = "count" in schema
    given_count = pl.col("count") if counted else pl.lit(1.0)
    frame = frame.with_columns(given=given_count, count=_count(schema["count"]) if counted else given_count)
    refuse_rows(
        frame,
        {
            "with a count that is not a number (first {given}); correct or remove them": ~pl.col("count")
            .is_finite()
            .fill_null(False),
            "with a count below 0, which says nothing of a user's taste; correct or remove them": pl.col("count") < 0,
        },
        table.name,
    )
    merged = [pl.col("row").min(), pl.col("rating").first(), pl.col("count").sum(), pl.len().alias("events")]
    if given.has_timestamps:
        merged.append(as_timestamp(schema["timestamp"]).min().alias("timestamp"))
    merged += [pl.col(name).all() for name in table.booleans]
    # a row a pair, not a row an event, is what has to fit into memory
    pairs = frame.filter(pl.col("count") > 0).group_by("user_id", "item_id").agg(merged).sort("row")
    whole = pairs.collect(engine="streaming")
    if whole.is_empty():
        raise BadInput(f"{table.name}: there is no interaction with a count above 0; a dataset needs at least one")
    rows = int(table.frame.select(pl.len()).collect(engine="streaming").item())
    events = int(whole["events"].sum())
    notes = list(table.notes)
    if rows > events:
        notes.append(f"{rows - events:,} rows with a count of 0 are no interaction; they were left out")
    if events > whole.height:
        notes.append(
            f"{events - whole.height:,} rows repeat a user and film; each pair is one row now, with the sum of its "
            "counts and its earliest time"
        )
    return replace(given, frame=whole.drop("events").lazy(), notes=tuple(notes))


def _count(dtype: pl.DataType) -> pl.Expr:
    """Float64, null where it is no number; yes and no are 1 and 0."""
    given = pl.col("count")
    if dtype != pl.String:
        return given.cast(pl.Float64, strict=False)
    bare = given.str.strip_chars()
    words = bare.str.to_lowercase()
    number = bare.cast(pl.Float64, strict=False)
    return pl.when(words.is_in(_TRUE)).then(1.0).when(words.is_in(_FALSE)).then(0.0).otherwise(number)


def k_core(table: RatingTable, least: int) -> RatingTable:
    """The rows of users with ``least`` items or more and of items with ``least`` users or more, counted among these.

    Users and items with fewer are removed until there are none: the largest such part, which is unique. A note says
    what is left. UsageError for a ``least`` below 1; BadInput where nothing is left.
    """
    if least < 1:
        raise UsageError(f"--core must be at least 1, found {least}")
    frame = table.with_text_ids()
    ids = frame.select("user_id", "item_id").drop_nulls().unique().collect(engine="streaming")
    codes = [ids[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in ids.columns]
    kept = ids.filter(pl.Series(in_core(codes[0], codes[1], least)))
    if kept.is_empty():
        raise BadInput(
            f"{table.name}: its {least}-core is empty: no users and items have {least} or more of each other; ask for "
            "a smaller --core"
        )
    users, items = (kept.select(name).unique() for name in kept.columns)
    left = frame.join(users.lazy(), on="user_id", how="semi", maintain_order="left").join(
        items.lazy(), on="item_id", how="semi", maintain_order="left"
    )
    note = (
        f"{least}-core: {kept.height:,} of {ids.height:,} pairs of a user and film, {users.height:,} of "
        f"{ids['user_id'].n_unique():,} users and {items.height:,} of {ids['item_id'].n_unique():,} films are left"
    )
    return replace(table, frame=left, notes=(*table.notes, note))


def core_items(items: pl.DataFrame, table: RatingTable) -> pl.DataFrame:
    """The rows of an item table, ids as text, that have a row in ``table``."""
    left = table.with_text_ids().select("item_id").unique().collect(engine="streaming")
    return items.join(left, on="item_id", how="semi", maintain_order="left")


def in_core(user: npt.NDArray[np.int64], item: npt.NDArray[np.int64], least: int) -> npt.NDArray[np.bool_]:
    """(R,) True for the pairs (user, item), (R,) each and distinct, that are in the core."""
    kept = np.ones(len(user), np.bool_)
    while True:
        enough = kept.copy()
        for side in (user, item):
            count = np.bincount(side[kept], minlength=int(side.max(initial=-1)) + 1)
            enough &= count[side] >= least
        if np.array_equal(enough, kept):
            return kept
        kept = enough
