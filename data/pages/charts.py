"""Charts as geometry: where ticks, lines, dots and bars stand in a small drawing, and the numbers they are made of.

`templates/charts.html` draws them as SVG in the page's own colours. A drawing is 400 units wide and as many pixels
where it has room, on a phone as in half a page, so its type has one size everywhere. Every chart brings a sentence that
says what is to be seen, and a table of its numbers for readers who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .chart_kinds import WIDTH, Axis, Bar, BarChart, Key, Line, LineChart, Mark, Numbers, Row, WhiskerChart


@dataclass(frozen=True)
class Measured:
    """A value with its interval, for one run in one row of `whisker_chart`; bounds are NaN where there are none."""

    colour: int
    name: str
    value: float
    low: float
    high: float


_LEFT, _RIGHT = 44.0, WIDTH - 12.0
_TOP = 30.0


def line_chart(
    slug: str,
    title: str,
    caption: str,
    lines: Sequence[Line],
    numbers: Numbers,
    *,
    x_name: str,
    y_name: str,
    keys: Sequence[Key] = (),
    whole_x: bool = False,
    square: bool = False,
    y_values: Sequence[float] = (),
    upright: tuple[float, str] | None = None,
) -> LineChart:
    """Lines that share two axes. ``square`` gives both the same values and draws the diagonal.

    ``y_values`` widens the y axis, so that several charts can share it.
    """
    height = 330.0 if square else 260.0
    bottom = height - 42.0
    across = [x for line in lines for x, _ in line.points]
    up = [*y_values, *(y for line in lines for _, y in line.points)]
    up += [bound for line in lines for _, low, high in line.whiskers for bound in (low, high)]
    if square:
        across = up = [*across, *up]
    return LineChart(
        slug=slug,
        title=title,
        caption=caption,
        numbers=numbers,
        keys=tuple(keys),
        height=height,
        x=Axis.over(across, _LEFT, _RIGHT, whole=whole_x, pad=square),
        y=Axis.over(up, bottom, _TOP, about=5),
        x_name=x_name,
        y_name=y_name,
        lines=tuple(lines),
        diagonal=square,
        upright=upright,
    )


def whisker_chart(
    slug: str,
    title: str,
    caption: str,
    rows: Sequence[tuple[str, str, bool, Sequence[Measured]]],
    numbers: Numbers,
    *,
    x_name: str,
    keys: Sequence[Key] = (),
    zero: float | None = None,
    places: int = 3,
) -> WhiskerChart:
    """Rows (label, remark, whether it is a part of the row before, values) of dots with intervals on one axis."""
    placed: list[Row] = []
    marks: list[Mark] = []
    y = 14.0
    for label, remark, is_part, values in rows:
        placed.append(Row(label, remark, y, is_part))
        y += 16.0
        for value in values:
            marks.append(Mark(y, value.colour, value.value, value.low, value.high, _label(value, places)))
            y += 14.0
        y += 12.0
    reach = [bound for mark in marks for bound in (mark.value, mark.low, mark.high) if math.isfinite(bound)]
    reach += [] if zero is None else [zero]
    if reach:  # so that no dot is cut at the edge
        margin = 0.03 * (max(reach) - min(reach))
        reach += [min(reach) - margin, max(reach) + margin]
    return WhiskerChart(
        slug=slug,
        title=title,
        caption=caption,
        numbers=numbers,
        keys=tuple(keys),
        height=y + 38.0,
        x=Axis.over(reach, 8.0, WIDTH - 12.0, about=7, pad=False),
        x_name=x_name,
        rows=tuple(placed),
        marks=tuple(marks),
        zero=zero,
    )


def _label(value: Measured, places: int) -> str:
    label = f"{value.name}: {value.value:.{places}f}" if value.name else f"{value.value:.{places}f}"
    return f"{label}, 95 % {value.low:.{places}f} to {value.high:.{places}f}" if math.isfinite(value.low) else label


def bar_chart(
    slug: str,
    title: str,
    caption: str,
    groups: Sequence[tuple[str, Sequence[tuple[int, float, str]]]],
    numbers: Numbers,
    *,
    x_name: str,
    y_name: str,
    keys: Sequence[Key] = (),
    gap: float = 0.25,
    labels_at: float = 0.5,
    upright: tuple[float, str] | None = None,
) -> BarChart:
    """Groups (label, bars of colour, value and words) side by side; ``gap`` is the share of a group left empty.

    A label stands under its group, ``labels_at`` that share of its width (0: under its left edge), and nothing where it
    is empty. ``upright`` draws a line after so many groups.
    """
    height = 260.0
    wide = (_RIGHT - _LEFT) / max(1, len(groups))
    bars: list[Bar] = []
    labels: list[tuple[float, str]] = []
    for number, (label, members) in enumerate(groups):
        left = _LEFT + wide * (number + gap / 2)
        each = wide * (1 - gap) / max(1, len(members))
        bars += [
            Bar(round(left + place * each, 2), round(left + (place + 1) * each, 2), value, colour, words)
            for place, (colour, value, words) in enumerate(members)
        ]
        if label:
            labels.append((round(_LEFT + wide * (number + labels_at), 2), label))
    return BarChart(
        slug=slug,
        title=title,
        caption=caption,
        numbers=numbers,
        keys=tuple(keys),
        height=height,
        y=Axis.over([0.0, *(bar.value for bar in bars)], height - 42.0, _TOP),
        x_name=x_name,
        y_name=y_name,
        bars=tuple(bars),
        labels=tuple(labels),
        upright=None if upright is None else (round(_LEFT + wide * upright[0], 2), upright[1]),
    )
