"""Landscapes of the sample's posters: deserts, space, sea and hills, each under a sky that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .emblems import cactus, planet, rocket

if TYPE_CHECKING:
    from .easel import Colour, Easel


def mesas(e: Easel) -> None:
    p, x = e.palette, e.between(0.2, 0.8)
    e.light(x, 0.42, 0.75, p.accent, 0.6)
    e.disc(x, e.between(0.36, 0.46), e.between(0.13, 0.24), p.accent)
    for height, colour, wide in ((0.5, e.blend(p.far, p.glow, 0.4), 0.16), (0.58, p.far, 0.24)):
        for _ in range(3):
            left, top = e.between(-0.15, 0.95), e.between(height - 0.1, height)
            e.shape(((left - 0.05, 0.8), (left, top), (left + wide, top), (left + wide + 0.06, 0.8)), colour)
    e.ridge(0.7, 0.01, e.blend(p.far, p.near, 0.6))
    e.ridge(0.82, 0.02, p.near)
    cactus(e, e.between(0.12, 0.3) if x > 0.5 else e.between(0.7, 0.88), 0.72, 0.2, p.near, p.near)


def open_road(e: Easel) -> None:
    p, x = e.palette, e.between(0.3, 0.7)
    e.light(x, 0.5, 0.9, p.accent, 0.8)
    e.pie(x, 0.5, e.between(0.2, 0.3), (180, 360), p.accent)
    e.block(0, 0.5, 1, 1, e.blend(p.far, p.near, 0.35))
    for left in (-0.1, 0.25, 0.7):
        top = e.between(0.43, 0.48)
        e.shape(((left, 0.505), (left + 0.06, top), (left + 0.25, top), (left + 0.34, 0.505)), p.far)
    e.shape(((x - 0.01, 0.5), (x + 0.01, 0.5), (x + 0.5, 1), (x - 0.45, 1)), p.near)
    for share in (0.06, 0.12, 0.24, 0.48, 0.96):
        foot, side = 0.5 + 0.36 * share, x + 0.03 + 0.5 * share
        top = foot - 0.5 * share
        e.stroke(((side, foot), (side, top)), max(0.006, 0.035 * share), p.near)
        e.stroke(
            ((side - 0.1 * share, top + 0.06 * share), (side + 0.1 * share, top + 0.06 * share)), 0.025 * share, p.near
        )


def _stars(e: Easel, bottom: float, number: int, colour: Colour) -> None:
    for _ in range(number):
        e.disc(e.between(0, 1), e.between(0, bottom), e.chance.choice((0.002, 0.003, 0.006)), colour)


def ringed_world(e: Easel) -> None:
    p, x, y = e.palette, e.between(0.35, 0.65), e.between(0.3, 0.42)
    _stars(e, 0.8, 90, e.blend(p.paper, p.sky, 0.3))
    e.light(x, y, 0.7, p.accent, 0.45)
    planet(e, x, y, e.between(0.24, 0.34), p.accent, p.far)
    e.disc(e.between(0.1, 0.25), e.between(0.1, 0.2), 0.045, p.far)
    e.ridge(0.72, 0.05, p.far, 7)
    e.ridge(0.82, 0.03, p.near, 11)
    dome = e.between(0.15, 0.7)
    e.pie(dome, 0.83, 0.13, (180, 360), p.near)
    for window in range(3):
        e.disc(dome - 0.06 + 0.06 * window, 0.8, 0.012, p.accent)


def leaving_orbit(e: Easel) -> None:
    p = e.palette
    _stars(e, 0.75, 110, e.blend(p.paper, p.sky, 0.3))
    x, big = e.between(0.1, 0.9), e.between(0.75, 1.0)
    e.light(x, 1.05, big * 1.5, p.accent, 0.8)
    e.disc(x, 1.1, big, p.far)
    e.disc(x + 0.06, 1.14, big, p.near)
    to_x, to_y = e.between(0.25, 0.75), e.between(0.2, 0.34)
    trail = [(to_x + (x - to_x) * n / 8 + 0.14 * (n / 8) * (1 - n / 8), to_y + (0.72 - to_y) * n / 8) for n in range(9)]
    e.stroke(trail, 0.02, p.accent)
    rocket(e, to_x, to_y, 0.17, p.paper, p.far)


def moonlit_sea(e: Easel) -> None:
    p, x, y = e.palette, e.between(0.25, 0.75), e.between(0.28, 0.4)
    e.light(x, y, 0.8, p.accent, 0.7)
    e.disc(x, y, e.between(0.14, 0.24), p.accent)
    sea = e.between(0.56, 0.62)
    e.block(0, sea, 1, 1, p.far)
    for row in range(9):
        level, wide = sea + 0.015 + row * 0.03, 0.05 + 0.025 * row
        e.stroke(((x - wide * e.between(0.5, 1), level), (x + wide * e.between(0.5, 1), level)), 0.014, p.accent)
    e.wave(0.86, 0.012, p.near, 2)
    for boat, big in ((x - e.between(0.1, 0.24), 0.16), (x + e.between(0.08, 0.2), 0.2)):
        _sail(e, boat, sea + 0.14, big, p.near, p.paper)


def _sail(e: Easel, x: float, y: float, r: float, colour: Colour, cloth: Colour) -> None:
    t = r / e.tall
    e.shape(((x - 0.7 * r, y), (x + 0.7 * r, y), (x + 0.4 * r, y + 0.3 * t), (x - 0.45 * r, y + 0.3 * t)), colour)
    e.shape(((x, y - 0.06 * t), (x, y - 1.4 * t), (x + 0.6 * r, y - 0.06 * t)), cloth)
    e.shape(
        ((x - 0.06 * r, y - 0.06 * t), (x - 0.06 * r, y - 1.1 * t), (x - 0.5 * r, y - 0.06 * t)),
        e.blend(cloth, colour, 0.25),
    )


def heart_tree(e: Easel) -> None:
    p, x = e.palette, e.between(0.35, 0.65)
    e.light(x, 0.36, 0.85, p.paper, 0.6)
    e.wave(0.68, 0.03, p.far, 0.8)
    e.wave(0.78, 0.025, p.near, 0.7)
    e.stroke(((x, 0.84), (x + 0.01, 0.62), (x, 0.42)), 0.045, p.near)
    for side in (-0.13, 0.12):
        e.stroke(((x, 0.56), (x + side, 0.44)), 0.022, p.near)
    e.heart(x, 0.36, e.between(0.3, 0.36), p.accent)
    for _ in range(16):
        e.heart(e.between(0.05, 0.95), e.between(0.12, 0.76), e.between(0.012, 0.028), p.accent)


def _bare_tree(e: Easel, x: float, foot: float, high: float, colour: Colour) -> None:
    def branch(start: tuple[float, float], angle: float, length: float, thick: float) -> None:
        end = e.polar(*start, length, angle)
        e.stroke((start, end), thick, colour)
        if length > 0.035:
            for turn in (e.between(-48, -18), e.between(18, 48)):
                branch(end, angle + turn, length * e.between(0.6, 0.78), thick * 0.62)

    branch((x, foot), -90 + e.between(-8, 8), high, 0.18 * high)


def house_on_the_hill(e: Easel) -> None:
    p, x = e.palette, e.between(0.35, 0.65)
    e.light(x, 0.4, 0.8, p.accent, 0.4)
    e.disc(x + e.between(-0.1, 0.1), 0.36, e.between(0.24, 0.32), e.blend(p.accent, p.paper, 0.5))
    hill = [(n / 20, 0.66 + 0.6 * (n / 20 - x) ** 2) for n in range(21)]
    e.shape([(0, 1), *hill, (1, 1)], p.near)
    e.block(x - 0.1, 0.5, x + 0.1, 0.7, p.near)
    e.shape(((x - 0.14, 0.51), (x, 0.42), (x + 0.14, 0.51)), p.near)
    e.block(x + 0.04, 0.4, x + 0.1, 0.6, p.near)
    e.shape(((x + 0.02, 0.41), (x + 0.07, 0.35), (x + 0.12, 0.41)), p.near)
    e.block(x - 0.06, 0.56, x - 0.025, 0.6, p.accent)
    for side in (e.between(0.02, 0.16), e.between(0.82, 0.98)):
        _bare_tree(e, side, 0.9, e.between(0.16, 0.24), p.near)
