"""Laws of extraction on Ray: the file of a local run, byte for byte, whatever happens to the workers. Real processes.

Ray runs in the processes of the command alone, never in this one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.runtime.progress import NoProgress, Progress
from cinefuse.data.sample.catalogue import write_sample
from cinefuse.extract.cluster.assignments import TaskFactory
from cinefuse.extract.cluster.connection import Cluster
from cinefuse.extract.cluster.worker import Worker
from cinefuse.extract.job.extraction import Work, extract
from cinefuse.extract.job.settings import Settings
from cinefuse.tests.support.commands import Run

pytest.importorskip("ray", reason="Ray is not installed: pip install 'cinefuse[ray]'")

pytestmark = pytest.mark.slow  # processes of their own that import PyTorch and transformers

# put in front of every Python process of the standing cluster: a batch with the row in the file FATAL kills its worker
SITE = """
import sys
from pathlib import Path

fatal = Path(__file__).with_name("FATAL")
if "default_worker.py" in " ".join(sys.orig_argv) and fatal.exists():
    import os, signal
    from cinefuse.extract.cluster.worker import Worker
    encode = Worker.encode
    def encode_or_die(self, task):
        if task.plan.name == "text" and int(fatal.read_text()) in task.rows.tolist():
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(self, task)
    Worker.encode = encode_or_die
"""


BEGUN: list[subprocess.Popen[str]] = []


class Job:
    """One `cinefuse extract` in a process of its own, watched through its events."""

    def __init__(self, folder: Path, arguments: list[Any], *more: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.out, self.log = folder / "out.h5", folder / "events.jsonl"
        self.mark = f"{folder}-{time.monotonic_ns()}"
        program = Path(sys.executable).with_name("cinefuse")
        self.process = subprocess.Popen(
            [program, "extract", *arguments[:1], self.out, *arguments[1:], *more, "--log-json", self.log],
            env=os.environ | {"CINEFUSE_TEST_MARK": self.mark} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        BEGUN.append(self.process)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the command has told so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def wait_for(self, condition: Callable[[], Any], seconds: float = 600) -> Any:
        """The first true value of `condition`."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.05)
        return found

    def end(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        out, err = self.process.communicate(timeout=600)
        return self.process.returncode, out, err

    def processes(self) -> list[int]:
        """Every process that still runs and was started by the command, however far down."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdecimal() and f"CINEFUSE_TEST_MARK={self.mark}".encode() in (
                    (folder / "environ").read_bytes().split(b"\0")
                ):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def running(self, *programs: str) -> list[int]:
        """Those of them that run one of these programs, one a program."""
        names = {process: Path(f"/proc/{process}/exe").readlink().name for process in self.processes()}
        found = [process for process, name in names.items() if name in programs]
        assert len(found) == len(programs), names
        return found

    def listens_at(self) -> set[str]:
        """Addresses at which any of them listens, with the name of its program."""
        sockets = {}
        for table, loopback in (("tcp", "0100007F"), ("tcp6", "0000000000000000FFFF00000100007F")):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == "0A":
                    sockets[f"socket:[{inode}]"] = "loopback" if local.startswith(loopback) else local
        found = set()
        for process in self.processes():
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().decode().replace("\0", " ")
                for descriptor in Path(f"/proc/{process}/fd").iterdir():
                    at = sockets.get(str(descriptor.readlink()))
                    if at is not None:
                        found.add("dashboard" if "dashboard/dashboard.py" in words else at)
        return found

    def leaves_no_process(self) -> bool:
        """Whether all of them are gone once Ray's own have noticed that their head is."""
        deadline = time.monotonic() + 60
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.processes()

    def rows_written(self, modality: str) -> int:
        growing = self.out.with_name("out.h5.partial")
        if not growing.exists():
            return 0
        with EmbeddingFile.open(growing, pending=True) as file:
            return len(file) - file.pending[modality]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """A command whose test failed is killed; what it started dies with it."""
    yield
    for process in BEGUN:
        if process.poll() is None:
            process.kill()
            process.communicate()
    BEGUN.clear()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Workers have a thread each; the local run that they are compared with has one too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A catalogue and encoders large enough that a run lasts a second or two."""
    from cinefuse.data.dataset.catalog import Catalog
    from cinefuse.tests.support.untrained_encoders import write_untrained_image_encoder, write_untrained_text_encoder

    folder = tmp_path_factory.mktemp("job")
    write_sample(folder / "dataset", items=160, users=20)
    texts = (text for text in Catalog.open(folder / "dataset").texts() if text)
    write_untrained_text_encoder(folder / "bert", texts, width=128, layers=4)
    write_untrained_image_encoder(folder / "vit", width=64, size=32)
    models = ["--text-model", folder / "bert", "--image-model", folder / "vit"]
    how = ["--device", "cpu", "--precision", "fp32", "--batch-tokens", "128", "--batch-posters", "2"]
    return [folder / "dataset", *models, *how]


@pytest.fixture(scope="module")
def local(arguments: list[Any], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a run in one process."""
    out = tmp_path_factory.mktemp("local") / "out.h5"
    dataset, *options = map(str, arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    app(["extract", dataset, str(out), *options], standalone_mode=False)
    torch.set_num_threads(threads)
    return out.read_bytes()


RAY = ("--engine", "ray", "--workers", "2")


@dataclass(frozen=True)
class Standing:
    """A Ray cluster of this machine that outlives commands: how to reach it, and the file that names a fatal row."""

    options: tuple[str, ...]
    environment: dict[str, str]
    fatal: Path


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """As `ray start --head` makes it; started with the first test, since that takes a while, and used by later ones."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(SITE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0", "PYTHONPATH": str(site)}
    folder = tempfile.mkdtemp(prefix="cinefuse-", dir="/tmp")  # sockets have short names
    program = Path(sys.executable).with_name("ray")
    process = subprocess.Popen(
        [program, "start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--include-dashboard=false",
         f"--temp-dir={folder}", f"--object-store-memory={2**28}"],
        env=os.environ | secret | quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    told = iter(process.stdout.readline, "")
    assert any("Ray runtime started" in line for line in told), "no Ray cluster"
    yield Standing((*RAY, "--address", f"127.0.0.1:{port}"), secret, site / "FATAL")
    process.terminate()
    process.communicate(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def test_workers_that_are_killed_lose_no_row_and_change_no_byte(
    arguments: list[Any], local: bytes, tmp_path: Path
) -> None:
    job = Job(tmp_path / "killed", arguments, *RAY, HOME=str(tmp_path))
    job.wait_for(lambda: job.rows_written("text") >= 10)
    first = job.events("worker")[0]
    os.kill(first["process"], signal.SIGKILL)
    job.wait_for(lambda: any(event["state"] == "lost" for event in job.events("worker")))
    # the other one of the first two, or the one that took the place of the dead
    other = job.wait_for(
        lambda: next((e for e in job.events("worker") if e.get("process", first["process"]) != first["process"]), None)
    )
    assert job.listens_at() == {"loopback"}, "a cluster of our own is for this machine alone, without a dashboard"
    os.kill(other["process"], signal.SIGKILL)
    code, out, errors = job.end()
    assert code == 0, errors
    assert job.out.read_bytes() == local
    assert verify(job.out).complete
    lost = [event for event in job.events("worker") if event["state"] == "lost"]
    assert {first["process"], other["process"]} <= {event.get("process") for event in lost}
    assert "encoded in" in out
    assert says_nothing_of_its_own(out + errors)
    assert sorted(path.name for path in job.out.parent.iterdir()) == ["events.jsonl", "out.h5"]
    assert not (tmp_path / ".ray").exists()
    assert job.leaves_no_process()


def says_nothing_of_its_own(told: str) -> bool:
    """Whether every line that speaks of Ray is one of ours."""
    return not [line for line in told.splitlines() if "ray" in line.lower() and "Ray workers" not in line]


def test_a_run_whose_head_is_killed_says_so_and_the_same_command_goes_on_to_the_same_bytes(
    arguments: list[Any], local: bytes, tmp_path: Path
) -> None:
    job = Job(tmp_path / "beheaded", arguments, *RAY)
    job.wait_for(lambda: job.rows_written("text") >= 10)
    for process in job.running("gcs_server", "raylet"):
        os.kill(process, signal.SIGKILL)
    code, _, errors = job.end()
    assert code == 1, errors
    assert errors.splitlines()[-1].endswith("run the same command again")
    assert "Traceback" not in errors
    assert job.events("end")[-1]["exit_code"] == 1
    assert job.leaves_no_process()
    written = job.rows_written("text")
    assert 10 <= written < 160
    job = Job(tmp_path / "beheaded", arguments, *RAY)
    code, _, errors = job.end()
    assert code == 0, errors
    assert job.out.read_bytes() == local
    assert job.events("done")[0]["encoded"] <= 160 - written


def test_sigterm_leaves_a_file_that_workers_of_a_cluster_finish_by_sending_rows_to_the_same_bytes(
    arguments: list[Any], local: bytes, standing: Standing, tmp_path: Path
) -> None:
    job = Job(tmp_path / "stopped", arguments, *RAY)
    job.wait_for(lambda: job.rows_written("text") >= 4)
    asked = time.monotonic()
    job.process.send_signal(signal.SIGTERM)
    code, _, errors = job.end()
    assert code == 143, errors
    assert time.monotonic() - asked < 60, "a scheduler would have killed it by now"
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert says_nothing_of_its_own(errors)
    assert job.events("end")[-1]["exit_code"] == 143
    assert job.leaves_no_process()
    assert not job.out.exists()
    written = job.rows_written("text")
    job = Job(tmp_path / "stopped", arguments, *standing.options, "--send-rows", **standing.environment)
    code, _, errors = job.end()
    assert code == 0, errors
    assert job.out.read_bytes() == local
    assert {event["writes"] for event in job.events("worker")[-2:]} == {False}
    assert job.events("done")[0]["encoded"] <= 160 - written


def test_a_batch_that_kills_its_workers_is_named_and_the_command_refuses_it(
    arguments: list[Any], standing: Standing, tmp_path: Path
) -> None:
    from cinefuse.data.dataset.catalog import Catalog

    row = next(row for row, text in enumerate(Catalog.open(arguments[0]).texts()) if text)
    standing.fatal.write_text(str(row))
    job = Job(tmp_path / "poisoned", arguments, *standing.options, "--no-image", **standing.environment)
    code, _, errors = job.end()
    standing.fatal.unlink()
    assert code == 3, errors
    with EmbeddingFile.open(job.out.with_name("out.h5.partial"), pending=True) as file:
        item = file.ids[row]
        assert f"items {item}" in errors or f", {item}" in errors
        assert "3 workers died while encoding it" in errors.splitlines()[-1]
    assert len([event for event in job.events("worker") if event["state"] == "lost"]) == 3
    workers = {event["process"] for event in job.events("worker")}
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{process}").exists() for process in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [process for process in workers if Path(f"/proc/{process}").exists()]


class OneWorker:
    """An engine without Ray: a single worker in this process, told what workers on a cluster are told."""

    def __init__(self, lock: Path, *, send_rows: bool, reads_posters: bool) -> None:
        self._lock, self._send_rows, self._reads_posters = lock, send_rows, reads_posters

    def settled(self, settings: Settings) -> Settings:
        return settings

    def encode(self, work: Work, progress: Progress) -> None:
        tasks = TaskFactory(work, self._lock, self._send_rows)
        worker = Worker({}, torch.get_num_threads())
        assert worker.open(tasks.assignment).sends == self._send_rows
        with RowWriter(work.file) as writer:
            for rows in work.batches():
                for row in worker.encode(tasks.task(rows, reads_posters=self._reads_posters)).rows:
                    writer.put(work.job.name, row)


@pytest.mark.parametrize("send_rows", [False, True])
@pytest.mark.parametrize("reads_posters", [False, True])
def test_a_worker_with_the_encoders_that_ship_with_cinefuse_makes_the_bytes_of_one_process(
    send_rows: bool, reads_posters: bool, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the worker sets for itself
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path)  # a folder of that name is not meant
    settings = Settings(text_model="mini", image_model="mini", device="cpu", precision="fp32")
    extract(sample, tmp_path / "local.h5", settings)
    lock = tmp_path / "worker.h5.lock"
    extract(
        sample,
        tmp_path / "worker.h5",
        settings,
        engine=OneWorker(lock, send_rows=send_rows, reads_posters=reads_posters),
    )
    assert (tmp_path / "worker.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()


def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any) -> Any:
    from cinefuse.extract.cluster.engine import RayEngine

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return RayEngine(Cluster(**options), Settings(), tmp_path / "out.h5", NoProgress())


def test_a_restart_takes_the_workers_precision_whatever_an_earlier_run_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun = engine(monkeypatch, tmp_path, address="127.0.0.1:1")
    monkeypatch.setattr(begun, "_pool", SimpleNamespace(on_gpus=True, first_result=lambda _: "bf16"))
    assert begun.settled(Settings()).precision == "bf16"
    (tmp_path / "out.h5.partial").touch()
    assert begun.settled(Settings()).precision == "auto"  # that of the file it goes on with
    assert begun.settled(Settings(restart=True)).precision == "bf16"


def test_a_missing_ray_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cinefuse.extract.cluster import connection

    monkeypatch.setattr(connection, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'cinefuse\[ray\]'"):
        engine(monkeypatch, tmp_path)


def test_an_address_where_nobody_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cinefuse.extract.cluster.connection import refuse_a_silent

    with pytest.raises(BadInput, match=r"no Ray cluster at 127.0.0.1:1: Connection refused"):
        refuse_a_silent("127.0.0.1:1")
    with pytest.raises(UsageError, match="ray job submit"):
        engine(monkeypatch, tmp_path, address="ray://127.0.0.1:10001")


@pytest.mark.parametrize("words", [["--workers", "2"], ["--address", "auto"], ["--send-rows"]])
def test_options_of_ray_are_refused_without_it(words: list[str], run: Run, tmp_path: Path) -> None:
    refused = run("extract", tmp_path, tmp_path / "out.h5", *words)
    assert refused.code == 2
    assert "--engine ray" in refused.err
