"""From interactions without ratings to lists beside the baselines: what is ranked, what is refused."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.runtime.progress import TerminalProgress
from cinefuse.data.sources.own_tables import import_table
from cinefuse.fuse.commands.evaluation_screen import show_evaluation
from cinefuse.fuse.evaluation.comparison import compare
from cinefuse.fuse.evaluation.evaluate import evaluate
from cinefuse.fuse.explaining.explain import explain
from cinefuse.fuse.reporting.report import write_report
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.serving.predict import predict
from cinefuse.fuse.settings.presets import preset

SETTINGS = ["modalities=none", "factor_steps=30", "epochs=2"]


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users of two tastes who play items of their half; a dataset folder."""
    folder = tmp_path_factory.mktemp("plays")
    chance = np.random.default_rng(0)
    taste = (np.arange(90)[:, None] % 2 == np.arange(40)[None] % 2) * 0.4 + 0.03
    user, item = np.nonzero(chance.random(taste.shape) < taste)
    pl.DataFrame({"user_id": user, "item_id": item, "plays": chance.integers(1, 9, len(user))}).write_csv(
        folder / "plays.csv"
    )
    return import_table(folder / "dataset", interactions=folder / "plays.csv").folder


@pytest.fixture(scope="module")
def run(plays: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = preset("best").with_settings(SETTINGS)
    return train(plays, None, tmp_path_factory.mktemp("run") / "run", config, split="random:0.2")


@pytest.mark.slow
def test_interactions_train_a_ranking_model_alone(run: Run) -> None:
    assert run.implicit
    assert run.ranking is not None
    assert not run.recommender.predicts
    assert run.config.objective == "ranking"


def test_lists_of_interactions_are_judged_by_every_test_row(run: Run, plays: Path) -> None:
    found = evaluate(run, draws=50)
    assert (found.protocol, found.k, found.liked) == ("mmrec", 20, None)
    test = pl.read_parquet(plays / "ratings.parquet")[run.split.test]
    assert found.ranked_users == test["user_id"].n_unique()
    assert found.test_ratings == len(test)
    assert found.as_dict()["rmse"] == {"value": None, "low": None, "high": None}
    assert found.by_item["ratings"].sum() == len(test)
    assert found.lists["method"].unique(maintain_order=True).to_list() == ["this run", "most popular", "EASE"]
    assert found.lists["mean_rating"].null_count() == len(found.lists)
    by_popularity = found.differences.filter(method="most popular", k=5, metric="ndcg")
    assert by_popularity["low"].item() > 0  # the tastes are plain to see
    console = Console(file=io.StringIO(), width=120)
    show_evaluation(found, console)
    assert isinstance(console.file, io.StringIO)
    assert "the run has no rating model" in console.file.getvalue()


def test_the_report_of_a_run_without_a_rating_model_is_about_its_lists(run: Run, tmp_path: Path) -> None:
    written = write_report([run], tmp_path / "report.html", draws=10)
    page = written.file.read_text("utf-8")
    found = evaluate(run, draws=10)
    assert f"<dd>{found.ndcg:.4f}</dd>" in page
    for method in ("this run", "most popular", "EASE"):
        assert f'<th scope="row">{method}</th>' in page
    assert "because of" in page
    assert "in the test part" in page
    assert "a ranking model alone" in page
    for absent in ("RMSE", 'id="calibration"', 'id="learning"', ">nan<", ">rated 1<"):
        assert absent not in page, absent


def test_what_needs_ratings_is_refused_with_the_reason(run: Run, plays: Path, tmp_path: Path) -> None:
    pairs = pl.DataFrame({"user_id": [1], "item_id": [1]})
    with pytest.raises(BadInput, match="no rating model to predict by"):
        predict(run, pairs)
    with pytest.raises(BadInput, match="no rating model, whose predictions `explain` explains"):
        explain(run, [run.recommender.item_ids[0]])
    with pytest.raises(BadInput, match="no rating model, so it predicted no test rating"):
        compare([run])
    with pytest.raises(UsageError, match="interactions without ratings; use --objective ranking"):
        train(plays, None, tmp_path / "run", preset("best").with_settings([*SETTINGS, "objective=rating"]))
    assert not (tmp_path / "run").exists()


def test_without_its_dataset_such_a_run_cannot_be_evaluated_and_says_so(run: Run, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(run.folder, tmp_path / "run"))
    opened = Run.open(moved)
    opened = replace(opened, record=replace(opened.record, dataset=tmp_path / "elsewhere"))
    with pytest.raises(BadInput, match="isn't there any more"):
        evaluate(opened)


def test_training_counts_interactions_and_calls_them_so(
    plays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = preset("best").with_settings([*SETTINGS, "factor_steps=2"])
    train(plays, None, tmp_path / "run", config, progress=TerminalProgress(Console(stderr=True, width=200)))
    shown = capsys.readouterr().err
    assert "interactions: " in shown
    assert "with interactions" in shown
    assert "ratings: " not in shown
