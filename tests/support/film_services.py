"""Loopback imitations of TMDB, OMDb, Wikidata and Wikipedia, with the faults that such services have.

Films, plots, people and pictures are invented. The layouts of answers are those of the services.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
from PIL import Image

from cinefuse.data.sources.own_tables import import_table
from cinefuse.tests.support.loopback import Quiet, serving

TOKEN = "eyJhbGciOiJub25lIn0.invented-token-of-the-tests"
API_KEY = "0123456789abcdef0123456789abcdef"
OMDB_KEY = "omdbkey42"

Fault = int | str | tuple[str, Any]


@dataclass
class Film:
    """An invented film as the services know it."""

    tmdb_id: int
    title: str
    year: int
    overview: str = ""
    imdb_id: str = ""
    has_poster: bool = True
    original_title: str = ""
    votes: int = 10
    kind: str = "movie"

    def __post_init__(self) -> None:
        self.imdb_id = self.imdb_id or f"tt{self.tmdb_id:07d}"
        self.original_title = self.original_title or self.title
        self.overview = self.overview or f"In {self.title} a lighthouse keeper counts {self.tmdb_id} ships."

    @property
    def poster_path(self) -> str | None:
        return f"/poster{self.tmdb_id}.jpg" if self.has_poster else None


def picture(number: int, size: tuple[int, int] = (60, 90), kind: str = "JPEG") -> bytes:
    """A small picture, different for each number."""
    image = Image.new("RGB", size, ((number * 37) % 256, (number * 91) % 256, (number * 53) % 256))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@dataclass
class FilmServices:
    """The imitations: their films, the faults still to come by path, and every request that came.

    ``faults`` maps a path to what its next requests meet, in order: a status, "html", "reset", "cut", "slow" (seconds),
    "redirect" (where to), "body" (bytes), or 429 with ("limited", Retry-After). ``limit``: requests a second, else 429.
    """

    films: list[Film]
    url: str = ""
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    limit: int | None = None
    delay: float = 0.0
    omdb_quota: int | None = None
    requests: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    limited: int = 0
    posters: dict[str, bytes] = field(default_factory=dict)
    _recent: deque[float] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, path: str, *faults: Fault) -> None:
        """Let the next requests of a path meet these faults."""
        self.faults.setdefault(path, deque()).extend(faults)

    def always(self, path: str, fault: Fault) -> None:
        """Let all requests of a path meet this fault."""
        self.meet(path, *([fault] * 10_000))

    def counts(self) -> Counter[str]:
        """How often each address was requested, keys left out."""
        return Counter(self.requests)

    def film(self, **wanted: Any) -> Film | None:
        return next((one for one in self.films if all(getattr(one, k) == v for k, v in wanted.items())), None)

    def over_the_limit(self) -> bool:
        if self.limit is None:
            return False
        with self._lock:
            now = time.monotonic()
            while self._recent and self._recent[0] < now - 1:
                self._recent.popleft()
            if len(self._recent) >= self.limit:
                self.limited += 1
                return True
            self._recent.append(now)
            return False


def _tmdb_film(film: Film, whole: bool) -> dict[str, Any]:
    title, date = ("title", "release_date") if film.kind == "movie" else ("name", "first_air_date")
    answer: dict[str, Any] = {
        "adult": False,
        "id": film.tmdb_id,
        title: film.title,
        f"original_{title}": film.original_title,
        "original_language": "en",
        "overview": film.overview,
        "poster_path": film.poster_path,
        date: f"{film.year}-05-04",
        "vote_count": film.votes,
        "popularity": 1.5,
    }
    if not whole:
        return answer | {"genre_ids": [18]}
    return answer | {
        "imdb_id": film.imdb_id,
        "genres": [{"id": 18, "name": "Drama"}, {"id": 35, "name": "Comedy"}],
        "production_countries": [{"iso_3166_1": "NO", "name": "Norway"}],
        "production_companies": [{"id": 3, "name": "Lantern Pictures", "logo_path": None}],
        "credits": {
            "cast": [{"id": n, "name": f"Actor {n}", "order": n, "character": "Keeper"} for n in range(9)],
            "crew": [
                {"name": "Ada Quill", "job": "Director", "department": "Directing"},
                {"name": "Ben Reed", "job": "Screenplay", "department": "Writing"},
                {"name": "Cy Moss", "job": "Editor", "department": "Editing"},
            ],
        },
        "keywords": {"keywords": [{"id": 1, "name": "lighthouse"}, {"id": 2, "name": "sea"}]},
    }


def _omdb_film(film: Film) -> dict[str, Any]:
    return {
        "Title": film.title,
        "Year": str(film.year),
        "Rated": "N/A",
        "Genre": "Drama, Comedy",
        "Director": "Ada Quill",
        "Writer": "N/A",
        "Actors": "Actor 0, Actor 1",
        "Plot": film.overview,
        "Language": "English",
        "Country": "Norway",
        "Poster": "{URL}/omdb-posters" + film.poster_path if film.poster_path else "N/A",
        "imdbID": film.imdb_id,
        "Type": "movie",
        "Response": "True",
    }


def _handler(services: FilmServices) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            plain = {name: value for name, value in query.items() if name not in ("api_key", "apikey")}
            shown = parts.path + ("?" + "&".join(f"{k}={v}" for k, v in sorted(plain.items())) if plain else "")
            services.requests.append(shown)
            services.headers.append(dict(self.headers))
            if services.delay:
                time.sleep(services.delay)
            pending = services.faults.get(parts.path)
            if pending:
                return self.misbehave(pending.popleft())
            self.answer(parts.path, query, shown)
            return None

        def answer(self, path: str, query: dict[str, str], shown: str) -> None:
            if path.startswith("/3/") and services.over_the_limit():
                return self.send(429, {"status_code": 25, "status_message": "Over the limit"}, {"Retry-After": "1"})
            if path.startswith("/3/"):
                allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}" or query.get("api_key") == API_KEY
                if not allowed:
                    return self.send(401, {"status_code": 7, "status_message": "Invalid API key", "success": False})
                content = self.tmdb(path.removeprefix("/3"), query)
            elif path.startswith(("/t/p/", "/omdb-posters/")):
                return self.picture(path.rpartition("/")[2])
            elif path == "/omdb/":
                return self.omdb(query)
            elif path == "/sparql":
                content = self.sparql(query["query"])
            elif path == "/en/w/api.php":
                content = self.wikipedia(query)
            else:
                content = None
            if content is None:
                return self.send(404, {"success": False, "status_code": 34, "status_message": "not found"})
            services.answered.append(shown)
            return self.send(200, content)

        def tmdb(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
            if path == "/configuration":
                sizes = ["w92", "w154", "w185", "w342", "w500", "w780", "original"]
                return {"images": {"secure_base_url": f"{services.url}/t/p/", "poster_sizes": sizes}}
            kind, _, number = path.strip("/").partition("/")
            if kind in ("movie", "tv") and number.isdecimal():
                film = services.film(tmdb_id=int(number), kind=kind)
                return _tmdb_film(film, True) if film else None
            if kind == "find":
                found = [one for one in services.films if one.imdb_id == number]
                return {
                    f"{one}_results": [_tmdb_film(film, False) for film in found if film.kind == one]
                    for one in ("movie", "tv", "person")
                }
            if path == "/search/movie":
                words = query["query"].casefold()
                hits = [one for one in services.films if words in one.title.casefold() and one.kind == "movie"]
                if "year" in query:
                    hits = [one for one in hits if one.year == int(query["year"])]
                return {"page": 1, "results": [_tmdb_film(film, False) for film in hits], "total_results": len(hits)}
            return None

        def omdb(self, query: dict[str, str]) -> None:
            if query.get("apikey") != OMDB_KEY:
                return self.send(401, {"Response": "False", "Error": "Invalid API key!"})
            if services.omdb_quota is not None:
                if services.omdb_quota <= 0:
                    return self.send(401, {"Response": "False", "Error": "Request limit reached!"})
                services.omdb_quota -= 1
            if "i" in query:
                film = services.film(imdb_id=query["i"])
            else:
                film = next((one for one in services.films if one.title.casefold() == query["t"].casefold()), None)
                if film and "y" in query and str(film.year) != query["y"]:
                    film = None
            if film is None:
                return self.send(200, {"Response": "False", "Error": "Movie not found!"})
            content = json.loads(json.dumps(_omdb_film(film)).replace("{URL}", services.url))
            return self.send(200, content)

        def sparql(self, query: str) -> dict[str, Any]:
            rows = []
            for film in services.films:
                number = film.imdb_id if "P345" in query else str(film.tmdb_id)
                if f'"{number}"' in query:
                    article = f"https://en.wikipedia.org/wiki/{film.title.replace(' ', '_')}_({film.year}_film)"
                    rows.append(
                        {
                            "id": {"type": "literal", "value": number},
                            "article": {"type": "uri", "value": article},
                            "first": {"type": "literal", "value": f"{film.year}-01-01T00:00:00Z"},
                        }
                    )
            return {"head": {"vars": ["id", "article", "first"]}, "results": {"bindings": rows}}

        def wikipedia(self, query: dict[str, str]) -> dict[str, Any]:
            if query.get("list") == "search":
                hits = [one for one in services.films if one.title.casefold() in query["srsearch"].casefold()]
                return {"query": {"search": [{"title": one.title, "pageid": one.tmdb_id} for one in hits]}}
            title = query["titles"]
            film = next((one for one in services.films if title.startswith(one.title)), None)
            if film is None:
                return {"query": {"pages": [{"title": title, "missing": True}]}}
            extract = (
                f"{film.title} is a {film.year} Norwegian film about ships.\n\n== Plot ==\n{film.overview}\n"
                "=== Epilogue ===\nThe lamp goes out.\n\n== Reception ==\nCritics were kind."
            )
            return {"query": {"pages": [{"title": title, "pageid": film.tmdb_id, "extract": extract}]}}

        def picture(self, name: str) -> None:
            if name in services.posters:
                body = services.posters[name]
            else:
                number = int("".join(c for c in name if c.isdecimal()))
                film = services.film(tmdb_id=number)
                if film is None or not film.has_poster:
                    return self.send_bytes(404, b"no such picture", "text/plain")
                body = picture(number)
            services.answered.append(self.path)
            return self.send_bytes(200, body, "image/jpeg")

        def misbehave(self, fault: Fault) -> None:
            kind, more = fault if isinstance(fault, tuple) else (fault, None)
            if isinstance(kind, int):
                return self.send(kind, {"status_message": "as configured"})
            if kind == "limited":
                return self.send(429, {"status_code": 25}, {"Retry-After": str(more)})
            if kind == "html":
                return self.send_bytes(200, b"<!DOCTYPE html><html><body>Please log in</body></html>", "text/html")
            if kind == "redirect":
                return self.send_bytes(302, b"", "text/plain", {"Location": str(more)})
            if kind == "body":
                return self.send_bytes(200, more, "image/jpeg")
            if kind == "claims":
                self.send_response(200)
                self.send_header("Content-Length", str(more))
                self.end_headers()
                self.close_connection = True
                return None
            if kind == "slow":
                time.sleep(more)
                return self.send(200, {})
            if kind == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"{")
                self.close_connection = True
                return None
            assert kind == "reset"
            return self.reset()

        def send(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            self.send_bytes(status, json.dumps(content).encode(), "application/json", headers)

        def send_bytes(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

    return Handler


@contextmanager
def film_services(films: list[Film]) -> Iterator[FilmServices]:
    """Serve the imitations on loopback."""
    services = FilmServices(films)
    with serving(_handler(services)) as port:
        services.url = f"http://127.0.0.1:{port}"
        yield services


def film_dataset(
    folder: Path, films: list[tuple[str, int | None, int | None, str | None]], **columns: list[object]
) -> Path:
    """A dataset in `folder`/ml of these films (title, year, TMDB's id, IMDb's id), and of what else is given."""
    table = pl.DataFrame(
        {
            "item_id": list(range(1, len(films) + 1)),
            "title": [film[0] for film in films],
            "year": [film[1] for film in films],
            "tmdb_id": [film[2] for film in films],
            "imdb_id": [film[3] for film in films],
            **columns,
        },
        schema_overrides={"tmdb_id": pl.Int64, "imdb_id": pl.String, "year": pl.Int32},
    )
    table.write_parquet(folder / "films.parquet")
    import_table(folder / "ml", folder / "films.parquet", choices=None)
    return folder / "ml"
