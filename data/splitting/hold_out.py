"""Ways of holding rows out: at random, the latest, of each user, whole items or users."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ..runtime.errors import BadInput, UsageError
from ..runtime.parquet import parquet_schema, read_parquet, scan_parquet
from .boolean_columns import boolean_columns_of
from .row_files import Rows, readable
from .specs import SplitSpec

# Takes rows (ascending), the wanted share and a generator; gives those of the rows that are held out.
HoldOut = Callable[[Rows, float, np.random.Generator], Rows]


def _at_random(rows: Rows, share: float, draw: np.random.Generator) -> Rows:
    return rows[draw.permutation(rows.size)[: int(rows.size * share)]]


def _latest(times: Rows, rows: Rows, share: float, _: np.random.Generator) -> Rows:
    order = np.argsort(times[rows], kind="stable")
    return rows[order[rows.size - int(rows.size * share) :]]


def _latest_of_each(
    users: npt.NDArray[np.uint32], times: Rows, rows: Rows, share: float, _: np.random.Generator
) -> Rows:
    order = np.lexsort((times[rows], users[rows]))
    _users, first, given = np.unique(users[rows[order]], return_index=True, return_counts=True)
    held = np.minimum(np.floor(given * share + 0.5).astype(np.int64), given - 1)
    place = np.arange(rows.size) - np.repeat(first, given)
    return rows[order[place >= np.repeat(given - held, given)]]


def _whole_groups(groups: npt.NDArray[np.uint32], rows: Rows, share: float, draw: np.random.Generator) -> Rows:
    present = np.unique(groups[rows])
    chosen = present[draw.permutation(present.size)[: int(present.size * share)]]
    return rows[np.isin(groups[rows], chosen)]


def _last_of_each(
    users: npt.NDArray[np.uint32], times: Rows | None, rows: Rows, _: float, draw: np.random.Generator
) -> Rows:
    """One row of each user who has two or more: the latest (of equally old ones the later row), or one at random."""
    key = draw.permutation(rows.size) if times is None else times[rows]
    order = np.lexsort((key, users[rows]))
    of_user = users[rows[order]]
    last = np.append(of_user[1:] != of_user[:-1], True)[: rows.size]
    first = np.append(True, of_user[1:] != of_user[:-1])[: rows.size]
    held: Rows = rows[order[last & ~first]]
    return held


@dataclass(frozen=True)
class RatingColumns:
    """A `ratings.parquet`, of which only the columns needed are ever read."""

    file: Path

    def count(self) -> int:
        with readable(self.file):
            return int(scan_parquet(self.file).select(pl.len()).collect().item())

    def way_to_hold_out(self, kind: str) -> HoldOut:
        """How a split of this kind takes rows away, from all of them and again from its training part."""
        if kind == "temporal":
            return partial(_latest, self._times(kind))
        if kind == "user-temporal":
            return partial(_latest_of_each, self._groups("user_id"), self._times(kind))
        if kind == "leave-one-out":
            return partial(_last_of_each, self._groups("user_id"), self._times(kind) if self._dated() else None)
        if kind in ("cold-items", "cold-users"):
            return partial(_whole_groups, self._groups("item_id" if kind == "cold-items" else "user_id"))
        return _at_random

    def marked(self, spec: SplitSpec) -> Rows:
        """The rows where the column that the spec names is true."""
        with readable(self.file):
            known = boolean_columns_of(self.file)
        if spec.column not in known:
            has = f"its boolean columns are {', '.join(known)}" if known else "it has no boolean column"
            near = difflib.get_close_matches(spec.column, known, n=1, cutoff=0.4)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UsageError(
                f"split {spec.text!r}: {self.file} has no boolean column {spec.column!r}{hint}; {has}; an import "
                "keeps a column of true and false, or of 0 and 1, that is filled in every row"
            )
        values = self._column(spec.column)
        if values.null_count():
            raise BadInput(f"{self.file}, column {spec.column}: {values.null_count():,} rows are empty; fill them in")
        return np.flatnonzero(values.to_numpy())

    def _times(self, kind: str) -> Rows:
        """Timestamps (rows,); those not given lie before all others."""
        with readable(self.file):
            dtype = parquet_schema(self.file).get("timestamp")
        if dtype is not None and dtype != pl.Int64:
            raise BadInput(f"{self.file}: its timestamp must be Int64, found {dtype}: import the dataset again")
        times = None if dtype is None else self._column("timestamp")
        if times is None or (len(times) and times.null_count() == len(times)):
            raise BadInput(
                f"{self.file} has no timestamps, which a {kind} split needs: import ratings with a column timestamp, "
                "or ask for random:0.1"
            )
        return times.fill_null(np.iinfo(np.int64).min).to_numpy()

    def _dated(self) -> bool:
        """Whether any row has a timestamp."""
        with readable(self.file):
            if "timestamp" not in parquet_schema(self.file):
                return False
        times = self._column("timestamp")
        return times.null_count() < len(times)

    def _groups(self, column: str) -> npt.NDArray[np.uint32]:
        """(rows,): for each rating the place of its film or user in the order of their ids."""
        ids = self._column(column)
        if ids.null_count():
            raise BadInput(f"{self.file} has ratings without {column}: import the dataset again")
        return ids.rank("dense").cast(pl.UInt32).to_numpy()

    def _column(self, name: str) -> pl.Series:
        with readable(self.file):
            return read_parquet(self.file, columns=[name])[name]
