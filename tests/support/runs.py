"""Small runs for tests: quick settings, datasets of given ratings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from cinefuse.data.dataset.folder import ITEM_COLUMNS, Description
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.settings.presets import preset

SMALL: dict[str, Any] = {
    "width": 16,
    "attention_heads": 2,
    "epochs": 2,
    "batch_items": 20,
    "factor_steps": 16,
    "precision": "fp32",
}
"""Of a Transformer and factors that train in a second; several batches an epoch."""

L2_BY_HAND = tuple(f"l2.{name}=1" for name in ("scale", "implicit_items", "implicit_items_bias", "user_bias"))
"""Settings other than the presets', which an adaptive run doesn't search for: it tries a third of the trainings."""

KINDS = {
    "squared": [],
    "two members": ["members=2"],
    "ordinal": ["head=ordinal"],
    "two ordinal": ["head=ordinal", "members=2"],
}
"""Settings of the runs that predict in their own ways."""


def small_config(name: str, **changes: Any) -> Config:
    """A preset in a small size that trains all its steps on all training ratings, with these changes."""
    config = preset(name)
    sizes = {"dim": min(config.dim, 4), "text_components": min(config.text_components, 3)}
    return replace(config, **(SMALL | sizes | {"validation": 0.0, "patience": 0, "adapt": False} | changes))


def train_factors(
    dataset: Path, out: Path, *settings: str, preset_name: str = "mf", split: str = "random:0.2", steps: int = 40
) -> Run:
    """A run without embeddings that takes a fraction of a second."""
    quick = [f"factor_steps={steps}", "epochs=2", "objective=rating", *settings]
    return train(dataset, None, out, preset(preset_name).with_settings(quick), split=split)


def write_dataset(folder: Path, ratings: pl.DataFrame, items: list[int] | list[str]) -> Path:
    """A dataset folder of these ratings (user_id, item_id, rating) and of items that have titles alone."""
    folder.mkdir()
    Description("made by a test").write(folder)
    ids = pl.Series("item_id", items)
    nothing = {name: pl.Series([None] * len(ids), dtype=kind) for name, kind in ITEM_COLUMNS.items()}
    table = pl.DataFrame({**nothing, "item_id": ids, "title": [f"Film {item}" for item in items]})
    table.write_parquet(folder / "items.parquet")
    ratings.with_columns(pl.col("rating").cast(pl.Float32)).write_parquet(folder / "ratings.parquet")
    return folder
