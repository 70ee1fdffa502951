"""A worker of a cluster: encodes the batches that it is dealt, and writes their rows or sends them back."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.rows import RowWriter, nan
from ...data.embeddings.status import Reason, Status
from ...data.runtime.errors import BadInput, CinefuseError
from ..inputs.poster_files import PosterProblem, read_poster
from ..inputs.processor_pixels import ProcessorPixels
from .messages import Answer, Assignment, Presence, SentRow, Task, machine, versions

if TYPE_CHECKING:
    from ..job.loop import Feed
    from ..models.source import Modality


class Worker:
    """Runs as a Ray actor, in a process of its own. Its methods may be called while others of them run."""

    def __init__(self, environment: dict[str, str], threads: int) -> None:
        os.environ.update(environment)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        with suppress(ImportError):  # what `open` needs, while the job is being planned; `open` tells what is missing
            import transformers.modeling_utils  # noqa: F401

            from ..job import loop as stream  # noqa: F401

        # one thread alone runs the encoder, so that batches never share the device's memory
        self._encoding = ThreadPoolExecutor(1, "encode", torch.set_num_threads, (threads,))
        self._device = "cuda" if torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") != "" else "cpu"
        self._opening = threading.Lock()
        self._writer: RowWriter | None = None

    def precision(self) -> str:
        """What `--precision auto` means on this worker's device."""
        from ...device import resolve_device, resolve_precision

        return resolve_precision("auto", resolve_device(self._device))

    def open(self, told: Assignment, _after: Any = None) -> Presence:
        """Load the encoder and find the file. Raises BadInput where this machine has other libraries or weights."""
        from ..job.loop import load_encoder, loading_threads
        from ..models.source import ModelSource

        host = socket.gethostname()
        with self._opening:
            different = sorted({*told.versions} ^ {*versions()})
            if different:
                raise BadInput(
                    f"{host}: other libraries than where the job began ({', '.join(different)}); make them equal"
                )
            modality: Modality = "text" if told.recipe is None else "image"
            source = ModelSource.resolve(told.model, told.revision, weights=True, modality=modality)
            if source.weights_sha256() != told.weights:
                raise BadInput(
                    f"{host}: {source.name} has other weights here than where the job began; copy that model"
                )
            structure = told.structure
            if structure is not None and structure.pooling.layers:
                # the modules behind the pooling lie elsewhere on this machine
                structure = replace(structure, pooling=replace(structure.pooling, layers=source.pooling.layers))
            self._source, self._told = source, told
            load = self._encoding.submit(
                load_encoder, source, told.recipe, told.layer, self._device, told.precision, told.compile,
                structure, told.prompt_length,
            )  # fmt: skip
            self._encoder = load.result()
            self._loading = ThreadPoolExecutor(loading_threads(), "load")
            same = machine() == told.machine
            self._find_file(told, same)
            sends, reads = self._writer is None, told.sample is not None and self._reads(*told.sample)
            return Presence(host, os.getpid(), self._device, same, sends, reads)

    def encode(self, task: Task) -> Answer:
        """Encode one batch; on return its rows are written, or are in the answer."""
        from ..job.loop import Batch

        places = np.arange(len(task.rows))
        batch = Batch(task.plan, self._feed(task), places, task.rows, task.wanted, task.items)
        loading = batch.load(self._loading)
        wait(loading.values())
        encoded = self._encoding.submit(batch.encode, loading, self._told.dtype).result()
        sink = _Parcel(task, self._told)
        counts = encoded.write(sink if self._writer is None else self._writer)
        return Answer(*counts, sink.rows)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        if self._writer is not None:
            self._writer.sync()

    def _feed(self, task: Task) -> Feed:
        from ..job.loop import PosterFeed, feed_for

        told = self._told
        recipe = told.recipe.at(self._source) if isinstance(told.recipe, ProcessorPixels) else told.recipe
        feed = feed_for(task.plan, self._encoder, recipe, task.posters, told.posters, told.limits)
        if isinstance(feed, PosterFeed) and task.contents:
            return feed.reading(lambda place: _content(task.contents[place]))
        return feed

    def _find_file(self, told: Assignment, same_machine: bool) -> None:
        """Open the job's file for writing where this machine sees it, and may write into it beside others."""
        if self._writer is not None:
            self._writer.__exit__()
        self._writer = None
        if told.file is None or not (same_machine or told.coherent):
            return
        try:
            if told.lock.read_bytes() == told.locked:
                self._writer = RowWriter(EmbeddingFile.open(told.file, pending=True))
        except (OSError, CinefuseError):
            return

    def _reads(self, path: str, digest: bytes) -> bool:
        try:
            return hashlib.sha256(read_poster(path, self._told.posters, self._told.limits)).digest() == digest
        except PosterProblem:
            return False


@dataclass
class _Parcel:
    """Rows on their way to the process that writes them."""

    task: Task
    told: Assignment
    rows: list[SentRow] = field(default_factory=list)

    def write(
        self,
        modality: str,
        row: int,
        cls: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        status: Status,
        reason: Reason = Reason.NONE,
    ) -> None:
        self.rows.append((row, cls, tokens, status, reason))

    def write_absent(self, modality: str, row: int, status: Status, reason: Reason) -> None:
        length = int(self.task.plan.stored_lengths[self.task.rows == row][0])
        cls, tokens = nan((self.told.width,), self.told.dtype), nan((length, self.told.token_width), self.told.dtype)
        self.rows.append((row, cls, tokens, status, reason))


def _content(content: bytes | Reason) -> bytes:
    if isinstance(content, Reason):
        raise PosterProblem(content)
    return content
