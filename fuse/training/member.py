"""One trainable model of factors, perhaps a fusion Transformer, and a head, trained by alternating optimisation.

The Transformer runs item-major: a batch of items passes it once, and its vectors are scored against the ratings those
items have, with the factors held still. The factors run full-batch: all ratings at once, with the items' content
vectors held still. Neither sees a rating in the history that has to predict it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...device import threads_for
from ..inputs.interactions import TrainingPairs
from ..inputs.side_information import SideInformation
from ..inputs.tokens import TokenBatch
from ..models.cold_start import cold_start_weights
from ..models.factors import Vectors
from ..models.fusion_transformer import FusionTransformer
from ..models.heads import LEVELS_OF_AUTO, OrdinalHead, Scale, SquaredHead
from ..settings.config import Config
from .adam import Adam
from .batches import ItemBatch, ItemBatches
from .full_batch import factor_rate, factors_of
from .processes import ALONE, Ranks

_L2_ESTIMATES = 8  # of the head, spread over the factor steps


class Member(nn.Module):
    """Factors, Transformer and head, with the optimisers of factors and Transformer."""

    content: Tensor | None

    def __init__(
        self,
        config: Config,
        pairs: TrainingPairs,
        scale: Scale,
        side: SideInformation,
        widths: Mapping[str, int],
        *,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.config, self.pairs, self.side, self.ranks = config, pairs, side, ranks
        device = pairs.user.device
        self.factors = factors_of(
            config, pairs, side, user_power=config.l2.user_power, item_power=config.l2.item_power, seed=seed
        )
        ratings = scale.mean + scale.unit * pairs.rating
        self.head: SquaredHead | OrdinalHead = (
            OrdinalHead(scale, ratings.cpu(), pairs.users) if takes_levels(config, scale) else SquaredHead(scale)
        ).to(device)
        self.transformer: FusionTransformer | None = None
        self.register_buffer("content", None)
        if config.fuses:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.transformer = FusionTransformer(
                    widths,
                    side.shown.shape[1],
                    outputs=config.dim + 1,
                    width=config.width,
                    layers=config.layers,
                    heads=config.attention_heads,
                    dropout=config.dropout,
                    token_drop=config.token_drop,
                ).to(device)
            self.content = torch.zeros(pairs.items, config.dim + 1, device=device)
        # in a tuple, or the module would take it for a second Transformer and save it twice
        self._reader: tuple[Any] = (
            torch.compile(self.transformer, dynamic=True) if config.compile else self.transformer,
        )
        self.factor_optimiser = Adam(
            [*self.factors.parameters(), *self.head.parameters()], config.factor_learning_rate, (0.9, 0.99)
        )
        self.transformer_optimiser = (
            Adam(self.transformer.parameters(), config.transformer_learning_rate, (0.9, 0.999), config.weight_decay)
            if self.transformer is not None
            else None
        )
        self.strengths = config.l2.strengths()

    @torch.no_grad()
    def vectors(self) -> Vectors:
        """Vectors of all users and items, content and histories included."""
        return self.factors.vectors(self.content)

    @torch.no_grad()
    def score_bound(self) -> float:
        """A bound of every score, by Cauchy and Schwarz: no finite number where a score might not be one."""
        user, item = self.vectors()
        of_head = torch.stack([p.abs().sum() for p in self.head.parameters()] or [user.new_zeros(())]).sum()
        return float(user.norm(dim=1).max() * item.norm(dim=1).max() + of_head)

    def factor_step(self, step: int, generator: torch.Generator) -> Tensor:
        """One full-batch step of the factors and the head; gives the (R,) scores it started from."""
        steps = self.config.factor_steps
        self.factor_optimiser.rate = factor_rate(self.config.factor_learning_rate, step, steps)
        scores = self.factors.training_scores(self.content, self._kept_items(generator))
        losses = self.head.losses(scores, self.pairs.rating, self.pairs.user)
        penalty = self.factors.penalty(self.strengths) + self.config.l2.levels * self.head.penalty()
        loss = (losses.sum() + penalty) / len(self.pairs)
        self.factor_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.factor_optimiser.step()
        scores = scores.detach()
        if step % max(1, steps // _L2_ESTIMATES) == 0 and step > 0:
            self.head.estimate_l2(scores, self.pairs.user)
        return scores

    def learn_unrated_items(self) -> None:
        """Fit the weights of side information and tags for items without a training rating, where there are some."""
        wanted = self.config.cold_start_weights and bool((self.pairs.item_counts == 0).any())
        if wanted and self.factors.item_features.shape[1] + self.factors.item_tags.columns:
            strength = self.side.item.new_full(self.side.item.shape[1:], self.config.l2.cold_components)
            strength[: self.side.shown.shape[1]] = self.config.l2.cold_side  # genres and years come first
            weights = cold_start_weights(self.factors, strength, self.config.l2.cold_tags)
            self.factors.cold_side, self.factors.cold_tags = weights

    @torch.no_grad()
    def frozen_scores(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the Transformer trains against: scores (R,) without content, item by item, and users (U, D + 1)."""
        keep = self._kept_items(generator)
        scores = self.factors.training_scores(None, keep)[self.pairs.by_item]
        return scores, self.factors.vectors(None, keep).user

    def transformer_step(self, batch: ItemBatch, frozen: tuple[Tensor, Tensor], progress: float) -> Tensor:
        """One step of the Transformer on a batch of items; gives its loss for each rating. progress: 0 to 1.

        With several ranks the step is that of all their items together, and the loss this rank's part of it.
        """
        if self.transformer_optimiser is None:
            raise ValueError("expected a model with a Transformer")
        with threads_for(self._numbers(batch.tokens, batch.items)):
            return self._transformer_step(batch, frozen, progress, self.transformer_optimiser)

    def _transformer_step(
        self, batch: ItemBatch, frozen: tuple[Tensor, Tensor], progress: float, optimiser: Adam
    ) -> Tensor:
        scores, users = frozen
        optimiser.rate = self.config.transformer_learning_rate * _cosine(progress)
        optimiser.zero_grad()
        loss = torch.zeros((), device=batch.items.device)
        if len(batch.items):  # the last batch may have fewer items than there are ranks
            content = self._read(batch.tokens, batch.items)  # (B, D + 1)
            score = scores[batch.pair] + self.factors.content_scores(
                content, users, batch.items, batch.pair, batch.place
            )  # (K,)
            rating, user = self.pairs.rating_by_item[batch.pair], self.pairs.user_by_item[batch.pair]
            losses = self.head.losses(score, rating, user)
            loss = (losses.sum() + 0.5 * self.config.l2.content * content.square().sum()) / max(batch.ratings, 1)
            loss.backward()  # type: ignore[no-untyped-call]
        if self.ranks.count > 1:
            self.ranks.add_up(_gradients(optimiser.parameters))
        nn.utils.clip_grad_norm_(optimiser.parameters, 1.0)
        optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def refresh_content(self, batches: ItemBatches) -> None:
        """Read every item once, without dropout, and hold its vectors still for the factors."""
        if self.transformer is None or self.content is None:
            return
        self.eval()
        content = torch.zeros_like(self.content)
        for items, tokens in batches.everything():
            if len(items):
                with threads_for(self._numbers(tokens, items)):
                    content[items] = self._read(tokens, items)
        self.ranks.add_up([content])
        self.content = content
        self.train()

    def _numbers(self, tokens: Mapping[str, TokenBatch], items: Tensor) -> int:
        """How many numbers the tokens of these items are to the Transformer."""
        return len(items) * self.config.width * sum(batch.present.shape[1] for batch in tokens.values())

    def _read(self, tokens: Mapping[str, TokenBatch], items: Tensor) -> Tensor:
        device = items.device.type
        low = self.config.precision == "bf16"
        with torch.autocast(device, torch.bfloat16, enabled=low):
            vectors: Tensor = self._reader[0](tokens, self.side.shown[items])
        return vectors.float()

    def _kept_items(self, generator: torch.Generator) -> Tensor | None:
        if not self.config.item_dropout:
            return None
        drawn = torch.rand(self.pairs.items, generator=generator) >= self.config.item_dropout
        return drawn.float().to(self.pairs.user.device)


def takes_levels(config: Config, scale: Scale) -> bool:
    """Whether the head takes ratings as levels. One and the same rating throughout has no order to learn."""
    few = len(scale.levels) <= LEVELS_OF_AUTO
    return len(scale.levels) > 1 and (config.head == "ordinal" or (config.head == "auto" and few))


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Every parameter's gradient; nothing where this rank's items did not need it."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _cosine(progress: float) -> float:
    """A tenth of the way up, the rest down a cosine."""
    return progress / 0.1 if progress < 0.1 else 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))
