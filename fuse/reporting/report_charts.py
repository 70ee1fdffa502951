"""The charts of a report: figures of runs, put into words and drawings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from ...data.pages.charts import (
    BarChart,
    Key,
    Line,
    LineChart,
    Measured,
    Numbers,
    WhiskerChart,
    bar_chart,
    line_chart,
    whisker_chart,
)
from ...data.pages.page import counted, decimals, grouped, percent, signed
from ..evaluation.metrics import Interval
from ..evaluation.run_rows import Tested
from .calibration import Bins
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
    """What each run's RMSE lies from the first one's, on the same draws of users."""
    first, *others = table.to_dicts()
    return whisker_chart(
        "comparison-difference",
        f"Minus {first['name']}, on the same ratings",
        f"Right of the line a run is worse than {first['name']}, left of it better. Where an interval holds 0, these "
        "test ratings cannot tell.",
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
        says += " A dot without a line is of one user alone."
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


def calibration_chart(bins: Bins, slope: float | None) -> LineChart:
    """Mean rating against mean prediction, by bins of prediction."""
    says = f"Each dot is about {_about(bins)} test ratings; on the dotted line the mean rating equals the prediction."
    if slope is not None:
        says += f" Slope {slope:.2f}: {_boldness(slope)}."
    return line_chart(
        "calibration-rating",
        "What was predicted, and what was given",
        says,
        [_binned(bins, "{:.2f}")],
        _numbers(bins, "Mean prediction", "Mean rating", "{:.3f}"),
        x_name="mean prediction",
        y_name="mean rating",
        square=True,
    )


def _boldness(slope: float) -> str:
    if slope > 1.05:
        return "predictions are timid, ratings spread further than they say"
    if slope < 0.95:
        return "predictions are too bold, ratings spread less than they say"
    return "predictions spread as they should"


def chance_chart(bins: Bins, liked: float) -> LineChart:
    """How often a rating was ``liked`` or more, against the probability said."""
    return line_chart(
        "calibration-chance",
        f"The chance of {liked:g} or more, and how often it came",
        f"Of about {_about(bins)} test ratings a dot; the share that came lies {percent(bins.gap, 1)} from the chance "
        "said, on average.",
        [_binned(bins, "{:.0%}")],
        _numbers(bins, "Chance said", "Share that came", "{:.1%}"),
        x_name="chance said",
        y_name="share that came",
        square=True,
    )


def _about(bins: Bins) -> str:
    return grouped(int(np.median(bins.ratings)))


def _binned(bins: Bins, form: str) -> Line:
    columns = [column.tolist() for column in (bins.said, bins.happened, bins.low, bins.high)]
    return Line(
        1,
        tuple(zip(columns[0], columns[1], strict=True)),
        whiskers=tuple(
            (said, low, high)
            for said, _, low, high in zip(*columns, strict=True)
            if math.isfinite(low) and math.isfinite(high)
        ),
        labels=tuple(
            f"said {form.format(said)}, came {form.format(came)}"
            for said, came in zip(columns[0], columns[1], strict=True)
        ),
        joined=False,
    )


def _numbers(bins: Bins, said: str, happened: str, form: str) -> Numbers:
    columns = (bins.said, bins.happened, bins.low, bins.high)
    return Numbers(
        (said, happened, "from", "to", "Ratings"),
        tuple(
            (*(form.format(value) if math.isfinite(value) else "–" for value in values), grouped(int(count)))
            for *values, count in zip(*columns, bins.ratings, strict=True)
        ),
    )


def level_chart(levels: Sequence[float], said: Sequence[float], happened: Sequence[float]) -> BarChart:
    """The share of each rating: as the probabilities say, and as it was."""
    told = list(zip(levels, said, happened, strict=True))
    furthest = max(told, key=lambda row: abs(row[1] - row[2]))
    return bar_chart(
        "calibration-levels",
        "How often each rating was expected, and came",
        f"Probabilities summed over all test ratings. They lie furthest off at {furthest[0]:g}: {furthest[1]:.1%} "
        f"expected, {furthest[2]:.1%} given.",
        [
            (
                f"{level:g}" if len(told) <= 10 or number % 2 == 0 else "",
                [(2, expected, f"{level:g}: {expected:.1%} expected"), (1, came, f"{level:g}: {came:.1%} given")],
            )
            for number, (level, expected, came) in enumerate(told)
        ],
        Numbers(
            ("Rating", "Expected", "Given"),
            tuple((f"{level:g}", f"{expected:.1%}", f"{came:.1%}") for level, expected, came in told),
        ),
        x_name="rating",
        y_name="share of test ratings",
        keys=[Key("expected", 2, "bar"), Key("given", 1, "bar")],
    )


def error_chart(tested: Tested, step: float) -> BarChart:
    """A histogram of prediction minus rating, in bins ``step`` wide; the outermost hold what lies beyond."""
    errors = tested.prediction.astype(np.float64) - tested.rating
    reach = max(1, math.ceil(float(np.quantile(np.abs(errors), 0.999)) / step))
    place = np.clip(np.floor(errors / step).astype(np.int64), -reach, reach - 1)
    counts = np.bincount(place + reach, minlength=2 * reach)
    shares = counts / len(errors)
    edges = [number * step for number in range(-reach, reach + 1)]
    half, one = (float(np.mean(np.abs(errors) <= wide)) for wide in (2 * step, 4 * step))
    every = 2 * max(1, round(reach / 8))
    places = 1 if step * every >= 0.5 else 2
    return bar_chart(
        "errors",
        "How far off predictions are",
        f"{percent(half)} lie within {2 * step:g} of the rating, {percent(one)} within {4 * step:g}; on average they "
        f"are {_lean(float(errors.mean()))}.",
        [
            (
                _tick(left, places) if (number - reach) % every == 0 else "",
                [(1, share, f"{left:+g} to {left + step:+g}: {share:.1%}")],
            )
            for number, (left, share) in enumerate(zip(edges[:-1], shares.tolist(), strict=True))
        ],
        Numbers(
            ("Prediction minus rating", "Share", "Ratings"),
            tuple(
                (f"{signed(left, 2)} to {signed(left + step, 2)}", f"{share:.1%}", grouped(int(count)))
                for left, share, count in zip(edges[:-1], shares.tolist(), counts.tolist(), strict=True)
            ),
        ),
        x_name="prediction minus rating",
        y_name="share of test ratings",
        gap=0.06,
        labels_at=0.0,
        upright=(reach, "exact"),
    )


def _lean(mean: float) -> str:
    """To which side predictions err on average, in words."""
    return f"{abs(mean):.3f} too {'high' if mean > 0 else 'low'}" if abs(mean) >= 0.0005 else "neither too high nor low"


def _tick(value: float, places: int) -> str:
    return "0" if value == 0 else signed(value, places)


def learning_chart(
    number: int, title: str, curves: Sequence[Curve], chosen: int | None, y_values: Sequence[float]
) -> LineChart:
    """RMSE by epoch of a run's first fit, which is the one that looks at validation ratings.

    chosen: the epoch that these chose, where they were asked to.
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
        says += f" Then trained afresh {'once' if refits == 1 else f'{refits} times'} on both parts together."
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
    told = tuple(f"epoch {epoch}, {name}: {value:.4f}" for epoch, value in zip(epochs, values, strict=True))
    return Line(colour, tuple(zip(map(float, epochs), values, strict=True)), labels=told, dashed=dashed)
