"""Self-contained pages: HTML from templates that escape, with their pictures inside.

A template extends `page.html` and fills its blocks: title, head (more CSS), header, body, footer, script. Whatever
comes from a dataset is escaped wherever a template names it; JSON for a script goes through ``tojson``. The page's own
policy forbids every request: opened years later, or sent to somebody else, it shows the same and contacts nobody.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ..runtime.disk import write_atomically

_SHARED = Path(__file__).parent / "templates"


def render(template: Path, **values: Any) -> str:
    """The page that a template file makes of ``values``; it may extend and include its neighbours and the shared ones.

    Every value is escaped. Filters beside Jinja's own: ``grouped`` (1,234), ``counted(noun)`` (1,234 films),
    ``decimals(n)``, ``signed(n)`` (+0.012 or −0.012), ``percent(n)`` of a share; the last three show None as an en
    dash. A name that nobody gave is an error (jinja2.UndefinedError), never an empty place.
    """
    return _environment(template.parent).get_template(template.name).render(values)


def picture_uri(image: Image.Image, width: int, quality: int = 80) -> str:
    """The image as a ``data:`` URI of a WebP at most ``width`` pixels wide and three times as high, never enlarged."""
    small = image.convert("RGB")
    small.thumbnail((width, 3 * width), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def write_page(path: Path, html: str) -> None:
    """Write the page under its name, whole or not at all. NoSpace or BadInput where the disk refuses."""
    write_atomically(path, html.encode("utf-8"))


def grouped(number: int) -> str:
    """A whole number with a comma at every thousand."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """So many of something, its noun in the singular where there is one: 1 rating, 1,234 ratings."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def decimals(number: float | None, places: int = 4) -> str:
    """A number with so many decimals; an en dash for None."""
    return "–" if number is None else f"{number:.{places}f}".replace("-", "−")


def signed(number: float | None, places: int = 4) -> str:
    """A number with its sign, the minus a real one; an en dash for None."""
    return "–" if number is None else f"{number:+.{places}f}".replace("-", "−")


def percent(share: float | None, places: int = 0) -> str:
    """A share as per cent; an en dash for None."""
    return "–" if share is None else f"{100 * share:.{places}f}\N{NO-BREAK SPACE}%"


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {each.__name__: each for each in (grouped, counted, decimals, signed, percent)}
    return environment
