"""Weights over an image's patches as pictures: a smooth overlay on the image, and the raw grid.

Colours stand for lifts, the ratios of weights to the uniform weight, on a logarithmic scale around 1 that every picture
states: uniform weights give a picture of one colour, not a map of rounding errors.
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
# from dark to light, each lighter than the one before, so that the order is visible without hue
_STOPS = (
    (0.0, (20, 16, 44)),
    (0.25, (84, 24, 104)),
    (0.5, (166, 48, 96)),
    (0.75, (236, 116, 48)),
    (1.0, (254, 238, 160)),
)
_CROPPED = (128, 124, 118)
_LEAST_OPAQUE, _MOST_OPAQUE = 0.3, 0.85
# these resize the whole image, where their image processor has no crop
_NO_CROP = {"vit", "vit_msn", "beit", "data2vec-vision"}


@dataclass(frozen=True)
class Box:
    """The area of an image that its patches cover, in pixels of the image; it may reach beyond the edges."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def whole(self) -> tuple[int, int, int, int]:
        """The edges rounded to whole pixels."""
        return round(self.left), round(self.top), round(self.right), round(self.bottom)


def covered_box(record: Mapping[str, Any], width: int, height: int) -> Box | None:
    """The area that a model's patches cover of an image of that size; None where the file's header does not say.

    ``record`` is the header's record of images. Its "pixels", where it has them, are the resizing (height and width,
    or the length of the shorter edge) and the cut from the middle that the image processor made.
    """
    pixels = record.get("pixels")
    if not isinstance(pixels, dict):
        return Box(0, 0, width, height) if record.get("architecture") in _NO_CROP else None
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
    """The lift that the lightest colour stands for: the largest in ``lift``, clipped to 1.5 and 16."""
    largest = float(lift.max()) if lift is not None and lift.size else 0.0
    return min(max(largest, _LEAST_SPAN), _MOST_SPAN)


def strength(lift: Floats, span: float) -> Floats:
    """Lifts on a scale from 0 (``1 / span`` or less) over 0.5 (the uniform share) to 1 (``span`` or more)."""
    scaled = 0.5 + 0.5 * np.log(np.maximum(lift, 1e-6)) / np.log(span)
    clipped: Floats = np.clip(scaled, 0, 1).astype(np.float32)
    return clipped


def colours(values: Floats) -> npt.NDArray[np.uint8]:
    """(..., 3) uint8: values from 0 to 1 as colours from dark to light."""
    places = [place for place, _ in _STOPS]
    channels = [np.interp(values, places, [colour[channel] for _, colour in _STOPS]) for channel in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def overlay(poster: Image.Image, lift: Floats, box: Box, span: float) -> Image.Image:
    """The poster, paler, under the lifts in colour, smooth between the patches' middles; grey where it was cropped.

    The farther a lift from 1, the more opaque its colour.
    """
    left, top, right, bottom = box.whole
    smooth = Image.fromarray(strength(lift, span)).resize(
        (max(right - left, 1), max(bottom - top, 1)), Image.Resampling.BICUBIC
    )
    values = np.clip(np.asarray(smooth), 0, 1)
    opacity = _LEAST_OPAQUE + (_MOST_OPAQUE - _LEAST_OPAQUE) * np.abs(2 * values - 1)
    cover = Image.fromarray((255 * opacity).round().astype(np.uint8))
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
    picture = Image.new("RGB", size, _CROPPED)
    picture.paste(blocks, (left, top))
    return picture


def scale_picture(width: int, height: int) -> Image.Image:
    """The scale of colours, from left to right."""
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    return Image.fromarray(colours(ramp))


def scale_ends(span: float) -> tuple[str, str, str]:
    """The labels at the left end, the middle and the right end of the scale."""
    return f"1/{span:.3g} ×", "uniform", f"{span:.3g} ×"
