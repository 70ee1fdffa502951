"""What a film's principal components would be, had its mean token been another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..inputs.components import Components, Floats, mean_token


def components_without(components: Components, tokens: Floats, hidden: list[npt.NDArray[np.int64]]) -> Floats:
    """(G, k): the components of a film of ``tokens`` (T, D) when each of G sets of them is left out of its mean."""
    total = tokens.sum(0, dtype=np.float64)
    result = np.zeros((len(hidden), components.directions.shape[1]), np.float32)
    for place, out in enumerate(hidden):
        left = len(tokens) - len(out)
        if left:  # of nothing: as a film without the modality
            rest = ((total - tokens[out].sum(0, dtype=np.float64)) / left).astype(np.float32)
            result[place] = components.of_items(mean_token(rest[None])[None])[0]
    return result
