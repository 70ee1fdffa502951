"""How much a linear model reads out of frozen features: the same protocol for every encoder.

Features are standardised on the films fitted on. One logistic regression a genre, with one L2 strength for all, chosen
by macro mAP on the validation films; then fitted again on training and validation films, and read once on the held-out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

STRENGTHS = tuple(10.0 ** (k / 3) for k in range(6, -10, -1))  # strong first: each fit starts from the one before

Matrix = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Probed:
    """Macro mAP over the genres; ``held_out`` is None until it is asked for. A genre without films does not count."""

    validation: float
    strength: float
    held_out: float | None = None

    def __str__(self) -> str:
        read = "" if self.held_out is None else f", held out {self.held_out:.4f}"
        return f"validation {self.validation:.4f} (strength {self.strength:.3g}){read}"


def probe(
    features: Matrix,
    labels: npt.NDArray[np.bool_],
    train: npt.NDArray[np.bool_],
    validation: npt.NDArray[np.bool_],
    held_out: npt.NDArray[np.bool_] | None = None,
) -> Probed:
    """features (films, D), labels (films, genres), and masks (films,) of the three parts."""
    fits = _fits(features[train], labels[train])
    figures = [macro_map(fit(features[validation]), labels[validation]) for fit in fits]
    best = int(np.argmax(figures))
    found = Probed(figures[best], STRENGTHS[best])
    if held_out is None:
        return found
    known = train | validation
    final = _fits(features[known], labels[known])[best]
    return Probed(found.validation, found.strength, macro_map(final(features[held_out]), labels[held_out]))


def probes(
    vector: Matrix, mean: Matrix, labels: npt.NDArray[np.bool_], *masks: npt.NDArray[np.bool_]
) -> Iterator[tuple[str, int, Probed]]:
    """Probes of items' vectors (films, D), of the means of their tokens (films, W), and of both; with their widths."""
    for kind, values in (("vector", vector), ("mean token", mean), ("both", np.concatenate([vector, mean], 1))):
        yield kind, values.shape[1], probe(values, labels, *masks)


def macro_map(scores: Matrix, labels: npt.NDArray[np.bool_]) -> float:
    """Mean over the genres of average precision: the mean, over a genre's films, of the precision down to each."""
    figures = []
    for score, label in zip(scores.T, labels.T, strict=True):
        if label.any():
            ranked = label[np.argsort(-score, kind="stable")]
            hits = np.flatnonzero(ranked)
            figures.append(float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1))))
    return float(np.mean(figures))


class _Fit:
    def __init__(self, mean: torch.Tensor, spread: torch.Tensor, weights: torch.Tensor) -> None:
        self._mean, self._spread, self._weights = mean, spread, weights

    def __call__(self, features: Matrix) -> Matrix:
        """(films, D) to logits without intercept (it ranks nothing), (films, genres)."""
        standard = (torch.from_numpy(np.asarray(features, np.float32)) - self._mean) / self._spread
        return (standard @ self._weights).numpy()


def _fits(features: Matrix, labels: npt.NDArray[np.bool_]) -> list[_Fit]:
    x = torch.from_numpy(np.asarray(features, np.float32))
    mean, spread = x.mean(0), x.std(0).clamp_min(1e-6)
    x = (x - mean) / spread
    y = torch.from_numpy(labels.astype(np.float32))
    weights = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    prior = y.mean(0).clamp(1e-4, 1 - 1e-4)
    bias = torch.log(prior / (1 - prior)).requires_grad_()
    fits = []
    for strength in STRENGTHS:
        search = torch.optim.LBFGS([weights, bias], max_iter=60, tolerance_change=1e-7, line_search_fn="strong_wolfe")

        def loss(search: torch.optim.Optimizer = search, strength: float = strength) -> torch.Tensor:
            search.zero_grad()
            fit = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights + bias, y, reduction="none")
            value = fit.mean(0).sum() + strength * weights.square().sum() / 2
            value.backward()  # type: ignore[no-untyped-call]
            return value

        search.step(loss)  # type: ignore[no-untyped-call]
        fits.append(_Fit(mean, spread, weights.detach().clone()))
    return fits
