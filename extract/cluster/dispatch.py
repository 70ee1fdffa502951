"""Sends batches to workers until each has been encoded by one of them.

A batch counts when its worker has reported it done: the batches of a dead worker are sent out again.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

from ...data.embeddings.rows import RowWriter
from ...data.runtime.errors import BadInput
from ...data.runtime.progress import Phase
from ...data.runtime.termination import stop_requested
from .assignments import TaskFactory
from .connection import Connection
from .workers import MAX_DEATHS, TASKS_PER_WORKER, PendingBatch, WorkerHandle, WorkerPool, reason_of


class Dispatcher:
    """One round over all batches of some work.

    Raises BadInput where a batch kills its workers, CinefuseError where the head of the cluster is lost.
    """

    def __init__(
        self, connection: Connection, pool: WorkerPool, tasks: TaskFactory, writer: RowWriter, phase: Phase
    ) -> None:
        self._connection, self._pool, self._tasks, self._writer, self._phase = connection, pool, tasks, writer, phase
        self._waiting = deque(PendingBatch(rows) for rows in tasks.work.batches())

    def run(self) -> None:
        """Send batches out until all are done and on the disk; after SIGTERM, only until those already sent are."""
        self._pool.open(self._tasks.assignment)
        while (self._waiting and not stop_requested()) or any(handle.tasks for handle in self._pool.handles):
            self._send()
            pending = [ref for handle in self._pool.handles for ref in handle.pending]
            ready, _ = self._connection.ray.wait(pending, timeout=1.0)
            self._connection.refuse_a_lost_head()
            self._pool.hint()
            for ref in ready:
                self._settle(ref)
        for handle in self._pool.handles:
            if handle.info is not None and not handle.info.sends:
                with suppress(self._connection.ray.exceptions.RayActorError):
                    self._connection.result(handle.actor.sync.remote())

    def _send(self) -> None:
        """Send workers more batches. One with which a worker died goes out alone, so that it alone can be blamed."""
        if stop_requested():
            return
        for handle in self._pool.handles:
            while handle.info is not None and self._waiting and len(handle.tasks) < TASKS_PER_WORKER:
                suspect = self._waiting[0].deaths > 0
                if handle.tasks and (suspect or any(batch.deaths for batch in handle.tasks.values())):
                    break
                batch = self._waiting.popleft()
                task = self._tasks.task(batch.rows, reads_posters=handle.info.reads_posters)
                handle.tasks[handle.actor.encode.remote(task)] = batch

    def _settle(self, ref: Any) -> None:
        """Take the result of a call that has ended."""
        handle = next((handle for handle in self._pool.handles if ref in handle.pending), None)
        if handle is None:  # its worker was lost a moment ago
            return
        exceptions = self._connection.ray.exceptions
        try:
            result = self._connection.result(ref)
        except exceptions.RayActorError as death:
            self._replace_dead(handle, death)
        except (exceptions.ObjectLostError, exceptions.OwnerDiedError, exceptions.ObjectFetchTimedOutError):
            self._waiting.append(handle.tasks.pop(ref))  # its rows were lost on the way here
        else:
            if ref == handle.opening:
                self._pool.ready(handle, result)
                return
            del handle.tasks[ref]
            for row in result.rows:
                self._writer.put(self._tasks.work.job.name, row)
            self._phase.advance(result.items, result.positions, result.bytes)

    def _replace_dead(self, handle: WorkerHandle, death: Exception) -> None:
        """Start another worker for a dead one; its batches are sent out again, each by itself."""
        self._pool.lost(handle, death)
        for batch in reversed(handle.tasks.values()):
            batch.deaths += not getattr(death, "preempted", False)
            if batch.deaths >= MAX_DEATHS:
                raise self._fatal(batch, death)
            self._waiting.appendleft(batch)
        self._pool.replace(handle, death).open(self._tasks.assignment)

    def _fatal(self, batch: PendingBatch, death: Exception) -> BadInput:
        work, rows = self._tasks.work, batch.rows
        items = ", ".join(str(item) for item in work.file.ids[rows[:5]].tolist())
        more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
        return BadInput(
            f"{work.job.name} batch {int(work.plan.batch[rows[0]])} (items {items}{more}): {batch.deaths} workers died "
            f"while encoding it ({reason_of(death)}); give workers more memory, take smaller batches, or mend these "
            "items, and run the same command again"
        )
