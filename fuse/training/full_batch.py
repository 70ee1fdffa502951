"""Pairs, factors and learning rate of the full-batch training, the same for a rating model and a ranking model."""

from __future__ import annotations

import torch
from torch import Tensor

from ..inputs.interactions import TrainingPairs
from ..inputs.side_information import SideInformation
from ..inputs.training_data import TrainingData
from ..models.factors import Factors
from ..models.heads import Scale
from ..settings.config import Config

_LEAST_RATE = 0.02  # of the full learning rate, at the end
_HEAD_START = 0.25  # share of the factor steps before the Transformer's first pass, which trains against users' vectors
_MOST_WARM_UP = 50  # steps, or a fifth of all where these are fewer


def standardised_pairs(data: TrainingData, rows: Tensor) -> tuple[Scale, TrainingPairs]:
    """The scale of the ratings in some rows (n,) of ``data``, and these ratings standardised by it."""
    rating = data.rating[rows]
    scale = Scale.of(rating.cpu())
    pairs = TrainingPairs.sorted(
        data.user[rows], data.item[rows], scale.standardise(rating), users=data.users, items=data.items
    )
    return scale, pairs


def factors_of(
    config: Config,
    pairs: TrainingPairs,
    side: SideInformation,
    *,
    user_power: float,
    item_power: float,
    seed: int,
) -> Factors:
    """The untrained factors that ``config`` asks for, drawn from ``seed``; the powers are those of `Factors`."""
    return Factors(
        pairs,
        side.user,
        side.item,
        side.tags,
        dim=config.dim,
        user_ids=config.user_ids,
        item_ids=config.item_ids,
        histories=config.histories,
        user_power=user_power,
        item_power=item_power,
        generator=torch.Generator().manual_seed(seed),
    )


def factor_rate(full: float, step: int, steps: int) -> float:
    """The learning rate of the ``step``-th of ``steps``: a linear warm-up to ``full``, times a linear decay."""
    rate = full * min(1.0, (step + 1) / max(1, min(_MOST_WARM_UP, steps // 5)))
    return rate * max(_LEAST_RATE, 1 - step / steps)


def head_start(config: Config) -> int:
    """Factor steps before the first epoch, where there is a Transformer."""
    return round(config.factor_steps * _HEAD_START) if config.fuses else 0


def steps_of_epoch(config: Config, epoch: int) -> int:
    """Factor steps of an epoch: an equal share of those after the head start."""
    left = config.factor_steps - head_start(config)
    return left * (epoch + 1) // config.epochs - left * epoch // config.epochs
