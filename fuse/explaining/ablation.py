"""How predictions change when an item's text or image, or parts of them, are masked; and whether attention agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.pages.page import signed
from .attention import patch_grid
from .masking import ItemMasking, MaskedParts, item_ratings
from .plot_words import Plot
from .reading import Reading

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

_SAMPLED_USERS = 256  # of the occlusion check, evenly spaced among all
_MOST_SQUARES = 64
_MOST_WORDS = 160
_DRAWS = 20
_TENTH = 0.1


@dataclass(frozen=True)
class PredictedRating:
    """Predicted ratings of an item with some parts masked.

    average: the mean over all users. user: the rating of one user, None where none was given. change: root mean square
    over all users of the difference to the prediction with nothing masked.
    """

    average: float
    user: float | None
    change: float


@dataclass(frozen=True)
class Ablation:
    """Predictions with nothing masked, and with the image, the text, or both masked.

    has: those of "text" and "image" that the model reads and the item has; masking another one changes nothing.
    """

    everything: PredictedRating
    without_image: PredictedRating
    without_text: PredictedRating
    without_both: PredictedRating
    has: tuple[str, ...]

    @property
    def masked(self) -> list[tuple[str, PredictedRating]]:
        """The predictions without the "poster" and without the "plot", of those in ``has``."""
        rows = (("poster", "image", self.without_image), ("plot", "text", self.without_text))
        return [(kind, rated) for kind, name, rated in rows if name in self.has]

    @property
    def shares(self) -> dict[str, float] | None:
        """Each modality's share of the two changes, of sum 1; None where masking either changes nothing."""
        text, image = self.without_text.change, self.without_image.change
        return {"text": text / (text + image), "image": image / (text + image)} if text + image > 1e-9 else None


@dataclass(frozen=True, eq=False)
class Parts:
    """One modality of an item cut into G parts, and how predictions change when each of them is masked.

    members: the words, or patches by number row by row, of each part. grid: (rows, columns) of the parts of an image.
    change: (G,) root mean square over users of the change of the predicted rating; shift: (G,) its mean.
    """

    members: tuple[Numbers, ...]
    grid: tuple[int, int] | None
    change: Floats
    shift: Floats


@dataclass(frozen=True)
class Agreement:
    """Whether the attention of the G parts of one modality agrees with the change of predictions when each is masked.

    correlation: Spearman's, between the attention of a part and the change when it is masked; None where either is
    constant. top: the change when the ``masked`` parts with the most attention are masked together; random: the mean
    change when as many drawn at random are masked; beaten: the share of those draws with a smaller change than top.
    """

    parts: int
    correlation: float | None
    masked: int
    top: float
    random: float
    beaten: float

    @property
    def predicts(self) -> bool | None:
        """True where the correlation is .5 or more, None where it is only more than chance gives, else False.

        More than chance: beyond 1.96 / sqrt(G - 1), the normal approximation to a rank correlation's deviation.
        """
        if self.correlation is None or self.parts < 4 or self.correlation <= self._chance:
            return False
        return True if self.correlation >= 0.5 else None

    @property
    def _chance(self) -> float:
        return 1.96 / math.sqrt(self.parts - 1)

    @property
    def verdict(self) -> str:
        """The finding in words, with its figures."""
        if self.correlation is None:
            return "attention or the change when masked is the same for every part: nothing to compare"
        verdict = {
            True: "attention predicts the effect of masking",
            None: "attention predicts the effect of masking only weakly",
            False: "attention does not predict the effect of masking",
        }[self.predicts]
        if self.parts >= 4 and self.correlation < -self._chance:
            verdict = "attention is opposite to the effect of masking"
        times = f"{self.top / self.random:.1f} times" if self.random > 1e-9 else "as"
        return (
            f"{verdict}: rank correlation {signed(self.correlation, 2)} over {self.parts} parts; masking the "
            f"{self.masked} with the most attention changes ratings {times} as much as masking {self.masked} at random "
            f"(more than in {round(_DRAWS * self.beaten)} of {_DRAWS} draws)"
        )


def ablate(reading: Reading, masking: ItemMasking, user: int | None = None) -> Ablation:
    """Predict with nothing masked, without image, without text and without both; ``user`` is a number, or None."""
    sets: list[MaskedParts] = [{}, {"image": None}, {"text": None}, {"text": None, "image": None}]
    recommender = reading.run.recommender
    ratings = item_ratings(
        recommender, masking.item, masking.vectors(sets), np.arange(len(recommender.user_ids))
    )  # (U, 4)
    changes = _root_mean_square(ratings - ratings[:, :1])
    everything, without_image, without_text, without_both = (
        PredictedRating(float(column.mean()), None if user is None else float(column[user]), float(change))
        for column, change in zip(ratings.T.astype(np.float64), changes, strict=True)
    )
    return Ablation(everything, without_image, without_text, without_both, masking.has)


def occlude(reading: Reading, masking: ItemMasking, item: int, modality: str, plot: Plot | None) -> Parts | None:
    """Mask one part of the item's text or image after another; None where the model reads it as one vector.

    Words are masked one by one, or in stretches where there are more than 160; patches in at most 64 squares.
    """
    count = masking.count_parts(modality)
    if not count:
        return None
    grid: tuple[int, int] | None = None
    if modality == "image":
        members, grid = _squares(patch_grid(reading, item) or (1, count))
        sets = list(members)
    else:
        if plot is None or not plot.words:
            return None
        stretch = -(-len(plot.words) // _MOST_WORDS)
        members = tuple(np.arange(at, min(at + stretch, len(plot.words))) for at in range(0, len(plot.words), stretch))
        sets = [np.array([place for word in part for place in plot.words[word].positions]) for part in members]
    change, shift = _effects(reading, masking, modality, sets)
    return Parts(members, grid, change, shift)


def agreement(
    reading: Reading, masking: ItemMasking, modality: str, parts: Parts, attention: Floats, positions: list[Numbers]
) -> Agreement:
    """Compare the attention (N,) of a modality's words or patches with the change when they are masked.

    ``positions`` are the tokens of each word or patch. The random draws have a fixed seed.
    """
    weights = np.array([attention[part].sum() for part in parts.members])
    count = max(1, round(_TENTH * len(weights)))
    random = np.random.default_rng(0)
    chosen = [np.argsort(-weights, kind="stable")[:count]]
    chosen += [random.permutation(len(weights))[:count] for _ in range(_DRAWS)]
    sets = [np.concatenate([positions[at] for part in some for at in parts.members[part]]) for some in chosen]
    change, _ = _effects(reading, masking, modality, sets)
    return Agreement(
        parts=len(weights),
        correlation=rank_correlation(weights, parts.change),
        masked=count,
        top=float(change[0]),
        random=float(change[1:].mean()),
        beaten=float((change[1:] < change[0]).mean()),
    )


def rank_correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float | None:
    """Spearman's: Pearson's correlation of the ranks, equal values sharing theirs; None where either is constant."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / scale) if scale > 0 else None


def _effects(reading: Reading, masking: ItemMasking, modality: str, sets: list[Numbers]) -> tuple[Floats, Floats]:
    """(G,) root mean square and mean over users of how ratings change when each of G sets of tokens is masked."""
    recommender = reading.run.recommender
    count = len(recommender.user_ids)
    users = np.unique(np.linspace(0, count - 1, min(count, _SAMPLED_USERS)).astype(np.int64))
    masked: list[MaskedParts] = [{}, *({modality: out} for out in sets)]
    ratings = item_ratings(recommender, masking.item, masking.vectors(masked), users)
    change = ratings[:, 1:] - ratings[:, :1]
    return _root_mean_square(change), change.mean(0)


def _root_mean_square(change: Floats) -> Floats:
    rms: Floats = np.sqrt((change.astype(np.float64) ** 2).mean(0)).astype(np.float32)
    return rms


def _squares(grid: tuple[int, int]) -> tuple[tuple[Numbers, ...], tuple[int, int]]:
    """The patches of each square, row by row, and the (rows, columns) of squares: as small as the limit allows."""
    side = 1
    while -(-grid[0] // side) * -(-grid[1] // side) > _MOST_SQUARES:
        side += 1
    numbers = np.arange(grid[0] * grid[1]).reshape(grid)
    tops, lefts = range(0, grid[0], side), range(0, grid[1], side)
    squares = tuple(numbers[top : top + side, left : left + side].ravel() for top in tops for left in lefts)
    return squares, (len(tops), len(lefts))


def _ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: npt.NDArray[np.float64] = (last - (counts - 1) / 2)[place.reshape(-1)]
    return shared
