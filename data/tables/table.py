"""A table of anyone's making, not yet read, with its own column names mapped to ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import UsageError
from .delimited import ROW
from .familiar import FAMILIAR, PERHAPS_TIMES, familiar_column, named_so
from .tags import FAMILIAR_TAG_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

    @property
    def has_no_header(self) -> bool:
        """Whether the names of its columns are rather values, or a comment."""
        numbers = any(name.strip().replace(".", "", 1).isdigit() for name in self.columns)
        return numbers or self.columns[0].lstrip().startswith(("#", "%", "//"))

    def column_for(self, ours: str, chosen: str | None = None, *, required: bool = False) -> str | None:
        """Name the source's column for one of ours: the ``chosen`` one, else the first familiar name it has.

        A familiar name may be in capitals, have spaces around it, and its words joined in any way. UsageError where the
        chosen column does not exist, or none does and one is ``required``.
        """
        option = "--" + ours.replace("_", "-")
        if chosen is not None:
            if chosen not in self.columns:
                raise UsageError(f"{option} {chosen}: {self.name} has no such column; it has {some_of(self.columns)}")
            return chosen
        found = familiar_column(self.columns, ours)
        if found is None and required:
            if self.has_no_header:
                raise UsageError(
                    f"{self.name} has no column for {ours}: its first line names no columns "
                    f"({some_of(self.columns, 5)}); remove what stands before the header; a file without a header "
                    "needs --columns, or for ratings --rating-columns, such as user_id,item_id,rating,timestamp"
                )
            raise UsageError(f"{self.name} has no column for {ours}; name it with {option}: {some_of(self.columns)}")
        return found

    def guessed_rating(self, chosen: str | None = None) -> list[str]:
        """A sentence where the column of ratings is neither ``chosen`` nor familiar, but found by its ending alone."""
        found = self.column_for("rating", chosen)
        if found in (None, chosen) or named_so(self.columns, FAMILIAR["rating"]):
            return []
        return [f"{self.name}: the column {found} is taken as the rating; --rating names another"]

    def times_column(self, chosen: str | None = None) -> tuple[str | None, bool]:
        """The source's column of times, None where it has none; and whether its name may mean something else."""
        found = self.column_for("timestamp", chosen)
        if found is not None:
            return found, False
        found = named_so(self.columns, PERHAPS_TIMES)
        return found, found is not None

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


def some_of(names: Sequence[str], most: int = 15) -> str:
    """Names in a row, ``most`` of them, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
