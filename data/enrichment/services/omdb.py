"""OMDb (The Open Movie Database): https://www.omdbapi.com.

    /?i=IMDB_ID&plot=full            a film by IMDb's id
    /?t=TITLE&y=YEAR&plot=full       the one film that OMDb thinks is meant

Whatever is missing is written "N/A". What is not there is answered with 200 and {"Response": "False", "Error": ...}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..fetcher import NotThere
from .facts import Facts, Found, words, year_of
from .matching import Candidate, confidence_in_id, ranked, search_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..fetcher import Fetcher
    from ..keys import Key
    from .facts import Wanted

_TAGS = {"director": "Director", "writer": "Writer", "actors": "Actors", "country": "Country", "language": "Language"}


class Omdb:
    """OMDb: plots, posters, genres and credits by IMDb's ids. Its free keys allow 1,000 requests a day."""

    name = "omdb"
    shown = "OMDb"
    gives: tuple[str, ...] = ("text", "poster", "year", "genres", "tags")
    address = "https://www.omdbapi.com"
    terms = "https://www.omdbapi.com/legal.htm"
    notice = (
        "Plots and credits are from the OMDb API (https://www.omdbapi.com), whose content is licensed under CC BY-NC "
        "4.0. Posters belong to their studios."
    )
    keys: tuple[str, ...] = ("OMDB_API_KEY",)
    rate = 10.0
    connections = 8
    max_age = 365 * 86400.0
    megabytes = 0.002

    def credentials(self, key: Key) -> tuple[dict[str, str], dict[str, str]]:
        """OMDb takes its key in the address alone."""
        return {"apikey": key.value}, {}

    def refusal(self, status: int, content: dict[str, object]) -> str:
        """401 means either: a wrong key, or a day's requests used up."""
        message = str(content.get("Error") or "")[:100]
        if "limit" in message.lower():
            return f"OMDb answers: {message} Free keys have 1,000 requests a day; run the same command again tomorrow"
        return (
            f"OMDb does not accept the key ({status}{': ' + message if message else ''})"
            if status in (401, 403)
            else ""
        )

    def fault(self, content: dict[str, object]) -> str:
        """What OMDb writes where its own database fails it."""
        return "OMDb answers: Error getting data." if content.get("Error") == "Error getting data." else ""

    async def prepare(self, wanted: Sequence[Wanted], fetcher: Fetcher) -> None:
        """Nothing is needed before the first film."""

    async def look_up(self, wanted: Wanted, fetcher: Fetcher) -> Found:
        """By IMDb's id, else by title and year."""
        if wanted.imdb_id is not None:
            try:
                film = await self._film({"i": wanted.imdb_id}, fetcher)
            except NotThere:
                pass
            else:
                sure = 1.0 if wanted.certain else confidence_in_id(wanted.title, wanted.year, _candidate(film))
                return Found("imdb_id", sure, _facts(film))
        if not wanted.title.strip():
            return Found("title", reason="it has no id that OMDb knows, and no title")
        for year in dict.fromkeys((wanted.year, None)):
            params = {"t": search_words(wanted.title)} | ({"y": str(year)} if year is not None else {})
            try:
                film = await self._film(params, fetcher)
            except NotThere:
                continue
            guesses = ranked(wanted.title, wanted.year, [_candidate(film)])
            return Found("title", guesses[0].confidence, _facts(film), tuple(guesses))
        return Found("title", reason="OMDb has no film of that title")

    async def _film(self, params: dict[str, str], fetcher: Fetcher) -> dict[str, Any]:
        film = await fetcher.json("/", params | {"plot": "full"})
        if film.get("Response") != "True":
            raise NotThere
        return film


def _given(film: dict[str, Any], name: str) -> str | None:
    value = film.get(name)
    return value.strip() if isinstance(value, str) and value.strip() not in ("", "N/A") else None


def _listed(film: dict[str, Any], name: str) -> tuple[str, ...]:
    return words(*(_given(film, name) or "").split(","))


def _candidate(film: dict[str, Any]) -> Candidate:
    return Candidate(str(film.get("imdbID")), words(_given(film, "Title")), year_of(_given(film, "Year")))


def _facts(film: dict[str, Any]) -> Facts:
    candidate = _candidate(film)
    return Facts(
        service_id=candidate.service_id,
        title=candidate.titles[0] if candidate.titles else "",
        year=candidate.year,
        text=_given(film, "Plot"),
        genres=_listed(film, "Genre"),
        tags={ours: found for ours, theirs in _TAGS.items() if (found := _listed(film, theirs))},
        poster=_given(film, "Poster"),
        page=f"https://www.imdb.com/title/{candidate.service_id}/",
    )
