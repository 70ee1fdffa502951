"""Filters of the items of a list: by genre, by year, by ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import BadInput, UsageError
from ..runs.run import Run
from .known_ids import item_numbers_of
from .run_tables import run_items
from .table_files import read_item_ids

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Filters:
    """The items to keep. ``genres``: items of any of these. ``years``: "1990:1999", "1990:", ":1999" or "1994".

    ``exclude`` and ``candidates`` are ids of items: none of the first, no others than the second.
    """

    genres: tuple[str, ...] = ()
    years: str | None = None
    exclude: tuple[Any, ...] = ()
    candidates: tuple[Any, ...] | None = None

    def mask(self, run: Run) -> _Mask:
        """(I,) which items of the run are kept.

        UsageError for years that are none, or a genre that no item has; BadInput for ids that no item has, and where
        nothing is left.
        """
        steps: list[tuple[str, _Mask]] = []
        items = run_items(run)
        if self.genres:
            steps.append((f"--genre {', '.join(self.genres)}", self._of_genres(items)))
        if self.years is not None:
            low, high = years_of(self.years)
            if items["year"].is_null().all():
                raise UsageError(f"--years {self.years}: no film of the run has a year; the dataset has none")
            year = items["year"].to_numpy().astype(np.float64)  # null becomes NaN, which is in no span
            steps.append((f"--years {self.years}", (year >= low) & (year <= high)))
        if self.candidates is not None:
            kept = np.zeros(items.height, np.bool_)
            kept[item_numbers_of(run.recommender, self.candidates, "--candidates")] = True
            steps.append(("--candidates", kept))
        if self.exclude:
            kept = np.ones(items.height, np.bool_)
            kept[item_numbers_of(run.recommender, self.exclude, "--exclude")] = False
            steps.append(("--exclude", kept))
        mask = np.ones(items.height, np.bool_)
        for _, kept in steps:
            mask &= kept
        if not mask.any():
            each = ", ".join(f"{name} keeps {int(kept.sum()):,}" for name, kept in steps)
            advice = "ask for less at once" if len(steps) > 1 else "ask for something else"
            raise BadInput(f"no film is left of the {items.height:,} of the run: {each}; {advice}")
        return mask

    def _of_genres(self, items: pl.DataFrame) -> _Mask:
        known = sorted({name for row in items["genres"].to_list() for name in row or ()})
        folded = {name.casefold(): name for name in known}
        wanted = set()
        for genre in self.genres:
            if genre.casefold() not in folded:
                there = ", ".join(known) if known else "none: the dataset has no genres"
                raise UsageError(f"--genre {genre}: no film of the run has this genre; there are {there}")
            wanted.add(folded[genre.casefold()])
        return np.array([bool(wanted & set(row or ())) for row in items["genres"].to_list()], np.bool_)


def years_of(text: str) -> tuple[float, float]:
    """First and last year of "1990:1999", "1990:", ":1999" or "1994". UsageError for anything else."""
    found = re.fullmatch(r"\s*(\d{1,4})?\s*(:)?\s*(\d{1,4})?\s*", text)
    first, colon, last = found.groups() if found else (None, None, None)
    if first is None and last is None:
        raise UsageError(f"--years {text}: expected a span such as 1990:1999, 1990: or :1999, or one year")
    low = float(first) if first else -np.inf
    high = (float(last) if last else np.inf) if colon else low
    if low > high:
        raise UsageError(f"--years {text}: the first year comes after the last; expected {last}:{first}")
    return low, high


def read_ids(file: Path) -> tuple[str, ...]:
    """Ids of a text file, one a line, or of the column item_id of a table (.csv, .parquet, ...). BadInput if none."""
    if file.suffix.lower() == ".txt":
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as fault:
            raise BadInput(f"{file} cannot be read as text with an id a line ({fault})") from None
        ids = tuple(line.strip() for line in lines if line.strip())
    else:
        ids = read_item_ids(file)
    if not ids:
        raise BadInput(f"{file} holds no id of a film: expected one a line, or a column item_id")
    return ids
