"""Laws of a study: unlike models on the same ratings, figures that are those of the runs, and nothing trained twice."""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cinefuse.data.dataset.splits import Split, split_ratings
from cinefuse.data.runtime.errors import FingerprintMismatch, UsageError
from cinefuse.fuse.evaluation.evaluate import evaluate
from cinefuse.fuse.evaluation.metrics import bootstrap_interval, paired_difference
from cinefuse.fuse.runs.repeat import Spread, cases_of, folds_named
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.studies.study import default_splits, shrunk_user_mean, study
from cinefuse.fuse.studies.study_models import MODELS, models_named
from cinefuse.fuse.studies.study_results import Study
from cinefuse.tests.support.progress import Lines

pytestmark = pytest.mark.slow  # whole studies

TINY = ["adapt=false", "factor_steps=20", "epochs=2", "width=16", "attention_heads=2", "dim=4"]
FOLDS = ["kfold:3/1", "kfold:3/2", "kfold:3/3"]


@pytest.fixture(scope="module")
def made(sample: Path, default_embeddings: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three models over three folds and two seeds, and over one cold split; read it, never write into it."""
    out = tmp_path_factory.mktemp("study")
    return study(
        sample,
        default_embeddings,
        out,
        groups=[FOLDS, ["cold-items:0.2"]],
        seeds=2,
        models=["bias", "mf", "best"],
        settings=TINY,
        device="cpu",
    )


def predictions(made: Study, name: str, split: str, seed: int) -> pl.DataFrame:
    folder = made.folder / name / split.replace(":", "-").replace("/", "-") / f"seed-{seed}"
    return pl.read_parquet(folder / "predictions.parquet")


def tables_in(text: str) -> list[list[dict[str, str]]]:
    """Every Markdown table as a list of rows."""
    tables: list[list[dict[str, str]]] = []
    heads: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads, _ = cells, tables.append([])
        elif set(line) <= set("|-: "):
            continue
        else:
            assert len(cells) == len(heads)
            tables[-1].append(dict(zip(heads, cells, strict=True)))
    return tables


# --- the models -------------------------------------------------------------------------------------------------------


def test_no_two_models_of_the_study_are_the_same() -> None:
    configs = {model.name: replace(model.config([]), preset="") for model in MODELS}
    assert all(one != other for one, other in combinations(configs.values(), 2))


def test_the_study_has_every_row_of_the_issue() -> None:
    shown = {model.name: model.config([]) for model in MODELS}
    assert shown["bias"].dim == 0
    assert {name: config.modalities for name, config in shown.items()} == {
        "bias": "none",
        "mf": "none",
        "text": "text",
        "poster": "image",
        "both-cls": "both",
        "both-tokens": "both",
        "best-none": "none",
        "best-transformer": "auto",
        "best-fused": "auto",
        "best": "auto",
    }
    assert (shown["both-cls"].level, shown["both-tokens"].level) == ("cls", "tokens")
    assert not shown["best"].fuses
    assert shown["best"].text_components
    assert shown["best-fused"].fuses
    assert shown["best-fused"].text_components
    assert shown["best-transformer"].fuses
    assert not shown["best-transformer"].text_components


def test_a_setting_never_makes_a_model_another_one() -> None:
    settings = ["modalities=text", "level=cls", "layers=3", "text_components=7", "epochs=5"]
    shown = {model.name: model.config(settings) for model in MODELS}
    assert all(config.epochs == 5 for config in shown.values())
    assert shown["mf"].modalities == shown["best-none"].modalities == "none"
    assert shown["poster"].modalities == "image"
    assert shown["both-tokens"].level == "tokens"
    assert shown["best"].layers == 0
    assert shown["best-transformer"].text_components == 0


def test_ratings_are_held_out_only_where_patience_has_to_judge_by_them() -> None:
    configs = {model.name: model.config([]) for model in MODELS}
    assert {name for name, config in configs.items() if config.validation} == {"text", "poster"}
    assert {name for name, config in configs.items() if config.patience} == {"text", "poster"}
    assert all(config.refit for config in configs.values())


def test_models_are_named_in_the_order_of_the_table_and_an_unknown_one_is_refused() -> None:
    assert [model.name for model in models_named(["best", "mf"])] == ["mf", "best"]
    assert models_named([]) == list(MODELS)
    with pytest.raises(UsageError, match="no model 'fm'"):
        models_named(["fm"])


# --- the figures ------------------------------------------------------------------------------------------------------


def test_the_csv_has_a_row_a_run_with_the_figures_of_its_summary(made: Study) -> None:
    runs = pl.read_csv(made.folder / "runs.csv")
    assert len(runs) == (3 + 1) * 2 * (3 + 1)
    trained = runs.filter(pl.col("model") != "mean")
    for row in trained.to_dicts():
        folder = made.folder / row["model"] / row["split"].replace(":", "-").replace("/", "-") / f"seed-{row['seed']}"
        summary = json.loads((folder / "summary.json").read_text())
        for column, figure in {"rmse": "rmse", "mae": "mae", "epochs": "chosen_epochs", "seconds": "seconds"}.items():
            assert row[column] == pytest.approx(summary[figure]), column


def test_mean_deviation_interval_and_difference_are_what_the_predictions_give(made: Study) -> None:
    results = pl.read_csv(made.folder / "results.csv").filter(splits=" ".join(FOLDS))
    assert results["model"].to_list() == ["mean", "bias", "mf", "best"]
    cases = [(fold, seed) for fold in FOLDS for seed in (0, 1)]
    of = {name: pl.concat([predictions(made, name, *case) for case in cases]) for name in ("mf", "best")}
    each = [predictions(made, "best", *case) for case in cases]
    rmse = [float(np.sqrt(((t["rating"] - t["prediction"]) ** 2).mean())) for t in each]
    row = results.filter(model="best").to_dicts()[0]
    assert row["runs"] == 6
    assert row["rmse"] == pytest.approx(statistics.fmean(rmse), abs=1e-6)
    assert row["deviation"] == pytest.approx(statistics.stdev(rmse), abs=1e-6)
    arrays = {name: table["prediction"].to_numpy() for name, table in of.items()}
    rating, user = of["mf"]["rating"].to_numpy(), of["mf"]["user_id"].to_numpy()
    interval = bootstrap_interval(rating, arrays["best"], user).rmse
    assert (row["rmse_low"], row["rmse_high"]) == pytest.approx((interval.low, interval.high))
    difference = paired_difference(rating, arrays["best"], arrays["mf"], user)
    found = (row["minus_mf"], row["minus_mf_low"], row["minus_mf_high"])
    assert found == pytest.approx((difference.value, difference.low, difference.high))
    reference = results.filter(model="mf").to_dicts()[0]
    assert reference["minus_mf"] is None


def test_lists_of_a_study_are_those_of_its_runs_over_all_users_of_all_cases(made: Study) -> None:
    table = pl.read_csv(made.folder / "lists.csv").filter(splits=" ".join(FOLDS))
    assert table["model"].to_list() == ["bias", "mf", "best", "most popular", "EASE"]
    assert table["runs"].to_list() == [6] * 5
    of_runs = [
        evaluate(Run.open(made.folder / "mf" / split.replace(":", "-").replace("/", "-") / f"seed-{seed}"), draws=1)
        for split in FOLDS
        for seed in (0, 1)
    ]
    for method, name in (("this run", "mf"), ("EASE", "EASE")):
        cases = [found.lists.filter(method=method, k=10).row(0, named=True) for found in of_runs]
        row = table.filter(model=name).row(0, named=True)
        weights = [case["users"] for case in cases]
        assert row["ndcg"] == pytest.approx(np.average([case["ndcg"] for case in cases], weights=weights))
        assert row["recall"] == pytest.approx(np.average([case["recall"] for case in cases], weights=weights))
        assert row["deviation"] == pytest.approx(statistics.stdev(case["ndcg"] for case in cases))
        assert row["low"] <= row["ndcg"] <= row["high"]
    ease, mf = (table.filter(model=name).row(0, named=True) for name in ("EASE", "mf"))
    assert mf["minus_ease"] == pytest.approx(mf["ndcg"] - ease["ndcg"])
    assert mf["minus_ease_low"] <= mf["minus_ease"] <= mf["minus_ease_high"]
    assert ease["minus_ease"] is None


def test_the_markdown_says_what_the_csv_says(made: Study) -> None:
    text = (made.folder / "results.md").read_text()
    folds, of_folds, cold, _ = tables_in(text)
    listed = pl.read_csv(made.folder / "lists.csv").filter(splits=" ".join(FOLDS))
    assert [f"{ndcg:.4f}" for ndcg in listed["ndcg"]] == [row["NDCG ± deviation"].split()[0] for row in of_folds]
    results = pl.read_csv(made.folder / "results.csv")
    titles = {"mean": "shrunk user mean", **{model.name: model.title for model in MODELS}}
    for table, splits in ((folds, FOLDS), (cold, ["cold-items:0.2"])):
        rows = results.filter(splits=" ".join(splits)).to_dicts()
        assert [row["model"] for row in table] == [titles[row["model"]] for row in rows]
        for shown, row in zip(table, rows, strict=True):
            assert shown["mean ± deviation"] == f"{row['rmse']:.4f} ± {row['deviation']:.4f}"
            assert shown["minus MF"] == ("" if row["minus_mf"] is None else f"{row['minus_mf']:+.4f}")
    runs = pl.read_csv(made.folder / "runs.csv")
    for fold in FOLDS:
        expected = statistics.mean(runs.filter(split=fold, model="best")["rmse"].to_list())
        assert folds[-1][fold] == f"{expected:.4f}"
    assert "95 %" in text
    assert "seeds: 0, 1" in text


def test_the_markdown_says_where_its_figures_came_from_and_names_no_folder_of_the_machine(
    made: Study, default_embeddings: Path, sample: Path
) -> None:
    from cinefuse.data.embeddings.file import EmbeddingFile

    text = (made.folder / "results.md").read_text()
    with EmbeddingFile.open(default_embeddings) as file:
        assert file.content_digest[:16] in text
        assert all(str(file[name].record["model"]) in text for name in ("text", "image"))
    assert all(setting in text for setting in TINY)
    assert str(sample.parent) not in text
    assert str(default_embeddings.parent) not in text


def test_the_shrunk_user_mean_is_what_a_reader_works_out_by_hand(tmp_path: Path) -> None:
    ratings = pl.DataFrame({"user_id": [1, 1, 1, 2, 2, 3], "item_id": [1, 2, 3, 1, 2, 1], "rating": [5, 4, 1, 2, 3, 1]})
    ratings.with_columns(pl.col("rating").cast(pl.Float32)).write_parquet(tmp_path / "ratings.parquet")
    rows = {"train": [0, 3], "validation": [1], "test": [2, 4, 5]}
    split = Split("hand", 0, **{part: np.array(found, np.int64) for part, found in rows.items()})
    mean = (5 + 4 + 2) / 3
    shown = shrunk_user_mean(tmp_path, split, pl.Series([1, 2, 3, 1]))
    assert shown.tolist() == pytest.approx([(9 + 5 * mean) / 7, (2 + 5 * mean) / 6, mean, (9 + 5 * mean) / 7])


def test_the_shrunk_user_mean_stands_in_the_table_for_the_split_of_each_case(made: Study, sample: Path) -> None:
    runs = pl.read_csv(made.folder / "runs.csv").filter(model="mean")
    for row in runs.to_dicts():
        split = split_ratings(sample, row["split"], seed=row["seed"])
        ratings = pl.read_parquet(sample / "ratings.parquet")[split.test]
        found = shrunk_user_mean(sample, split, ratings["user_id"])
        assert row["rmse"] == pytest.approx(float(np.sqrt(np.mean((found - ratings["rating"].to_numpy()) ** 2))))
        assert row["seconds"] is None


# --- what is left out, and what is kept -------------------------------------------------------------------------------


def test_a_model_whose_modality_the_file_lacks_is_left_out_with_a_line_that_says_so(
    sample: Path, encoders: Any, tmp_path: Path
) -> None:
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    plots = tmp_path / "plots.h5"
    extract(sample, plots, Settings(text_model=str(encoders.text), image_model=None, level="cls", device="cpu"))
    progress = Lines()
    options: dict[str, Any] = {"settings": TINY, "device": "cpu", "progress": progress}
    done = study(sample, plots, tmp_path / "study", models=["mf", "text", "poster", "both-tokens"], **options)
    assert [row.name for row in done.groups[0].rows] == ["mean", "mf", "text"]
    for name in ("poster", "both-tokens"):
        line = f"{name} is left out: {plots} has no image embeddings"
        assert line in progress.lines
        assert f"{name} is left out" in (tmp_path / "study" / "results.md").read_text()
    with pytest.raises(UsageError, match="poster is left out"):
        study(sample, plots, tmp_path / "none", models=["poster"], settings=TINY)


def test_the_token_model_is_left_out_where_the_file_has_cls_alone(sample: Path, encoders: Any, tmp_path: Path) -> None:
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    small = tmp_path / "cls.h5"
    models = {"text_model": str(encoders.text), "image_model": str(encoders.image)}
    extract(sample, small, Settings(**models, level="cls", device="cpu"))
    done = study(sample, small, tmp_path / "study", models=["both-cls", "both-tokens"], settings=TINY, device="cpu")
    assert [row.name for row in done.groups[0].rows] == ["mean", "both-cls"]
    assert "CLS embeddings alone" in done.skipped[0]


def test_a_study_keeps_finished_runs_goes_on_with_the_rest_and_refuses_other_settings(
    made: Study, sample: Path, default_embeddings: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(made.folder, tmp_path / "study"))
    for name in ("results.md", "results.csv", "runs.csv"):
        (own / name).unlink()
    gone = own / "best" / "kfold-3-2" / "seed-1"
    before = {file: file.stat().st_mtime_ns for file in own.rglob("summary.json")}
    shutil.rmtree(gone)
    options: dict[str, Any] = {"groups": [FOLDS, ["cold-items:0.2"]], "seeds": 2, "device": "cpu"}
    models = ["bias", "mf", "best"]
    study(sample, default_embeddings, own, models=models, settings=TINY, **options)
    after = {file: file.stat().st_mtime_ns for file in own.rglob("summary.json")}
    assert {file for file in before if before[file] != after[file]} == {gone / "summary.json"}
    columns = pl.exclude("seconds")
    again, first = (pl.read_csv(folder / "runs.csv").select(columns) for folder in (own, made.folder))
    assert again.equals(first)
    with pytest.raises(FingerprintMismatch, match="dim was 4, is 5"):
        study(sample, default_embeddings, own, models=models, settings=[*TINY, "dim=5"], **options)


def test_a_bad_split_is_refused_before_anything_is_trained(
    sample: Path, default_embeddings: Path, tmp_path: Path
) -> None:
    for groups in ([["random:0.1"], ["u9"]], [["random:0.1"], ["all"]]):
        with pytest.raises(UsageError):
            study(sample, default_embeddings, tmp_path / "study", groups=groups, models=["bias"], settings=TINY)
        assert not (tmp_path / "study").exists()


def test_without_splits_a_study_takes_the_official_folds_where_there_are_all_five(own_sample: Path) -> None:
    assert default_splits(own_sample) == ["random:0.1"]
    (own_sample / "splits").mkdir(exist_ok=True)
    rows = pl.DataFrame({"row": pl.Series([0, 1], dtype=pl.UInt32), "part": ["test", "train"]})
    for fold in range(1, 6):
        assert default_splits(own_sample) == ["random:0.1"]
        rows.write_parquet(own_sample / "splits" / f"u{fold}.parquet")
    assert default_splits(own_sample) == ["u1", "u2", "u3", "u4", "u5"]


def test_rows_tested_on_other_ratings_are_never_subtracted(made: Study) -> None:
    from cinefuse.data.runtime.errors import BadInput

    folds, cold = made.groups
    other = replace(cold.rows[0], tested=cold.rows[0].tested * 3)
    with pytest.raises(BadInput, match="tested on other ratings"):
        folds.rows[0].minus(other)


# --- folds, seeds and spreads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("u1", ["u1"]),
        ("u1,u3", ["u1", "u3"]),
        ("u1..u3", ["u1", "u2", "u3"]),
        ("u1..3, ua", ["u1", "u2", "u3", "ua"]),
        ("kfold:2", ["kfold:2/1", "kfold:2/2"]),
    ],
)
def test_folds_are_named_one_by_one_or_as_a_span(text: str, names: list[str]) -> None:
    assert folds_named(text) == names


@pytest.mark.parametrize("text", ["", "u1,,u2", "u1,u1", "u5..u1", "u1..v3", "u1..u3,u2"])
def test_folds_that_are_none_or_named_twice_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--folds"):
        folds_named(text)


def test_every_split_meets_every_seed_in_a_folder_of_its_own() -> None:
    assert [case.folder for case in cases_of(["u1"], [0])] == [Path()]
    assert [str(case.folder) for case in cases_of(["u1"], [3, 4])] == ["seed-3", "seed-4"]
    assert [str(case.folder) for case in cases_of(["u1", "random:0.1"], [0])] == ["u1", "random-0.1"]
    both = cases_of(["kfold:2/1", "kfold:2/2"], [0, 1])
    assert [str(case.folder) for case in both] == [f"kfold-2-{fold}/seed-{seed}" for fold in (1, 2) for seed in (0, 1)]
    with pytest.raises(UsageError, match="unlike splits"):
        cases_of(["file:a/b", "file:a-b"], [0])


def test_a_spread_is_mean_and_deviation_of_a_sample() -> None:
    assert Spread.of([]) is None
    assert str(Spread.of([0.9])) == "0.9000"
    assert str(Spread.of([0.9, 1.0, 1.1])) == "1.0000 ± 0.1000"


def test_a_study_of_interactions_without_ratings_is_one_of_lists(sample: Path, tmp_path: Path) -> None:
    clicks = tmp_path / "clicks"
    shutil.copytree(sample, clicks)
    about = json.loads((clicks / "dataset.json").read_text())
    (clicks / "dataset.json").write_text(json.dumps(about | {"implicit": True}))
    done = study(
        clicks, None, tmp_path / "out", groups=[["random:0.2"]], models=["bias", "mf", "best-none"], settings=TINY
    )
    assert not done.rates
    assert done.skipped == ("bias is left out: it predicts ratings, and the dataset has none",)
    lists = pl.read_csv(tmp_path / "out" / "lists.csv")
    assert lists["model"].to_list() == ["mf", "best-none", "most popular", "EASE"]
    found = evaluate(Run.open(tmp_path / "out" / "mf" / "random-0.2" / "seed-0"), draws=5)
    assert lists["ndcg"][0] == pytest.approx(found.ndcg)
    text = (tmp_path / "out" / "results.md").read_text()
    assert "RMSE" not in text
    assert [row["model"] for row in tables_in(text)[0]][:2] == [
        "biased matrix factorisation",
        "best without plots and posters",
    ]
    with pytest.raises(UsageError, match="no model is left; bias is left out: it predicts ratings"):
        study(clicks, None, tmp_path / "other", models=["bias"], settings=TINY)
