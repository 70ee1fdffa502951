"""Weights over a poster's patches as pictures: a smooth overlay on the poster, and the raw grid.

Colours tell how many times an even share a patch gets, on a logarithmic scale around 1 that every picture states: a
model that looks everywhere alike gives a picture of one colour, not a map of its rounding errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]

_LEAST_SPAN, _MOST_SPAN = 1.5, 16.0
# dark to light, each step lighter than the one before, so that the order is seen without hue too
_STOPS = (
    (0.0, (20, 16, 44)),
    (0.25, (84, 24, 104)),
    (0.5, (166, 48, 96)),
    (0.75, (236, 116, 48)),
    (1.0, (254, 238, 160)),
)
_UNSEEN = (128, 124, 118)
_LEAST_OPAQUE, _MOST_OPAQUE = 0.3, 0.85
# these look at the whole poster, brought to their size, where their settings don't say otherwise
_WHOLE_POSTER = {"vit", "vit_msn", "beit", "data2vec-vision"}


@dataclass(frozen=True)
class Box:
    """The part of a poster that its patches cover, in pixels of the poster; it may reach beyond its edges."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def whole(self) -> tuple[int, int, int, int]:
        """The same in whole pixels."""
        return round(self.left), round(self.top), round(self.right), round(self.bottom)


def covered_box(record: Mapping[str, Any], width: int, height: int) -> Box | None:
    """What the patches of a model cover of a poster of that size; None where the file's header does not tell.

    ``record`` is the header's record of posters. Its "pixels", where it has them, are the resizing (height and width,
    or the length of the shorter edge) and the cut from the middle that the image processor made.
    """
    pixels = record.get("pixels")
    if not isinstance(pixels, dict):
        return Box(0, 0, width, height) if record.get("architecture") in _WHOLE_POSTER else None
    size, crop = pixels.get("size"), pixels.get("crop")
    if isinstance(size, list):
        tall, wide = size
    elif size is None:
        tall, wide = height, width
    else:
        tall, wide = (int(size * height / width), size) if width <= height else (size, int(size * width / height))
    if crop is None:
        return Box(0, 0, width, height)
    # where both differences are odd the cut leaves the extra pixel behind it, as the processors do
    top, left = (tall - crop[0]) // 2, (wide - crop[1]) // 2
    across, down = width / wide, height / tall
    return Box(left * across, top * down, (left + crop[1]) * across, (top + crop[0]) * down)


def span_of(lift: Floats | None) -> float:
    """How many times an even share the lightest colour stands for: the largest that is met, from 1.5 to 16."""
    largest = float(lift.max()) if lift is not None and lift.size else 0.0
    return min(max(largest, _LEAST_SPAN), _MOST_SPAN)


def strength(lift: Floats, span: float) -> Floats:
    """Lifts as 0 (``1 / span`` or less) over 0.5 (an even share) to 1 (``span`` or more)."""
    told = 0.5 + 0.5 * np.log(np.maximum(lift, 1e-6)) / np.log(span)
    clipped: Floats = np.clip(told, 0, 1).astype(np.float32)
    return clipped


def colours(values: Floats) -> npt.NDArray[np.uint8]:
    """(..., 3) uint8: values from 0 to 1 as colours from dark to light."""
    places = [place for place, _ in _STOPS]
    channels = [np.interp(values, places, [colour[channel] for _, colour in _STOPS]) for channel in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def overlay(poster: Image.Image, lift: Floats, box: Box, span: float) -> Image.Image:
    """The poster, paler, under the weights in colour, smooth between the patches' middles; grey where it is not seen.

    The farther from an even share, the more the colour covers.
    """
    left, top, right, bottom = box.whole
    smooth = Image.fromarray(strength(lift, span)).resize(
        (max(right - left, 1), max(bottom - top, 1)), Image.Resampling.BICUBIC
    )
    values = np.clip(np.asarray(smooth), 0, 1)
    told = _LEAST_OPAQUE + (_MOST_OPAQUE - _LEAST_OPAQUE) * np.abs(2 * values - 1)
    cover = Image.fromarray((255 * told).round().astype(np.uint8))
    grey = poster.convert("L").convert("RGB")
    seen = Image.new("L", poster.size, 0)
    seen.paste(128, (left, top, right, bottom))
    under = Image.composite(poster, grey, seen)
    under.paste(Image.fromarray(colours(values)), (left, top), cover)
    return under


def grid_picture(lift: Floats, box: Box, size: tuple[int, int], span: float) -> Image.Image:
    """Each patch as a rectangle of one colour where it lies on a poster of ``size`` (width, height); grey around."""
    left, top, right, bottom = box.whole
    blocks = Image.fromarray(colours(strength(lift, span))).resize(
        (max(right - left, 1), max(bottom - top, 1)), Image.Resampling.NEAREST
    )
    picture = Image.new("RGB", size, _UNSEEN)
    picture.paste(blocks, (left, top))
    return picture


def scale_picture(width: int, height: int) -> Image.Image:
    """The scale of colours, from left to right."""
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    return Image.fromarray(colours(ramp))


def scale_ends(span: float) -> tuple[str, str, str]:
    """What the left end, the middle and the right end of the scale say."""
    return f"1/{span:.3g} ×", "uniform", f"{span:.3g} ×"
