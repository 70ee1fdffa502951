"""Training of the ranking model beside, or instead of, a rating model: a fit to choose by, then one on all ratings.

The first fits hold the validation part out: NDCG@10 there chooses among strengths, where ratings are few enough to try
them, and how much of the item-item part the model takes. The last starts afresh on training and validation part
together. All are checkpointed as the fits of ratings are, and every rank takes every step, as with the factors of
ratings.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...data.runtime.errors import BadInput, FingerprintMismatch
from ...data.runtime.progress import NoProgress, Phase, Progress
from ..inputs.interactions import TrainingPairs
from ..inputs.training_data import TrainingData
from ..models.factors import Vectors
from ..models.heads import Scale
from ..models.item_item import Spectrum
from ..models.ranking_model import RankingModel
from ..models.unrated_items import vectors_of_content
from ..runs.run_folder import FitFiles
from ..settings.config import Config
from .checkpoint import load_state, read_state, save_state
from .processes import ALONE, Ranks
from .ranking_choice import NO_ITEM_ITEM, Blend, HeldOut, best
from .ranking_member import RankingMember

_SECONDS_BETWEEN_CHECKPOINTS = 30.0
_STEPS_BETWEEN_LOOKS = 10
_MOST_RATINGS_TO_SEARCH = 300_000
# what `ranking_l2` and `ranking_others` are multiplied with in turn, where ratings are few enough to try all: a user or
# an item with few ratings wants less L2 than MovieLens has (docs/experiments.md)
CANDIDATES = ((1.0, 1.0), (0.25, 1 / 3))
_NO_WEIGHTS: Mapping[str, Tensor] = {}


@dataclass
class RankingState:
    """How far the ranking model is; all of it goes into the checkpoint."""

    fit: int = 0
    step: int = 0
    share: float = Blend.share
    l2: float = Blend.l2
    candidate: int = 0
    validation_ndcg: float | None = None

    def take_choice(self, settings: Mapping[str, Any]) -> None:
        """Blend as an earlier model does, of which these are the `RankingModel.settings`."""
        self.share, self.l2 = float(settings["share"]), float(settings["l2"])
        self.candidate = int(settings["candidate"])

    def choice(self) -> dict[str, Any]:
        """What was chosen, as `RankingModel.settings`."""
        return {name: getattr(self, name) for name in ("share", "l2", "candidate", "validation_ndcg")}


@dataclass(eq=False)
class RankingTraining:
    """The fits of a run's ranking model. ``files`` receive the checkpoints, from the first rank."""

    config: Config
    training_data: TrainingData
    files: FitFiles | None = None
    progress: Progress = field(default_factory=NoProgress)
    warm: Mapping[str, Tensor] | None = None
    ranks: Ranks = ALONE
    state: RankingState = field(default_factory=RankingState)

    def run(self) -> RankingModel:
        """Train, or go on with, the fits; gives the model."""
        fits = self._fits()
        resumed = self._resume()
        member: RankingMember | None = None
        for number, candidate in enumerate(fits):
            if number < self.state.fit:
                continue
            if not resumed:
                self.state.step = 0
            member = self._fit(number, candidate, resume=resumed, of=len(fits))
            resumed = False
        if member is None:  # an earlier process finished the last fit
            member = self._member(fits[-1])
            load_state(self._written().finished(len(fits) - 1), member)
        return self._model(member)

    def _fits(self) -> list[int | None]:
        """Which of `CANDIDATES` each fit tries with the validation part held out; None for the chosen one on all.

        A warm start holds nothing out, as with ratings; nor is there a search where the first fit is the last.
        """
        data = self.training_data
        if not len(data.validation) or self.warm is not None:
            return [None]
        if not self.config.refit:
            return [0]
        few = len(data.train) <= _MOST_RATINGS_TO_SEARCH
        return [*range(len(CANDIDATES) if few else 1), None]

    def _fit(self, number: int, candidate: int | None, *, resume: bool, of: int) -> RankingMember:
        member, state = self._member(candidate), self.state
        if resume:
            load_state(self._written().in_progress, member)
        name = f"ranking fit {number + 1}/{of}"
        with self.progress.phase(name, member.steps) as phase:
            phase.advance(state.step)
            loss = self._steps(member, phase)
        self.ranks.copy_from_first(parameter.data for parameter in member.factors.parameters())
        figure = None if candidate is None else self._choose(member, candidate)
        ndcg = "" if figure is None else f"  validation NDCG@10 {figure:.4f}"
        self.progress.message(f"{name}  loss {float(loss):.4f}{ndcg}  {phase.seconds:.1f} s")
        state.fit, state.step = number + 1, 0
        self._save(member, finished=number)
        return member

    def _steps(self, member: RankingMember, phase: Phase) -> Tensor:
        """The steps that are left of a fit; gives the loss before the last. BadInput where it is no number."""
        loss, saved = torch.zeros(()), time.monotonic()
        while self.state.step < member.steps:
            loss = member.step(self.state.step)
            self.state.step += 1
            phase.advance(1)
            if self.state.step % _STEPS_BETWEEN_LOOKS and self.state.step < member.steps:
                continue
            if not torch.isfinite(loss):
                raise BadInput(
                    f"the loss of the ranking model is no number any more at step {self.state.step}; lower --set "
                    "factor_learning_rate, or train without it: --objective rating"
                )
            if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                self._save(member)
                saved = time.monotonic()
        return loss

    def _choose(self, member: RankingMember, candidate: int) -> float | None:
        """Keep this candidate and its best blend where no earlier one was better; gives its figure."""
        data, pairs, state = self.training_data, member.pairs, self.state
        user, item, rating = (values[data.validation] for values in (data.user, data.item, data.rating))
        liked = rating >= Scale.of(data.rating[data.train].cpu()).liked
        held_out = HeldOut.of(pairs, user, item, liked)
        if held_out is None:
            return None
        found = held_out.ndcg(member.vectors(), self._spectrum(pairs))
        blend = best(found)
        figures = (found[blend], blend.share, blend.l2)
        figure, share, l2 = (self.ranks.broadcast_from_first(value, data.device) for value in figures)
        if state.validation_ndcg is None or figure > state.validation_ndcg:
            state.share, state.l2, state.validation_ndcg, state.candidate = share, l2, figure, candidate
        return figure

    def _spectrum(self, pairs: TrainingPairs) -> Spectrum | None:
        rank = self.config.ranking_item_item if self.config.histories else 0
        return Spectrum.of(pairs, rank, seed=self.config.seed) if rank else None

    def _member(self, candidate: int | None) -> RankingMember:
        data = self.training_data
        rows = torch.cat([data.train, data.validation]) if candidate is None else data.train
        rating = data.rating[rows]
        scale = Scale.of(rating.cpu())
        pairs = TrainingPairs.sorted(
            data.user[rows], data.item[rows], scale.standardise(rating), users=data.users, items=data.items
        )
        liked = scale.mean + scale.unit * pairs.rating >= scale.liked - 1e-3 * scale.unit
        of_l2, of_others = CANDIDATES[self.state.candidate if candidate is None else candidate]
        config, steps = self.config, self.config.factor_steps
        config = replace(config, ranking_l2=of_l2 * config.ranking_l2, ranking_others=of_others * config.ranking_others)
        member = RankingMember(config, pairs, liked, data.side, steps=steps, seed=config.seed)
        if self.warm is not None:
            try:
                member.load_state_dict(self.warm)
            except RuntimeError as fault:
                raise FingerprintMismatch(
                    f"--warm-start: the run's ranking model doesn't fit these ratings and items "
                    f"({str(fault).splitlines()[-1].strip()}); train anew"
                ) from None
        return member

    @torch.no_grad()
    def _model(self, member: RankingMember) -> RankingModel:
        pairs, factors, state = member.pairs, member.factors, self.state
        spectrum = self._spectrum(pairs)
        blend = NO_ITEM_ITEM if spectrum is None else Blend(state.share, state.l2)
        user, item = member.vectors()
        kept = 1 - blend.share
        user = kept * user
        item = torch.cat([item[:, :-1], kept * item[:, -1:]], 1)
        histories = {name: torch.zeros_like(item) for name in ("implicit", "explicit")}
        residual = torch.zeros_like(pairs.rating)
        if factors.histories is not None:
            histories = {name: kept * factors.tables[f"{name}_items"] for name in ("implicit", "explicit")}
            residual = factors.histories.item_residual
        rated = pairs.user_counts > 0
        base = kept * (factors.user_features @ factors.tables["user_features"])
        item_item = torch.zeros(pairs.items, 0, device=item.device)
        if spectrum is not None and blend.share:
            part = spectrum.regression(blend.l2)
            item_item = blend.share * part.history
            sums = blend.share * part.users(pairs)
            user = torch.cat([user[:, :-1], sums, user[:, -1:]], 1)
            item = torch.cat([item[:, :-1], part.item, item[:, -1:]], 1)
        rated_items = pairs.item_counts > 0
        if not rated_items.all() and rated_items.any():
            side = self.training_data.side
            predicted = vectors_of_content(side.item, side.tags, item, rated_items)
            item = torch.where(rated_items[:, None], item, predicted)
        parts = {
            **histories,
            "item_item": item_item,
            "base": base[rated].mean(0) if rated.any() else base.new_zeros(base.shape[1]),
            "residual": residual,
            "offsets": pairs.user_offsets,
            "items": pairs.item,
        }
        on_host = {name: value.detach().cpu().contiguous() for name, value in parts.items()}
        liked = residual[member.liked]
        settings = state.choice() | {"own_row": member.own_row()}
        settings["liked_residual"] = float(liked.mean()) if len(liked) else 0.0
        return RankingModel(Vectors(user.cpu(), item.cpu()), **on_host, settings=settings)

    def _resume(self) -> bool:
        """Take up the standing of the newest checkpoint; True where it is in the middle of a fit."""
        if self.files is None:
            return False
        if finished := self.files.all_finished():
            self.state = RankingState(**read_state(finished[-1]))
        if self.files.in_progress.exists():
            found = RankingState(**read_state(self.files.in_progress))
            if found.fit == self.state.fit:
                self.state = found
                return True
        return False

    def _written(self) -> FitFiles:
        if self.files is None:
            raise ValueError("expected the files of a run, to resume from")
        return self.files

    def _save(self, member: RankingMember, finished: int | None = None) -> None:
        if self.files is not None and self.ranks.first:
            file = self.files.in_progress if finished is None else self.files.finished(finished)
            save_state(file, member, _NO_WEIGHTS, asdict(self.state))
