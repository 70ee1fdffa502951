"""The workers of a job, as the process that deals out sees them: as many as are wanted, however many die."""

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
from .messages import Assignment, Presence
from .worker import Worker

# of a batch, and, for each worker, of those that did not live until their first batch
MOST_DEATHS = 3
# tasks that a worker has at hand: one loads, one is encoded, one is written, and one waits
AT_HAND = 4
_SECONDS_BETWEEN_HINTS = 30.0
_PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "TOKENIZERS_PARALLELISM")


@dataclass
class Deal:
    """One batch to be done, and how many workers died with it at hand."""

    rows: npt.NDArray[np.int64]
    deaths: int = 0


@dataclass
class Hand:
    """A worker, and what it was asked and has not answered yet."""

    actor: Any
    presence: Presence | None = None
    opening: Any = None
    tasks: dict[Any, Deal] = field(default_factory=dict)

    @property
    def asked(self) -> list[Any]:
        """What it owes an answer to."""
        return [self.opening] if self.opening else list(self.tasks)

    def open(self, assignment: Assignment) -> None:
        """Ask it to make ready for `assignment`, after whatever it is opening still."""
        self.presence, self.opening = None, self.actor.open.remote(assignment, self.opening)

    @property
    def name(self) -> str:
        """For people."""
        return f"process {self.presence.process} on {self.presence.host}" if self.presence else "a worker"

    @property
    def fields(self) -> dict[str, Any]:
        """For events."""
        return {"host": self.presence.host, "process": self.presence.process} if self.presence else {}


class Crew:
    """Workers on a Ray cluster: `wanted` of them, by default one a GPU, else one a core.

    Enter it to have them started. Raises UsageError where the device that is asked for is not there, BadInput where
    nothing is there to work on, or where no worker lives.
    """

    def __init__(self, connection: Connection, wanted: int | None, device: str, progress: Progress) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {device}: Ray gives each worker its own; expected auto, cpu or cuda")
        self._connection, self._wanted, self._device, self._progress = connection, wanted, device, progress
        self.hands: list[Hand] = []
        self._lost_at_start = 0
        self._hinted = time.monotonic()

    def __enter__(self) -> Crew:
        self._ray = self._connection.ray
        self._measure()
        for _ in range(self.size):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for hand in self.hands:
            with suppress(Exception):
                self._ray.kill(hand.actor)
            if self._connection.own and hand.presence is not None:  # a lost head ends no worker
                with suppress(OSError):
                    os.kill(hand.presence.process, signal.SIGKILL)

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

    def _start(self) -> Hand:
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        options = {
            "num_cpus": min(self._threads, 1) if self.on_gpus else self._threads,
            "num_gpus": 1 if self.on_gpus else 0,
            "max_concurrency": AT_HAND + 1,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        hand = Hand(self._ray.remote(Worker).options(**options).remote(passed, self._threads))
        self.hands.append(hand)
        return hand

    def open(self, assignment: Assignment) -> None:
        """Ask all of them to make ready for `assignment`."""
        self._hinted = time.monotonic()
        for hand in self.hands:
            hand.open(assignment)

    def first_answer(self, ask: Callable[[Hand], Any]) -> Any:
        """What the first worker that can be asked says."""
        while True:
            asked = {ask(hand): hand for hand in self.hands}
            ready, _ = self._ray.wait(list(asked), timeout=_SECONDS_BETWEEN_HINTS)
            if not ready:
                self.hint()
                continue
            try:
                return self._connection.answer(ready[0])
            except self._ray.exceptions.RayActorError as death:
                self.lost(asked[ready[0]], death)
                self.replace(asked[ready[0]], death)

    def ready(self, hand: Hand, presence: Presence) -> None:
        """A worker says that it is ready for its first batch."""
        hand.presence, hand.opening, self._lost_at_start = presence, None, 0
        self._progress.event("worker", state="ready", **hand.fields, device=presence.device, writes=not presence.sends)

    def lost(self, hand: Hand, death: Exception) -> None:
        """Tell that a worker died."""
        self._progress.event("worker", state="lost", reason=reason_of(death), **hand.fields)

    def replace(self, hand: Hand, death: Exception) -> Hand:
        """Another worker for a dead one. Raises BadInput where none lives until its first batch."""
        self._progress.message(f"{hand.name} is lost ({reason_of(death)}); what it had at hand is done again")
        with suppress(Exception):
            self._ray.kill(hand.actor)
        self.hands.remove(hand)
        self._lost_at_start = 0 if hand.presence else self._lost_at_start + 1
        if self._lost_at_start >= MOST_DEATHS * self.size:
            raise BadInput(f"no Ray worker lives until its first batch ({reason_of(death)}); give them more memory")
        return self._start()

    def hint(self) -> None:
        """Say now and then, as long as no worker has begun, why that may be."""
        if not any(hand.presence for hand in self.hands) and time.monotonic() - self._hinted >= _SECONDS_BETWEEN_HINTS:
            free, gpu = self._ray.available_resources(), " and a GPU" if self.on_gpus else ""
            self._progress.message(
                f"waiting for workers: each asks for {self._threads} CPUs{gpu}; free in the cluster are "
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
