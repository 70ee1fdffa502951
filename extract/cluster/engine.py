"""The engine of `--engine ray`: this process plans and sends out batches, workers on any machines encode them.

The plan, the batches and the encoders are those of a local run, so its file is the same to the last byte. Workers write
the one file by `pwrite` where they see it; elsewhere they send their rows, and this process writes them.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data.embeddings.rows import RowWriter
from ...data.embeddings.verification import intact_rows
from ...data.runtime.errors import BadInput
from ...data.runtime.progress import Progress
from ...data.runtime.termination import finished_first
from ..job.extraction import Work, wants_large_batches
from ..job.resume import file_to_continue
from ..job.settings import DEFAULT_BATCH, Settings
from .assignments import TaskFactory
from .connection import Cluster, Connection
from .dispatch import Dispatcher
from .workers import WorkerPool

# after so many rounds, rows that workers wrote and that are not there never will be
_MAX_ROUNDS = 3


class RayEngine:
    """Workers on a Ray cluster. Enter it to connect; leaving it stops every process that it started.

    Raises BadInput where Ray is missing, where there is no such cluster, where workers cannot be had, or where a batch
    kills them.
    """

    def __init__(self, cluster: Cluster, settings: Settings, out: Path, progress: Progress) -> None:
        self._connection = Connection(cluster.address, cluster.workers or 1)
        self._pool = WorkerPool(self._connection, cluster.workers, settings.device, progress)
        self._send_rows, self._out = cluster.send_rows, out
        self._entered = ExitStack()

    def __enter__(self) -> RayEngine:
        with ExitStack() as entered:
            entered.enter_context(self._connection)
            entered.enter_context(self._pool)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.close()

    def settled(self, settings: Settings) -> Settings:
        """`settings` with the precision and batch sizes that suit the workers' devices, not this machine's."""
        sizes = DEFAULT_BATCH["other" if self._pool.on_gpus else "cpu"]
        own, precision = self._connection.own, settings.precision
        if precision == "auto" and not own and file_to_continue(self._out, settings) is None:
            precision = self._pool.first_result(lambda handle: handle.actor.precision.remote())
        return replace(
            settings,
            device=settings.device if own else "cpu",  # for planning: workers know their own
            precision=precision,
            batch_tokens=settings.batch_tokens or sizes["text"],
            batch_posters=settings.batch_posters or sizes["image"],
        )

    def encode(self, work: Work, progress: Progress) -> None:
        """Have the workers encode every batch of `work`; on return all its rows are in the file."""
        device = "GPU" if self._pool.on_gpus else "CPU"
        progress.message(
            f"{work.job.name}: {work.job.source.name}, {work.precision}, {self._pool.size} Ray workers on {device}"
        )
        if wants_large_batches("cuda" if self._pool.on_gpus else "cpu"):
            work = replace(work, plan=work.job.joined(work.plan))
        lock = self._out.with_name(self._out.name + ".lock").resolve()
        with progress.phase(f"encoding {work.job.name}", int(work.wanted.sum()), work=work.positions) as phase:
            wanted = work.wanted
            for _ in range(_MAX_ROUNDS):
                tasks = TaskFactory(replace(work, wanted=wanted), lock, self._send_rows)
                with finished_first(), RowWriter(work.file) as writer:
                    Dispatcher(self._connection, self._pool, tasks, writer, phase).run()
                wanted = wanted & ~self._arrived(work)
                if not wanted.any():
                    return
        raise BadInput(
            f"{work.file.path}: {int(wanted.sum()):,} {work.job.name} rows that workers wrote are not there; "
            "is the file on a disk that all machines share? --send-rows does without"
        )

    def _arrived(self, work: Work) -> npt.NDArray[np.bool_]:
        """(N,) True for the rows that lie in the file; what other machines wrote is read and checked."""
        present = [handle.info for handle in self._pool.handles if handle.info is not None]
        if all(info.same_machine or info.sends for info in present):
            return ~work.file[work.job.name].pending
        return intact_rows(work.file, work.job.name)
