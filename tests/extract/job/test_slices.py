"""Laws of slices: part files of one plan that together are the file of one machine, byte for byte."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Status
from cinefuse.data.embeddings.verification import intact_rows, verify
from cinefuse.data.runtime.errors import CinefuseError, FingerprintMismatch, UsageError
from cinefuse.extract.job import batch as batch_module
from cinefuse.extract.job import extraction
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.extract.job.slices import Slice
from cinefuse.tests.support.forked import ForkedCommands


@pytest.fixture(scope="module")
def settings(small_batches: Settings) -> Settings:
    return replace(small_batches, dtype="float16")


@pytest.fixture(scope="module")
def whole(sample: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of one machine; read it, never write into it."""
    out = tmp_path_factory.mktemp("whole") / "whole.h5"
    extract(sample, out, settings)
    return out


@pytest.fixture(scope="module")
def parts(sample: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The part files of three slices; read them, never write into them."""
    folder = tmp_path_factory.mktemp("parts")
    for number in (1, 2, 3):
        extract(sample, folder / f"{number}.h5", settings, share=Slice(number, 3))
    return [folder / f"{number}.h5" for number in (1, 2, 3)]


def merge(out: Path, *parts: Path) -> subprocess.CompletedProcess[str]:
    """`cinefuse cache merge`, as a user types it."""
    command = [Path(sys.executable).with_name("cinefuse"), "cache", "merge", *parts, out]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_merged_parts_are_the_file_of_one_machine_byte_for_byte(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    merged = merge(tmp_path / "merged.h5", *reversed(parts))
    assert merged.returncode == 0, merged.stderr
    assert (tmp_path / "merged.h5").read_bytes() == whole.read_bytes()


def test_every_row_is_in_exactly_one_part_and_all_parts_have_the_header_of_the_whole(
    whole: Path, parts: list[Path]
) -> None:
    with EmbeddingFile.open(whole) as file:
        for name in file.modalities:
            written = [intact_rows(EmbeddingFile.open(part, pending=True), name) for part in parts]
            assert (np.sum(written, axis=0) == 1).all()
            for rows in written:
                assert rows.any()
        for part in parts:
            with EmbeddingFile.open(part, pending=True) as opened:
                assert opened.header == file.header
            assert verify(part).sound


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_slices_deal_every_row_once_and_never_part_a_batch(count: int) -> None:
    batch = np.array([0, -1, 2, 0, 1, 1, -1, 5, 4, 3, 2, -1], np.int32)
    dealt = np.array([Slice(number, count).rows(batch) for number in range(1, count + 1)])
    assert (dealt.sum(0) == 1).all()
    owner = dealt.argmax(0)
    for number in range(6):
        assert len(set(owner[batch == number].tolist())) == 1


def test_a_part_takes_the_disk_of_its_own_rows_alone(sample: Path, encoders: Any, tmp_path: Path) -> None:
    settings = Settings(
        text_model=None, image_model=str(encoders.image), device="cpu", precision="fp32", dtype="float32",
        batch_posters=1, template="{text}",
    )  # fmt: skip
    from cinefuse.tests.support.untrained_encoders import write_untrained_image_encoder

    write_untrained_image_encoder(tmp_path / "wide", width=96, layers=1, size=224)  # 75 kB a poster
    settings = replace(settings, image_model=str(tmp_path / "wide"))
    extract(sample, tmp_path / "part.h5", settings, share=Slice(2, 8))
    status = (tmp_path / "part.h5").stat()
    assert status.st_blocks * 512 < status.st_size / 4


def test_a_slice_that_stopped_goes_on_without_doing_anything_twice(
    sample: Path, settings: Settings, parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, encode = tmp_path / "part.h5", batch_module.encode_for_storage
    encoded: list[int] = []

    def stopping(feed: Any, inputs: list[Any], dtype: str) -> Any:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(inputs))
        return encode(feed, inputs, dtype)

    monkeypatch.setattr(batch_module, "encode_for_storage", stopping)
    with pytest.raises(CinefuseError, match="run the same command again"):
        extract(sample, out, settings, share=Slice(1, 3))
    assert not out.exists()
    monkeypatch.undo()
    summary = extract(sample, out, settings, share=Slice(1, 3))
    with EmbeddingFile.open(parts[0], pending=True) as part:
        to_embed = sum(int(part[name].has_embedding.sum()) for name in part.modalities)
    assert sum(outcome.encoded for outcome in summary.outcomes) == to_embed - sum(encoded)
    assert out.read_bytes() == parts[0].read_bytes()


def test_a_slice_begun_in_small_batches_joins_its_own_alone_where_the_device_wants_large_ones(
    sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, encode = tmp_path / "part.h5", batch_module.encode_for_storage
    encoded: list[int] = []

    def stopped(feed: Any, inputs: list[Any], dtype: str) -> Any:
        raise KeyboardInterrupt

    def noted(feed: Any, inputs: list[Any], dtype: str) -> Any:
        encoded.append(len(inputs))
        return encode(feed, inputs, dtype)

    monkeypatch.setattr(batch_module, "encode_for_storage", stopped)
    with pytest.raises(CinefuseError, match="run the same command again"):
        extract(sample, out, replace(settings, batch_tokens=64, batch_posters=1), share=Slice(1, 3))
    monkeypatch.setattr(batch_module, "encode_for_storage", noted)
    monkeypatch.setattr(extraction, "wants_large_batches", lambda kind: True)  # as on a GPU
    extract(sample, out, settings, share=Slice(1, 3))
    with EmbeddingFile.open(out, pending=True) as part:
        inputs = [np.unique(part[name].digest[part[name].has_embedding], axis=0) for name in part.modalities]
    assert sum(encoded) == sum(map(len, inputs)), "rows of other slices were encoded"
    assert max(encoded) > 1, "no batches were joined"


def test_a_slice_killed_at_random_is_finished_by_the_same_command(
    forked: ForkedCommands, sample: Path, encoders: Any, whole: Path, parts: list[Path], tmp_path: Path
) -> None:
    """Real processes, real SIGKILL, the real command."""
    out = tmp_path / "part.h5"
    command = [
        "extract", sample, out, "--slice", "2/3",
        "--text-model", encoders.text, "--image-model", encoders.image, "--device", "cpu", "--precision", "fp32",
        "--batch-tokens", "256", "--batch-posters", "4",
    ]  # fmt: skip
    forked.start(*command)
    deadline = time.monotonic() + 120
    while not out.with_name("part.h5.partial").exists():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert forked.kill()
    again = forked.run(*command)
    assert again.code == 0, again.err
    assert "slice 2/3" in again.out
    assert out.read_bytes() == parts[1].read_bytes()


def test_a_part_file_is_refused_where_a_finished_one_is_needed(parts: list[Path]) -> None:
    with pytest.raises(CinefuseError, match="pending"):
        EmbeddingFile.open(parts[0])


def test_a_part_without_its_slice_is_completed_to_the_whole(
    sample: Path, settings: Settings, whole: Path, parts: list[Path], tmp_path: Path
) -> None:
    out = Path(shutil.copy(parts[0], tmp_path / "out.h5"))
    extract(sample, out, settings)
    assert out.read_bytes() == whole.read_bytes()


def test_slices_of_another_count_overlap_and_leave_what_is_missing_pending(
    sample: Path, settings: Settings, whole: Path, parts: list[Path], tmp_path: Path
) -> None:
    extract(sample, tmp_path / "2of2.h5", settings, share=Slice(2, 2))
    merged = merge(tmp_path / "merged.h5", parts[0], tmp_path / "2of2.h5")
    found = tmp_path / "merged.h5"
    assert merged.returncode == 0, merged.stderr
    with pytest.raises(CinefuseError, match="pending"):
        EmbeddingFile.open(found)
    extract(sample, found, settings)
    assert found.read_bytes() == whole.read_bytes()


def test_a_part_of_another_plan_is_refused(
    own_sample: Path, settings: Settings, parts: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.h5"
    extract(own_sample, other, replace(settings, dtype="bfloat16"), share=Slice(2, 3))
    refused = merge(tmp_path / "merged.h5", parts[0], other)
    assert refused.returncode in (3, 5)
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "merged.h5").exists()


def test_a_part_of_another_state_of_the_catalogue_cannot_be_continued(
    own_sample: Path, settings: Settings, parts: list[Path], tmp_path: Path
) -> None:
    out = Path(shutil.copy(parts[0], tmp_path / "part.h5"))
    items = pl.read_parquet(own_sample / "items.parquet")
    items.head(len(items) - 1).write_parquet(own_sample / "items.parquet")
    with pytest.raises(FingerprintMismatch, match="1 removed"):
        extract(own_sample, out, settings, share=Slice(1, 3))


def test_damaged_rows_of_a_part_are_computed_again_and_nothing_else(
    sample: Path, settings: Settings, parts: list[Path], tmp_path: Path
) -> None:
    out = Path(shutil.copy(parts[2], tmp_path / "part.h5"))
    with EmbeddingFile.open(out, pending=True) as file:
        row = int(np.flatnonzero(file.image.has_embedding)[0])
        at = file.header.datasets["image/cls"].offset + row * file.image.raw_cls[row].nbytes
    with out.open("r+b") as damaged:
        damaged.seek(at)
        damaged.write(b"\xff\xff")
    summary = extract(sample, out, settings, share=Slice(3, 3))
    assert [outcome.encoded for outcome in summary.outcomes] == [0, 1]
    assert out.read_bytes() == parts[2].read_bytes()


def test_counts_of_a_slice_are_of_its_own_rows(sample: Path, settings: Settings, tmp_path: Path) -> None:
    items = 0
    for number in (1, 2):
        summary = extract(sample, tmp_path / f"{number}.h5", settings, share=Slice(number, 2))
        for outcome in summary.outcomes:
            assert all(status is not Status.PENDING for status, _ in outcome.counts)
        items += sum(summary.outcomes[0].counts.values())
    assert items == len(Catalog.open(sample))


@pytest.mark.parametrize("words", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5", ""])
def test_what_is_no_slice_is_a_usage_error(words: str) -> None:
    with pytest.raises(UsageError, match=r"--slice: expected K/N"):
        Slice.parse(words)


def test_room_for_the_rows_of_a_slice_is_reserved_before_anything_is_encoded(
    sample: Path, encoders: Any, disk: Path
) -> None:
    from cinefuse.data.runtime.errors import NoSpace
    from cinefuse.tests.support.untrained_encoders import write_untrained_image_encoder

    write_untrained_image_encoder(disk.parent / "wide", width=96, layers=1, size=224)
    settings = Settings(text_model=None, image_model=str(disk.parent / "wide"), device="cpu", dtype="float32")
    with pytest.raises(NoSpace):
        extract(sample, disk / "part.h5", replace(settings, batch_posters=1), share=Slice(1, 2))


def test_a_row_outside_the_reserved_ones_can_still_be_written(parts: list[Path], tmp_path: Path) -> None:
    out = Path(shutil.copy(parts[0], tmp_path / "part.h5"))
    with EmbeddingFile.open(out, pending=True) as file, RowWriter(file) as writer:
        writer.reserve("text", np.array([0, 1, 5], np.int64))
        writer.reserve("image", np.empty(0, np.int64))
        assert verify(out).sound
