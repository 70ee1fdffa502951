"""Whole extractions onto real small disks: too small, filled up meanwhile, read-only."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput, Interrupted, NoSpace
from cinefuse.extract.job import extraction as run
from cinefuse.extract.job import feeds
from cinefuse.extract.job import loop as stream
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.extract.models import encoders as encoders_module

NOBODY = 65534


@pytest.fixture
def settings(small_batches: Settings) -> Settings:
    return small_batches


@pytest.fixture
def expected(small_batches_file: Path) -> bytes:
    """The bytes of the finished file, made where there is room."""
    return small_batches_file.read_bytes()


def fill(disk: Path, *, but: int = 0) -> Path:
    """Take all the room of `disk` but so many bytes; the file that takes it."""
    greedy = disk / "greedy"
    free = os.statvfs(disk)
    with greedy.open("wb", buffering=0) as other:
        rest = free.f_bavail * free.f_frsize - but
        while rest > 0:
            rest -= other.write(bytes(rest))
        if not but:
            with pytest.raises(OSError, match="No space left"):
                other.write(b"more")
    return greedy


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was loaded though there is no room for its embeddings")

    monkeypatch.setattr(encoders_module.TextEncoder, "load", never)
    monkeypatch.setattr(encoders_module.ImageEncoder, "load", never)


@pytest.mark.parametrize("room", [0, 4096, 65_536])
@pytest.mark.usefixtures("no_encoder")
def test_a_disk_too_small_is_refused_before_an_encoder_loads_and_nothing_is_left(
    room: int, disk: Path, sample: Path, settings: Settings, expected: bytes
) -> None:
    assert room < len(expected)
    fill(disk, but=room)
    with pytest.raises(NoSpace, match="the disk is full") as refusal:
        extract(sample, disk / "films.h5", settings)
    assert refusal.value.exit_code == 7
    assert [path.name for path in disk.iterdir()] == ["greedy"]


def test_the_command_ends_with_7_and_one_line(disk: Path, sample: Path, encoders: Any) -> None:
    fill(disk)
    words = ["extract", sample, disk / "films.h5", "--text-model", encoders.text, "--no-image", "--device", "cpu"]
    command = [sys.executable, "-m", "cinefuse.cli", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 7
    assert ended.stderr.splitlines()[-1].startswith("cinefuse: ")
    assert "free some space and run the same command again" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert [path.name for path in disk.iterdir()] == ["greedy"]


def test_once_there_is_room_the_same_command_succeeds(
    disk: Path, sample: Path, settings: Settings, expected: bytes
) -> None:
    greedy, out = fill(disk), disk / "films.h5"
    with pytest.raises(NoSpace):
        extract(sample, out, settings)
    greedy.unlink()
    extract(sample, out, settings)
    assert out.read_bytes() == expected
    assert [path.name for path in disk.iterdir()] == ["films.h5"]


def test_a_disk_that_others_fill_after_the_layout_cannot_hurt_the_job(
    disk: Path, sample: Path, settings: Settings, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_rows = stream.encode_rows
    filled: list[Path] = []

    def with_a_full_disk(*arguments: Any, **options: Any) -> None:
        if not filled:
            filled.append(fill(disk))
        encode_rows(*arguments, **options)

    monkeypatch.setattr(stream, "encode_rows", with_a_full_disk)
    extract(sample, disk / "films.h5", settings)
    assert filled
    assert (disk / "films.h5").read_bytes() == expected


def test_an_interrupted_job_goes_on_though_the_disk_is_full_by_now(
    disk: Path, sample: Path, settings: Settings, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feeds.PosterFeed, "load", interrupted)
        with pytest.raises(Interrupted):
            extract(sample, disk / "films.h5", settings)
    assert [path.name for path in disk.iterdir()] == ["films.h5.partial"]
    fill(disk, but=4096)  # the page that the lock file takes
    extract(sample, disk / "films.h5", settings)
    assert (disk / "films.h5").read_bytes() == expected


def test_a_damaged_file_on_a_full_disk_is_mended_in_place(
    disk: Path, sample: Path, settings: Settings, expected: bytes
) -> None:
    out = disk / "films.h5"
    extract(sample, out, settings)
    with EmbeddingFile.open(out) as file:
        offset = file.header.datasets["image/cls"].offset
    with out.open("r+b") as content:
        content.seek(offset)
        content.write(b"\xff" * 8)
    assert not verify(out).complete
    fill(disk, but=4096)
    extract(sample, out, settings)
    assert out.read_bytes() == expected


def test_a_second_file_that_no_longer_fits_leaves_the_first_as_it_was(
    disk: Path, sample: Path, settings: Settings, expected: bytes
) -> None:
    extract(sample, disk / "films.h5", settings)
    fill(disk, but=len(expected) // 2)
    for options in ({}, {"restart": True}):
        out = disk / ("films.h5" if options else "more.h5")
        with pytest.raises(NoSpace):
            extract(sample, out, replace(settings, **options))
        assert sorted(path.name for path in disk.iterdir()) == ["films.h5", "greedy"]
        assert (disk / "films.h5").read_bytes() == expected


def test_a_read_only_disk_is_bad_input_and_what_is_there_stays(
    disk: Path, sample: Path, settings: Settings, expected: bytes
) -> None:
    extract(sample, disk / "films.h5", settings)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for name in ("films.h5", "more.h5"):
        with pytest.raises(BadInput, match="Read-only file system") as refusal:
            extract(sample, disk / name, settings)
        assert refusal.value.exit_code == 3
    assert verify(disk / "films.h5").complete
    assert [path.name for path in disk.iterdir()] == ["films.h5"]


def test_a_folder_that_may_not_be_written_is_bad_input(
    sample: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def then_nobody(*arguments: Any, **options: Any) -> Any:
        jobs = prepare(*arguments, **options)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
        return jobs

    prepare = run.prepare
    monkeypatch.setattr(run, "prepare", then_nobody)
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o555)
        try:
            with pytest.raises(BadInput, match=os.strerror(errno.EACCES)) as refusal:
                extract(sample, folder / "films.h5", settings)
        finally:
            os.seteuid(user)
        assert refusal.value.exit_code == 3
        assert list(folder.iterdir()) == []
        folder.chmod(0o755)
