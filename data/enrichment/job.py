"""The whole of an enrichment: what is lacking is looked up, many items at once, and becomes part of the dataset."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..dataset.catalog import Catalog
from ..runtime.lock import sole_writer
from ..runtime.progress import NoProgress, Progress
from .applying import Applied, apply
from .client import Traffic
from .keys import find_key, keep_out_of_logs
from .look_up import LookUp
from .options import EnrichOptions, address_of, service_of, wishes_of
from .responses import Responses, default_cache


@dataclass(frozen=True)
class EnrichReport:
    """What an enrichment did: counts by what was taken, how many doubtful, why something is missing, the traffic.

    ``stopped`` says why it ended before the last item; "" where it did not.
    """

    dataset: Path
    service: str
    notice: str
    looked_up: int
    wanted: int
    taken: dict[str, int]
    doubtful: int
    missing: dict[str, int]
    traffic: Traffic
    cached: int
    stopped: str = ""


def enrich(dataset: Path, options: EnrichOptions, progress: Progress | None = None) -> EnrichReport:
    """Bring plots, posters and tags from a service into a dataset folder.

    What was fetched once is kept in a cache and never fetched again, so the same call continues one that was stopped.
    Raises UsageError for a missing key or an unknown size, BadInput for a dataset or key that cannot be used, Busy
    where another process enriches, Interrupted on Ctrl-C, Terminated on SIGTERM.
    """
    service = service_of(options)
    key = find_key(service.keys, options.key_file, service.shown) if service.keys else None
    base = address_of(service, options, keyed=key is not None)
    if key is not None:
        keep_out_of_logs(key)
    folder = (options.cache or default_cache()) / service.name
    catalog = Catalog.open(dataset)
    everything, wished = wishes_of(catalog, dataset, service, options)
    with Responses(folder, service.max_age) as responses, sole_writer(dataset), sole_writer(responses.file):
        catalog = Catalog.open(dataset)  # as it is now that nobody else writes it
        run = LookUp(service, responses, base, key, options, progress or NoProgress())
        outcomes = asyncio.run(run.all(everything, wished)) if wished else []
        run.raise_if_ended(len(outcomes), len(wished))
        applied = (
            apply(catalog, dataset, service, outcomes, overwrite=options.overwrite) if outcomes else Applied({}, [])
        )
    return EnrichReport(
        dataset,
        service.shown,
        service.notice,
        looked_up=len(outcomes),
        wanted=len(wished),
        taken=applied.taken,
        doubtful=sum(one.found is not None and one.found.facts is not None and not one.accepted for one in outcomes),
        missing=dict(Counter(f"{what}: {_kind_of(why)}" for _, _, what, why in applied.missing).most_common()),
        traffic=run.traffic,
        cached=run.cached,
        stopped=run.stopped,
    )


def _kind_of(why: str) -> str:
    """A reason without what differs from item to item."""
    return why.partition(" (")[0].partition(":")[0]
