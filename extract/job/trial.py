"""`--precision auto`: bfloat16 where the hardware has it, once a few inputs came out as in float32; else float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.dataset.catalog import Catalog
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.errors import CinefuseError
from ...data.runtime.progress import Progress
from ...device import resolve_device, resolve_precision
from ..inputs.poster_files import PosterProblem
from ..models.failures import first_line, is_out_of_memory
from .settings import ModalityJob, Settings

LEAST_COSINE = 0.999
_MOST_INPUTS = {"text": 6, "image": 2}
_MOST_POSITIONS = 256  # of a text: longer ones would take a while on a CPU


def precisions(
    catalog: Catalog, jobs: list[ModalityJob], settings: Settings, found: Path | None, progress: Progress
) -> dict[str, str]:
    """bf16 or fp32 for each modality: as asked for; "auto" follows the file that is being continued, else a trial."""
    device = resolve_device(settings.device)
    resolved = resolve_precision(settings.precision, device)
    known: dict[str, Any] = {}
    if settings.precision == "auto" and found is not None:
        with EmbeddingFile.open(found, pending=True) as file:
            known = {name: record["fingerprint"].get("precision") for name, record in file.header.modalities.items()}
    chosen = {}
    for job in jobs:
        before = known.get(job.name)
        if before in ("bf16", "fp32"):
            chosen[job.name] = str(before)
        elif settings.precision == "auto" and found is None and resolved == "bf16":
            chosen[job.name] = _tried(catalog, job, settings, progress)
        else:
            chosen[job.name] = resolved
    return chosen


def _tried(catalog: Catalog, job: ModalityJob, settings: Settings, progress: Progress) -> str:
    """bf16, or fp32 where this model fails in bf16 or drifts; the latter with a line that names the reason."""
    exact = _embedded(catalog, job, settings, "fp32")
    if exact is None:
        return "bf16"
    try:
        rough = _embedded(catalog, job, settings, "bf16")
    except Exception as error:
        if is_out_of_memory(error):
            raise
        why = str(error) if isinstance(error, CinefuseError) else f"{type(error).__name__}: {first_line(error)}"
        progress.message(f"{job.name}: computed in fp32, as bf16 fails: {why}")
        return "fp32"
    if rough is None:
        return "bf16"
    cosine = min(
        float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))
        for one, other in zip(exact, rough, strict=True)
    )
    if not cosine >= LEAST_COSINE:  # also where it is no number
        progress.message(f"{job.name}: computed in fp32, as bf16 drifts ({job.source.name}: cosine {cosine:.4f})")
        return "fp32"
    return "bf16"


def _embedded(catalog: Catalog, job: ModalityJob, settings: Settings, precision: str) -> list[torch.Tensor] | None:
    """Vectors and hidden states of a few inputs, each a float32 tensor on the host; None where there is no input."""
    from .feeds import feed_for, load_encoder

    encoder = load_encoder(
        job.source, job.recipe, job.layer, settings.device, precision, False, job.structure, job.prompt_length
    )
    posters = catalog.posters() if job.recipe is not None else []
    feed = feed_for(job.plan, encoder, job.recipe, posters, catalog.poster_root, settings.limits)
    rows = job.plan.distinct
    if job.name == "text":
        rows = rows[np.argsort(job.plan.lengths[rows], kind="stable")]
        rows = rows[job.plan.lengths[rows] <= max(_MOST_POSITIONS, int(job.plan.lengths[rows].min(initial=0)))]
        rows = rows[np.linspace(0, len(rows) - 1, min(_MOST_INPUTS["text"], len(rows))).astype(int)]
    inputs = []
    for row in rows.tolist():
        try:
            inputs.append(feed.load(row))
        except PosterProblem:
            continue
        if len(inputs) == _MOST_INPUTS[job.name]:
            break
    if not inputs:
        return None
    with torch.inference_mode():
        out = feed.encode(inputs)
        found = [] if out.vectors is None else list(out.vectors.float().cpu())
        for number, hidden in enumerate(out.hidden.float().cpu()):
            found.append(hidden[: len(inputs[number])] if job.name == "text" else hidden)
        return found
