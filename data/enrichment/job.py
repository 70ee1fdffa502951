"""The whole of an enrichment: what is lacking is looked up, many items at once, and becomes part of the dataset."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter, deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from ..dataset.catalog import Catalog
from ..runtime.errors import BadInput, Interrupted, Terminated, UsageError
from ..runtime.lock import sole_writer
from ..runtime.progress import NoProgress, Progress
from ..runtime.termination import PATIENCE
from .applying import Applied, Outcome, apply
from .client import Client, Lane, Refused, Stop, Traffic, Unreachable, is_loopback
from .fetcher import Fetcher, NotThere, WouldFetch
from .keys import find_key, keep_out_of_logs
from .omdb import Omdb
from .responses import Responses, default_cache
from .tmdb import Tmdb
from .wikipedia import Wikipedia
from .wishes import ItemIds, Wish, wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .facts import Found, Service, Wanted
    from .keys import Key

SourceName = Literal["tmdb", "omdb", "wikidata"]

_IN_A_ROW: Final = 20  # failures after which a server counts as down
# kB of a poster, roughly, by the width in its size's name
_POSTER_KB: Final = {"w92": 5, "w154": 9, "w185": 12, "w342": 30, "w500": 60, "w780": 130, "original": 600}


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
    service = _service(options)
    key = find_key(service.keys, options.key_file, service.shown) if service.keys else None
    base = _base(service, options, keyed=key is not None)
    if key is not None:
        keep_out_of_logs(key)
    folder = (options.cache or default_cache()) / service.name
    catalog = Catalog.open(dataset)
    everything, wished = _wishes(catalog, dataset, service, options)
    with Responses(folder, service.max_age) as responses, sole_writer(dataset), sole_writer(responses.file):
        catalog = Catalog.open(dataset)  # as it is now that nobody else writes it
        run = _Run(service, responses, base, key, options, progress or NoProgress())
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


def plan_enrichment(dataset: Path, options: EnrichOptions) -> EnrichPlan:
    """Count what `enrich` would do, without a key and without any request."""
    service = _service(options)
    base = _base(service, options, keyed=False)
    catalog = Catalog.open(dataset)
    everything, wished = _wishes(catalog, dataset, service, options)
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


def _wishes(
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


def _service(options: EnrichOptions) -> Service:
    if options.source == "tmdb":
        return Tmdb(options.language, options.poster_size)
    return Omdb() if options.source == "omdb" else Wikipedia(options.language, options.base_url)


def _base(service: Service, options: EnrichOptions, *, keyed: bool) -> str:
    base = options.base_url or service.address
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or "@" in parts.netloc:
        raise UsageError("--base-url: expected http(s)://HOST[/PATH], without a login or a key in it")
    if keyed and parts.scheme == "http" and not is_loopback(base):
        raise UsageError(f"--base-url {base}: over http:// anyone on the way could read the key; use https://")
    return base.rstrip("/")


@dataclass
class _Run:
    """One enrichment while it runs."""

    service: Service
    responses: Responses
    base: str
    key: Key | None
    options: EnrichOptions
    progress: Progress
    stopped: str = ""
    ended_by: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    cached: int = 0
    _failures: int = 0
    _poster_failures: int = 0

    async def all(self, everything: list[Wanted], wished: list[Wish]) -> list[Outcome]:
        """Look all wishes up; fewer where the run was stopped, in the order of the wishes."""
        connections = self.options.connections or self.service.connections
        contact = f"; {self.options.contact}" if self.options.contact else ""
        agent = f"cinefuse/{version('cinefuse')} (enrichment of a film dataset{contact})"
        rate = self.options.rate or self.service.rate
        lane, poster_lane = Lane(rate), Lane(max(rate, 40.0))
        outcomes: dict[int, Outcome] = {}
        queue = deque(enumerate(wished))
        client = Client(
            agent, connections, tries=self.options.tries, pause=self.options.pause, patience=self.options.patience
        )
        async with client:
            self.traffic = client.traffic
            fetcher = Fetcher(self.service, self.responses, self.base, client, lane, poster_lane, self.key)
            await self._prepare(everything, fetcher)
            earlier = client.traffic.received
            with self.progress.phase(self.service.shown, len(wished)) as phase, self._ending(lane, poster_lane):

                async def work() -> None:
                    while queue and not self.stopped:
                        place, wish = queue.popleft()
                        outcome = await self._one(wish, fetcher)
                        if outcome is not None:
                            outcomes[place] = outcome
                            phase.advance(1, size=client.traffic.received - earlier - phase.size_done)

                workers = [asyncio.create_task(work()) for _ in range(min(connections, len(wished)))]
                try:
                    await self._finish(workers)
                finally:
                    for worker in workers:
                        worker.cancel()
            self.cached = fetcher.cached
        return [outcomes[place] for place in sorted(outcomes)]

    def raise_if_ended(self, done: int, wanted: int) -> None:
        """Raise what a signal means, once everything that arrived is kept."""
        words = f"{done:,} of {wanted:,} items were looked up; what arrived is kept, the same command continues"
        if self.ended_by == signal.SIGINT:
            raise Interrupted(f"stopped: {words}")
        if self.ended_by:
            raise Terminated(f"stopped by SIGTERM: {words}")

    async def _prepare(self, everything: list[Wanted], fetcher: Fetcher) -> None:
        try:
            await self.service.prepare(everything, fetcher)
        except (Stop, Refused, Unreachable) as fault:
            advice = "; check the key" if "key" in str(fault) else "; nothing was changed, run it again later"
            raise BadInput(f"{self.service.shown}: {fault}{advice}") from None

    async def _finish(self, workers: list[asyncio.Task[None]]) -> None:
        """Wait for the workers; after a signal no longer than what is in flight may take."""
        pending = set(workers)
        while pending:
            done, pending = await asyncio.wait(pending, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            if self.ended_by:
                await asyncio.wait(pending, timeout=PATIENCE) if pending else None
                return

    async def _one(self, wish: Wish, fetcher: Fetcher) -> Outcome | None:
        try:
            found = await self.service.look_up(wish.wanted, fetcher)
        except Stop as stop:
            self.stopped = self.stopped or str(stop)
            return None
        except (Refused, NotThere) as refusal:
            return Outcome(wish, problem=str(refusal) or f"{self.service.shown} does not have it")
        except Unreachable as fault:
            self._failures += 1
            if self._failures >= _IN_A_ROW:
                self.stopped = self.stopped or f"{_IN_A_ROW} items in a row could not be looked up (last: {fault})"
            return Outcome(wish, problem=f"{fault}; run it again later")
        self._failures = 0
        accepted = found.facts is not None and found.confidence >= self.options.accept
        if not accepted or "poster" not in wish.lacks:
            return Outcome(wish, found, accepted)
        return await self._with_poster(wish, found, fetcher)

    async def _with_poster(self, wish: Wish, found: Found, fetcher: Fetcher) -> Outcome | None:
        assert found.facts is not None
        address = found.facts.poster
        if address is None:
            return Outcome(wish, found, accepted=True)
        if self._poster_failures >= _IN_A_ROW:
            return Outcome(
                wish, found, accepted=True, poster_problem="the server of posters is down; run it again later"
            )
        try:
            file = await fetcher.poster(address)
        except Stop as stop:
            self.stopped = self.stopped or str(stop)
            return None
        except Refused as refusal:
            return Outcome(wish, found, accepted=True, poster_problem=str(refusal))
        except Unreachable as fault:
            self._poster_failures += 1
            return Outcome(wish, found, accepted=True, poster_problem=f"{fault}; run it again later")
        self._poster_failures = 0
        return Outcome(wish, found, accepted=True, poster=file)

    @contextmanager
    def _ending(self, *lanes: Lane) -> Iterator[None]:
        """Ctrl-C and SIGTERM inside: no new request is sent, and what is in flight is finished and kept."""

        def end(number: int) -> None:
            self.ended_by = self.ended_by or number
            self.stopped = self.stopped or "stopped"
            for lane in lanes:
                lane.closed = True

        loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
        watched = threading.current_thread() is threading.main_thread()
        if watched:
            for number in signals:
                loop.add_signal_handler(number, end, number)
        try:
            yield
        finally:
            if watched:
                for number in signals:
                    with suppress(ValueError):
                        loop.remove_signal_handler(number)


def _kind_of(why: str) -> str:
    """A reason without what differs from item to item."""
    return why.partition(" (")[0].partition(":")[0]
