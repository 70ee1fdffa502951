"""The workers of a job, as the coordinating process sees them: dead ones are replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.runtime.errors import BadInput, UsageError
from ...data.runtime.progress import Progress
from .connection import Connection
from .messages import Assignment, WorkerInfo
from .worker import Worker

# of a batch, and, for each worker, of those that did not live until their first batch
MAX_DEATHS = 3
# one loads, one is encoded, one is written, and one waits
TASKS_PER_WORKER = 4
_SECONDS_BETWEEN_HINTS = 30.0
_PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "TOKENIZERS_PARALLELISM")


@dataclass
class PendingBatch:
    """One batch to be encoded, and how many workers died while they had it."""

    rows: npt.NDArray[np.int64]
    deaths: int = 0


@dataclass
class WorkerHandle:
    """A worker, and the calls to it that have not returned yet."""

    actor: Any
    info: WorkerInfo | None = None
    opening: Any = None
    tasks: dict[Any, PendingBatch] = field(default_factory=dict)

    @property
    def pending(self) -> list[Any]:
        """Its calls that have not returned yet."""
        return [self.opening] if self.opening else list(self.tasks)

    def open(self, assignment: Assignment) -> None:
        """Have it prepare for `assignment`, after whatever it is still preparing for."""
        self.info, self.opening = None, self.actor.open.remote(assignment, self.opening)

    @property
    def name(self) -> str:
        """For people."""
        return f"process {self.info.process} on {self.info.host}" if self.info else "a worker"

    @property
    def fields(self) -> dict[str, Any]:
        """For events."""
        return {"host": self.info.host, "process": self.info.process} if self.info else {}


class WorkerPool:
    """Workers on a Ray cluster: `wanted` of them, by default one a GPU, else one a core.

    Entering it starts them. Raises UsageError where the device wanted is not there, BadInput where the cluster has no
    CPUs, or where no worker lives until its first batch.
    """

    def __init__(self, connection: Connection, wanted: int | None, device: str, progress: Progress) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {device}: Ray gives each worker its own; expected auto, cpu or cuda")
        self._connection, self._wanted, self._device, self._progress = connection, wanted, device, progress
        self.handles: list[WorkerHandle] = []
        self._lost_at_start = 0
        self._hinted = time.monotonic()

    def __enter__(self) -> WorkerPool:
        self._ray = self._connection.ray
        self._measure()
        for _ in range(self.size):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            with suppress(Exception):
                self._ray.kill(handle.actor)
            if self._connection.own and handle.info is not None:  # a lost head ends no worker
                with suppress(OSError):
                    os.kill(handle.info.process, signal.SIGKILL)

    def _measure(self) -> None:
        """How many workers there are to be, and what each of them takes."""
        found = self._ray.cluster_resources()
        cores, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
        if self._device == "cuda" and not gpus:
            raise UsageError("--device cuda: this Ray cluster has no GPUs; use --device cpu or auto")
        self.on_gpus = gpus > 0 and self._device != "cpu"
        self.size = self._wanted or (gpus if self.on_gpus else cores)
        if self.size < 1:
            raise BadInput(
                f"the Ray cluster at {self._connection.address} has no CPUs to work on; start nodes with some"
            )
        self._threads = max(1, cores // self.size)

    def _start(self) -> WorkerHandle:
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        options = {
            "num_cpus": min(self._threads, 1) if self.on_gpus else self._threads,
            "num_gpus": 1 if self.on_gpus else 0,
            "max_concurrency": TASKS_PER_WORKER + 1,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        handle = WorkerHandle(self._ray.remote(Worker).options(**options).remote(passed, self._threads))
        self.handles.append(handle)
        return handle

    def open(self, assignment: Assignment) -> None:
        """Have all of them prepare for `assignment`."""
        self._hinted = time.monotonic()
        for handle in self.handles:
            handle.open(assignment)

    def first_result(self, call: Callable[[WorkerHandle], Any]) -> Any:
        """The result of a call (made by `call`) to every worker, from the first that returns."""
        while True:
            pending = {call(handle): handle for handle in self.handles}
            ready, _ = self._ray.wait(list(pending), timeout=_SECONDS_BETWEEN_HINTS)
            if not ready:
                self.hint()
                continue
            try:
                return self._connection.result(ready[0])
            except self._ray.exceptions.RayActorError as death:
                self.lost(pending[ready[0]], death)
                self.replace(pending[ready[0]], death)

    def ready(self, handle: WorkerHandle, info: WorkerInfo) -> None:
        """Note that a worker is ready for its first batch."""
        handle.info, handle.opening, self._lost_at_start = info, None, 0
        self._progress.event("worker", state="ready", **handle.fields, device=info.device, writes=not info.sends)

    def lost(self, handle: WorkerHandle, death: Exception) -> None:
        """Report that a worker died."""
        self._progress.event("worker", state="lost", reason=reason_of(death), **handle.fields)

    def replace(self, handle: WorkerHandle, death: Exception) -> WorkerHandle:
        """Another worker for a dead one. Raises BadInput where none lives until its first batch."""
        self._progress.message(f"{handle.name} is lost ({reason_of(death)}); its batches are done again")
        with suppress(Exception):
            self._ray.kill(handle.actor)
        self.handles.remove(handle)
        self._lost_at_start = 0 if handle.info else self._lost_at_start + 1
        if self._lost_at_start >= MAX_DEATHS * self.size:
            raise BadInput(f"no Ray worker lives until its first batch ({reason_of(death)}); give them more memory")
        return self._start()

    def hint(self) -> None:
        """Print now and then, as long as no worker has begun, why that may be."""
        if (
            not any(handle.info for handle in self.handles)
            and time.monotonic() - self._hinted >= _SECONDS_BETWEEN_HINTS
        ):
            free, gpu = self._ray.available_resources(), " and a GPU" if self.on_gpus else ""
            self._progress.message(
                f"waiting for workers: each needs {self._threads} CPUs{gpu}; free in the cluster are "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"
            )
            self._hinted = time.monotonic()


def reason_of(death: Exception) -> str:
    """Why a worker died, in one line without Ray's explanations."""
    words = str(death)
    if "running low on memory" in words:  # Ray's own monitor did it
        return "out of memory"
    if getattr(death, "preempted", False):
        return "its machine was taken away"
    if "node" in words.lower() and "died" in words.lower() and "node was" in words.lower():
        return "its machine is gone"
    return "its process died"
