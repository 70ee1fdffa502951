"""Laws of the commands of stage two, as a shell meets them: real files, real models, real processes."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from cinefuse.data.runtime.lock import sole_writer
from cinefuse.fuse.commands.serving import _ids_in
from cinefuse.fuse.commands.settings_screen import show_settings
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.serving.table_files import read_pairs
from cinefuse.fuse.settings.config import SETTINGS, Config
from cinefuse.fuse.settings.presets import PRESETS, preset
from cinefuse.tests.support.commands import HEAVY, Run, assert_refused_in_one_line, imported_by
from cinefuse.tests.support.forked import ForkedCommands

TINY = tuple(
    word
    for setting in ("adapt=false", "factor_steps=20", "epochs=2", "width=16", "attention_heads=2", "layers=1", "dim=4")
    for word in ("--set", setting)
)
QUICK = ("--preset", "mf", "--set", "factor_steps=10", "--set", "dim=4")


def extracted(sample: Path, encoders: Any, out: Path, **settings: Any) -> Path:
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    models = {"text_model": str(encoders.text), "image_model": str(encoders.image), "device": "cpu"}
    extract(sample, out, Settings(**(models | settings)))
    return out


@pytest.fixture(scope="module")
def cache(default_embeddings: Path) -> Path:
    return default_embeddings


@pytest.fixture(scope="module")
def trained(sample: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the preset best; read it, never write into it."""
    out = tmp_path_factory.mktemp("trained") / "best"
    return train(sample, cache, out, preset("best").with_settings([*TINY[1::2]]), device="cpu").folder


@pytest.fixture(scope="module")
def factors(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the preset mf on the same split; read it, never write into it."""
    out = tmp_path_factory.mktemp("trained") / "mf"
    return train(sample, None, out, preset("mf").with_settings([*QUICK[3::2]]), device="cpu").folder


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_list_of_settings_has_each_with_its_default_and_where_presets_differ(run: Run) -> None:
    ended = run("fuse", "--list-settings")
    assert ended.code == 0
    rows = {line.split()[0]: line for line in ended.out.splitlines()}
    for name, declared in SETTINGS.items():
        meaning = declared.meaning
        if name == "preset":
            continue
        assert meaning in rows[name]
        default = Config().value(name)
        assert rows[name].split()[1] == (str(default).lower() if isinstance(default, bool) else str(default))
        for name_of_preset, config in PRESETS.items():
            value = config.value(name)
            shown = f"{name_of_preset} {str(value).lower() if isinstance(value, bool) else value}"
            assert (shown in rows[name].replace(meaning, "")) == (value != default)


def test_the_list_of_settings_fits_a_narrow_terminal() -> None:
    console = Console(width=80, record=True, file=io.StringIO(), force_terminal=True)
    show_settings(console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert all(declared.meaning in text for name, declared in SETTINGS.items() if name != "preset")


@pytest.mark.parametrize(
    "words", ["fuse --help", "fuse --list-settings", "study --help", "recommend --help", "evaluate --help"]
)
def test_help_and_the_list_of_settings_import_nothing_heavy(words: str) -> None:
    assert not HEAVY & imported_by(*words.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (("--set", "epochs=3"), "epochs", 3),
        (("--set", "head=ordinal"), "head", "ordinal"),
        (("--seed", 7), "seed", 7),
        (("--validation", 0.25), "validation", 0.25),
        (("--precision", "fp32"), "precision", "fp32"),
        (("--preset", "bias"), "preset", "bias"),
        (("--set", "seed=5"), "seed", 5),
    ],
    ids=str,
)
def test_an_option_reaches_the_config_that_the_run_keeps(
    words: tuple[object, ...], name: str, value: object, run: Run, sample: Path, tmp_path: Path
) -> None:
    assert run("fuse", sample, tmp_path / "run", *QUICK, "--device", "cpu", *words).code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"][name] == value


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_ends_with_its_test_errors_its_folder_and_commands_that_work(
    run: Run, sample: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my runs" / "best"
    ended = run("fuse", sample, cache, out, *TINY)
    assert ended.code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert f"RMSE {summary['rmse']:.4f}, MAE {summary['mae']:.4f}" in ended.out
    assert str(out) in ended.out
    assert "epoch 2/2" in ended.err
    nexts = re.findall(r"cinefuse (evaluate|recommend) '(.*?)'(.*)", ended.out)
    assert [command for command, *_ in nexts] == ["evaluate", "recommend"]
    for command, folder, rest in nexts:
        assert run(command, folder, *rest.split()).code == 0


def test_a_log_has_one_line_for_each_epoch(run: Run, sample: Path, cache: Path, tmp_path: Path) -> None:
    ended = run("fuse", sample, cache, tmp_path / "run", "--preset", "paper", "--objective", "rating", *TINY)
    assert ended.code == 0, ended.err
    epochs = [line for line in ended.err.splitlines() if " epoch " in line]
    assert [line.split("  ")[0] for line in epochs] == [f"fit {n}/2 epoch {e}/2" for n in (1, 2) for e in (1, 2)]


def test_json_is_the_summary_and_nothing_else(run: Run, sample: Path, tmp_path: Path) -> None:
    ended = run("fuse", sample, tmp_path / "run", *QUICK, "--json")
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert json.loads(ended.out) == {"run": str(tmp_path / "run")} | kept


def test_a_model_without_embeddings_needs_no_embedding_file_and_takes_one_without_a_word(
    run: Run, sample: Path, cache: Path, tmp_path: Path
) -> None:
    assert run("fuse", sample, tmp_path / "a", *QUICK).code == 0
    assert run("fuse", sample, cache, tmp_path / "b", *QUICK).code == 0
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert models[0] == models[1]


@pytest.mark.slow
def test_a_run_that_was_refused_can_be_corrected_in_the_same_folder(
    run: Run, sample: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("--set", "modalities=both")
    assert_refused_in_one_line(run("fuse", sample, out, *TINY, *words), 2, "give the file that `cinefuse extract` made")
    assert_refused_in_one_line(run("fuse", sample, cache, out, *TINY, "--split", "radnom:0.1"), 2, "random")
    assert_refused_in_one_line(run("fuse", sample, cache, out, *TINY, "--missing", "error"), 3)
    assert run("fuse", sample, cache, out, *TINY, "--split", "random:0.2").code == 0
    assert json.loads((out / "config.json").read_text())["split"] == "random:0.2"


def test_a_finished_run_is_kept_by_resume_and_refused_without(run: Run, sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("fuse", sample, out, *QUICK).code == 0
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert_refused_in_one_line(run("fuse", sample, out, *QUICK), 2, "--resume")
    ended = run("fuse", sample, out, *QUICK, "--resume")
    assert ended.code == 0
    assert "finished already" in ended.err
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before


@pytest.mark.slow
def test_a_warm_start_takes_the_weights_of_an_earlier_run(run: Run, sample: Path, tmp_path: Path) -> None:
    long, short = [[*QUICK, "--set", "l2.scale=0.01", "--set", f"factor_steps={steps}"] for steps in (100, 1)]
    assert run("fuse", sample, tmp_path / "long", *long).code == 0
    assert run("fuse", sample, tmp_path / "cold", *short).code == 0
    assert run("fuse", sample, tmp_path / "warm", *short, "--warm-start", tmp_path / "long").code == 0
    found = {name: pl.read_parquet(tmp_path / name / "predictions.parquet") for name in ("long", "cold", "warm")}
    from_long = {name: float((found[name]["prediction"] - found["long"]["prediction"]).abs().mean()) for name in found}
    assert from_long["warm"] < from_long["cold"] / 3


# --- several runs -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_seeds_and_folds_make_a_run_each_and_tell_mean_and_deviation(run: Run, sample: Path, tmp_path: Path) -> None:
    words = ["fuse", sample, tmp_path / "runs", *QUICK, "--folds", "kfold:3", "--seeds", 2, "--seed", 4]
    found = json.loads(run(*words, "--json").out)
    names = {f"kfold-3-{fold}/seed-{seed}" for fold in (1, 2, 3) for seed in (4, 5)}
    assert {str(Path(one["run"]).relative_to(tmp_path / "runs")) for one in found["runs"]} == names
    for one in found["runs"]:
        about = json.loads((Path(one["run"]) / "config.json").read_text())
        assert (about["split"], about["config"]["seed"]) == (one["split"], one["seed"])
    for figure in ("rmse", "mae"):
        values = [json.loads((tmp_path / "runs" / name / "summary.json").read_text())[figure] for name in names]
        assert found[figure]["mean"] == pytest.approx(np.mean(values))
        assert found[figure]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert json.loads((tmp_path / "runs" / "repeats.json").read_text()) == found
    tested = [pl.read_parquet(tmp_path / "runs" / f"kfold-3-{fold}/seed-4/predictions.parquet") for fold in (1, 2, 3)]
    assert sum(map(len, tested)) == len(pl.read_parquet(sample / "ratings.parquet"))
    shown = run(*words, "--resume").out
    assert f"{found['rmse']['mean']:.4f}" in shown
    assert f"{found['rmse']['deviation']:.4f}" in shown


@pytest.mark.slow
def test_a_folder_of_runs_is_refused_by_naming_the_runs_inside(run: Run, sample: Path, tmp_path: Path) -> None:
    assert run("fuse", sample, tmp_path / "runs", *QUICK, "--folds", "kfold:2", "--seeds", 2).code == 0
    runs = [tmp_path / "runs" / fold / seed for fold in ("kfold-2-1", "kfold-2-2") for seed in ("seed-0", "seed-1")]
    for words in ("evaluate {}", "recommend {} --user 1", "compare {}", "report {}", "explain {} --item 1"):
        ended = run(*words.format(tmp_path / "runs").split())
        assert_refused_in_one_line(ended, 3, *map(str, runs[:3]), "and 1 more; name one of them")
        assert str(runs[3]) not in ended.err
    assert_refused_in_one_line(run("evaluate", runs[0].parent), 3, f"it holds {runs[0]}, {runs[1]}; name one of them")


@pytest.mark.slow
def test_more_seeds_keep_the_runs_of_the_earlier_ones(run: Run, sample: Path, tmp_path: Path) -> None:
    words = ["fuse", sample, tmp_path / "runs", *QUICK]
    assert run(*words, "--seeds", 2, "--seed", 1).code == 0
    models = [tmp_path / "runs" / f"seed-{seed}" / "model.safetensors" for seed in (1, 2)]
    before = [model.stat().st_mtime_ns for model in models]
    assert_refused_in_one_line(run(*words, "--seeds", 3), 2, "seed-1", "--resume")
    assert not (tmp_path / "runs" / "seed-0").exists()
    assert run(*words, "--seeds", 3, "--resume").code == 0
    assert (tmp_path / "runs" / "seed-0" / "summary.json").exists()
    assert [model.stat().st_mtime_ns for model in models] == before


def test_a_fold_that_does_not_exist_is_refused_before_anything_is_trained(
    run: Run, sample: Path, tmp_path: Path
) -> None:
    ended = run("fuse", sample, tmp_path / "runs", *QUICK, "--folds", "random:0.1,u9")
    assert_refused_in_one_line(ended, 2, "u9")
    assert not (tmp_path / "runs").exists()


# --- evaluate, predict, recommend, compare, export --------------------------------------------------------------------


@pytest.mark.slow
def test_evaluate_tells_what_the_run_kept_as_table_and_json(run: Run, trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    found = json.loads(run("evaluate", trained, "--json", "-k", 5).out)
    assert found["rmse"]["value"] == pytest.approx(summary["rmse"])
    assert found["k"] == 5
    shown = run("evaluate", trained).out
    assert f"{summary['rmse']:.4f}" in shown
    assert "NDCG@10" in shown


def test_recommend_is_the_same_for_one_user_as_for_all_and_names_only_unseen_films(
    run: Run, trained: Path, sample: Path, tmp_path: Path
) -> None:
    one = json.loads(run("recommend", trained, "--user", 3, "-k", 4, "--json").out)
    assert run("recommend", trained, "--all", "-k", 4, "--out", tmp_path / "all.parquet").code == 0
    everybody = pl.read_parquet(tmp_path / "all.parquet")
    assert everybody["user_id"].n_unique() == 20
    assert everybody.filter(user_id=3)["item_id"].to_list() == [film["item_id"] for film in one]
    split = pl.read_parquet(trained / "split.parquet").filter(pl.col("part") != "test")
    seen = pl.read_parquet(sample / "ratings.parquet")[split["row"].to_list()].filter(user_id=3)["item_id"].to_list()
    assert not set(seen) & {film["item_id"] for film in one}
    shown = run("recommend", trained, "--user", 3, "-k", 4).out
    assert all(film["title"] in shown for film in one)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_predict_gives_the_run_own_predictions_in_the_order_of_the_pairs(
    suffix: str, run: Run, trained: Path, tmp_path: Path
) -> None:
    pairs = pl.read_parquet(trained / "predictions.parquet")
    out = tmp_path / f"out{suffix}"
    pairs.select(userId="user_id", movieId="item_id").write_csv(tmp_path / "pairs.csv")
    assert run("predict", trained, tmp_path / "pairs.csv", "--out", out).code == 0
    read = {".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}.get(suffix)
    table = read(out) if read else pl.read_csv(out, separator="\t" if suffix == ".tsv" else ",")
    assert table["item_id"].cast(pl.Int64).to_list() == pairs["item_id"].to_list()
    np.testing.assert_allclose(table["prediction"].to_numpy(), pairs["prediction"].to_numpy(), rtol=1e-6)


def test_ids_of_pairs_that_a_program_made_floats_are_the_whole_numbers_they_were(tmp_path: Path) -> None:
    pairs = pl.DataFrame({"user_id": [5.0, 7.0], "item_id": ["862.0", "15.0"]})
    mixed = pl.DataFrame({"user_id": [5.5, 7.0], "item_id": ["862.0", "15"]})
    for suffix, write in (("parquet", pl.DataFrame.write_parquet), ("csv", pl.DataFrame.write_csv)):
        file = tmp_path / f"pairs.{suffix}"
        write(pairs, file)
        assert [tuple(map(int, row)) for row in read_pairs(file).rows()] == [(5, 862), (7, 15)]
        write(mixed, file)
        assert read_pairs(file).rows() in ([(5.5, "862.0"), (7.0, "15")], [("5.5", "862.0"), ("7.0", "15")])


def test_an_id_with_a_comma_is_liked_between_quotes() -> None:
    assert _ids_in('1, 50,"Heat, the film", "a ""b"""') == ["1", "50", "Heat, the film", 'a "b"']


@pytest.mark.slow
def test_compare_tells_each_run_and_its_difference_to_the_first(run: Run, trained: Path, factors: Path) -> None:
    found = json.loads(run("compare", trained, factors, "--json").out)["ratings"]
    rmse = [json.loads((folder / "summary.json").read_text())["rmse"] for folder in (trained, factors)]
    assert [one["rmse"] for one in found] == pytest.approx(rmse)
    assert found[1]["difference"] == pytest.approx(rmse[1] - rmse[0])
    assert f"{rmse[1]:.4f}" in run("compare", trained, factors).out


def test_export_writes_vectors_and_says_how_exact_they_are(run: Run, factors: Path, tmp_path: Path) -> None:
    ended = run("export", factors, tmp_path / "vectors")
    assert ended.code == 0
    assert "exactly" in ended.out
    assert len(pl.read_parquet(tmp_path / "vectors" / "films.parquet")) == 40
    ended = run("export", factors, tmp_path / "numpy", "--format", "npy", "--json")
    assert json.loads(ended.out)["ranks_exactly"] is True
    assert json.loads(ended.out)["by"] == "ranking"
    assert len(np.load(tmp_path / "numpy" / "users_vectors.npy", allow_pickle=False)) == 20


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("fuse {sample} {new} --preset bets", 2, "did you mean 'best'"),
        ("fuse {sample} {new} --preset mf --set epoch=2", 2, "did you mean 'epochs'"),
        ("fuse {sample} {new} --preset mf --set epochs=two", 2, "expected a whole number"),
        ("fuse {sample} {new} --preset mf --set epochs", 2, "expected name=value"),
        ("fuse {sample} {new} --preset mf --set epochs=0", 2, "epochs must lie from 1"),
        ("fuse {sample} {new} --preset mf --seed -1", 2, "seed must lie from 0"),
        ("fuse {sample} {new} --preset mf --seed 99999999999", 2, "to 2147483647, found 99999999999"),
        ("fuse {sample} {new} --preset mf --validation 1", 2, "validation must lie from 0"),
        ("fuse {sample} {new} --preset mf --precision fp8", 2, "found 'fp8'"),
        ("fuse {sample} {new} --preset mf --device abacus", 2, "--device abacus"),
        ("fuse {sample} {new} --preset mf --split u1 --folds u1,u2", 2, "found both"),
        ("fuse {sample} {new} --preset mf --folds u5..u1", 2, "u1..u5"),
        ("fuse {sample} {new} --preset mf --folds random:0.1,random:0.1", 2, "each fold once"),
        ("fuse {sample} {new} --preset mf --missing maybe", 2, "mask, drop or error"),
        ("fuse {sample} {new} --preset mf --duplicates maybe", 2, "last, first or error"),
        ("fuse {sample} {cache} {cache} {new}", 2, "one embedding file at most"),
        ("fuse {sample} {cache}", 2, "is a file, expected a run folder"),
        ("fuse {sample} {sample}/items.parquet {new}", 4, "expected a cinefuse embedding file"),
        ("fuse {empty} {new} --preset mf", 3, "not a dataset folder"),
        ("fuse {sample} {new} --preset mf --warm-start {empty}", 3, "is no run folder"),
        ("fuse {sample} {new} --preset mf --warm-start {factors}", 5, "dim"),
        ("fuse {sample} {new} --preset mf --folds kfold:0", 2, "expected at least 2 folds"),
        ("evaluate {empty}", 3, "is no run folder"),
        ("evaluate {trained} -k 0", 2, "k must be at least 1"),
        ("evaluate {trained} --liked nan", 2, "liked"),
        ("recommend {trained} --user 99", 3, "the nearest ids are 20, 19, 18"),
        ("recommend {trained} --user nobody", 3, "whole numbers"),
        ("recommend {trained}", 2, "--user ID, --all"),
        ("recommend {trained} --user 3 --all", 2, "--user ID, --all"),
        ("recommend {trained} --all", 2, "--out FILE.parquet or --json"),
        ("recommend {trained} --user 3 -k 0", 2, "k must be at least 1"),
        ("recommend {trained} --user 3 --out {new}.xls", 2, "found '.xls'"),
        ("predict {trained} {sample}/nothing.csv --out {new}.csv", 3, "no such file"),
        ("predict {trained} {sample}/items.parquet --out {new}.csv", 3, "expected columns user_id and item_id"),
        ("predict {trained} {sample}/ratings.parquet --out {new}", 2, "found 'no suffix'"),
        ("predict {factors} {sample}/ratings.parquet --out {new}.csv --distribution", 3, "head=ordinal"),
        ("compare {trained} {empty}", 3, "is no run folder"),
        ("export {factors} {factors}", 3, "is not an empty folder"),
        ("export {trained} {new} --by rating", 3, "the mean of 2 ordinal heads"),
        ("export {trained} {new} --format faiss", 2, "parquet or npy"),
        ("study {sample} {cache} {new} --models mf,paper", 2, "no model 'paper'"),
        ("study {sample} {cache} {new} --split all", 2, "needs a test part"),
        ("study {sample} {cache} {new} --split u9", 2, "no such fold"),
        ("study {sample} {cache} {new} --set epoch=1", 2, "did you mean 'epochs'"),
        ("study {sample} {new} --models text", 2, "no embedding file"),
        ("study {empty} {cache} {new}", 3, "not a dataset folder"),
    ],
    ids=lambda value: value if isinstance(value, str) and "{" in value else "",
)
def test_what_cannot_be_done_is_refused_in_one_line_that_names_it(
    words: str, code: int, says: str, run: Run, sample: Path, cache: Path, trained: Path, factors: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"sample": sample, "cache": cache, "trained": trained, "factors": factors}
    places |= {"new": tmp_path / "new", "empty": tmp_path / "empty"}
    ended = run(*(word.format(**places) for word in words.split()))
    assert_refused_in_one_line(ended, code, says)
    assert ended.out == ""
    assert not (tmp_path / "new" / "summary.json").exists()
    assert list(tmp_path.glob("new.*")) == []


@pytest.mark.slow
def test_a_modality_the_file_lacks_is_refused_by_name(run: Run, sample: Path, encoders: Any, tmp_path: Path) -> None:
    plots = extracted(sample, encoders, tmp_path / "plots.h5", image_model=None)
    assert_refused_in_one_line(run("fuse", sample, plots, tmp_path / "run", *TINY, "--preset", "paper"), 3, "no image")
    assert run("fuse", sample, plots, tmp_path / "run", *TINY, "--set", "modalities=text").code == 0


@pytest.mark.slow
def test_resume_refuses_an_embedding_file_that_is_another_than_the_run_began_with(
    run: Run, sample: Path, cache: Path, encoders: Any, tmp_path: Path
) -> None:
    own = shutil.copy(cache, tmp_path / "films.h5")
    words = ["fuse", sample, own, tmp_path / "run", *TINY, "--resume"]
    assert run(*words).code == 0
    Path(own).unlink()
    extracted(sample, encoders, Path(own), dtype="float32")
    assert_refused_in_one_line(run(*words), 5, "embeddings_digest")


def test_resume_refuses_other_settings_and_grown_ratings(run: Run, own_sample: Path, tmp_path: Path) -> None:
    words = ["fuse", own_sample, tmp_path / "run", *QUICK, "--resume"]
    assert run(*words).code == 0
    assert_refused_in_one_line(run(*words, "--set", "dim=5"), 5, "dim was 4, is 5")
    ratings = pl.read_parquet(own_sample / "ratings.parquet")
    ratings.head(len(ratings) - 1).write_parquet(own_sample / "ratings.parquet")
    assert_refused_in_one_line(run(*words), 5, "dataset_sha256")


def test_a_run_that_another_process_trains_is_busy(run: Run, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with sole_writer(tmp_path / "run" / "run"):
        assert_refused_in_one_line(run("fuse", sample, tmp_path / "run", *QUICK), 6, str(os.getpid()))


@pytest.mark.slow
def test_a_full_disk_is_refused_and_the_run_goes_on_where_there_is_room(run: Run, sample: Path, disk: Path) -> None:
    (disk / "ballast").write_bytes(bytes(2**20 - 40_000))
    words = ["fuse", sample, disk / "run", *QUICK, "--set", "dim=64", "--resume"]
    assert_refused_in_one_line(run(*words), 7, "disk is full")
    (disk / "ballast").unlink()
    assert run(*words).code == 0


@pytest.mark.slow
def test_an_unfinished_run_and_one_without_test_part_have_nothing_to_evaluate(
    run: Run, sample: Path, factors: Path, tmp_path: Path
) -> None:
    unfinished = Path(shutil.copytree(factors, tmp_path / "unfinished"))
    (unfinished / "summary.json").unlink()
    for words in (["evaluate", unfinished], ["recommend", unfinished, "--user", 3]):
        assert_refused_in_one_line(run(*words), 3, "--resume")
    whole = run("fuse", sample, tmp_path / "whole", *QUICK, "--split", "all")
    assert whole.code == 0
    assert "cinefuse recommend" in whole.out
    assert "cinefuse evaluate" not in whole.out, "there is no test part to evaluate"
    assert_refused_in_one_line(run("evaluate", tmp_path / "whole"), 3, "no test part")
    assert run("recommend", tmp_path / "whole", "--user", 3).code == 0
    assert_refused_in_one_line(run("compare", factors, tmp_path / "whole"), 3, "no test part")


# --- stopped and resumed ----------------------------------------------------------------------------------------------


LONGER = (*TINY, "--set", "objective=rating", "--set", "epochs=3", "--set", "members=2", "--device", "cpu")


@pytest.fixture(scope="module")
def uninterrupted(
    forked: ForkedCommands, sample: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, float]:
    """A run that nothing disturbed, and the seconds it took."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    began = time.monotonic()
    assert forked.run("fuse", sample, cache, out, *LONGER).code == 0
    return out, time.monotonic() - began


def assert_equal_runs(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "split.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert pl.read_parquet(one / "predictions.parquet").equals(pl.read_parquet(other / "predictions.parquet"))
    assert not (other / "state.safetensors").exists()


STAGES = {
    "joining": "cinefuse.fuse.runs.train:join",
    "splitting": "cinefuse.fuse.runs.train:split_ratings",
    "gathering": "cinefuse.fuse.runs.train:load_training_data",
    "the first pass": "cinefuse.fuse.training.member:Member.transformer_step",
    "light steps": "cinefuse.fuse.training.member:Member.factor_step#12",
    "saving": "cinefuse.fuse.training.loop:save_state",
    "the second fit": "cinefuse.fuse.training.member:Member.transformer_step#5",
    "saving a finished fit": "cinefuse.fuse.training.loop:save_state#4",
    "serving": "cinefuse.fuse.runs.finish:_served",
    "testing": "cinefuse.fuse.runs.finish:_tested",
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_at_every_stage_of_fuse_ends_with_130_and_resume_ends_in_the_same_model(
    stage: str, forked: ForkedCommands, sample: Path, cache: Path, uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    words = ["fuse", sample, cache, tmp_path / "run", *LONGER]
    assert_refused_in_one_line(forked.interrupt_at(STAGES[stage], *words), 130, "with --resume", str(tmp_path / "run"))
    assert forked.run(*words, "--resume").code == 0
    assert_equal_runs(uninterrupted[0], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.torture)])
def test_a_run_killed_at_any_moment_resumes_to_the_same_model(
    rounds: int, forked: ForkedCommands, sample: Path, cache: Path, uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    whole, seconds = uninterrupted
    chance, met = random.Random(rounds), 0
    for number in range(rounds):
        words = ["fuse", sample, cache, tmp_path / f"run-{number}", *LONGER, "--resume"]
        for _ in range(3):
            forked.start(*words)
            time.sleep(chance.uniform(0, seconds))
            met += forked.kill()
        ended = forked.run(*words)
        assert ended.code == 0, ended.err
        assert_equal_runs(whole, tmp_path / f"run-{number}")
    assert met, "no kill met a living process"


@pytest.mark.slow
def test_ctrl_c_between_seeds_keeps_the_finished_ones(forked: ForkedCommands, sample: Path, tmp_path: Path) -> None:
    words = ["fuse", sample, tmp_path / "runs", *QUICK, "--seeds", 3]
    assert_refused_in_one_line(forked.interrupt_at("cinefuse.fuse.runs.train:join#2", *words), 130, "with --resume")
    first = (tmp_path / "runs" / "seed-0" / "summary.json").stat().st_mtime_ns
    assert forked.run(*words, "--resume").code == 0
    assert (tmp_path / "runs" / "seed-0" / "summary.json").stat().st_mtime_ns == first
    assert len(json.loads((tmp_path / "runs" / "repeats.json").read_text())["runs"]) == 3


@pytest.mark.slow
def test_ctrl_c_during_a_study_says_to_run_it_again(
    forked: ForkedCommands, sample: Path, cache: Path, tmp_path: Path
) -> None:
    words = ["study", sample, cache, tmp_path / "study", "--models", "bias,mf", "--set", "factor_steps=10"]
    assert_refused_in_one_line(
        forked.interrupt_at("cinefuse.fuse.runs.train:join#2", *words),
        130,
        "run the same command again",
        str(tmp_path / "study"),
    )
    assert forked.run(*words).code == 0
    assert (tmp_path / "study" / "results.md").exists()
