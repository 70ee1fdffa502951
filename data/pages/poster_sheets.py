"""Posters made small for a page: a sheet of tiny ones to draw a whole map from, and one picture each to look at."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from ..runtime.processor import usable_cores
from .pictures import open_poster, without_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

POSTER = (120, 180)
TILE = (32, 48)
SHEET = (32, 32)  # tiles across and down: 1024 x 1536 pixels, which every phone decodes
_QUALITY = 50


@dataclass(frozen=True)
class Posters:
    """The small posters of N films.

    pictures: base64 of a WebP of 120 x 180 each, "" where there is none. sheets: base64 of WebPs, each of up to 32 x 32
    tiles of 32 x 48 pixels in the films' order, row by row.
    """

    pictures: list[str]
    sheets: list[str]


def small_posters(root: Path, paths: Sequence[str | None], done: Callable[[int], None] = lambda films: None) -> Posters:
    """The posters at `paths` (relative to `root`) made small; `done` is called with the number of films just finished.

    A poster outside `root`, absent, broken, or of more than 64 MiB or 32 megapixels is left out. Holds a sheet's tiles
    at a time beside what it returns.
    """
    pictures: list[str] = []
    sheets: list[str] = []
    at_once = SHEET[0] * SHEET[1]
    with without_warnings(), ThreadPoolExecutor(min(8, usable_cores())) as pool:
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
    poster = open_poster(root, path, (2 * POSTER[0], 2 * POSTER[1]))
    if poster is None:
        return "", None
    small = ImageOps.fit(poster, POSTER, Image.Resampling.LANCZOS)  # cut to 2 : 3, never stretched
    return _webp(small), small.resize(TILE, Image.Resampling.LANCZOS)


def _webp(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "WEBP", quality=_QUALITY, method=4)
    return base64.b64encode(content.getvalue()).decode("ascii")
