"""Draws of validation ratings within the training part: configs are trained on one after another, and judged there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...data.dataset.splits import Split, split_ratings
from ..inputs.join import Joined
from ..inputs.training_data import TrainingData, places_of
from ..settings.config import Config
from ..training.loop import Training
from .space import Members

_CONFIRMING_DRAWS = 2


class ValidationDraws:
    """Trains a config on one draw of validation ratings after another, and knows no test rating.

    searched, fresh: numbers of the draws that trials are judged on, and of those kept for the last comparison.
    """

    def __init__(
        self, dataset: Path, joined: Joined, data: TrainingData, config: Config, split: str, draws: int
    ) -> None:
        self._data = data
        kept = np.zeros(joined.coverage.ratings, bool)
        kept[joined.row] = True
        share = config.validation or 0.1
        parts: list[Split] = []
        for draw in range(draws + _CONFIRMING_DRAWS):
            drawn = split_ratings(dataset, split, seed=config.seed, validation=share, draw=draw).within(kept)
            if not any(np.array_equal(drawn.validation, other.validation) for other in parts):
                parts.append(drawn)
        self._places = [
            tuple(torch.from_numpy(places_of(joined, rows)).to(data.device) for rows in (part.train, part.validation))
            for part in parts
        ]
        # the latest ratings are the same in every draw, and so are a file's own: then one draw has to do for both
        self.searched = list(range(max(1, min(draws, len(parts) - _CONFIRMING_DRAWS))))
        self.fresh = list(range(len(self.searched), len(parts))) or self.searched

    def rmse(self, members: Members, draw: int) -> float:
        """Validation RMSE of the members' mean prediction, each trained once."""
        train, validation = self._places[draw]
        data = replace(self._data, train=train, validation=validation)
        once = tuple(replace(each, refit=False, patience=0, seed=each.seed + draw) for each in members)
        fitted = Training(once[0], data, members=once).run()
        user, item = data.user[validation], data.item[validation]
        with torch.no_grad():
            each = [one.head.ratings(one.vectors.pair_scores(user, item), user) for one in fitted]
            return float((torch.stack(each).mean(0) - data.rating[validation]).square().mean().sqrt())
