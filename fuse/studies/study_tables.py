"""A study as Markdown ready for a document, and as CSV."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import polars as pl

from ...data.runtime.disk import write_atomically
from ..evaluation.metrics import Interval, mae
from ..runs.repeat import Spread

if TYPE_CHECKING:
    from .study_results import Group, Row, Study


def write_tables(study: Study) -> None:
    """Write results.md, results.csv, lists.csv and runs.csv into the study's folder, each all or nothing.

    Of interactions without ratings there are results.md and lists.csv alone.
    """
    write_atomically(study.folder / "results.md", markdown(study).encode())
    tables = {"lists": lists(study)}
    if study.rates:
        tables |= {"results": results(study), "runs": runs(study)}
    for name, table in tables.items():
        content = io.BytesIO()
        table.write_csv(content)
        write_atomically(study.folder / f"{name}.csv", content.getvalue())


def markdown(study: Study) -> str:
    """A table for each group of splits, where the figures came from, and how to read them."""
    lines = [f"## Study of {study.provenance['dataset']}", ""]
    lines += [f"- {key}: {value}" for key, value in study.provenance.items() if key != "dataset"]
    lines += [f"- {line}" for line in study.skipped]
    for group in study.groups:
        if group.rows:
            lines += ["", f"### RMSE, {_title(group)}", "", *_table(group)]
        lines += ["", f"### Lists, {_title(group)}", "", f"{group.lists_protocol}.", "", *_list_table(group)]
    return "\n".join([*lines, "", _HOW_TO_READ if study.rates else _HOW_TO_READ_LISTS, ""])


_HOW_TO_READ_LISTS = """\
- Deviation: of the NDCG of the runs (divided by n - 1). Intervals, 95 %: of the lists of all runs together, by 2,000
  draws of whole users.
- Lists: of all films new to the user; a row of minus EASE above 0 is better than EASE on the same users and rows."""

_HOW_TO_READ = """\
- Deviation: of the RMSE of the runs (divided by n - 1). Intervals, 95 %: of the test ratings of all runs together, by
  2,000 draws of whole users.
- Minus MF: difference to biased matrix factorisation on the same test ratings and draws; below 0 is better.
- Seconds: mean of a run; no ratings are held out for validation, but by models with patience or where a setting asks.
- Lists: of all films new to the user; a row of minus EASE above 0 is better than EASE on the same users and rows.
- Shrunk user mean: the user's training ratings and 5 imagined ones at the global mean."""


def _title(group: Group) -> str:
    return f"splits {', '.join(group.splits)}" if len(group.splits) > 1 else f"split {group.splits[0]}"


def _table(group: Group) -> list[str]:
    splits = group.splits if len(group.splits) > 1 else ()
    several = len(group.rows[0].tested) > 1
    reference = _reference(group)
    heads = ["model", *splits, "mean ± deviation" if several else "RMSE", "95 %"]
    heads += ["minus MF", "95 %"] if reference else []
    lines = [_line([*heads, "seconds"]), _line(["---"] + ["---:"] * len(heads))]
    for row in group.rows:
        of_split, seconds = row.per_split(), row.seconds()
        cells = [row.title, *(f"{of_split[split]:.4f}" for split in splits), str(row.spread()), _bounds(row.interval())]
        if reference:
            difference = None if row is reference else row.minus(reference)
            cells += [f"{difference.value:+.4f}", _bounds(difference, "+")] if difference else ["", ""]
        lines.append(_line([*cells, "" if seconds is None else f"{seconds:.1f}"]))
    return lines


def _list_table(group: Group) -> list[str]:
    titles = group.titles
    lines = [
        _line(["model", "NDCG ± deviation", "95 %", "recall", "minus EASE", "95 %"]),
        _line(["---"] + ["---:"] * 5),
    ]
    for row in group.lists.to_dicts():
        spread = str(Spread(math.nan if row["ndcg"] is None else row["ndcg"], row["deviation"]))
        cells = [titles.get(row["model"], row["model"]), spread, _bounds_of(row["low"], row["high"])]
        cells += ["" if row["recall"] is None else f"{row['recall']:.4f}"]
        cells += ["" if row["minus_ease"] is None else f"{row['minus_ease']:+.4f}"]
        lines.append(_line([*cells, _bounds_of(row["minus_ease_low"], row["minus_ease_high"], "+")]))
    return lines


def _bounds_of(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else _bounds(Interval(math.nan, low, high), sign)


def lists(study: Study) -> pl.DataFrame:
    """A row a model or baseline and group: splits, then the columns of `pooled_lists`."""
    named = pl.String()
    return pl.concat(
        group.lists.select(pl.lit(" ".join(group.splits), named).alias("splits"), pl.all()) for group in study.groups
    )


def results(study: Study) -> pl.DataFrame:
    """A row a model and group: splits, model, runs, rmse, deviation, low, high, minus_mf, its bounds, seconds."""
    rows: list[dict[str, Any]] = []
    for group in study.groups:
        reference = _reference(group)
        for row in group.rows:
            spread, interval = row.spread(), row.interval()
            difference = row.minus(reference) if reference and row is not reference else None
            rows.append(
                {
                    "splits": " ".join(group.splits),
                    "model": row.name,
                    "runs": len(row.tested),
                    "rmse": spread.mean,
                    "deviation": spread.deviation,
                    "rmse_low": interval.low,
                    "rmse_high": interval.high,
                    "minus_mf": difference and difference.value,
                    "minus_mf_low": difference and difference.low,
                    "minus_mf_high": difference and difference.high,
                    "seconds": row.seconds(),
                }
            )
    text = {"splits": pl.String(), "model": pl.String(), "runs": pl.Int64()}
    schema = {name: text.get(name, pl.Float64()) for name in rows[0]}
    return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None)


def runs(study: Study) -> pl.DataFrame:
    """A row a run: split, seed, model, test_ratings, rmse, mae, epochs, seconds."""
    rows = [
        {
            "split": tested.case.split,
            "seed": tested.case.seed,
            "model": row.name,
            "test_ratings": len(tested.rating),
            "rmse": tested.rmse,
            "mae": mae(tested.rating, tested.prediction),
            "epochs": tested.epochs,
            "seconds": tested.seconds,
        }
        for group in study.groups
        for row in group.rows
        for tested in row.tested
    ]
    return pl.DataFrame(rows, schema_overrides={"epochs": pl.Int64(), "seconds": pl.Float64()})


def _reference(group: Group) -> Row | None:
    return next((row for row in group.rows if row.name == "mf"), None)


def _bounds(interval: Interval, sign: str = "") -> str:
    return "" if math.isnan(interval.low) else f"{interval.low:{sign}.4f} to {interval.high:{sign}.4f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
