"""Format version 3: an item's vector that is no position of its encoder, or is of another width than tokens."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
import torch

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.exports.export import write_as
from cinefuse.data.formats.number_format import convert
from cinefuse.data.runtime.errors import DamagedFile, FingerprintMismatch
from cinefuse.data.sharing.data_card import card
from cinefuse.data.sharing.diff import diff
from cinefuse.data.sharing.merge import merge
from cinefuse.data.sharing.selection import Selection
from cinefuse.data.sharing.subset import subset
from cinefuse.embedding_dataset import EmbeddingDataset
from cinefuse.fuse.inputs.components import mean_tokens
from cinefuse.fuse.inputs.tokens import TokenTable
from cinefuse.tests.golden.version3.make import make
from cinefuse.tests.support.embedding_files import GOLDEN, TEXT_AND_IMAGE

FLOAT16, INT8 = GOLDEN / "version3" / "text_image_float16.h5", GOLDEN / "version3" / "image_int8.h5"
BOTH = pytest.mark.parametrize("path", [FLOAT16, INT8], ids=lambda path: path.stem)


def first_line(path: Path) -> bytes:
    return path.read_bytes()[:12]


@BOTH
def test_the_golden_files_are_made_with_the_same_bytes_again(path: Path, tmp_path: Path) -> None:
    make(tmp_path)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert first_line(path) == b"CINEFUSE 003"


def test_vectors_and_tokens_have_their_own_widths() -> None:
    with EmbeddingFile.open(FLOAT16) as file:
        assert (file.text.width, file.text.token_width, file.text.has_cls_position) == (4, 4, False)
        assert (file.image.width, file.image.token_width, file.image.has_cls_position) == (3, 5, True)
        assert file.image.read_cls(1).tolist() == [-13.5, -13.25, -13.0]
        assert file.image.read_tokens(0).shape == (4, 5)
        tokens, offsets = file.image.gather(np.array([1, 0]))
        assert (tokens.shape, offsets.tolist()) == ((8, 5), [0, 4, 8])
        assert np.array_equal(tokens[:4], file.image.tokens_of(1))
    assert verify(FLOAT16).complete
    assert verify(INT8).complete


@BOTH
def test_plain_h5py_sees_the_same_arrays(path: Path) -> None:
    with EmbeddingFile.open(path) as file, h5py.File(path) as plain:
        for name in file.header.datasets:
            assert np.array_equal(plain[name][()], file.raw_array(name), equal_nan=plain[name].dtype.kind == "f"), name
        assert plain.attrs["encoding-version"] == b"3"
        assert b"pooling" in plain["image/cls"].attrs["description"]


@pytest.mark.parametrize("part", ["cls", "tokens"])
@BOTH
def test_a_flipped_bit_is_found_in_the_row_that_holds_it(path: Path, part: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.h5"
    shutil.copy(path, damaged)
    with EmbeddingFile.open(path) as file:
        modality, dataset = file.image, file.header.datasets[f"image/{part}"]
        stride = dataset.length // dataset.shape[0]
        place = dataset.offset + stride * (1 if part == "cls" else int(modality.offsets[1]))
    raw = bytearray(damaged.read_bytes())
    raw[place] ^= 1
    damaged.write_bytes(raw)
    assert verify(damaged).damaged_rows("image") == [1]


def test_version_1_with_two_widths_is_refused(tmp_path: Path) -> None:
    lying = tmp_path / "lying.h5"
    lying.write_bytes(FLOAT16.read_bytes().replace(b"CINEFUSE 003", b"CINEFUSE 001", 1))
    with pytest.raises(DamagedFile, match="format version 3"):
        EmbeddingFile.open(lying)
    lying.write_bytes(TEXT_AND_IMAGE.read_bytes().replace(b"CINEFUSE 001", b"CINEFUSE 003", 1))
    with pytest.raises(DamagedFile, match="format version 1"):
        EmbeddingFile.open(lying)


def test_a_subset_keeps_both_widths_and_of_cls_alone_stays_version_3(tmp_path: Path) -> None:
    subset(FLOAT16, tmp_path / "few.h5", Selection(modalities=("image",), level="tokens", ids=[-5]))
    subset(FLOAT16, tmp_path / "cls.h5", Selection(modalities=("image",), level="cls", ids=None))
    with EmbeddingFile.open(FLOAT16) as whole, EmbeddingFile.open(tmp_path / "few.h5") as few:
        assert np.array_equal(few.image.tokens_of(0), whole.image.tokens_of(1))
        assert np.array_equal(few.image.cls[0], whole.image.cls[1])
    with EmbeddingFile.open(tmp_path / "cls.h5") as file:
        assert (file.image.width, file.image.token_width, len(file.image.tokens)) == (3, 5, 0)
    for name in ("few.h5", "cls.h5"):
        assert first_line(tmp_path / name) == b"CINEFUSE 003"
        assert verify(tmp_path / name).complete


def test_parts_are_merged_and_files_of_another_pooling_are_not(tmp_path: Path) -> None:
    for name in ("text", "image"):
        subset(FLOAT16, tmp_path / f"{name}.h5", Selection(modalities=(name,), level="tokens", ids=None))
    merge([tmp_path / "text.h5", tmp_path / "image.h5"], tmp_path / "merged.h5")
    assert not diff(FLOAT16, tmp_path / "merged.h5").rows
    subset(TEXT_AND_IMAGE, tmp_path / "other.h5", Selection(modalities=("image",), level="tokens", ids=[1]))
    with pytest.raises(FingerprintMismatch, match="pooling"):
        merge([tmp_path / "image.h5", tmp_path / "other.h5"], tmp_path / "no.h5")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_it_converts_to_every_number_format(dtype: str, tmp_path: Path) -> None:
    convert(FLOAT16, tmp_path / "other.h5", dtype)
    assert verify(tmp_path / "other.h5").complete
    with EmbeddingFile.open(FLOAT16) as file, EmbeddingFile.open(tmp_path / "other.h5") as other:
        assert np.allclose(other.image.read_cls(1), file.image.read_cls(1), atol=0.1)
        assert np.allclose(other.image.read_tokens(1), file.image.read_tokens(1), atol=0.1)


@pytest.mark.parametrize("to", ["parquet", "npy", "safetensors"])
def test_it_is_exported(to: str, tmp_path: Path) -> None:
    out = tmp_path / ("out.safetensors" if to == "safetensors" else "out")
    write_as(FLOAT16, out, to)
    if to == "parquet":
        table = pl.read_parquet(out / "part-00000.parquet")
        assert table["image_cls"][0].len() == 3
        assert table["image_tokens"][0][0].len() == 5
    if to == "npy":
        assert np.load(out / "image_tokens.npy").shape == (16, 5)


def test_the_card_names_the_pooling_and_both_widths() -> None:
    text = card(FLOAT16)
    assert "| pooling | last | projection |" in text
    assert "float16 x 3, tokens 5" in text
    assert "pooling | CLS" in card(TEXT_AND_IMAGE)


def test_stage_two_reads_tokens_with_their_mean_in_place_of_a_vector_of_another_width() -> None:
    with EmbeddingFile.open(FLOAT16) as file:
        rows = np.array([0, 1])
        options = {"dtype": torch.float32, "device": torch.device("cpu")}
        tokens = TokenTable(file.image, rows, level="tokens", **options).batch(rows).embeddings
        assert tokens.shape == (2, 5, 5)
        assert torch.allclose(tokens[:, 0], tokens[:, 1:].mean(1))
        vectors = TokenTable(file.image, rows, level="cls", **options).batch(rows).embeddings
        assert vectors[1, 0].tolist() == file.image.read_cls(1).tolist()
        assert mean_tokens(file.image, rows).shape == (2, 5)
    item = EmbeddingDataset(FLOAT16)[2]
    assert (item["image_cls"].shape, item["image_tokens"].shape) == ((3,), (0, 5))
