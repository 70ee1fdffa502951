"""Charts of a report about its subject's predictions: calibration and errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...data.pages.chart_kinds import BarChart, Key, Line, LineChart, Numbers
from ...data.pages.charts import bar_chart, line_chart
from ...data.pages.page import grouped, percent, signed
from ..evaluation.run_rows import Tested
from .calibration import Bins


def calibration_chart(bins: Bins, slope: float | None) -> LineChart:
    """Mean rating by predicted rating. ``slope`` is that of `calibration.slope`."""
    caption = f"Each dot is about {_size(bins)} test ratings; on the dotted line the mean rating equals the prediction."
    if slope is not None:
        caption += f" Slope {slope:.2f}: {_spread(slope)}."
    title = "Mean rating by predicted rating"
    return _chart("calibration-rating", title, caption, bins, ("mean prediction", "mean rating"), ("{:.2f}", "{:.3f}"))


def _spread(slope: float) -> str:
    if slope > 1.05:
        return "predictions spread less than they should"
    if slope < 0.95:
        return "predictions spread more than they should"
    return "predictions spread as much as they should"


def probability_chart(bins: Bins, liked: float) -> LineChart:
    """Observed share of ratings of ``liked`` or more by predicted probability."""
    return _chart(
        "calibration-probability",
        f"Probability of {liked:g} or more, predicted and observed",
        f"Each dot is about {_size(bins)} test ratings; on average the observed share is {percent(bins.gap, 1)} from "
        "the predicted probability.",
        bins,
        ("predicted probability", "observed share"),
        ("{:.0%}", "{:.1%}"),
    )


def _chart(
    slug: str, title: str, caption: str, bins: Bins, names: tuple[str, str], forms: tuple[str, str]
) -> LineChart:
    """Observed against predicted, named so; ``forms`` are the number formats of labels and table."""
    predicted, observed = names
    return line_chart(
        slug,
        title,
        caption,
        [_binned(bins, forms[0])],
        _numbers(bins, predicted.capitalize(), observed.capitalize(), forms[1]),
        x_name=predicted,
        y_name=observed,
        square=True,
    )


def _size(bins: Bins) -> str:
    return grouped(int(np.median(bins.ratings)))


def _binned(bins: Bins, form: str) -> Line:
    columns = [column.tolist() for column in (bins.predicted, bins.observed, bins.low, bins.high)]
    return Line(
        1,
        tuple(zip(columns[0], columns[1], strict=True)),
        whiskers=tuple(
            (predicted, low, high)
            for predicted, _, low, high in zip(*columns, strict=True)
            if math.isfinite(low) and math.isfinite(high)
        ),
        labels=tuple(
            f"predicted {form.format(predicted)}, observed {form.format(observed)}"
            for predicted, observed in zip(columns[0], columns[1], strict=True)
        ),
        joined=False,
    )


def _numbers(bins: Bins, predicted: str, observed: str, form: str) -> Numbers:
    columns = (bins.predicted, bins.observed, bins.low, bins.high)
    return Numbers(
        (predicted, observed, "from", "to", "Ratings"),
        tuple(
            (*(form.format(value) if math.isfinite(value) else "–" for value in values), grouped(int(count)))
            for *values, count in zip(*columns, bins.ratings, strict=True)
        ),
    )


def level_chart(levels: Sequence[float], predicted: Sequence[float], observed: Sequence[float]) -> BarChart:
    """The share of each rating, predicted by the mean probabilities and observed."""
    rows = list(zip(levels, predicted, observed, strict=True))
    furthest = max(rows, key=lambda row: abs(row[1] - row[2]))
    return bar_chart(
        "calibration-levels",
        "Share of each rating, predicted and observed",
        f"Mean probabilities over all test ratings. The largest difference is at {furthest[0]:g}: {furthest[1]:.1%} "
        f"predicted, {furthest[2]:.1%} observed.",
        [
            (
                f"{level:g}" if len(rows) <= 10 or number % 2 == 0 else "",
                [(2, share, f"{level:g}: {share:.1%} predicted"), (1, observed, f"{level:g}: {observed:.1%} observed")],
            )
            for number, (level, share, observed) in enumerate(rows)
        ],
        Numbers(
            ("Rating", "Predicted", "Observed"),
            tuple((f"{level:g}", f"{share:.1%}", f"{observed:.1%}") for level, share, observed in rows),
        ),
        x_name="rating",
        y_name="share of test ratings",
        keys=[Key("predicted", 2, "bar"), Key("observed", 1, "bar")],
    )


def error_chart(tested: Tested, step: float) -> BarChart:
    """A histogram of prediction minus rating, in bins ``step`` wide; the outermost include all larger errors."""
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
        "Errors of predictions",
        f"{percent(half)} lie within {2 * step:g} of the rating, {percent(one)} within {4 * step:g}; on average they "
        f"are {_bias(float(errors.mean()))}.",
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


def _bias(mean: float) -> str:
    """The mean error in words."""
    return f"{abs(mean):.3f} too {'high' if mean > 0 else 'low'}" if abs(mean) >= 0.0005 else "neither too high nor low"


def _tick(value: float, places: int) -> str:
    return "0" if value == 0 else signed(value, places)
