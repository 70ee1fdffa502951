"""Scenes of the sample's posters: two for each genre, each of which fills an easel whose sky is there already."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from .emblems import aeroplane, balloons, bow_tie, fedora, grin, note, umbrella
from .landscapes import heart_tree, house_on_the_hill, leaving_orbit, mesas, moonlit_sea, open_road, ringed_world

if TYPE_CHECKING:
    from collections.abc import Callable

    from .easel import Easel

    Scene = Callable[[Easel], None]


def _corridor(e: Easel) -> None:
    p, x, y = e.palette, e.between(0.42, 0.58), 0.46
    shades = 6
    for step in range(shades):
        share = step / (shades - 1)
        wide, high = 0.56 - 0.42 * share, 0.52 - 0.34 * share
        e.block(x - wide, y - high, x + wide, y + high, e.blend(p.near, p.far, 0.15 + 0.85 * share))
    for side in (-1, 1):
        e.stroke(((x + side * 0.6, y - 0.56), (x + side * 0.14, y - 0.18)), 0.006, p.near)
        e.stroke(((x + side * 0.6, y + 0.56), (x + side * 0.14, y + 0.18)), 0.006, p.near)
    e.light(x, y, 0.5, p.accent, 0.7)
    e.block(x - 0.1, y - 0.15, x + 0.1, y + 0.18, p.accent)
    e.shape(
        ((x - 0.1, y + 0.18), (x + 0.1, y + 0.18), (x + 0.3, y + 0.54), (x - 0.3, y + 0.54)),
        e.blend(p.accent, p.near, 0.55),
    )
    e.disc(x, y - 0.055, 0.03, p.near)
    e.shape(((x - 0.035, y - 0.03), (x + 0.035, y - 0.03), (x + 0.055, y + 0.18), (x - 0.055, y + 0.18)), p.near)
    e.shape(((x - 0.055, y + 0.18), (x + 0.055, y + 0.18), (x + 0.1, y + 0.42), (x - 0.12, y + 0.42)), p.near)


def _bunting(e: Easel) -> None:
    p = e.palette
    colours = (p.accent, p.paper, p.far, p.near)
    for rope in range(2):
        top, sag = 0.04 + 0.13 * rope, e.between(0.06, 0.1)
        line = [(n / 12, top + sag * (1 - (n / 6 - 1) ** 2)) for n in range(13)]
        e.stroke(line, 0.008, p.near)
        for number, (x, y) in enumerate(line[:-1]):
            e.shape(((x, y), (x + 1 / 12, y), (x + 1 / 24, y + 0.055)), colours[(number + rope) % 3])
    for _ in range(46):
        x, y, size = e.between(0, 1), e.between(0.2, 0.8), e.between(0.008, 0.02)
        e.shape(
            [e.polar(x, y, size, e.between(0, 20) + 90 * corner) for corner in range(4)], e.chance.choice(colours[:3])
        )
    e.wave(0.8, 0.02, p.far, 1)
    balloons(e, e.between(0.35, 0.65), 0.5, 0.26, p.accent, p.paper)
    e.wave(0.87, 0.015, p.near, 1.3)


def _sunburst(e: Easel) -> None:
    p, x, y = e.palette, e.between(0.35, 0.65), e.between(0.42, 0.52)
    rays = e.chance.choice((20, 24, 28))
    for ray in range(0, rays, 2):
        e.shape(
            ((x, y), e.polar(x, y, 2, 360 * ray / rays), e.polar(x, y, 2, 360 * (ray + 1) / rays)),
            e.blend(p.sky, p.accent, 0.55),
        )
    e.disc(x, y, 0.36, p.paper)
    e.chance.choice((umbrella, bow_tie, grin))(e, x, y, 0.26, p.near, p.paper)
    e.block(0, 0.86, 1, 1, p.near)


def _skyline(e: Easel) -> None:
    p = e.palette
    e.disc(e.between(0.2, 0.8), e.between(0.18, 0.3), e.between(0.08, 0.14), p.accent)
    for level, colour, lit in ((0.42, e.blend(p.far, p.glow, 0.35), 0.0), (0.5, p.far, 0.12), (0.6, p.near, 0.34)):
        x = -0.05
        while x < 1:
            wide, top = e.between(0.09, 0.19), level + e.between(-0.12, 0.1)
            e.block(x, top, x + wide, 1, colour)
            if e.chance.random() < 0.3:
                e.stroke(((x + wide / 2, top), (x + wide / 2, top - 0.05)), 0.008, colour)
            for row in range(9):
                for column in range(int(wide / 0.035)):
                    left, high = x + 0.012 + column * 0.035, top + 0.02 + row * 0.03
                    if e.chance.random() < lit and high < 0.9:
                        e.block(left, high, left + 0.016, high + 0.014, p.accent)
            x += wide + 0.004
    e.block(0, 0.88, 1, 1, p.near)


def _man_behind_blinds(e: Easel) -> None:
    p, x = e.palette, e.between(0.38, 0.62)
    e.block(0, 0, 1, 1, e.blend(p.glow, p.accent, 0.5))
    slope = e.between(-0.06, 0.06)
    e.light(x, 0.45, 0.8, p.paper, 0.5)
    e.shape(
        ((x - 0.42, 1), (x - 0.36, 0.66), (x - 0.12, 0.58), (x + 0.12, 0.58), (x + 0.36, 0.66), (x + 0.42, 1)), p.near
    )
    e.oval(x, 0.47, 0.13, 1.35, p.near)
    fedora(e, x, 0.4, 0.25, p.near, p.far)
    for slat in range(15):
        top = slat * 0.07 - 0.04
        e.shape(
            ((0, top + slope), (1, top - slope), (1, top - slope + 0.026), (0, top + slope + 0.026)),
            e.blend(p.near, p.sky, 0.3),
        )


def _searchlights(e: Easel) -> None:
    p = e.palette
    for foot in (0.15, 0.5, 0.85):
        head = foot + e.between(-0.45, 0.45)
        e.shape(((foot, 0.8), (head - 0.09, -0.02), (head + 0.09, -0.02)), e.blend(p.sky, p.accent, 0.45))
    for _ in range(e.chance.choice((2, 3, 4))):
        aeroplane(e, e.between(0.12, 0.88), e.between(0.1, 0.42), e.between(0.05, 0.1), p.near, p.far)
    x = 0.0
    while x < 1:
        wide, top = e.between(0.07, 0.16), e.between(0.58, 0.76)
        e.shape(
            (
                (x, 1),
                (x, top),
                (x + wide * 0.4, top + 0.03),
                (x + wide * 0.55, top - 0.03),
                (x + wide, top + 0.06),
                (x + wide, 1),
            ),
            p.far,
        )
        x += wide
    e.ridge(0.8, 0.025, p.near, 14)


def _wire(e: Easel) -> None:
    p, x = e.palette, e.between(0.25, 0.75)
    e.light(x, 0.52, 0.8, p.accent, 0.8)
    e.disc(x, 0.54, e.between(0.15, 0.24), p.accent)
    e.wave(0.58, 0.02, p.far, 1)
    e.ridge(0.7, 0.025, e.blend(p.far, p.near, 0.6), 12)
    e.ridge(0.8, 0.02, p.near, 12)
    posts = [(-0.05, 0.46), (0.3, 0.4), (0.68, 0.42), (1.05, 0.38)]
    for post, top in posts[1:3]:
        e.stroke(((post, 0.86), (post + e.between(-0.03, 0.03), top)), 0.03, p.near)
    for strand in (0.05, 0.17, 0.29):
        for (left, high), (right, low) in pairwise(posts):
            line = [
                (left + (right - left) * n / 8, high + strand + (low - high) * n / 8 + 0.03 * (1 - (n / 4 - 1) ** 2))
                for n in range(9)
            ]
            e.stroke(line, 0.007, p.near)
            for a, b in line[1::2]:
                e.stroke(((a - 0.018, b - 0.014), (a + 0.018, b + 0.014)), 0.007, p.near)
                e.stroke(((a - 0.018, b + 0.014), (a + 0.018, b - 0.014)), 0.007, p.near)


def _stage(e: Easel) -> None:
    p, x = e.palette, e.between(0.4, 0.6)
    e.shape(((x, -0.05), (x - 0.36, 0.8), (x + 0.36, 0.8)), e.blend(p.sky, p.accent, 0.55))
    e.block(0, 0.78, 1, 1, p.near)
    e.oval(x, 0.8, 0.36, 0.2, p.accent)
    e.disc(x, 0.485, 0.04, p.near)
    e.shape(
        ((x - 0.02, 0.51), (x + 0.03, 0.51), (x + 0.06, 0.62), (x + 0.13, 0.8), (x - 0.13, 0.8), (x - 0.05, 0.62)),
        p.near,
    )
    e.stroke(((x + 0.02, 0.54), (x + 0.1, 0.48), (x + e.between(0.12, 0.2), e.between(0.38, 0.44))), 0.02, p.near)
    e.stroke(((x - 0.01, 0.54), (x - 0.1, 0.58), (x - 0.15, 0.52)), 0.02, p.near)
    for side in (0, 1):
        for fold in range(5):
            edge = 0.26 - 0.055 * fold + e.between(-0.01, 0.01)
            shade = e.blend(p.far, p.near, 0.2 + 0.5 * (fold % 2))
            left, right = (0, edge) if side == 0 else (1 - edge, 1)
            foot = right + 0.02 if side == 0 else left - 0.02
            e.shape(
                ((left, 0), (right, 0), (foot if side == 0 else right, 0.84), (left if side == 0 else foot, 0.84)),
                shade,
            )
    e.shape([(0, 0), *[(n / 24, 0.07 + 0.03 * abs((n % 6) - 3) / 3 * -1 + 0.03) for n in range(25)], (1, 0)], p.far)


def _rising_notes(e: Easel) -> None:
    p = e.palette
    start = e.between(0, 6)
    for line in range(5):
        level = 0.3 + 0.055 * line
        points = [(n / 30, level + 0.07 * math.sin(start + n / 6) - 0.1 * n / 30) for n in range(31)]
        e.stroke(points, 0.007, e.blend(p.near, p.glow, 0.2))
    for number in range(6):
        x = 0.1 + 0.155 * number
        y = 0.3 + 0.055 * e.chance.randrange(5) + 0.07 * math.sin(start + 5 * x) - 0.1 * x
        note(e, x, y, e.between(0.1, 0.14), (p.near, p.accent)[number % 2], p.glow)
    e.block(0, 0.72, 1, 1, p.paper if p.paper != p.glow else p.accent)
    for key in range(11):
        e.stroke(((key / 10, 0.72), (key / 10, 1)), 0.006, p.near)
        if key % 7 not in (2, 6):
            e.block(key / 10 + 0.068, 0.72, key / 10 + 0.132, 0.87, p.near)
    e.block(0, 0.7, 1, 0.725, p.far)


SCENES: dict[str, tuple[Scene, ...]] = {
    "Western": (mesas, open_road),
    "Sci-Fi": (ringed_world, leaving_orbit),
    "Romance": (moonlit_sea, heart_tree),
    "Horror": (house_on_the_hill, _corridor),
    "Comedy": (_bunting, _sunburst),
    "Crime": (_skyline, _man_behind_blinds),
    "War": (_searchlights, _wire),
    "Musical": (_stage, _rising_notes),
}
