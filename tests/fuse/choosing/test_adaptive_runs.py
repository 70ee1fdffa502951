"""Laws of runs whose settings follow the ratings: several processes, a resumption and a warm start keep one choice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cinefuse.data.sample.catalogue import write_sample
from cinefuse.fuse.choosing.search import Search
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.presets import preset
from cinefuse.tests.support.runs import L2_BY_HAND

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]  # whole searches

QUICK = ("dim=4", "factor_steps=12", "epochs=2", "precision=fp32", "objective=rating", "bayesian=false")
SETTINGS = (*QUICK, *L2_BY_HAND)
TWO_RANKS = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough ratings to try settings on."""
    folder = tmp_path_factory.mktemp("adaptive") / "dataset"
    write_sample(folder, items=40, users=60)
    return folder


@pytest.fixture(scope="module")
def alone(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An adaptive run of one process; it chose by trials."""
    run = train(crowd, None, tmp_path_factory.mktemp("alone") / "run", preset("best").with_settings(SETTINGS))
    assert run.choices is not None
    assert run.choices.trials
    assert any(run.choices.members), "the case must be one in which something other than the preset is chosen"
    return run


def by_two_ranks(dataset: Path, run: Path, *more: str) -> Run:
    words = ["fuse", dataset, run, "--split", "random:0.1", *(f"--set={setting}" for setting in SETTINGS), *more]
    command = [sys.executable, *TWO_RANKS, "-m", "cinefuse.cli", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder") == 1, "one rank prints the result"
    return Run.open(run)


def cut(run: Run, folder: Path) -> Path:
    """The folder as it was when its last fit began: the settings are chosen, and some fits are finished."""
    shutil.copytree(run.folder, folder)
    copy = Run.open(folder).files
    for file in (copy.summary, copy.model, copy.predictions, copy.fits.all_finished()[-1]):
        file.unlink()
    return folder


def test_two_ranks_train_with_the_settings_that_one_of_them_chose(alone: Run, crowd: Path, tmp_path: Path) -> None:
    both = by_two_ranks(crowd, tmp_path / "run")
    assert both.choices is not None
    assert alone.choices is not None
    assert both.choices.members == alone.choices.members
    assert len(both.choices.trials) == len(alone.choices.trials)
    assert both.members == alone.members
    np.testing.assert_allclose(
        both.predictions()["prediction"].to_numpy(), alone.predictions()["prediction"].to_numpy(), atol=1e-3
    )


def test_two_ranks_resume_an_adaptive_run_with_what_it_chose(alone: Run, crowd: Path, tmp_path: Path) -> None:
    folder = cut(alone, tmp_path / "run")
    chosen = json.loads((folder / "choices.json").read_text())
    chosen["reason"] = "as it was chosen before"  # a search of its own would write another
    (folder / "choices.json").write_text(json.dumps(chosen))
    resumed = by_two_ranks(crowd, folder, "--resume")
    assert json.loads((folder / "choices.json").read_text()) == chosen
    assert resumed.summary.choices is not None
    assert resumed.summary.choices[0] == "as it was chosen before"
    np.testing.assert_allclose(
        resumed.predictions()["prediction"].to_numpy(), alone.predictions()["prediction"].to_numpy(), atol=1e-3
    )


def test_a_warm_start_from_an_adaptive_run_keeps_its_choice_and_its_weights(
    alone: Run, crowd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "choose", lambda self: pytest.fail("searched again"))
    # so small a rate that the weights stay where they began: those of the earlier run
    still = alone.config.with_values({"factor_learning_rate": 1e-9, "validation": 0.0})
    warm = train(crowd, None, tmp_path / "warm", still, warm_start=alone.folder, split="random:0.1")
    assert warm.choices == alone.choices
    assert [member.head for member in warm.members] == [member.head for member in alone.members]
    assert len(warm.files.fits.all_finished()) == len(alone.members)
    chosen_rate = any("factor_learning_rate" in settings for settings in alone.choices.members)
    assert not chosen_rate, "a member with a rate of its own would move"
    np.testing.assert_allclose(
        warm.predictions()["prediction"].to_numpy(), alone.predictions()["prediction"].to_numpy(), atol=1e-4
    )


def test_two_ranks_start_from_an_adaptive_run(alone: Run, crowd: Path, tmp_path: Path) -> None:
    warm = by_two_ranks(crowd, tmp_path / "warm", "--warm-start", str(alone.folder))
    assert warm.choices == alone.choices
    assert warm.record.warm_start == str(alone.folder)
    assert len(warm.recommender.vectors) == len(alone.members)
    assert warm.summary.rmse is not None
    assert alone.summary.rmse is not None
    assert abs(warm.summary.rmse - alone.summary.rmse) < 0.1
