"""The settings of an enrichment, and what follows from them: the service, its address, the items looked up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from ..dataset.catalog import Catalog
from ..runtime.errors import UsageError
from .client import is_loopback
from .services.omdb import Omdb
from .services.tmdb import Tmdb
from .services.wikipedia import Wikipedia
from .wishes import ItemIds, Wish, wishes

if TYPE_CHECKING:
    from .services.facts import Service, Wanted


SourceName = Literal["tmdb", "omdb", "wikidata"]


@dataclass(frozen=True)
class EnrichOptions:
    """The settings of an enrichment.

    accept: the least confidence, 0 to 1, that a match needs. rate: requests a second, None for what the service
    allows. cache: the folder of responses. pause and patience in seconds: before the first retry, and for one response.
    """

    source: SourceName = "tmdb"
    posters: bool = True
    poster_size: str = "w342"
    language: str = "en-US"
    accept: float = 0.8
    overwrite: bool = False
    item_ids: ItemIds | None = None
    matches: Path | None = None
    rate: float | None = None
    connections: int | None = None
    key_file: Path | None = None
    base_url: str | None = None
    contact: str | None = None
    cache: Path | None = None
    tries: int = 5
    pause: float = 0.5
    patience: float = 60.0


def wishes_of(
    catalog: Catalog, dataset: Path, service: Service, options: EnrichOptions
) -> tuple[list[Wanted], list[Wish]]:
    return wishes(
        catalog,
        dataset,
        service.gives,
        overwrite=options.overwrite,
        posters=options.posters,
        item_ids=options.item_ids,
        matches=options.matches,
    )


def service_of(options: EnrichOptions) -> Service:
    if options.source == "tmdb":
        return Tmdb(options.language, options.poster_size)
    return Omdb() if options.source == "omdb" else Wikipedia(options.language, options.base_url)


def address_of(service: Service, options: EnrichOptions, *, keyed: bool) -> str:
    base = options.base_url or service.address
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or "@" in parts.netloc:
        raise UsageError("--base-url: expected http(s)://HOST[/PATH], without a login or a key in it")
    if keyed and parts.scheme == "http" and not is_loopback(base):
        raise UsageError(f"--base-url {base}: over http:// anyone on the way could read the key; use https://")
    return base.rstrip("/")
