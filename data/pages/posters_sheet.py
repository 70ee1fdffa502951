"""Posters made small for a page: a sheet of tiny ones to draw a whole map from, and one picture each to look at."""

from __future__ import annotations

import base64
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from ..assembly import poster_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POSTER = (120, 180)
TILE = (32, 48)
SHEET = (32, 32)  # tiles across and down: 1024 x 1536 pixels, which every phone decodes
_QUALITY = 50
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_MOST_BYTES, _MOST_PIXELS = 64 * 2**20, 32_000_000


@dataclass(frozen=True)
class Posters:
    """The small posters of N films.

    pictures: base64 of a WebP of 120 x 180 each, "" where there is none. sheets: base64 of WebPs, each of up to 32 x 32
    tiles of 32 x 48 pixels in the films' order, row by row.
    """

    pictures: list[str]
    sheets: list[str]


def small_posters(root: Path, paths: Sequence[str | None], done: Callable[[int], None] = lambda films: None) -> Posters:
    """The posters at `paths` (relative to `root`) made small; `done` is told as films are finished.

    A poster outside `root`, absent, broken, or of more than 64 MiB or 32 megapixels is left out. Holds a sheet's tiles
    at a time beside what it returns.
    """
    pictures: list[str] = []
    sheets: list[str] = []
    at_once = SHEET[0] * SHEET[1]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), at_once):
            part = paths[start : start + at_once]
            sheet = Image.new("RGB", (TILE[0] * SHEET[0], TILE[1] * -(-len(part) // SHEET[0])), "#777")
            for place, (picture, tile) in enumerate(pool.map(lambda path: _small(root, path), part)):
                pictures.append(picture)
                if tile is not None:
                    sheet.paste(tile, (place % SHEET[0] * TILE[0], place // SHEET[0] * TILE[1]))
                done(1)
            sheets.append(_webp(sheet))
    return Posters(pictures, sheets)


def _small(root: Path, path: str | None) -> tuple[str, Image.Image | None]:
    poster = None if path is None else open_poster(root, path)
    if poster is None:
        return "", None
    small = ImageOps.fit(poster, POSTER, Image.Resampling.LANCZOS)  # cut to 2 : 3, never stretched
    return _webp(small), small.resize(TILE, Image.Resampling.LANCZOS)


def open_poster(root: Path, path: str) -> Image.Image | None:
    """The poster as an upright RGB image on white, at least as large as a page needs it; None where there is none."""
    file = poster_inside(root, path)
    try:
        if file is None or Path(path).is_absolute() or file.stat().st_size > _MOST_BYTES:
            return None
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            image.draft("RGB", (POSTER[0] * 2, POSTER[1] * 2))
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                white = Image.new("RGBA", upright.size, "#fff")
                upright = Image.alpha_composite(white, upright)
            return upright.convert("RGB")
    except Exception:  # hostile bytes make Pillow raise almost anything, and one poster must not cost the page
        return None


def _webp(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "WEBP", quality=_QUALITY, method=4)
    return base64.b64encode(content.getvalue()).decode("ascii")
