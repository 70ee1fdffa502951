"""Laws of the plain command: `cinefuse fuse DATASET RUN` on ratings of any kind, with nothing else known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cinefuse.api import train
from cinefuse.data.runtime.errors import UsageError
from cinefuse.data.sources.own_tables import import_table
from cinefuse.fuse.settings.presets import preset
from cinefuse.tests.support.commands import Run, assert_refused_in_one_line

SMALL = (
    *("--set", "adapt=false", "--set", "objective=rating", "--set", "factor_steps=20"),
    *("--set", "epochs=2", "--set", "dim=4", "--device", "cpu"),
)


def ratings_of(folder: Path, **columns: Any) -> Path:
    """A table of 40 users and 30 items, 600 ratings from 1 to 5 in whole stars; ``columns`` replace or add some."""
    draw = np.random.default_rng(0)
    pairs = draw.permutation(1200)[:600]
    user, item = pairs // 30, pairs % 30
    rating = np.clip(np.round(3 + draw.normal(0, 1, 40)[user] + draw.normal(0, 1, 30)[item]), 1, 5)
    table = {"user_id": user, "item_id": item, "rating": rating, "test": np.arange(600) % 10 == 0}
    file = folder / "ratings.parquet"
    pl.DataFrame(table | columns).write_parquet(file)
    return file


@pytest.fixture
def ratings_alone(tmp_path: Path) -> Path:
    """A dataset of ratings, and nothing else."""
    return import_table(tmp_path / "alone", ratings=ratings_of(tmp_path)).folder


@pytest.mark.slow
def test_ratings_alone_are_trained_on_by_the_plain_command_which_says_what_is_absent(
    run: Run, ratings_alone: Path, tmp_path: Path
) -> None:
    ended = run("fuse", ratings_alone, tmp_path / "run", "--split", "column:test", *SMALL)
    assert ended.code == 0
    lines = [line for line in ended.err.splitlines() if "not used" in line]
    absent = "plot and poster embeddings (no embedding file is given), genres, years, tags, demographics"
    assert lines == [f"not there, so not used: {absent}"]
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert about["config"]["modalities"] == "none"
    assert not any(about["config"][name] for name in ("genres", "tags", "demographics"))
    assert run("fuse", ratings_alone, tmp_path / "run", "--split", "column:test", *SMALL, "--resume").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "evaluate",
        "recommend --user 3",
        "predict {ratings} --out {new}.csv",
        "explain --item 7",
        "report",
        "export {new}",
    ],
    ids=lambda words: words.split()[0],
)
def test_every_command_works_on_a_run_of_ratings_alone(
    words: str, run: Run, ratings_alone: Path, tmp_path: Path
) -> None:
    assert run("fuse", ratings_alone, tmp_path / "run", *SMALL, "--set", "members=1", "--set", "head=squared").code == 0
    command, *rest = words.format(ratings=tmp_path / "ratings.parquet", new=tmp_path / "new").split()
    ended = run(command, tmp_path / "run", *rest)
    assert ended.code == 0, ended.err


def test_from_python_nothing_but_ratings_is_needed_either(ratings_alone: Path, tmp_path: Path) -> None:
    settings = ["adapt=false", "objective=rating", "factor_steps=10", "epochs=1", "dim=4", "members=1"]
    trained = train(str(ratings_alone), None, str(tmp_path / "run"), preset("best").with_settings(settings))
    assert trained.config.modalities == "none"
    with pytest.raises(UsageError, match="preset paper reads embeddings"):
        train(ratings_alone, None, tmp_path / "paper", "paper")


@pytest.mark.slow
def test_what_an_embedding_file_lacks_is_not_read_by_the_default_and_refused_where_it_is_asked_for(
    run: Run, sample: Path, embeddings: Path, tmp_path: Path
) -> None:
    plots = tmp_path / "plots.h5"
    assert run("cache", "subset", embeddings, plots, "--modality", "text").code == 0
    ended = run("fuse", sample, plots, tmp_path / "run", *SMALL)
    assert "not there, so not used: poster embeddings, tags\n" in ended.err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["modalities"] == "text"
    both = run("fuse", sample, plots, tmp_path / "other", *SMALL, "--set", "modalities=both")
    assert_refused_in_one_line(both, 3, "no image embeddings")


@pytest.mark.slow
@pytest.mark.parametrize("settings", [("--seeds", 2), ("--folds", "kfold:2")], ids=str)
def test_several_runs_of_ratings_alone(
    settings: tuple[Any, ...], run: Run, ratings_alone: Path, tmp_path: Path
) -> None:
    assert run("fuse", ratings_alone, tmp_path / "runs", *SMALL, *settings).code == 0


@pytest.mark.slow
def test_a_study_of_ratings_alone_leaves_out_what_reads_embeddings(
    run: Run, ratings_alone: Path, tmp_path: Path
) -> None:
    ended = run("study", ratings_alone, tmp_path / "study", *SMALL, "--models", "mf,text,best-none,best")
    assert ended.code == 0
    assert "text is left out: no embedding file is given" in ended.out
    assert "best is left out: without an embedding file it is best-none" in ended.out
    assert run("study", ratings_alone, tmp_path / "best", *SMALL, "--models", "best").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "[OPTIONS] DATASET [CACHE.h5] RUN`"),
        ("{dataset}", "Missing argument 'RUN'"),
        ("{dataset} a b c", "expected one embedding file at most, found 2: a, b"),
        ("{dataset} films.h5", "found films.h5 where the run folder to make comes last: name one after it"),
        ("{ratings} {new}", "cinefuse data import table NAME --ratings"),
        ("{dataset} {dataset} {new}", "found the folder"),
    ],
)
def test_a_wrong_number_of_words_or_another_order_teaches_the_right_one(
    words: str, says: str, run: Run, ratings_alone: Path, tmp_path: Path
) -> None:
    places = {"dataset": ratings_alone, "ratings": tmp_path / "ratings.parquet", "new": tmp_path / "new"}
    assert_refused_in_one_line(run("fuse", *words.format(**places).split()), 2, says)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("spec", ["random:2", "radnom:0.1", "column:tset", "u1", "temporal:0.1", "file:none.txt"])
def test_a_split_that_is_refused_leaves_no_folder_behind(
    spec: str, run: Run, ratings_alone: Path, tmp_path: Path
) -> None:
    ended = run("fuse", ratings_alone, tmp_path / "runs" / "new", "--split", spec, *SMALL)
    assert ended.code in (2, 3)
    assert not (tmp_path / "runs").exists()


def test_a_refusal_leaves_a_folder_that_was_there_before(run: Run, ratings_alone: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    assert run("fuse", ratings_alone, tmp_path / "runs", "--split", "u1", *SMALL).code == 2
    assert (tmp_path / "runs" / "notes.txt").read_text() == "mine"
    shutil.rmtree(tmp_path / "runs")


# --- ratings of every kind --------------------------------------------------------------------------------------------


def imported(folder: Path, **columns: Any) -> Path:
    """A dataset of the table of `ratings_of` with other columns."""
    return import_table(folder / "dataset", ratings=ratings_of(folder, **columns)).folder


def noise(count: int = 600) -> Any:
    """Numbers of the normal distribution, the same at each call."""
    return np.random.default_rng(1).normal(size=count)


NUMBERS = np.arange(600)
KINDS: dict[str, dict[str, Any]] = {
    "one user": {"user_id": np.zeros(600, int), "item_id": NUMBERS},
    "one item": {"user_id": NUMBERS, "item_id": np.zeros(600, int)},
    "a user each": {"user_id": NUMBERS, "item_id": NUMBERS},
    "continuous from -10 to 10": {"rating": np.clip(noise() * 4, -10, 10)},
    "two levels": {"rating": (noise() > 0).astype(float)},
    "booleans": {"rating": noise() > 0},
    "1 to 100": {"rating": np.clip(np.round(60 + 20 * noise()), 1, 100)},
    "half stars": {"rating": np.clip(np.round(6 + 2 * noise()) / 2, 0.5, 5)},
    "0 to 10": {"rating": np.clip(np.round(6 + 2 * noise()), 0, 10)},
    "negative whole numbers": {"rating": np.clip(np.round(noise()), -2, 2)},
    "tiny numbers": {"rating": noise() * 1e-4},
    "huge integer ids": {"user_id": NUMBERS % 40 + 2**60, "item_id": NUMBERS // 40 + 2**61},
    "text ids": {"user_id": [f"Zoë {n % 40}" for n in NUMBERS], "item_id": [f"tt{n // 40:07}" for n in NUMBERS]},
    "ids as floats": {"user_id": NUMBERS % 40 + 0.0, "item_id": NUMBERS // 40 + 0.0},
    "negative ids": {"user_id": NUMBERS % 40 - 20, "item_id": NUMBERS // 40 - 20},
    "every pair twice": {"user_id": NUMBERS % 300 // 10, "item_id": NUMBERS % 10},
    "one rating off the scale": {"rating": np.where(NUMBERS == 3, 99.0, np.round(3 + noise()))},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ratings_of_any_kind_are_trained_on_and_predictions_stay_on_their_scale(
    kind: str, run: Run, tmp_path: Path
) -> None:
    dataset = imported(tmp_path, **KINDS[kind])
    ended = run("fuse", dataset, tmp_path / "run", *SMALL)
    assert ended.code == 0, ended.err
    tested, ratings = (pl.read_parquet(tmp_path / name) for name in ("run/predictions.parquet", "ratings.parquet"))
    assert tested["prediction"].is_finite().all()
    given = ratings["rating"].cast(pl.Float64)
    assert tested["prediction"].min() >= given.min() - 1e-6
    assert tested["prediction"].max() <= given.max() + 1e-6
    assert run("evaluate", tmp_path / "run").code == 0
    user = str(tested["user_id"][0])
    assert run("recommend", tmp_path / "run", "--user", user).code == 0


@pytest.mark.slow
def test_a_user_with_thousands_of_ratings_is_one_user_among_others(run: Run, tmp_path: Path) -> None:
    ratings_of(tmp_path)
    many = {"user_id": np.full(30_000, 7), "item_id": np.arange(30_000) + 100, "rating": np.arange(30_000) % 5 + 1.0}
    file = tmp_path / "ratings.parquet"
    few = pl.read_parquet(file).drop("test")
    pl.concat([few, pl.DataFrame(many).select(few.columns)]).write_parquet(file)
    dataset = import_table(tmp_path / "dataset", ratings=file).folder
    assert run("fuse", dataset, tmp_path / "run", *SMALL).code == 0


def test_equal_ratings_are_said_to_teach_nothing(run: Run, tmp_path: Path) -> None:
    ended = run("fuse", imported(tmp_path, rating=np.full(600, 4.0)), tmp_path / "run", *SMALL)
    assert ended.code == 0
    assert ended.out.splitlines()[-1].startswith("warning: all ratings to learn from are 4, and so is every prediction")


def test_three_ratings_are_refused_unless_all_are_trained_on(run: Run, tmp_path: Path) -> None:
    three = {"user_id": [1, 2, 3], "item_id": [1, 2, 1], "rating": [3.0, 4.0, 5.0]}
    pl.DataFrame(three).write_parquet(tmp_path / "three.parquet")
    dataset = import_table(tmp_path / "dataset", ratings=tmp_path / "three.parquet").folder
    refused = run("fuse", dataset, tmp_path / "run", *SMALL)
    assert_refused_in_one_line(refused, 3, "split random:0.1 of 3 ratings: its test part is empty", "--split all")
    assert run("fuse", dataset, tmp_path / "run", *SMALL, "--split", "all").code == 0


@pytest.mark.slow
def test_counts_are_refused_with_three_ways_on(run: Run, tmp_path: Path) -> None:
    counts = np.clip(np.floor(np.exp(4 + 2 * noise())), 1, 1e6)
    dataset = imported(tmp_path, rating=counts)
    says = ("as counts do", "--log-ratings", "--objective ranking", "--set head=squared")
    assert_refused_in_one_line(run("fuse", dataset, tmp_path / "run", *SMALL), 3, *says)
    assert not (tmp_path / "run").exists()
    logs = import_table(tmp_path / "logs", ratings=tmp_path / "ratings.parquet", log_ratings=True).folder
    kept = pl.read_parquet(logs / "ratings.parquet")["rating"].to_numpy()
    assert np.allclose(kept, np.log1p(counts), rtol=1e-6)
    for number, words in enumerate(((logs,), (dataset, "--objective", "ranking"), (dataset, "--set", "head=squared"))):
        assert run("fuse", words[0], tmp_path / f"run{number}", *SMALL, *words[1:]).code == 0


@pytest.mark.slow
def test_few_ratings_say_that_their_validation_part_is_small(run: Run, tmp_path: Path) -> None:
    few = {name: values[:200] for name, values in pl.read_parquet(ratings_of(tmp_path)).to_dict().items()}
    pl.DataFrame(few).write_parquet(tmp_path / "few.parquet")
    dataset = import_table(tmp_path / "dataset", ratings=tmp_path / "few.parquet").folder
    ended = run("fuse", dataset, tmp_path / "run", *SMALL)
    assert "warning: 18 validation ratings are too few" in ended.out


# --- newcomers --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("user", "kind"),
    [
        ([3, 5, 999], pl.Int64),
        ([3.0, 5.0, 999.0], pl.Int64),
        (["3", "5", "999"], pl.Int64),
        (["3", "5", "nobody"], pl.String),
    ],
    ids=str,
)
def test_predicted_ids_have_the_type_of_the_run_and_equal_those_given(
    user: list[Any], kind: Any, run: Run, ratings_alone: Path, tmp_path: Path
) -> None:
    assert run("fuse", ratings_alone, tmp_path / "run", *SMALL).code == 0
    pairs = pl.DataFrame({"user_id": user, "item_id": [1, 2, 3]})
    pairs.write_parquet(tmp_path / "pairs.parquet")
    pairs.with_columns(pl.col("user_id").cast(pl.String).str.strip_suffix(".0")).write_csv(tmp_path / "pairs.csv")
    for suffix in ("parquet", "csv"):
        out = tmp_path / f"out-{suffix}.parquet"
        assert run("predict", tmp_path / "run", tmp_path / f"pairs.{suffix}", "--out", out).code == 0
        predicted = pl.read_parquet(out)
        assert predicted.schema["user_id"] == kind
        assert predicted.schema["item_id"] == pl.Int64
        assert predicted["user_id"].cast(pl.String).to_list() == [str(one).removesuffix(".0") for one in user]
        assert predicted["reason"].to_list() == [None, None, "unknown user"]
