"""Laws of the public API: importing it is cheap, each name means one thing, and both stages run from Python."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from torch.utils.data import DataLoader

import cinefuse
from cinefuse.fuse.settings.presets import preset
from cinefuse.tests.conftest import Encoders


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_cinefuse_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'polars', 'numpy', 'transformers', 'typer', 'rich', 'h5py'}"
    assert run(f"import sys, cinefuse; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_a_name_means_the_same_whatever_was_imported_before() -> None:
    show = "print([(name, str(getattr(cinefuse, name))[:60].split(' at 0x')[0]) for name in cinefuse.__all__])"
    parts = (
        "import cinefuse.extract, cinefuse.fuse, cinefuse.data, cinefuse.fuse.runs.train, cinefuse.api, cinefuse.cli"
    )
    assert run(f"import cinefuse; {show}") == run(f"{parts}; import cinefuse; {show}")


@pytest.mark.parametrize("name", cinefuse.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert name in dir(cinefuse)
    assert getattr(cinefuse, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'cinefuse' has no attribute 'embeddings_of'"):
        _ = cinefuse.embeddings_of


def test_both_stages_run_from_python_with_paths_as_text(sample: Path, encoders: Encoders, tmp_path: Path) -> None:
    models = {"text_model": str(encoders.text), "image_model": str(encoders.image)}
    with cinefuse.extract_embeddings(str(sample), str(tmp_path / "films.h5"), **models, device="cpu") as file:
        assert len(file.ids) == len(cinefuse.open_dataset(str(sample)).items) == 40
    config = replace(preset("mf"), epochs=1, factor_steps=10, dim=4)
    trained = cinefuse.train(str(sample), None, str(tmp_path / "run"), config, device="cpu")
    assert repr(trained).startswith(f"Run({str(tmp_path / 'run')!r}, preset='mf', split='random:0.1', rmse=")
    assert repr(cinefuse.Run.open(str(tmp_path / "run"))) == repr(trained)
    user = cinefuse.open_dataset(sample).ratings["user_id"][0]
    assert isinstance(cinefuse.recommend(trained, user, k=3), pl.DataFrame)


def test_a_dataset_without_ratings_says_so(own_sample: Path) -> None:
    (own_sample / "ratings.parquet").unlink()
    with pytest.raises(cinefuse.errors.BadInput, match=r"has no ratings: ratings.parquet is not there"):
        _ = cinefuse.open_dataset(own_sample).ratings


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_gets_every_item_with_its_own_writable_tensors(embeddings: Path, workers: int) -> None:
    dataset = cinefuse.EmbeddingDataset(embeddings)
    loader = DataLoader(
        dataset,
        batch_size=7,
        collate_fn=cinefuse.collate,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    seen = []
    with cinefuse.EmbeddingFile.open(embeddings) as file:
        for batch in loader:
            for place, item_id in enumerate(batch["item_id"]):
                row = int(file.rows([item_id])[0])
                for name in ("text", "image"):
                    present, cls = bool(batch[f"{name}_present"][place]), batch[f"{name}_cls"][place]
                    tokens = batch[f"{name}_tokens"][place][batch[f"{name}_mask"][place]]
                    assert present == bool(file[name].has_embedding[row])
                    if present:
                        torch.testing.assert_close(cls, torch.from_numpy(file[name].read_cls(row)))
                        torch.testing.assert_close(tokens, torch.from_numpy(file[name].read_tokens(row)))
                    else:
                        assert len(tokens) == 0
                        assert not cls.any()
                    cls += 1  # a read-only view of the file would warn or crash here
            seen += batch["item_id"]
        assert seen == file.ids.tolist()
