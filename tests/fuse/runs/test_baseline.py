"""Laws of the warnings of a run: what does not beat biases alone, or got worse with every epoch, says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cinefuse.data.sources.own_tables import import_table
from cinefuse.fuse.commands.evaluation_screen import show_evaluation
from cinefuse.fuse.evaluation.evaluate import evaluate
from cinefuse.fuse.reporting.report import write_report
from cinefuse.fuse.runs.baseline import warnings_of
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.settings.presets import preset


def dataset_of_biases(folder: Path, count: int = 1500) -> Path:
    """Ratings that are user and item biases and noise: nothing beats a bias model on them."""
    draw = np.random.default_rng(0)
    pairs = draw.permutation(60 * 50)[:count]
    user, item = pairs // 50, pairs % 50
    noise = draw.normal(0, 0.6, count)
    rating = np.clip(np.round(3 + draw.normal(0, 0.7, 60)[user] + draw.normal(0, 0.7, 50)[item] + noise), 1, 5)
    pl.DataFrame({"user_id": user, "item_id": item, "rating": rating}).write_parquet(folder / "ratings.parquet")
    return import_table(folder / "dataset", ratings=folder / "ratings.parquet").folder


def trained(folder: Path, *settings: str, name: str = "best") -> Run:
    config = preset(name).with_settings([*settings, "members=1"])
    return train(dataset_of_biases(folder), None, folder / "run", config, device="cpu")


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose L2 is far too weak."""
    settings = (
        "adapt=false",
        "objective=rating",
        "l2.scale=0.0001",
        "factor_steps=120",
        "epochs=4",
        "dim=16",
        "head=squared",
    )
    return trained(tmp_path_factory.mktemp("overfitted"), *settings)


def test_a_run_that_overfits_says_both_in_its_summary_in_evaluate_and_in_its_report(
    overfitted: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = overfitted.summary
    assert summary["validation_rmse"] > summary["bias_validation_rmse"]
    assert summary["rmse"] > summary["bias_rmse"]
    says = ("does not beat biases alone on validation ratings", "validation RMSE rose from")
    assert len(summary["warnings"]) == 2
    show_evaluation(evaluate(overfitted, draws=10))
    shown = capsys.readouterr().out
    write_report([overfitted], tmp_path / "report.html", posters=False, draws=10)
    page = (tmp_path / "report.html").read_text("utf-8")
    for line in says:
        assert any(line in warning for warning in summary["warnings"])
        assert line in shown
        assert line in page
    assert f"{summary['bias_rmse']:.4f}" in page
    assert "warning: " in shown.splitlines()[-1]


def test_biases_alone_are_not_warned_of_themselves(tmp_path: Path) -> None:
    run = trained(tmp_path, "factor_steps=100", name="bias")
    assert run.summary["bias_validation_rmse"] < run.summary["validation_rmse"] + 0.05
    assert run.summary["warnings"] == []


def test_the_bias_model_knows_neither_validation_nor_test_ratings(overfitted: Run) -> None:
    ratings = pl.read_parquet(overfitted.record.dataset / "ratings.parquet")
    assert overfitted.summary["bias_validation_rmse"] > 0.5  # the noise, which only the ratings themselves would tell
    assert overfitted.summary["bias_rmse"] > 0.5
    assert len(overfitted.split.validation) == overfitted.summary["validation_ratings"] < len(ratings) / 5


EPOCHS = [{"epoch": number, "validation_rmse": rmse} for number, rmse in enumerate((0.82, 0.90, 0.92), 1)]


@pytest.mark.parametrize(
    ("figures", "epochs", "says"),
    [
        ({"validation_rmse": 0.92, "bias_validation_rmse": 0.95}, EPOCHS, "rose from 0.8200 after epoch 1 to 0.9200"),
        ({"validation_rmse": 0.82, "bias_validation_rmse": 0.95}, EPOCHS[:1], None),
        ({"validation_rmse": 0.82, "bias_validation_rmse": 0.82}, EPOCHS[:1], "does not beat biases alone"),
        ({}, [{"epoch": 1, "validation_rmse": None}], None),
    ],
    ids=["rose", "fine", "equal", "nothing held out"],
)
def test_what_is_warned_of_follows_from_validation_ratings_alone(
    figures: dict[str, Any], epochs: list[dict[str, Any]], says: str | None
) -> None:
    warnings = warnings_of(Config(), figures | {"validation_ratings": 1000} if figures else {}, epochs)
    assert [says in warning for warning in warnings] == [True] if says else warnings == []


def test_few_validation_ratings_are_warned_of() -> None:
    figures = {"validation_rmse": 0.8, "bias_validation_rmse": 0.9, "validation_ratings": 12}
    assert "12 validation ratings are too few" in warnings_of(Config(), figures, EPOCHS[:1])[0]
