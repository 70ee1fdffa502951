"""How sure it is that a service's film is the item meant: by title and year, and the runner-up.

confidence = likeness of the titles (0 to 1) x agreement of the years (0 to 1) x 0.75 where another film is as like
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_YEAR = re.compile(r"\s*\((\d{4})(?:[-–—]\s*(?:\d{4})?\s*)?\)\s*(?:\([A-Z]+\)\s*)?$")
_OTHER_NAMES = re.compile(r"\s*\((?:a\.?k\.?a\.?\s+)?([^()]+)\)")
_ARTICLE = re.compile(
    r"^(.*), (the|a|an|le|la|les|l'|un|une|der|die|das|ein|eine|el|los|las|il|lo|i|gli|o|os|as|den|det|de|het)$"
)
_NOT_A_WORD = re.compile(r"[^\w]+")
_NUMBER = re.compile(r"\b(?:\d+|i{2,3}|iv|vi{0,3}|ix|xi{0,3})\b")
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "xi": "11", "xii": "12"}
_YEARS_APART = (1.0, 0.95, 0.8, 0.6)
_AS_LIKE = 0.05
_WELL_KNOWN = 20  # times as many votes decide between two films of one name


@dataclass(frozen=True)
class Candidate:
    """A film that a service offers: its id there, its titles in any language, its year, how many people voted."""

    service_id: str
    titles: tuple[str, ...]
    year: int | None
    votes: int = 0


@dataclass(frozen=True)
class Guess:
    """A candidate and the confidence, 0 to 1, that it is the one meant."""

    candidate: Candidate
    confidence: float


def forms_of(title: str) -> set[str]:
    """The ways a title may be written, each plain: without year, case, accents and marks, its article in front.

    >>> sorted(forms_of("City of Lost Children, The (Cité des enfants perdus, La) (1995)"))
    ['la cite des enfants perdus', 'the city of lost children']
    """
    bare = _YEAR.sub("", title)
    parts = [_OTHER_NAMES.sub("", bare), *_OTHER_NAMES.findall(bare)]
    return {plain for part in parts if (plain := _plain(part))}


def search_words(title: str) -> str:
    """What to search for: the title without year and other names, its article in front."""
    return _article_in_front(_OTHER_NAMES.sub("", _YEAR.sub("", title)).strip()).strip() or title.strip()


def _plain(text: str) -> str:
    text = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(
        _NOT_A_WORD.sub(" ", _article_in_front(text.strip()).replace("&", " and ").replace("'", "")).split()
    )


def _article_in_front(text: str) -> str:
    found = _ARTICLE.match(text.casefold())
    if found is None:
        return text
    article, rest = text[len(found[1]) + 2 :], text[: len(found[1])]
    return f"{article}{rest}" if article.endswith("'") else f"{article} {rest}"


def likeness(ours: str, theirs: Iterable[str]) -> float:
    """How like two titles are, 0 to 1, the best of all their forms; at most .5 where their numbers differ."""
    return max(
        (_alike(one, other) for title in theirs for one in forms_of(ours) for other in forms_of(title)), default=0.0
    )


def _alike(one: str, other: str) -> float:
    if one == other:
        return 1.0
    ratio = SequenceMatcher(None, one, other, autojunk=False).ratio()
    return min(ratio, 0.5) if _numbers(one) != _numbers(other) else ratio


def _numbers(text: str) -> list[str]:
    return [_ROMAN.get(number, number) for number in _NUMBER.findall(text)]


def agreement(ours: int | None, theirs: int | None) -> float:
    """How well two years agree, 0 to 1."""
    if ours is None or theirs is None:
        return 0.85 if ours is None else 0.7
    apart = abs(ours - theirs)
    return _YEARS_APART[apart] if apart < len(_YEARS_APART) else 0.3


def ranked(title: str, year: int | None, candidates: Sequence[Candidate]) -> list[Guess]:
    """All candidates with their confidence, the likeliest first."""
    guesses = [Guess(one, likeness(title, one.titles) * agreement(year, one.year)) for one in candidates]
    guesses.sort(key=lambda guess: (-round(guess.confidence, 2), -guess.candidate.votes))
    close = [one for one in guesses if guesses[0].confidence - one.confidence < _AS_LIKE]
    if len(close) > 1 and close[0].candidate.votes < _WELL_KNOWN * max(1, close[1].candidate.votes):
        guesses[: len(close)] = [Guess(one.candidate, one.confidence * 0.75) for one in close]
    return [Guess(guess.candidate, round(guess.confidence, 3)) for guess in guesses]


def confidence_in_id(title: str, year: int | None, found: Candidate) -> float:
    """The confidence in a film that was found by its id: ids are seldom wrong, so title or year alone can confirm one.

    .95 to 1 where either agrees, .9 where there is nothing to compare, .4 where both are others.
    """
    if not title.strip() or not any(found.titles):
        return 0.9
    like = likeness(title, found.titles)
    near = year is not None and found.year is not None and abs(year - found.year) <= 1
    if like >= 0.6 or (near and like >= 0.2):
        return round(0.95 + 0.05 * like, 3)
    return 0.8 if near else 0.4
