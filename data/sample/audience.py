"""Users of the sample and what they rate: tastes that plots and posters show, and some that only one of them shows.

A rating is the sum of a user's habit, a film's quality, the user's taste for the film's genre, mood, manner (which only
the poster shows) and theme (which only the plot shows), and noise. Tastes go together, as they do among people: they
are made of a few leanings, one of which changes with age.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

Numbers = npt.NDArray[np.float64]

# standard deviations, in stars, of what a rating is made of
HABIT, QUALITY, NOISE = 0.35, 0.25, 0.5
TASTES = {"genre": 0.48, "mood": 0.5, "manner": 0.6, "theme": 0.4}
_LEANINGS = 4
_FALL = 1.4  # how steeply popularity falls from film to film, an exponent
_MEAN = 3.3
_JOBS = ("baker", "nurse", "student", "teacher", "engineer", "retired", "farmer", "musician")


def draw_audience(
    kinds: Sequence[dict[str, str]], unrated: Sequence[int], users: int, draw: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ratings (user_id, item_id, rating, timestamp), and users (user_id, age, gender, occupation, zip).

    ``kinds`` are the genre, mood, manner and theme of each film, in the order of their ids from 1. Films at the
    places ``unrated`` get no rating. Few films are rated often and many seldom; users see more of what they like.
    """
    ages = draw.integers(16, 81, users)
    liking = _liking(kinds, ages, draw)
    seen = _seen(liking, unrated, draw)
    user, film = np.nonzero(seen)
    stars = np.clip(np.rint(liking[user, film] + draw.normal(0, NOISE, user.size)), 1, 5)
    ratings = {
        "user_id": user + 1,
        "item_id": film + 1,
        "rating": stars.astype(np.float32),
        "timestamp": 1_500_000_000 + draw.integers(0, 100_000_000, user.size),
    }
    people = {
        "user_id": np.arange(1, users + 1),
        "age": ages.astype(np.int32),
        "gender": draw.choice(("F", "M"), users).tolist(),
        "occupation": draw.choice(_JOBS, users).tolist(),
        "zip": ["00000"] * users,
    }
    return pl.DataFrame(ratings), pl.DataFrame(people, schema_overrides={"gender": pl.String, "occupation": pl.String})


def _liking(kinds: Sequence[dict[str, str]], ages: npt.NDArray[np.int64], draw: np.random.Generator) -> Numbers:
    """(users, films): what each user would give each film, in stars, before noise and rounding."""
    leanings = draw.normal(0, 1, (len(ages), _LEANINGS))
    leanings[:, 0] = 0.6 * leanings[:, 0] + 0.8 * (ages - 48) / 19
    liking = _MEAN + draw.normal(0, HABIT, (len(ages), 1)) + draw.normal(0, QUALITY, len(kinds))
    for trait, deviation in TASTES.items():
        values = [kind[trait] for kind in kinds]
        names = sorted(set(values))
        taste = leanings @ _appeal(len(names), draw).T
        liking += deviation * taste[:, [names.index(value) for value in values]]
    return liking


def _appeal(values: int, draw: np.random.Generator) -> Numbers:
    """(values, leanings): how each value of a trait appeals to each leaning, in all its squares as many as ``values``.

    Appeals add up to nothing and point in all directions alike, so that every trait divides the audience, in every draw
    as much: what one value wins another loses, and no taste hides in the habits of users.
    """
    drawn = draw.normal(0, 1, (values, _LEANINGS))
    left, _, right = np.linalg.svd(drawn - drawn.mean(0), full_matrices=False)
    kept = min(values - 1, _LEANINGS)  # the polar factor of what was drawn, which unlike a basis of it is unique
    appeal: Numbers = left[:, :kept] @ right[:kept] * np.sqrt(values / max(1, kept))
    return appeal


def _seen(liking: Numbers, unrated: Sequence[int], draw: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(users, films): which films each user rates, at least one where there is any."""
    users, films = liking.shape
    popularity = -_FALL * np.log(1 + draw.permutation(films) / (0.06 * films + 1))
    wish = popularity + 0.35 * (liking - liking.mean(1, keepdims=True)) + draw.gumbel(0, 1, liking.shape)
    wish[:, list(unrated)] = -np.inf
    there = films - len(unrated)
    usual = min(there / 3, 18 + there / 7)
    number = np.clip(np.rint(usual * np.exp(draw.normal(-0.1, 0.45, users))), min(1, there), 0.8 * there + 0.2)
    place = np.argsort(np.argsort(-wish, axis=1), axis=1)
    seen: npt.NDArray[np.bool_] = place < number[:, None]
    return seen
