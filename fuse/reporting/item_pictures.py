"""Items as a page shows them: title and poster, or the title alone without one."""

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
class ShownItem:
    """One item: its id, its title, its poster as a data URI or None, and the lines under it."""

    item_id: int | str
    title: str
    poster: str | None
    lines: tuple[str, ...] = ()

    @property
    def title_lines(self) -> list[str]:
        """The title broken for a placeholder, at most six lines."""
        return textwrap.wrap(self.title, 13, max_lines=6, placeholder=" …", break_long_words=True)


@dataclass
class ItemPictures:
    """All items of a run; a poster is opened when it is first shown. Without ``dataset`` titles alone."""

    run: Run
    dataset: Path | None
    _posters: dict[Any, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        items = run_items(self.run)
        self._titles = dict(zip(items["item_id"].to_list(), items["title"].to_list(), strict=True))
        self._catalog = None if self.dataset is None else Catalog.open(self.dataset)
        self._paths: dict[Any, str | None] = {}
        if self._catalog is not None:
            self._paths = dict(zip(self._catalog.ids.tolist(), self._catalog.posters(), strict=True))

    def item(self, item_id: int | str, *lines: str) -> ShownItem:
        """The item with these lines under it."""
        if item_id not in self._posters:
            self._posters[item_id] = self._poster(item_id)
        title = str(self._titles.get(item_id) or f"film {item_id}")
        shown = title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"
        return ShownItem(item_id, shown, self._posters[item_id], lines)

    @property
    def missing(self) -> int:
        """The number of items shown so far without a poster."""
        return sum(poster is None for poster in self._posters.values())

    def _poster(self, item_id: int | str) -> str | None:
        if self._catalog is None:
            return None
        picture = poster_picture(self._catalog.poster_root, self._paths.get(item_id))
        return None if picture is None else picture_uri(picture, _WIDTH, _QUALITY)
