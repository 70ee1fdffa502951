"""Whether a run's model is better than biases alone, and whether its validation RMSE rose from epoch to epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from .summary import RunSummary

_RISE = 1.002  # validation RMSE over the lowest of earlier epochs, above which it counts as risen
_FEW = 50  # validation ratings, below which their RMSE means little


def with_baseline(
    summary: RunSummary, config: Config, joined: Joined, parts: Split, epochs: Sequence[dict[str, Any]]
) -> RunSummary:
    """The summary with the figures of a bias model, the validation RMSE beside it, and the warnings of both.

    ``epochs`` are the lines of the run's log. The bias model is fitted on the training ratings for the validation part,
    on training and validation ratings for the test part; a part without ratings gives no figure.
    """
    known = np.sort(np.concatenate([parts.train, parts.validation]))
    ratings = joined.rating[places_of(joined, known)]
    rmses = _validation_rmses(epochs)
    validation_rmse = rmses.get(summary.chosen_epochs)
    held_out = validation_rmse is not None
    found = replace(
        summary,
        only_rating=float(ratings[0]) if ratings.min() == ratings.max() else None,
        validation_rmse=validation_rmse,
        validation_ratings=len(parts.validation) if held_out else None,
        bias_validation_rmse=_bias_rmse(joined, parts.train, parts.validation) if held_out else None,
        bias_rmse=_bias_rmse(joined, known, parts.test) if len(parts.test) else None,
    )
    return replace(found, warnings=tuple(warnings_of(config, found, rmses)))


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


def warnings_of(config: Config, summary: RunSummary, rmses: Mapping[int, float]) -> list[str]:
    """A line for each thing that a user has to know before trusting a run; ``rmses`` of validation by epoch."""
    found, bias, ratings = summary.validation_rmse, summary.bias_validation_rmse, summary.validation_ratings
    if summary.only_rating is not None:
        return [
            f"all ratings to learn from are {summary.only_rating:g}, and so is every prediction; if they mean that "
            "a user saw an item, train with --objective ranking"
        ]
    warnings = []
    if ratings is not None and ratings < _FEW:
        warnings.append(
            f"{ratings} validation ratings are too few for their RMSE to mean much; "
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
    """The validation RMSE after each epoch of the first fit, which is the first member's."""
    of_first = [line for line in epochs if line["fit"] == 0]
    return {line["epoch"]: line["validation_rmse"] for line in of_first if line.get("validation_rmse") is not None}


def epochs_logged(metrics: Path) -> list[dict[str, Any]]:
    """The lines of a run's log of epochs, each the figures of one."""
    lines = metrics.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]
