"""Verification: no changed byte goes unnoticed, and each damaged row is named."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cinefuse.data.embeddings import verification as verify_module
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter, nan, row_checksum
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import damaged_constants, intact_rows, verify
from cinefuse.data.runtime.errors import DamagedFile

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(params=["text_image_float16.h5", "image_bfloat16.h5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A finished file of four rows that a test may damage."""
    return Path(shutil.copy(GOLDEN / request.param, tmp_path))


@pytest.fixture
def raw(path: Path) -> Iterator[int]:
    """A descriptor of that file."""
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def is_silent(path: Path) -> bool:
    """Whether neither opening nor verifying notices anything."""
    try:
        return verify(path).complete
    except DamagedFile:
        return False


def flip(raw: int, byte: int, bit: int) -> None:
    os.pwrite(raw, bytes((os.pread(raw, 1, byte)[0] ^ 1 << bit,)), byte)


@pytest.mark.slow
def test_a_flipped_bit_in_any_byte_is_found(path: Path, raw: int) -> None:
    chance = random.Random(1)
    assert is_silent(path)
    for byte in range(path.stat().st_size):
        bit = chance.randrange(8)
        flip(raw, byte, bit)
        assert not is_silent(path), f"bit {bit} of byte {byte}"
        flip(raw, byte, bit)
    assert is_silent(path)


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.torture)])
def test_random_flipped_bits_are_found(path: Path, raw: int, count: int) -> None:
    chance = random.Random(2)
    size = path.stat().st_size
    first = EmbeddingFile.open(path).header.datasets["items/id"].offset
    for turn in range(count):
        # every other one among the arrays, which are the smaller part of this small file
        byte, bit = chance.randrange(first if turn % 2 else 0, size), chance.randrange(8)
        flip(raw, byte, bit)
        assert not is_silent(path), f"bit {bit} of byte {byte}"
        flip(raw, byte, bit)


@pytest.mark.slow
def test_every_truncation_is_refused(path: Path, raw: int) -> None:
    for length in reversed(range(path.stat().st_size)):
        os.truncate(raw, length)
        with pytest.raises(DamagedFile):
            EmbeddingFile.open(path)


@pytest.mark.parametrize("tail", [b"\0", b"x" * 63, b"\0" * 4096])
def test_appended_bytes_are_refused(path: Path, tail: bytes) -> None:
    with path.open("ab") as file:
        file.write(tail)
    with pytest.raises(DamagedFile, match="cut short or has grown"):
        EmbeddingFile.open(path)


@pytest.mark.parametrize("part", ["cls", "tokens", "status", "reason", "checksum"])
def test_damage_in_one_row_names_its_dataset_row_and_item_and_only_it(path: Path, raw: int, part: str) -> None:
    with EmbeddingFile.open(path) as file:
        dataset, item = file.header.datasets[f"image/{part}"], file.ids[3]
        stride = dataset.length // dataset.shape[0]
        row_of_tokens = int(file.image.offsets[3])
    flip(raw, dataset.offset + (row_of_tokens if part == "tokens" else 3) * stride, 3)
    report = verify(path)
    assert [(problem.row, problem.item) for problem in report.problems] == [(3, item)]
    assert report.problems[0].where.startswith("image/")
    assert f"row 3 (item {item})" in str(report.problems[0])
    assert report.damaged_rows("image") == [3]
    assert report.damaged_rows("text") == []
    with EmbeddingFile.open(path, pending=True) as file:
        assert intact_rows(file, "image").tolist() == [True, True, True, False]


def test_a_row_that_turned_pending_is_named(path: Path, raw: int) -> None:
    status = EmbeddingFile.open(path).header.datasets["image/status"]
    os.pwrite(raw, b"\0", status.offset)
    report = verify(path)
    assert report.damaged_rows("image") == [0]
    assert report.pending["image"] == 1
    with pytest.raises(DamagedFile, match="1 image rows still pending"):
        EmbeddingFile.open(path)


def test_a_row_without_a_checksum_is_pending_not_damaged(path: Path, raw: int) -> None:
    checksum = EmbeddingFile.open(path).header.datasets["image/checksum"]
    os.pwrite(raw, bytes(8), checksum.offset + 16)
    report = verify(path)
    assert report.sound
    assert not report.complete
    with EmbeddingFile.open(path, pending=True) as file:
        assert intact_rows(file, "image").tolist() == [True, True, False, True]


@pytest.mark.parametrize("part", ["items/id", "image/offsets", "image/digest", "image/batch"])
def test_damage_in_what_every_row_depends_on_names_the_dataset(path: Path, raw: int, part: str) -> None:
    with EmbeddingFile.open(path) as file:
        dataset = file.header.datasets[part]
    flip(raw, dataset.offset + 8, 0)
    try:
        report = verify(path)
    except DamagedFile as refusal:
        assert part in str(refusal)  # noqa: PT017
    else:
        assert part in {problem.where for problem in report.problems}
        assert damaged_constants(EmbeddingFile.open(path)) == [part]


def put_row(path: Path, cls: np.ndarray, tokens: np.ndarray, status: int, reason: int) -> None:
    """Row 0 of image, with a right checksum, whatever it says."""
    with EmbeddingFile.open(path) as file, RowWriter(file) as writer:
        writer._put("image/cls", 0, cls.tobytes())
        writer._put("image/tokens", 0, tokens.tobytes())
        writer._put("image/status", 0, bytes((status,)))
        writer._put("image/reason", 0, bytes((reason,)))
        checksum = row_checksum(cls, tokens, status, reason)
        writer._put("image/checksum", 0, checksum.to_bytes(8, "little"))


@pytest.mark.parametrize(
    ("poison", "status", "reason", "told"),
    [
        ("NaN", Status.OK, Reason.NONE, "NaN or Inf in an embedding"),
        ("Inf", Status.TRUNCATED, Reason.TOO_LONG, "NaN or Inf in an embedding"),
        ("-Inf", Status.OK, Reason.NONE, "NaN or Inf in an embedding"),
        ("number", Status.MISSING, Reason.NOT_GIVEN, "expected NaN throughout for status MISSING"),
        ("number", Status.FAILED, Reason.BROKEN_IMAGE, "expected NaN throughout for status FAILED"),
        ("number", 77, Reason.NONE, "unknown status 77"),
        ("number", Status.OK, 200, "reason 200"),
    ],
)
@pytest.mark.parametrize("place", ["cls", "tokens"])
def test_a_row_that_breaks_the_rules_under_a_right_checksum_is_found(
    path: Path, poison: str, status: int, reason: int, told: str, place: str
) -> None:
    with EmbeddingFile.open(path) as file:
        width, dtype, length = file.image.width, file.image.dtype, len(file.image.tokens_of(0))
    infinity = {"float16": 0x7C00, "bfloat16": 0x7F80}[dtype]
    bits = {"NaN": infinity + 1, "Inf": infinity, "-Inf": infinity | 0x8000, "number": 0}[poison]
    content = np.zeros((1 + length, width), np.uint16)
    if poison == "number" and status in (Status.MISSING, Status.FAILED):
        content[:] = nan((1 + length, width), dtype).view(np.uint16)
    content[0 if place == "cls" else -1, -1] = bits
    put_row(path, content[0], content[1:], status, reason)
    report = verify(path)
    assert [problem.row for problem in report.problems] == [0]
    assert told in report.problems[0].what


def test_a_byte_between_datasets_is_no_hiding_place(path: Path, raw: int) -> None:
    with EmbeddingFile.open(path) as file:
        dataset = file.header.datasets["image/status"]
    os.pwrite(raw, b"x", dataset.offset + dataset.length)
    assert [problem.where for problem in verify(path).problems] == ["image/reason"]


def test_progress_is_told_every_byte_of_arrays_once(path: Path) -> None:
    told: list[int] = []
    verify(path, told.append)
    with EmbeddingFile.open(path) as file:
        small = ("status", "reason", "checksum")
        expected = sum(d.length for name, d in file.header.datasets.items() if name.split("/")[1] not in small)
    assert sum(told) == expected


def test_a_missing_file_is_bad_input_and_a_foreign_one_damaged(tmp_path: Path) -> None:
    from cinefuse.data.runtime.errors import BadInput

    with pytest.raises(BadInput, match="no such embedding file"):
        verify(tmp_path / "none.h5")
    for name, content in {"empty.h5": b"", "text.h5": b"hello\n" * 99, "zip.h5": b"PK\3\4" + bytes(20000)}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedFile, match="expected a cinefuse embedding file"):
            verify(tmp_path / name)
    with pytest.raises(DamagedFile, match="cannot be read"):
        verify(tmp_path)


def test_rows_longer_than_the_buffer_are_read_whole(path: Path, raw: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "_BLOCK", 64)
    assert verify(path).complete
    with EmbeddingFile.open(path) as file:
        dataset = file.header.datasets["image/tokens"]
        last_of_row_1 = dataset.offset + int(file.image.offsets[2]) * (dataset.length // dataset.shape[0]) - 1
    flip(raw, last_of_row_1, 0)
    assert verify(path).damaged_rows("image") == [1]


@pytest.mark.parametrize(
    ("answer", "told"),
    [(0, "it became shorter"), (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error")],
    ids=str,
)
def test_a_file_that_cannot_be_read_to_its_end_is_refused_in_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, answer: int | OSError, told: str
) -> None:
    def preadv(*_: object) -> int:
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(DamagedFile, match=rf"cannot be read to its end \({told}\)"):
        verify(path)


def test_a_file_moved_away_while_it_is_open_is_refused(path: Path) -> None:
    with EmbeddingFile.open(path) as file:
        path.rename(path.with_suffix(".moved"))
        with pytest.raises(DamagedFile, match="cannot be read again"):
            intact_rows(file, "image")
