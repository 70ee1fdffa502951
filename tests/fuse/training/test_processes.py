"""Several processes train one model: the figures are those of one, and only one of them writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cinefuse.data.runtime.errors import Interrupted, UsageError
from cinefuse.fuse.training.processes import Ranks, ranks_of_launcher

pytestmark = pytest.mark.slow  # processes of their own that import PyTorch and transformers

EXACT = ["--set", "dropout=0", "--set", "item_dropout=0", "--set", "precision=fp32"]
SMALL = [
    word
    for setting in ("adapt=false", "width=32", "attention_heads=2", "batch_items=7", "factor_steps=12")
    for word in ("--set", setting)
]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, sample: Path, encoders: object) -> Path:
    """The sample's embedding file."""
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    file = tmp_path_factory.mktemp("ranks") / "cache.h5"
    extract(sample, file, Settings(text_model=str(encoders.text), image_model=str(encoders.image)))  # type: ignore[attr-defined]
    return file


def _fuse(ranks: int, sample: Path, cache: Path, run: Path, *more: str) -> list[str]:
    launcher = LAUNCHER if ranks > 1 else []
    words = ["fuse", sample, cache, run, "--preset", "paper", "--split", "random:0.2", *EXACT, *SMALL, *more]
    return [sys.executable, *launcher, "-m", "cinefuse.cli", *map(str, words)]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _figures(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _prediction(run: Path) -> np.ndarray:
    return pl.read_parquet(run / "predictions.parquet")["prediction"].to_numpy()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, sample: Path, cache: Path) -> Path:
    """A run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    done = subprocess.run(
        _fuse(1, sample, cache, run, "--set", "epochs=3"), env=_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return run


def test_two_ranks_learn_what_one_process_learns(alone: Path, sample: Path, cache: Path, tmp_path: Path) -> None:
    command = _fuse(2, sample, cache, tmp_path / "run", "--set", "epochs=3")
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder") == 1, "one rank prints the result"
    expected, found = _figures(alone), _figures(tmp_path / "run")
    assert len(found) == len(expected)
    for one, other in zip(expected, found, strict=True):
        for name in ("train_rmse", "transformer_loss", "validation_rmse"):
            assert other[name] == pytest.approx(one[name], abs=2e-5), name
    np.testing.assert_allclose(_prediction(tmp_path / "run"), _prediction(alone), atol=1e-3)


def test_a_run_that_lost_a_rank_goes_on_where_it_was(alone: Path, sample: Path, cache: Path, tmp_path: Path) -> None:
    command = _fuse(2, sample, cache, tmp_path / "run", "--set", "epochs=3")
    launcher = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint, patience = tmp_path / "run" / "state.safetensors", time.monotonic() + 120
    while not checkpoint.exists() and launcher.poll() is None and time.monotonic() < patience:
        time.sleep(0.01)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert launcher.wait() != 0
    assert not (tmp_path / "run" / "summary.json").exists(), "killed too late to tell anything"
    done = subprocess.run([*command, "--resume"], env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(_prediction(tmp_path / "run"), _prediction(alone), atol=1e-3)


def test_a_rank_whose_peers_are_gone_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr("torch.distributed.barrier", gone)
    with pytest.raises(
        Interrupted, match=r"another process of this run is gone \(Connection closed.*--resume"
    ) as refusal:
        Ranks(1, 2).wait()
    assert refusal.value.exit_code == 130


def test_a_gpus_number_that_never_comes_is_a_rank_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class NeverThere:
        """A number on a GPU: what went wrong with it is known once the host reads it."""

        def __float__(self) -> float:
            raise RuntimeError("NCCL error: remote process exited or there was a network error")

    monkeypatch.setattr("torch.tensor", lambda *_, **__: NeverThere())
    monkeypatch.setattr("torch.distributed.broadcast", lambda *_: None)
    with pytest.raises(Interrupted, match="another process of this run is gone"):
        Ranks(1, 2).broadcast_from_first(0.5, torch.device("cpu"))


@pytest.mark.parametrize(("device", "backend", "blocking"), [("cuda", "nccl", "1"), ("cpu", "gloo", None)])
def test_ranks_on_gpus_wait_for_each_message_so_that_its_failure_is_met_there(
    device: str, backend: str, blocking: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCH_NCCL_BLOCKING_WAIT", raising=False)
    begun = []

    def begin(name: str) -> None:
        begun.append((name, os.environ.get("TORCH_NCCL_BLOCKING_WAIT")))

    monkeypatch.setattr("torch.distributed.init_process_group", begin)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    monkeypatch.setattr("cinefuse.fuse.training.processes.atexit.register", lambda _: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda _: None)
    ranks, place = ranks_of_launcher(device)
    monkeypatch.delenv("TORCH_NCCL_BLOCKING_WAIT", raising=False)
    assert begun == [(backend, blocking)]
    assert (ranks, place) == (Ranks(1, 2, 2), "cuda:1" if device == "cuda" else "cpu")


@given(items=st.lists(st.integers(), max_size=40), count=st.integers(1, 8))
def test_every_item_is_read_by_exactly_one_rank(items: list[int], count: int) -> None:
    shares = [Ranks(rank, count).share(items) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_gpu_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="2 processes cannot share one GPU; use --device cuda"):
        ranks_of_launcher("cuda:0")


def test_a_process_by_itself_is_told_nothing_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks_of_launcher("cpu") == (Ranks(), "cpu")
