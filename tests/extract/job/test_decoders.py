"""Laws of posters decoded by processes: the same bytes as by threads, whatever becomes of a process."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.status import Reason
from cinefuse.data.runtime.errors import CinefuseError
from cinefuse.extract.inputs import decoders as decoders_module
from cinefuse.extract.inputs.decoders import Decoders, Poster, planned_poster, side_by_side
from cinefuse.extract.inputs.pixel_recipe import PixelRecipe
from cinefuse.extract.inputs.poster_files import PosterLimits, PosterProblem
from cinefuse.extract.job import decoding, feeds
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.tests.support.progress import Lines

RECIPE = PixelRecipe(size=(32, 48))
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


@pytest.fixture(scope="module")
def settings(encoders: Any) -> Settings:
    return Settings(
        text_model=None, image_model=str(encoders.image), device="cpu", precision="fp32", batch_posters=4, decoders=0
    )


@pytest.fixture(scope="module")
def made(sample: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose posters were decoded by threads."""
    out = tmp_path_factory.mktemp("made") / "threads.h5"
    extract(sample, out, settings)
    return out


def posters_of(sample: Path) -> tuple[list[Poster], Path]:
    catalog = Catalog.open(sample)
    paths = [path for path in catalog.posters() if path]
    digests = [hashlib.sha256((catalog.poster_root / path).read_bytes()).digest() for path in paths]
    return [Poster(path, digest) for path, digest in zip(paths, digests, strict=True)], catalog.poster_root


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_processes_give_the_pixels_and_the_reasons_of_threads(sample: Path) -> None:
    posters, root = posters_of(sample)
    wrong = [Poster(posters[0].path, bytes(32)), Poster("nowhere.jpg", bytes(32))]
    batches = [posters[start : start + 10] for start in range(0, len(posters), 10)][:5]
    with Decoders(2, root, RECIPE, PosterLimits(), largest=10, batches=3, say=pytest.fail) as decoders:
        for batch in batches:
            found = [decoded.result() for decoded in decoders.begin(batch)]
            for poster, pixels in zip(batch, found, strict=True):
                expected = planned_poster(poster.path, poster.digest, root, RECIPE, PosterLimits())
                np.testing.assert_array_equal(pixels, expected)
            assert side_by_side(found).base is not None, "images that lie side by side are copied"
            np.testing.assert_array_equal(side_by_side(found), np.stack(found))
            np.testing.assert_array_equal(side_by_side(found[::2]), np.stack(found[::2]))
        for decoded, reason in zip(decoders.begin(wrong), (Reason.CHANGED, Reason.NOT_FOUND), strict=True):
            with pytest.raises(PosterProblem) as problem:
                decoded.result()
            assert problem.value.reason == reason


def test_pixels_stay_until_so_many_more_batches_have_begun(sample: Path) -> None:
    posters, root = posters_of(sample)
    with Decoders(2, root, RECIPE, PosterLimits(), largest=3, batches=3, say=pytest.fail) as decoders:
        first = [decoded.result() for decoded in decoders.begin(posters[:3])]
        kept = np.stack(first)
        for start in (3, 6):
            [decoded.result() for decoded in decoders.begin(posters[start : start + 3])]
        np.testing.assert_array_equal(np.stack(first), kept)


@pytest.mark.slow
@needs_proc
def test_an_extraction_with_two_processes_ends_in_the_bytes_of_threads(
    made: Path, sample: Path, settings: Settings, tmp_path: Path
) -> None:
    before, lines = children_of(os.getpid()), Lines()
    extract(sample, tmp_path / "processes.h5", replace(settings, decoders=2), lines)
    assert (tmp_path / "processes.h5").read_bytes() == made.read_bytes()
    assert children_of(os.getpid()) == before, "processes were left behind"
    assert not any("decode" in line for line in lines.lines)


@pytest.mark.slow
@needs_proc
def test_a_process_that_is_killed_costs_a_line_and_no_poster(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, before, lines = feeds.PosterFeed.encode, set(children_of(os.getpid())), Lines()
    killed: list[int] = []

    def killing(self: Any, inputs: list[Any]) -> Any:
        if not killed:
            killed.extend(set(children_of(os.getpid())) - before)
            os.kill(killed[0], signal.SIGKILL)
        return encode(self, inputs)

    monkeypatch.setattr(feeds.PosterFeed, "encode", killing)
    extract(sample, tmp_path / "killed.h5", replace(settings, decoders=2), lines)
    assert len(killed) == 2
    assert (tmp_path / "killed.h5").read_bytes() == made.read_bytes()
    assert [line for line in lines.lines if "decoders" in line] == [
        "1 of 2 decoders ended early: threads decode in their place"
    ]


def test_a_thread_whose_process_another_thread_took_decodes_by_itself(sample: Path) -> None:
    class Raced(list[Any]):
        """Not empty when it is looked at, empty when something is taken from it."""

        def __len__(self) -> int:
            return 1

    posters, root = posters_of(sample)
    with Decoders(1, root, RECIPE, PosterLimits(), largest=1, batches=1, say=pytest.fail) as decoders:
        decoders._free = Raced()
        assert decoders.begin(posters[:1])[0].result().shape == (*RECIPE.output, 3)


def test_processes_that_cannot_start_leave_the_work_to_threads(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    monkeypatch.setattr(decoders_module, "_CHILD", "raise SystemExit(1)")
    extract(sample, tmp_path / "threads.h5", replace(settings, decoders=2), lines)
    assert (tmp_path / "threads.h5").read_bytes() == made.read_bytes()
    assert any("decoders ended early" in line for line in lines.lines)


def test_without_memory_to_share_threads_decode(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(length: int) -> int:
        raise OSError(12, "Cannot allocate memory")

    lines = Lines()
    monkeypatch.setattr(decoders_module, "_unnamed_memory", full)
    extract(sample, tmp_path / "threads.h5", replace(settings, decoders=2), lines)
    assert (tmp_path / "threads.h5").read_bytes() == made.read_bytes()
    assert any("decoded in threads: no memory to share" in line for line in lines.lines)


@pytest.mark.slow
@needs_proc
def test_ctrl_c_ends_the_processes_and_the_job_goes_on_to_the_same_bytes(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, batches, before = feeds.PosterFeed.encode, [], children_of(os.getpid())

    def stopping(self: Any, inputs: list[Any]) -> Any:
        batches.append(len(inputs))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return encode(self, inputs)

    monkeypatch.setattr(feeds.PosterFeed, "encode", stopping)
    with pytest.raises(CinefuseError, match="run the same command again"):
        extract(sample, tmp_path / "stopped.h5", replace(settings, decoders=2))
    assert children_of(os.getpid()) == before
    monkeypatch.undo()
    extract(sample, tmp_path / "stopped.h5", replace(settings, decoders=2))
    assert (tmp_path / "stopped.h5").read_bytes() == made.read_bytes()


SLEEPER = """
import sys, time
from pathlib import Path
from cinefuse.extract.inputs.decoders import Decoders, Poster
from cinefuse.extract.inputs.poster_files import PosterLimits
from cinefuse.extract.inputs.pixel_recipe import PixelRecipe
with Decoders(2, Path("."), PixelRecipe(), PosterLimits(), largest=16, batches=3, say=print) as decoders:
    for decoded in decoders.begin([Poster("none.jpg", bytes(32))] * 16):
        try:
            decoded.result()
        except Exception:
            pass
    print("ready", flush=True)
    time.sleep(600)
"""


@needs_proc
def test_processes_end_with_the_one_that_started_them_and_leave_no_memory(tmp_path: Path) -> None:
    shared = set(Path("/dev/shm").iterdir())
    started = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, cwd=tmp_path)
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    children = children_of(started.pid)
    assert len(children) == 2
    started.kill()
    started.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert set(Path("/dev/shm").iterdir()) <= shared
    started.stdout.close()


@pytest.mark.parametrize(
    ("wanted", "kind", "cores", "posters", "expected"),
    [
        (None, "cpu", 2, 10**6, 0),
        (None, "cpu", 8, 10**6, 7),
        (None, "cuda", 4, 10**6, 3),
        (None, "cuda", 2, 10**6, 0),
        (None, "cuda", 64, 10**6, 16),
        (None, "cuda", 64, 100, 0),
        (2, "cpu", 2, 100, 2),
        (0, "cuda", 64, 10**6, 0),
        (4, "cpu", 2, 0, 0),
    ],
)
def test_processes_decode_where_cores_are_many_or_a_gpu_encodes(
    wanted: int | None, kind: str, cores: int, posters: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "usable_cores", lambda: cores)
    assert decoding.decoder_count(wanted, kind, posters) == expected
