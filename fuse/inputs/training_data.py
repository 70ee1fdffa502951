"""Load a dataset folder, an embedding file and a split as the tensors that training reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.dataset.catalog import Catalog
from ...data.dataset.splits import Split
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.errors import BadInput, UsageError
from ..settings.config import Config
from .components import Components, components_wanted, mean_tokens
from .join import Joined
from .side_information import SideInformation, item_features, user_features
from .tags import ItemTags
from .tokens import TokenTable


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Everything training reads, by number and on one device.

    user, item: (R,) int64. rating: (R,) float32, on its own scale. train, validation: row numbers into these three.
    components: what turned mean tokens into columns of ``side``, for each modality that has some there.
    """

    users: int
    items: int
    user: Tensor
    item: Tensor
    rating: Tensor
    train: Tensor
    validation: Tensor
    side: SideInformation
    tables: Mapping[str, TokenTable]
    components: Mapping[str, Components]
    device: torch.device

    def fitted(self, *, whole: bool) -> Tensor:
        """(n,) the rows that a fit learns from: ``train``, and with ``whole`` also ``validation``."""
        return torch.cat([self.train, self.validation]) if whole else self.train


_NONE: Mapping[str, Components] = {}


def load_training_data(
    dataset: Path,
    joined: Joined,
    embeddings: EmbeddingFile | None,
    split: Split,
    config: Config,
    device: torch.device,
    *,
    sharing: int = 1,
    kept: Mapping[str, Components] = _NONE,
) -> TrainingData:
    """Put everything where training reads it; ``sharing`` processes do so on this machine.

    Principal components are those ``kept`` by an earlier run, or else found anew. BadInput or UsageError where the
    config asks for what isn't there.
    """
    modalities = _modalities(config, embeddings)
    items, users = len(joined.item_ids), len(joined.user_ids)
    rows = joined.embedding_row if joined.embedding_row is not None else np.full(items, -1, np.int64)
    precision = torch.bfloat16 if config.precision == "bf16" else torch.float32
    tables: dict[str, TokenTable] = {}
    components: dict[str, Components] = {}
    wanted = components_wanted(config)
    linear, shown = [], []
    catalog = Catalog.open(dataset).items
    if config.genres:
        known = item_features(catalog)
        linear.append(known)
        shown.append(known)
    for name in modalities:
        if embeddings is not None and config.fuses:
            tables[name] = TokenTable(
                embeddings[name],
                rows,
                level=config.level,
                dtype=precision,
                device=device,
                pool=config.pool_patches,
                sharing=sharing,
            )
        if embeddings is not None and name in wanted:
            means = mean_tokens(embeddings[name], rows)
            components[name] = kept[name] if name in kept else Components.of(means, *wanted[name])
            linear.append(components[name].of_items(means))
    of_user = user_features(dataset, joined.user_ids) if config.demographics else np.zeros((users, 0), np.float32)
    none = np.zeros((items, 0), np.float32)
    side = SideInformation(
        user=torch.from_numpy(of_user).to(device),
        item=torch.from_numpy(np.hstack(linear) if linear else none).to(device),
        tags=ItemTags.read(catalog).of_items.to(device) if config.tags else None,
        shown=torch.from_numpy(np.hstack(shown) if shown else none).to(device),
    )
    return TrainingData(
        users=users,
        items=items,
        user=torch.from_numpy(joined.user.astype(np.int64)).to(device),
        item=torch.from_numpy(joined.item.astype(np.int64)).to(device),
        rating=torch.from_numpy(joined.rating.copy()).to(device),
        train=torch.from_numpy(places_of(joined, split.train)).to(device),
        validation=torch.from_numpy(places_of(joined, split.validation)).to(device),
        side=side,
        tables=tables,
        components=components,
        device=device,
    )


def places_of(joined: Joined, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers among the joined ratings of rows of `ratings.parquet`."""
    return np.searchsorted(joined.row, rows)


def _modalities(config: Config, embeddings: EmbeddingFile | None) -> tuple[str, ...]:
    if not config.reads_embeddings:
        return ()
    if embeddings is None:
        raise UsageError(
            f"preset {config.preset} reads embeddings: give the file that `cinefuse extract` made, "
            "or --set modalities=none"
        )
    if lacking := [name for name in config.read_modalities if name not in embeddings.modalities]:
        raise BadInput(
            f"{embeddings.path} has no {lacking[0]} embeddings, only {', '.join(embeddings.modalities)}; "
            f"use --set modalities={embeddings.modalities[0]}, or extract the rest"
        )
    return config.read_modalities
