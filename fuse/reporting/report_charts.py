"""Charts of a report that compare runs, bands of popularity and epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from ...data.pages.chart_kinds import Key, Line, LineChart, Numbers, WhiskerChart
from ...data.pages.charts import Measured, line_chart, whisker_chart
from ...data.pages.page import counted, decimals, grouped, signed
from ..evaluation.metrics import Interval
from .learning_curves import Curve
from .popularity import Band

_NONE = math.nan


def rmse_chart(table: pl.DataFrame) -> WhiskerChart:
    """RMSE of each run with its interval, from the table of `compare`."""
    best = table.sort("rmse").row(0, named=True)
    return whisker_chart(
        "comparison-rmse",
        "RMSE of each run",
        f"The lowest is {best['name']} with {best['rmse']:.4f}; lower is better. "
        "Lines span 95\N{NO-BREAK SPACE}% intervals.",
        [
            (row["name"], f"{row['rmse']:.4f}", False, [_measured(number, "", row, "rmse")])
            for number, row in enumerate(table.to_dicts(), 1)
        ],
        Numbers(
            ("Run", "RMSE", "from", "to"),
            tuple(
                (row["name"], decimals(row["rmse"]), decimals(row["rmse_low"]), decimals(row["rmse_high"]))
                for row in table.to_dicts()
            ),
        ),
        x_name="RMSE",
        places=4,
    )


def difference_chart(table: pl.DataFrame) -> WhiskerChart:
    """The difference of each run's RMSE to the first one's, with intervals over the same draws of users."""
    first, *others = table.to_dicts()
    return whisker_chart(
        "comparison-difference",
        f"Minus {first['name']}, on the same ratings",
        f"Right of the line a run is worse than {first['name']}, left of it better. Where an interval contains 0, the "
        "difference is not significant.",
        [
            (row["name"], signed(row["difference"]), False, [_measured(number, "", row, "difference")])
            for number, row in enumerate(others, 2)
        ],
        Numbers(
            ("Run", "Difference", "from", "to"),
            tuple(
                (row["name"], *(signed(row[f"difference{bound}"]) for bound in ("", "_low", "_high"))) for row in others
            ),
        ),
        x_name=f"RMSE minus that of {first['name']}",
        zero=0.0,
        places=4,
    )


def _measured(colour: int, name: str, row: dict[str, float | None], figure: str) -> Measured:
    value, low, high = (row[f"{figure}{bound}"] for bound in ("", "_low", "_high"))
    return Measured(
        colour,
        name,
        _NONE if value is None else value,
        _NONE if low is None else low,
        _NONE if high is None else high,
    )


def popularity_chart(side: str, names: Sequence[str], of_run: Sequence[list[Band]]) -> WhiskerChart:
    """RMSE by popularity of films or users (``side``), for each run; rows without a test rating are left out."""
    shown = [band for band in of_run[0] if band.errors]
    absent = [_band_name(band) for band in of_run[0] if not band.errors and not band.is_part]
    says = f"By how many training ratings the {side} has. Lines span 95\N{NO-BREAK SPACE}% intervals."
    if absent:
        says += f" Without a test rating: {', '.join(absent)}."
    if any(math.isnan(band.errors.rmse.low) for band in of_run[0] if band.errors):
        says += " A dot without a line is from a single user."
    rows = []
    for place, band in enumerate(of_run[0]):
        if band.errors:
            errors = [
                (number, name, bands[place].errors)
                for number, (name, bands) in enumerate(zip(names, of_run, strict=True), 1)
            ]
            values = [
                Measured(number, name if len(names) > 1 else "", each.rmse.value, each.rmse.low, each.rmse.high)
                for number, name, each in errors
                if each
            ]
            rows.append((_band_name(band), counted(band.ratings, "test rating"), band.is_part, values))
    columns = ["Training ratings", "Test ratings"]
    for name in names:
        columns += [f"RMSE {name}" if len(names) > 1 else "RMSE", "from", "to"]
    numbers = [
        (_band_name(band), grouped(band.ratings), *(cell for bands in of_run for cell in _bounds(bands[place])))
        for place, band in enumerate(of_run[0])
    ]
    return whisker_chart(
        f"popularity-{side}",
        f"By popularity of the {side}" if side == "film" else "By activity of the user",
        says if shown else "There is nothing to show.",
        rows,
        Numbers(tuple(columns), tuple(numbers)),
        x_name="RMSE",
        keys=_keys(names, "dot"),
    )


def _band_name(band: Band) -> str:
    # a word joiner on both sides keeps "1–4" on one line
    return band.name.replace("-", "\N{WORD JOINER}–\N{WORD JOINER}").replace("+", " or more")


def _bounds(band: Band) -> tuple[str, ...]:
    if band.errors is None:
        return "–", "–", "–"
    return _cells(band.errors.rmse)


def _cells(interval: Interval) -> tuple[str, ...]:
    return (decimals(interval.value), *(decimals(_or_none(bound)) for bound in (interval.low, interval.high)))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _keys(names: Sequence[str], mark: str) -> list[Key]:
    return [Key(name, number, mark) for number, name in enumerate(names, 1)] if len(names) > 1 else []


def learning_chart(
    number: int, title: str, curves: Sequence[Curve], chosen: int | None, y_values: Sequence[float]
) -> LineChart:
    """RMSE by epoch of a run's first fit, the one with validation ratings.

    chosen: the number of epochs chosen by these, None where it was not chosen.
    """
    first = curves[0]
    lines = [_curve(2, first.epochs, first.train, "training", dashed=True)]
    keys = [Key("training ratings", 2, "dashed")]
    says = f"Training RMSE falls to {min(first.train):.4f}."
    if first.validation:
        lines.append(_curve(1, first.epochs, first.validation, "validation"))
        keys.append(Key("validation ratings", 1))
        says = f"Validation RMSE ends at {first.validation[-1]:.4f}."
        if chosen is not None:
            lowest, epoch = min(zip(first.validation, first.epochs, strict=True))
            says = f"Validation RMSE is lowest after epoch {epoch}: {lowest:.4f}."
    if refits := sum(curve.ratings == "train+validation" for curve in curves[1:]):
        says += f" Then trained again {'once' if refits == 1 else f'{refits} times'} on both parts together."
    return line_chart(
        f"learning-{number}",
        title,
        says,
        lines,
        Numbers(
            ("Fit, epoch", "Training RMSE", "Validation RMSE"),
            tuple(
                (f"{curve.fit + 1} ({curve.ratings}), {epoch}", decimals(train), decimals(validation))
                for curve in curves
                for epoch, train, validation in zip(
                    curve.epochs, curve.train, curve.validation or [None] * len(curve.epochs), strict=True
                )
            ),
        ),
        x_name="epoch",
        y_name="RMSE",
        keys=keys,
        whole_x=True,
        y_values=y_values,
        upright=None if chosen is None or not first.validation else (chosen, "chosen"),
    )


def _curve(colour: int, epochs: Sequence[int], values: Sequence[float], name: str, *, dashed: bool = False) -> Line:
    labels = tuple(f"epoch {epoch}, {name}: {value:.4f}" for epoch, value in zip(epochs, values, strict=True))
    return Line(colour, tuple(zip(map(float, epochs), values, strict=True)), labels=labels, dashed=dashed)
