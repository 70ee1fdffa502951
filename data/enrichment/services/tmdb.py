"""TMDB (The Movie Database), version 3 of its API: https://developer.themoviedb.org/reference.

/configuration                                        where pictures lie, in which sizes
/movie/ID?append_to_response=credits,keywords         all that is taken of a film, in one request (/tv/ID likewise)
/find/IMDB_ID?external_source=imdb_id                 its id from IMDb's
/search/movie?query=TITLE&year=YEAR                   candidates by title
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...runtime.errors import UsageError
from ..client import Unreachable
from ..fetcher import NotThere, WouldFetch
from .facts import MOST_ACTORS, MOST_KEYWORDS, Facts, Found, named, objects, part, words, year_of
from .matching import Candidate, confidence_in_id, ranked, search_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..fetcher import Fetcher
    from ..keys import Key
    from .facts import Wanted

_IMAGES = "https://image.tmdb.org/t/p/"
_SIZES = ("w92", "w154", "w185", "w342", "w500", "w780", "original")
_WRITERS = ("Screenplay", "Writer", "Story", "Author", "Novel")


class Tmdb:
    """TMDB: plots, posters, genres, credits and keywords. Needs a token (v4) or a key (v3)."""

    name = "tmdb"
    shown = "TMDB"
    gives: tuple[str, ...] = ("text", "poster", "year", "genres", "tags")
    address = "https://api.themoviedb.org/3"
    terms = "https://www.themoviedb.org/api-terms-of-use"
    notice = (
        "This product uses the TMDB API but is not endorsed or certified by TMDB. Plots, posters and credits are from "
        "TMDB (https://www.themoviedb.org); its terms allow non-commercial use with this notice, keeping its data for "
        "at most six months, and may require a written agreement for other uses."
    )
    keys: tuple[str, ...] = ("TMDB_TOKEN", "TMDB_API_KEY")
    rate = 38.0  # TMDB allows some 40
    connections = 16
    max_age = 180 * 86400.0
    megabytes = 0.02

    def __init__(self, language: str, poster_size: str) -> None:
        self._language, self._size, self._images = language, poster_size, _IMAGES

    def credentials(self, key: Key) -> tuple[dict[str, str], dict[str, str]]:
        """A token goes into a header; a key of version 3 has to stand in the address."""
        if key.name == "TMDB_TOKEN":
            return {}, {"Authorization": f"Bearer {key.value}"}
        return {"api_key": key.value}, {}

    def refusal(self, status: int, content: dict[str, object]) -> str:
        """401 and 403: the key is wrong, suspended, or its owner's address is not verified."""
        if status not in (401, 403):
            return ""
        message = str(content.get("status_message") or "")[:100]
        return f"TMDB does not accept the key ({status}{': ' + message if message else ''})"

    def fault(self, content: dict[str, object]) -> str:
        """TMDB answers faults by their status."""
        return ""

    async def prepare(self, wanted: Sequence[Wanted], fetcher: Fetcher) -> None:
        """Ask where pictures lie, and refuse (UsageError) a size that there is not."""
        try:
            images = part(await fetcher.json("/configuration"), "images")
        except (NotThere, WouldFetch):
            images = {}
        sizes = words(*images.get("poster_sizes", ())) or _SIZES
        if self._size not in sizes:
            raise UsageError(f"--poster-size {self._size}: TMDB has {', '.join(sizes)}")
        base = images.get("secure_base_url")
        if isinstance(base, str) and base.startswith(("https://", "http://")):
            self._images = base.rstrip("/") + "/"

    async def look_up(self, wanted: Wanted, fetcher: Fetcher) -> Found:
        """By TMDB's id, else by IMDb's, else by title and year."""
        tried = []
        for way, known in ((self._by_tmdb, wanted.tmdb_id), (self._by_imdb, wanted.imdb_id), (self._by_title, "")):
            found = await way(wanted, fetcher) if known is not None else None
            if found is not None:
                tried.append(found)
                if found.confidence >= 0.5:
                    return found
        return max(tried, key=lambda found: (found.facts is not None, found.confidence))

    async def _by_tmdb(self, wanted: Wanted, fetcher: Fetcher) -> Found | None:
        return await self._by_id(wanted, "movie", str(wanted.tmdb_id), "tmdb_id", fetcher)

    async def _by_id(self, wanted: Wanted, kind: str, number: str, by: str, fetcher: Fetcher) -> Found | None:
        params = {"append_to_response": "credits,keywords", "language": self._language}
        try:
            film = await fetcher.json(f"/{kind}/{number}", params)
        except NotThere:
            return None
        facts = self._facts(film, kind)
        if not facts.title:
            raise Unreachable("its answer is no film")
        sure = 1.0 if wanted.certain else confidence_in_id(wanted.title, wanted.year, _candidate(film))
        return Found(by, sure, facts)

    async def _by_imdb(self, wanted: Wanted, fetcher: Fetcher) -> Found | None:
        params = {"external_source": "imdb_id", "language": self._language}
        try:
            response = await fetcher.json(f"/find/{wanted.imdb_id}", params, then=1)
        except NotThere:
            return None
        for results, kind in (("movie_results", "movie"), ("tv_results", "tv")):
            for film in objects(response.get(results)):
                if isinstance(film.get("id"), int):
                    return await self._by_id(wanted, kind, str(film["id"]), "imdb_id", fetcher)
        return None

    async def _by_title(self, wanted: Wanted, fetcher: Fetcher) -> Found:
        if not wanted.title.strip():
            return Found("title", reason="it has no id that TMDB knows, and no title")
        guesses = []
        for year in dict.fromkeys((wanted.year, None)):
            params = {"query": search_words(wanted.title), "include_adult": "false", "language": self._language}
            params |= {"year": str(year)} if year is not None else {}
            response = await fetcher.json("/search/movie", params, then=1)
            films = [_candidate(film) for film in objects(response.get("results")) if isinstance(film.get("id"), int)]
            guesses = ranked(wanted.title, wanted.year, films)
            if guesses and guesses[0].confidence >= 0.5:
                break
        if not guesses:
            return Found("title", reason="TMDB has no film of that title")
        best = guesses[0]
        found = await self._by_id(wanted, "movie", best.candidate.service_id, "title", fetcher)
        if found is None:
            return Found("title", reason="TMDB's search names a film that TMDB does not have")
        return Found("title", best.confidence, found.facts, tuple(guesses[:3]))

    def _facts(self, film: dict[str, Any], kind: str) -> Facts:
        people, keywords = part(film, "credits"), part(film, "keywords")
        crew, cast = objects(people.get("crew")), objects(people.get("cast"))
        candidate = _candidate(film)
        path = film.get("poster_path")
        tags = {
            "director": words(*(one.get("name") for one in crew if one.get("job") == "Director"))
            or named(film.get("created_by")),
            "writer": words(*(one.get("name") for one in crew if one.get("job") in _WRITERS)),
            "actors": words(*(one.get("name") for one in cast[:MOST_ACTORS])),
            "keywords": named(keywords.get("keywords") or keywords.get("results"))[:MOST_KEYWORDS],
            "country": named(film.get("production_countries")),
            "studio": named(film.get("production_companies")),
            "language": words(film.get("original_language")),
        }
        return Facts(
            service_id=candidate.service_id,
            title=candidate.titles[0] if candidate.titles else "",
            year=candidate.year,
            text=next(iter(words(film.get("overview"))), None),
            genres=named(film.get("genres")),
            tags={name: value for name, value in tags.items() if value},
            poster=f"{self._images}{self._size}{path}" if isinstance(path, str) and path.startswith("/") else None,
            page=f"https://www.themoviedb.org/{kind}/{candidate.service_id}",
        )


def _candidate(film: dict[str, Any]) -> Candidate:
    titles = words(film.get("title"), film.get("original_title"), film.get("name"), film.get("original_name"))
    votes = film.get("vote_count")
    date = film.get("release_date") or film.get("first_air_date")
    return Candidate(str(film.get("id")), titles, year_of(date), votes if isinstance(votes, int) else 0)
