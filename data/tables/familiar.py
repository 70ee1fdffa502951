"""Names that tables give to ids, ratings and the rest, as the sources of public data and shops write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_THINGS = (
    *("movie", "film", "show", "series", "anime", "manga", "book", "track", "song", "artist", "album", "podcast"),
    *("product", "business", "recipe", "game", "app", "video", "joke", "article", "beer"),
    *("restaurant", "hotel", "venue", "course"),
)
_THINGS_WITH_ID = (*_THINGS, "news", "content", "place")  # alone, they may be the text or the place of a review


def plain_name(name: str) -> str:
    """A column's name without case and without what joins its words."""
    return "".join(character for character in name.casefold() if character.isalnum())


# Compared without case, spaces, hyphens and underscores: "movie_id" is also MovieID, movieId and "Movie ID".
FAMILIAR: dict[str, tuple[str, ...]] = {
    "item_id": (
        *(
            "item_id",
            "movie_id",
            "id",
            "film_id",
            "show_id",
            "imdb_id",
            "tconst",
            "const",
            "tmdb_id",
            "parent_asin",
            "asin",
        ),
        *("isbn", "book_id", "item", "iid", *(f"{thing}_id" for thing in _THINGS_WITH_ID), "sku"),
    ),
    "title": ("title", "name", "primary_title", "movie_title", "original_title"),
    "year": (
        *("year", "release_year", "start_year", "release_date", "released", "year_released", "year_of_release"),
        *("original_publication_year", "publication_year", "year_of_publication", "year_published", "publication_date"),
    ),
    "genres": ("genres", "genre"),
    "text": ("text", "plot", "overview", "description", "synopsis", "storyline", "abstract"),
    "poster": (
        *("poster", "image", "poster_path", "image_path", "poster_url", "poster_link", "image_url", "img_url"),
        *("cover_url", "picture_url", "cover_image", "thumbnail_url"),
    ),
    "user_id": (
        *("user_id", "reviewer_id", "user", "uid", "username", "customer_id", "customer", "member_id", "member"),
        *("account_id", "profile_id", "visitor_id", "viewer_id", "listener_id", "reader_id", "player_id", "client_id"),
        *("person_id", "rater_id", "reviewer", "profile_name", "session_id", "session", "user_name", "user_md5"),
    ),
    "rating": (
        *("rating", "overall", "score", "stars", "star_rating", "user_rating", "your_rating", "my_rating"),
        *(
            "movie_rating",
            "book_rating",
            "review_rating",
            "review_score",
            "rating_value",
            "rate",
            "grade",
            "vote",
            "rating_val",
            "ratings",
        ),
    ),
    "timestamp": ("timestamp", "unix_review_time"),
    "count": (
        *("count", "plays", "play_count", "listens", "listen_count", "views", "view_count", "clicks", "times"),
        *("num_plays", "total_plays", "scrobbles", "weight", "quantity", "frequency", "hours", "hours_played"),
    ),
    "liked": (
        "liked",
        "like",
        "clicked",
        "watched",
        "played",
        "bought",
        "purchased",
        "recommended",
        "is_recommended",
        "voted_up",
    ),
}
# Times under names that may mean something else: taken where they can be read as points in time.
PERHAPS_TIMES = (
    *("time", "date", "datetime", "date_time", "ts", "created_at", "created", "rated_at", "date_rated", "rating_date"),
    *(
        "review_date",
        "review_time",
        "event_time",
        "watched_at",
        "played_at",
        "listened_at",
        "clicked_at",
        "submitted",
        "rating_time",
        "rating_timestamp",
        "date_added",
        "reviewed_at",
        "unix_time",
    ),
)

_USERS = frozenset(plain_name(name) for name in FAMILIAR["user_id"])
_ID = re.compile(r"(?:[_\- ][iI][dD]|[a-z0-9]I[dD])$")  # not valid, paid or grid
_REMARK = re.compile(r"\s*\([^()]*\)\s*$")
_JOINTS = re.compile(r"[_\-\s]+|(?<=[a-z0-9])(?=[A-Z])")
_NO_ITEM = (
    *(
        "review",
        "rating",
        "transaction",
        "order",
        "event",
        "log",
        "row",
        "record",
        "request",
        "device",
        "user",
        "uu",
        "impression",
    ),
)
_MARK_ENDINGS = ("rating", "score", "stars")
_OF_OTHERS = frozenset(  # what many people, a critic or a censor gave: averageRating, imdb_score, Metascore, Age Rating
    ("average", "avg", "mean", "content", "age", "imdb", "critic", "critics", "overall", "meta")
)


def familiar_column(columns: Sequence[str], ours: str) -> str | None:
    """Which of ``columns`` has the first familiar name for our column; None where none has one.

    Beside a user's id a column "id" may be the row's: it is an item's only where no other column ends in "id"; and
    "artist" or "book" is what the user chose. Where no name is familiar, item_id is the only column that ends in the
    word "id" and is no user's or row's, and rating the only one that ends in "rating", "score" or "stars"
    and is no average's or critic's.
    """
    names = FAMILIAR[ours]
    if ours == "item_id" and named_so(columns, FAMILIAR["user_id"]):
        names = (*(name for name in names if name != "id"), *_THINGS)
        found = named_so(columns, names) or _only_one(columns, _is_things_id) or _only_one(columns, _may_be_an_id)
        return None if found is not None and plain_name(found).removesuffix("id") in _NO_ITEM else found
    ending = {"item_id": _is_things_id, "rating": _is_a_mark}.get(ours)
    return named_so(columns, names) or (None if ending is None else _only_one(columns, ending))


def names_a_thing(column: str) -> bool:
    """Whether a column is called "movie", "book" or the like, so that it may hold titles as well as ids."""
    return plain_name(column) in _THINGS


def _only_one(columns: Sequence[str], alike: Callable[[str], object]) -> str | None:
    found = [name for name in columns if alike(name)]
    return found[0] if len(found) == 1 else None


def _may_be_an_id(name: str) -> bool:
    return plain_name(name).endswith("id") and plain_name(name) not in _USERS


def _is_things_id(name: str) -> bool:
    word = _ID.search(name.strip())
    if word is None or plain_name(name) in _USERS:
        return False
    return _words(name)[-2] not in _NO_ITEM


def _words(name: str) -> list[str]:
    """The words of a name, split at _, -, spaces and the capitals inside it, without case."""
    return [word.casefold() for word in _JOINTS.split(name.strip())]


def _is_a_mark(name: str) -> bool:
    plain = plain_name(name)
    ending = next((ending for ending in _MARK_ENDINGS if plain.endswith(ending)), None)
    return ending is not None and _OF_OTHERS.isdisjoint((*_words(name), plain.removesuffix(ending)))


def named_so(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """Which of ``columns`` has the first of ``names``, however written; None where none has one."""
    plainly = {plain_name(_REMARK.sub("", name)): name for name in reversed(columns)}  # "Rating (1-5)" is Rating
    plainly |= {plain_name(name): name for name in reversed(columns)}
    return next((plainly[key] for name in names if (key := plain_name(name)) in plainly), None)
