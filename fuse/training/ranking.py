"""Training of the ranking model beside, or instead of, a rating model: fits to choose by, then one on all ratings.

The first fits hold the validation part out: NDCG@10 there chooses among strengths, where ratings are few enough to try
them, says whether plots and posters are worth their place, and how much of the item-item part and of the rating model
the model takes. The last starts afresh on training and validation part together. All are checkpointed as the fits of
ratings are, and every rank takes every step, as with the factors of ratings.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...data.runtime.errors import BadInput, FingerprintMismatch
from ...data.runtime.progress import NoProgress, Phase, Progress
from ..inputs.interactions import TrainingPairs
from ..inputs.training_data import TrainingData
from ..models.heads import Scale
from ..models.item_item import Spectrum
from ..models.ranking_model import RankingModel
from ..models.rating_part import RatingPart
from ..runs.run_folder import FitFiles
from ..settings.config import Config
from .checkpoint import load_state, newest_state, save_state
from .full_batch import standardised_pairs
from .loop import FittedModel
from .processes import ALONE, Ranks
from .ranking_choice import Blend, HeldOut, Lists, best, best_rated
from .ranking_member import RankingMember
from .ranking_result import ranking_model

_SECONDS_BETWEEN_CHECKPOINTS = 30.0
_STEPS_BETWEEN_LOOKS = 10
_MOST_RATINGS_TO_SEARCH = 300_000
# what `ranking_l2` and `ranking_others` are multiplied with in turn, where ratings are few enough to try all: a user or
# an item with few ratings wants less L2 than MovieLens has (docs/experiments.md)
CANDIDATES = ((1.0, 1.0), (0.25, 1 / 3))
_WITH_CONTENT = len(CANDIDATES)  # the fit that tries the best of these with plots and posters in it
_NO_WEIGHTS: Mapping[str, Tensor] = {}


@dataclass
class RankingState:
    """How far the ranking model is; all of it goes into the checkpoint. ``ndcg`` is each user's, of the choice."""

    fit: int = 0
    step: int = 0
    share: float = Blend.share
    l2: float = Blend.l2
    rating: float = Blend.rating
    candidate: int = 0
    content: bool = False
    validation_ndcg: float | None = None
    ndcg: list[float] = field(default_factory=list)

    def take_choice(self, settings: Mapping[str, Any]) -> None:
        """Blend as an earlier model does, of which these are the `RankingModel.settings`."""
        self.share, self.l2 = float(settings["share"]), float(settings["l2"])
        self.rating = float(settings["rating"])
        self.candidate, self.content = int(settings["candidate"]), bool(settings["content"])

    def choice(self) -> dict[str, Any]:
        """What was chosen, as `RankingModel.settings`."""
        names = ("share", "l2", "rating", "candidate", "content", "validation_ndcg")
        return {name: getattr(self, name) for name in names}

    @property
    def blend(self) -> Blend:
        """The blend that was chosen."""
        return Blend(self.share, self.l2, self.rating)


@dataclass(eq=False)
class RankingTraining:
    """The fits of a run's ranking model. ``files`` receive the checkpoints, from the first rank.

    ``rating`` are the members of the rating model that serves beside it, and ``rating_held_out`` is one that has not
    seen the validation part.
    """

    config: Config
    training_data: TrainingData
    files: FitFiles | None = None
    progress: Progress = field(default_factory=NoProgress)
    warm: Mapping[str, Tensor] | None = None
    ranks: Ranks = ALONE
    state: RankingState = field(default_factory=RankingState)
    rating: Sequence[FittedModel] = ()
    rating_held_out: FittedModel | None = None

    def run(self) -> RankingModel:
        """Train, or go on with, the fits; gives the model."""
        fits = self._fits()
        if fits == [None] and self.warm is None:
            self.state.content = True  # nothing to choose by: what the settings name is read
        self.state, resumed = newest_state(self.files, self.state, RankingState)
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
        """Which of `CANDIDATES` each fit tries with the validation part held out, then the best of them with content.

        None is the chosen one on all.
        A warm start holds nothing out, as with ratings; nor is there a search where the first fit is the last, or where
        no lists can be made of the validation part, as of a split by items.
        """
        data = self.training_data
        if not self.config.refit and len(data.validation) and self.warm is None:
            return [0]
        if self.warm is not None or self._held_out(standardised_pairs(data, data.train)[1]) is None:
            return [None]
        if len(data.train) > _MOST_RATINGS_TO_SEARCH:
            return [0, None]
        has_content = data.side.item.shape[1] > data.side.shown.shape[1]
        return [*range(len(CANDIDATES)), *([_WITH_CONTENT] if has_content else []), None]

    def _fit(self, number: int, candidate: int | None, *, resume: bool, of: int) -> RankingMember:
        member, state = self._member(candidate), self.state
        if resume:
            load_state(self._written().in_progress, member)
        name = f"ranking fit {number + 1}/{of}"
        with self.progress.phase(name, member.steps, "steps") as phase:
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
        """Keep this candidate and its best blend where no earlier one was better; gives its figure.

        Content has to be better by more than chance: without it the lists are the same with an embedding file and
        without one.
        """
        data, pairs, state = self.training_data, member.pairs, self.state
        held_out = self._held_out(pairs)
        if held_out is None:
            return None
        vectors, spectrum, ratings = member.vectors(), self._spectrum(pairs), self._held_out_ratings(pairs)
        lists = held_out.lists(vectors, spectrum, best(held_out.ndcg(vectors, spectrum)), ratings)
        blend = best_rated(lists)
        found = lists[blend]
        gain = found.figure - (state.validation_ndcg or 0.0)
        if candidate == _WITH_CONTENT and state.ndcg:
            gain = -found.below(Lists(torch.tensor(state.ndcg, dtype=torch.float64).to(found.ndcg), 0.0)) - 1
        values = (found.figure, blend.share, blend.l2, blend.rating, gain)
        figure, share, l2, weight, gain = (self.ranks.broadcast_from_first(value, data.device) for value in values)
        if gain > 0 or state.validation_ndcg is None:
            state.share, state.l2, state.rating, state.validation_ndcg = share, l2, weight, figure
            state.content = candidate == _WITH_CONTENT
            state.candidate = state.candidate if state.content else candidate
            state.ndcg = found.ndcg.tolist()
        return figure

    def _held_out(self, pairs: TrainingPairs) -> HeldOut | None:
        data = self.training_data
        user, item, rating = (values[data.validation] for values in (data.user, data.item, data.rating))
        liked = rating >= Scale.of(data.rating[data.train].cpu()).liked
        return HeldOut.of(pairs, user, item, rating, liked)

    def _held_out_ratings(self, pairs: TrainingPairs) -> RatingPart | None:
        fitted = self.rating_held_out
        return None if fitted is None else RatingPart.of([(fitted.vectors, fitted.user_parts)], pairs)

    def _spectrum(self, pairs: TrainingPairs) -> Spectrum | None:
        rank = self.config.ranking_item_item if self.config.histories else 0
        return Spectrum.of(pairs, rank, seed=self.config.seed) if rank else None

    def _member(self, candidate: int | None) -> RankingMember:
        data = self.training_data
        scale, pairs = standardised_pairs(data, data.fitted(whole=candidate is None))
        liked = scale.mean + scale.unit * pairs.rating >= scale.liked - 1e-3 * scale.unit
        of_candidate = self.state.candidate if candidate in (None, _WITH_CONTENT) else candidate
        of_l2, of_others = CANDIDATES[of_candidate or 0]
        content = candidate == _WITH_CONTENT or (candidate is None and self.state.content)
        side = data.side if content else replace(data.side, item=data.side.shown)
        config = self.config
        config = replace(config, ranking_l2=of_l2 * config.ranking_l2, ranking_others=of_others * config.ranking_others)
        member = RankingMember(config, pairs, liked, side, seed=config.seed)
        if self.warm is not None:
            try:
                member.load_state_dict(self.warm)
            except RuntimeError as fault:
                raise FingerprintMismatch(
                    f"--warm-start: the run's ranking model doesn't fit these ratings and items "
                    f"({str(fault).splitlines()[-1].strip()}); train anew"
                ) from None
        return member

    def _model(self, member: RankingMember) -> RankingModel:
        fitted = [(model.vectors, model.user_parts) for model in self.rating] if self.state.rating else []
        ratings = RatingPart.of(fitted, member.pairs)
        spectrum = self._spectrum(member.pairs)
        side = self.training_data.side
        return ranking_model(member, spectrum, ratings, self.state.blend, side, self.state.choice())

    def _written(self) -> FitFiles:
        if self.files is None:
            raise ValueError("expected the files of a run, to resume from")
        return self.files

    def _save(self, member: RankingMember, finished: int | None = None) -> None:
        if self.files is not None and self.ranks.first:
            file = self.files.in_progress if finished is None else self.files.finished(finished)
            save_state(file, member, _NO_WEIGHTS, asdict(self.state))
