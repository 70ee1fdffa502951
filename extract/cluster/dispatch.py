"""Batches dealt out to workers, until each has been done by one of them.

A batch counts when its worker has said so: what a dead worker had at hand is dealt out again.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

from ...data.embeddings.rows import RowWriter
from ...data.runtime.errors import BadInput
from ...data.runtime.progress import Phase
from ...data.runtime.termination import asked_to_stop
from .assignments import Orders
from .connection import Connection
from .workers import AT_HAND, MOST_DEATHS, Crew, Deal, Hand, reason_of


class Dealing:
    """One round over all batches of some work.

    Raises BadInput where a batch kills its workers, CinefuseError where the head of the cluster is lost.
    """

    def __init__(self, connection: Connection, crew: Crew, orders: Orders, writer: RowWriter, phase: Phase) -> None:
        self._connection, self._crew, self._orders, self._writer, self._phase = connection, crew, orders, writer, phase
        self._waiting = deque(Deal(rows) for rows in orders.work.batches())

    def to_the_end(self) -> None:
        """Deal and wait until every batch is done and on the disk; after SIGTERM, only until those at hand are."""
        self._crew.open(self._orders.assignment)
        while (self._waiting and not asked_to_stop()) or any(hand.tasks for hand in self._crew.hands):
            self._hand_out()
            asked = [ref for hand in self._crew.hands for ref in hand.asked]
            ready, _ = self._connection.ray.wait(asked, timeout=1.0)
            self._connection.refuse_a_lost_head()
            self._crew.hint()
            for ref in ready:
                self._settle(ref)
        for hand in self._crew.hands:
            if hand.presence is not None and not hand.presence.sends:
                with suppress(self._connection.ray.exceptions.RayActorError):
                    self._connection.answer(hand.actor.sync.remote())

    def _hand_out(self) -> None:
        """Give workers more to do. A batch with which a worker died goes out alone, so that it alone can be blamed."""
        if asked_to_stop():
            return
        for hand in self._crew.hands:
            while hand.presence is not None and self._waiting and len(hand.tasks) < AT_HAND:
                suspect = self._waiting[0].deaths > 0
                if hand.tasks and (suspect or any(deal.deaths for deal in hand.tasks.values())):
                    break
                deal = self._waiting.popleft()
                task = self._orders.task(deal.rows, reads_posters=hand.presence.reads_posters)
                hand.tasks[hand.actor.encode.remote(task)] = deal

    def _settle(self, ref: Any) -> None:
        """Take the answer that is there."""
        hand = next((hand for hand in self._crew.hands if ref in hand.asked), None)
        if hand is None:  # its worker was lost a moment ago
            return
        exceptions = self._connection.ray.exceptions
        try:
            answer = self._connection.answer(ref)
        except exceptions.RayActorError as death:
            self._bury(hand, death)
        except (exceptions.ObjectLostError, exceptions.OwnerDiedError, exceptions.ObjectFetchTimedOutError):
            self._waiting.append(hand.tasks.pop(ref))  # its rows were lost on the way here
        else:
            if ref == hand.opening:
                self._crew.ready(hand, answer)
                return
            del hand.tasks[ref]
            for row in answer.rows:
                self._writer.write(self._orders.work.job.name, *row)
            self._phase.advance(answer.items, answer.positions, answer.bytes)

    def _bury(self, hand: Hand, death: Exception) -> None:
        """Another worker for a dead one; the batches it had at hand are dealt out again, each by itself."""
        self._crew.lost(hand, death)
        for deal in reversed(hand.tasks.values()):
            deal.deaths += not getattr(death, "preempted", False)
            if deal.deaths >= MOST_DEATHS:
                raise self._deadly(deal, death)
            self._waiting.appendleft(deal)
        self._crew.replace(hand, death).open(self._orders.assignment)

    def _deadly(self, deal: Deal, death: Exception) -> BadInput:
        work, rows = self._orders.work, deal.rows
        items = ", ".join(str(item) for item in work.file.ids[rows[:5]].tolist())
        more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
        return BadInput(
            f"{work.job.name} batch {int(work.plan.batch[rows[0]])} (items {items}{more}): {deal.deaths} workers died "
            f"while encoding it ({reason_of(death)}); give workers more memory, take smaller batches, or mend these "
            "items, and run the same command again"
        )
