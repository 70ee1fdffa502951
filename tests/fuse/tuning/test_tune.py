"""Laws of tuning: test ratings are never read, what was found is kept, and a split that was seen is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from cinefuse.cli import app
from cinefuse.data.dataset.splits import split_ratings
from cinefuse.data.runtime.errors import BadInput, FingerprintMismatch, UsageError
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.tuning.space import SPACE, with_factors
from cinefuse.fuse.tuning.tune import Tuned, tune
from cinefuse.fuse.tuning.tuned_settings import TunedSettings

SMALL = {"dim": 4, "layers": 0, "epochs": 1, "adapt": False}
CONFIG = replace(preset("best"), **SMALL, factor_steps=12, members=1)  # type: ignore[arg-type]


def _tuned(dataset: Path, out: Path, *, trials: int = 3, split: str = "random:0.2") -> Tuned:
    return tune(dataset, None, out, CONFIG, split=split, trials=trials, minutes=10, device="cpu")


def _values(out: Path) -> list[float | None]:
    storage = JournalStorage(JournalFileBackend(str(out / "trials.jsonl")))
    return [trial.value for trial in optuna.load_study(study_name="tune", storage=storage).trials]


@pytest.mark.slow
def test_a_search_reads_no_test_rating(sample: Path, own_sample: Path, tmp_path: Path) -> None:
    _tuned(sample, tmp_path / "as-it-is")
    test = split_ratings(own_sample, "random:0.2").test
    ratings = pl.read_parquet(own_sample / "ratings.parquet")
    changed = ratings["rating"].to_numpy().copy()
    changed[test] = changed.max() + changed.min() - changed[test]
    assert (changed[test] != ratings["rating"].to_numpy()[test]).any()
    ratings.with_columns(rating=pl.Series(changed, dtype=ratings["rating"].dtype)).write_parquet(
        own_sample / "ratings.parquet"
    )
    _tuned(own_sample, tmp_path / "changed")
    assert _values(tmp_path / "as-it-is") == _values(tmp_path / "changed")


def test_draws_of_validation_ratings_share_a_test_part_and_nothing_else(sample: Path) -> None:
    first, second = (split_ratings(sample, "random:0.2", draw=draw) for draw in (0, 1))
    assert np.array_equal(first.test, second.test)
    assert not np.array_equal(first.validation, second.validation)
    assert np.array_equal(first.validation, split_ratings(sample, "random:0.2").validation)


@pytest.mark.slow
def test_a_search_starts_at_what_a_run_chooses_by_itself(sample: Path, tmp_path: Path) -> None:
    tune(sample, None, tmp_path / "tuned", replace(CONFIG, adapt=True), trials=1, minutes=10, device="cpu")
    chosen = json.loads((tmp_path / "tuned" / "choices.json").read_text())
    assert chosen["trials"]
    assert TunedSettings.load(tmp_path / "tuned" / "settings.json").members == chosen["members"]


@pytest.mark.slow
def test_the_first_trial_is_what_a_run_chooses_and_what_is_written_is_never_worse_than_it(
    sample: Path, tmp_path: Path
) -> None:
    found = _tuned(sample, tmp_path / "tuned", trials=4)
    assert found.settings.validation["tuned"] <= found.settings.validation["start"]
    assert found.settings.confirmed
    assert not {"modalities", "text_components"} & found.settings.settings.keys()  # what is absent is no choice
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "tuned" / "trials.jsonl")))
    first = optuna.load_study(study_name="tune", storage=storage).trials[0]
    assert set(first.params.values()) == {1.0}
    assert TunedSettings.load(tmp_path / "tuned" / "settings.json") == found.settings


@pytest.mark.slow
def test_a_second_call_goes_on_with_the_trials_there_are_and_another_split_is_refused(
    sample: Path, tmp_path: Path
) -> None:
    _tuned(sample, tmp_path / "tuned", trials=2)
    before = _values(tmp_path / "tuned")
    _tuned(sample, tmp_path / "tuned", trials=2)
    after = _values(tmp_path / "tuned")
    assert after[:2] == before
    assert len(after) == 4
    with pytest.raises(FingerprintMismatch, match="another split"):
        _tuned(sample, tmp_path / "tuned", split="random:0.3")


def test_settings_are_refused_for_test_ratings_that_the_search_has_seen(
    sample: Path, own_sample: Path, tmp_path: Path
) -> None:
    found = _tuned(sample, tmp_path / "tuned", trials=1).settings
    found.refuse_if_seen(sample, "random:0.2", 0)
    found.refuse_if_seen(sample, "all", 0)
    for split, seed in (("random:0.2", 1), ("random:0.5", 0), ("cold-items:0.2", 0)):
        with pytest.raises(UsageError, match=r"has seen [\d,]+ of the [\d,]+ test ratings"):
            found.refuse_if_seen(sample, split, seed)
    ratings = pl.read_parquet(own_sample / "ratings.parquet")
    ratings.head(len(ratings) - 1).write_parquet(own_sample / "ratings.parquet")
    found.refuse_if_seen(own_sample, "random:0.5", 3)  # other ratings: nothing was seen


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"format": "cinefuse-run"}', '{"format": "cinefuse-settings", "version": 1}']
)
def test_a_file_that_is_no_settings_file_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
    with pytest.raises(BadInput, match="--settings"):
        TunedSettings.load(tmp_path / "settings.json")


@pytest.mark.parametrize("name", SPACE)
def test_every_factor_changes_settings_that_exist_and_one_is_no_change(name: str) -> None:
    best = preset("best")
    assert with_factors(best, {name: 1.0}) == best
    assert with_factors(best, {name: 1.9}) != best


@pytest.mark.slow
def test_fuse_takes_what_tune_wrote_and_refuses_a_split_it_has_seen(sample: Path, tmp_path: Path) -> None:
    words = [f"--set={name}={value}" for name, value in (SMALL | {"factor_steps": 12, "members": 1}).items()]
    tuned, settings = str(tmp_path / "tuned"), str(tmp_path / "tuned" / "settings.json")
    _run(["tune", str(sample), tuned, "--split", "random:0.2", "--trials", "2", "--device", "cpu", *words])
    _run(
        ["fuse", str(sample), str(tmp_path / "run"), "--settings", settings, "--split", "random:0.2", "--device", "cpu"]
    )
    chosen = json.loads((tmp_path / "run" / "choices.json").read_text())
    assert chosen["members"] == TunedSettings.load(Path(settings)).members
    assert not chosen["trials"]  # the run has not searched once more
    with pytest.raises(UsageError, match="has seen"):
        _run(["fuse", str(sample), str(tmp_path / "other"), "--settings", settings, "--split", "random:0.3"])
    assert not (tmp_path / "other").exists()


def _run(words: list[str]) -> None:
    app(words, standalone_mode=False)


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_trial_so_far(sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    words = [f"--set={name}={value}" for name, value in (SMALL | {"factor_steps": 200, "members": 1}).items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "cinefuse", "tune", str(sample), str(out), "--split", "random:0.2", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "settings.json").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.2)  # into the next trial: not into the line that Optuna writes between two
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "by Ctrl-C" in shown
    assert not TunedSettings.load(out / "settings.json").confirmed
    shutil.rmtree(out)
