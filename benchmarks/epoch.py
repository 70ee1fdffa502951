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
from cinefuse.fuse.inputs.training_data import gather_material
from cinefuse.fuse.models.heads import Scale
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.training.batches import FilmBatches
from cinefuse.fuse.training.loop import Material
from cinefuse.fuse.training.member import Member


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset folder and its embedding file."""

    dataset: Path
    embeddings: Path

    def joined(self) -> Joined:
        """Ratings and films by number."""
        return join(self.dataset, EmbeddingFile.open(self.embeddings))

    def material(self, config: Config, device: torch.device) -> Material:
        """All ratings as training ratings."""
        file = EmbeddingFile.open(self.embeddings)
        joined = join(self.dataset, file)
        none = np.empty(0, np.int64)
        return gather_material(self.dataset, joined, file, Split("all", 0, joined.row, none, none), config, device)

    def smaller(self, films: int, folder: Path) -> Source:
        """The dataset's first films with their ratings, in a new folder; the embedding file stays as it is."""
        folder.mkdir()
        for name in ("dataset.json", "users.parquet"):
            if (self.dataset / name).is_file():
                (folder / name).write_bytes((self.dataset / name).read_bytes())
        items = pl.read_parquet(self.dataset / "items.parquet").head(films)
        items.write_parquet(folder / "items.parquet")
        ratings = pl.read_parquet(self.dataset / "ratings.parquet")
        ratings.join(items, on="item_id", how="semi", maintain_order="left").write_parquet(folder / "ratings.parquet")
        return Source(folder, self.embeddings)


def grown(material: Material, times: int) -> Material:
    """The same films with `times` as many users, and ratings: copies of each user with ids of their own.

    A third of a copy's ratings are as they were, the others one higher or lower, within the scale.
    """
    chance = torch.Generator().manual_seed(0)
    low, high = material.rating.min(), material.rating.max()
    users, ratings = [material.user], [material.rating]
    for copy in range(1, times):
        off = torch.randint(-1, 2, (len(material.rating),), generator=chance)
        ratings.append((material.rating + off.to(material.rating)).clamp(low, high))
        users.append(material.user + copy * material.users)
    return replace(
        material,
        users=times * material.users,
        user=torch.cat(users),
        film=material.film.repeat(times),
        rating=torch.cat(ratings),
        train=torch.arange(times * len(material.rating), device=material.device),
        side=replace(material.side, user=material.side.user.repeat(times, 1)),
    )


class Epoch:
    """What an epoch of `Training` does, in the same order: Transformer pass, content refresh, light steps.

    The light steps are those of all training over its epochs, the head start before the first epoch shared out too.
    """

    def __init__(self, config: Config, material: Material, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config, self.material, self.clock = config, material, clock
        scale = Scale.of(material.rating.cpu())
        self.pairs = TrainingPairs.sorted(
            material.user,
            material.film,
            scale.standardise(material.rating),
            users=material.users,
            films=material.films,
        )
        widths = {name: held.width for name, held in material.tables.items()}
        self.member = Member(config, self.pairs, scale, material.side, widths, seed=0)
        self.batches = FilmBatches(material.tables, material.films, config.batch_films, material.device)
        self.light_steps = math.ceil(config.light_steps / config.epochs)
        self._number = 0

    def parts(self) -> dict[str, Callable[[], float]]:
        """Each part by its name; all give the seconds they took."""
        return {"Transformer pass": self.transformer, "content refresh": self.refresh, "light steps": self.light}

    def whole(self) -> float:
        """Seconds of all three."""
        return self.transformer() + self.refresh() + self.light()

    def transformer(self) -> float:
        """Seconds of one pass of the Transformer over all rated films, forward and backward."""
        return self._timed(self._transformer)

    def refresh(self) -> float:
        """Seconds of reading every film once more for the light factors."""
        return self._timed(lambda: self.member.refresh_content(self.batches))

    def light(self) -> float:
        """Seconds of an epoch's full-batch steps of the light factors."""
        return self._timed(lambda: self._light(self.light_steps))

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
            self.member.heavy_step(batch, frozen, 0.5)

    def _light(self, steps: int) -> None:
        for _ in range(steps):
            chance = torch.Generator().manual_seed(0)
            self.member.light_step(self.config.light_steps // 2, chance)

    def _timed(self, part: Callable[[], None]) -> float:
        began = self.clock()
        part()
        if self.material.device.type == "cuda":
            torch.cuda.synchronize(self.material.device)
        return self.clock() - began
