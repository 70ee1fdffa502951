"""The films that the mini encoders learn from, and the films that they never see.

A film is one film wherever it turns up: both MovieLens tables are joined by IMDb id and by title, and a held-out film
is held out with its plot in either table and with both of its posters.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

Part = Literal["train", "validation", "held-out"]

GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
HELD_OUT, VALIDATION = 0.2, 0.1  # shares of all films


@dataclass(frozen=True)
class Films:
    """ML-1M's films in the order of their ids. ``parts`` and ``plots`` have one entry a film, plots "" where absent."""

    ids: list[int]
    plots: list[str]
    genres: npt.NDArray[np.bool_]  # (films, 18)
    parts: npt.NDArray[np.str_]
    data: Path
    more_plots: tuple[str, ...]  # of ML-100K: training films whose plot there reads differently

    @classmethod
    def read(cls, data: Path) -> Films:
        """Reads items-ml-1m.parquet and items-ml-100k.parquet under ``data``."""
        films = pl.read_parquet(data / "items-ml-1m.parquet").sort("movie_id")
        others = pl.read_parquet(data / "items-ml-100k.parquet").sort("movie_id")
        part_of = _parts(pl.concat([films.select(_NAMES), others.select(_NAMES)]))
        parts, other_parts = part_of[: films.height], part_of[films.height :]
        plots = [plot or "" for plot in films["plot"]]
        known = set(plots)
        more = dict.fromkeys(
            plot
            for plot, part in zip(others["plot"], other_parts, strict=True)
            if plot and part == "train" and plot not in known
        )
        genres = np.array([[genre in names.split("|") for genre in GENRES] for names in films["genres"]])
        return cls(films["movie_id"].to_list(), plots, genres, np.array(parts), data, tuple(more))

    def among(self, *parts: Part) -> npt.NDArray[np.bool_]:
        """(films,) whether a film belongs to one of the parts."""
        return np.isin(self.parts, parts)

    @cached_property
    def has_plot(self) -> npt.NDArray[np.bool_]:
        return np.array([bool(plot) for plot in self.plots])

    def posters(self, height: int, width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Posters of all films at one size, (films, height, width, 3), black where there is none; and where one is."""
        return self._resized((_opened(self.data / "posters" / f"{film}.jpg") for film in self.ids), height, width)

    def other_posters(self, height: int, width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """The alternative posters (posters-alt.tar) likewise."""
        with tarfile.open(self.data / "posters-alt.tar") as tar:
            members = {int(Path(m.name).stem): m for m in tar.getmembers() if m.isfile()}

            def opened(film: int) -> Image.Image | None:
                stream = tar.extractfile(members[film]) if film in members else None
                return Image.open(BytesIO(stream.read())).convert("RGB") if stream else None

            return self._resized((opened(film) for film in self.ids), height, width)

    def _resized(
        self, images: Iterable[Image.Image | None], height: int, width: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        pixels = np.zeros((len(self.ids), height, width, 3), np.uint8)
        there = np.zeros(len(self.ids), bool)
        for row, image in enumerate(images):
            if image is not None:
                pixels[row] = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
                there[row] = True
        return pixels, there


_NAMES = ("imdb_id", "title", "year")


def _opened(path: Path) -> Image.Image | None:
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return image.convert("RGB")


def _parts(names: pl.DataFrame) -> list[Part]:
    """A part for every row; rows that share an IMDb id, or title and year, share the part."""
    rows = [[str(i), f"{str(t).casefold()} {y}"] for i, t, y in names.select(_NAMES).iter_rows()]
    leader: dict[str, str] = {}

    def first(key: str) -> str:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    for imdb, title in rows:
        if imdb not in ("None", ""):
            leader[first(imdb)] = first(title)
    smallest: dict[str, str] = {}
    for _, title in rows:  # the name of a group must not depend on the order of the rows
        smallest[first(title)] = min(title, smallest.get(first(title), title))
    return [_part(smallest[first(title)]) for _, title in rows]


def _part(name: str) -> Part:
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
    if share < HELD_OUT:
        return "held-out"
    return "validation" if share < HELD_OUT + VALIDATION else "train"
