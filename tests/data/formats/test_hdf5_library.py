"""The HDF5 library sees the file that the header describes, and a user gets embeddings, never stored codes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cinefuse.data.commands.cache import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.number_formats import Float32Rows, as_float32
from cinefuse.data.formats.hdf5_library import hdf5_problems, verify_by_hdf5_too
from cinefuse.data.formats.number_format import convert
from tests.support.embedding_files import GOLDEN, IMAGE_BFLOAT16, TEXT_AND_IMAGE, TEXT_INT8

FILES = sorted(GOLDEN.rglob("*.h5"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_hdf5_library_sees_what_the_header_says(path: Path) -> None:
    with EmbeddingFile.open(path, pending=True) as file:
        assert hdf5_problems(path, file.header) == []


@pytest.mark.parametrize(
    ("aspect", "change"),
    [("shape", {"shape": (2, 6)}), ("type", {"dtype": "bfloat16"}), ("offset", {"offset": 64})],
)
def test_a_dataset_that_hdf5_sees_otherwise_is_a_problem(aspect: str, change: dict) -> None:
    with EmbeddingFile.open(TEXT_AND_IMAGE) as file:
        other = replace(file.header.datasets["image/cls"], **change)
        header = replace(file.header, datasets=dict(file.header.datasets) | {"image/cls": other})
    (problem,) = [found for found in hdf5_problems(TEXT_AND_IMAGE, header) if found.where == "image/cls"]
    assert f"HDF5 sees the {aspect}" in problem.what


def test_a_dataset_that_only_one_of_both_names_is_a_problem() -> None:
    with EmbeddingFile.open(TEXT_AND_IMAGE) as file:
        fewer = {name: dataset for name, dataset in file.header.datasets.items() if name != "image/batch"}
        header = replace(file.header, datasets=fewer)
    assert [problem.where for problem in hdf5_problems(TEXT_AND_IMAGE, header)] == ["image/batch"]


def test_a_file_that_hdf5_cannot_open_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    path = Path(shutil.copy(TEXT_AND_IMAGE, tmp_path / "films.h5"))
    with EmbeddingFile.open(path) as file:
        header = file.header
    content = bytearray(path.read_bytes())
    content[header.user_block : header.user_block + header.metadata_length] = bytes(header.metadata_length)
    path.write_bytes(content)
    (problem,) = hdf5_problems(path, header)
    assert "the HDF5 library cannot read the file" in problem.what


def test_verify_asks_the_hdf5_library_too() -> None:
    assert verify_by_hdf5_too(IMAGE_BFLOAT16).complete
    shown = CliRunner().invoke(app, ["verify", str(IMAGE_BFLOAT16)])
    assert shown.exit_code == 0
    assert "sound" in shown.output


def test_h5_hands_out_the_file_of_h5py() -> None:
    with EmbeddingFile.open(TEXT_AND_IMAGE) as file, file.h5() as plain:
        assert plain.mode == "r"
        assert np.array_equal(plain["image/cls"][()], file.image.cls, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_cls_and_tokens_are_embeddings_whatever_is_stored(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "made.h5" if dtype != "float32" else GOLDEN / "text_float32.h5"
    if dtype != "float32":
        convert(GOLDEN / "text_float32.h5", path, dtype)
    with EmbeddingFile.open(path) as file, EmbeddingFile.open(GOLDEN / "text_float32.h5") as exact:
        text, theirs = file.text, exact.text
        for ours, values in ((text.cls, theirs.cls), (text.tokens, theirs.tokens)):
            assert ours.dtype == (np.float16 if dtype == "float16" else np.float32)
            assert ours.shape == values.shape
            assert np.allclose(np.asarray(ours), values, atol=0.3, equal_nan=True)
        there = np.flatnonzero(text.has_embedding)
        tokens, offsets = text.gather(there)
        assert tokens.dtype.kind == "f"
        for place, row in enumerate(there.tolist()):
            own = tokens[offsets[place] : offsets[place + 1]]
            assert np.array_equal(own, text.tokens_of(row))
            assert np.array_equal(own.astype(np.float32), text.read_tokens(row))
        mean = torch.as_tensor(np.array(text.cls[there])).float().mean(0)
        assert torch.allclose(mean, torch.from_numpy(theirs.cls[there].mean(0)), atol=0.2)


@pytest.mark.parametrize("path", [IMAGE_BFLOAT16, TEXT_INT8], ids=["bfloat16", "int8"])
def test_only_the_tokens_that_are_indexed_are_converted(path: Path) -> None:
    with EmbeddingFile.open(path) as file:
        modality = file[file.modalities[0]]
        tokens = modality.tokens
        assert isinstance(tokens, Float32Rows)
        whole = modality.read("tokens", 0, len(tokens))
        keys = [0, -1, slice(1, 4), slice(None, None, 2), np.array([2, 0]), [1], (slice(0, 3), 1), (2, slice(1, 3))]
        keys += [np.arange(len(tokens)) % 2 == 0, np.array([[0, 1], [2, 0]]), ..., (..., 0), (slice(None), None)]
        for key in keys:
            assert np.array_equal(tokens[key], whole[key], equal_nan=True), key
        assert np.array_equal(np.asarray(tokens), whole, equal_nan=True)
        assert np.array_equal(tokens * 2 + 1, whole * 2 + 1, equal_nan=True)
        assert np.array_equal(np.mean(tokens), np.mean(whole), equal_nan=True)


def test_the_raw_arrays_are_the_stored_ones() -> None:
    with EmbeddingFile.open(IMAGE_BFLOAT16) as file:
        assert file.image.raw_cls.dtype == np.uint16
        assert np.array_equal(as_float32(file.image.raw_cls, "bfloat16"), file.image.cls, equal_nan=True)
        assert np.shares_memory(file.image.raw_cls, file.raw_array("image/cls"))
    with EmbeddingFile.open(TEXT_INT8) as file:
        assert file.text.raw_tokens.dtype == np.int8
