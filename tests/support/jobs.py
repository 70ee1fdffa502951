"""Whole jobs for processes that are killed: see `forked`. Each returns its exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from cinefuse.data.runtime.errors import CinefuseError

MODULES = (
    "transformers.models.bert.modeling_bert",
    "transformers.models.vit.modeling_vit",
    "cinefuse.cli",
    "cinefuse.data.commands.cache_screen",
    "cinefuse.data.embeddings.verification",
    "cinefuse.data.enrichment.job",
    "cinefuse.extract.job.extraction",
    "cinefuse.fuse.commands.training_screen",
    "cinefuse.fuse.runs.repeat",
    "cinefuse.fuse.runs.train",
    "cinefuse.fuse.runs.warm_start",
    "cinefuse.fuse.studies.study",
    "cinefuse.fuse.tuning.tuned_settings",
)
"""What these jobs and most commands import."""


def extract_noting_batches(dataset: str, file: str, settings: dict[str, Any], log: str) -> int:
    """Extract as `cinefuse extract` does, and note each batch that is encoded in the file `log`."""
    from cinefuse.extract.job import loop
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    batches_log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    encode_rows = loop.encode_rows

    def noted(file: Any, plan: Any, batches: Any, feed: Any, *rest: Any, **options: Any) -> None:
        encode = feed.encode
        numbers = iter([int(plan.batch[rows[0]]) for rows in batches])

        def noted_encode(inputs: Any) -> Any:
            os.write(batches_log, f"{plan.name} {next(numbers)}\n".encode())
            return encode(inputs)

        feed.encode = noted_encode
        encode_rows(file, plan, batches, feed, *rest, **options)

    loop.encode_rows = noted
    return _exit_code(extract, Path(dataset), Path(file), Settings(**settings))


def train_saving_every_batch(dataset: str, embeddings: str, run: str, config: dict[str, Any]) -> int:
    """Begin or continue a run on one thread, and save its state after every batch."""
    import torch

    from cinefuse.fuse.runs.train import train
    from cinefuse.fuse.settings.config import Config
    from cinefuse.fuse.training import loop

    torch.set_num_threads(1)
    loop._SECONDS_BETWEEN_CHECKPOINTS = -1
    settings = Config.from_dict(config)
    return _exit_code(train, Path(dataset), Path(embeddings), Path(run), settings, device="cpu", resume=True)


def enrich_from(dataset: str, url: str, cache: str) -> int:
    """Enrich from the imitation of TMDB at this address, as fast as it answers."""
    from cinefuse.data.enrichment.job import enrich
    from cinefuse.data.enrichment.options import EnrichOptions

    options = EnrichOptions(base_url=url + "/3", cache=Path(cache), rate=400.0, connections=6, pause=0.02)
    return _exit_code(enrich, Path(dataset), options)


def _exit_code(job: Any, *words: Any, **options: Any) -> int:
    try:
        job(*words, **options)
    except CinefuseError as refusal:
        sys.stderr.write(f"cinefuse: {refusal}\n")
        return refusal.exit_code
    return 0
