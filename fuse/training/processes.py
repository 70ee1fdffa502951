"""Several processes that train one model: `torchrun --nproc-per-node 2 -m cinefuse.cli fuse ...`.

Every rank holds the whole model and all ratings, and the items of each batch are dealt out over the ranks: a rank reads
its items, and the gradients of all ranks are added up, so that every rank takes the step that one process would take.
The factors see all ratings at once on every rank. Numbers that decide something are the first rank's.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ...data.runtime.errors import Interrupted, UsageError

Number = TypeVar("Number", float, float | None)


@dataclass(frozen=True)
class Ranks:
    """Which of ``count`` processes this is, and on how many of them this machine's memory is shared."""

    rank: int = 0
    count: int = 1
    on_this_machine: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def share(self, items: Any) -> Any:
        """This rank's part of a batch, (B,) to about (B / count,): every count-th item, so that lengths are alike."""
        return items[self.rank :: self.count]

    def add_up(self, values: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in one message."""
        if self.count > 1:
            held = list(values)
            flat = torch.cat([value.flatten() for value in held])
            with _all_there():
                dist.all_reduce(flat)
            at = 0
            for value in held:
                value.copy_(flat[at : at + value.numel()].view_as(value))
                at += value.numel()

    @torch.no_grad()
    def copy_from_first(self, values: Iterable[Tensor]) -> None:
        """Replace each tensor by the first rank's, so that rounding never lets the ranks drift apart."""
        if self.count > 1:
            with _all_there():
                for value in values:
                    dist.broadcast(value, 0)

    def broadcast_from_first(self, number: Number, device: torch.device) -> Number:
        """The first rank's number, or None where all have None: what decides when to stop is the same everywhere."""
        if self.count == 1 or number is None:
            return number
        value = torch.tensor(number, device=device)
        with _all_there():
            dist.broadcast(value, 0)
            return float(value)  # which waits for a GPU

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            with _all_there():
                dist.barrier()


ALONE = Ranks()


@contextmanager
def _all_there() -> Iterator[None]:
    """Interrupted, which says how to resume, where another rank is gone."""
    try:
        yield
    except RuntimeError as fault:
        reason = str(fault).splitlines()[0][:200]
        raise Interrupted(
            f"stopped: another process of this run is gone ({reason}); its own message says why. Run the same command "
            "with --resume to go on"
        ) from None


def is_first_process() -> bool:
    """Whether what is printed comes from this process: the first rank, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def ranks_of_launcher(device: str) -> tuple[Ranks, str]:
    """The ranks that torchrun started, or this process alone; and the device of this one.

    torchrun gives each process its place in RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. Each takes a GPU of its
    own where ``device`` is auto or cuda and there are GPUs, and they communicate through NCCL; otherwise they share the
    processor and communicate through gloo.

    UsageError where there are more processes than GPUs, or one GPU is named for all.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE, device
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    on_gpus = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if device.startswith("cuda:") and here > 1:
        raise UsageError(f"--device {device}: {here} processes cannot share one GPU; use --device cuda, one GPU each")
    if on_gpus:
        if (gpus := torch.cuda.device_count()) < here:
            raise UsageError(
                f"{here} processes on this machine and {gpus} GPUs: start one process a GPU, or --device cpu"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        if on_gpus:
            # a rank that is gone is then met where it is waited for, not later, by a watchdog that ends the process
            os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
        dist.init_process_group("nccl" if on_gpus else "gloo")
        atexit.register(dist.destroy_process_group)
    return Ranks(rank, count, here), "cpu" if device == "auto" else device
