"""Laws of `RunFolder`: it knows every file of a run, and in which order its fits were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cinefuse.fuse.runs.run_folder import FitFiles, RunFolder
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.presets import preset

QUICK = ["adapt=false", "factor_steps=4", "epochs=1", "dim=4", "objective=both", "members=2", "modalities=none"]


def _known(folder: RunFolder) -> set[Path]:
    properties = [name for name, value in vars(RunFolder).items() if isinstance(value, property)]
    values: list[Any] = [getattr(folder, name) for name in properties]
    return {value for value in values if isinstance(value, Path)}


def test_every_file_of_a_run_is_one_that_the_run_folder_names(sample: Path, tmp_path: Path) -> None:
    run = train(sample, None, tmp_path / "run", preset("best").with_settings(QUICK), device="cpu")
    fits = {*run.files.fits.all_finished(), *run.files.ranking_fits.all_finished()}
    assert len(fits) == 4  # one that only measures the validation RMSE, two members, and one of ranking
    there = set(run.folder.iterdir())
    assert fits <= there
    assert {file for file in there - fits if not file.name.startswith(".")} <= _known(run.files)
    assert run.files.is_begun()
    assert run.files.is_finished()
    assert run.served_fits() == run.files.fits.all_finished()[-2:]


def test_fits_come_in_the_order_of_their_numbers_and_those_of_ranking_are_others(tmp_path: Path) -> None:
    for prefix in ("", "ranking-"):
        for number in (0, 2, 10):
            FitFiles(tmp_path, prefix).finished(number).touch()
    for fits in (RunFolder(tmp_path).fits, RunFolder(tmp_path).ranking_fits):
        assert fits.all_finished() == [fits.finished(number) for number in (0, 2, 10)]


@pytest.mark.parametrize("kept", ["summary", "choices"])
def test_a_folder_holds_work_once_something_worth_keeping_is_there(kept: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.record.touch()
    assert not folder.holds_work()
    for file in (getattr(folder, kept), folder.fits.in_progress, folder.ranking_fits.finished(0)):
        file.touch()
        assert folder.holds_work()
        file.unlink()
