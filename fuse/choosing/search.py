"""Settings that follow the training ratings: sizes by their number, head and L2 by short trainings, then an ensemble.

A few draws of the training part are held out. From the preset's settings on, one group of L2 strengths after the other
is multiplied and divided, as long as the ratings held out are predicted better by more than chance would have it. The
members are chosen from all trials, and Bayesian factors are averaged with them where that predicts better by more than
chance. Where biases alone predict no worse, biases alone are served.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from ...data.runtime.progress import NoProgress, Progress
from ..inputs.training_data import TrainingData
from ..models.heads import MOST_LEVELS, Scale
from ..settings.choices import Choices
from ..settings.config import Config
from ..training.member import takes_levels
from .ensemble import TRIALS_OF_MEMBERS, Ensemble
from .groups import BIASES_ALONE, COARSE, FINE, GROUPS, differing, free, sizes
from .trials import Point, Trials

FEWEST_RATINGS = 100
_MOST_PROBABILITIES = 20_000_000  # ratings times levels, of an ordinal head on a fine grid


@dataclass(eq=False)
class Search:
    """Finds the `Choices` of a run on its training part; ratings of its validation and test parts are not looked at."""

    config: Config
    training_data: TrainingData
    progress: Progress = field(default_factory=NoProgress)

    def choose(self) -> Choices:
        """Search. Settings that a person gave other values than the preset's stay as they are."""
        began = time.perf_counter()
        rating = self.training_data.rating[self.training_data.train]
        start_sizes = sizes(self.config, len(rating))
        reason = None
        if len(rating) < FEWEST_RATINGS:
            reason = f"{len(rating):,} training ratings are too few to try any"
        elif not self._holdable() or float(rating.min()) == float(rating.max()):
            reason = "no user has enough ratings that differ to try any"
        if reason is not None:
            return Choices(({},) * self.config.members, f"the preset's: {reason}")
        trials = Trials(self.config.with_values(start_sizes), self.training_data)
        with self.progress.phase("trying settings", trials.most + TRIALS_OF_MEMBERS, "steps") as phase:
            trials.phase = phase
            best, start = self._descend(trials)
            biases = trials.of_biases()
            ensemble = Ensemble(self.config, trials)
            chosen, prediction = ensemble.members(best)
            share, prediction = ensemble.bayesian_share(prediction, len(chosen))
        if self.config.takes_bayesian and not ensemble.affords_bayesian():
            self.progress.message("Bayesian factors are left out: these ratings are too many for them")
        rmse = trials.rmse(prediction)
        about: dict[str, Any] = {
            "held_out": len(trials.truth),
            "draws": len(trials.draws),
            "bias_rmse": trials.rmse(biases),
            "preset_rmse": trials.rmse(trials.predictions[start]),
            "trials": tuple(trials.done),
            "seconds": time.perf_counter() - began,
        }
        by_hand = not free(self.config, ("dim", "head", "histories", *GROUPS["l2"], *GROUPS["l2 of biases"]))
        if not trials.gains(prediction, biases) and not by_hand:
            reason = f"biases alone: on ratings held out vectors and histories were no better ({rmse:.4f})"
            return Choices((differing(self.config, BIASES_ALONE),), reason, chosen_rmse=trials.rmse(biases), **about)
        settings = [
            start_sizes | trials.settings(trials.points[key]) | {"factor_steps": steps} for key, steps in chosen
        ]
        members = tuple(differing(self.config, each) for each in settings)
        reason = "chosen on ratings held out of the training part"
        return Choices(members, reason, chosen_rmse=rmse, bayesian_share=share, **about)

    def _holdable(self) -> bool:
        data = self.training_data
        return int(torch.bincount(data.user[data.train]).max()) > 1

    def _descend(self, trials: Trials) -> tuple[str, str]:
        """Coordinate search, coarse, then fine; gives the best trial and that of the preset's settings."""
        scale = Scale.of(self.training_data.rating[self.training_data.train].cpu())
        head, other = ("ordinal", "squared") if takes_levels(self.config, scale) else ("squared", "ordinal")
        point: Point = dict.fromkeys(GROUPS, 1.0) | {"head": head}
        best = start = trials.run(point)
        levels = len(scale.levels)
        fit_in = 2 <= levels <= MOST_LEVELS and levels * len(self.training_data.train) <= _MOST_PROBABILITIES
        if self.config.head == "auto" and (other == "squared" or fit_in):
            best = trials.better(trials.run(point | {"head": other}), best)
        for factors in (COARSE, COARSE, FINE):
            for group, factor in factors.items():
                if not free(self.config, GROUPS[group]):
                    continue
                for direction in (1 / factor, factor):
                    moved = self._along(trials, best, group, direction)
                    if moved != best:
                        best = moved
                        break
        return best, start

    def _along(self, trials: Trials, best: str, group: str, factor: float) -> str:
        while len(trials.done) < trials.most:
            point = trials.points[best]
            further = trials.run(point | {group: point[group] * factor})
            if trials.better(further, best) == best:
                break
            best = further
        return best
