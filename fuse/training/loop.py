"""Training: fits one member after another, with checkpoints, live figures and early stopping on validation.

A run makes one or more *fits*. With a validation part the first fit measures its RMSE and, with ``patience``, finds
how long to train; then, unless ``refit`` is off, every member is trained afresh on training and validation ratings
together for that long. A warm start does the latter alone.

Without ``patience`` every fit ends where its learning rates have run down. An epoch before is as good only by luck: at
a rate that is still high, the next step may cost .001 or more (docs/experiments.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...data.runtime.errors import BadInput, FingerprintMismatch
from ...data.runtime.progress import NoProgress, Progress
from ..inputs.training_data import TrainingData
from ..models.factors import UserParts, Vectors
from ..models.heads import OrdinalHead, SquaredHead
from ..runs.run_folder import FitFiles
from ..settings.config import Config
from .batches import ItemBatches
from .checkpoint import Fit, FitState, load_state, newest_state, save_state
from .full_batch import head_start, standardised_pairs, steps_of_epoch
from .member import Member
from .processes import ALONE, Ranks

_SECONDS_BETWEEN_CHECKPOINTS = 30.0


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A finished fit: the vectors and head that predict, and the parts of users' vectors."""

    vectors: Vectors
    head: SquaredHead | OrdinalHead
    user_parts: UserParts


@dataclass(eq=False)
class Training:
    """One run's fits. ``files`` receive the checkpoints and ``report`` each epoch's figures, from the first rank.

    ``members`` are the configs of its members, where they are not all ``config``. ``held_out`` is, after `run`, the
    first fit where that one has not seen the validation part.
    """

    config: Config
    training_data: TrainingData
    files: FitFiles | None = None
    progress: Progress = field(default_factory=NoProgress)
    report: Callable[[dict[str, Any]], None] = lambda figures: None
    warm: tuple[Mapping[str, Tensor], ...] = ()
    ranks: Ranks = ALONE
    state: FitState = field(default_factory=FitState)
    members: tuple[Config, ...] = ()
    held_out: FittedModel | None = None

    def __post_init__(self) -> None:
        self.members = self.members or (self.config,) * self.config.members

    def fits(self) -> list[Fit]:
        """What will be trained, in order.

        A warm start holds nothing out: the earlier run may know the validation part.
        """
        members = range(len(self.members))
        holds_out = len(self.training_data.validation) > 0 and not self.warm
        if holds_out and self.config.refit:
            return [Fit(0, 0, whole=False), *(Fit(1 + m, m, whole=True) for m in members)]
        return [Fit(m, m, whole=not holds_out) for m in members]

    def run(self) -> list[FittedModel]:
        """Train, or resume, all fits; gives those of the served model."""
        done: list[FittedModel] = []
        fits = self.fits()
        self.state, resumed = newest_state(self.files, self.state, FitState)
        for fit in fits:
            if fit.number < self.state.fit:
                done.append(self._finished(fit))
                continue
            if not resumed:
                self.state = FitState(fit.number, chosen_epochs=self.state.chosen_epochs)
            done.append(self._fit(fit, resume=resumed, of=len(fits)))
            resumed = False
        self.held_out = None if fits[0].whole else done[0]
        return done if fits[0].whole == fits[-1].whole else done[1:]

    def _fit(self, fit: Fit, *, resume: bool, of: int) -> FittedModel:
        state = self.state
        member, batches = self._member(fit), self._batches()
        config, epochs = member.config, member.config.epochs
        best: Mapping[str, Tensor] = {}
        if resume and self.files is not None:
            best = load_state(self.files.in_progress, member)
        name = f"fit {fit.number + 1}/{of}"
        if state.epoch == 0 and not state.begun and member.transformer is not None:
            self._train_factors(fit, member, head_start(config))
            state.begun = True
        while state.epoch < epochs and not self._out_of_patience():
            began = time.perf_counter()
            batches.waiting.waited = batches.waiting.total = 0.0
            transformer_loss = self._train_transformer(
                fit, member, batches, best, name=f"{name} epoch {state.epoch + 1}/{epochs}"
            )
            member.refresh_content(batches)
            train_rmse = self._train_factors(fit, member, steps_of_epoch(config, state.epoch))
            seconds = time.perf_counter() - began
            device = self.training_data.device
            train_rmse = self.ranks.broadcast_from_first(train_rmse, device)
            validation = self.ranks.broadcast_from_first(self._validation_rmse(fit, member), device)
            reach = self.ranks.broadcast_from_first(member.score_bound(), device)
            if not all(map(math.isfinite, (train_rmse, validation or 0.0, reach))):
                return self._stopped_at_nan(fit, member, best)
            state.epoch, state.batch = state.epoch + 1, 0
            figures = {
                "fit": fit.number,
                "member": fit.member,
                "ratings": "train+validation" if fit.whole else "train",
                "epoch": state.epoch,
                "epochs": epochs,
                "train_rmse": train_rmse,
                "transformer_loss": transformer_loss,
                "validation_rmse": validation,
                "seconds": seconds,
                "waiting_share": batches.waiting.share,
            }
            if self.ranks.first:
                self.report(figures)
            self.progress.message(_line(name, figures))
            if validation is None or not config.patience or validation < state.best_rmse:
                state.best_rmse = math.inf if validation is None else validation
                state.best_epoch = state.epoch
                best = {key: value.detach().clone() for key, value in member.state_dict().items()}
            self._save(member, best)
        return self._finish(fit, member, best)

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return patience > 0 and self.state.epoch - self.state.best_epoch >= patience

    def _train_factors(self, fit: Fit, member: Member, steps: int) -> float:
        """So many full-batch steps; gives the RMSE of the training ratings, each predicted without itself."""
        scores = None
        for _ in range(steps):
            generator = torch.Generator().manual_seed(fit.seed_of(self.config.seed, 1, self.state.factor_steps))
            scores = member.factor_step(self.state.factor_steps, generator)
            self.state.factor_steps += 1
        self.ranks.copy_from_first(
            value.data for value in (*member.factors.parameters(), *member.head.parameters(), *member.head.buffers())
        )
        if scores is None:
            with torch.no_grad():
                scores = member.factors.training_scores(member.content)
        predicted = member.head.ratings(scores, member.pairs.user).detach()
        scale = member.head.scale
        return float((predicted - (scale.mean + scale.unit * member.pairs.rating)).square().mean().sqrt())

    def _train_transformer(
        self, fit: Fit, member: Member, batches: ItemBatches, best: Mapping[str, Tensor], *, name: str
    ) -> float | None:
        """One pass of the Transformer over all rated items; gives the mean loss of a rating."""
        if member.transformer is None:
            return None
        config, state = self.config, self.state
        frozen = member.frozen_scores(torch.Generator().manual_seed(fit.seed_of(config.seed, 2, state.epoch)))
        count = batches.count(member.pairs)
        losses: list[Tensor] = []
        saved = time.monotonic()
        with (
            self.progress.phase(name, int((member.pairs.item_counts > 0).sum()), "steps") as phase,
            torch.random.fork_rng(
                devices=[self.training_data.device] if self.training_data.device.type == "cuda" else []
            ),
        ):
            member.train()
            seed = fit.seed_of(config.seed, 3, 0)
            for batch in batches.epoch(member.pairs, seed=seed, epoch=state.epoch, start=state.batch):
                # each batch has randomness of its own, so that a resumed run draws what an uninterrupted one draws
                torch.manual_seed(fit.seed_of(config.seed, 4, state.epoch * count + state.batch) + self.ranks.rank)
                share = (state.epoch + state.batch / count) / member.config.epochs
                losses.append(member.transformer_step(batch, frozen, share))
                state.batch += 1
                phase.advance(batch.items_of_all)
                if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                    self._save(member, best)
                    saved = time.monotonic()
        if not losses:
            return None
        total = torch.stack(losses).mean()
        self.ranks.add_up([total])
        return float(total)

    @torch.no_grad()
    def _validation_rmse(self, fit: Fit, member: Member) -> float | None:
        m = self.training_data
        if fit.whole or not len(m.validation):
            return None
        user, item = m.user[m.validation], m.item[m.validation]
        if (member.pairs.item_counts[item] == 0).any():
            member.learn_unrated_items()
        predicted = member.head.ratings(member.vectors().pair_scores(user, item), user)
        return float((predicted - m.rating[m.validation]).square().mean().sqrt())

    def _member(self, fit: Fit) -> Member:
        m = self.training_data
        scale, pairs = standardised_pairs(m, m.fitted(whole=fit.whole))
        widths = {name: table.width for name, table in m.tables.items()}
        chosen = self.state.chosen_epochs if fit.whole else 0
        config = self.members[fit.member]
        config = replace(config.with_epochs(chosen or config.epochs), seed=config.seed + fit.member)
        member = Member(config, pairs, scale, m.side, widths, seed=config.seed, ranks=self.ranks)
        if self.warm:
            try:
                member.load_state_dict(self.warm[fit.member % len(self.warm)])
            except RuntimeError as fault:
                reason = str(fault).splitlines()[-1].strip()
                raise FingerprintMismatch(
                    f"--warm-start: the run's weights don't fit these ratings and items ({reason}), which "
                    "have other genres, occupations, age bands, rating levels or token widths; train anew"
                ) from None
        return member

    def _batches(self) -> ItemBatches:
        m = self.training_data
        return ItemBatches(m.tables, m.items, self.config.batch_items, m.device, self.ranks)

    def _finish(self, fit: Fit, member: Member, best: Mapping[str, Tensor]) -> FittedModel:
        member.load_state_dict(best)
        member.learn_unrated_items()
        if not fit.whole:
            self.state.chosen_epochs = self.state.best_epoch
        fitted = _fitted(member)
        if self.files is not None:
            self.state.fit += 1
            self.state.epoch = self.state.batch = 0
            if self.ranks.first:
                save_state(self.files.finished(fit.number), member, {}, self.state.__dict__)
        return fitted

    def _finished(self, fit: Fit) -> FittedModel:
        """Read back a fit that an earlier process finished."""
        if self.files is None:
            raise ValueError("expected a run folder to read a finished fit from")
        member = self._member(fit)
        load_state(self.files.finished(fit.number), member)
        return _fitted(member)

    def _save(self, member: Member, best: Mapping[str, Tensor]) -> None:
        if self.files is not None and self.ranks.first:
            save_state(self.files.in_progress, member, best, self.state.__dict__)

    def _stopped_at_nan(self, fit: Fit, member: Member, best: Mapping[str, Tensor]) -> FittedModel:
        state = self.state
        if not best:
            raise BadInput(
                f"the loss is no number any more in epoch {state.epoch + 1}, and there is no earlier epoch to keep; "
                "lower --set factor_learning_rate or transformer_learning_rate, or try --set precision=fp32"
            )
        self.progress.message(
            f"stopped: the loss is no number any more in epoch {state.epoch + 1}, epoch {state.best_epoch} is "
            "kept; lower --set factor_learning_rate or transformer_learning_rate, or try --set precision=fp32"
        )
        return self._finish(fit, member, best)


def _fitted(member: Member) -> FittedModel:
    return FittedModel(member.vectors(), member.head, member.factors.user_parts())


def _line(name: str, figures: Mapping[str, Any]) -> str:
    parts = [f"{name} epoch {figures['epoch']}/{figures['epochs']}", f"train {figures['train_rmse']:.4f}"]
    if figures["validation_rmse"] is not None:
        parts.append(f"validation {figures['validation_rmse']:.4f}")
    return "  ".join([*parts, f"{figures['seconds']:.1f} s"])
