"""Settings that follow the training ratings: sizes by their number, head and L2 by short trainings, then an ensemble.

A few draws of the training part are held out. From the preset's settings on, one group of L2 strengths after the other
is multiplied and divided, as long as the ratings held out are predicted better by more than chance would have it.
Members are chosen from all trials by forward selection (Caruana et al. 2004): an ordinal and a squared head, or a
weaker and a stronger L2, err differently; so do long and short trainings, and few ratings are overfitted early. A
covariance model is averaged with them where that predicts better by more than chance. Where biases alone predict no
worse, biases alone are served.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...data.runtime.progress import NoProgress, Phase, Progress
from ..inputs.training_data import TrainingData
from ..models.covariance_model import affordable, fit_covariance_model
from ..models.factors import Vectors
from ..models.heads import MOST_LEVELS, OrdinalHead, Scale, SquaredHead
from ..settings.choices import Choices, Trial
from ..settings.config import Config
from ..settings.presets import PRESETS
from .full_batch import standardised_pairs
from .member import Member, takes_levels

FEWEST_RATINGS = 100
_MOST_RATINGS = 2_000_000  # beyond, the ratings of a sample of users
_DIM, _STEPS = 16, 100  # of a trial: which L2 is best hardly depends on them
_FEWEST_STEPS = 30  # of a member
_MOST_TRIALS, _MOST_OF_A_MILLION = 24, 14
_TRIALS_OF_MEMBERS = 14  # at most: three points at four lengths, biases alone, the covariance model
_MOST_PROBABILITIES = 20_000_000  # ratings times levels, of an ordinal head on a fine grid
_BY_CHANCE = 0.5  # standard errors that a gain must exceed
_SHARES = tuple(percent / 100 for percent in range(5, 65, 5))  # of the covariance model
_LEAST_GAIN = 3e-4  # of the mean squared error: less is not worth a trial, or a member, more

_HISTORIES = ("implicit_items", "explicit_items", "implicit_users", "explicit_users")
GROUPS: dict[str, tuple[str, ...]] = {
    "l2 of histories": tuple(f"l2.{name}" for name in _HISTORIES),
    "l2": ("l2.scale",),
    "l2 of biases of histories": tuple(f"l2.{name}_bias" for name in _HISTORIES),
    "l2 of biases": ("l2.user_bias", "l2.item_bias"),
    "l2 of vectors": ("l2.user", "l2.item"),
}
"""Groups of settings that are multiplied together; "l2" multiplies the others."""

_COARSE = {
    "l2 of histories": 2.5,
    "l2": 2.0,
    "l2 of biases of histories": 2.5,
    "l2 of biases": 2.5,
    "l2 of vectors": 2.5,
}
_FINE = {"l2 of histories": 1.5, "l2": 1.4}
_BIASES_ALONE = {
    name: PRESETS["bias"].value(name)
    for name in (
        "dim",
        "head",
        "factor_learning_rate",
        "factor_steps",
        "epochs",
        "l2.scale",
        "l2.user_bias",
        "l2.item_bias",
    )
} | {"histories": False}

# of MovieLens 1M (docs/experiments.md); a search starts there where there are as many ratings
_OF_A_MILLION = {
    "dim": 128,
    "factor_learning_rate": 0.01,
    "l2.scale": 1.4,
    "l2.user": 50.0,
    "l2.item": 300.0,
    "l2.implicit_users": 35.0,
    "l2.explicit_items": 47.0,
}
_A_MILLION = 400_000  # and more

_Key = TypeVar("_Key")
Point = dict[str, Any]  # the multiple of each group, and the head


@dataclass(eq=False)
class Search:
    """Finds the `Choices` of a run on its training part; ratings of its validation and test parts are not looked at."""

    config: Config
    training_data: TrainingData
    progress: Progress = field(default_factory=NoProgress)

    def choose(self) -> Choices:
        """Search. Settings that a person gave other values than the preset's stay as they are."""
        began = time.perf_counter()
        sizes = self.sizes()
        rating = self.training_data.rating[self.training_data.train]
        reason = None
        if len(rating) < FEWEST_RATINGS:
            reason = f"{len(rating):,} training ratings are too few to try any"
        elif not self._holdable() or float(rating.min()) == float(rating.max()):
            reason = "no user has enough ratings that differ to try any"
        if reason is not None:
            return Choices(({},) * self.config.members, f"the preset's: {reason}")
        trials = _Trials(self.config.with_values(sizes), self.training_data)
        with self.progress.phase("trying settings", trials.most + _TRIALS_OF_MEMBERS, "steps") as phase:
            trials.phase = phase
            best, start = self._descend(trials)
            biases = trials.of_biases()
            chosen, prediction = self._members(trials, best)
            share, prediction = self._covariance_share(trials, prediction)
        rmse = trials.rmse(prediction)
        about: dict[str, Any] = {
            "held_out": len(trials.truth),
            "draws": len(trials.draws),
            "bias_rmse": trials.rmse(biases),
            "preset_rmse": trials.rmse(trials.predictions[start]),
            "trials": tuple(trials.done),
            "seconds": time.perf_counter() - began,
        }
        by_hand = not _free(self.config, ("dim", "head", "histories", *GROUPS["l2"], *GROUPS["l2 of biases"]))
        if not trials.gains(prediction, biases) and not by_hand:
            reason = f"biases alone: on ratings held out vectors and histories were no better ({rmse:.4f})"
            return Choices((_differing(self.config, _BIASES_ALONE),), reason, chosen_rmse=trials.rmse(biases), **about)
        settings = [sizes | trials.settings(trials.points[key]) | {"factor_steps": steps} for key, steps in chosen]
        members = tuple(_differing(self.config, each) for each in settings)
        reason = "chosen on ratings held out of the training part"
        return Choices(members, reason, chosen_rmse=rmse, covariance_share=share, **about)

    def sizes(self) -> dict[str, Any]:
        """Sizes for this number of ratings, by measurements from 5,000 to a million (docs/experiments.md)."""
        ratings = len(self.training_data.train)
        wanted: dict[str, Any] = dict(_OF_A_MILLION) if ratings >= _A_MILLION else {}
        if ratings < 20_000:
            wanted["dim"] = 32
        elif ratings > 5_000_000:
            wanted["dim"] = 64
        return {name: value for name, value in wanted.items() if _free(self.config, [name])}

    def _holdable(self) -> bool:
        data = self.training_data
        return int(torch.bincount(data.user[data.train]).max()) > 1

    def _descend(self, trials: _Trials) -> tuple[str, str]:
        """Coordinate search, coarse, then fine; gives the best trial and that of the preset's settings."""
        scale = Scale.of(self.training_data.rating[self.training_data.train].cpu())
        head, other = ("ordinal", "squared") if takes_levels(self.config, scale) else ("squared", "ordinal")
        point: Point = dict.fromkeys(GROUPS, 1.0) | {"head": head}
        best = start = trials.run(point)
        levels = len(scale.levels)
        fit_in = 2 <= levels <= MOST_LEVELS and levels * len(self.training_data.train) <= _MOST_PROBABILITIES
        if self.config.head == "auto" and (other == "squared" or fit_in):
            best = trials.better(trials.run(point | {"head": other}), best)
        for factors in (_COARSE, _COARSE, _FINE):
            for group, factor in factors.items():
                if not _free(self.config, GROUPS[group]):
                    continue
                for direction in (1 / factor, factor):
                    moved = self._along(trials, best, group, direction)
                    if moved != best:
                        best = moved
                        break
        return best, start

    def _along(self, trials: _Trials, best: str, group: str, factor: float) -> str:
        while len(trials.done) < trials.most:
            point = trials.points[best]
            further = trials.run(point | {group: point[group] * factor})
            if trials.better(further, best) == best:
                break
            best = further
        return best

    def _members(self, trials: _Trials, best: str) -> tuple[list[tuple[str, int]], Tensor]:
        """The point and the factor steps of each member, and their mean prediction (N,).

        Points are selected in short trainings. These are trained at their own sizes then, for half the steps as long as
        that gains, and members are selected from what came out.
        """
        points, mean = self._forward(trials, trials.predictions, best)
        if len(self.training_data.train) >= _A_MILLION:
            chosen = [(key, self.config.factor_steps) for key in points]
        else:
            predictions: dict[tuple[str, int], Tensor] = {}
            for key in dict.fromkeys(points):
                predictions |= self._at_full_size(trials, key)
            first = min(predictions, key=lambda member: trials.rmse(predictions[member]))
            chosen, mean = self._forward(trials, predictions, first)
        return chosen if _free(self.config, ["members"]) else chosen * self.config.members, mean

    def _at_full_size(self, trials: _Trials, key: str) -> dict[tuple[str, int], Tensor]:
        """Predictions (N,) of a point by the steps of its training: the config's, then half as many while it gains."""
        steps = self.config.factor_steps
        found = {(key, steps): trials.at_full_size(key, steps)}
        while _free(self.config, ["factor_steps"]) and not self.config.fuses and steps // 2 >= _FEWEST_STEPS:
            found[key, steps // 2] = trials.at_full_size(key, steps // 2)
            if not trials.gains(found[key, steps // 2], found[key, steps]):
                break
            steps //= 2
        return found

    def _forward(self, trials: _Trials, predictions: Mapping[_Key, Tensor], best: _Key) -> tuple[list[_Key], Tensor]:
        """Keys of ``predictions``, the best first, and their mean: whichever makes it better joins, while one does.

        Where the number of members was set by hand the best stays alone.
        """
        most = 1 if not _free(self.config, ["members"]) else 3 if len(self.training_data.train) < _A_MILLION else 2
        chosen, mean = [best], predictions[best]
        while len(chosen) < most:
            means = {key: torch.stack([predictions[each] for each in [*chosen, key]]).mean(0) for key in predictions}
            key = min(means, key=lambda name: trials.rmse(means[name]))
            if not trials.gains(means[key], mean):
                break
            chosen.append(key)
            mean = means[key]
        return chosen, mean

    def _covariance_share(self, trials: _Trials, mean: Tensor) -> tuple[float, Tensor]:
        """The weight of a covariance model beside the members' ``mean`` (N,), and the prediction with it; 0: none."""
        data = self.training_data
        served = data.fitted(whole=self.config.refit)
        if not (self.config.takes_covariance and affordable(data.user[served], data.items)):
            return 0.0, mean
        alone = trials.of_covariance()
        share = min(_SHARES, key=lambda share: trials.rmse(mean + share * (alone - mean)))
        blend = mean + share * (alone - mean)
        return (share, blend) if trials.gains(blend, mean) else (0.0, mean)


@dataclass(eq=False)
class _Trials:
    """Short trainings on the same draws, and what each predicted for the ratings held out."""

    config: Config
    data: TrainingData
    phase: Phase | None = None
    done: list[Trial] = field(default_factory=list)
    points: dict[str, Point] = field(default_factory=dict)
    predictions: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draws = list(_draws(self.data, self.config.seed))
        self.truth = torch.cat([self.data.rating[held] for _, held in self.draws])
        self.most = _MOST_TRIALS if len(self.data.train) < _A_MILLION else _MOST_OF_A_MILLION

    def settings(self, point: Point) -> dict[str, Any]:
        """The settings of a point, without its sizes."""
        of_groups = {
            name: self.config.value(name) * point[group]
            for group, names in GROUPS.items()
            if point[group] != 1
            for name in names
        }
        return of_groups | {"head": point["head"]}

    def run(self, point: Point) -> str:
        """Train at a point, unless that was done; gives its key."""
        key = ", ".join(f"{name} {value:.4g}" if name != "head" else value for name, value in sorted(point.items()))
        if key not in self.points:
            self.points[key] = point
            config = self.config.with_values(self.settings(point))
            steps = min(_STEPS, config.factor_steps)
            small = replace(config, dim=min(config.dim, _DIM), factor_steps=steps, factor_learning_rate=0.02)
            self.predictions[key] = self._trained(small, {k: v for k, v in point.items() if v != 1})
        return key

    def at_full_size(self, key: str, steps: int) -> Tensor:
        """What a member at a point predicts, (N,), trained for so many steps."""
        config = self.config.with_values(self.settings(self.points[key]) | {"factor_steps": steps})
        words = {name: value for name, value in self.points[key].items() if value != 1}
        return self._trained(config, words | {"dim": config.dim, "factor_steps": steps})

    def of_biases(self) -> Tensor:
        """What biases alone predict, (N,)."""
        biases = self.config.with_values(_BIASES_ALONE)
        return self._trained(replace(biases, factor_steps=min(300, biases.factor_steps)), {"biases alone": True})

    def of_covariance(self) -> Tensor:
        """What the covariance model predicts, (N,)."""
        began = time.perf_counter()
        predicted = []
        for train, held in self.draws:
            scale, pairs = standardised_pairs(self.data, train)
            predicted.append(self._predicted(fit_covariance_model(pairs), SquaredHead(scale), held))
        return self._tried({"covariance model": True}, torch.cat(predicted), began)

    def rmse(self, prediction: Tensor) -> float:
        """Of all ratings held out; infinite where a prediction is no number."""
        error = float((prediction - self.truth).square().mean().sqrt())
        return error if math.isfinite(error) else math.inf

    def gains(self, new: Tensor, old: Tensor) -> bool:
        """Whether ``new`` (N,) predicts better by more than chance."""
        gain = (old - self.truth).square() - (new - self.truth).square()
        least = _LEAST_GAIN * float((old - self.truth).square().mean())
        return float(gain.mean()) > max(least, _BY_CHANCE * float(gain.std()) / math.sqrt(len(gain)))

    def better(self, new: str, old: str) -> str:
        """The new trial where it gains, or else the old one."""
        return new if self.gains(self.predictions[new], self.predictions[old]) else old

    def _trained(self, config: Config, words: dict[str, Any]) -> Tensor:
        began = time.perf_counter()
        predicted = []
        config = replace(config, modalities="none", item_dropout=0.0)
        for number, (train, held) in enumerate(self.draws):
            scale, pairs = standardised_pairs(self.data, train)
            member = Member(config, pairs, scale, self.data.side, {}, seed=config.seed + number)
            for step in range(config.factor_steps):
                member.factor_step(step, torch.Generator())
            predicted.append(self._predicted(member.vectors(), member.head, held))
        return self._tried(words, torch.cat(predicted), began)

    @torch.no_grad()
    def _predicted(self, vectors: Vectors, head: SquaredHead | OrdinalHead, held: Tensor) -> Tensor:
        user, item = self.data.user[held], self.data.item[held]
        return head.ratings(vectors.pair_scores(user, item), user)

    def _tried(self, words: dict[str, Any], prediction: Tensor, began: float) -> Tensor:
        self.done.append(Trial(words, self.rmse(prediction), time.perf_counter() - began))
        if self.phase is not None:
            self.phase.advance(1)
        return prediction


def _draws(data: TrainingData, seed: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Ratings to train on and ratings held out, places in ``data``: more draws, and larger ones, of fewer ratings."""
    rows = data.train
    random = np.random.default_rng((seed, 41))
    if len(rows) > _MOST_RATINGS:
        users = random.permutation(data.users)
        counts = torch.bincount(data.user[rows], minlength=data.users).cpu().numpy()[users]
        kept = np.zeros(data.users, bool)
        kept[users[: max(1, int(np.searchsorted(np.cumsum(counts), _MOST_RATINGS)))]] = True
        rows = rows[torch.from_numpy(kept).to(rows.device)[data.user[rows]]]
    count = len(rows)
    share, draws = (0.2, 4) if count < 10_000 else (0.15, 3) if count < 40_000 else (0.1, 1)
    order = torch.from_numpy(random.permutation(count)).to(rows.device)
    size = int(count * share)
    for draw in range(draws):
        held = torch.zeros(count, dtype=torch.bool, device=rows.device)
        held[order[draw * size : (draw + 1) * size]] = True
        yield rows[~held], rows[held]


def _free(config: Config, names: Iterable[str]) -> bool:
    """Whether these settings are still the preset's, and so may be chosen."""
    base = PRESETS.get(config.preset)
    return base is not None and all(config.value(name) == base.value(name) for name in names)


def _differing(config: Config, settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if config.value(name) != value}
