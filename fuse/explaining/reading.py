"""A run opened with what its model reads: the dataset, the embedding file and the weights that apply to items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...data.dataset.catalog import Catalog
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.errors import BadInput, FingerprintMismatch
from ..inputs.components import Components, load_components
from ..inputs.side_information import item_features
from ..inputs.tokens import TokenBatch, TokenTable, read_width
from ..models.fusion_transformer import FusionTransformer
from ..runs.dataset_of_run import dataset_of
from ..runs.run import Run
from ..settings.config import Config


@dataclass(frozen=True, eq=False)
class ItemWeights:
    """The weights by which one served member computes an item's vector from its content.

    side_information: (C, D + 1), from side information to an item's vector. cold_start: the same for items without
    ratings, all 0 where the run has no such weights.
    """

    transformer: FusionTransformer | None
    side_information: Tensor
    cold_start: Tensor


@dataclass(frozen=True, eq=False)
class Reading:
    """A run with everything its model reads. rows: (I,) int64, each item's row of the embedding file, -1 for none."""

    run: Run
    dataset: Path
    catalog: Catalog
    embeddings: EmbeddingFile | None
    rows: npt.NDArray[np.int64]

    @classmethod
    def open(cls, run: Run, *, dataset: Path | None = None, cache: Path | None = None) -> Reading:
        """Open what the run was trained on, at the paths of then, or at ``dataset`` and ``cache``.

        BadInput where one of them is missing; FingerprintMismatch where it is not the run's.
        """
        folder = dataset_of(run, dataset)
        catalog = Catalog.open(folder)
        embeddings = _embeddings_of(run, cache)
        rows = np.full(len(catalog), -1, np.int64) if embeddings is None else embeddings.find(catalog.ids)
        return cls(run, folder, catalog, embeddings, rows)

    @property
    def config(self) -> Config:
        """The config of the run."""
        return self.run.config

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the run reads: "text", "image", both or neither."""
        return self.config.read_modalities

    def has(self, item: int, modality: str) -> bool:
        """Whether the item has an embedding of the modality."""
        row = int(self.rows[item])
        return self.embeddings is not None and row >= 0 and bool(self.embeddings[modality].has_embedding[row])

    @cached_property
    def side_information(self) -> Tensor:
        """(I, C'): the side information that the Transformer reads."""
        if not self.config.genres:
            return torch.zeros(len(self.catalog), 0)
        return torch.from_numpy(item_features(self.catalog.items))

    @cached_property
    def components(self) -> dict[str, Components]:
        """The principal components that the run reads of each modality, in the order of their columns.

        BadInput where the run folder lacks them, or they are damaged.
        """
        return load_components(self.run.files.components, self.config)

    @cached_property
    def members(self) -> tuple[ItemWeights, ...]:
        """The weights of the served members. BadInput where the run folder lacks them, or they are damaged."""
        files = self.run.served_fits()
        return tuple(self._weights(file, config) for file, config in zip(files, self.run.members, strict=True))

    def tokens(self, item: int) -> dict[str, TokenBatch]:
        """(1, T, D) float32 tokens as the Transformers read them: CLS first, patches pooled by `pool_patches`."""
        if self.embeddings is None:
            return {}
        tables = {
            name: TokenTable(
                self.embeddings[name],
                self.rows[[item]],
                level=self.config.level,
                dtype=torch.float32,
                device=torch.device("cpu"),
                pool=self.config.pool_patches,
            )
            for name in self.modalities
        }
        return {name: table.batch(np.zeros(1, np.int64)) for name, table in tables.items()}

    def _weights(self, file: Path, config: Config) -> ItemWeights:
        try:
            with safe_open(file, framework="pt") as content:
                names = [name.removeprefix("now.") for name in content.keys() if name.startswith("now.")]  # noqa: SIM118
                kept = {name: content.get_tensor(f"now.{name}") for name in names if _is_item_weight(name)}
            transformer = self._transformer(kept, config) if config.fuses else None
            return ItemWeights(transformer, kept["factors.tables.item_features"], kept["factors.cold_side"])
        except (SafetensorError, OSError, KeyError, RuntimeError) as fault:
            raise BadInput(f"{file} cannot be read ({str(fault).splitlines()[0]}): train the run again") from None

    def _transformer(self, tensors: dict[str, Tensor], config: Config) -> FusionTransformer:
        if self.embeddings is None:
            raise KeyError("a Transformer without an embedding file")
        side = self.side_information.shape[1]
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, which must not move the random generator
            transformer = FusionTransformer(
                {name: read_width(self.embeddings[name], config.level) for name in self.modalities},
                side,
                outputs=config.dim + 1,
                width=config.width,
                layers=config.layers,
                heads=config.attention_heads,
                dropout=config.dropout,
            )
        prefix = "transformer."
        mine = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        transformer.load_state_dict(mine, assign=True)
        return transformer.eval().requires_grad_(requires_grad=False)


def _is_item_weight(name: str) -> bool:
    return name.startswith("transformer.") or name in ("factors.tables.item_features", "factors.cold_side")


def _embeddings_of(run: Run, given: Path | None) -> EmbeddingFile | None:
    if not run.config.reads_embeddings:
        return None
    path = given or run.record.embeddings
    if path is None or (given is None and not path.exists()):
        raise BadInput(
            f"{run.folder}: its embedding file is not at {path} any more: give its new place with --cache FILE.h5"
        )
    file = EmbeddingFile.open(path)
    expected = str(run.record.embeddings_digest)
    if (found := file.content_digest) != expected:
        raise FingerprintMismatch(
            f"{path}: expected the embeddings that {run.folder} was trained on (content digest {expected[:12]}...), "
            f"found others ({found[:12]}...); give its file with --cache FILE.h5, or train again"
        )
    return file
