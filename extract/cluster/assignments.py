"""The work of one modality as the messages that workers receive: what each is given once, and one task a batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data.embeddings.status import Reason
from ...data.mini import MINI
from ...data.runtime.disk import file_system
from ..inputs.poster_files import PosterProblem, read_poster
from ..job.extraction import Work
from .messages import Assignment, Task, machine, versions

# where what one machine writes, another reads at once, and two may write into one block
_COHERENT = {"lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "fuse.ceph-fuse", "wekafs", "gfs2", "ocfs2"}


@dataclass(frozen=True)
class TaskFactory:
    """Makes the messages of `work`, whose file has its lock at `lock`. With `send_rows` no worker writes."""

    work: Work
    lock: Path
    send_rows: bool

    @cached_property
    def assignment(self) -> Assignment:
        """The message that every worker gets once, before its first task."""
        work, job, settings = self.work, self.work.job, self.work.settings
        name = (settings.text_model if job.name == "text" else settings.image_model) or ""
        local = name != MINI and Path(name).expanduser().is_dir()
        return Assignment(
            name=job.name,
            model=str(job.source.folder) if local else name,
            revision=None if local else job.source.revision,
            weights=job.source.weights_sha256(),
            layer=job.layer,
            recipe=job.recipe,
            structure=job.structure,
            prompt_length=job.prompt_length,
            precision=work.precision,
            dtype=work.file[job.name].dtype,
            compile=settings.compile,
            limits=settings.limits,
            posters=work.catalog.poster_root.resolve(),
            sample=self._sample,
            file=None if self.send_rows else work.file.path.resolve(),
            lock=self.lock,
            locked=self.lock.read_bytes(),
            coherent=file_system(work.file.path) in _COHERENT,
            machine=machine(),
            versions=versions(),
        )

    def task(self, rows: npt.NDArray[np.int64], *, reads_posters: bool) -> Task:
        """The batch of these `rows` (K,), for a worker that reads the posters itself or does not."""
        work = self.work
        ids = work.file.ids[rows] if work.settings.strict else None
        posters = [self._posters[row] for row in rows.tolist()] if self._posters else []
        contents = [] if reads_posters else [self._content(path) for path in posters]
        return Task(work.plan.taking(rows), rows, work.wanted[rows], posters, contents, ids)

    @cached_property
    def _posters(self) -> list[str | None]:
        return self.work.catalog.posters() if self.work.job.recipe is not None else []

    @property
    def _sample(self) -> tuple[str, bytes] | None:
        """A poster by which a worker finds out whether it sees the same ones."""
        for row in np.flatnonzero(self.work.wanted).tolist():
            path = self._posters[row] if self._posters else None
            if path is not None:
                return path, self.work.plan.digest[row].tobytes()
        return None

    def _content(self, path: str | None) -> bytes | Reason:
        try:
            return read_poster(path or "", self.work.catalog.poster_root, self.work.settings.limits)
        except PosterProblem as problem:
            return problem.reason
