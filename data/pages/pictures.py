"""A film's poster as a picture to show, where there is one that can be shown."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, features

from ..dataset.posters.files import poster_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", *(["AVIF"] if features.check("avif") else []))
_MOST_PIXELS = 32_000_000
_MOST_BYTES = 64 * 2**20


def poster_picture(root: Path, poster: str | None) -> Image.Image | None:
    """The poster upright, RGB, transparency on white; None where there is none to show.

    ``poster`` is the path as the catalogue gives it, ``root`` the folder it starts from: nothing outside is opened.
    A page shows a placeholder instead of a poster that is absent, broken, too large or no image, so the reason is of
    no use here; `cinefuse extract` gives it.
    """
    with without_warnings():
        return open_poster(root, poster)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence Pillow, which warns of what it then reads anyway. Warnings are the whole process's, not one thread's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_poster(root: Path, poster: str | None, least: tuple[int, int] | None = None) -> Image.Image | None:
    """What `poster_picture` gives, for threads that were silenced together.

    ``least`` is a width and height that will do: a JPEG far larger is decoded at a half, a quarter or an eighth.
    """
    raw = poster_bytes(root, poster, _MOST_BYTES) if poster else None
    if raw is None:
        return None
    try:
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            if least is not None:
                image.draft("RGB", least)
            return _on_white(ImageOps.exif_transpose(image))
    except Exception:  # untrusted bytes make Pillow raise almost anything
        return None


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    white = Image.new("RGBA", clear.size, "white")
    return Image.alpha_composite(white, clear).convert("RGB")
