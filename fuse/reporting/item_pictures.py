"""Films as a page shows them: title, poster as a data URI, or the title alone where there is none."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.dataset.catalog import Catalog
from ...data.pages.page import picture_uri
from ...data.pages.pictures import poster_picture
from ..runs.run import Run
from ..serving.run_tables import run_items

_WIDTH = 176
_QUALITY = 72
_LONGEST_TITLE = 120


@dataclass(frozen=True)
class ShownFilm:
    """One film: its id, its title, ``poster`` as a data URI (None: there is none), and the lines under it."""

    item_id: int | str
    title: str
    poster: str | None
    lines: tuple[str, ...] = ()

    @property
    def title_lines(self) -> list[str]:
        """The title broken for a placeholder, at most six lines."""
        return textwrap.wrap(self.title, 13, max_lines=6, placeholder=" …", break_long_words=True)


@dataclass
class FilmPictures:
    """All films of a run, each poster opened when it is first shown. ``dataset`` None: titles alone."""

    run: Run
    dataset: Path | None
    _posters: dict[Any, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        films = run_items(self.run)
        self._titles = dict(zip(films["item_id"].to_list(), films["title"].to_list(), strict=True))
        self._catalog = None if self.dataset is None else Catalog.open(self.dataset)
        self._paths: dict[Any, str | None] = {}
        if self._catalog is not None:
            self._paths = dict(zip(self._catalog.ids.tolist(), self._catalog.posters(), strict=True))

    def film(self, item_id: int | str, *lines: str) -> ShownFilm:
        """The film as it is shown, with these lines under it."""
        if item_id not in self._posters:
            self._posters[item_id] = self._poster(item_id)
        title = str(self._titles.get(item_id) or f"film {item_id}")
        shown = title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"
        return ShownFilm(item_id, shown, self._posters[item_id], lines)

    @property
    def missing(self) -> int:
        """How many films shown so far have no poster."""
        return sum(poster is None for poster in self._posters.values())

    def _poster(self, item_id: int | str) -> str | None:
        if self._catalog is None:
            return None
        picture = poster_picture(self._catalog.poster_root, self._paths.get(item_id))
        return None if picture is None else picture_uri(picture, _WIDTH, _QUALITY)
