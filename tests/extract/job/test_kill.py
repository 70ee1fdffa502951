"""A job killed at any moment goes on where it stopped and ends in the same bytes. Real processes, real SIGKILL."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.verification import intact_rows, verify
from cinefuse.data.runtime.errors import Busy, DamagedFile
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.tests.support.forked import ForkServer

pytestmark = pytest.mark.slow  # processes of their own that import PyTorch and transformers

EXTRACT = "cinefuse.tests.support.jobs:extract_noting_batches"
KILLS = 8
KILLS_TORTURE = 100


@pytest.fixture(scope="module")
def job(sample: Path, encoders: Any) -> dict[str, Any]:
    settings = {
        "text_model": str(encoders.text),
        "image_model": str(encoders.image),
        "batch_tokens": 128,
        "batch_posters": 2,
        "device": "cpu",
    }
    return {"function": EXTRACT, "dataset": str(sample), "settings": settings}


@pytest.fixture(scope="module")
def uninterrupted(
    fork_server: ForkServer, job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, float]:
    """The bytes of a file whose job nothing disturbed, and the seconds it took."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    started = time.monotonic()
    fork_server.start(**job, file=str(folder / "out.h5"), log=str(folder / "log"))
    assert fork_server.wait() == 0
    return (folder / "out.h5").read_bytes(), time.monotonic() - started


def finished_batches(out: Path) -> set[tuple[str, int]]:
    """The batches all of whose rows lie intact in the file that `out` is growing as."""
    growing = out.with_name(out.name + ".partial")
    if not growing.exists():
        return set()
    with EmbeddingFile.open(growing, pending=True) as file:
        finished = set()
        for name in file.modalities:
            intact, batch = intact_rows(file, name), file[name].batch
            finished |= {(name, int(n)) for n in np.unique(batch) if n >= 0 and intact[batch == n].all()}
        return finished


def encoded_batches(log: Path) -> set[tuple[str, int]]:
    if not log.exists():
        return set()
    return {(name, int(number)) for name, number in (line.split() for line in log.read_text().splitlines())}


def kill_and_resume(
    fork_server: ForkServer, job: dict[str, Any], folder: Path, seconds: float, moments: random.Random
) -> tuple[bytes, int]:
    """Start, kill up to three times, let it end; the file's bytes and how many kills met a living process."""
    out, kills = folder / "out.h5", 0
    for attempt in range(4):
        before, log = finished_batches(out), folder / f"log-{attempt}"
        process = fork_server.start(**job, file=str(out), log=str(log))
        if attempt < 3:
            time.sleep(moments.uniform(0, seconds))
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        code = fork_server.wait()
        kills += code == -signal.SIGKILL
        assert not before & encoded_batches(log), "a finished batch was computed again"
        assert code in (0, -signal.SIGKILL)
        if lacks_rows(out):
            with pytest.raises(DamagedFile, match="pending"):
                EmbeddingFile.open(out.with_name(out.name + ".partial"))
        if code == 0:
            break
    return out.read_bytes(), kills


def lacks_rows(out: Path) -> bool:
    """Whether a file was laid out and is not finished; a job killed early has laid out none yet."""
    growing = out.with_name(out.name + ".partial")
    if not growing.exists():
        return False
    with EmbeddingFile.open(growing, pending=True) as file:
        return any(file.pending.values())


def check_kills(
    fork_server: ForkServer, job: dict[str, Any], uninterrupted: tuple[bytes, float], tmp_path: Path, wanted: int
) -> None:
    expected, seconds = uninterrupted
    moments, kills, tries = random.Random(20), 0, 0
    while kills < wanted:
        folder = tmp_path / str(tries)
        folder.mkdir()
        content, met = kill_and_resume(fork_server, job, folder, seconds, moments)
        assert content == expected
        assert sorted(path.name for path in folder.glob("out.h5*")) == ["out.h5"]
        if not met:  # the uninterrupted job ran when the machine was busier: kill earlier
            seconds *= 0.7
        kills, tries = kills + met, tries + 1
        assert tries < 4 * wanted, "most kills came too late: the job ends too quickly to be tested"
    assert verify(folder / "out.h5").complete


def test_a_job_killed_at_random_moments_ends_in_the_same_bytes(
    fork_server: ForkServer, job: dict[str, Any], uninterrupted: tuple[bytes, float], tmp_path: Path
) -> None:
    check_kills(fork_server, job, uninterrupted, tmp_path, KILLS)


@pytest.mark.torture
def test_a_job_killed_at_a_hundred_random_moments_ends_in_the_same_bytes(
    fork_server: ForkServer, job: dict[str, Any], uninterrupted: tuple[bytes, float], tmp_path: Path
) -> None:
    check_kills(fork_server, job, uninterrupted, tmp_path, KILLS_TORTURE)


def test_the_same_job_twice_gives_the_same_bytes(
    fork_server: ForkServer, job: dict[str, Any], uninterrupted: tuple[bytes, float], tmp_path: Path
) -> None:
    fork_server.start(**job, file=str(tmp_path / "out.h5"), log=str(tmp_path / "log"))
    assert fork_server.wait() == 0
    assert (tmp_path / "out.h5").read_bytes() == uninterrupted[0]


def test_ctrl_c_ends_with_130_keeps_what_is_done_and_the_next_run_goes_on(
    fork_server: ForkServer, job: dict[str, Any], uninterrupted: tuple[bytes, float], tmp_path: Path
) -> None:
    expected, _ = uninterrupted
    out = tmp_path / "out.h5"
    process = fork_server.start(**job, file=str(out), log=str(tmp_path / "log"))
    wait_for_first_batch(tmp_path / "log")
    os.kill(process, signal.SIGINT)
    assert fork_server.wait() == 130
    encoded = encoded_batches(tmp_path / "log")
    # what was encoded before the interrupt was also written; at most the batch in flight is lost
    assert len(encoded - finished_batches(out)) <= 1
    fork_server.start(**job, file=str(out), log=str(tmp_path / "log-2"))
    assert fork_server.wait() == 0
    assert out.read_bytes() == expected


def test_a_second_job_on_the_same_file_is_refused_with_the_process_that_holds_it(
    fork_server: ForkServer, job: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    process = fork_server.start(**job, file=str(out), log=str(tmp_path / "log"))
    wait_for_first_batch(tmp_path / "log")
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(Busy, match=f"process {process}"):
            extract(Path(job["dataset"]), out, Settings(**job["settings"]))
    finally:
        os.kill(process, signal.SIGCONT)
        assert fork_server.wait() == 0


def wait_for_first_batch(log: Path) -> None:
    deadline = time.monotonic() + 60
    while not encoded_batches(log):
        assert time.monotonic() < deadline, "the job encoded nothing for a minute"
        time.sleep(0.001)
