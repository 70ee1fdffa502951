"""A table of anyone's making, not yet read, with its own column names mapped to ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import UsageError
from .delimited import ROW
from .tags import FAMILIAR_TAG_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Compared without case, spaces, hyphens and underscores: "movie_id" is also MovieID, movieId and "Movie ID".
FAMILIAR: dict[str, tuple[str, ...]] = {
    "item_id": (
        *("item_id", "movie_id", "id", "film_id", "show_id", "imdb_id", "tconst", "tmdb_id", "parent_asin", "asin"),
        *("isbn", "book_id", "item"),
    ),
    "title": ("title", "name", "primary_title", "movie_title", "original_title"),
    "year": ("year", "release_year", "start_year", "release_date", "released"),
    "genres": ("genres", "genre"),
    "text": ("text", "plot", "overview", "description", "synopsis", "storyline"),
    "poster": ("poster", "image", "poster_path"),
    "user_id": ("user_id", "reviewer_id", "user"),
    "rating": ("rating", "overall"),
    "timestamp": ("timestamp", "unix_review_time"),
    "count": ("count", "plays", "play_count", "listens", "listen_count", "views", "view_count", "clicks", "times"),
    "liked": ("liked", "like", "clicked", "watched", "played", "bought", "purchased"),
}
TAG = "tag:"


@dataclass(frozen=True)
class Table:
    """A table not yet read: ``frame`` has ROW (from 0) and the source's columns; delimited text and JSON give text.

    ``notes`` says what was changed or decided in reading, one sentence each.
    """

    name: str
    frame: pl.LazyFrame
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The source's own column names."""
        return [name for name in self.frame.collect_schema().names() if name != ROW]

    def column_for(self, ours: str, chosen: str | None = None, *, required: bool = False) -> str | None:
        """Name the source's column for one of ours: the ``chosen`` one, else the first familiar name it has.

        A familiar name may be in capitals, have spaces around it, and its words joined in any way. UsageError where the
        chosen column does not exist, or none does and one is ``required``.
        """
        option = "--" + ours.replace("_", "-")
        if chosen is not None:
            if chosen not in self.columns:
                raise UsageError(f"{option} {chosen}: {self.name} has no such column; it has {', '.join(self.columns)}")
            return chosen
        found = familiar_column(self.columns, ours)
        if found is None and required:
            raise UsageError(
                f"{self.name} has no column for {ours}; name it with {option}: {', '.join(self.columns)}"
                + "; a file without a header needs --columns" * _looks_like_values(self.columns)
            )
        return found

    def tag_columns(self, chosen: Sequence[str] = ()) -> list[str]:
        """Name the source's columns that give tags: the ``chosen`` ones, else all familiar ones it has.

        UsageError where a chosen column does not exist.
        """
        familiar = [name for name in self.columns if name.strip().casefold() in FAMILIAR_TAG_COLUMNS]
        return [str(self.column_for("tags", name)) for name in chosen] or familiar

    def renamed(
        self,
        mapping: Mapping[str, str | None],
        tags: Sequence[str] = (),
        *,
        also: Mapping[str, pl.Expr] | None = None,
    ) -> pl.LazyFrame:
        """``row`` and our columns, each taken from theirs in ``mapping`` (ours -> theirs, None is left out).

        Each column of ``tags`` comes as TAG and its name. ``also`` gives further columns by name.
        """
        taken = [pl.col(theirs).alias(ours) for ours, theirs in mapping.items() if theirs]
        taken += [pl.col(name).alias(TAG + name) for name in tags]
        taken += [value.alias(name) for name, value in (also or {}).items()]
        return self.frame.select(pl.col(ROW).alias("row"), *taken)


def familiar_column(columns: Sequence[str], ours: str) -> str | None:
    """Which of ``columns`` has the first familiar name for our column; None where none has one."""
    plainly = {plain_name(name): name for name in reversed(columns)}
    return next((plainly[key] for name in FAMILIAR[ours] if (key := plain_name(name)) in plainly), None)


def plain_name(name: str) -> str:
    """A column's name without case and without what joins its words."""
    return "".join(character for character in name.casefold() if character.isalnum())


def _looks_like_values(header: Sequence[str]) -> bool:
    return any(name.strip().replace(".", "", 1).isdigit() for name in header)
