"""Whether a run's model is better than biases alone, and whether its validation RMSE rose from epoch to epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.dataset.splits import Split
from ..evaluation.metrics import rmse
from ..inputs.join import Joined
from ..inputs.training_data import places_of
from ..models.bias_model import BiasModel
from ..settings.config import Config

_RISE = 1.002  # validation RMSE over the lowest of earlier epochs, above which it counts as risen
_FEW = 50  # validation ratings, below which their RMSE means little


def baseline_figures(joined: Joined, parts: Split, epochs: Sequence[dict[str, Any]], chosen: int) -> dict[str, Any]:
    """The figures of a summary besides the test errors, of a run with these figures of ``epochs``.

    validation_rmse: of the model after the ``chosen`` epoch. bias_validation_rmse: of a bias model fitted on the same
    training ratings. bias_rmse: of one fitted on training and validation ratings, on the test part. Each is left out
    where the run has no such ratings, or held none out. only_rating: the rating, where all but the test part are one.
    """
    figures: dict[str, Any] = {}
    known = np.sort(np.concatenate([parts.train, parts.validation]))
    ratings = joined.rating[places_of(joined, known)]
    if ratings.min() == ratings.max():
        figures["only_rating"] = float(ratings[0])
    held_out = _validation_rmses(epochs)
    if chosen in held_out:
        figures["validation_rmse"] = held_out[chosen]
        figures["validation_ratings"] = len(parts.validation)
        figures["bias_validation_rmse"] = _bias_rmse(joined, parts.train, parts.validation)
    if len(parts.test):
        figures["bias_rmse"] = _bias_rmse(joined, known, parts.test)
    return figures


def _bias_rmse(joined: Joined, known: npt.NDArray[np.int64], asked: npt.NDArray[np.int64]) -> float:
    """RMSE on rows ``asked`` of `ratings.parquet` of a bias model fitted on the rows ``known``."""
    train, test = places_of(joined, known), places_of(joined, asked)
    model = BiasModel.fit(
        joined.user[train],
        joined.item[train],
        joined.rating[train],
        users=len(joined.user_ids),
        items=len(joined.item_ids),
    )
    return rmse(joined.rating[test], model.predict(joined.user[test], joined.item[test]))


def warnings_of(config: Config, figures: dict[str, Any], epochs: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each thing about a finished run that its user has to know before trusting it."""
    rmses = _validation_rmses(epochs)
    found, bias = figures.get("validation_rmse"), figures.get("bias_validation_rmse")
    if "only_rating" in figures:
        return [
            f"all ratings to learn from are {figures['only_rating']:g}, and so is every prediction; if they mean that "
            "a user saw an item, train with --objective ranking"
        ]
    warnings = []
    if found is not None and figures["validation_ratings"] < _FEW:
        warnings.append(
            f"{figures['validation_ratings']} validation ratings are too few for their RMSE to mean much; "
            "--validation 0.3 holds out a larger share"
        )
    only_biases = config.dim == 0 and not config.fuses
    if found is not None and bias is not None and found >= bias and not only_biases:
        warnings.append(
            f"the model does not beat biases alone on validation ratings (RMSE {found:.4f}, biases {bias:.4f}): these "
            "ratings may allow no more, or the settings do not fit them; compare settings by their validation RMSE"
        )
    if found is not None and found > _RISE * min(rmses.values()):
        best = min(rmses, key=lambda epoch: rmses[epoch])
        advice = (  # what the search chose is not twice the preset's
            "compare with --set patience=1, which ends training by validation"
            if config.adapt
            else f"try a stronger --set l2.scale={2 * config.l2.scale:g}, fewer epochs, or --set patience=1"
        )
        warnings.append(
            f"validation RMSE rose from {rmses[best]:.4f} after epoch {best} to {found:.4f} at the end: the model "
            f"overfits; {advice}"
        )
    return warnings


def _validation_rmses(epochs: Sequence[dict[str, Any]]) -> dict[int, float]:
    """The validation RMSE after each epoch that has one."""
    return {line["epoch"]: line["validation_rmse"] for line in epochs if line.get("validation_rmse") is not None}


def epochs_logged(metrics: Path) -> list[dict[str, Any]]:
    """The lines of a run's log of epochs, each the figures of one."""
    lines = metrics.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]
