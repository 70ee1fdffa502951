"""The counts of a join of ratings, items and embeddings: what is there, what was dropped, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.dataset.folder import rows_named

_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Dropped:
    """Ratings left out for one reason: how many, and the first of their rows in ratings.parquet (from 0)."""

    ratings: int = 0
    first_rows: tuple[int, ...] = ()

    @classmethod
    def where(cls, left_out: _Bools) -> Dropped:
        """Count a (rows,) mask."""
        return cls(int(left_out.sum()), tuple(np.flatnonzero(left_out)[:5].tolist()))

    def __str__(self) -> str:
        return f"{self.ratings:,} ({rows_named(self.first_rows, self.ratings)})"


@dataclass(frozen=True)
class Presence:
    """How many items, or ratings of such items, have a text embedding, an image embedding, both, or neither."""

    text: int
    image: int
    both: int
    neither: int

    @classmethod
    def of(cls, text: _Bools, image: _Bools) -> Presence:
        """Count two masks of one length."""
        both, either = int((text & image).sum()), int((text | image).sum())
        return cls(int(text.sum()), int(image.sum()), both, len(text) - either)


@dataclass(frozen=True)
class Coverage:
    """What the join found: every rating read is kept, or dropped for exactly one reason.

    ``items_outside_file`` counts items that the embedding file has no row for (0 where there is no file). Of
    ``texts_compared`` items ``other_texts`` have another text than the one that was embedded.
    """

    modalities: tuple[str, ...]
    ratings: int
    kept: int
    unknown_item: Dropped
    missing_embedding: Dropped
    duplicate: Dropped
    users: int
    users_with_ratings: int
    items: int
    rated_items: int
    items_outside_file: int
    texts_compared: int
    other_texts: int
    items_with: Presence
    ratings_with: Presence

    @property
    def dropped(self) -> int:
        """Ratings read and not kept."""
        return self.unknown_item.ratings + self.missing_embedding.ratings + self.duplicate.ratings

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; `first_rows` start at 0."""
        return asdict(self)

    def lines(self, noun: str = "ratings") -> list[str]:
        """The report as text, with ``noun`` for what was joined; its row numbers start at 1."""
        reasons = {
            "of films that are not in the catalogue": self.unknown_item,
            "of films without an embedding": self.missing_embedding,
            "of a film the same user rated more than once": self.duplicate,
        }
        lines = [f"{noun}: {self.ratings:,} read, {self.kept:,} kept"]
        lines += [f"  dropped {why}: {dropped}" for why, dropped in reasons.items() if dropped.ratings]
        lines.append(f"users: {self.users:,}, of them {self.users_with_ratings:,} with {noun}")
        lines.append(f"films: {self.items:,}, of them {self.rated_items:,} with {noun}")
        if self.items_outside_file:
            lines.append(f"  not in the embedding file: {self.items_outside_file:,}")
        if self.other_texts:
            question = "; is it of another catalogue?" if 2 * self.other_texts > self.texts_compared else ""
            lines.append(
                f"  of another text than the one that was embedded: {self.other_texts:,} of {self.texts_compared:,} "
                f"compared{question}"
            )
        for modality in self.modalities:
            items, ratings = getattr(self.items_with, modality), getattr(self.ratings_with, modality)
            lines.append(
                f"{modality} embeddings: {items:,} films ({_percent(items, self.items)}), "
                f"{ratings:,} {noun} ({_percent(ratings, self.kept)})"
            )
        if len(self.modalities) > 1:
            items, ratings = self.items_with, self.ratings_with
            lines.append(f"both: {items.both:,} films, {ratings.both:,} {noun}")
            lines.append(f"neither: {items.neither:,} films, {ratings.neither:,} {noun}")
        return lines


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
