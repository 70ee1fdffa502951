"""The explanation of one item: predictions with parts masked, attention, and the figures for pictures and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...data.pages.page import signed
from .ablation import Ablation, Agreement, Parts
from .attention import ItemAttention
from .heatmap import Box, span_of, strength
from .plot_words import Plot

Floats = npt.NDArray[np.float32]

MODALITY_NAMES = {"text": "plot", "image": "poster"}
"""What readers call each modality."""

_MOST_NAMED = 12


@dataclass(frozen=True)
class Marked:
    """A piece of a plot, and how strongly to highlight it, from 0 (its uniform share or less) to 1.

    lift: its share over the uniform share, None between words. read: False where the model's input was cut off before.
    """

    text: str
    mark: float = 0.0
    lift: float | None = None
    read: bool = True


@dataclass(frozen=True, eq=False)
class Explanation:
    """One item explained.

    attention: None where the run has no Transformer. parts: by "text" and "image", the change of predictions when each
    part is masked, where the model reads parts. agreement: whether attention agrees with it. box: the area of the
    poster that the patches cover. notes: what is missing, and what a reader could misunderstand, a sentence each.
    """

    item_id: int | str
    title: str
    train_ratings: int
    user_id: int | str | None
    ablation: Ablation
    attention: ItemAttention | None
    parts: Mapping[str, Parts]
    agreement: Mapping[str, Agreement]
    plot: Plot | None
    poster: Image.Image | None
    box: Box | None
    notes: tuple[str, ...]

    @property
    def shown(self) -> str:
        """What the pictures show: "attention", or "masking" where there is none; "nothing" without either."""
        if self.attention is not None and (self.attention.patches is not None or self.attention.words):
            return "attention"
        return "masking" if self.parts else "nothing"

    @cached_property
    def patch_lift(self) -> Floats | None:
        """(gh, gw): each patch's share of what is `shown`, over the uniform share; None without patches."""
        if self.shown == "attention" and self.attention is not None:
            return self.attention.patch_lift
        return self.masking_lift

    @cached_property
    def masking_lift(self) -> Floats | None:
        """(rows, columns): the change when each square of patches is masked, over the mean of all squares."""
        parts = self.parts.get("image")
        if parts is None or parts.grid is None or not parts.change.mean():
            return None
        lift: Floats = (parts.change / parts.change.mean()).reshape(parts.grid)
        return lift

    @cached_property
    def word_lift(self) -> Floats:
        """(W,): the share of each word of the plot in what is `shown`, over the uniform share."""
        if self.shown == "attention" and self.attention is not None:
            return self.attention.word_lift
        return self.word_masking_lift

    @cached_property
    def word_masking_lift(self) -> Floats:
        """(W,): the change of predictions when each word (or its stretch of words) is masked, over the mean of all."""
        parts = self.parts.get("text")
        lift = np.zeros(0 if self.plot is None else len(self.plot.words), np.float32)
        if parts is not None and parts.change.mean():
            for part, change in zip(parts.members, parts.change / parts.change.mean(), strict=True):
                lift[part] = change
        return lift

    @property
    def in_short(self) -> str:
        """The mean of all users' predictions, and its change without poster or plot where there is one."""
        whole = self.ablation.everything.average
        changes = [f"without {kind} {signed(rated.average - whole, 3)}" for kind, rated in self.ablation.masked]
        return "; ".join([f"predicted {whole:.2f}", *([", ".join(changes)] if changes else [])])

    @property
    def agreements(self) -> list[tuple[str, Agreement]]:
        """The agreements with the names that readers know, "plot" and "poster"."""
        return [(kind, self.agreement[name]) for name, kind in MODALITY_NAMES.items() if name in self.agreement]

    @property
    def span(self) -> float:
        """The lift that the lightest colour stands for in pictures of what is `shown`."""
        return span_of(self.patch_lift)

    @property
    def masking_span(self) -> float:
        """The lift that the lightest colour stands for in pictures of the change when masked."""
        return span_of(self.masking_lift)

    def words_by_lift(self, most: int = _MOST_NAMED) -> list[tuple[str, float]]:
        """The words with the largest lifts, and these, without repetitions and punctuation."""
        if self.plot is None:
            return []
        found: dict[str, tuple[str, float]] = {}
        for place in np.argsort(-self.word_lift, kind="stable").tolist():
            word = self.plot.words[place].text
            if any(c.isalnum() for c in word) and self.word_lift[place] > 0:
                found.setdefault(word.casefold(), (word, float(self.word_lift[place])))
                if len(found) == most:
                    break
        return list(found.values())

    def marked_plot(self) -> list[Marked]:
        """The plot in pieces, words and the text between them; joined they are the plot again."""
        if self.plot is None:
            return []
        marks = np.maximum(2 * strength(self.word_lift, span_of(self.word_lift)) - 1, 0).tolist()
        words = zip(self.plot.words, marks, self.word_lift.tolist(), strict=True)
        if self.plot.note:
            return [piece for word, mark, lift in words for piece in (Marked(word.text, mark, lift), Marked(" "))]
        pieces, at = [], 0
        for word, mark, lift in words:
            between = [Marked(self.plot.text[at : word.start])] if word.start > at else []
            pieces += [*between, Marked(self.plot.text[word.start : word.end], mark, lift)]
            at = word.end
        rest = self.plot.text[at:]
        return [*pieces, Marked(rest, read=not rest.strip())] if rest else pieces

    def as_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        a = self.attention
        return {
            "item_id": self.item_id,
            "title": self.title,
            "train_ratings": self.train_ratings,
            "user_id": self.user_id,
            "prediction": {
                name: asdict(getattr(self.ablation, name))
                for name in ("everything", "without_image", "without_text", "without_both")
            },
            "has": list(self.ablation.has),
            "shares_of_change": self.ablation.shares,
            "attention": None
            if a is None
            else {
                "rollout": a.rollout,
                "shares": a.shares,
                "uniform_shares": a.uniform_shares,
                "mass": dict(a.mass),
                "absent": list(a.absent),
                "by_head": a.by_head.tolist(),
                "patches": None if a.patches is None else a.patches.tolist(),
                "words": [
                    {"word": w.text, "start": w.start, "end": w.end, "weight": float(weight)}
                    for w, weight in zip(a.words, a.word_weights, strict=True)
                ],
            },
            "masking": {
                name: {
                    "grid": parts.grid,
                    "members": [part.tolist() for part in parts.members],
                    "change": parts.change.tolist(),
                    "shift": parts.shift.tolist(),
                }
                for name, parts in self.parts.items()
            },
            "agreement": {
                name: asdict(found) | {"predicts": found.predicts, "verdict": found.verdict}
                for name, found in self.agreement.items()
            },
            "notes": list(self.notes),
        }
