"""The files of a run folder, each by what it holds. Nothing else spells out their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FitFiles:
    """Checkpoints of one model's fits: of the fit in progress, and of each finished one."""

    folder: Path
    prefix: str = ""

    @property
    def in_progress(self) -> Path:
        """The newest checkpoint of a fit that is not finished."""
        return self.folder / f"{self.prefix}state.safetensors"

    def finished(self, number: int) -> Path:
        """A fit at its end."""
        return self.folder / f"{self.prefix}fit-{number}.safetensors"

    def all_finished(self) -> list[Path]:
        """The finished fits that are there, in their order."""
        found = self.folder.glob(f"{self.prefix}fit-*.safetensors")
        return sorted(found, key=lambda file: int(file.stem.rpartition("-")[2]))


@dataclass(frozen=True)
class RunFolder:
    """One run's folder, finished or not. Its properties are paths; whether a file is there is another question."""

    path: Path

    @property
    def record(self) -> Path:
        """JSON: the config, the dataset and embedding file with their digests, the split, versions (`RunRecord`)."""
        return self.path / "config.json"

    @property
    def split(self) -> Path:
        """Which row of the dataset's ratings was in which part."""
        return self.path / "split.parquet"

    @property
    def coverage(self) -> Path:
        """JSON: what the join of ratings, items and embeddings found."""
        return self.path / "coverage.json"

    @property
    def choices(self) -> Path:
        """JSON: each member's settings and how they were chosen, where they follow the ratings (`Choices`)."""
        return self.path / "choices.json"

    @property
    def metrics(self) -> Path:
        """JSON lines: one epoch each."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """Folder of TensorBoard events, where they were wanted."""
        return self.path / "events"

    @property
    def lock(self) -> Path:
        """What `sole_writer` locks."""
        return self.path / "run"

    @property
    def fits(self) -> FitFiles:
        """Checkpoints of the rating model."""
        return FitFiles(self.path)

    @property
    def ranking_fits(self) -> FitFiles:
        """Checkpoints of the ranking model."""
        return FitFiles(self.path, "ranking-")

    @property
    def model(self) -> Path:
        """The rating model: vectors of users and items, their ids, and who has seen what (`Recommender`)."""
        return self.path / "model.safetensors"

    @property
    def ranking_model(self) -> Path:
        """The ranking model, where the run has one (`RankingModel`)."""
        return self.path / "ranking.safetensors"

    @property
    def content(self) -> Path:
        """content (I, C): genres, years and components of the items, where the model reads any."""
        return self.path / "content.safetensors"

    @property
    def components(self) -> Path:
        """Directions of the principal components, where the model reads some (`Components`)."""
        return self.path / "components.safetensors"

    @property
    def tags(self) -> Path:
        """tag: what each row of the weights of tags stands for, where the model reads tags."""
        return self.path / "tags.parquet"

    @property
    def items(self) -> Path:
        """item_id, title, year, genres, train_ratings: a row an item, in the model's order."""
        return self.path / "items.parquet"

    @property
    def predictions(self) -> Path:
        """user_id, item_id, rating, prediction of the test part."""
        return self.path / "predictions.parquet"

    @property
    def summary(self) -> Path:
        """JSON: errors, warnings, chosen epochs, seconds. Written last: a run that has it is finished."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """The HTML page of `cinefuse report`, where no other place is named."""
        return self.path / "report.html"

    def is_begun(self) -> bool:
        """Whether a run was begun here."""
        return self.record.exists()

    def is_finished(self) -> bool:
        """Whether the run here came to its end."""
        return self.summary.exists()

    def holds_work(self) -> bool:
        """Whether a run here has got as far as something worth keeping."""
        fits = (self.fits, self.ranking_fits)
        kept = (self.summary, self.choices, *(fit.in_progress for fit in fits))
        return self.is_begun() and (any(file.exists() for file in kept) or any(fit.all_finished() for fit in fits))

    def runs_inside(self) -> list[Path]:
        """Folders of runs below this one: of seeds or folds, of both, of a study (one, two or three levels down)."""
        levels = ("*", "*/*", "*/*/*")
        return [file.parent for level in levels for file in sorted(self.path.glob(f"{level}/{self.record.name}"))]
