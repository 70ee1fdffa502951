"""Paths are taken as they are: a folder whose name looks like a pattern works from the tables to the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cinefuse import open_dataset
from cinefuse.tests.support.commands import Run

QUICK = ["--set", "adapt=false", "--set", "factor_steps=4", "--set", "members=1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where everything lies."""
    folder = tmp_path / "films [v1] *?"
    folder.mkdir()
    return folder


def write_tables(folder: Path) -> None:
    random = np.random.default_rng(0)
    item = np.arange(30)
    texts = [f"A story of {number} friends who lose a war" for number in item]
    pl.DataFrame({"item_id": item, "title": [f"T{n}" for n in item], "text": texts}).write_csv(folder / "items.csv")
    user, rated = (places.ravel() for places in np.meshgrid(np.arange(40), item, indexing="ij"))
    kept = random.random(len(user)) < 0.5
    table = pl.DataFrame({"user_id": user[kept], "item_id": rated[kept]})
    table = table.with_columns(pl.Series("rating", random.integers(1, 6, len(table))))
    table.write_csv(folder / "ratings.csv")
    table.write_parquet(folder / "ratings.parquet")
    table.head(5).select("user_id", "item_id").write_csv(folder / "pairs.csv")
    table.head(200).with_row_index("row").select("row").write_parquet(folder / "test.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(run: Run, folder: Path, suffix: str) -> None:
    write_tables(folder)
    dataset, out = folder / "dataset", folder / "run"
    tables = ["--items", folder / "items.csv", "--ratings", folder / f"ratings.{suffix}"]
    split = ["--split", f"file:{folder / 'test.parquet'}"]
    commands: list[list[object]] = [
        ["data", "import", "table", dataset, *tables],
        ["data", "info", dataset],
        ["extract", dataset, folder / "cache.h5", "--text-model", "mini", "--device", "cpu"],
        ["cache", "verify", folder / "cache.h5"],
        ["cache", "browse", folder / "cache.h5", "--dataset", dataset],
        ["fuse", dataset, folder / "cache.h5", out, *split, *QUICK],
        ["evaluate", out],
        ["predict", out, folder / "pairs.csv", "--out", folder / "predicted.parquet"],
        ["recommend", out, "--user", "1"],
        ["report", out],
        ["export", out, folder / "vectors", "--approximate"],
    ]
    for command in commands:
        ended = run(*command)
        assert ended.code == 0, (command, ended.err)
    assert len(open_dataset(dataset).ratings) == len(pl.read_parquet(folder / "ratings.parquet", glob=False))
    assert len(pl.read_parquet(folder / "predicted.parquet", glob=False)) == 5
