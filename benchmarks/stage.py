"""Stage one of cinefuse for one modality, whole or each part by itself, its encoder loaded beforehand."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.device import resolve_device
from cinefuse.extract.inputs.batching import cut_posters, cut_text
from cinefuse.extract.inputs.pixel_recipe import PixelRecipe
from cinefuse.extract.inputs.plan import ModalityPlan
from cinefuse.extract.inputs.poster_files import PosterLimits
from cinefuse.extract.inputs.posters import plan_posters, probing
from cinefuse.extract.inputs.texts import plan_text
from cinefuse.extract.job.feeds import Feed, PosterFeed, TextFeed
from cinefuse.extract.job.loop import encode_rows
from cinefuse.extract.job.settings import DEFAULT_BATCH
from cinefuse.extract.models.encoders import ImageEncoder, TextEncoder
from cinefuse.extract.models.sizes import patch_grid
from cinefuse.extract.models.source import ModelSource

DTYPE = "float16"


class Stage:
    """One modality: `whole` plans, decodes, encodes and writes; the other methods do one of these and no more."""

    def __init__(self, name: str, catalog: Catalog, model: Path, precision: str, device: str, out: Path) -> None:
        self.name, self.catalog, self.precision, self.device, self.out = name, catalog, precision, device, out
        self.source = ModelSource.resolve(str(model), None, weights=True)
        self._batch = DEFAULT_BATCH.get(resolve_device(device).type, DEFAULT_BATCH["other"])[name]
        how: dict[str, Any] = {"device": device, "precision": precision, "layer": None}
        if name == "text":
            self._tokenizer = self.source.tokenizer()
            self._text = TextEncoder.load(self.source, **how)
        else:
            recipe = PixelRecipe.from_processor_config(self.source.processor_config(), name, self.source.model_type)
            self._recipe = recipe
            self._image = ImageEncoder.load(
                self.source, mean=recipe.mean, std=recipe.std, rescale_factor=recipe.rescale_factor, **how
            )

    def plan(self) -> ModalityPlan:
        """Tokenise the plots, or probe the posters, and cut batches."""
        width = self.source.width
        if self.name == "text":
            longest = self._tokenizer.model_max_length
            texts = self.catalog.texts()
            plan = plan_text(texts, self._tokenizer, width=width, max_length=longest, progress=_nobody)
            return cut_text(plan, self._batch)
        patches = math.prod(patch_grid(self.source, self._recipe.output))
        with probing(self.catalog.posters(), self.catalog.poster_root, PosterLimits()) as probed:
            plan = plan_posters(probed, width=width, patches=patches, progress=_nobody)
        return cut_posters(plan, self._batch)

    def whole(self) -> None:
        """Everything from the catalogue to rows on the disk, `fsync` included."""
        plan = self.plan()
        with self.lay_out(plan) as file:
            wanted = plan.encodable
            encode_rows(file, plan, batches(plan), self.feed(plan), wanted, strict=True, advance=_nobody)

    def feed(self, plan: ModalityPlan) -> Feed:
        """Where the encoder's inputs come from."""
        if self.name == "text":
            return TextFeed(plan, self._text)
        posters = self.catalog.posters()
        return PosterFeed(plan, self._image, posters, self.catalog.poster_root, self._recipe, PosterLimits())

    def lay_out(self, plan: ModalityPlan) -> EmbeddingFile:
        """An empty file for the plan."""
        self.out.unlink(missing_ok=True)
        layout = plan.layout({"model": self.source.name, "fingerprint": {}}, DTYPE)
        return EmbeddingFile.create(self.out, self.catalog.ids, {self.name: layout}, {})

    def decode(self, plan: ModalityPlan) -> list[list[np.ndarray]]:
        """The inputs of every batch, loaded in as many threads as the stage uses."""
        feed = self.feed(plan)
        with ThreadPoolExecutor(max(2, (os.cpu_count() or 1) - 1)) as pool:
            return [list(pool.map(feed.load, rows.tolist())) for rows in batches(plan)]

    def encode(self, plan: ModalityPlan, inputs: list[list[np.ndarray]], keep: bool = False) -> list[np.ndarray]:
        """Run the encoder over loaded inputs; (B, T, D) per batch in the storage dtype with `keep`, else nothing."""
        feed, kept = self.feed(plan), []
        with torch.inference_mode():
            for batch in inputs:
                hidden = feed.encode(batch).hidden
                if keep:
                    kept.append(hidden.to(torch.float16).cpu().numpy())
        if hidden.device.type == "cuda":
            torch.cuda.synchronize()
        return kept

    def operations(self, plan: ModalityPlan) -> float:
        """Operations of the encoder's matrix products, padding not counted; multiply and add are two.

        Per layer and position of a sequence of T: 8 D² for the four projections, 4 D F for the feed-forward part and
        4 T D for attention; for a poster also 2 D for each of its pixel values.
        """
        settings = self.source.settings
        width, inner, layers = settings.hidden_size, settings.intermediate_size, settings.num_hidden_layers
        length = (plan.lengths[plan.distinct] + 1).astype(np.float64)
        total = layers * (length * (8 * width**2 + 4 * width * inner + 4 * length * width)).sum()
        if self.name == "image":
            total += len(length) * 2 * width * 3 * settings.image_size**2
        return float(total)

    def write(self, plan: ModalityPlan, file: EmbeddingFile, encoded: list[np.ndarray]) -> None:
        """Write encoded rows, `fsync` included."""
        with RowWriter(file) as writer:
            for rows, values in zip(batches(plan), encoded, strict=True):
                for row, value in zip(rows.tolist(), values, strict=True):
                    length = 1 + int(plan.lengths[row])
                    writer.write(self.name, row, value[0], value[1:length], Status(plan.status[row]), Reason.NONE)
            writer.sync()


def batches(plan: ModalityPlan) -> Iterator[np.ndarray]:
    """The distinct rows of each batch."""
    numbers = plan.batch[plan.distinct]
    for number in range(int(numbers.max()) + 1):
        yield plan.distinct[numbers == number]


def _nobody(*_: int) -> None:
    """Progress that nobody watches."""
