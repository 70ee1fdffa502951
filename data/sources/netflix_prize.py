"""The Netflix Prize: 100 million ratings in files where a line "1:" names the film of the lines below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..dataset.assembly import Parts
from ..dataset.items import tidy_items
from ..dataset.ratings import RatingTable
from ..runtime.errors import BadInput
from ..runtime.parquet import scan_parquet
from ..tables.dates import seconds
from ..tables.opening import as_utf8

if TYPE_CHECKING:
    from pathlib import Path

    from .source_files import SourceFiles


def read_netflix_prize(files: SourceFiles) -> Parts:
    """Films from movie_titles.csv (or .txt), ratings from combined_data_*.txt, or mv_*.txt as the archive had them."""
    ratings = files.all("combined_data_*.txt") or files.all("mv_*.txt")
    if not ratings:
        raise BadInput(
            f"{files.source}: expected combined_data_*.txt or mv_*.txt, found neither; unpack the whole source"
        )
    titles = as_utf8(files.need("movie_titles.csv", "movie_titles.txt"), files.scratch, "latin-1")
    lines = pl.Series("line", titles.read_text("utf-8").splitlines())
    films = (
        lines.filter(lines.str.strip_chars() != "")
        .to_frame()
        .select(
            # a title is what follows the second comma, with commas of its own
            item_id=pl.col("line").str.extract(r"^(\d+),", 1),
            year=pl.col("line").str.extract(r"^\d+,([^,]*),", 1),
            title=pl.col("line").str.extract(r"^\d+,[^,]*,(.*)$", 1),
        )
    )
    items, warnings = tidy_items(films.lazy().with_row_index("row"), "movie_titles", titled_years=False)
    frame, notes = seconds(
        pl.concat([_ratings(files, file) for file in ratings]).with_row_index("row"), "timestamp", ""
    )
    rated = RatingTable("ratings", frame, (1.0, 5.0), tuple(note.removeprefix(": ") for note in notes))
    return Parts(files.name, items, rated, warnings=warnings)


def _ratings(files: SourceFiles, file: Path) -> pl.LazyFrame:
    """user_id, item_id, rating, timestamp of one file, by way of a Parquet in scratch."""
    lines = pl.read_csv(
        file,
        glob=False,
        has_header=False,
        separator="\n",
        new_columns=["line"],
        quote_char=None,
        schema={"line": pl.String},
    )
    film = pl.when(pl.col("line").str.ends_with(":")).then(pl.col("line").str.strip_suffix(":")).forward_fill()
    fields = pl.col("line").str.split_exact(",", 2).struct.rename_fields(["user_id", "rating", "timestamp"])
    table = lines.with_columns(item_id=film).filter(~pl.col("line").str.ends_with(":"))
    if table["item_id"].null_count():
        raise BadInput(f"{file}: its first line is no film, such as 1:")
    out = files.scratch / f"{file.stem}.parquet"
    table.select(fields.alias("fields"), "item_id").unnest("fields").write_parquet(out)
    return scan_parquet(out)
