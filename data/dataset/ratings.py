"""Rating tables: checked and written in one stream, counted without holding them, cut by the official folds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from ..runtime.errors import BadInput
from ..runtime.parquet import read_parquet, scan_parquet
from .folder import id_faults, is_integer_id, refuse_rows

if TYPE_CHECKING:
    from pathlib import Path

_PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class RatingTable:
    """A source of ratings, not yet read.

    ``frame`` has row (from 0, unsigned), user_id, item_id, rating and perhaps timestamp, of whatever type the source
    has. ``name`` stands in messages. ``scale`` is the lowest and highest rating there can be, where that is known.
    ``notes`` are sentences on what was changed in reading. ``booleans`` names further columns of the frame, of
    Boolean values, that are kept. ``implicit`` says that every rating is 1 and means an interaction alone; then the
    frame may have a column count.
    """

    name: str
    frame: pl.LazyFrame
    scale: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    booleans: tuple[str, ...] = ()
    implicit: bool = False

    def without_rating(self, dropped: float) -> RatingTable:
        """The table without the rows of one rating, such as a 0 that means "not rated", and a note of how many."""
        given = _rating(self.frame.collect_schema()["rating"])
        other = given.ne_missing(pl.lit(dropped, pl.Float32))
        count = self.frame.select((~other).sum()).collect(engine="streaming").item()
        note = f"{self.name}: {count:,} rows with the rating {dropped:g} were left out"
        if not count:
            note = f"{self.name}: no row has the rating {dropped:g}; nothing was left out"
        return replace(self, frame=self.frame.filter(other), notes=(*self.notes, note))

    def logarithms(self) -> RatingTable:
        """The table with log(1 + rating) in place of each rating, for counts. BadInput naming rows below 0."""
        given = _rating(self.frame.collect_schema()["rating"])
        faults = {"with a rating below 0, of which there is no logarithm; correct or remove them": given < 0}
        refuse_rows(self.frame, faults, self.name)
        note = f"{self.name}: ratings are log(1 + n) of the numbers given, and so are predictions"
        return replace(self, frame=self.frame.with_columns(rating=given.log1p()), notes=(*self.notes, note))

    @property
    def has_timestamps(self) -> bool:
        """Whether the source says when a film was rated."""
        return "timestamp" in self.frame.collect_schema()

    def check(self) -> dict[str, bool]:
        """Read all rows once and say for user_id and item_id whether all ids are integers.

        BadInput naming rows: a missing, over-long or NUL-carrying id, a rating that is no finite number or off the
        scale, a timestamp that is no whole number.
        """
        table = self.with_text_ids()
        rating = _rating(table.collect_schema()["rating"])
        faults = id_faults("user_id") | id_faults("item_id")
        faults[
            "with a rating that is not a number (first {rating}); correct or remove them"
        ] = ~rating.is_finite().fill_null(False)
        if self.scale:
            low, high = self.scale
            problem = f"with a rating outside {low:g} to {high:g} (first {{rating}}); correct or remove them"
            faults[problem] = ~rating.is_between(low, high)
        if self.has_timestamps:
            given = pl.col("timestamp")
            kept = as_timestamp(table.collect_schema()["timestamp"])
            says = (
                "with a timestamp that is neither seconds since 1970 nor a date that can be read (first {timestamp}); "
                "convert it to 2015-12-31 23:59:00, or leave the column out"
            )
            faults[says] = given.is_not_null() & kept.is_null()
        refuse_rows(table, faults, self.name)
        whole = table.select(is_integer_id(name).all() for name in ("user_id", "item_id"))
        return whole.collect(engine="streaming").row(0, named=True)

    def write(self, file: Path, *, integer_users: bool, integer_items: bool) -> None:
        """Stream a checked table to Parquet: user_id, item_id (Int64 or String), rating Float32, timestamp Int64.

        Then count (Float64) where an implicit table has it, and Boolean columns.
        """
        table = self.with_text_ids()
        schema = table.collect_schema()
        columns = [
            pl.col("user_id").cast(pl.Int64 if integer_users else pl.String),
            pl.col("item_id").cast(pl.Int64 if integer_items else pl.String),
            _rating(schema["rating"]).alias("rating"),
        ]
        if self.has_timestamps:
            columns.append(as_timestamp(schema["timestamp"]).alias("timestamp"))
        if self.implicit and "count" in schema:
            columns.append(pl.col("count").cast(pl.Float64))
        columns += [pl.col(name) for name in self.booleans]
        table.select(columns).sink_parquet(file, compression="zstd", row_group_size=500_000)

    def with_text_ids(self) -> pl.LazyFrame:
        """The table with its ids as text. BadInput where they are neither integers nor text."""
        schema = self.frame.collect_schema()
        for name in ("user_id", "item_id"):
            if not (schema[name].is_integer() or schema[name] in (pl.String, pl.Categorical, pl.Enum)):
                raise BadInput(
                    f"{self.name}, column for {name}: ids must be integers or text, found {schema[name]}; "
                    "convert it where the table is made (a float cannot hold every id)"
                )
        return self.frame.with_columns(pl.col("user_id", "item_id").cast(pl.String))


def _rating(dtype: pl.DataType) -> pl.Expr:
    given = pl.col("rating")
    if dtype == pl.String:
        given = given.str.strip_chars()
    return given.cast(pl.Float32, strict=False)


def as_timestamp(dtype: pl.DataType) -> pl.Expr:
    """The column timestamp of this type as whole seconds, null where it is none."""
    given = pl.col("timestamp")
    if dtype.is_temporal():
        return given.dt.epoch("s")
    if dtype.is_float():
        return pl.when(given == given.floor()).then(given.cast(pl.Int64, strict=False))
    return given.cast(pl.Int64, strict=False)


def rating_counts(file: Path, items: pl.DataFrame) -> dict[str, Any]:
    """Count a `ratings.parquet`, streaming: memory does not grow with the number of ratings.

    ratings; users, rated_items (distinct); repeated_pairs (rows beyond the first of a user and item);
    unknown_item_ratings and unknown_items (no such id in ``items``); histogram (rating -> rows); mean;
    first and last timestamp (None where there are none).
    """
    table = scan_parquet(file)
    dated = "timestamp" in table.collect_schema()
    totals = table.select(
        pl.len().alias("ratings"),
        pl.col("rating").cast(pl.Float64).mean().alias("mean"),
        *([pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last")] if dated else []),
    )
    films = table.group_by("item_id").len().collect(engine="streaming")
    users = table.select(pl.col("user_id").n_unique()).collect(engine="streaming").item()
    histogram = table.group_by("rating").len().collect(engine="streaming").sort("rating")
    unknown = films.join(items.select("item_id"), on="item_id", how="anti")
    counted = totals.collect(engine="streaming").row(0, named=True)
    return {
        "ratings": counted["ratings"],
        "users": users,
        "rated_items": films.height,
        "repeated_pairs": _repeated_pairs(table, counted["ratings"]),
        "unknown_items": unknown.height,
        "unknown_item_ratings": int(unknown["len"].sum()),
        "mean": counted["mean"],
        "histogram": dict(histogram.iter_rows()),
        "first": counted.get("first"),
        "last": counted.get("last"),
    }


def _repeated_pairs(table: pl.LazyFrame, ratings: int) -> int:
    # A set of all pairs would grow with the table; the users are dealt into parts small enough to count one by one.
    parts = ratings // _PAIRS_AT_ONCE + 1
    pairs = table.select("user_id", "item_id")
    distinct = 0
    for part in range(parts):
        mine = pairs.filter(pl.col("user_id").hash(seed=0) % parts == part)
        distinct += mine.group_by("user_id", "item_id").len().select(pl.len()).collect(engine="streaming").item()
    return ratings - distinct


def write_fold(ratings: Path, name: str, parts: dict[str, RatingTable], file: Path) -> None:
    """Write an official fold as row (UInt32, from 0 into `ratings.parquet`, ascending) and part ("train" or "test").

    ``parts`` gives the tables of both parts. BadInput unless each rating of `ratings.parquet` is in exactly
    one of them.
    """
    keys = ["user_id", "item_id", "rating", "timestamp"]
    rows = read_parquet(ratings).with_row_index("row")
    named = []
    for part, table in parts.items():
        table.check()
        ours = table.frame.select(pl.col(key).cast(rows.schema[key]) for key in keys).collect()
        named.append(ours.with_columns(part=pl.lit(part)))
    fold = rows.join(pl.concat(named), on=keys, how="left", nulls_equal=True).select("row", "part").sort("row")
    listed = sum(table.height for table in named)
    if fold.height != rows.height or listed != rows.height or fold["part"].null_count():
        raise BadInput(
            f"fold {name}: its two files list {listed:,} ratings, not exactly the {rows.height:,} of the source; "
            "the archive is incomplete or changed, fetch it again"
        )
    fold.write_parquet(file)
