"""A run folder: what was asked, what it was trained on, how it went, and the model that came of it.

config.json          the config, the dataset, the embedding file with its content digest, the split, versions
split.parquet        which row of ratings.parquet was in which part
coverage.json        what the join found
choices.json         the settings of each member and how they were chosen, where they follow the ratings
metrics.jsonl        a line an epoch
state.safetensors    the present fit, while training; fit-N.safetensors, a finished fit
ranking-state, ranking-fit-N.safetensors   the same of the ranking model
model.safetensors    the served vectors, ids, and who has seen what
ranking.safetensors  the ranking model, where the run has one
content.safetensors  content (I, C): genres, years and components of the items, where the model reads any
components.safetensors   the directions of the principal components, where the model reads some
tags.parquet         tag: what the rows of the weights of tags stand for, where the model reads tags
items.parquet        item_id, title, year, genres, and how many ratings each film had in training
predictions.parquet  user_id, item_id, rating, prediction of the test part
summary.json         test RMSE and MAE, validation RMSE, both of a bias model too, warnings, chosen epochs, seconds;
                     written last: a run that has it is finished
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from ...data.dataset.splits import Split
from ...data.runtime.errors import BadInput
from ..models.ranking_model import RankingModel
from ..models.recommender import Recommender
from ..settings.choices import Choices, members_of
from ..settings.config import Config
from .record import read_record

RANKING_MODEL = "ranking.safetensors"
CONTENT = "content.safetensors"


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished run, opened: its folder, its config, what `config.json` says, and the model."""

    folder: Path
    config: Config
    about: dict[str, Any]
    recommender: Recommender

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a finished run. BadInput where there is none, or where it is unfinished or damaged."""
        folder = Path(folder)
        about = read_record(folder)
        if not (folder / "summary.json").exists():
            raise BadInput(f"{folder}: the run is not finished; go on with the same `cinefuse fuse` and --resume")
        config = Config.from_dict(about["config"])
        return cls(folder, config, about, Recommender.load(folder / "model.safetensors"))

    def __repr__(self) -> str:
        figures = "".join(f", {name}={self.summary[name]:.4f}" for name in ("rmse", "mae") if name in self.summary)
        return f"Run({str(self.folder)!r}, preset={self.config.preset!r}, split={self.about['split']!r}{figures})"

    @property
    def implicit(self) -> bool:
        """Whether it was trained on interactions without ratings."""
        return bool(self.about.get("implicit", False))

    @cached_property
    def ranking(self) -> RankingModel | None:
        """The ranking model; None where the run has none. BadInput where it is damaged or of other users or items."""
        file = self.folder / RANKING_MODEL
        if not self.config.ranks:
            return None
        model = RankingModel.load(file)
        shape = len(model.vectors.user), len(model.vectors.item)
        if shape != (len(self.recommender.user_ids), len(self.recommender.item_ids)):
            raise BadInput(f"{file} is of other users or items than model.safetensors: train the run again")
        return model

    @property
    def members(self) -> tuple[Config, ...]:
        """The config of each member that serves."""
        return members_of(self.folder, self.config)

    @property
    def choices(self) -> Choices | None:
        """How the settings were chosen, where they follow the ratings."""
        return Choices.read(self.folder)

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` says."""
        content: dict[str, Any] = json.loads((self.folder / "summary.json").read_text("utf-8"))
        return content

    @property
    def split(self) -> Split:
        """The split the run was trained and tested on."""
        return Split.load(self.folder / "split.parquet")

    def predictions(self) -> pl.DataFrame:
        """user_id, item_id, rating, prediction of the test part; BadInput where the run had none."""
        file = self.folder / "predictions.parquet"
        if not file.exists():
            raise BadInput(f"{self.folder}: the run's split {self.about['split']!r} has no test part to evaluate on")
        return pl.read_parquet(file)
