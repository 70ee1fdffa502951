"""What the sample's posters show: two scenes and several emblems for each genre, drawn on an easel.

A scene fills the easel; its sky is there already. An emblem stands around a point, in one colour on a ground of another.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sample_easel import Colour, Easel

    Scene = Callable[[Easel], None]
    Emblem = Callable[[Easel, float, float, float, Colour, Colour], None]


def _mesas(e: Easel) -> None:
    p, x = e.palette, e.between(0.2, 0.8)
    e.light(x, 0.42, 0.75, p.accent, 0.6)
    e.disc(x, e.between(0.36, 0.46), e.between(0.13, 0.24), p.accent)
    for height, colour, wide in ((0.5, e.blend(p.far, p.glow, 0.4), 0.16), (0.58, p.far, 0.24)):
        for _ in range(3):
            left, top = e.between(-0.15, 0.95), e.between(height - 0.1, height)
            e.shape(((left - 0.05, 0.8), (left, top), (left + wide, top), (left + wide + 0.06, 0.8)), colour)
    e.ridge(0.7, 0.01, e.blend(p.far, p.near, 0.6))
    e.ridge(0.82, 0.02, p.near)
    _cactus(e, e.between(0.12, 0.3) if x > 0.5 else e.between(0.7, 0.88), 0.72, 0.2, p.near, p.near)


def _open_road(e: Easel) -> None:
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
        e.stroke(((side - 0.1 * share, top + 0.06 * share), (side + 0.1 * share, top + 0.06 * share)), 0.025 * share, p.near)


def _cactus(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    t = r / e.tall
    e.stroke(((x, y + t), (x, y - 0.95 * t)), 0.34 * r, colour)
    e.disc(x, y - 0.95 * t, 0.17 * r, colour)
    for side, low, high in ((-0.6, 0.25, -0.4), (0.58, 0.5, -0.15)):
        e.stroke(((x, y + low * t), (x + side * r, y + low * t), (x + side * r, y + high * t)), 0.22 * r, colour)
        e.disc(x + side * r, y + high * t, 0.11 * r, colour)


def _sheriff_star(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    e.star(x, y, r * 0.9, 5, colour, 0.5)
    for corner in range(5):
        e.disc(*e.polar(x, y, 0.9 * r, 72 * corner - 90), 0.13 * r, colour)
    e.ring(x, y, 0.38 * r, 0.05 * r, back)
    e.star(x, y, 0.26 * r, 5, back)


def _horseshoe(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    e.arc(x, y, r, (120, 60), 0.3 * r, colour)
    for angle in (125, 165, 205, 245, 295, 335, 15, 55):
        e.disc(*e.polar(x, y, 0.85 * r, angle), 0.05 * r, back)


def _stars(e: Easel, bottom: float, number: int, colour: Colour) -> None:
    for _ in range(number):
        e.disc(e.between(0, 1), e.between(0, bottom), e.chance.choice((0.002, 0.003, 0.006)), colour)


def _ringed_world(e: Easel) -> None:
    p, x, y = e.palette, e.between(0.35, 0.65), e.between(0.3, 0.42)
    _stars(e, 0.8, 90, e.blend(p.paper, p.sky, 0.3))
    e.light(x, y, 0.7, p.accent, 0.45)
    _planet(e, x, y, e.between(0.24, 0.34), p.accent, p.far)
    e.disc(e.between(0.1, 0.25), e.between(0.1, 0.2), 0.045, p.far)
    e.ridge(0.72, 0.05, p.far, 7)
    e.ridge(0.82, 0.03, p.near, 11)
    dome = e.between(0.15, 0.7)
    e.pie(dome, 0.83, 0.13, (180, 360), p.near)
    for window in range(3):
        e.disc(dome - 0.06 + 0.06 * window, 0.8, 0.012, p.accent)


def _leaving_orbit(e: Easel) -> None:
    p = e.palette
    _stars(e, 0.75, 110, e.blend(p.paper, p.sky, 0.3))
    x, big = e.between(0.1, 0.9), e.between(0.75, 1.0)
    e.light(x, 1.05, big * 1.5, p.accent, 0.8)
    e.disc(x, 1.1, big, p.far)
    e.disc(x + 0.06, 1.14, big, p.near)
    to_x, to_y = e.between(0.25, 0.75), e.between(0.2, 0.34)
    trail = [(to_x + (x - to_x) * n / 8 + 0.14 * (n / 8) * (1 - n / 8), to_y + (0.72 - to_y) * n / 8) for n in range(9)]
    e.stroke(trail, 0.02, p.accent)
    _rocket(e, to_x, to_y, 0.17, p.paper, p.far)


def _planet(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    e.ring(x, y, 1.55 * r, 0.1 * r, colour, 0.32)
    e.disc(x, y, r, colour)
    for band in (-0.45, -0.1, 0.3):
        wide = r * (1 - band * band) ** 0.5
        e.stroke(((x - wide * 0.96, y + band * r / e.tall), (x + wide * 0.96, y + band * r / e.tall)), 0.09 * r, back)
    # the ring's near side passes in front
    size = (e.width * 1.55 * r, e.width * 1.55 * r * 0.32)
    box = (x * e.width - size[0], y * e.height - size[1], x * e.width + size[0], y * e.height + size[1])
    e.draw.arc(box, 10, 170, fill=back, width=max(1, round(0.16 * r * e.width)))
    e.draw.arc(box, 5, 175, fill=colour, width=max(1, round(0.09 * r * e.width)))


def _rocket(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.shape(((x - 0.6 * r, y + 0.9 * t), (x - 0.2 * r, y + 0.1 * t), (x + 0.2 * r, y + 0.1 * t), (x + 0.6 * r, y + 0.9 * t)), colour)
    body = [(0, -1.2), (0.18, -0.85), (0.3, -0.4), (0.3, 0.2), (0.2, 0.75), (-0.2, 0.75), (-0.3, 0.2), (-0.3, -0.4), (-0.18, -0.85)]
    e.shape([(x + a * r, y + b * t) for a, b in body], colour)
    e.disc(x, y - 0.35 * t, 0.15 * r, back)
    e.shape(((x - 0.14 * r, y + 0.8 * t), (x + 0.14 * r, y + 0.8 * t), (x, y + 1.3 * t)), e.palette.accent)


def _orbits(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    for share in (0.5, 0.75, 1.0):
        e.ring(x, y, share * r, 0.045 * r, colour)
        e.disc(*e.polar(x, y, share * r, e.between(0, 360)), 0.1 * r, colour)
    e.disc(x, y, 0.26 * r, colour)
    e.disc(x + 0.07 * r, y - 0.07 * r / e.tall, 0.16 * r, back)


def _moonlit_sea(e: Easel) -> None:
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
    e.shape(((x - 0.06 * r, y - 0.06 * t), (x - 0.06 * r, y - 1.1 * t), (x - 0.5 * r, y - 0.06 * t)), e.blend(cloth, colour, 0.25))


def _heart_tree(e: Easel) -> None:
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


def _heart(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    e.heart(x, y, r, colour)


def _two_rings(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    e.ring(x - 0.4 * r, y, 0.62 * r, 0.1 * r, colour)
    e.ring(x + 0.4 * r, y, 0.62 * r, 0.1 * r, colour)
    e.heart(x, y, 0.16 * r, colour)


def _rose(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.stroke(((x, y), (x + 0.08 * r, y + 0.7 * t), (x, y + 1.5 * t)), 0.07 * r, e.palette.near if colour != e.palette.near else colour)
    for ring, petals, size in ((0.5, 7, 0.36), (0.32, 5, 0.3), (0.14, 3, 0.22)):
        for petal in range(petals):
            centre = e.polar(x, y, ring * r, 360 * petal / petals + 40 * ring)
            e.disc(*centre, size * r, e.blend(colour, back, 0.4))
            e.disc(*centre, size * r * 0.86, colour)
    e.disc(x, y, 0.1 * r, e.blend(colour, back, 0.5))


def _bare_tree(e: Easel, x: float, foot: float, high: float, colour: Colour) -> None:
    def branch(start: tuple[float, float], angle: float, length: float, thick: float) -> None:
        end = e.polar(*start, length, angle)
        e.stroke((start, end), thick, colour)
        if length > 0.035:
            for turn in (e.between(-48, -18), e.between(18, 48)):
                branch(end, angle + turn, length * e.between(0.6, 0.78), thick * 0.62)

    branch((x, foot), -90 + e.between(-8, 8), high, 0.18 * high)


def _house_on_the_hill(e: Easel) -> None:
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
    e.shape(((x - 0.1, y + 0.18), (x + 0.1, y + 0.18), (x + 0.3, y + 0.54), (x - 0.3, y + 0.54)), e.blend(p.accent, p.near, 0.55))
    e.disc(x, y - 0.055, 0.03, p.near)
    e.shape(((x - 0.035, y - 0.03), (x + 0.035, y - 0.03), (x + 0.055, y + 0.18), (x - 0.055, y + 0.18)), p.near)
    e.shape(((x - 0.055, y + 0.18), (x + 0.055, y + 0.18), (x + 0.1, y + 0.42), (x - 0.12, y + 0.42)), p.near)


def _eye(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    lid = [(n / 12 - 1, 0.55 * (1 - (n / 12 - 1) ** 2)) for n in range(25)]
    t = r / e.tall
    e.shape([(x + a * r, y - b * t) for a, b in lid] + [(x + a * r, y + b * t) for a, b in reversed(lid)], colour)
    e.disc(x, y, 0.44 * r, back)
    e.disc(x, y, 0.36 * r, e.palette.accent if e.palette.accent != colour else e.palette.far)
    e.oval(x, y, 0.1 * r, 3.2, back)
    for lash in range(-3, 4):
        e.stroke((e.polar(x, y - 0.1 * t, 0.78 * r, -90 + 16 * lash), e.polar(x, y - 0.1 * t, 1.0 * r, -90 + 18 * lash)), 0.035 * r, colour)


def _keyhole(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.shape([e.polar(x, y, r * 1.02, angle) for angle in range(0, 360, 6)], colour)
    e.disc(x, y - 0.25 * t, 0.3 * r, back)
    e.shape(((x - 0.14 * r, y - 0.1 * t), (x + 0.14 * r, y - 0.1 * t), (x + 0.3 * r, y + 0.65 * t), (x - 0.3 * r, y + 0.65 * t)), back)
    e.disc(x - 0.06 * r, y - 0.25 * t, 0.05 * r, colour)
    e.disc(x + 0.08 * r, y - 0.25 * t, 0.05 * r, colour)


def _claws(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    t = r / e.tall
    for scratch in range(4):
        left, long = x + (scratch - 1.7) * 0.46 * r, (0.85, 1.1, 1.0, 0.75)[scratch]
        e.shape(((left + 0.34 * r, y - long * t), (left + 0.2 * r, y), (left - 0.26 * r, y + long * t), (left, y)), colour)


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
        e.shape([e.polar(x, y, size, e.between(0, 20) + 90 * corner) for corner in range(4)], e.chance.choice(colours[:3]))
    e.wave(0.8, 0.02, p.far, 1)
    _balloons(e, e.between(0.35, 0.65), 0.5, 0.26, p.accent, p.paper)
    e.wave(0.87, 0.015, p.near, 1.3)


def _sunburst(e: Easel) -> None:
    p, x, y = e.palette, e.between(0.35, 0.65), e.between(0.42, 0.52)
    rays = e.chance.choice((20, 24, 28))
    for ray in range(0, rays, 2):
        e.shape(((x, y), e.polar(x, y, 2, 360 * ray / rays), e.polar(x, y, 2, 360 * (ray + 1) / rays)), e.blend(p.sky, p.accent, 0.55))
    e.disc(x, y, 0.36, p.paper)
    e.chance.choice((_umbrella, _bow_tie, _grin))(e, x, y, 0.26, p.near, p.paper)
    e.block(0, 0.86, 1, 1, p.near)


def _balloons(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    shades = (colour, e.blend(colour, back, 0.45), e.blend(colour, e.palette.near, 0.35))
    for number, (across, down) in enumerate(((-0.65, 0.0), (0.62, 0.05), (0, -0.45))):
        cx, cy = x + across * r, y + down * t
        e.stroke(((cx, cy + 0.6 * t), (x, y + 1.9 * t)), 0.02 * r, e.palette.near)
        e.oval(cx, cy, 0.46 * r, 1.2, shades[number])
        e.oval(cx - 0.15 * r, cy - 0.2 * t, 0.09 * r, 1.5, back)


def _umbrella(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.pie(x, y, r, (180, 360), colour)
    for scallop in range(5):
        e.disc(x + (scallop - 2) * 0.4 * r, y, 0.2 * r, back)
    e.stroke(((x, y - 1.12 * t), (x, y + 0.75 * t)), 0.07 * r, colour)
    e.arc(x + 0.18 * r, y + 0.75 * t, 0.215 * r, (0, 180), 0.07 * r, colour)


def _bow_tie(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    for side in (-1, 1):
        e.shape(((x, y), (x + side * r, y - 0.6 * t), (x + 0.86 * side * r, y), (x + side * r, y + 0.6 * t)), colour)
        for dot in ((0.5, 0.0), (0.72, -0.22), (0.72, 0.22)):
            e.disc(x + side * dot[0] * r, y + dot[1] * t, 0.06 * r, back)
    e.disc(x, y, 0.2 * r, e.blend(colour, back, 0.25))


def _grin(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.disc(x, y, r, colour)
    for side in (-0.36, 0.36):
        e.oval(x + side * r, y - 0.3 * t, 0.11 * r, 1.6, back)
    e.pie(x, y + 0.08 * t, 0.62 * r, (0, 180), back)


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
    e.shape(((x - 0.42, 1), (x - 0.36, 0.66), (x - 0.12, 0.58), (x + 0.12, 0.58), (x + 0.36, 0.66), (x + 0.42, 1)), p.near)
    e.oval(x, 0.47, 0.13, 1.35, p.near)
    _fedora(e, x, 0.4, 0.25, p.near, p.far)
    for slat in range(15):
        top = slat * 0.07 - 0.04
        e.shape(((0, top + slope), (1, top - slope), (1, top - slope + 0.026), (0, top + slope + 0.026)), e.blend(p.near, p.sky, 0.3))


def _fedora(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.oval(x, y, r, 0.2, colour)
    crown = ((-0.58, 0), (-0.5, -0.62), (-0.25, -0.8), (0, -0.66), (0.25, -0.8), (0.5, -0.62), (0.58, 0))
    e.shape([(x + a * r, y + b * t) for a, b in crown], colour)
    e.shape([(x + a * r, y + b * t) for a, b in ((-0.58, -0.02), (-0.555, -0.2), (0.555, -0.2), (0.58, -0.02))], back)


def _fingerprint(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    for line in range(7):
        size, gap = r * (0.16 + 0.14 * line), e.between(15, 60)
        box = (x * e.width - size * e.width * 0.78, y * e.height - size * e.width, x * e.width + size * e.width * 0.78, y * e.height + size * e.width)
        e.draw.arc(box, 90 + gap / 2, 90 - gap / 2 - e.between(0, 40), fill=colour, width=max(1, round(0.075 * r * e.width)))
    e.stroke(((x, y - 0.05 * r), (x + 0.03 * r, y + 0.5 * r / e.tall)), 0.06 * r, colour)


def _magnifier(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    e.stroke((e.polar(x, y, 0.5 * r, 45), e.polar(x, y, 1.35 * r, 45)), 0.22 * r, colour)
    e.disc(x - 0.15 * r, y - 0.15 * r / e.tall, 0.72 * r, colour)
    e.disc(x - 0.15 * r, y - 0.15 * r / e.tall, 0.58 * r, back)
    e.disc(x - 0.15 * r, y - 0.2 * r / e.tall, 0.2 * r, colour)
    e.pie(x - 0.15 * r, y + 0.33 * r / e.tall, 0.36 * r, (180, 360), colour)


def _searchlights(e: Easel) -> None:
    p = e.palette
    for foot in (0.15, 0.5, 0.85):
        head = foot + e.between(-0.45, 0.45)
        e.shape(((foot, 0.8), (head - 0.09, -0.02), (head + 0.09, -0.02)), e.blend(p.sky, p.accent, 0.45))
    for _ in range(e.chance.choice((2, 3, 4))):
        _aeroplane(e, e.between(0.12, 0.88), e.between(0.1, 0.42), e.between(0.05, 0.1), p.near, p.far)
    x = 0.0
    while x < 1:
        wide, top = e.between(0.07, 0.16), e.between(0.58, 0.76)
        e.shape(((x, 1), (x, top), (x + wide * 0.4, top + 0.03), (x + wide * 0.55, top - 0.03), (x + wide, top + 0.06), (x + wide, 1)), p.far)
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
        for (left, high), (right, low) in zip(posts, posts[1:], strict=False):
            line = [(left + (right - left) * n / 8, high + strand + (low - high) * n / 8 + 0.03 * (1 - (n / 4 - 1) ** 2)) for n in range(9)]
            e.stroke(line, 0.007, p.near)
            for a, b in line[1::2]:
                e.stroke(((a - 0.018, b - 0.014), (a + 0.018, b + 0.014)), 0.007, p.near)
                e.stroke(((a - 0.018, b + 0.014), (a + 0.018, b - 0.014)), 0.007, p.near)


def _aeroplane(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    t = r / e.tall
    e.oval(x, y, 0.14 * r, 6.6, colour)
    e.shape(((x - r, y + 0.05 * t), (x, y - 0.4 * t), (x + r, y + 0.05 * t), (x + r, y + 0.2 * t), (x, y + 0.1 * t), (x - r, y + 0.2 * t)), colour)
    e.shape(((x - 0.42 * r, y + 0.85 * t), (x, y + 0.6 * t), (x + 0.42 * r, y + 0.85 * t), (x, y + 0.9 * t)), colour)


def _helmet(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.pie(x, y, 0.86 * r, (180, 360), colour)
    e.shape(((x - 1.05 * r, y + 0.14 * t), (x - 0.84 * r, y - 0.12 * t), (x + 0.84 * r, y - 0.12 * t), (x + 1.05 * r, y + 0.14 * t)), colour)
    e.star(x, y - 0.42 * t, 0.24 * r, 5, back)
    e.stroke(((x - 0.66 * r, y + 0.14 * t), (x - 0.3 * r, y + 0.7 * t), (x + 0.3 * r, y + 0.7 * t), (x + 0.66 * r, y + 0.14 * t)), 0.06 * r, colour)


def _medal(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.shape(((x - 0.42 * r, y - 1.2 * t), (x + 0.42 * r, y - 1.2 * t), (x + 0.3 * r, y - 0.2 * t), (x - 0.3 * r, y - 0.2 * t)), colour)
    e.block(x - 0.12 * r, y - 1.2 * t, x + 0.12 * r, y - 0.2 * t, back)
    e.star(x, y + 0.35 * t, 0.78 * r, 5, colour, 0.5)
    e.disc(x, y + 0.35 * t, 0.22 * r, back)


def _stage(e: Easel) -> None:
    p, x = e.palette, e.between(0.4, 0.6)
    e.shape(((x, -0.05), (x - 0.36, 0.8), (x + 0.36, 0.8)), e.blend(p.sky, p.accent, 0.55))
    e.block(0, 0.78, 1, 1, p.near)
    e.oval(x, 0.8, 0.36, 0.2, p.accent)
    e.disc(x, 0.485, 0.04, p.near)
    e.shape(((x - 0.02, 0.51), (x + 0.03, 0.51), (x + 0.06, 0.62), (x + 0.13, 0.8), (x - 0.13, 0.8), (x - 0.05, 0.62)), p.near)
    e.stroke(((x + 0.02, 0.54), (x + 0.1, 0.48), (x + e.between(0.12, 0.2), e.between(0.38, 0.44))), 0.02, p.near)
    e.stroke(((x - 0.01, 0.54), (x - 0.1, 0.58), (x - 0.15, 0.52)), 0.02, p.near)
    for side in (0, 1):
        for fold in range(5):
            edge = 0.26 - 0.055 * fold + e.between(-0.01, 0.01)
            shade = e.blend(p.far, p.near, 0.2 + 0.5 * (fold % 2))
            left, right = (0, edge) if side == 0 else (1 - edge, 1)
            foot = right + 0.02 if side == 0 else left - 0.02
            e.shape(((left, 0), (right, 0), (foot if side == 0 else right, 0.84), (left if side == 0 else foot, 0.84)), shade)
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
        _note(e, x, y, e.between(0.1, 0.14), (p.near, p.accent)[number % 2], p.glow)
    e.block(0, 0.72, 1, 1, p.paper if p.paper != p.glow else p.accent)
    for key in range(11):
        e.stroke(((key / 10, 0.72), (key / 10, 1)), 0.006, p.near)
        if key % 7 not in (2, 6):
            e.block(key / 10 + 0.068, 0.72, key / 10 + 0.132, 0.87, p.near)
    e.block(0, 0.7, 1, 0.725, p.far)


def _note(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    t = r / e.tall
    e.oval(x - 0.25 * r, y + 0.7 * t, 0.34 * r, 0.74, colour)
    e.stroke(((x + 0.05 * r, y + 0.66 * t), (x + 0.05 * r, y - 0.9 * t)), 0.09 * r, colour)
    e.shape(((x, y - 0.95 * t), (x + 0.62 * r, y - 0.3 * t), (x + 0.56 * r, y + 0.15 * t), (x + 0.42 * r, y - 0.2 * t), (x, y - 0.5 * t)), colour)


def _record(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    e.disc(x, y, r, colour)
    for groove in (0.9, 0.78, 0.66, 0.54):
        e.ring(x, y, groove * r, 0.018 * r, e.blend(colour, back, 0.35))
    e.disc(x, y, 0.36 * r, e.palette.accent if e.palette.accent != colour else e.palette.far)
    e.disc(x, y, 0.06 * r, back)


def _microphone(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.oval(x, y - 0.45 * t, 0.42 * r, 1.35, colour)
    for row in range(-2, 3):
        e.stroke(((x - 0.36 * r, y + (0.16 * row - 0.45) * t), (x + 0.36 * r, y + (0.16 * row - 0.45) * t)), 0.025 * r, back)
    e.arc(x, y - 0.35 * t, 0.62 * r, (10, 170), 0.07 * r, colour)
    e.stroke(((x, y + 0.25 * t), (x, y + 0.9 * t)), 0.08 * r, colour)
    e.stroke(((x - 0.4 * r, y + 0.92 * t), (x + 0.4 * r, y + 0.92 * t)), 0.08 * r, colour)


SCENES: dict[str, tuple[Scene, ...]] = {
    "Western": (_mesas, _open_road),
    "Sci-Fi": (_ringed_world, _leaving_orbit),
    "Romance": (_moonlit_sea, _heart_tree),
    "Horror": (_house_on_the_hill, _corridor),
    "Comedy": (_bunting, _sunburst),
    "Crime": (_skyline, _man_behind_blinds),
    "War": (_searchlights, _wire),
    "Musical": (_stage, _rising_notes),
}
EMBLEMS: dict[str, tuple[Emblem, ...]] = {
    "Western": (_cactus, _sheriff_star, _horseshoe),
    "Sci-Fi": (_planet, _rocket, _orbits),
    "Romance": (_heart, _two_rings, _rose),
    "Horror": (_eye, _keyhole, _claws),
    "Comedy": (_balloons, _umbrella, _bow_tie),
    "Crime": (_fedora, _fingerprint, _magnifier),
    "War": (_aeroplane, _helmet, _medal),
    "Musical": (_note, _record, _microphone),
}
