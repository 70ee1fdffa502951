"""What is known of an item and what a service says of it: one form for all services."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..fetcher import Fetcher
    from ..keys import Key
    from .matching import Guess

MOST_ACTORS = 5
MOST_KEYWORDS = 20


@dataclass(frozen=True)
class Wanted:
    """An item to look up: its own id as text, what identifies it elsewhere, and its title and year.

    ``certain``: a person vouches for the ids, so title and year need not confirm them.
    """

    item_id: str
    title: str
    year: int | None
    imdb_id: str | None = None
    tmdb_id: int | None = None
    certain: bool = False


@dataclass(frozen=True)
class Facts:
    """What a service says of one film; None or empty where it says nothing.

    ``tags`` maps a kind (director, actors, keywords, ...) to its words. ``page`` is the address a person would visit.
    """

    service_id: str
    title: str
    year: int | None = None
    text: str | None = None
    genres: tuple[str, ...] = ()
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    poster: str | None = None
    page: str = ""


@dataclass(frozen=True)
class Found:
    """What became of looking up one item.

    ``by`` says how: "tmdb_id", "imdb_id" or "title". ``facts`` are there where the service has the film, whether or
    not the confidence suffices. ``guesses`` are all that a search offered. ``reason`` says why there are no facts.
    """

    by: str
    confidence: float = 0.0
    facts: Facts | None = None
    guesses: tuple[Guess, ...] = ()
    reason: str = ""


class Service(Protocol):
    """A source of plots, posters or tags: how it is reached, what it asks for, and how an item is looked up."""

    name: str
    shown: str
    gives: tuple[str, ...]  # text, poster, year, genres, tags
    address: str
    terms: str
    notice: str
    keys: tuple[str, ...]  # environment variables; none where no key is needed
    rate: float  # requests a second that the service allows
    connections: int
    max_age: float  # seconds that an answer may be kept
    megabytes: float  # of a response, roughly, for estimates

    def credentials(self, key: Key) -> tuple[dict[str, str], dict[str, str]]:
        """Parameters and headers that carry a key."""

    def refusal(self, status: int, content: dict[str, object]) -> str:
        """Why no further request makes sense after this answer; "" where the run may go on."""

    def fault(self, content: dict[str, object]) -> str:
        """What is wrong, for a while, according to an answer with status 200; "" where nothing is."""

    async def prepare(self, wanted: Sequence[Wanted], fetcher: Fetcher) -> None:
        """What is done once, for all items of a dataset that have ids or titles. Raises Stop, Refused, Unreachable."""

    async def look_up(self, wanted: Wanted, fetcher: Fetcher) -> Found:
        """What the service knows of one item. Raises Stop, Refused, Unreachable."""


def words(*values: object) -> tuple[str, ...]:
    """The values that are text, stripped, each once, in their order.

    >>> words(" toy ", None, "toy", "")
    ('toy',)
    """
    found = (value.strip() for value in values if isinstance(value, str))
    return tuple(dict.fromkeys(value for value in found if value))


def year_of(date: object) -> int | None:
    """The year that starts a date such as "1995-10-30" or "2015–2018"; None where there is none."""
    start = str(date)[:4] if date else ""
    return int(start) if start.isascii() and start.isdecimal() and len(start) == 4 else None


def objects(value: object) -> list[dict[str, object]]:
    """The objects in what should be a list of them: a response is untrusted."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def part(response: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under a name, empty where there is none: a response is untrusted."""
    value = response.get(name)
    return value if isinstance(value, dict) else {}


def named(value: object) -> tuple[str, ...]:
    """The names of objects such as {"id": 16, "name": "Animation"}."""
    return words(*(one.get("name") for one in objects(value)))
