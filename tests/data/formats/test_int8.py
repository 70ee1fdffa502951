"""Format version 2: int8 embeddings with a scale each are read as what they mean, by everybody, or refused."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.header import FIRST_LINE_LENGTH
from cinefuse.data.embeddings.number_formats import as_float32
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import DamagedFile
from cinefuse.fuse.inputs.tokens import TokenTable
from cinefuse.tests.golden.version2.make import make, steps
from cinefuse.tests.support.embedding_files import TEXT_INT8


def meaning(row: int) -> np.ndarray:
    """(1 + T_i, 4) float32: what row `row` of the golden file means, CLS first; it has 3 and 2 tokens in rows 0, 1."""
    values, scales = steps((4, 3)[row], 4, row)
    return values.astype(np.float32) * scales[:, None]


def test_the_golden_file_is_made_with_the_same_bytes_again(tmp_path: Path) -> None:
    make(tmp_path)
    assert (tmp_path / TEXT_INT8.name).read_bytes() == TEXT_INT8.read_bytes()


def test_every_way_of_reading_multiplies_by_the_scale() -> None:
    assert verify(TEXT_INT8).complete
    with EmbeddingFile.open(TEXT_INT8) as file:
        text = file.text
        for row in (0, 1):
            assert np.array_equal(text.read_cls(row), meaning(row)[0])
            assert np.array_equal(text.read_tokens(row), meaning(row)[1:])
        tokens, offsets = text.gather(np.array([1, 0]))
        assert tokens.dtype == np.float32
        assert np.array_equal(tokens, np.concatenate((meaning(1)[1:], meaning(0)[1:])))
        assert offsets.tolist() == [0, 2, 5]
        again, _ = text.gather(np.array([1, 0]), np.empty((7, 4), np.float32))
        assert np.array_equal(again, tokens)
        assert file.image.read_cls(0).tolist() == [-16.0, -15.75, -15.5]


def test_a_row_without_an_embedding_is_nan() -> None:
    with EmbeddingFile.open(TEXT_INT8) as file:
        assert not file.text.has_embedding[2:].any()
        assert np.isnan(file.text.read_cls(2)).all()
        assert np.isnan(file.text.read_tokens(3)).all()


def test_int8_is_never_taken_for_numbers_without_its_scales() -> None:
    with EmbeddingFile.open(TEXT_INT8) as file, pytest.raises(ValueError, match="need their scales"):
        as_float32(file.text.raw_cls, file.text.dtype)


def test_plain_h5py_reads_values_and_scales() -> None:
    with h5py.File(TEXT_INT8) as plain:
        assert plain.attrs["encoding-version"] == b"2"
        assert plain["text/cls"].dtype == np.int8
        values = plain["text/tokens"][:3] * plain["text/tokens_scale"][:3][:, None]
        assert np.array_equal(values, meaning(0)[1:])


def test_stage_two_reads_it() -> None:
    with EmbeddingFile.open(TEXT_INT8) as file:
        table = TokenTable(
            file.text, np.array([1, 2, 0]), level="tokens", dtype=torch.float32, device=torch.device("cpu")
        )
        batch = table.batch(np.array([0, 1, 2]))
        assert np.array_equal(batch.embeddings[0, :3].numpy(), meaning(1))
        assert np.array_equal(batch.embeddings[2].numpy(), meaning(0))
        assert batch.present.sum(1).tolist() == [3, 0, 4]


@pytest.mark.slow
def test_a_flipped_bit_in_any_byte_is_found(tmp_path: Path) -> None:
    path = Path(shutil.copy(TEXT_INT8, tmp_path))
    content, chance = bytearray(path.read_bytes()), random.Random(3)
    first = EmbeddingFile.open(path).header.datasets["items/id"].offset
    for byte in range(first, len(content)):
        bit = 1 << chance.randrange(8)
        content[byte] ^= bit
        path.write_bytes(content)
        try:
            silent = verify(path).complete
        except DamagedFile:
            silent = False
        assert not silent, byte
        content[byte] ^= bit


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0])
def test_a_scale_that_is_no_scale_is_named(tmp_path: Path, scale: float) -> None:
    path = Path(shutil.copy(TEXT_INT8, tmp_path))
    with EmbeddingFile.open(path) as file, RowWriter(file) as writer:
        values, scales = steps(4, 4, 0)
        scales[2] = scale
        writer.write("text", 0, values[0], values[1:], Status.OK, scales=scales)
    assert [problem.row for problem in verify(path).problems] == [0]


def test_the_value_that_has_no_negative_is_named(tmp_path: Path) -> None:
    path = Path(shutil.copy(TEXT_INT8, tmp_path))
    with EmbeddingFile.open(path) as file, RowWriter(file) as writer:
        values, scales = steps(4, 4, 0)
        values[1, 1] = -128
        writer.write("text", 0, values[0], values[1:], Status.OK, scales=scales)
    assert "-128" in str(verify(path).problems[0])


def test_rows_of_int8_are_not_written_without_scales_nor_others_with_them(tmp_path: Path) -> None:
    path = Path(shutil.copy(TEXT_INT8, tmp_path))
    values, scales = steps(4, 4, 0)
    halves = np.ones((5, 3), np.float16)
    with EmbeddingFile.open(path) as file, RowWriter(file) as writer:
        with pytest.raises(ValueError, match="expected scales with int8 and with nothing else"):
            writer.write("text", 0, values[0], values[1:], Status.OK)
        with pytest.raises(ValueError, match="expected scales with int8 and with nothing else"):
            writer.write("image", 0, halves[0], halves[1:], Status.OK, scales=np.ones(5, np.float32))
        with pytest.raises(ValueError, match="expected 4 float32 scales"):
            writer.write("text", 0, values[0], values[1:], Status.OK, scales=scales[1:])
    assert path.read_bytes() == TEXT_INT8.read_bytes()


def rewritten(version: int, edit: dict[str, str]) -> bytes:
    """The golden file's bytes with a header of that version, in which names or dtypes are exchanged."""
    content = TEXT_INT8.read_bytes()
    _, _, user_block, length, _ = content[:FIRST_LINE_LENGTH].split()
    text = content[FIRST_LINE_LENGTH : FIRST_LINE_LENGTH + int(length)].decode()
    for old, new in edit.items():
        assert old in text
        text = text.replace(old, new, 1)
    json.loads(text)
    line = b"CINEFUSE %03d %s %08d %s\n" % (
        version, user_block, len(text), hashlib.sha256(text.encode()).hexdigest().encode(),
    )  # fmt: skip
    block = (line + text.encode()).ljust(int(user_block) - 1) + b"\n"
    return block + content[int(user_block) :]


@pytest.mark.parametrize(
    ("version", "edit", "told"),
    [
        (1, {}, "expected format version 2 for what it holds, found 1"),
        (3, {}, "expected format version 2 for what it holds, found 3"),
        (2, {'"text/cls_scale", "float32"': '"text/cls_scale", "int32"'}, "expected text/cls_scale as float32"),
        (2, {'"text/tokens", "int8"': '"text/tokens", "uint8"'}, "expected text/tokens as int8"),
        (2, {'"text/tokens_scale"': '"text/other_scale"'}, "expected the datasets"),
        (2, {'"image/status", "uint8"': '"image/status", "int8"'}, "expected image/status as uint8"),
    ],
)
def test_a_header_that_is_not_version_2_is_refused(tmp_path: Path, version: int, edit: dict, told: str) -> None:
    path = tmp_path / "films.h5"
    path.write_bytes(rewritten(version, edit))
    with pytest.raises(DamagedFile, match=told):
        EmbeddingFile.open(path)


def test_the_untouched_rewriting_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "films.h5"
    path.write_bytes(rewritten(2, {}))
    assert verify(path).complete
