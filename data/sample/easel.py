"""The easel that the sample's posters are drawn on: shapes in shares of its width and height, soft light, lettering."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Palette:
    """Colours of a poster: the ground from top to bottom, what lies far, what lies near, the light, and the paper."""

    sky: Colour
    glow: Colour
    far: Colour
    near: Colour
    accent: Colour
    paper: Colour


class Easel:
    """A picture of ``size`` pixels under a vertical gradient; (0, 0) is its top left corner and (1, 1) the opposite.

    Lengths that have no direction (radii, strokes) are shares of the width.
    """

    def __init__(self, size: tuple[int, int], palette: Palette, chance: random.Random) -> None:
        self.palette, self.chance = palette, chance
        self.image = gradient(size, palette.sky, palette.glow)
        self.draw = ImageDraw.Draw(self.image)
        self.width, self.height = size

    @property
    def tall(self) -> float:
        """Height over width."""
        return self.height / self.width

    def between(self, low: float, high: float) -> float:
        """A number drawn by chance."""
        return self.chance.uniform(low, high)

    def shape(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        self.draw.polygon([self._at(point) for point in points], fill=colour)

    def block(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.shape(((left, top), (right, top), (right, bottom), (left, bottom)), colour)

    def stroke(self, points: Sequence[Point], thick: float, colour: Colour) -> None:
        """A line through points, its ends and bends round."""
        wide = max(1, round(thick * self.width))
        self.draw.line([self._at(point) for point in points], fill=colour, width=wide, joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        self.draw.ellipse(self._around(x, y, radius), fill=colour)

    def oval(self, x: float, y: float, radius: float, flat: float, colour: Colour) -> None:
        """A filled ellipse, ``flat`` times as high as wide."""
        self.draw.ellipse(self._around(x, y, radius, flat), fill=colour)

    def ring(self, x: float, y: float, radius: float, thick: float, colour: Colour, flat: float = 1) -> None:
        """A circle's outline, or an ellipse's."""
        self.draw.ellipse(self._around(x, y, radius, flat), outline=colour, width=max(1, round(thick * self.width)))

    def arc(self, x: float, y: float, radius: float, angles: Point, thick: float, colour: Colour) -> None:
        """Part of a circle's outline, between two angles in degrees, clockwise from the right."""
        self.draw.arc(self._around(x, y, radius), *angles, fill=colour, width=max(1, round(thick * self.width)))

    def pie(self, x: float, y: float, radius: float, angles: Point, colour: Colour) -> None:
        """A slice of a disc."""
        self.draw.pieslice(self._around(x, y, radius), *angles, fill=colour)

    def polar(self, x: float, y: float, radius: float, degrees: float) -> Point:
        """The point at an angle and a distance from another."""
        turned = math.radians(degrees)
        return x + radius * math.cos(turned), y + radius * math.sin(turned) / self.tall

    def star(self, x: float, y: float, radius: float, points: int, colour: Colour, inner: float = 0.42) -> None:
        """A star that stands on two of its points."""
        reach = (radius, radius * inner)
        corners = [self.polar(x, y, reach[n % 2], 180 * n / points - 90) for n in range(2 * points)]
        self.shape(corners, colour)

    def heart(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A heart about as wide as a disc of that radius."""
        turns = [2 * math.pi * n / 60 for n in range(60)]
        across = [math.sin(t) ** 3 for t in turns]
        down = [-(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16 for t in turns]
        self.shape([(x + radius * a, y + radius * d / self.tall) for a, d in zip(across, down, strict=True)], colour)

    def ridge(self, height: float, rough: float, colour: Colour, steps: int = 9) -> None:
        """Ground up to an uneven line at ``height``."""
        tops = [(n / steps, height + self.between(-rough, rough)) for n in range(steps + 1)]
        self.shape([(0, 1), *tops, (1, 1)], colour)

    def wave(self, height: float, swing: float, colour: Colour, waves: float = 1.5) -> None:
        """Ground up to a smooth line at ``height``."""
        start = self.between(0, 2 * math.pi)
        tops = [(n / 40, height + swing * math.sin(start + 2 * math.pi * waves * n / 40)) for n in range(41)]
        self.shape([(0, 1), *tops, (1, 1)], colour)

    def light(self, x: float, y: float, radius: float, colour: Colour, strength: float = 0.7) -> None:
        """A soft light around a point, laid over what is there."""
        size = max(2, round(2 * radius * self.width))
        mask = _halo().resize((size, size)).point([round(value * strength) for value in range(256)])
        corner = round(x * self.width - size / 2), round(y * self.height - size / 2)
        self.image.paste(colour, (*corner, corner[0] + size, corner[1] + size), mask)

    def mirror(self) -> None:
        """Swap left and right of what is there."""
        self.image.paste(self.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))

    def blend(self, first: Colour, second: Colour, share: float) -> Colour:
        """A colour between two: the first at 0, the second at 1."""
        return mixed(first, second, share)

    def _at(self, point: Point) -> Point:
        return point[0] * self.width, point[1] * self.height

    def _around(self, x: float, y: float, radius: float, flat: float = 1) -> tuple[float, float, float, float]:
        x, y, wide, high = x * self.width, y * self.height, radius * self.width, radius * self.width * flat
        return x - wide, y - high, x + wide, y + high


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """A colour between two: the first at 0, the second at 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """How bright a colour looks, 0 to 255 (Rec. 601 luma)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """An RGB picture that goes from one colour to another."""
    share = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), share)


@cache
def _halo() -> Image.Image:
    """256 x 256, bright in the middle, black from the edge of the disc on."""
    return Image.radial_gradient("L").point([round(255 * max(0.0, 1 - value / 181) ** 2) for value in range(256)])


def lettering(words: str, *, bold: int = 0, tracking: float = 0.0, slant: float = 0.0) -> Image.Image:
    """Words as a mask cut to their outline, about 100 pixels high; ``tracking`` is air in shares of a letter's height.

    ``bold`` thickens the strokes by so many pixels; ``slant`` leans the letters to the right.
    """
    font = _font()
    steps = [font.getlength(letter) + 100 * tracking + bold for letter in words]
    mask = Image.new("L", (round(sum(steps)) + 80, 180))
    draw, x = ImageDraw.Draw(mask), 20.0
    for letter, step in zip(words, steps, strict=True):
        draw.text((x, 20), letter, font=font, fill=255, stroke_width=bold)
        x += step
    if slant:
        mask = mask.transform(
            mask.size, Image.Transform.AFFINE, (1, slant, -slant * 90, 0, 1, 0), Image.Resampling.BILINEAR
        )
    return mask.crop(mask.getbbox())


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(100)


@cache
def grain() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(512, 512) float32: noise of mean 1 for the surface of paper, the same for every poster."""
    return np.random.default_rng(7).normal(1, 0.028, (512, 512)).astype(np.float32)
