"""What a chart is made of: axes with round ticks, lines, dots with intervals, bars, and the table of its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

WIDTH = 400.0
COLOURS = 6
"""Colours of series, numbered from 1; `page.css` has them as --series-1 and so on, for light and dark."""
MOST_DOTS = 30

# of a label of 12 units above and below its baseline, and of the axis below the last row
_ABOVE_LABEL, _BELOW_LABEL, _BELOW_ROWS = 12.0, 4.0, 40.0


@dataclass(frozen=True)
class Axis:
    """A scale that maps ``low`` to ``start`` and ``high`` to ``end`` in the drawing, with round ticks inside."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    places: int

    @classmethod
    def over(
        cls, values: Iterable[float], start: float, end: float, *, about: int = 5, whole: bool = False, pad: bool = True
    ) -> Axis:
        """An axis that holds all finite ``values``, with some ``about`` ticks, at ``whole`` numbers only if set.

        With ``pad`` it reaches to round numbers on both sides; else it ends where the values do.
        """
        finite = [value for value in values if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if high - low < 1e-9 * max(1.0, abs(low), abs(high)):
            room = 0.5 if whole else max(0.05, 0.05 * abs(low))
            low, high = low - room, high + room
        step = round_step((high - low) / about)
        step = max(1.0, math.ceil(step)) if whole else step
        if pad:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        first = math.ceil(low / step - 1e-9)
        ticks = [(first + number) * step for number in range(math.floor(high / step + 1e-9) - first + 1)]
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        return cls(low, high, start, end, tuple(ticks), places)

    def at(self, value: float) -> float:
        """Where a value stands in the drawing, to a hundredth of a unit; those beyond the axis stand at its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def label(self, value: float) -> str:
        """A tick as it is written."""
        return f"{value + 0.0:.{self.places}f}".replace("-", "−")


def round_step(step: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is at least ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(part * power for part in (1.0, 2.0, 5.0, 10.0) if part * power >= step * (1 - 1e-9))


@dataclass(frozen=True)
class Numbers:
    """What a chart shows, as a table: a row's first cell is its heading."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Key:
    """What a colour stands for. ``colour`` is 1 to `COLOURS`; ``mark`` is line, dashed, dot or bar."""

    name: str
    colour: int
    mark: str = "line"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What every chart has: an id of its own, a heading, a caption, the key, the numbers, its height."""

    slug: str
    title: str
    caption: str
    numbers: Numbers
    height: float
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Line:
    """Points (x, y); ``whiskers`` (x, low, high) are their intervals, ``labels`` describe each point.

    More points than `MOST_DOTS` are a line without dots.
    """

    colour: int
    points: tuple[tuple[float, float], ...]
    whiskers: tuple[tuple[float, float, float], ...] = ()
    labels: tuple[str, ...] = ()
    dashed: bool = False
    joined: bool = True

    @property
    def is_dotted(self) -> bool:
        """Whether each point gets a dot."""
        return len(self.points) <= MOST_DOTS


@dataclass(frozen=True, kw_only=True)
class LineChart(Chart):
    """Lines over two axes. ``diagonal`` draws where y equals x, ``upright`` a line at an x, with what it means."""

    x: Axis
    y: Axis
    x_name: str
    y_name: str
    lines: tuple[Line, ...]
    diagonal: bool = False
    upright: tuple[float, str] | None = None
    kind: str = "lines"

    @property
    def diagonal_ends(self) -> tuple[float, float]:
        """The lowest and highest value that both axes have."""
        return max(self.x.low, self.y.low), min(self.x.high, self.y.high)


@dataclass(frozen=True)
class Mark:
    """A dot with its interval, ``y`` down in the drawing; bounds are NaN where there are none."""

    y: float
    colour: int
    value: float
    low: float
    high: float
    label: str

    @property
    def is_bounded(self) -> bool:
        """Whether there is an interval to draw."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class Row:
    """A row of a whisker chart: its label over it, a remark at the right, and where it stands."""

    label: str
    remark: str
    y: float
    is_part: bool


@dataclass(frozen=True, kw_only=True)
class WhiskerChart(Chart):
    """Dots with intervals, in labelled rows; ``zero`` draws a line at a value that means no difference."""

    x: Axis
    x_name: str
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...]
    zero: float | None = None
    kind: str = "whiskers"

    @property
    def zero_spans(self) -> list[tuple[float, float]]:
        """Where the line at ``zero`` is drawn (from y, to y): beside the dots of each row, not through its label."""
        ends = [*(row.y - _ABOVE_LABEL for row in self.rows[1:]), self.height - _BELOW_ROWS]
        return [(row.y + _BELOW_LABEL, end) for row, end in zip(self.rows, ends, strict=True)]


@dataclass(frozen=True)
class Bar:
    """A bar from the ground up to ``value``, between two x of the drawing."""

    left: float
    right: float
    value: float
    colour: int
    label: str


@dataclass(frozen=True, kw_only=True)
class BarChart(Chart):
    """Bars over an axis; ``labels`` (x in the drawing, text) stand under them, ``upright`` as in `LineChart`."""

    y: Axis
    x_name: str
    y_name: str
    bars: tuple[Bar, ...]
    labels: tuple[tuple[float, str], ...]
    upright: tuple[float, str] | None = None
    kind: str = "bars"
