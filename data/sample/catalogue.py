"""A generated sample catalogue: drawn posters, composed plots, users with tastes. None of its films exist.

Each film has a genre and a mood, which both its plot and its poster show, a theme, which only the plot shows, and a
manner, which only the poster shows. Users rate by their taste for all four: something real to learn, nothing borrowed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from ..dataset.folder import ITEM_COLUMNS, Description, new_folder
from .audience import draw_audience
from .plots import GENRES, MOODS, THEMES, Genre, Mood, Theme, compose_plot, compose_title
from .posters import MANNERS, draw_poster

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from PIL import Image

NOTE = "Generated sample: these films, posters, plots, users and ratings are made up."

T = TypeVar("T")


@dataclass(frozen=True)
class Film:
    """A film that does not exist."""

    title: str
    year: int
    genre: Genre
    mood: Mood
    theme: Theme
    manner: str
    tagline: str
    plot: str

    def poster(self) -> Image.Image:
        """Its poster, RGB."""
        return draw_poster(self.title, self.genre.name, self.mood.name, self.manner, self.tagline)

    def kind(self) -> dict[str, str]:
        """What users like or dislike about it."""
        return {"genre": self.genre.name, "mood": self.mood.name, "manner": self.manner, "theme": self.theme.name}


def write_sample(folder: Path, items: int = 64, users: int = 60, seed: int = 0) -> None:
    """Write a dataset folder of generated films, the same for the same arguments; an existing ``folder`` is refused.

    Of 17 films one lacks a poster and another a plot, of 29 one has no rating (`unrated_films`); the last film but one
    repeats the first film's poster, the last one its plot (from 4 films on).
    """
    films = invent_films(items, seed)
    unrated = unrated_films(films)
    with new_folder(folder) as staging:
        (staging.folder / "posters").mkdir()
        rows = [_row(number, film, items) for number, film in enumerate(films)]
        if items >= 4:
            rows[-1]["text"] = films[0].plot
        for number, row in enumerate(rows):
            if row["poster"]:
                drawn = films[0] if items >= 4 and number == items - 2 else films[number]
                drawn.poster().save(staging.folder / str(row["poster"]), quality=88)
        table = pl.DataFrame(rows, schema=ITEM_COLUMNS | {"item_id": pl.Int64()})
        draw = np.random.default_rng([seed, items, users])
        ratings, people = draw_audience([film.kind() for film in films], unrated, users, draw)
        table.write_parquet(staging.folder / "items.parquet")
        ratings.write_parquet(staging.folder / "ratings.parquet")
        people.write_parquet(staging.folder / "users.parquet")
        counts = {"items": items, "ratings": ratings.height, "users": users}
        Description("generated-sample", counts=counts, note=NOTE).write(staging.folder)


def invent_films(number: int, seed: int = 0) -> list[Film]:
    """Invent so many films, the same for the same arguments; no title comes twice."""
    chance = random.Random(f"{seed}/{number}")
    genres, themes, manners = dealt(GENRES, chance), dealt(THEMES, chance), dealt(MANNERS, chance)
    moods = {genre.name: dealt([mood for mood in MOODS if mood.name in genre.moods], chance) for genre in GENRES}
    taken: set[str] = set()
    films = []
    for _ in range(number):
        genre, theme, manner = next(genres), next(themes), next(manners)
        mood = next(moods[genre.name])
        title, plot = compose_title(genre, mood, chance, taken), compose_plot(genre, mood, theme, chance)
        year, tagline = chance.randint(1931, 2016), chance.choice(mood.tagline)
        films.append(Film(title, year, genre, mood, theme, manner, tagline, plot))
    return films


def unrated_films(films: Sequence[Film]) -> list[int]:
    """The places of films that nobody rates: of each 29 films one, of one genre after another."""
    rows = enumerate(range(0, len(films) - 28, 29))
    return [
        next(place for place in range(first, first + 29) if films[place].genre == GENRES[number % len(GENRES)])
        for number, first in rows
    ]


def dealt(cards: Sequence[T], chance: random.Random) -> Iterator[T]:
    """Cards without end, each as often as any other: the deck is shuffled anew whenever it is used up."""
    while True:
        yield from chance.sample(cards, len(cards))


def _row(number: int, film: Film, items: int) -> dict[str, object]:
    # 17 is no multiple of the number of genres, so no genre loses more than the others.
    return {
        "item_id": number + 1,
        "title": f"{film.title} ({film.year})",
        "year": film.year,
        "genres": [film.genre.name],
        "text": None if number % 17 == 7 else film.plot,
        "poster": None if number % 17 == 11 and number < items - 2 else f"posters/{number + 1}.jpg",
    }
