"""What an enrichment would do, counted without a key and without any request."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..dataset.catalog import Catalog
from .client import Refused, Unreachable
from .fetcher import Fetcher, WouldFetch
from .options import EnrichOptions, address_of, service_of, wishes_of
from .responses import Responses, default_cache
from .wishes import Wish

if TYPE_CHECKING:
    from .services.facts import Service, Wanted


# kB of a poster, roughly, by the width in its size's name
_POSTER_KB: Final = {"w92": 5, "w154": 9, "w185": 12, "w342": 30, "w500": 60, "w780": 130, "original": 600}


@dataclass(frozen=True)
class EnrichPlan:
    """What an enrichment would do: items to look up, requests still needed, posters; roughly megabytes and seconds."""

    items: int
    of: int
    ways: dict[str, int]
    requests: int
    posters: int
    megabytes: float
    seconds: float


def plan_enrichment(dataset: Path, options: EnrichOptions) -> EnrichPlan:
    """Count what `enrich` would do, without a key and without any request."""
    service = service_of(options)
    base = address_of(service, options, keyed=False)
    catalog = Catalog.open(dataset)
    everything, wished = wishes_of(catalog, dataset, service, options)
    with Responses((options.cache or default_cache()) / service.name, service.max_age) as responses:
        fetcher = Fetcher(service, responses, base, None)
        requests, posters = asyncio.run(_count(service, fetcher, everything, wished, options))
    rate = options.rate or service.rate
    size = _POSTER_KB.get(options.poster_size, 60) if service.name == "tmdb" else 30
    return EnrichPlan(
        items=len(wished),
        of=len(catalog),
        ways=dict(Counter(_way(wish.wanted, service) for wish in wished)),
        requests=requests,
        posters=posters,
        megabytes=requests * service.megabytes + posters * size / 1000,
        seconds=max(requests, posters) / rate,
    )


async def _count(
    service: Service, fetcher: Fetcher, everything: list[Wanted], wished: list[Wish], options: EnrichOptions
) -> tuple[int, int]:
    requests = posters = 0
    await service.prepare(everything, fetcher)
    for wish in wished:
        poster = "poster" in wish.lacks
        try:
            found = await service.look_up(wish.wanted, fetcher)
        except WouldFetch as missing:
            requests += missing.calls
            posters += poster
            continue
        except (Refused, Unreachable):
            continue
        if poster and found.facts and found.facts.poster and found.confidence >= options.accept:
            try:
                await fetcher.poster(found.facts.poster)
            except WouldFetch:
                posters += 1
            except Refused:
                pass
    return requests, posters


def _way(wanted: Wanted, service: Service) -> str:
    if wanted.tmdb_id is not None and service.name != "omdb":
        return "TMDB id"
    return "IMDb id" if wanted.imdb_id else "title and year"
