"""The model run again with parts of one item masked: its text, its image, or single words and patches of them.

A masked text is what the model reads of an item without one: the learned absent token in the Transformer, zeros for its
principal components. Masked words and patches are tokens that get no attention. Computed in float32 as a change to the
item's served vector, so that with nothing masked the prediction is the run's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.runtime.parquet import scan_parquet
from ..inputs.components import Components, mean_token, tokens_read
from ..models.recommender import Recommender
from .attention import patch_grid
from .reading import ItemWeights, Reading

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
MaskedParts = Mapping[str, Numbers | None]
"""By modality, the words or patches that are masked, by number; None masks the whole modality."""

_USERS_PER_BLOCK = 512
_SEQUENCES_PER_BATCH = 64


class ItemMasking:
    """The vectors of one item, given by number, with parts of it masked."""

    def __init__(self, reading: Reading, item: int, components: Mapping[str, Components]) -> None:
        self._reading, self.item, self._components = reading, item, components
        self._tokens = reading.tokens(item) if reading.config.fuses else {}
        self.has = tuple(name for name in reading.modalities if reading.has(item, name))
        self._read = {
            name: tokens_read(reading.embeddings[name], int(reading.rows[item]))
            for name in self.has
            if reading.embeddings is not None
        }
        self._has_training_ratings = _has_training_ratings(reading, item)

    def count_parts(self, modality: str) -> int:
        """Tokens of the modality that the model reads one by one, after its pooling of patches; 0 where it does not."""
        reading = self._reading
        if modality not in self.has or reading.embeddings is None:
            return 0
        kept = len(reading.embeddings[modality].raw_tokens_of(int(reading.rows[self.item])))
        if not (reading.config.fuses and reading.config.level == "tokens") and modality not in self._components:
            return 0
        return kept // self._pool(modality) ** 2

    @torch.no_grad()
    def vectors(self, masked: list[MaskedParts]) -> list[Tensor]:
        """Each member's vectors of the item (G, D + 1), one for each of G sets of masked parts."""
        served = [v.item[self.item] for v in self._reading.run.recommender.vectors]  # (D + 1,) each
        side = self._side_changes(masked)
        return [
            vector + self._content_changes(weights, masked) + side @ self._side_weights(weights)
            for vector, weights in zip(served, self._reading.members, strict=True)
        ]

    def _side_weights(self, weights: ItemWeights) -> Tensor:
        cold = bool(weights.cold_start.any()) and not self._has_training_ratings
        return weights.cold_start if cold else weights.side_information

    def _side_changes(self, masked: list[MaskedParts]) -> Tensor:
        """(G, C): the change of the item's side information, which its principal components are part of."""
        blocks = [np.zeros((len(masked), self._reading.side_information.shape[1]), np.float32)]
        for name, components in self._components.items():
            change = np.zeros((len(masked), components.directions.shape[1]), np.float32)
            some = [place for place, sets in enumerate(masked) if name in sets and name in self.has]
            parts = [masked[place][name] for place in some]
            whole = [place for place, out in zip(some, parts, strict=True) if out is None]
            partly = [(place, out) for place, out in zip(some, parts, strict=True) if out is not None and len(out)]
            if some:
                left_out = [self._in_file(name, out) for _, out in partly]
                now, *then = components_without(components, self._read[name], [np.zeros(0, np.int64), *left_out])
                change[whole] = -now
                for (place, _), becomes in zip(partly, then, strict=True):
                    change[place] = becomes - now
            blocks.append(change)
        return torch.from_numpy(np.hstack(blocks))

    def _content_changes(self, weights: ItemWeights, masked: list[MaskedParts]) -> Tensor:
        """(G, D + 1): the change of the Transformer's output, from the whole item to the item with parts masked."""
        transformer = weights.transformer
        if transformer is None:
            return torch.zeros(len(masked), 1)
        x, present = transformer.sequence(self._tokens, self._reading.side_information[[self.item]])
        places = transformer.places({name: batch.present.shape[1] for name, batch in self._tokens.items()})
        masks = present.repeat(1 + len(masked), 1)  # (1 + G, T), the first with nothing masked
        for mask, sets in zip(masks[1:], masked, strict=True):
            for name, out in sets.items():
                if name not in self.has:
                    continue
                if out is None:
                    mask[places[name]] = False
                    mask[places[f"{name}.absent"]] = True
                elif self._reading.config.level == "tokens":
                    mask[places[name].start + 1 + torch.from_numpy(out)] = False  # 1: CLS stands first
        batches = [masks[at : at + _SEQUENCES_PER_BATCH] for at in range(0, len(masks), _SEQUENCES_PER_BATCH)]
        content = torch.cat([transformer.fused(x.expand(len(some), -1, -1), some) for some in batches])
        return content[1:] - content[:1]

    def _in_file(self, modality: str, parts: Numbers) -> Numbers:
        """The same parts as places among the file's tokens: a pooled patch is a square of them."""
        pool = self._pool(modality)
        grid = patch_grid(self._reading, self.item) if pool > 1 else None
        if grid is None:
            return parts
        row, column = np.divmod(parts, grid[1])
        down, across = np.divmod(np.arange(pool**2), pool)
        at: Numbers = (row[:, None] * pool + down) * (grid[1] * pool) + column[:, None] * pool + across
        return at.ravel()

    def _pool(self, modality: str) -> int:
        return self._reading.config.pool_patches if modality == "image" else 1


def components_without(components: Components, tokens: Floats, masked: list[Numbers]) -> Floats:
    """(G, k): the principal components of an item of ``tokens`` (T, D) with each of G sets of them left out."""
    total = tokens.sum(0, dtype=np.float64)
    result = np.zeros((len(masked), components.directions.shape[1]), np.float32)
    for place, out in enumerate(masked):
        left = len(tokens) - len(out)
        if left:  # an item without any token has components of 0
            rest = ((total - tokens[out].sum(0, dtype=np.float64)) / left).astype(np.float32)
            result[place] = components.of_items(mean_token(rest[None])[None])[0]
    return result


def item_ratings(recommender: Recommender, item: int, vectors: list[Tensor], users: Numbers) -> Floats:
    """(len(users), G) predicted ratings of one item by each member's vectors of it, (G, D + 1)."""
    blocks = []
    for start in range(0, len(users), _USERS_PER_BLOCK):
        user = torch.from_numpy(users[start : start + _USERS_PER_BLOCK])
        each = []
        for served, head, of_item in zip(recommender.vectors, recommender.heads, vectors, strict=True):
            of_user = served.user[user]  # (B, D + 1)
            scores = of_user[:, :-1] @ of_item[:, :-1].T + of_user[:, -1:] + of_item[:, -1]  # (B, G)
            each.append(head.ratings(scores, user))
        mean = torch.stack(each).mean(0).detach()
        blocks.append(recommender.with_bayesian(mean, user, torch.tensor([item])).numpy())
    return np.concatenate(blocks)


def _has_training_ratings(reading: Reading, item: int) -> bool:
    """Whether the served members were fitted to a rating of the item."""
    run = reading.run
    if not (run.recommender.rated_items == item).any():
        return False
    split = run.split
    if run.config.refit or not len(split.validation):
        return True
    # without a refit no weights were fitted to the validation ratings, though their items are among the rated ones
    items = scan_parquet(reading.dataset / "ratings.parquet").select("item_id").collect()["item_id"]
    return bool((items.gather(split.train) == reading.catalog.items["item_id"][item]).any())
