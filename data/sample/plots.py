"""Plots and titles of the sample's films, put together from a grammar of their own: nothing is taken from a real film.

A plot shows a film's genre by its people, places and events, its mood by how it feels and ends, and its theme, what it
is about. A poster shows genre and mood too, but never the theme: only a model that reads plots can learn it. The words
and sentences lie in `plots.json`; names in braces are filled in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator


@dataclass(frozen=True)
class Genre:
    """The people, places and events in films of a genre, and the moods they come in."""

    name: str
    moods: tuple[str, ...]
    people: tuple[str, ...]
    places: tuple[str, ...]
    events: tuple[str, ...]
    troubles: tuple[str, ...]
    nouns: tuple[str, ...]


@dataclass(frozen=True)
class Mood:
    """How a film feels, how it ends, and what its title sounds like."""

    name: str
    airs: tuple[str, ...]
    endings: tuple[str, ...]
    adjectives: tuple[str, ...]
    tagline: tuple[str, ...]


@dataclass(frozen=True)
class Theme:
    """What a film is about, whatever its genre."""

    name: str
    turns: tuple[str, ...]


_Kind = TypeVar("_Kind", Genre, Mood, Theme)


def _all(kind: type[_Kind], entries: list[dict[str, Any]]) -> tuple[_Kind, ...]:
    made = []
    for entry in entries:
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()
        }
        made.append(kind(**fields))
    return tuple(made)


_WORDS: dict[str, Any] = json.loads(Path(__file__).with_name("plots.json").read_text(encoding="utf-8"))
GENRES, MOODS, THEMES = _all(Genre, _WORDS["genres"]), _all(Mood, _WORDS["moods"]), _all(Theme, _WORDS["themes"])
_WOMEN, _MEN, _FAMILIES = _WORDS["women"], _WORDS["men"], _WORDS["families"]
_OPENINGS, _TITLES = _WORDS["openings"], _WORDS["titles"]


def compose_plot(genre: Genre, mood: Mood, theme: Theme, chance: random.Random) -> str:
    """A plot of five to seven sentences: people and place, events of the genre, the theme, the mood, an ending."""
    words = _cast(genre, chance)
    events, turns = chance.choice(((0, 2), (1, 1), (1, 2), (1, 2), (2, 1)))
    middle = [*chance.sample(genre.events, events), *chance.sample(theme.turns, turns)]
    chance.shuffle(middle)
    feeling = [*chance.sample(genre.troubles, chance.randint(0, 1)), chance.choice(mood.airs)]
    sentences = [chance.choice(_OPENINGS), *middle, *feeling, chance.choice(mood.endings)]
    return " ".join(sentence.format_map(words) for sentence in sentences)


def _cast(genre: Genre, chance: random.Random) -> dict[str, str]:
    """Words that the sentences leave open: a hero with a trade, somebody else, a place."""
    woman = chance.random() < 0.5
    names, others = (_WOMEN, _MEN) if woman else (_MEN, _WOMEN)
    family, other_family = chance.sample(_FAMILIES, 2)
    name, trade, place = f"{chance.choice(names)} {family}", chance.choice(genre.people), chance.choice(genre.places)
    she, her, her_ = ("she", "her", "her") if woman else ("he", "his", "him")
    return {
        "name": name,
        "Name": name,
        "other": f"{chance.choice(others)} {other_family}",
        "a_trade": _one(trade),
        "place": place,
        "Place": place[0].upper() + place[1:],
        "she": she,
        "She": she.capitalize(),
        "her": her,
        "Her": her.capitalize(),
        "her_": her_,
    }


def _one(noun: str) -> str:
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def compose_title(genre: Genre, mood: Mood, chance: random.Random, taken: set[str]) -> str:
    """A title that is not ``taken`` yet, and is from now on. Where names run out, they get numbers."""
    title = next(title for title in _titles(genre, mood, chance) if title not in taken)
    taken.add(title)
    return title


def _titles(genre: Genre, mood: Mood, chance: random.Random) -> Iterator[str]:
    for attempt in count():
        noun, another = chance.sample(genre.nouns, 2)
        name, adjective = chance.choice((*_WOMEN, *_MEN)), chance.choice(mood.adjectives)
        words = {"noun": noun, "another": another, "name": name, "adjective": adjective, "a_noun": _one(noun)}
        title = chance.choice(_TITLES).format_map(words)
        title = title[0].upper() + title[1:]
        yield title if attempt < 50 else f"{title} {attempt // 50 + 1}"
