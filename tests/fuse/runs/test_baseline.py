"""Laws of the warnings of a run: what does not beat biases alone, or got worse with every epoch, says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.sources.own_tables import import_table
from cinefuse.fuse.commands.evaluation_screen import show_evaluation
from cinefuse.fuse.commands.training_screen import show_run
from cinefuse.fuse.evaluation.evaluate import evaluate
from cinefuse.fuse.reporting.report import write_report
from cinefuse.fuse.runs.baseline import warnings_of
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.summary import RunSummary
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
    config = preset(name).with_settings(["members=1", *settings])
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


@pytest.mark.slow
def test_a_run_that_overfits_says_both_in_its_summary_in_evaluate_and_in_its_report(
    overfitted: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = overfitted.summary
    assert summary.validation_rmse is not None
    assert summary.bias_validation_rmse is not None
    assert summary.validation_rmse > summary.bias_validation_rmse
    assert summary.rmse is not None
    assert summary.bias_rmse is not None
    assert summary.rmse > summary.bias_rmse
    says = ("does not beat biases alone on validation ratings", "validation RMSE rose from")
    assert len(summary.warnings) == 2
    show_evaluation(evaluate(overfitted, draws=10))
    shown = capsys.readouterr().out
    write_report([overfitted], tmp_path / "report.html", posters=False, draws=10)
    page = (tmp_path / "report.html").read_text("utf-8")
    for line in says:
        assert any(line in warning for warning in summary.warnings)
        assert line in shown
        assert line in page
    assert f"{summary.bias_rmse:.4f}" in page
    assert "warning: " in shown.splitlines()[-1]


@pytest.mark.slow
def test_biases_alone_are_not_warned_of_themselves(tmp_path: Path) -> None:
    run = trained(tmp_path, "factor_steps=100", name="bias")
    summary = run.summary
    assert summary.validation_rmse is not None
    assert summary.bias_validation_rmse is not None
    assert summary.bias_validation_rmse < summary.validation_rmse + 0.05
    assert summary.warnings == ()


def test_the_bias_model_knows_neither_validation_nor_test_ratings(overfitted: Run) -> None:
    ratings = pl.read_parquet(overfitted.record.dataset / "ratings.parquet")
    summary = overfitted.summary
    assert summary.bias_validation_rmse is not None
    assert summary.bias_rmse is not None
    assert summary.validation_ratings is not None
    assert summary.bias_validation_rmse > 0.5  # the noise, which only the ratings themselves would tell
    assert summary.bias_rmse > 0.5
    assert len(overfitted.split.validation) == summary.validation_ratings < len(ratings) / 5


RMSES = dict(enumerate((0.82, 0.90, 0.92), 1))


def summary_of(found: float | None, bias: float | None, ratings: int | None = 1000) -> RunSummary:
    return RunSummary(1, 1, 0.0, validation_rmse=found, bias_validation_rmse=bias, validation_ratings=ratings)


@pytest.mark.parametrize(
    ("summary", "rmses", "says"),
    [
        (summary_of(0.92, 0.95), RMSES, "rose from 0.8200 after epoch 1 to 0.9200"),
        (summary_of(0.82, 0.95), {1: 0.82}, None),
        (summary_of(0.82, 0.82), {1: 0.82}, "does not beat biases alone"),
        (summary_of(None, None, None), {}, None),
        (summary_of(0.8, 0.9, 12), {1: 0.82}, "12 validation ratings are too few"),
    ],
    ids=["rose", "fine", "equal", "nothing held out", "few"],
)
def test_what_is_warned_of_follows_from_validation_ratings_alone(
    summary: RunSummary, rmses: dict[int, float], says: str | None
) -> None:
    warnings = warnings_of(Config(), summary, rmses)
    assert [says in warning for warning in warnings] == [True] if says else warnings == []


def test_the_validation_rmse_is_the_first_members_and_the_screen_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path, "members=2", "adapt=false", "factor_steps=8", "epochs=2", "dim=4", "refit=false")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (first, other) = (line["validation_rmse"] for line in lines if line["epoch"] == 2)
    assert run.summary.validation_rmse == first != other
    show_run(run.folder, run.record, run.summary, "1")
    assert "by the first of the 2 averaged models" in " ".join(capsys.readouterr().out.split())
    assert run.summary.averaged == len(run.recommender.vectors) + (run.recommender.bayesian is not None)


@pytest.mark.parametrize("content", ["", "[]", '{"chosen_epochs": "4"}', '{"chosen_epochs": 4, "other": 1}'])
def test_a_damaged_summary_is_refused_in_a_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(BadInput, match="train the run again"):
        RunSummary.read(tmp_path / "summary.json")


def test_a_summary_survives_json(tmp_path: Path) -> None:
    summary = RunSummary(4, 2, 1.5, 3, {"share": 0.5}, ("all",), None, 0.9, 10, 1.0, 1.1, ("careful",), 10, 0.9, 0.7)
    summary.save(tmp_path / "summary.json")
    assert RunSummary.read(tmp_path / "summary.json") == summary
