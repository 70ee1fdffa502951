"""RMSE by epoch of each fit, from the log of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ...data.runtime.errors import BadInput
from ..runs.run import Run


@dataclass(frozen=True)
class Curve:
    """One fit: the ratings it was trained on ("train" or "train+validation"), and its RMSE after each epoch.

    validation: None where the fit had no validation ratings.
    """

    fit: int
    member: int
    ratings: str
    epochs: tuple[int, ...]
    train: tuple[float, ...]
    validation: tuple[float, ...] | None


def learning_curves(run: Run) -> list[Curve]:
    """The curves of all fits of a run, in order; none where it has no log. BadInput where the log is damaged.

    The log of a resumed run may have an epoch twice, of which the later counts, and a truncated line, which is ignored.
    """
    file = run.files.metrics
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as fault:
        raise BadInput(f"{file} cannot be read ({fault}): train the run again") from None
    fits: dict[int, dict[int, dict[str, Any]]] = {}
    try:
        for figures in filter(None, map(_whole, lines)):
            fits.setdefault(int(figures["fit"]), {})[int(figures["epoch"])] = figures
        return [_curve(fit, [epochs[epoch] for epoch in sorted(epochs)]) for fit, epochs in sorted(fits.items())]
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{file} has lines without the figures of an epoch: train the run again") from None


def _whole(line: str) -> dict[str, Any] | None:
    try:
        figures = json.loads(line)
    except ValueError:
        return None
    return figures if isinstance(figures, dict) else None


def _curve(fit: int, figures: list[dict[str, Any]]) -> Curve:
    seen = [epoch["validation_rmse"] for epoch in figures]
    return Curve(
        fit=fit,
        member=int(figures[0]["member"]),
        ratings=str(figures[0]["ratings"]),
        epochs=tuple(int(epoch["epoch"]) for epoch in figures),
        train=tuple(float(epoch["train_rmse"]) for epoch in figures),
        validation=None if None in seen else tuple(float(value) for value in seen),
    )
