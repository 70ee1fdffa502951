"""A catalogue's principal components as a map: what a film's would be, had its mean token been another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...data.embeddings import Modality
from ..side import principal_components

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ComponentMap:
    """``components = (mean token of length 1 - middle) @ directions``, as `principal_components` found them.

    components: (I, k) of all films, 0 for those without an embedding. middle: (D,). directions: (D, k).
    """

    components: Floats
    middle: Floats
    directions: Floats

    @classmethod
    def of(cls, modality: Modality, rows: npt.NDArray[np.int64], count: int, deviation: float) -> ComponentMap:
        """The map behind ``principal_components(modality, rows, count, deviation)``: it is linear."""
        components = principal_components(modality, rows, count, deviation)
        present = np.flatnonzero((rows >= 0) & modality.has_embedding[rows])
        if len(present) < 2:
            nothing = np.zeros((modality.width, count), np.float32)
            return cls(components, np.zeros(modality.width, np.float32), nothing)
        means = np.stack([_unit(tokens_read(modality, row).mean(0)) for row in rows[present].tolist()])
        middle = means.mean(0)
        # of the decomposition U S V' of the centred means the components are U c, so this is V S c; c is known, |U c|
        told = (means - middle).T @ components[present]  # (D, k)
        scale = np.square(components[present]).sum(0) / np.maximum(np.square(told).sum(0), 1e-30)  # 1 / S squared
        return cls(components, middle, told * scale)

    def without(self, tokens: Floats, hidden: list[npt.NDArray[np.int64]]) -> Floats:
        """(G, k): the components of a film of ``tokens`` (T, D) when each of G sets of them is left out of its mean."""
        total = tokens.sum(0, dtype=np.float64)
        result = np.zeros((len(hidden), self.directions.shape[1]), np.float32)
        for place, out in enumerate(hidden):
            left = len(tokens) - len(out)
            if left:  # of nothing: as a film without the modality
                mean = ((total - tokens[out].sum(0, dtype=np.float64)) / left).astype(np.float32)
                result[place] = (_unit(mean) - self.middle) @ self.directions
        return result


def tokens_read(modality: Modality, row: int) -> Floats:
    """(T, D) the tokens whose mean tells a film's components: all but CLS; CLS alone where the file keeps no others."""
    tokens = modality.read_tokens(row)
    return tokens if len(tokens) else modality.read_cls(row)[None]


def _unit(vector: Floats) -> Floats:
    unit: Floats = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit
