"""Stage one on Ray: this process plans and deals out batches, workers on any machines encode and write them.

The plan, the batches and the encoders are those of a local run, so its file is the same to the last byte. Workers write
the one file by `pwrite` where they see it; elsewhere they send their rows, and this process writes them. A batch counts
when its worker has said so: what a dead worker had in hand is dealt out again.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.disk import file_system
from ..data.errors import BadInput, CinefuseError, UsageError
from ..data.progress import Phase, Watcher
from ..data.rows import RowWriter
from ..data.status import Reason
from ..data.termination import asked_to_stop, finished_first
from ..data.verify import intact_rows
from .batch import Cluster
from .cluster_worker import Assignment, Presence, Task, Worker, machine, versions
from .job import DEFAULT_BATCH, Settings
from .poster import PosterProblem, read_poster
from .run import Work

# a batch on which so many workers died is not tried again
MOST_DEATHS = 3
# tasks that a worker has at hand: one loads, one is encoded, one is written, and one waits
_AT_HAND = 4
_SECONDS_BETWEEN_HINTS = 30.0
_OBJECT_STORE = 256 * 2**20
# where what one machine writes, another reads at once, and two may write into one block
_COHERENT = {"lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "fuse.ceph-fuse", "wekafs", "gfs2", "ocfs2"}
# Ray says nothing to anybody: no usage report, no metrics, no dashboard
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_raylet_start_wait_time_s": "180",
}
# a cluster of our own keeps to this machine: this switch, whatever its name says, makes every address of it 127.0.0.1
_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# on a busy machine a node may miss the half minute that Ray grants it
_STARTS = 3
_PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "TOKENIZERS_PARALLELISM")


@dataclass
class _Hand:
    """A worker as seen from here: what it was asked and has not answered yet."""

    actor: Any
    presence: Presence | None = None
    opening: Any = None
    tasks: dict[Any, _Deal] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"process {self.presence.process} on {self.presence.host}" if self.presence else "a worker"


@dataclass
class _Deal:
    """One batch to be done, and how many workers died with it at hand."""

    rows: npt.NDArray[np.int64]
    deaths: int = 0


class RayEngine:
    """Workers on a Ray cluster. Enter it to connect; leaving it stops every process that it started.

    Raises BadInput where Ray is missing, where there is no such cluster, where workers cannot be had, or where a batch
    kills them.
    """

    def __init__(self, cluster: Cluster, settings: Settings, out: Path, watcher: Watcher) -> None:
        if find_spec("ray") is None:
            raise BadInput("--engine ray: Ray is not installed; pip install 'cinefuse[ray]'")
        self._address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
        if "://" in self._address:
            raise UsageError(
                f"--address {self._address}: expected HOST:PORT or auto; from another machine, use `ray job submit`"
            )
        if settings.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {settings.device}: Ray gives each worker its own; expected auto, cpu or cuda")
        self._cluster, self._out, self._watcher = cluster, out, watcher
        self._device = settings.device
        self._hands: list[_Hand] = []
        self._lost_at_start = 0
        self._folder: str | None = None
        self._hinted = time.monotonic()
        self._posters: list[str | None] = []

    # --- the cluster --------------------------------------------------------------------------------------------------

    def __enter__(self) -> RayEngine:
        _prepare_environment(own=self._address == "local")
        import ray

        self._ray: Any = ray
        _silence(ray)
        options: dict[str, Any] = {
            "address": self._address,
            "log_to_driver": False,
            "configure_logging": False,
            "logging_level": logging.CRITICAL,
        }
        if self._address == "local":
            cores = max(os.cpu_count() or 1, self._cluster.workers or 1)
            self._folder = tempfile.mkdtemp(prefix="cinefuse-ray-", dir=_folder_for_sockets())
            options |= {"include_dashboard": False, "num_cpus": cores, "object_store_memory": _OBJECT_STORE}
            options |= {"_node_ip_address": "127.0.0.1", "_temp_dir": self._folder}
        else:
            _refuse_a_silent(self._address)
        try:
            self._connect(options)
            self._measure()
            for _ in range(self._workers):
                self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for hand in self._hands:
            with suppress(Exception):
                self._ray.kill(hand.actor)
        with _own_sigterm(), suppress(Exception):
            self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self, options: dict[str, Any]) -> None:
        left = _STARTS if self._address == "local" else 1
        while left:
            left -= 1
            try:
                with _own_sigterm():
                    self._ray.init(**options)
                return
            except Exception as error:  # a node that does not come up in time is a plain one
                self._ray.shutdown()
                if not left:
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    raise _no_cluster(self._address, reason) from None

    def _measure(self) -> None:
        """How many workers there are to be, and what each of them takes."""
        found = self._ray.cluster_resources()
        cores, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
        if self._device == "cuda" and not gpus:
            raise UsageError("--device cuda: this Ray cluster has no GPUs; use --device cpu or auto")
        self._on_gpus = gpus > 0 and self._device != "cpu"
        self._workers = self._cluster.workers or (gpus if self._on_gpus else cores)
        if self._workers < 1:
            raise BadInput(f"the Ray cluster at {self._address} has no CPUs to work on; start nodes with some")
        self._threads = max(1, cores // self._workers)

    def _start(self) -> None:
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        options = {
            "num_cpus": min(self._threads, 1) if self._on_gpus else self._threads,
            "num_gpus": 1 if self._on_gpus else 0,
            "max_concurrency": _AT_HAND + 1,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        actor = self._ray.remote(Worker).options(**options).remote(passed, self._threads)
        self._hands.append(_Hand(actor))

    def settled(self, settings: Settings) -> Settings:
        """`settings` with the precision and batch sizes that the workers' devices, not this machine's, ask for."""
        sizes = DEFAULT_BATCH["other" if self._on_gpus else "cpu"]
        precision = settings.precision
        begun = [self._out.with_name(self._out.name + ".partial"), *([] if settings.restart else [self._out])]
        if precision == "auto" and self._address != "local" and not any(path.exists() for path in begun):
            precision = self._first_answer(lambda hand: hand.actor.precision.remote())
        return replace(
            settings,
            device=settings.device if self._address == "local" else "cpu",  # for planning: workers know their own
            precision=precision,
            batch_tokens=settings.batch_tokens or sizes["text"],
            batch_posters=settings.batch_posters or sizes["image"],
        )

    def _first_answer(self, ask: Any) -> Any:
        """What the first worker that can be asked says."""
        while True:
            asked = {ask(hand): hand for hand in self._hands}
            ready, _ = self._ray.wait(list(asked), timeout=_SECONDS_BETWEEN_HINTS)
            if not ready:
                self._hint()
                continue
            try:
                return self._answer(ready[0])
            except self._ray.exceptions.RayActorError as death:
                self._watcher.event("worker", state="lost", reason=_reason(death))
                self._replace(asked[ready[0]], death)

    # --- dealing out --------------------------------------------------------------------------------------------------

    def encode(self, work: Work, watcher: Watcher) -> None:
        """Have the workers encode every batch of `work`; on return all its rows are in the file."""
        device = "GPU" if self._on_gpus else "CPU"
        watcher.say(
            f"{work.job.name}: {work.job.source.name}, {work.precision}, {self._workers} Ray workers on {device}"
        )
        with watcher.phase(f"encoding {work.job.name}", int(work.wanted.sum()), work.positions) as phase:
            wanted = work.wanted
            for _ in range(MOST_DEATHS):
                self._deal_out(replace(work, wanted=wanted), phase)
                wanted = wanted & ~self._arrived(work)
                if not wanted.any():
                    return
        raise BadInput(
            f"{work.file.path}: {int(wanted.sum()):,} {work.job.name} rows that workers wrote are not there; "
            "is the file on a disk that all machines share? --send-rows does without"
        )

    def _arrived(self, work: Work) -> npt.NDArray[np.bool_]:
        """(N,) True for the rows that lie in the file; what other machines wrote is read and checked."""
        if all(hand.presence is None or hand.presence.same_machine or hand.presence.sends for hand in self._hands):
            return ~work.file[work.job.name].pending
        return intact_rows(work.file, work.job.name)

    def _deal_out(self, work: Work, phase: Phase) -> None:
        self._hinted = time.monotonic()
        self._posters = work.catalog.posters() if work.job.recipe is not None else []
        waiting = deque(_Deal(rows) for rows in work.batches())
        assignment = self._assignment(work)
        for hand in self._hands:  # one after another, where a worker has not even opened what was before
            hand.presence, hand.opening = None, hand.actor.open.remote(assignment, hand.opening)
        with finished_first(), RowWriter(work.file) as writer:
            while (waiting and not asked_to_stop()) or any(hand.tasks for hand in self._hands):
                self._hand_out(waiting, work)
                asked = [ref for hand in self._hands for ref in ([hand.opening] if hand.opening else hand.tasks)]
                ready, _ = self._ray.wait(asked, timeout=1.0)
                if not any(hand.presence for hand in self._hands):
                    self._hint()
                for ref in ready:
                    self._settle(ref, waiting, assignment, work, writer, phase)
            for hand in self._hands:
                if hand.presence is not None and not hand.presence.sends:
                    with suppress(self._ray.exceptions.RayActorError):
                        self._answer(hand.actor.sync.remote())

    def _hand_out(self, waiting: deque[_Deal], work: Work) -> None:
        """Give workers more to do. A batch with which a worker died goes out alone, so that it alone can be blamed."""
        if asked_to_stop():
            return
        for hand in self._hands:
            while hand.presence is not None and waiting and len(hand.tasks) < _AT_HAND:
                suspect = waiting[0].deaths > 0
                if hand.tasks and (suspect or any(deal.deaths for deal in hand.tasks.values())):
                    break
                deal = waiting.popleft()
                hand.tasks[hand.actor.encode.remote(self._task(work, deal.rows, hand.presence.reads_posters))] = deal

    def _settle(
        self, ref: Any, waiting: deque[_Deal], assignment: Assignment, work: Work, writer: RowWriter, phase: Phase
    ) -> None:
        hand = next((hand for hand in self._hands if ref == hand.opening or ref in hand.tasks), None)
        if hand is None:  # its worker was lost a moment ago
            return
        exceptions = self._ray.exceptions
        try:
            answer = self._answer(ref)
        except exceptions.RayActorError as death:
            self._bury(hand, death, waiting, assignment, work)
        except (exceptions.ObjectLostError, exceptions.OwnerDiedError, exceptions.ObjectFetchTimedOutError):
            waiting.append(hand.tasks.pop(ref))  # its rows were lost on the way here
        else:
            if ref == hand.opening:
                hand.presence, hand.opening, self._lost_at_start = answer, None, 0
                told = {"host": answer.host, "process": answer.process, "device": answer.device}
                self._watcher.event("worker", state="ready", **told, writes=not answer.sends)
            else:
                del hand.tasks[ref]
                for row in answer.rows:
                    writer.write(work.job.name, *row)
                phase.advance(answer.items, answer.positions, answer.bytes)

    def _bury(self, hand: _Hand, death: Exception, waiting: deque[_Deal], assignment: Assignment, work: Work) -> None:
        """Another worker for a dead one; the batches it had at hand are dealt out again, each by itself."""
        begun = hand.presence is not None
        self._watcher.event("worker", state="lost", reason=_reason(death), **_where(hand))
        for deal in reversed(hand.tasks.values()):
            deal.deaths += not getattr(death, "preempted", False)
            if deal.deaths >= MOST_DEATHS:
                items = ", ".join(str(item) for item in work.file.ids[deal.rows[:5]].tolist())
                more = f" and {len(deal.rows) - 5:,} more" if len(deal.rows) > 5 else ""
                raise BadInput(
                    f"{work.job.name} batch {int(work.plan.batch[deal.rows[0]])} (items {items}{more}): {deal.deaths} "
                    f"workers died while encoding it ({_reason(death)}); give workers more memory, take smaller "
                    "batches, or mend these items, and run the same command again"
                )
            waiting.appendleft(deal)
        self._replace(hand, death, begun=begun)
        self._hands[-1].opening = self._hands[-1].actor.open.remote(assignment)

    def _replace(self, hand: _Hand, death: Exception, *, begun: bool = False) -> None:
        self._watcher.say(f"{hand.name} is lost ({_reason(death)}); what it had at hand is done again")
        with suppress(Exception):
            self._ray.kill(hand.actor)
        self._hands.remove(hand)
        self._lost_at_start = 0 if begun else self._lost_at_start + 1
        if self._lost_at_start >= MOST_DEATHS * self._workers:
            raise BadInput(f"no Ray worker lives until its first batch ({_reason(death)}); give them more memory")
        self._start()

    def _answer(self, ref: Any) -> Any:
        """What a worker answered; its refusals are refusals here."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, CinefuseError):
                raise cause from None
            if isinstance(cause, ImportError):
                raise BadInput(
                    f"a Ray worker cannot import what it needs ({cause}); install the same cinefuse on every machine"
                ) from None
            raise

    def _hint(self) -> None:
        """Say now and then that no worker has begun yet, and why that may be."""
        if time.monotonic() - self._hinted >= _SECONDS_BETWEEN_HINTS:
            free, gpu = self._ray.available_resources(), " and a GPU" if self._on_gpus else ""
            self._watcher.say(
                f"waiting for workers: each asks for {self._threads} CPUs{gpu}; free in the cluster are "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"
            )
            self._hinted = time.monotonic()

    # --- what workers are told ----------------------------------------------------------------------------------------

    def _assignment(self, work: Work) -> Assignment:
        job, settings = work.job, work.settings
        name = (settings.text_model if job.name == "text" else settings.image_model) or ""
        local = Path(name).expanduser().is_dir()
        return Assignment(
            name=job.name,
            model=str(job.source.folder) if local else name,
            revision=None if local else job.source.revision,
            weights=job.source.weights_sha256(),
            layer=job.layer,
            recipe=job.recipe,
            precision=work.precision,
            dtype=work.file[job.name].dtype,
            compile=settings.compile,
            limits=settings.limits,
            width=work.plan.width,
            posters=work.catalog.poster_root.resolve(),
            sample=self._sample(work),
            file=None if self._cluster.send_rows else work.file.path.resolve(),
            lock=self._lock,
            locked=self._lock.read_bytes(),
            coherent=file_system(work.file.path) in _COHERENT,
            machine=machine(),
            versions=versions(),
        )

    @property
    def _lock(self) -> Path:
        return self._out.with_name(self._out.name + ".lock").resolve()

    def _sample(self, work: Work) -> tuple[str, bytes] | None:
        """A poster by which a worker finds out whether it sees the same ones."""
        for row in np.flatnonzero(work.wanted).tolist():
            path = self._posters[row] if self._posters else None
            if path is not None:
                return path, work.plan.digest[row].tobytes()
        return None

    def _task(self, work: Work, rows: npt.NDArray[np.int64], reads_posters: bool) -> Task:
        ids = work.file.ids[rows] if work.settings.strict else None
        posters = [self._posters[row] for row in rows.tolist()] if self._posters else []
        contents = [] if reads_posters else [self._content(path, work) for path in posters]
        return Task(work.plan.taking(rows), rows, work.wanted[rows], posters, contents, ids)

    @staticmethod
    def _content(path: str | None, work: Work) -> bytes | Reason:
        try:
            return read_poster(path or "", work.catalog.poster_root, work.settings.limits)
        except PosterProblem as problem:
            return problem.reason


def _prepare_environment(*, own: bool) -> None:
    """What Ray reads of the environment as it is imported; what the user has set stays."""
    wanted = _QUIET | (_ON_LOOPBACK if own else {})
    if own and not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ}:
        # other users of this machine reach its loopback; a token in the environment leaves no file in the home
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.update({name: value for name, value in wanted.items() if name not in os.environ})


def _silence(ray: Any) -> None:
    """Whatever matters is an exception too, and what Ray prints would stand between the events on standard output."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    ray._private.worker.print_to_stdstream = lambda *_, **__: None  # no option leaves its word on dead workers out


def _no_cluster(address: str, reason: str) -> BadInput:
    if address == "local":
        return BadInput(f"Ray did not start on this machine: {reason}; leave out --engine ray, or run it again")
    return BadInput(
        f"no Ray cluster at {address}: {reason}; start one with `ray start --head`, or leave --address out to use this "
        "machine alone"
    )


def _refuse_a_silent(address: str) -> None:
    """Ray itself tries for a quarter of an hour to reach an address where nobody listens."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _no_cluster(address, error.strerror or str(error)) from None


def _folder_for_sockets() -> str:
    """The folder for temporary files, unless its name is too long for a socket in it."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 20 else "/tmp"


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """SIGTERM stays what it is, whatever a library makes of it inside."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _reason(death: Exception) -> str:
    """Why a worker died, in one line without Ray's explanations."""
    words = str(death)
    if "running low on memory" in words:  # Ray's own monitor did it
        return "out of memory"
    if getattr(death, "preempted", False):
        return "its machine was taken away"
    if "node" in words.lower() and "died" in words.lower() and "node was" in words.lower():
        return "its machine is gone"
    return "its process died"


def _where(hand: _Hand) -> dict[str, Any]:
    return {"host": hand.presence.host, "process": hand.presence.process} if hand.presence else {}
