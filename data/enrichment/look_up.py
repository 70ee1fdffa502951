"""Items looked up, many at once, until all are done, the service stops, or a signal ends the run."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from ..runtime.errors import BadInput, Interrupted, Terminated
from ..runtime.progress import Progress
from ..runtime.termination import PATIENCE
from .applying import Outcome
from .client import Client, Lane, Refused, Stop, Traffic, Unreachable
from .fetcher import Fetcher, NotThere
from .options import EnrichOptions
from .responses import Responses
from .wishes import Wish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .keys import Key
    from .services.facts import Found, Service, Wanted

_IN_A_ROW: Final = 20  # failures after which a server counts as down


@dataclass
class LookUp:
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
