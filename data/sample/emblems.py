"""Emblems of the sample's posters: three for each genre, each drawn around a point in one colour on another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .easel import Colour, Easel

    Emblem = Callable[[Easel, float, float, float, Colour, Colour], None]


def cactus(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
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


def planet(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
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


def rocket(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.shape(
        (
            (x - 0.6 * r, y + 0.9 * t),
            (x - 0.2 * r, y + 0.1 * t),
            (x + 0.2 * r, y + 0.1 * t),
            (x + 0.6 * r, y + 0.9 * t),
        ),
        colour,
    )
    body = [
        (0, -1.2),
        (0.18, -0.85),
        (0.3, -0.4),
        (0.3, 0.2),
        (0.2, 0.75),
        (-0.2, 0.75),
        (-0.3, 0.2),
        (-0.3, -0.4),
        (-0.18, -0.85),
    ]
    e.shape([(x + a * r, y + b * t) for a, b in body], colour)
    e.disc(x, y - 0.35 * t, 0.15 * r, back)
    e.shape(((x - 0.14 * r, y + 0.8 * t), (x + 0.14 * r, y + 0.8 * t), (x, y + 1.3 * t)), e.palette.accent)


def _orbits(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    for share in (0.5, 0.75, 1.0):
        e.ring(x, y, share * r, 0.045 * r, colour)
        e.disc(*e.polar(x, y, share * r, e.between(0, 360)), 0.1 * r, colour)
    e.disc(x, y, 0.26 * r, colour)
    e.disc(x + 0.07 * r, y - 0.07 * r / e.tall, 0.16 * r, back)


def _heart(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    e.heart(x, y, r, colour)


def _two_rings(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    e.ring(x - 0.4 * r, y, 0.62 * r, 0.1 * r, colour)
    e.ring(x + 0.4 * r, y, 0.62 * r, 0.1 * r, colour)
    e.heart(x, y, 0.16 * r, colour)


def _rose(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.stroke(
        ((x, y), (x + 0.08 * r, y + 0.7 * t), (x, y + 1.5 * t)),
        0.07 * r,
        e.palette.near if colour != e.palette.near else colour,
    )
    for ring, petals, size in ((0.5, 7, 0.36), (0.32, 5, 0.3), (0.14, 3, 0.22)):
        for petal in range(petals):
            centre = e.polar(x, y, ring * r, 360 * petal / petals + 40 * ring)
            e.disc(*centre, size * r, e.blend(colour, back, 0.4))
            e.disc(*centre, size * r * 0.86, colour)
    e.disc(x, y, 0.1 * r, e.blend(colour, back, 0.5))


def _eye(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    lid = [(n / 12 - 1, 0.55 * (1 - (n / 12 - 1) ** 2)) for n in range(25)]
    t = r / e.tall
    e.shape([(x + a * r, y - b * t) for a, b in lid] + [(x + a * r, y + b * t) for a, b in reversed(lid)], colour)
    e.disc(x, y, 0.44 * r, back)
    e.disc(x, y, 0.36 * r, e.palette.accent if e.palette.accent != colour else e.palette.far)
    e.oval(x, y, 0.1 * r, 3.2, back)
    for lash in range(-3, 4):
        e.stroke(
            (e.polar(x, y - 0.1 * t, 0.78 * r, -90 + 16 * lash), e.polar(x, y - 0.1 * t, 1.0 * r, -90 + 18 * lash)),
            0.035 * r,
            colour,
        )


def _keyhole(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.shape([e.polar(x, y, r * 1.02, angle) for angle in range(0, 360, 6)], colour)
    e.disc(x, y - 0.25 * t, 0.3 * r, back)
    e.shape(
        (
            (x - 0.14 * r, y - 0.1 * t),
            (x + 0.14 * r, y - 0.1 * t),
            (x + 0.3 * r, y + 0.65 * t),
            (x - 0.3 * r, y + 0.65 * t),
        ),
        back,
    )
    e.disc(x - 0.06 * r, y - 0.25 * t, 0.05 * r, colour)
    e.disc(x + 0.08 * r, y - 0.25 * t, 0.05 * r, colour)


def _claws(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    t = r / e.tall
    for scratch in range(4):
        left, long = x + (scratch - 1.7) * 0.46 * r, (0.85, 1.1, 1.0, 0.75)[scratch]
        e.shape(
            ((left + 0.34 * r, y - long * t), (left + 0.2 * r, y), (left - 0.26 * r, y + long * t), (left, y)), colour
        )


def balloons(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    shades = (colour, e.blend(colour, back, 0.45), e.blend(colour, e.palette.near, 0.35))
    for number, (across, down) in enumerate(((-0.65, 0.0), (0.62, 0.05), (0, -0.45))):
        cx, cy = x + across * r, y + down * t
        e.stroke(((cx, cy + 0.6 * t), (x, y + 1.9 * t)), 0.02 * r, e.palette.near)
        e.oval(cx, cy, 0.46 * r, 1.2, shades[number])
        e.oval(cx - 0.15 * r, cy - 0.2 * t, 0.09 * r, 1.5, back)


def umbrella(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.pie(x, y, r, (180, 360), colour)
    for scallop in range(5):
        e.disc(x + (scallop - 2) * 0.4 * r, y, 0.2 * r, back)
    e.stroke(((x, y - 1.12 * t), (x, y + 0.75 * t)), 0.07 * r, colour)
    e.arc(x + 0.18 * r, y + 0.75 * t, 0.215 * r, (0, 180), 0.07 * r, colour)


def bow_tie(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    for side in (-1, 1):
        e.shape(((x, y), (x + side * r, y - 0.6 * t), (x + 0.86 * side * r, y), (x + side * r, y + 0.6 * t)), colour)
        for dot in ((0.5, 0.0), (0.72, -0.22), (0.72, 0.22)):
            e.disc(x + side * dot[0] * r, y + dot[1] * t, 0.06 * r, back)
    e.disc(x, y, 0.2 * r, e.blend(colour, back, 0.25))


def grin(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.disc(x, y, r, colour)
    for side in (-0.36, 0.36):
        e.oval(x + side * r, y - 0.3 * t, 0.11 * r, 1.6, back)
    e.pie(x, y + 0.08 * t, 0.62 * r, (0, 180), back)


def fedora(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.oval(x, y, r, 0.2, colour)
    crown = ((-0.58, 0), (-0.5, -0.62), (-0.25, -0.8), (0, -0.66), (0.25, -0.8), (0.5, -0.62), (0.58, 0))
    e.shape([(x + a * r, y + b * t) for a, b in crown], colour)
    e.shape([(x + a * r, y + b * t) for a, b in ((-0.58, -0.02), (-0.555, -0.2), (0.555, -0.2), (0.58, -0.02))], back)


def _fingerprint(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    for line in range(7):
        size, gap = r * (0.16 + 0.14 * line), e.between(15, 60)
        box = (
            x * e.width - size * e.width * 0.78,
            y * e.height - size * e.width,
            x * e.width + size * e.width * 0.78,
            y * e.height + size * e.width,
        )
        e.draw.arc(
            box, 90 + gap / 2, 90 - gap / 2 - e.between(0, 40), fill=colour, width=max(1, round(0.075 * r * e.width))
        )
    e.stroke(((x, y - 0.05 * r), (x + 0.03 * r, y + 0.5 * r / e.tall)), 0.06 * r, colour)


def _magnifier(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    e.stroke((e.polar(x, y, 0.5 * r, 45), e.polar(x, y, 1.35 * r, 45)), 0.22 * r, colour)
    e.disc(x - 0.15 * r, y - 0.15 * r / e.tall, 0.72 * r, colour)
    e.disc(x - 0.15 * r, y - 0.15 * r / e.tall, 0.58 * r, back)
    e.disc(x - 0.15 * r, y - 0.2 * r / e.tall, 0.2 * r, colour)
    e.pie(x - 0.15 * r, y + 0.33 * r / e.tall, 0.36 * r, (180, 360), colour)


def aeroplane(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    t = r / e.tall
    e.oval(x, y, 0.14 * r, 6.6, colour)
    e.shape(
        (
            (x - r, y + 0.05 * t),
            (x, y - 0.4 * t),
            (x + r, y + 0.05 * t),
            (x + r, y + 0.2 * t),
            (x, y + 0.1 * t),
            (x - r, y + 0.2 * t),
        ),
        colour,
    )
    e.shape(((x - 0.42 * r, y + 0.85 * t), (x, y + 0.6 * t), (x + 0.42 * r, y + 0.85 * t), (x, y + 0.9 * t)), colour)


def _helmet(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.pie(x, y, 0.86 * r, (180, 360), colour)
    e.shape(
        (
            (x - 1.05 * r, y + 0.14 * t),
            (x - 0.84 * r, y - 0.12 * t),
            (x + 0.84 * r, y - 0.12 * t),
            (x + 1.05 * r, y + 0.14 * t),
        ),
        colour,
    )
    e.star(x, y - 0.42 * t, 0.24 * r, 5, back)
    e.stroke(
        (
            (x - 0.66 * r, y + 0.14 * t),
            (x - 0.3 * r, y + 0.7 * t),
            (x + 0.3 * r, y + 0.7 * t),
            (x + 0.66 * r, y + 0.14 * t),
        ),
        0.06 * r,
        colour,
    )


def _medal(e: Easel, x: float, y: float, r: float, colour: Colour, back: Colour) -> None:
    t = r / e.tall
    e.shape(
        (
            (x - 0.42 * r, y - 1.2 * t),
            (x + 0.42 * r, y - 1.2 * t),
            (x + 0.3 * r, y - 0.2 * t),
            (x - 0.3 * r, y - 0.2 * t),
        ),
        colour,
    )
    e.block(x - 0.12 * r, y - 1.2 * t, x + 0.12 * r, y - 0.2 * t, back)
    e.star(x, y + 0.35 * t, 0.78 * r, 5, colour, 0.5)
    e.disc(x, y + 0.35 * t, 0.22 * r, back)


def note(e: Easel, x: float, y: float, r: float, colour: Colour, _: Colour) -> None:
    t = r / e.tall
    e.oval(x - 0.25 * r, y + 0.7 * t, 0.34 * r, 0.74, colour)
    e.stroke(((x + 0.05 * r, y + 0.66 * t), (x + 0.05 * r, y - 0.9 * t)), 0.09 * r, colour)
    e.shape(
        (
            (x, y - 0.95 * t),
            (x + 0.62 * r, y - 0.3 * t),
            (x + 0.56 * r, y + 0.15 * t),
            (x + 0.42 * r, y - 0.2 * t),
            (x, y - 0.5 * t),
        ),
        colour,
    )


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
        e.stroke(
            ((x - 0.36 * r, y + (0.16 * row - 0.45) * t), (x + 0.36 * r, y + (0.16 * row - 0.45) * t)), 0.025 * r, back
        )
    e.arc(x, y - 0.35 * t, 0.62 * r, (10, 170), 0.07 * r, colour)
    e.stroke(((x, y + 0.25 * t), (x, y + 0.9 * t)), 0.08 * r, colour)
    e.stroke(((x - 0.4 * r, y + 0.92 * t), (x + 0.4 * r, y + 0.92 * t)), 0.08 * r, colour)


EMBLEMS: dict[str, tuple[Emblem, ...]] = {
    "Western": (cactus, _sheriff_star, _horseshoe),
    "Sci-Fi": (planet, rocket, _orbits),
    "Romance": (_heart, _two_rings, _rose),
    "Horror": (_eye, _keyhole, _claws),
    "Comedy": (balloons, umbrella, bow_tie),
    "Crime": (fedora, _fingerprint, _magnifier),
    "War": (aeroplane, _helmet, _medal),
    "Musical": (note, _record, _microphone),
}
