"""Posters of the sample's films: the scene or emblem of a genre, the palette of a mood, the layout of a manner.

A plot shows genre and mood too, but never the manner a film is made in: only a model that reads posters can learn it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image

from .easel import Colour, Easel, Palette, grain, lettering, luminance, mixed
from .emblems import EMBLEMS
from .scenes import SCENES

POSTER_SIZE = (240, 360)
MANNERS = ("epic", "intimate", "classical", "modernist")
IMPRINT = "GENERATED SAMPLE · THIS FILM DOES NOT EXIST"

_LARGER = 2  # drawn so many times larger, so that edges are smooth
_FULL = (POSTER_SIZE[0] * _LARGER, POSTER_SIZE[1] * _LARGER)
Box = tuple[float, float, float, float]  # left, top, right, bottom in shares of the poster


PALETTES: dict[str, tuple[Palette, ...]] = {
    "bright": (
        Palette((255, 209, 102), (255, 150, 80), (240, 102, 80), (44, 72, 104), (255, 246, 216), (255, 250, 232)),
        Palette((126, 214, 220), (255, 242, 196), (246, 170, 90), (196, 74, 62), (255, 224, 90), (255, 252, 240)),
        Palette((255, 190, 200), (255, 238, 180), (255, 132, 90), (110, 62, 120), (255, 252, 236), (255, 255, 246)),
        Palette((146, 226, 240), (252, 246, 180), (88, 190, 140), (24, 104, 116), (255, 122, 96), (255, 255, 240)),
        Palette((255, 226, 130), (255, 250, 226), (255, 146, 106), (198, 62, 48), (20, 150, 140), (255, 253, 240)),
    ),
    "dark": (
        Palette((10, 10, 18), (74, 16, 24), (46, 12, 20), (5, 4, 9), (202, 34, 42), (228, 216, 198)),
        Palette((8, 16, 20), (24, 54, 58), (16, 36, 40), (3, 7, 9), (188, 202, 150), (220, 224, 206)),
        Palette((20, 12, 28), (64, 28, 66), (40, 20, 50), (8, 5, 14), (216, 144, 64), (232, 218, 200)),
        Palette((14, 14, 15), (58, 54, 50), (36, 34, 32), (5, 5, 6), (176, 28, 26), (226, 222, 214)),
        Palette((6, 12, 30), (20, 40, 84), (12, 26, 58), (3, 5, 14), (206, 214, 226), (226, 230, 238)),
    ),
    "dreamy": (
        Palette((150, 170, 232), (242, 204, 228), (174, 154, 214), (82, 82, 156), (255, 247, 232), (255, 250, 246)),
        Palette((122, 192, 214), (228, 218, 246), (146, 170, 214), (62, 92, 146), (255, 214, 226), (255, 250, 252)),
        Palette((198, 178, 232), (252, 228, 218), (180, 150, 204), (102, 76, 148), (255, 250, 222), (255, 252, 248)),
        Palette((104, 128, 204), (196, 224, 238), (124, 154, 210), (50, 62, 128), (252, 232, 164), (248, 250, 255)),
    ),
    "tense": (
        Palette((238, 234, 222), (232, 226, 210), (206, 196, 180), (20, 20, 22), (216, 42, 26), (246, 244, 236)),
        Palette((228, 72, 30), (242, 124, 42), (160, 34, 20), (16, 14, 16), (248, 242, 226), (250, 246, 236)),
        Palette((242, 200, 24), (246, 208, 40), (196, 146, 12), (18, 18, 18), (204, 32, 22), (252, 246, 224)),
        Palette((196, 22, 28), (132, 10, 20), (98, 6, 14), (12, 8, 10), (242, 236, 224), (246, 240, 230)),
    ),
    "wistful": (
        Palette((132, 148, 140), (210, 200, 172), (116, 128, 120), (52, 64, 64), (226, 166, 96), (240, 234, 216)),
        Palette((96, 114, 128), (192, 186, 174), (96, 108, 118), (40, 50, 60), (230, 210, 174), (238, 234, 224)),
        Palette((164, 144, 116), (226, 212, 184), (146, 118, 94), (70, 54, 48), (124, 146, 146), (242, 234, 216)),
        Palette((112, 126, 98), (212, 208, 174), (104, 114, 86), (46, 54, 44), (216, 126, 76), (240, 236, 216)),
    ),
}  # fmt: skip


def draw_poster(title: str, genre: str, mood: str, manner: str, tagline: str = "") -> Image.Image:
    """Draw an RGB poster of POSTER_SIZE, the same for the same words."""
    chance = random.Random(f"{title}/{genre}/{mood}/{manner}")
    easel = Easel(_FULL, _shifted(chance.choice(PALETTES[mood]), chance), chance)
    _LAYOUTS[manner](easel, genre, title, tagline)
    return _printed(easel.image, chance)


def _epic(e: Easel, genre: str, title: str, tagline: str) -> None:
    """A scene from edge to edge, a wide title below or above it."""
    _paint_scene(e, genre)
    low = e.chance.random() < 0.7
    if low:
        _fade_to(e, 0.7, e.palette.near)
    box = (0.07, 0.78, 0.93, 0.91) if low else (0.07, 0.05, 0.93, 0.19)
    _set_title(e, title, box, lines=e.chance.choice((1, 2)), bold=e.chance.choice((1, 3)))
    _set_line(e, tagline, (0.1, 0.045, 0.9, 0.067) if low else (0.1, 0.21, 0.9, 0.232))
    _set_line(e, IMPRINT, (0.1, 0.955, 0.9, 0.972))


def _intimate(e: Easel, genre: str, title: str, tagline: str) -> None:
    """One emblem on an empty ground, small spaced letters."""
    p, ground = e.palette, e.blend(e.palette.sky, e.palette.glow, e.between(0, 1))
    e.block(0, 0, 1, 1, ground)
    x, y = e.chance.choice(((0.5, 0.4), (0.5, 0.58), (0.36, 0.42), (0.64, 0.42)))
    radius, behind = e.between(0.16, 0.22), ground
    e.light(x, y, 0.7, p.glow if luminance(ground) < 128 else p.paper, 0.55)
    match e.chance.choice(("nothing", "disc", "ring")):
        case "disc":
            behind = _readable(ground, (p.far, p.accent, p.near), 45)
            e.disc(x, y, radius * 1.55, behind)
        case "ring":
            e.ring(x, y, radius * 1.6, 0.006, _readable(ground, (p.near, p.paper), 60))
    e.chance.choice(EMBLEMS[genre])(e, x, y, radius, _readable(behind, (p.accent, p.near, p.paper)), behind)
    box = (0.1, 0.78, 0.9, 0.88) if y < 0.5 else (0.1, 0.12, 0.9, 0.22)
    rule = box[1] - 0.025 if y < 0.5 else box[3] + 0.025
    e.stroke(((0.42, rule), (0.58, rule)), 0.006, _readable(ground, (p.near, p.paper), 60))
    _set_title(e, title, box, lines=2, bold=1, tracking=0.22, stretch=1)
    _set_line(e, tagline, (0.2, 0.05, 0.8, 0.072) if y < 0.5 else (0.2, 0.85, 0.8, 0.872))
    _set_line(e, IMPRINT, (0.2, 0.945, 0.8, 0.958))


def _classical(e: Easel, genre: str, title: str, tagline: str) -> None:
    """A scene in a window of a broad frame, the title on the frame below."""
    p = e.palette
    frame = p.paper if luminance(p.sky) > 70 else mixed(p.near, p.far, 0.3)
    window: Box = (0.1, 0.07, 0.9, 0.7)
    size = round((window[2] - window[0]) * e.width), round((window[3] - window[1]) * e.height)
    inner = Easel(size, p, e.chance)
    _paint_scene(inner, genre)
    e.block(0, 0, 1, 1, frame)
    line = _readable(frame, (p.near, p.accent, p.far))
    shape = Easel(size, Palette(*[(0, 0, 0)] * 6), e.chance)
    match e.chance.choice(("square", "arch", "oval")):
        case "arch":
            shape.disc(0.5, 0.5 / shape.tall, 0.5, (255, 255, 255))
            shape.block(0, 0.5 / shape.tall, 1, 1, (255, 255, 255))
        case "oval":
            shape.oval(0.5, 0.5, 0.5, shape.tall, (255, 255, 255))
        case _:
            shape.block(0, 0, 1, 1, (255, 255, 255))
    e.image.paste(inner.image, (round(window[0] * e.width), round(window[1] * e.height)), shape.image.convert("L"))
    for inset, thick in ((0.03, 0.012), (0.05, 0.004)):
        corners = (
            (inset, inset / e.tall),
            (1 - inset, inset / e.tall),
            (1 - inset, 1 - inset / e.tall),
            (inset, 1 - inset / e.tall),
        )
        e.stroke((*corners, corners[0], corners[1]), thick, line)
    _set_title(e, title, (0.12, 0.74, 0.88, 0.87), lines=2, bold=1, tracking=0.08, stretch=1)
    _set_line(e, tagline, (0.15, 0.885, 0.85, 0.905))
    _set_line(e, IMPRINT, (0.15, 0.935, 0.85, 0.948))


def _modernist(e: Easel, genre: str, title: str, _: str) -> None:
    """Cut paper: slanting fields, an emblem larger than the sheet allows, heavy letters."""
    p = e.palette
    grounds = [p.sky, p.near, p.accent, p.far]
    e.chance.shuffle(grounds)
    first, second = grounds[:2]
    if abs(luminance(first) - luminance(second)) < 40:
        second = _readable(first, tuple(grounds))
    e.block(0, 0, 1, 1, first)
    low = e.chance.random() < 0.6  # either way the title stands on one field
    cut, lean = (
        e.between(0.34, 0.46) if low else e.between(0.54, 0.64),
        e.between(0.08, 0.15) * e.chance.choice((-1, 1)),
    )
    e.shape(((0, cut + lean), (1, cut - lean), (1, 1), (0, 1)), second)
    x, y = e.chance.choice((0.22, 0.5, 0.78)), 0.3 if low else 0.66
    beneath = _rgb(e.image.getpixel((round(x * e.width), round(y * e.height))))
    colour = _readable(beneath, (p.paper, p.accent, p.near))
    e.chance.choice(EMBLEMS[genre])(e, x, y, e.between(0.36, 0.46), colour, beneath)
    if not low:
        e.shape(((0, 1), (0, 0.93 - lean / 2), (1, 0.93 + lean / 2), (1, 1)), p.near)
    box = (0.06, 0.62, 0.94, 0.92) if low else (0.06, 0.05, 0.94, 0.34)
    _set_title(e, title, box, lines=3, bold=5, stretch=1.25)
    _set_line(e, IMPRINT, (0.06, 0.965, 0.7, 0.978))


def _paint_scene(e: Easel, genre: str) -> None:
    e.chance.choice(SCENES[genre])(e)
    if e.chance.random() < 0.5:
        e.mirror()


_LAYOUTS: dict[str, Callable[[Easel, str, str, str], None]] = {
    "epic": _epic,
    "intimate": _intimate,
    "classical": _classical,
    "modernist": _modernist,
}


def _set_title(
    e: Easel, title: str, box: Box, *, lines: int, bold: int, tracking: float = 0.02, stretch: float = 1.4
) -> None:
    """Fill the box with the title in so many lines at most; letters that ``stretch`` are capitals with a shadow."""
    capitals = stretch > 1 or e.chance.random() < 0.7
    rows = _broken(title.upper() if capitals else title, lines)
    high = (box[3] - box[1]) / len(rows)
    for number, row in enumerate(rows):
        place = (box[0], box[1] + high * (number + 0.06), box[2], box[1] + high * (number + 0.94))
        _set_line(e, row, place, bold=bold, tracking=tracking, stretch=stretch)


def _broken(title: str, lines: int) -> list[str]:
    """Words in so many rows at most: the longest as short as can be, and no row with a mere article."""
    words = title.split()
    ways = [[title]]
    if lines > 1:
        ways += [[" ".join(words[:cut]), *_broken(" ".join(words[cut:]), lines - 1)] for cut in range(1, len(words))]
    return min(ways, key=lambda rows: (min(map(len, rows)) < 4, max(map(len, rows))))


def _set_line(e: Easel, words: str, box: Box, *, bold: int = 0, tracking: float = 0.12, stretch: float = 1) -> None:
    """One line of letters in the middle of a box, in the colour that reads best there."""
    if not words:
        return
    mask = lettering(words, bold=bold, tracking=tracking)
    left, top, right, bottom = (round(share * side) for share, side in zip(box, (e.width, e.height) * 2, strict=True))
    wide, high = right - left, bottom - top
    scale = min(high / mask.height, wide / mask.width)
    across = min(wide, round(mask.width * scale * stretch))
    down = min(high, round(mask.height * scale * stretch))
    mask = mask.resize((max(1, across), max(1, down)), Image.Resampling.BILINEAR)
    x, y = left + (wide - across) // 2, top + (high - down) // 2
    ground = _mean(e.image.crop((x, y, x + mask.width, y + mask.height)))
    colour = _readable(ground, (e.palette.paper, e.palette.near, e.palette.accent))
    if stretch > 1:
        shadow = (0, 0, 0) if luminance(colour) > luminance(ground) else (255, 255, 255)
        e.image.paste(mixed(ground, shadow, 0.35), (x + 3, y + 3), mask)
    e.image.paste(colour, (x, y), mask)


def _fade_to(e: Easel, top: float, colour: Colour) -> None:
    """Let the picture sink into a colour from ``top`` on, so that letters stand on quiet ground."""
    first = round(top * e.height)
    share = (
        Image.linear_gradient("L")
        .resize((e.width, e.height - first))
        .point([min(255, 2 * value) for value in range(256)])
    )
    e.image.paste(colour, (0, first, e.width, e.height), share)


def _readable(ground: Colour, colours: tuple[Colour, ...], enough: float = 95) -> Colour:
    """The first of the colours that stands out well, else the one that does best."""
    far = [abs(luminance(colour) - luminance(ground)) for colour in colours]
    return next(
        (colour for colour, away in zip(colours, far, strict=True) if away > enough), colours[far.index(max(far))]
    )


def _mean(image: Image.Image) -> Colour:
    return _rgb(image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))


def _rgb(pixel: float | tuple[int, ...] | None) -> Colour:
    if not isinstance(pixel, tuple):
        raise TypeError(f"expected an RGB pixel, found {pixel}")
    return pixel[0], pixel[1], pixel[2]


def _shifted(palette: Palette, chance: random.Random) -> Palette:
    """The same palette a little warmer or cooler, lighter or darker: no two posters are printed alike."""
    shift = [chance.randint(-10, 10) for _ in range(3)]
    colours = (palette.sky, palette.glow, palette.far, palette.near, palette.accent, palette.paper)
    return Palette(*(_moved(colour, shift) for colour in colours))


def _moved(colour: Colour, shift: list[int]) -> Colour:
    red, green, blue = (min(255, max(0, value + by)) for value, by in zip(colour, shift, strict=True))
    return red, green, blue


def _printed(image: Image.Image, chance: random.Random) -> Image.Image:
    """At its final size, with the grain of paper and darker corners."""
    pixels = np.asarray(image.reduce(_LARGER), np.float32)
    high, wide = pixels.shape[:2]
    top, left = chance.randrange(512 - high), chance.randrange(512 - wide)
    paper = grain()[top : top + high, left : left + wide]
    y, x = np.linspace(-1, 1, high)[:, None], np.linspace(-1, 1, wide)
    corners = 1 - 0.16 * np.clip((x**2 + y**2) / 2, 0, 1) ** 1.5
    return Image.fromarray((pixels * (paper * corners.astype(np.float32))[..., None]).clip(0, 255).astype(np.uint8))
