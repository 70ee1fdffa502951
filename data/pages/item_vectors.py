"""One vector a film, read from an embedding file without loading it: the CLS, or the mean of the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..embeddings.modality import Modality

VectorKind = Literal["cls", "mean"]


def film_vectors(modality: Modality, rows: npt.NDArray[np.int64], kind: VectorKind) -> npt.NDArray[np.float32]:
    """The vectors of `rows`, (len(rows), D) float32; NaN throughout where a film has no embedding that is finite.

    "mean" is the mean over the film's tokens (text: every position but the CLS; image: the patches), taken in float32;
    a film without tokens has none. Memory is that of the result and of one film's tokens, whatever the file's size.
    """
    width = modality.width if kind == "cls" else modality.token_width
    vectors = np.full((len(rows), width), np.nan, np.float32)
    # an untrusted file may hold Inf and its negative in one column: their mean is NaN, which is what is wanted here
    with np.errstate(invalid="ignore", over="ignore"):
        for place in np.flatnonzero(modality.has_embedding[rows]).tolist():
            row = int(rows[place])
            if kind == "cls":
                vectors[place] = modality.read_cls(row)
            elif len(tokens := modality.read_tokens(row)):
                vectors[place] = tokens.mean(axis=0)
    vectors[~np.isfinite(vectors).all(axis=1)] = np.nan
    return vectors


def has_vector(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """(N,) True where the film has a vector."""
    there: npt.NDArray[np.bool_] = ~np.isnan(vectors[:, 0])
    return there
