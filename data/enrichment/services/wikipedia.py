"""Plots of Wikipedia's articles, found by Wikidata: no key is needed, and no poster is had.

query.wikidata.org/sparql?query=...       articles of films by IMDb's ids (P345) and TMDB's (P4947), many a request
LANGUAGE.wikipedia.org/w/api.php?action=query&list=search&srsearch=...              candidates by title
LANGUAGE.wikipedia.org/w/api.php?action=query&prop=extracts&explaintext=1&titles=...   the text of an article
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from ...runtime.errors import UsageError
from ..fetcher import NotThere, WouldFetch
from .facts import Facts, Found, objects, part, year_of
from .matching import Candidate, confidence_in_id, ranked, search_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..fetcher import Fetcher
    from ..keys import Key
    from .facts import Wanted

_AT_ONCE = 150
_HEADING = re.compile(r"^(=+)\s*(.+?)\s*\1\s*$", re.MULTILINE)
# how Wikipedias call the section, English first
_PLOT = {
    *("plot", "plot summary", "synopsis", "story", "summary", "premise", "plot synopsis"),
    *("handlung", "inhalt", "synopsis et détails", "intrigue", "résumé", "argumento", "sinopsis", "trama", "enredo"),
    *("fabuła", "сюжет", "あらすじ", "ストーリー", "剧情", "劇情", "verhaal", "handling"),
}
_KIND = re.compile(r"\s*\((?:(\d{4})\s+)?(?:[\w-]+\s+)*(?:film|movie|serial|miniseries|documentary)\)$", re.IGNORECASE)
_FIRST_YEAR = re.compile(r"\b((?:18|19|20)\d\d)\b")
_OF_A_FILM = re.compile(r"film|movie|short|documentary|miniseries|televi|anime", re.IGNORECASE)


class Wikipedia:
    """Wikipedia by way of Wikidata: plots alone."""

    name = "wikidata"
    shown = "Wikipedia"
    gives: tuple[str, ...] = ("text",)
    address = "https://query.wikidata.org"
    terms = "https://creativecommons.org/licenses/by-sa/4.0/"
    notice = (
        "Plots are from articles of Wikipedia (https://www.wikipedia.org), by their authors, under CC BY-SA 4.0; "
        "enrichment/wikidata.csv names the article of each."
    )
    keys: tuple[str, ...] = ()
    rate = 5.0
    connections = 2
    max_age = 365 * 86400.0
    megabytes = 0.04

    def __init__(self, language: str, base: str | None = None) -> None:
        code = language.partition("-")[0].lower()
        if not re.fullmatch("[a-z]{2,12}", code):
            raise UsageError(f"--language {language}: expected the language of a Wikipedia, for instance en")
        self._wiki = f"{base.rstrip('/')}/{code}" if base else f"https://{code}.wikipedia.org"
        self._code = code
        self._articles: dict[str, tuple[str, int | None]] = {}

    def credentials(self, key: Key) -> tuple[dict[str, str], dict[str, str]]:
        """There is no key."""
        return {}, {}

    def refusal(self, status: int, content: dict[str, object]) -> str:
        """403: Wikimedia blocks clients that do not say who they are."""
        if status != 403:
            return ""
        return "Wikimedia refuses requests (403): name a way to reach you with --contact, as its rules ask for"

    def fault(self, content: dict[str, object]) -> str:
        """An error in an answer of 200, as MediaWiki writes it: its servers lag, or are read-only."""
        error = content.get("error")
        return f"Wikipedia answers {str(error.get('code'))[:40]}" if isinstance(error, dict) else ""

    async def prepare(self, wanted: Sequence[Wanted], fetcher: Fetcher) -> None:
        """Find the articles of all items that have an id, many ids a request."""
        imdb = sorted({one.imdb_id for one in wanted if one.imdb_id})
        tmdb = sorted({str(one.tmdb_id) for one in wanted if one.tmdb_id is not None and not one.imdb_id})
        for kind, property_, ids in (("imdb", "P345", imdb), ("tmdb", "P4947", tmdb)):
            for start in range(0, len(ids), _AT_ONCE):
                try:
                    await self._find(kind, property_, ids[start : start + _AT_ONCE], fetcher)
                except WouldFetch:
                    continue

    async def _find(self, kind: str, property_: str, ids: list[str], fetcher: Fetcher) -> None:
        values = " ".join(f'"{one}"' for one in ids)
        query = (
            "SELECT ?id ?article (MIN(?date) AS ?first) WHERE { "
            f"VALUES ?id {{ {values} }} ?film wdt:{property_} ?id . "
            f"?article schema:about ?film ; schema:isPartOf <https://{self._code}.wikipedia.org/> . "
            "OPTIONAL { ?film wdt:P577 ?date . } } GROUP BY ?id ?article"
        )
        response = await fetcher.json("/sparql", {"query": query, "format": "json"})
        for row in objects(part(response, "results").get("bindings")):
            number, article = _value(row, "id"), _value(row, "article")
            if number and "/wiki/" in article:
                title = unquote(article.partition("/wiki/")[2]).replace("_", " ")
                self._articles.setdefault(f"{kind}:{number}", (title, year_of(_value(row, "first"))))

    async def look_up(self, wanted: Wanted, fetcher: Fetcher) -> Found:
        """By the article that Wikidata names for an id, else by title and year."""
        ways = ((f"imdb:{wanted.imdb_id}", "imdb_id"), (f"tmdb:{wanted.tmdb_id}", "tmdb_id"))
        for key, by in ways:
            if key in self._articles:
                title, year = self._articles[key]
                facts = await self._article(title, year, fetcher)
                sure = confidence_in_id(wanted.title, wanted.year, Candidate(title, (_bare(title),), year))
                return Found(by, 1.0 if wanted.certain else sure, facts)
        if not wanted.title.strip():
            return Found("title", reason="Wikidata names no article for its id, and it has no title")
        return await self._by_title(wanted, fetcher)

    async def _by_title(self, wanted: Wanted, fetcher: Fetcher) -> Found:
        year = f" {wanted.year}" if wanted.year is not None else ""
        params = {"list": "search", "srsearch": f"{search_words(wanted.title)}{year} film", "srlimit": "5"}
        response = await self._query(params, fetcher, then=1)
        titles = [str(one.get("title")) for one in objects(part(response, "query").get("search"))]
        candidates = [Candidate(title, (_bare(title),), _year_in(title) or wanted.year) for title in titles]
        guesses = ranked(wanted.title, wanted.year, candidates)
        if not guesses or guesses[0].confidence < 0.5:
            return Found("title", guesses=tuple(guesses[:3]), reason="Wikipedia has no film of that title")
        best = guesses[0]
        facts = await self._article(best.candidate.service_id, None, fetcher)
        agrees = ranked(wanted.title, wanted.year, [Candidate("", best.candidate.titles, facts.year)])[0].confidence
        return Found("title", min(best.confidence, agrees), facts, tuple(guesses[:3]))

    async def _article(self, title: str, year: int | None, fetcher: Fetcher) -> Facts:
        params = {"prop": "extracts", "explaintext": "1", "exsectionformat": "wiki", "redirects": "1", "titles": title}
        try:
            query = part(await self._query(params, fetcher), "query")
        except NotThere:
            query = {}
        page = next(iter(objects(query.get("pages"))), {})
        extract = page.get("extract")
        text = extract if isinstance(extract, str) else ""
        return Facts(
            service_id=title,
            title=_bare(title),
            year=year or _year_in(title) or _year_of_film(text),
            text=plot_in(text) or None,
            page=f"{self._wiki}/wiki/{quote(title.replace(' ', '_'))}",
        )

    async def _query(self, params: dict[str, str], fetcher: Fetcher, then: int = 0) -> dict[str, Any]:
        fixed = {"action": "query", "format": "json", "formatversion": "2", "maxlag": "5"}
        return await fetcher.json("/w/api.php", fixed | params, then=then, base=self._wiki)


def plot_in(text: str) -> str:
    """The plot section of an article, else its introduction; "" where there is neither."""
    parts = _HEADING.split(text)
    sections = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    found: list[str] = []
    depth = 0
    for marks, heading, body in sections:
        if found and len(marks) > depth:
            found.append(body)
        elif found:
            break
        elif heading.strip().casefold() in _PLOT:
            found, depth = [body], len(marks)
    plot = "\n".join(found).strip() or parts[0].strip()
    return re.sub(r"\n{2,}", "\n", plot)


def _value(row: dict[str, object], name: str) -> str:
    return str(part(row, name).get("value", ""))


def _bare(title: str) -> str:
    return _KIND.sub("", title)


def _year_in(title: str) -> int | None:
    found = _KIND.search(title)
    return int(found[1]) if found and found[1] else None


def _year_of_film(text: str) -> int | None:
    """The first year of an article's first sentence, where that says that it is about a film."""
    sentence = text.partition("\n")[0][:400]
    found = _FIRST_YEAR.search(sentence)
    return int(found[1]) if found and _OF_A_FILM.search(sentence) else None
