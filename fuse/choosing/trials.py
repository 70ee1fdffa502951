"""Trials: short trainings on the same draws of the training part, judged on the ratings that these hold out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.runtime.progress import Phase
from ..inputs.training_data import TrainingData
from ..models.bayesian_factors import fit_bayesian_factors
from ..models.factors import Vectors
from ..models.heads import OrdinalHead, SquaredHead
from ..settings.choices import Trial
from ..settings.config import Config
from ..training.full_batch import standardised_pairs
from ..training.member import Member
from .groups import A_MILLION, BIASES_ALONE, GROUPS

_MOST_RATINGS = 2_000_000  # beyond, the ratings of a sample of users
_DIM, _STEPS = 16, 100  # of a trial: which L2 is best hardly depends on them
_MOST_TRIALS, _MOST_OF_A_MILLION = 24, 14
_BY_CHANCE = 0.5  # standard errors that a gain must exceed
_LEAST_GAIN = 3e-4  # of the mean squared error: less is not worth a trial, or a member, more

Point = dict[str, Any]
"""The multiple of each group, and the head."""


@dataclass(eq=False)
class Trials:
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
        self.most = _MOST_TRIALS if len(self.data.train) < A_MILLION else _MOST_OF_A_MILLION

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
        biases = self.config.with_values(BIASES_ALONE)
        return self._trained(replace(biases, factor_steps=min(300, biases.factor_steps)), {"biases alone": True})

    def of_bayesian(self) -> Tensor:
        """What Bayesian factors predict, (N,)."""
        began = time.perf_counter()
        predicted = []
        for number, (train, held) in enumerate(self.draws):
            scale, pairs = standardised_pairs(self.data, train)
            vectors = fit_bayesian_factors(pairs, seed=self.config.seed + number)
            predicted.append(self._predicted(vectors, SquaredHead(scale), held))
        return self._tried({"Bayesian factors": True}, torch.cat(predicted), began)

    def rmse(self, prediction: Tensor) -> float:
        """Of all ratings held out; infinite where a prediction is no number."""
        error = float((prediction - self.truth).square().mean().sqrt())
        return error if math.isfinite(error) else math.inf

    def gains(self, new: Tensor, old: Tensor, errors: float = _BY_CHANCE) -> bool:
        """Whether ``new`` (N,) predicts better by more than chance: by so many standard ``errors`` of the gain."""
        gain = (old - self.truth).square() - (new - self.truth).square()
        least = _LEAST_GAIN * float((old - self.truth).square().mean())
        return float(gain.mean()) > max(least, errors * float(gain.std()) / math.sqrt(len(gain)))

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
