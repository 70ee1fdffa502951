"""The functions of the public API that stand on more than one part; `from cinefuse import ...` gives them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .data.dataset.catalog import Catalog
from .data.embeddings.file import EmbeddingFile
from .data.runtime.errors import BadInput
from .data.runtime.parquet import read_parquet
from .data.runtime.progress import Progress, TerminalProgress
from .extract.job.settings import Settings

if TYPE_CHECKING:
    from .fuse.runs.run import Run
    from .fuse.settings.config import Config


@dataclass(frozen=True)
class Dataset:
    """A dataset folder, opened; its tables are read when they are asked for."""

    folder: Path

    @property
    def items(self) -> pl.DataFrame:
        """item_id, title, year, genres, text, poster, ... of every item."""
        return Catalog.open(self.folder).items

    @property
    def ratings(self) -> pl.DataFrame:
        """user_id, item_id, rating and perhaps timestamp. BadInput where the dataset has no ratings."""
        return self._table("ratings")

    @property
    def users(self) -> pl.DataFrame:
        """user_id and what is known of users. BadInput where the dataset has no such table."""
        return self._table("users")

    def _table(self, name: str) -> pl.DataFrame:
        file = self.folder / f"{name}.parquet"
        if not file.is_file():
            raise BadInput(
                f"{self.folder} has no {name}: {file.name} is not there; import them with `cinefuse data import`"
            )
        return read_parquet(file)


def open_dataset(folder: str | Path) -> Dataset:
    """Open a dataset folder. BadInput where it is none, or where its table of items is damaged."""
    dataset = Dataset(Path(folder))
    Catalog.open(dataset.folder)
    return dataset


def extract_embeddings(
    dataset: str | Path,
    out: str | Path,
    *,
    text_model: str | None = Settings.text_model,
    image_model: str | None = Settings.image_model,
    progress: Progress | None = None,
    **settings: Any,
) -> EmbeddingFile:
    """Fill the embedding file ``out`` for a dataset folder, or finish or mend it, as `cinefuse extract` does.

    A model is a hub id, a folder, "mini" for one that ships with cinefuse, or None to leave its modality out.
    ``settings`` are the fields of `extract.job.settings.Settings` (dtype, device, precision, level, ...). Gives the
    open `EmbeddingFile`. Raises the classes of `cinefuse.errors`.
    """
    from .extract.job.extraction import extract

    chosen = Settings(text_model=text_model, image_model=image_model, **settings)
    extract(Path(dataset), Path(out), chosen, progress or TerminalProgress())
    return EmbeddingFile.open(out)


def train(
    dataset: str | Path,
    embeddings: str | Path | None,
    out: str | Path,
    config: Config | str = "best",
    *,
    split: str = "random:0.1",
    device: str = "auto",
    resume: bool = False,
    warm_start: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a run into the folder ``out`` and test it once, at the end, as `cinefuse fuse` does; gives the `Run`.

    ``config`` is a `Config` or the name of a preset. ``embeddings`` may be None where the config reads none. Raises the
    classes of `cinefuse.errors`.
    """
    from .fuse.runs.train import train as train_run
    from .fuse.settings.presets import preset

    progress = progress or TerminalProgress()
    run = train_run(
        Path(dataset),
        None if embeddings is None else Path(embeddings),
        Path(out),
        preset(config) if isinstance(config, str) else config,
        split=split,
        device=device,
        resume=resume,
        warm_start=None if warm_start is None else Path(warm_start),
        progress=progress,
    )
    for warning in run.summary.warnings:
        progress.message(f"warning: {warning}")
    return run
