"""Runs that several test files of stage two read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cinefuse.fuse.runs.run import Run


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 40 films and 150 users, more than are scored at once; read it, never write into it."""
    from cinefuse.data.sample.catalogue import write_sample

    folder = tmp_path_factory.mktemp("crowd") / "dataset"
    write_sample(folder, items=40, users=150)
    return folder


@pytest.fixture(scope="session")
def crowd_runs(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A finished run of the crowd for each kind of prediction; read them, never write into them."""
    from cinefuse.tests.support.runs import KINDS, train_factors

    folder = tmp_path_factory.mktemp("runs")
    return {kind: train_factors(crowd, folder / kind, *settings) for kind, settings in KINDS.items()}


@pytest.fixture
def few_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten draws of Bayesian factors after the first ones, which are enough for small ratings."""
    from cinefuse.fuse.models import bayesian_factors

    monkeypatch.setattr(bayesian_factors, "SWEEPS", bayesian_factors._BURN_IN + 10)
