"""Texts and images as side information: the principal components of their mean tokens.

    components = (mean token of length 1 - middle) @ directions

Both depend on the catalogue alone, not on ratings. A run keeps them in its folder, so that a component means the same
to `cinefuse explain`, and to a warm start after items were added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from ...data.embeddings.modality import Modality
from ...data.runtime.disk import write_atomically
from ..settings.config import Config
from .run_file import readable

Floats = npt.NDArray[np.float32]

# which setting counts a modality's components, and their deviation: a smaller one is trusted less (docs/experiments.md)
_SETTINGS = {"text": ("text_components", 1 / 4), "image": ("image_components", 1 / 8)}
_ITEMS_AT_ONCE = 4096
_LEAST_VARIANCE = 1e-6  # of the largest: below it is rounding noise, which scaling would turn into features


@dataclass(frozen=True, eq=False)
class Components:
    """middle: (D,) float32. directions: (D, k) float32, 0 where the catalogue has no k-th component."""

    middle: Floats
    directions: Floats

    @classmethod
    def of(cls, means: Floats, count: int, deviation: float) -> Components:
        """The ``count`` leading components of ``means`` (I, D, see `mean_tokens`), each of the given deviation.

        The largest weight of each direction is positive: the sign that a decomposition leaves open would differ between
        machines, and as the catalogue grows.
        """
        width = means.shape[1]
        present = means[~np.isnan(means[:, 0])]
        directions = np.zeros((width, count), np.float32)
        if len(present) < 2:
            return cls(np.zeros(width, np.float32), directions)
        middle = present.mean(0, dtype=np.float64)
        scatter = np.zeros((width, width))
        for start in range(0, len(present), _ITEMS_AT_ONCE):
            centred = present[start : start + _ITEMS_AT_ONCE] - middle
            scatter += centred.T @ centred
        variance, vectors = (found[..., ::-1] for found in np.linalg.eigh(scatter))  # largest first
        kept = min(count, int((variance > _LEAST_VARIANCE * max(float(variance[0]), 1e-24)).sum()))
        leading = vectors[:, :kept]
        leading = leading * np.sign(np.take_along_axis(leading, np.abs(leading).argmax(0)[None], 0))
        directions[:, :kept] = leading * (deviation * np.sqrt(len(present) / variance[:kept]))
        return cls(middle.astype(np.float32), directions)

    def of_items(self, means: Floats) -> Floats:
        """(I, k) the components of items of ``means`` (I, D); 0, the mean, where an item has no embedding."""
        found: Floats = np.nan_to_num((means - self.middle) @ self.directions)
        return found


def components_wanted(config: Config) -> dict[str, tuple[int, float]]:
    """How many components a run reads of each modality, and their deviation; nothing of one that it reads none of."""
    wanted = {name: (int(getattr(config, _SETTINGS[name][0])), _SETTINGS[name][1]) for name in config.read_modalities}
    return {name: (count, deviation) for name, (count, deviation) in wanted.items() if count}


def mean_tokens(modality: Modality, rows: npt.NDArray[np.int64]) -> Floats:
    """(I, D) the items' mean tokens, scaled to length 1; NaN for items without an embedding.

    ``rows`` (I,) are rows of the embedding file, -1 for none.
    """
    width = modality.token_width if len(modality.tokens) else modality.width
    means = np.full((len(rows), width), np.nan, np.float32)
    for item in np.flatnonzero((rows >= 0) & modality.has_embedding[rows]).tolist():
        means[item] = mean_token(tokens_read(modality, int(rows[item])))
    return means


def mean_token(tokens: Floats) -> Floats:
    """(D,) the mean of ``tokens`` (T, D), scaled to length 1."""
    mean = tokens.mean(0)
    unit: Floats = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit


def tokens_read(modality: Modality, row: int) -> Floats:
    """(T, D) the tokens behind an item's components: all but CLS; CLS alone where the file keeps no others."""
    tokens = modality.read_tokens(row)
    return tokens if len(tokens) else modality.read_cls(row)[None]


def save_components(file: Path, components: Mapping[str, Components]) -> None:
    """Write the components of each modality, all or nothing."""
    tensors = {f"{name}.middle": one.middle for name, one in components.items()}
    tensors |= {f"{name}.directions": np.ascontiguousarray(one.directions) for name, one in components.items()}
    write_atomically(file, save(tensors))


def load_components(file: Path, config: Config) -> dict[str, Components]:
    """The components that a run of ``config`` reads, as ``file`` keeps them, in the order of its columns.

    BadInput where it is missing or damaged.
    """
    wanted = components_wanted(config)
    with readable(file):
        tensors = load_file(file) if wanted else {}
        return {name: Components(tensors[f"{name}.middle"], tensors[f"{name}.directions"]) for name in wanted}
