"""Compare the RMSE of runs on the same test ratings, with intervals of paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...data.runtime.errors import BadInput, UsageError
from ..runs.run import Run
from .metrics import bootstrap_interval, paired_difference
from .run_rows import tested_table

_BOUNDED = ("rmse", "difference")
_SCHEMA: dict[str, pl.DataType] = {name: pl.String() for name in ("name", "preset", "split")} | {
    f"{name}{bound}": pl.Float64() for name in _BOUNDED for bound in ("", "_low", "_high")
}


def compare(runs: Sequence[Run], *, draws: int = 2000, seed: int = 0) -> pl.DataFrame:
    """One row a run, in their order, each against the first.

    Columns: name (`names_of`), preset, split (String); rmse, rmse_low, rmse_high; difference (the run's RMSE minus the
    first's: below 0 it is better), difference_low, difference_high (Float64; null in the first row). Bounds are of 95 %
    percentile intervals over ``draws`` draws of whole users, the same users for both runs of a difference, and null
    where there is one user only.

    BadInput where two runs were not tested on the same ratings; UsageError for no run, or draws below 1.
    """
    if not runs:
        raise UsageError("nothing to compare: name at least one run folder")
    if draws < 1 or seed < 0:
        raise UsageError(f"draws must be at least 1 and seed at least 0, found {draws} and {seed}")
    tables = [tested_table(run).sort("user_id", "item_id") for run in runs]
    for run, table in zip(runs, tables, strict=True):
        _refuse_other_ratings(runs[0], tables[0], run, table)
    rating, user, first = (tables[0][name].to_numpy() for name in ("rating", "user_id", "prediction"))
    rows: list[list[str | float | None]] = []
    for name, run, table in zip(names_of(runs), runs, tables, strict=True):
        prediction = table["prediction"].to_numpy()
        alone = bootstrap_interval(rating, prediction, user, draws=draws, seed=seed).rmse
        row: list[str | float | None] = [
            name,
            run.config.preset,
            run.record.split,
            alone.value,
            alone.low,
            alone.high,
        ]
        if rows:
            both = paired_difference(rating, prediction, first, user, draws=draws, seed=seed)
            rows.append([*row, both.value, both.low, both.high])
        else:
            rows.append([*row, None, None, None])
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row").fill_nan(None)


def _refuse_other_ratings(first: Run, its: pl.DataFrame, other: Run, others: pl.DataFrame) -> None:
    tested = ("user_id", "item_id", "rating")
    if not its.select(tested).equals(others.select(tested)):
        raise BadInput(
            f"{first.folder} and {other.folder} were not tested on the same ratings (split {first.record.split}, "
            f"{len(its):,} ratings; split {other.record.split}, {len(others):,}); compare runs of one dataset and "
            "split"
        )


def names_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its folder, or the end of its path that distinguishes it from the others."""
    paths = [run.folder.resolve().parts for run in runs]
    while len(set(paths)) > 1 and len({path[-1] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]  # study/text/seed-0 and study/poster/seed-0 are "text" and "poster"
    return [_own_end(path, paths) for path in paths]


def _own_end(path: tuple[str, ...], paths: Sequence[tuple[str, ...]]) -> str:
    """The shortest end of a path that no other path has."""
    others = [other for other in paths if other != path]
    lengths = (length for length in range(1, len(path)) if all(other[-length:] != path[-length:] for other in others))
    return "/".join(path[-next(lengths, len(path)) :])
