"""Switch off the inputs of a config that the dataset or the embedding file lacks, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from ...data.dataset.catalog import Catalog
from ...data.embeddings.file import EmbeddingFile
from ..settings.config import Config, Modalities
from .side_information import side_columns
from .tags import ItemTags

_EMBEDDINGS = {"text": "plot embeddings", "image": "poster embeddings"}


def with_available_inputs(config: Config, dataset: Path, file: EmbeddingFile | None) -> tuple[Config, list[str]]:
    """The config without the inputs that a dataset folder and an embedding file lack, and the names of these inputs.

    ``modalities`` auto becomes those of the file. Genres and years, tags and demographics become false where the
    dataset has none. Modalities that are asked for by name stay: `load_training_data` refuses them if they are absent.
    """
    absent: list[str] = []
    if config.modalities == "auto":
        config, absent = _with_modalities_of(config, file)
    items = Catalog.open(dataset).items
    if config.genres:
        lacking = [
            name
            for name, there in (
                ("genres", items["genres"].list.len().sum()),
                ("years", items["year"].count()),
            )
            if not there
        ]
        absent += lacking
        config = replace(config, genres=len(lacking) < 2)
    if config.tags and not _has_tags(items):
        absent.append("tags")
        config = replace(config, tags=False)
    if config.demographics and not side_columns(dataset)["user"]:
        absent.append("demographics")
        config = replace(config, demographics=False)
    return config, absent


def _with_modalities_of(config: Config, file: EmbeddingFile | None) -> tuple[Config, list[str]]:
    there = () if file is None else file.modalities
    lacking = [name for name in _EMBEDDINGS if name not in there]
    modalities: Modalities = "both" if not lacking else "text" if "text" in there else "image" if there else "none"
    absent = ["plot and poster embeddings"] if len(lacking) == 2 else [_EMBEDDINGS[name] for name in lacking]
    if file is None:
        absent = [f"{absent[0]} (no embedding file is given)"]
    return replace(config, modalities=modalities), absent


def _has_tags(items: pl.DataFrame) -> bool:
    return bool(ItemTags.read(items).names)
