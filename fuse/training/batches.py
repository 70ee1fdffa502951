"""Item-major batches: a batch is a set of items with all their training ratings, each item once an epoch.

The cost of an epoch follows the items, not the ratings: one that a thousand users rated passes the Transformer once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..inputs.interactions import TrainingPairs
from ..inputs.tokens import TokenBatch, TokenTable
from .processes import ALONE, Ranks

_LENGTHS_MAY_SEEM = 1.2  # times what they are, at most
_MORE_OF_SHORT = 4  # times as many items at once


@dataclass(frozen=True, eq=False)
class ItemBatch:
    """B items with their tokens, and the K training ratings they have.

    items: (B,) int64. pair: (K,) int64, places among all pairs item by item. place: (K,) int64, which of the B items.
    ratings: K of all ranks together; items_of_all: their B.
    """

    items: Tensor
    tokens: Mapping[str, TokenBatch]
    pair: Tensor
    place: Tensor
    ratings: int
    items_of_all: int


@dataclass
class Waiting:
    """Seconds spent waiting for data, beside all seconds of the steps."""

    waited: float = 0.0
    total: float = 0.0

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.waited / self.total if self.total else 0.0


@dataclass(eq=False)
class ItemBatches:
    """Cuts the items into batches and reads the next one's tokens while the present one is computed.

    Of every batch this process reads its rank's share: all of it, where it trains alone.
    """

    tables: Mapping[str, TokenTable]
    items: int
    size: int
    device: torch.device
    ranks: Ranks = ALONE
    waiting: Waiting = field(default_factory=Waiting)

    def epoch(self, pairs: TrainingPairs, *, seed: int, epoch: int, start: int = 0) -> Iterator[ItemBatch]:
        """The batches of one epoch over the items that have training ratings, from batch ``start`` on.

        Order and cuts depend on seed and epoch alone, so an interrupted epoch goes on where it stopped.
        """
        counts = pairs.item_counts.cpu().numpy()
        order = np.random.default_rng((seed, epoch)).permutation(np.flatnonzero(counts > 0))
        cuts = self._cut(order, self.size, shuffle=(seed, epoch))[start:]
        for cut, (items, tokens) in zip(cuts, self._prefetched(cuts), strict=True):
            pair, place = _pairs_of(items, pairs)
            yield ItemBatch(items, tokens, pair, place, ratings=int(counts[cut].sum()), items_of_all=len(cut))

    def count(self, pairs: TrainingPairs) -> int:
        """Batches in an epoch."""
        return -(-int((pairs.item_counts > 0).sum()) // self.size)

    def everything(self) -> Iterator[tuple[Tensor, Mapping[str, TokenBatch]]]:
        """All items of this rank's shares once, those of like length together.

        Where an item is a token a modality, more of them than in a step of training: no backward pass has to keep them.
        """
        short = all(table.lengths.max(initial=0) <= 1 for table in self.tables.values())
        yield from self._prefetched(self._cut(np.arange(self.items), self.size * (_MORE_OF_SHORT if short else 1)))

    def _cut(
        self, order: npt.NDArray[np.int64], size: int, shuffle: tuple[int, int] | None = None
    ) -> list[npt.NDArray[np.int64]]:
        # items of like length come together, for little padding; "like" by chance, for other company each epoch
        lengths = sum((table.lengths for table in self.tables.values()), np.zeros(self.items))[order]
        if shuffle:
            chance = np.random.default_rng((*shuffle, 1))
            lengths *= chance.uniform(1, _LENGTHS_MAY_SEEM, len(order))
        order = order[np.argsort(lengths, kind="stable")]
        cuts = [order[at : at + size] for at in range(0, len(order), size)]
        return [cuts[place] for place in chance.permutation(len(cuts))] if shuffle else cuts

    def _prefetched(self, whole: list[npt.NDArray[np.int64]]) -> Iterator[tuple[Tensor, Mapping[str, TokenBatch]]]:
        cuts = [self.ranks.share(items) for items in whole]
        with ThreadPoolExecutor(1, thread_name_prefix="tokens") as reader:
            coming: list[Future[dict[str, TokenBatch]]] = [reader.submit(self._read, items) for items in cuts[:1]]
            for place, items in enumerate(cuts):
                began = time.perf_counter()
                host = coming.pop().result()
                waited = time.perf_counter() - began
                coming += [reader.submit(self._read, following) for following in cuts[place + 1 : place + 2]]
                yield torch.from_numpy(items).to(self.device), {n: b.to(self.device) for n, b in host.items()}
                self.waiting.waited += waited
                self.waiting.total += time.perf_counter() - began

    def _read(self, items: npt.NDArray[np.int64]) -> dict[str, TokenBatch]:
        return {name: table.batch(items) for name, table in self.tables.items()}


def _pairs_of(items: Tensor, pairs: TrainingPairs) -> tuple[Tensor, Tensor]:
    """Where the training pairs of B items stand item by item (K,), and which of the B items each belongs to (K,)."""
    starts = pairs.item_offsets[items]
    counts = pairs.item_offsets[items + 1] - starts
    place = torch.repeat_interleave(torch.arange(len(items), device=items.device), counts)  # (K,)
    first = counts.cumsum(0) - counts
    within = torch.arange(len(place), device=items.device) - first[place]
    return starts[place] + within, place
