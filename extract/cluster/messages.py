"""The messages between the coordinating process and its workers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...data.embeddings.ids import IdArray
from ...data.embeddings.rows import Row
from ...data.embeddings.status import Reason
from ..inputs.plan import ModalityPlan
from ..inputs.poster_files import PosterLimits
from ..inputs.processor_pixels import Pixels

if TYPE_CHECKING:
    from ..models.structure import Structure

# cls (D,), tokens (T_i, D), status and reason of one row, behind its number


@dataclass(frozen=True)
class Assignment:
    """One modality of a job, as every worker gets it. `file` None: rows are to be sent in any case."""

    name: str
    model: str
    revision: str | None
    weights: str
    layer: int | None
    recipe: Pixels | None
    structure: Structure | None
    prompt_length: int
    precision: str
    dtype: str
    compile: bool
    limits: PosterLimits
    posters: Path
    sample: tuple[str, bytes] | None
    file: Path | None
    lock: Path
    locked: bytes
    coherent: bool
    machine: str
    versions: tuple[str, ...]


@dataclass(frozen=True)
class WorkerInfo:
    """A worker as it describes itself: where it runs, whether it sends its rows, whether it can read the posters."""

    host: str
    process: int
    device: str
    same_machine: bool
    sends: bool
    reads_posters: bool


@dataclass(frozen=True)
class Task:
    """One batch: the plan of its rows alone, their numbers in the file, and posters (paths, or contents) where it has.

    `wanted` (K,) says which rows are written; with `items` (K,) the first input that fails ends the job.
    """

    plan: ModalityPlan
    rows: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.bool_]
    posters: list[str | None]
    contents: list[bytes | Reason]
    items: IdArray | None


@dataclass(frozen=True)
class BatchResult:
    """What a batch that is done came to: items, encoder positions, bytes; and its rows, where the worker sends them."""

    items: int
    positions: int
    bytes: int
    rows: list[Row]


def machine() -> str:
    """An id of this running machine: processes with the same one see each other's writes at once."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def versions() -> tuple[str, ...]:
    """The libraries that decide the embeddings, with their versions."""
    return tuple(f"{name} {version(name)}" for name in ("cinefuse", "torch", "transformers", "pillow", "numpy"))
