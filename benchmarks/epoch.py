"""One epoch of training in its parts, each callable by itself, on all ratings of a dataset."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from cinefuse.data.dataset.splits import Split
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.fuse.inputs.interactions import TrainingPairs
from cinefuse.fuse.inputs.join import Joined, join
from cinefuse.fuse.inputs.training_data import TrainingData, load_training_data
from cinefuse.fuse.models.heads import Scale
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.training.batches import ItemBatches
from cinefuse.fuse.training.member import Member


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset folder and its embedding file."""

    dataset: Path
    embeddings: Path

    def joined(self) -> Joined:
        """Ratings and films by number."""
        return join(self.dataset, EmbeddingFile.open(self.embeddings))

    def training_data(self, config: Config, device: torch.device) -> TrainingData:
        """All ratings as training ratings."""
        file = EmbeddingFile.open(self.embeddings)
        joined = join(self.dataset, file)
        none = np.empty(0, np.int64)
        return load_training_data(self.dataset, joined, file, Split("all", 0, joined.row, none, none), config, device)

    def smaller(self, items: int, folder: Path) -> Source:
        """The dataset's first films with their ratings, in a new folder; the embedding file stays as it is."""
        folder.mkdir()
        for name in ("dataset.json", "users.parquet"):
            if (self.dataset / name).is_file():
                (folder / name).write_bytes((self.dataset / name).read_bytes())
        kept = pl.read_parquet(self.dataset / "items.parquet").head(items)
        kept.write_parquet(folder / "items.parquet")
        ratings = pl.read_parquet(self.dataset / "ratings.parquet")
        ratings.join(kept, on="item_id", how="semi", maintain_order="left").write_parquet(folder / "ratings.parquet")
        return Source(folder, self.embeddings)


def grown(training_data: TrainingData, times: int) -> TrainingData:
    """The same films with `times` as many users, and ratings: copies of each user with ids of their own.

    A third of a copy's ratings are as they were, the others one higher or lower, within the scale.
    """
    chance = torch.Generator().manual_seed(0)
    low, high = training_data.rating.min(), training_data.rating.max()
    users, ratings = [training_data.user], [training_data.rating]
    for copy in range(1, times):
        off = torch.randint(-1, 2, (len(training_data.rating),), generator=chance)
        ratings.append((training_data.rating + off.to(training_data.rating)).clamp(low, high))
        users.append(training_data.user + copy * training_data.users)
    return replace(
        training_data,
        users=times * training_data.users,
        user=torch.cat(users),
        item=training_data.item.repeat(times),
        rating=torch.cat(ratings),
        train=torch.arange(times * len(training_data.rating), device=training_data.device),
        side=replace(training_data.side, user=training_data.side.user.repeat(times, 1)),
    )


class Epoch:
    """What an epoch of `Training` does, in the same order: Transformer pass, content refresh, factor steps.

    The factor steps are those of all training over its epochs, the head start before the first epoch shared out too.
    """

    def __init__(
        self, config: Config, training_data: TrainingData, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.config, self.training_data, self.clock = config, training_data, clock
        scale = Scale.of(training_data.rating.cpu())
        self.pairs = TrainingPairs.sorted(
            training_data.user,
            training_data.item,
            scale.standardise(training_data.rating),
            users=training_data.users,
            items=training_data.items,
        )
        widths = {name: held.width for name, held in training_data.tables.items()}
        self.member = Member(config, self.pairs, scale, training_data.side, widths, seed=0)
        self.batches = ItemBatches(training_data.tables, training_data.items, config.batch_items, training_data.device)
        self.factor_steps = math.ceil(config.factor_steps / config.epochs)
        self._number = 0

    def parts(self) -> dict[str, Callable[[], float]]:
        """Each part by its name; all give the seconds they took."""
        return {"Transformer pass": self.transformer, "content refresh": self.refresh, "factor steps": self.factor_pass}

    def whole(self) -> float:
        """Seconds of all three."""
        return self.transformer() + self.refresh() + self.factor_pass()

    def transformer(self) -> float:
        """Seconds of one pass of the Transformer over all rated films, forward and backward."""
        return self._timed(self._transformer)

    def refresh(self) -> float:
        """Seconds of reading every film once more for the factors."""
        return self._timed(lambda: self.member.refresh_content(self.batches))

    def factor_pass(self) -> float:
        """Seconds of an epoch's full-batch steps of the factors."""
        return self._timed(lambda: self._factor_steps(self.factor_steps))

    def waiting_share(self) -> float:
        """The share of the steps of a Transformer pass and a refresh in which the step waited for data."""
        waiting = self.batches.waiting
        waiting.waited = waiting.total = 0.0
        self.transformer()
        self.refresh()
        return waiting.share

    def _transformer(self) -> None:
        self._number += 1
        chance = torch.Generator().manual_seed(self._number)
        frozen = self.member.frozen_scores(chance)
        self.member.train()
        for batch in self.batches.epoch(self.pairs, seed=0, epoch=self._number):
            self.member.transformer_step(batch, frozen, 0.5)

    def _factor_steps(self, steps: int) -> None:
        for _ in range(steps):
            chance = torch.Generator().manual_seed(0)
            self.member.factor_step(self.config.factor_steps // 2, chance)

    def _timed(self, part: Callable[[], None]) -> float:
        began = self.clock()
        part()
        if self.training_data.device.type == "cuda":
            torch.cuda.synchronize(self.training_data.device)
        return self.clock() - began
