"""A generated sample catalogue: drawn posters, composed plots, users with tastes. None of its films exist.

Each film has a genre and a mood. Both can be read off its plot (cast, place, events, ending) and off its poster (shapes
by genre, palette by mood), and users rate by their taste for both: something real to learn, nothing borrowed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import polars as pl
from PIL import Image, ImageDraw, ImageFont

from .dataset import ITEM_COLUMNS, Description, new_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTE = "Generated sample: these films, posters, plots, users and ratings are made up."
POSTER_SIZE = (120, 180)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Genre:
    """What the films of a genre speak of and look like; ``shape`` names how the poster is drawn."""

    name: str
    shape: str
    people: tuple[str, ...]
    places: tuple[str, ...]
    events: tuple[str, ...]
    nouns: tuple[str, ...]


@dataclass(frozen=True)
class Mood:
    """How a film feels: words for titles and endings, and the poster's ground, light and ink."""

    name: str
    adjectives: tuple[str, ...]
    endings: tuple[str, ...]
    palette: tuple[Colour, Colour, Colour]


GENRES = (
    Genre(
        "Western",
        "mesas",
        ("a retired marshal", "a mapmaker's widow", "two quarrelling ranch hands"),
        ("a town the railway forgot", "a dry river crossing", "a silver camp above the snow line"),
        ("A stranger buys the only well", "The payroll coach never arrives", "An old duel is called again at dawn"),
        ("Saddle", "Canyon", "Telegraph", "Mesa"),
    ),
    Genre(
        "Sci-Fi",
        "orbits",
        ("a salvage pilot", "the last botanist of a moon station", "a clockmaker's android"),
        ("a relay beyond Saturn", "a flooded orbital city", "a colony that keeps two calendars"),
        (
            "A signal repeats tomorrow's news",
            "The ship's memory begins to argue with its crew",
            "A second sun rises on schedule",
        ),
        ("Orbit", "Signal", "Comet", "Airlock"),
    ),
    Genre(
        "Romance",
        "hearts",
        ("a piano tuner", "a ferry ticket clerk", "two rival bakers"),
        ("a seaside hotel in the off season", "a street of bookshops", "an island with one telephone"),
        (
            "Letters for a stranger keep coming",
            "A rehearsal dinner has one guest too many",
            "A lost coat is returned twice",
        ),
        ("Letter", "Summer", "Waltz", "Harbour"),
    ),
    Genre(
        "Horror",
        "trees",
        ("a night nurse", "a family of beekeepers", "a deaf lighthouse keeper"),
        ("a house with one window too many", "a village without mirrors", "a wood that no bird enters"),
        (
            "Footsteps are heard under the floor",
            "The portraits change their clothes",
            "Something answers the children's game",
        ),
        ("Cellar", "Lantern", "Orchard", "Threshold"),
    ),
    Genre(
        "Comedy",
        "confetti",
        ("an unlucky wedding planner", "three cousins who share one suit", "the mayor's double"),
        ("a cheese fair", "a hotel run by its guests", "the slowest parade in the country"),
        (
            "A prize goose is mistaken for a judge",
            "Everyone is invited to the wrong party",
            "The speech is read backwards",
        ),
        ("Parade", "Cousin", "Umbrella", "Goose"),
    ),
    Genre(
        "Crime",
        "blinds",
        ("a disbarred lawyer", "a safecracker's daughter", "a detective on her last case"),
        ("a harbour under fog", "a casino closed for repairs", "the top floor of a newspaper"),
        (
            "A witness signs the wrong name",
            "The vault is found fuller than before",
            "A ransom is paid in forged stamps",
        ),
        ("Alibi", "Ledger", "Midnight", "Informer"),
    ),
    Genre(
        "War",
        "searchlights",
        ("a field telegraphist", "two brothers under different flags", "a baker turned medic"),
        ("a bridge nobody may cross", "a besieged observatory", "a winter line of trenches"),
        (
            "An order arrives a day too late",
            "The guns fall silent for a football match",
            "A map shows a village that isn't there",
        ),
        ("Bridge", "Winter", "Regiment", "Armistice"),
    ),
    Genre(
        "Musical",
        "staves",
        ("a chorus understudy", "a tram driver with perfect pitch", "a brass band of bakers"),
        ("a theatre due for demolition", "a market that sings its prices", "a river boat stage"),
        (
            "The leading lady loses her voice",
            "A tune is stolen and becomes a hit",
            "The whole street joins in rehearsal",
        ),
        ("Chorus", "Melody", "Encore", "Overture"),
    ),
)

MOODS = (
    Mood(
        "bright",
        ("Golden", "Merry", "Sunlit"),
        ("By the end everyone dances, and nobody is left out.", "Laughter and a shared breakfast set all of it right."),
        ((250, 222, 120), (240, 120, 70), (60, 50, 80)),
    ),
    Mood(
        "dark",
        ("Black", "Silent", "Last"),
        ("Nobody gets away clean, and the debt is paid in grief.", "Fear keeps the last word, and the lamp goes out."),
        ((22, 22, 34), (130, 24, 36), (214, 208, 200)),
    ),
    Mood(
        "dreamy",
        ("Blue", "Distant", "Sleeping"),
        (
            "What was real and what was dreamt is left to drift.",
            "The tide takes the question away, softly, as in sleep.",
        ),
        ((150, 190, 224), (206, 172, 222), (40, 60, 110)),
    ),
    Mood(
        "tense",
        ("Burning", "Hidden", "Second"),
        ("With an hour to go, one of them must choose.", "Every clock is against them, and every door is watched."),
        ((226, 226, 218), (214, 60, 30), (28, 30, 30)),
    ),
)


@dataclass(frozen=True)
class _Film:
    title: str
    year: int
    genre: Genre
    mood: Mood
    plot: str


def write_sample(folder: Path, items: int = 64, users: int = 60, seed: int = 0) -> None:
    """Write a dataset folder of generated films, the same for the same arguments; an existing ``folder`` is refused.

    Of 17 films one lacks a poster and another a plot; the last film but one repeats the first film's poster, the last
    one its plot (from 4 films on).
    """
    chance = random.Random(f"{seed}/{items}/{users}")
    films = _make_films(items, chance)
    with new_folder(folder) as staging:
        (staging.folder / "posters").mkdir()
        rows = [_row(number, film, items) for number, film in enumerate(films)]
        for number, film in enumerate(films):
            drawn = films[0] if items >= 4 and number == items - 2 else film
            if rows[number]["poster"]:
                draw_poster(drawn.title, drawn.genre, drawn.mood).save(staging.folder / str(rows[number]["poster"]))
        if items >= 4:
            rows[-1]["text"] = films[0].plot
        table = pl.DataFrame(rows, schema=ITEM_COLUMNS | {"item_id": pl.Int64()})
        ratings, people = _rate(films, users, chance)
        table.write_parquet(staging.folder / "items.parquet")
        ratings.write_parquet(staging.folder / "ratings.parquet")
        people.write_parquet(staging.folder / "users.parquet")
        counts = {"items": items, "ratings": ratings.height, "users": users}
        Description("generated-sample", counts=counts, note=NOTE).write(staging.folder)


def _row(number: int, film: _Film, items: int) -> dict[str, object]:
    # 17 is no multiple of the number of genres, so no genre loses more than the others.
    return {
        "item_id": number + 1,
        "title": f"{film.title} ({film.year})",
        "year": film.year,
        "genres": [film.genre.name],
        "text": None if number % 17 == 7 else film.plot,
        "poster": None if number % 17 == 11 and number < items - 2 else f"posters/{number + 1}.png",
    }


def _make_films(items: int, chance: random.Random) -> list[_Film]:
    """Go through the genres in turn, and through the moods within each; no title comes twice."""
    titles = {(genre.name, mood.name): _titles(genre, mood, chance) for genre in GENRES for mood in MOODS}
    films = []
    for number in range(items):
        genre = GENRES[number % len(GENRES)]
        mood = MOODS[(number // len(GENRES) + number) % len(MOODS)]
        title = next(titles[genre.name, mood.name])
        films.append(_Film(title, chance.randint(1931, 2019), genre, mood, _compose_plot(genre, mood, chance)))
    return films


def _titles(genre: Genre, mood: Mood, chance: random.Random) -> Iterator[str]:
    names = [f"The {adjective} {noun}" for adjective in mood.adjectives for noun in genre.nouns]
    chance.shuffle(names)
    yield from names
    for part in count(2):
        yield from (f"{name} {part}" for name in names)


def _compose_plot(genre: Genre, mood: Mood, chance: random.Random) -> str:
    who, where = chance.choice(genre.people), chance.choice(genre.places)
    opening = chance.choice((f"For {who}, {where} is a last chance.", f"It begins with {who} and {where}."))
    middle = [f"{event}." for event in chance.sample(genre.events, chance.randint(0, 3))]
    return " ".join([opening, *middle, chance.choice(mood.endings)])


def _rate(films: list[_Film], users: int, chance: random.Random) -> tuple[pl.DataFrame, pl.DataFrame]:
    ratings: dict[str, list[float]] = {"user_id": [], "item_id": [], "rating": [], "timestamp": []}
    people: dict[str, list[object]] = {"user_id": [], "age": [], "gender": [], "occupation": [], "zip": []}
    quality = [chance.gauss(0, 0.3) for _ in films]
    for user in range(1, users + 1):
        taste = {kind.name: chance.gauss(0, 0.9) for kind in (*GENRES, *MOODS)}
        for film in sorted(chance.sample(range(len(films)), max(1, len(films) // 3)) if films else []):
            liking = 3.4 + quality[film] + taste[films[film].genre.name] + taste[films[film].mood.name]
            ratings["user_id"].append(user)
            ratings["item_id"].append(film + 1)
            ratings["rating"].append(min(5, max(1, round(liking + chance.gauss(0, 0.4)))))
            ratings["timestamp"].append(1_500_000_000 + chance.randrange(100_000_000))
        person = (
            user,
            chance.randint(16, 80),
            chance.choice("FM"),
            chance.choice(("baker", "nurse", "student")),
            "00000",
        )
        for column, value in zip(people, person, strict=True):
            people[column].append(value)
    kinds = {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64}
    told = {"user_id": pl.Int64, "age": pl.Int32, "gender": pl.String, "occupation": pl.String, "zip": pl.String}
    return pl.DataFrame(ratings, schema=kinds), pl.DataFrame(people, schema=told)


def draw_poster(title: str, genre: Genre, mood: Mood) -> Image.Image:
    """Draw an RGB poster of POSTER_SIZE: shapes by genre, palette by mood, the title in type."""
    chance = random.Random(f"{title}/{genre.name}/{mood.name}")
    ground, light, ink = mood.palette
    width, height = POSTER_SIZE
    poster = Image.linear_gradient("L").resize(POSTER_SIZE)
    poster = Image.composite(Image.new("RGB", POSTER_SIZE, light), Image.new("RGB", POSTER_SIZE, ground), poster)
    draw = ImageDraw.Draw(poster)
    _SHAPES[genre.shape](draw, chance, light, ink)
    draw.rectangle((0, height - 44, width, height), fill=ink)
    words = title.split()
    lines = [" ".join(words[:-1]), words[-1]]
    for line, size, top in zip(lines, (11, 17), (height - 41, height - 27), strict=True):
        draw.text((width / 2, top), line, font=ImageFont.load_default(size), fill=ground, anchor="ma")
    return poster


def _mesas(draw: ImageDraw.ImageDraw, chance: random.Random, light: Colour, ink: Colour) -> None:
    x, y = chance.randint(25, 95), chance.randint(25, 60)
    draw.ellipse((x - 18, y - 18, x + 18, y + 18), fill=light)
    for _ in range(4):
        left, top, wide = chance.randint(-20, 90), chance.randint(80, 115), chance.randint(24, 50)
        draw.polygon([(left, 136), (left + 6, top), (left + wide - 6, top), (left + wide, 136)], fill=ink)


def _orbits(draw: ImageDraw.ImageDraw, chance: random.Random, light: Colour, ink: Colour) -> None:
    for _ in range(50):
        draw.point((chance.randrange(120), chance.randrange(136)), fill=ink)
    for reach in (20, 34, 48):
        draw.ellipse((60 - reach, 68 - reach // 2, 60 + reach, 68 + reach // 2), outline=ink, width=2)
    size = chance.randint(10, 16)
    draw.ellipse((60 - size, 68 - size, 60 + size, 68 + size), fill=light, outline=ink)


def _hearts(draw: ImageDraw.ImageDraw, chance: random.Random, light: Colour, ink: Colour) -> None:
    for fill in (ink, light, ink):
        x, y, size = chance.randint(30, 90), chance.randint(35, 95), chance.randint(10, 24)
        draw.ellipse((x - size, y - size, x, y), fill=fill)
        draw.ellipse((x, y - size, x + size, y), fill=fill)
        draw.polygon([(x - size + 1, y - size // 3), (x + size - 1, y - size // 3), (x, y + size)], fill=fill)


def _trees(draw: ImageDraw.ImageDraw, chance: random.Random, light: Colour, ink: Colour) -> None:
    for _ in range(9):
        x, wide = chance.randrange(120), chance.randint(2, 6)
        draw.rectangle((x, 0, x + wide, 136), fill=ink)
        for _ in range(4):
            y = chance.randrange(110)
            draw.line((x + wide / 2, y, x + chance.randint(-22, 22), y - 14), fill=ink, width=2)
    x, y = chance.randint(30, 90), chance.randint(60, 110)
    draw.ellipse((x - 9, y - 3, x - 3, y + 3), fill=light, outline=ink)
    draw.ellipse((x + 3, y - 3, x + 9, y + 3), fill=light, outline=ink)


def _confetti(draw: ImageDraw.ImageDraw, chance: random.Random, light: Colour, ink: Colour) -> None:
    for number in range(60):
        x, y, size = chance.randrange(120), chance.randrange(136), chance.randint(2, 6)
        draw.ellipse((x, y, x + size, y + size), fill=(ink, light)[number % 2])
    draw.chord((30, 40, 90, 100), 0, 180, fill=ink)


def _blinds(draw: ImageDraw.ImageDraw, chance: random.Random, light: Colour, ink: Colour) -> None:
    slope = chance.randint(8, 26)
    for y in range(-20, 136, 14):
        draw.polygon([(0, y + slope), (120, y), (120, y + 6), (0, y + slope + 6)], fill=ink)
    x = chance.randint(40, 80)
    draw.rectangle((x - 13, 70, x + 13, 136), fill=light)
    draw.ellipse((x - 11, 50, x + 11, 74), fill=light)
    draw.rectangle((x - 18, 52, x + 18, 56), fill=ink)


def _searchlights(draw: ImageDraw.ImageDraw, chance: random.Random, light: Colour, ink: Colour) -> None:
    draw.rectangle((0, 112, 120, 136), fill=ink)
    for _ in range(4):
        foot, head = chance.randint(10, 110), chance.randint(0, 120)
        draw.polygon([(foot, 118), (head - 9, 0), (head + 9, 0)], outline=ink, fill=light)


def _staves(draw: ImageDraw.ImageDraw, chance: random.Random, light: Colour, ink: Colour) -> None:
    for top in (30, 80):
        for line in range(5):
            draw.line((6, top + 7 * line, 114, top + 7 * line), fill=ink)
        for x in range(14, 110, 18):
            y = top + chance.randint(0, 28)
            draw.ellipse((x, y, x + 9, y + 7), fill=ink)
            draw.line((x + 8, y + 3, x + 8, y - 20), fill=light, width=2)


_SHAPES = {
    "mesas": _mesas,
    "orbits": _orbits,
    "hearts": _hearts,
    "trees": _trees,
    "confetti": _confetti,
    "blinds": _blinds,
    "searchlights": _searchlights,
    "staves": _staves,
}
