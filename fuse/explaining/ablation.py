"""What a prediction becomes without the plot, without the poster, or without parts of them: the model run again.

A hidden plot is what the model is told of a film that has none: the learned absent token in the Transformer, zeros for
its principal components. Hidden words and patches are places that attention does not hear. All of it is computed in
float32, as a change to the film's served vector, so that with nothing hidden the prediction is the run's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from ...data.pages.page import signed
from ..inputs.components import Components, tokens_read
from ..models.recommender import Recommender
from .attention import patch_grid
from .component_changes import components_without
from .plot_words import Plot
from .reading import Reading, Weights

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

_USERS_AT_ONCE = 512
_USERS_ASKED = 256  # by the occlusion check, evenly spaced among all
_SEQUENCES_AT_ONCE = 64
_MOST_SQUARES = 64
_MOST_WORDS = 160
_DRAWS = 20
_TENTH = 0.1


@dataclass(frozen=True)
class Rated:
    """Ratings predicted of a film: the mean over all users, one user's where asked, and how far they move.

    change: root mean square over all users of the difference to the prediction with everything shown.
    """

    average: float
    user: float | None
    change: float


@dataclass(frozen=True)
class Ablation:
    """The predictions with everything shown and with one modality, or both, hidden.

    ``has`` says which of "text" and "image" the model reads and the film has: hiding another one changes nothing.
    """

    everything: Rated
    without_image: Rated
    without_text: Rated
    without_both: Rated
    has: tuple[str, ...]

    @property
    def hidden(self) -> list[tuple[str, Rated]]:
        """What is predicted without the "poster" and without the "plot", of those in ``has``."""
        told = (("poster", "image", self.without_image), ("plot", "text", self.without_text))
        return [(kind, rated) for kind, name, rated in told if name in self.has]

    @property
    def shares(self) -> dict[str, float] | None:
        """How the changes of hiding "text" and of hiding "image" compare, of sum 1; None where neither changes any."""
        text, image = self.without_text.change, self.without_image.change
        return {"text": text / (text + image), "image": image / (text + image)} if text + image > 1e-9 else None


@dataclass(frozen=True, eq=False)
class Parts:
    """One modality of a film cut into G parts, and what hiding each of them does.

    members: the words, or patches by number row by row, of each part. grid: (rows, columns) of the parts of a poster.
    change: (G,) root mean square over users of the change of the predicted rating; shift: (G,) its mean.
    """

    members: tuple[Numbers, ...]
    grid: tuple[int, int] | None
    change: Floats
    shift: Floats


@dataclass(frozen=True)
class Agreement:
    """Whether attention tells what hiding does, over the G parts of one modality.

    correlation: Spearman's, of the attention of the parts and the change that hiding each brings; None where either is
    the same everywhere. top: the change from hiding the ``hidden`` parts of most attention; random: the mean change
    from hiding as many drawn at random; beaten: the share of draws that change less than the top ones do.
    """

    parts: int
    correlation: float | None
    hidden: int
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
            return "every part weighs the same: nothing to compare"
        says = {True: "attention predicts", None: "attention only hints at", False: "attention does not predict"}
        if self.parts >= 4 and self.correlation < -self._chance:
            says[False] = "attention runs against"
        times = f"{self.top / self.random:.1f} times" if self.random > 1e-9 else "as"
        figure = signed(self.correlation, 2)
        return (
            f"{says[self.predicts]} what hiding does: rank correlation {figure} over {self.parts}; "
            f"hiding the {self.hidden} most attended changes ratings {times} as much as hiding {self.hidden} at random "
            f"(more than in {round(_DRAWS * self.beaten)} of {_DRAWS} draws)"
        )


class Hiding:
    """One film whose words, patches and modalities can be hidden from the model."""

    def __init__(self, reading: Reading, film: int, components: Mapping[str, Components]) -> None:
        self._reading, self._film, self._components = reading, film, components
        self._tokens = reading.tokens(film) if reading.config.fuses else {}
        self.has = tuple(name for name in reading.modalities if reading.has(film, name))
        self._read = {
            name: tokens_read(reading.embeddings[name], int(reading.rows[film]))
            for name in self.has
            if reading.embeddings is not None
        }
        self._rated = _has_training_ratings(reading, film)

    def parts_told(self, modality: str) -> int:
        """How many parts of the modality the model is told apart, patches pooled as it pools them; 0: it is not."""
        reading = self._reading
        if modality not in self.has or reading.embeddings is None:
            return 0
        kept = len(reading.embeddings[modality].raw_tokens_of(int(reading.rows[self._film])))
        if not (reading.config.fuses and reading.config.level == "tokens") and modality not in self._components:
            return 0
        return kept // self._pool(modality) ** 2

    @torch.no_grad()
    def vectors(self, hidden: list[Mapping[str, Numbers | None]]) -> list[Tensor]:
        """Each member's film vectors (G, D + 1) with G sets of parts hidden, by modality; None hides all of one."""
        served = [v.item[self._film] for v in self._reading.run.recommender.vectors]  # (D + 1,) each
        side = self._side_changes(hidden)
        return [
            vector + self._content_changes(weights, hidden) + side @ self._of_side(weights)
            for vector, weights in zip(served, self._reading.members, strict=True)
        ]

    def _of_side(self, weights: Weights) -> Tensor:
        own = bool(weights.cold_side.any()) and not self._rated
        return weights.cold_side if own else weights.of_side

    def _side_changes(self, hidden: list[Mapping[str, Numbers | None]]) -> Tensor:
        """(G, C): what the film's principal components become, less what they are."""
        blocks = [np.zeros((len(hidden), self._reading.shown.shape[1]), np.float32)]
        for name, told in self._components.items():
            change = np.zeros((len(hidden), told.directions.shape[1]), np.float32)
            some = [place for place, sets in enumerate(hidden) if name in sets and name in self.has]
            parts = [hidden[place][name] for place in some]
            whole = [place for place, out in zip(some, parts, strict=True) if out is None]
            partly = [(place, out) for place, out in zip(some, parts, strict=True) if out is not None and len(out)]
            if some:
                left_out = [self._in_file(name, out) for _, out in partly]
                now, *then = components_without(told, self._read[name], [np.zeros(0, np.int64), *left_out])
                change[whole] = -now
                for (place, _), becomes in zip(partly, then, strict=True):
                    change[place] = becomes - now
            blocks.append(change)
        return torch.from_numpy(np.hstack(blocks))

    def _content_changes(self, weights: Weights, hidden: list[Mapping[str, Numbers | None]]) -> Tensor:
        """(G, D + 1): what the Transformer says with the parts hidden, less what it says of the whole film."""
        transformer = weights.transformer
        if transformer is None:
            return torch.zeros(len(hidden), 1)
        x, present = transformer.sequence(self._tokens, self._reading.shown[[self._film]])
        places = transformer.places({name: batch.present.shape[1] for name, batch in self._tokens.items()})
        masks = present.repeat(1 + len(hidden), 1)  # (1 + G, T), the first with nothing hidden
        for mask, sets in zip(masks[1:], hidden, strict=True):
            for name, out in sets.items():
                if name not in self.has:
                    continue
                if out is None:
                    mask[places[name]] = False
                    mask[places[f"{name}.absent"]] = True
                elif self._reading.config.level == "tokens":
                    mask[places[name].start + 1 + torch.from_numpy(out)] = False  # 1: CLS stands first
        batches = [masks[at : at + _SEQUENCES_AT_ONCE] for at in range(0, len(masks), _SEQUENCES_AT_ONCE)]
        told = [transformer.fused(x.expand(len(some), -1, -1), some) for some in batches]
        content = torch.cat(told)
        return content[1:] - content[:1]

    def _in_file(self, modality: str, parts: Numbers) -> Numbers:
        """The same parts as places among the file's tokens: a pooled patch is a square of them."""
        pool = self._pool(modality)
        grid = patch_grid(self._reading, self._film) if pool > 1 else None
        if grid is None:
            return parts
        row, column = np.divmod(parts, grid[1])
        down, across = np.divmod(np.arange(pool**2), pool)
        at: Numbers = (row[:, None] * pool + down) * (grid[1] * pool) + column[:, None] * pool + across
        return at.ravel()

    def _pool(self, modality: str) -> int:
        return self._reading.config.pool_patches if modality == "image" else 1


def ablate(reading: Reading, hiding: Hiding, user: int | None = None) -> Ablation:
    """Predict with everything shown, without poster, without plot, without both; ``user`` is a number, or None."""
    sets: list[Mapping[str, Numbers | None]] = [{}, {"image": None}, {"text": None}, {"text": None, "image": None}]
    recommender = reading.run.recommender
    ratings = film_ratings(recommender, hiding.vectors(sets), np.arange(len(recommender.user_ids)))  # (U, 4)
    changes = _root_mean_square(ratings - ratings[:, :1])
    told = [
        Rated(float(column.mean()), None if user is None else float(column[user]), float(change))
        for column, change in zip(ratings.T.astype(np.float64), changes, strict=True)
    ]
    return Ablation(told[0], told[1], told[2], told[3], hiding.has)


def occlude(reading: Reading, hiding: Hiding, film: int, modality: str, plot: Plot | None) -> Parts | None:
    """Hide one part of the film's plot or poster after another; None where the model is not told them apart.

    Words are hidden one by one, patches in squares of at most 64; a plot of more than 160 words in stretches of them.
    """
    told = hiding.parts_told(modality)
    if not told:
        return None
    grid: tuple[int, int] | None = None
    if modality == "image":
        members, grid = _squares(patch_grid(reading, film) or (1, told))
        sets = list(members)
    else:
        if plot is None or not plot.words:
            return None
        stretch = -(-len(plot.words) // _MOST_WORDS)
        members = tuple(np.arange(at, min(at + stretch, len(plot.words))) for at in range(0, len(plot.words), stretch))
        sets = [np.array([place for word in part for place in plot.words[word].positions]) for part in members]
    change, shift = _effects(reading, hiding, modality, sets)
    return Parts(members, grid, change, shift)


def agreement(
    reading: Reading, hiding: Hiding, modality: str, parts: Parts, attention: Floats, positions: list[Numbers]
) -> Agreement:
    """Compare the attention (N,) of a modality's words or patches with what hiding does.

    ``positions`` are the tokens of each word or patch. The random draws are always the same.
    """
    weights = np.array([attention[part].sum() for part in parts.members])
    count = max(1, round(_TENTH * len(weights)))
    drawn = np.random.default_rng(0)
    chosen = [np.argsort(-weights, kind="stable")[:count]]
    chosen += [drawn.permutation(len(weights))[:count] for _ in range(_DRAWS)]
    sets = [np.concatenate([positions[at] for part in some for at in parts.members[part]]) for some in chosen]
    change, _ = _effects(reading, hiding, modality, sets)
    return Agreement(
        parts=len(weights),
        correlation=rank_correlation(weights, parts.change),
        hidden=count,
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


def film_ratings(recommender: Recommender, vectors: list[Tensor], users: Numbers) -> Floats:
    """(len(users), G) predicted ratings of G films given by each member's vectors (G, D + 1)."""
    blocks = []
    for start in range(0, len(users), _USERS_AT_ONCE):
        user = torch.from_numpy(users[start : start + _USERS_AT_ONCE])
        each = []
        for served, head, film in zip(recommender.vectors, recommender.heads, vectors, strict=True):
            of_user = served.user[user]  # (B, D + 1)
            scores = of_user[:, :-1] @ film[:, :-1].T + of_user[:, -1:] + film[:, -1]  # (B, G)
            each.append(head.ratings(scores, user))
        blocks.append(torch.stack(each).mean(0).detach().numpy())
    return np.concatenate(blocks)


def _effects(reading: Reading, hiding: Hiding, modality: str, sets: list[Numbers]) -> tuple[Floats, Floats]:
    """(G,) root mean square and mean over users of how ratings change when each of G sets of tokens is hidden."""
    recommender = reading.run.recommender
    count = len(recommender.user_ids)
    asked = np.unique(np.linspace(0, count - 1, min(count, _USERS_ASKED)).astype(np.int64))
    hidden: list[Mapping[str, Numbers | None]] = [{}, *({modality: out} for out in sets)]
    ratings = film_ratings(recommender, hiding.vectors(hidden), asked)
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


def _has_training_ratings(reading: Reading, film: int) -> bool:
    """Whether the served members were fitted to a rating of the film."""
    run = reading.run
    if not (run.recommender.rated_items == film).any():
        return False
    split = run.split
    if run.config.refit or not len(split.validation):
        return True
    # without a refit the validation ratings taught no weights, though a user has seen their films
    films = pl.scan_parquet(reading.dataset / "ratings.parquet").select("item_id").collect()["item_id"]
    return bool((films.gather(split.train) == reading.catalog.items["item_id"][film]).any())
