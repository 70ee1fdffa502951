"""A worker of a cluster: encodes the batches that it receives, and writes their rows or sends them back."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.rows import Row, RowWriter
from ...data.embeddings.status import Reason
from ...data.runtime.errors import BadInput, CinefuseError
from ..inputs.poster_files import PosterProblem, read_poster
from ..inputs.processor_pixels import ProcessorPixels
from .messages import Assignment, BatchResult, Task, WorkerInfo, machine, versions

if TYPE_CHECKING:
    from ..job.feeds import Feed
    from ..models.source import Modality


class Worker:
    """Runs as a Ray actor, in a process of its own. Its methods may be called while others of them run."""

    def __init__(self, environment: dict[str, str], threads: int) -> None:
        os.environ.update(environment)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        with suppress(ImportError):  # what `open` needs, while the job is being planned; `open` names what is missing
            import transformers.modeling_utils  # noqa: F401

            from ..job import batch, feeds, loop  # noqa: F401

        # one thread alone runs the encoder, so that batches never share the device's memory
        self._encoding = ThreadPoolExecutor(1, "encode", torch.set_num_threads, (threads,))
        self._device = "cuda" if torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") != "" else "cpu"
        self._opening = threading.Lock()
        self._writer: RowWriter | None = None

    def precision(self) -> str:
        """What `--precision auto` means on this worker's device."""
        from ...device import resolve_device, resolve_precision

        return resolve_precision("auto", resolve_device(self._device))

    def open(self, assignment: Assignment, _after: Any = None) -> WorkerInfo:
        """Load the encoder and find the file. Raises BadInput where this machine has other libraries or weights."""
        from ..job.feeds import load_encoder
        from ..job.loop import loading_threads
        from ..models.source import ModelSource

        host = socket.gethostname()
        with self._opening:
            different = sorted({*assignment.versions} ^ {*versions()})
            if different:
                raise BadInput(
                    f"{host}: other libraries than where the job began ({', '.join(different)}); make them equal"
                )
            modality: Modality = "text" if assignment.recipe is None else "image"
            source = ModelSource.resolve(assignment.model, assignment.revision, weights=True, modality=modality)
            if source.weights_sha256() != assignment.weights:
                raise BadInput(
                    f"{host}: {source.name} has other weights here than where the job began; copy that model"
                )
            structure = assignment.structure
            if structure is not None and structure.pooling.layers:
                # the modules behind the pooling lie elsewhere on this machine
                structure = replace(structure, pooling=replace(structure.pooling, layers=source.pooling.layers))
            self._source, self._assignment = source, assignment
            load = self._encoding.submit(
                load_encoder, source, assignment.recipe, assignment.layer, self._device, assignment.precision,
                assignment.compile, structure, assignment.prompt_length,
            )  # fmt: skip
            self._encoder = load.result()
            self._loading = ThreadPoolExecutor(loading_threads(), "load")
            same = machine() == assignment.machine
            self._find_file(assignment, same)
            sends, reads = self._writer is None, assignment.sample is not None and self._reads(*assignment.sample)
            return WorkerInfo(host, os.getpid(), self._device, same, sends, reads)

    def encode(self, task: Task) -> BatchResult:
        """Encode one batch; on return its rows are written, or are in the result."""
        from ..job.batch import Batch

        places = np.arange(len(task.rows))
        batch = Batch(task.plan, self._feed(task), places, task.rows, task.wanted, task.items)
        loading = batch.load(self._loading)
        wait([one for one in loading.values() if isinstance(one, Future)])
        encoded = self._encoding.submit(batch.encode, loading, self._assignment.dtype).result()
        sent: list[Row] = []
        put = sent.append if self._writer is None else partial(self._writer.put, task.plan.name)
        return BatchResult(*encoded.write(put), sent)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        if self._writer is not None:
            self._writer.sync()

    def _feed(self, task: Task) -> Feed:
        from ..job.feeds import PosterFeed, feed_for

        assignment = self._assignment
        recipe = assignment.recipe
        if isinstance(recipe, ProcessorPixels):
            recipe = recipe.at(self._source)
        feed = feed_for(task.plan, self._encoder, recipe, task.posters, assignment.posters, assignment.limits)
        if isinstance(feed, PosterFeed) and task.contents:
            return feed.reading(lambda place: _content(task.contents[place]))
        return feed

    def _find_file(self, assignment: Assignment, same_machine: bool) -> None:
        """Open the job's file for writing where this machine sees it, and may write into it beside others."""
        if self._writer is not None:
            self._writer.__exit__()
        self._writer = None
        if assignment.file is None or not (same_machine or assignment.coherent):
            return
        try:
            if assignment.lock.read_bytes() == assignment.locked:
                self._writer = RowWriter(EmbeddingFile.open(assignment.file, pending=True))
        except (OSError, CinefuseError):
            return

    def _reads(self, path: str, digest: bytes) -> bool:
        try:
            content = read_poster(path, self._assignment.posters, self._assignment.limits)
            return hashlib.sha256(content).digest() == digest
        except PosterProblem:
            return False


def _content(content: bytes | Reason) -> bytes:
    if isinstance(content, Reason):
        raise PosterProblem(content)
    return content
