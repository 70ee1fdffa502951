"""`cinefuse extract` on a terminal: the plan before, the summary after."""

from __future__ import annotations

import shlex
import time

import numpy as np
from rich.table import Table

from ...data.embeddings.status import Reason, Status
from ...data.runtime.terminal import screen, size
from ...data.runtime.untrusted_text import printable
from ..job.extraction import Summary
from ..job.settings import ModalityJob, Settings
from ..job.slices import Slice

# share of its matrix-product speed that an encoder reaches, from docs/benchmarks.md
_EFFICIENCY = 0.7


def show_plan(jobs: list[ModalityJob], settings: Settings) -> None:
    """Rows, batches, bytes and estimated time of each modality."""
    from ...device import resolve_device, resolve_precision

    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    speed = _matrix_product_speed(str(device), precision)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    columns = []
    for job in jobs:
        table.add_column(job.name, justify="right")
        columns.append(_plan_column(job, settings.dtype, speed))
    for row in columns[0]:
        table.add_row(row, *(column.get(row, "") for column in columns))
    console = screen()
    console.print(table)
    total = sum(job.plan.stored_bytes(settings.dtype) for job in jobs)
    console.print(f"file about {size(total)}; time estimated for {precision} on {device}; nothing was written")


def _plan_column(job: ModalityJob, dtype: str, speed: float) -> dict[str, str]:
    plan = job.plan
    return {
        "model": printable(job.source.name),
        "items": f"{len(plan.status):,}",
        "to encode": f"{len(plan.distinct):,}",
        "same as another": f"{int(plan.encodable.sum()) - len(plan.distinct):,}",
        "cut to fit": f"{int((plan.status == Status.TRUNCATED).sum()):,}",
        "missing": f"{int((plan.status == Status.MISSING).sum()):,}",
        "failed": f"{int((plan.status == Status.FAILED).sum()):,}",
        "tokens": f"{int(plan.lengths.sum()):,}",
        "batches": f"{len(np.unique(plan.batch[plan.batch >= 0])):,}",
        "padding": f"{plan.padding:.1%}",
        "bytes": size(plan.stored_bytes(dtype)),
        "time": _duration(_operations(job) / (_EFFICIENCY * speed)),
    }


def _operations(job: ModalityJob) -> float:
    """Floating-point operations of a forward pass over all distinct inputs: 2 a weight, plus attention's products.

    A Transformer layer of width D and feed-forward width F has 4 D^2 + 2 D F weights in its matrices; attention
    multiplies two T x T x D products more (Kaplan et al. 2020, section 2.1).
    """
    source, plan = job.source, job.plan
    width = plan.token_width or plan.width
    inner = getattr(source.settings, "intermediate_size", None)
    inner = inner if isinstance(inner, int) else 4 * width
    lengths = plan.positions_of[plan.distinct].astype(np.float64)
    layer = 2 * (4 * width**2 + 2 * width * inner) * lengths + 4 * width * lengths**2
    return float(layer.sum()) * max(1, job.structure.layers if job.structure else source.num_layers)


def _matrix_product_speed(device: str, precision: str) -> float:
    """Floating-point operations a second that this device reaches in a large matrix product, measured for a moment."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    edge = 1024 if device == "cpu" else 4096
    left, right = (torch.ones(edge, edge, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        (left @ right)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * edge**3 / best


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show_summary(summary: Summary, share: Slice | None = None, *, aside: bool = False) -> None:
    """What became of every input, how long it took, and where to look further; `aside`: on standard error."""
    console = screen()
    console.stderr = aside
    for outcome in summary.outcomes:
        embedded = sum(n for (status, _), n in outcome.counts.items() if status.has_embedding)
        did = f"{outcome.encoded:,} encoded" + (f", {outcome.copied:,} copied" if outcome.copied else "")
        if not outcome.encoded and not outcome.copied:
            did = "all there already, every checksum agrees" if embedded else "none to encode"
        rate = f" ({outcome.encoded / outcome.seconds:,.1f} items/s)" if outcome.encoded else ""
        console.print(f"{outcome.name}: {embedded:,} embeddings; {did} in {_duration(outcome.seconds)}{rate}")
        for (status, reason), count in sorted(outcome.counts.items()):
            if reason is not Reason.NONE:
                console.print(f"  {count:,} {status.name.lower()}: {reason.sentence}")
    file = printable(summary.path)
    console.print(f"{file}: {size(summary.bytes)}, digest {summary.content_digest[:16]}", soft_wrap=True)
    if share is not None:
        console.print(f"slice {share}: when all are there, cinefuse cache merge {share.count} part files OUT.h5")
    if summary.failures:
        console.print(f"see which: cinefuse cache info {shlex.quote(file)} --failures", soft_wrap=True)
