"""A finished run, opened: what it was asked, what it was trained on, how it went, and the model that came of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from ...data.dataset.splits import Split
from ...data.runtime.errors import BadInput
from ...data.runtime.parquet import read_parquet
from ..models.ranking_model import RankingModel
from ..models.recommender import Recommender
from ..settings.choices import Choices, members_of
from ..settings.config import Config
from .record import RunRecord, read_record
from .run_folder import RunFolder
from .summary import RunSummary


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished run, opened: its folder, what it was asked and trained on, and the model."""

    folder: Path
    record: RunRecord
    recommender: Recommender

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a finished run. BadInput where there is none, or where it is unfinished or damaged."""
        folder = Path(folder)
        record = read_record(folder)
        files = RunFolder(folder)
        if not files.is_finished():
            raise BadInput(f"{folder}: the run is not finished; go on with the same `cinefuse fuse` and --resume")
        return cls(folder, record, Recommender.load(files.model))

    def __repr__(self) -> str:
        summary = self.summary
        figures = "" if summary.rmse is None else f", rmse={summary.rmse:.4f}, mae={summary.mae:.4f}"
        return f"Run({str(self.folder)!r}, preset={self.config.preset!r}, split={self.record.split!r}{figures})"

    @property
    def config(self) -> Config:
        """Its settings."""
        return self.record.config

    @property
    def files(self) -> RunFolder:
        """The files of its folder."""
        return RunFolder(self.folder)

    @property
    def implicit(self) -> bool:
        """Whether it was trained on interactions without ratings."""
        return self.record.implicit

    @cached_property
    def ranking(self) -> RankingModel | None:
        """The ranking model; None where the run has none. BadInput where it is damaged or of other users or items."""
        file = self.files.ranking_model
        if not self.config.ranks:
            return None
        model = RankingModel.load(file)
        shape = len(model.vectors.user), len(model.vectors.item)
        if shape != (len(self.recommender.user_ids), len(self.recommender.item_ids)):
            raise BadInput(f"{file} is of other users or items than {self.files.model.name}: train the run again")
        return model

    @property
    def members(self) -> tuple[Config, ...]:
        """The config of each member that serves."""
        return members_of(self.files.choices, self.config)

    @property
    def choices(self) -> Choices | None:
        """How the settings were chosen, where they follow the ratings."""
        return Choices.read(self.files.choices)

    @property
    def summary(self) -> RunSummary:
        """Errors, warnings, chosen epochs, seconds. BadInput where the file is damaged."""
        return RunSummary.read(self.files.summary)

    @property
    def split(self) -> Split:
        """The split the run was trained and tested on."""
        return Split.load(self.files.split)

    def served_fits(self) -> list[Path]:
        """The last checkpoint of each member; a fit that only chose how long to train comes before them.

        BadInput where some are missing.
        """
        files, members = self.files.fits.all_finished(), len(self.members)
        if len(files) < members:
            raise BadInput(
                f"{self.folder}: expected {members} finished fits (fit-N.safetensors), found {len(files)}; "
                "train the run again"
            )
        return files[-members:]

    def predictions(self) -> pl.DataFrame:
        """user_id, item_id, rating, prediction of the test part; BadInput where the run had none."""
        file = self.files.predictions
        if not file.exists():
            raise BadInput(f"{self.folder}: the run's split {self.record.split!r} has no test part to evaluate on")
        return read_parquet(file)
