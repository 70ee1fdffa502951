"""Laws of a run: interrupted it ends in the same bytes, diverging it keeps what was good, misled it refuses."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from cinefuse.data.dataset.splits import split_ratings
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import BadInput, Busy, CinefuseError, FingerprintMismatch, UsageError
from cinefuse.fuse.inputs.join import join
from cinefuse.fuse.inputs.training_data import load_training_data
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.settings.presets import PRESETS, preset
from cinefuse.fuse.training import loop
from cinefuse.fuse.training.loop import Training
from cinefuse.fuse.training.member import Member
from cinefuse.tests.support.forked import ForkServer
from cinefuse.tests.support.progress import Lines
from cinefuse.tests.support.runs import SMALL, small_config

pytestmark = pytest.mark.usefixtures("one_thread")

KILLS = 2
KILLS_TORTURE = 20

# everything that draws: dropout, film-drop, members, an ordinal head, and a fit that holds ratings out
EVERYTHING = replace(
    preset("best"),
    **SMALL | {"factor_steps": 8},
    adapt=False,
    modalities="both",
    layers=2,
    dim=4,
    text_components=3,
    head="ordinal",
    members=2,
    item_dropout=0.3,
    dropout=0.3,
)

FREE = replace(preset("mf").l2, scale=0.0)  # overfits


def small(name: str, **changes: Any) -> Config:
    return small_config(name, **({"factor_steps": 8} | changes))


@pytest.fixture(scope="module")
def uninterrupted(sample: Path, embeddings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of EVERYTHING; read it, never write into it."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(sample, embeddings, out, EVERYTHING, device="cpu")
    return out


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> list[Path]:
    """Save after every batch, and stop right behind that many saves; what was saved so far."""
    saved: list[Path] = []
    save_state = loop.save_state

    def noted(file: Path, *state: Any) -> None:
        save_state(file, *state)
        saved.append(file)
        if len(saved) == saves:
            raise Stop

    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1)
    monkeypatch.setattr(loop, "save_state", noted)
    return saved


def stopped(monkeypatch: pytest.MonkeyPatch, saves: int, *run: Any, **options: Any) -> None:
    """Begin a run and stop it behind that many saves."""
    with monkeypatch.context() as patched:
        stop_after(patched, saves)
        with pytest.raises(Stop):
            train(*run, device="cpu", **options)


def same(run: Path, expected: Path) -> bool:
    return all(
        (run / name).read_bytes() == (expected / name).read_bytes()
        for name in ("model.safetensors", "predictions.parquet", "split.parquet")
        if (expected / name).exists()
    )


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_stopped_behind_any_checkpoint_ends_in_the_bytes_of_an_uninterrupted_one(
    sample: Path, embeddings: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a batch, between epochs, between fits: each of them once."""
    run, saved = tmp_path / "run", list[Path]()
    save_state = loop.save_state

    def copied(file: Path, *state: Any) -> None:
        save_state(file, *state)
        saved.append(file)
        shutil.copytree(run, tmp_path / str(len(saved)))  # what a process that ends here leaves

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1)
        patched.setattr(loop, "save_state", copied)
        train(sample, embeddings, run, EVERYTHING, device="cpu")
    assert same(run, uninterrupted), "checkpoints must not change what they keep"
    assert {file.name for file in saved} == {"state.safetensors", *(f"fit-{n}.safetensors" for n in range(3))}
    assert len(saved) == 3 * (2 * (2 + 1) + 1)  # fits, epochs, batches and an epoch's end, a fit's end
    for saves in range(1, len(saved) + 1):
        out = tmp_path / str(saves)
        assert not (out / "summary.json").exists()
        train(sample, embeddings, out, EVERYTHING, device="cpu", resume=True)
        assert same(out, uninterrupted), f"stopped behind checkpoint {saves}"
        shutil.rmtree(out)


@pytest.mark.slow
def test_a_run_stopped_again_and_again_ends_in_the_same_bytes(
    sample: Path, embeddings: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = 0
    while True:
        with monkeypatch.context() as patched:
            stop_after(patched, 5)
            with suppress(Stop):
                train(sample, embeddings, tmp_path / "run", EVERYTHING, device="cpu", resume=True)
                break
            stops += 1
    assert stops >= 3
    assert same(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_patience_that_ran_out_stays_so_when_resumed(
    sample: Path, embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("mf", epochs=8, factor_steps=400, factor_learning_rate=0.5, validation=0.3, patience=1, l2=FREE)
    whole = train(sample, None, tmp_path / "whole", config, device="cpu")
    epochs = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    chosen = sum(each["fit"] == 0 for each in epochs)
    assert whole.summary.chosen_epochs + 1 == chosen < 8, "the case must be one that stops early"
    stopped(monkeypatch, chosen, sample, None, tmp_path / "run", config)
    train(sample, None, tmp_path / "run", config, device="cpu", resume=True)
    assert same(tmp_path / "run", tmp_path / "whole")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == len(epochs)


def rates_of_fits(monkeypatch: pytest.MonkeyPatch, dataset: Path, out: Path, config: Config) -> list[list[float]]:
    """The learning rate of each light step, fit by fit."""
    rates: list[list[float]] = []
    step = Member.factor_step

    def told(member: Member, number: int, generator: torch.Generator) -> torch.Tensor:
        scores = step(member, number, generator)
        if number == 0:
            rates.append([])
        rates[-1].append(member.factor_optimiser.rate)
        return scores

    monkeypatch.setattr(Member, "factor_step", told)
    train(dataset, None, out, config, device="cpu")
    return rates


@pytest.mark.slow
@pytest.mark.parametrize("patience", [0, 1])
def test_what_serves_has_run_down_its_learning_rate(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    config = small(
        "mf", epochs=8, factor_steps=400, factor_learning_rate=0.5, validation=0.3, patience=patience, l2=FREE
    )
    measured, served = rates_of_fits(monkeypatch, sample, tmp_path / "run", config)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (len(measured) < 400) == (patience > 0), "the case must be one that patience stops early"
    assert len(served) == 50 * summary["chosen_epochs"]
    assert served[-1] <= 0.03 * config.factor_learning_rate
    assert max(served) > 0.8 * config.factor_learning_rate


@pytest.mark.slow
def test_without_patience_the_last_epoch_serves_whatever_validation_says(sample: Path, tmp_path: Path) -> None:
    config = small("mf", epochs=8, factor_steps=400, factor_learning_rate=0.5, validation=0.3, l2=FREE)
    run = train(sample, None, tmp_path / "run", config, device="cpu")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [line["validation_rmse"] for line in lines if line["fit"] == 0]
    assert told[-1] > min(told), "the case must be one whose validation RMSE rises again"
    assert run.summary.chosen_epochs == 8
    assert [line["epoch"] for line in lines if line["fit"] == 1] == list(range(1, 9))


@pytest.mark.slow
def test_a_fit_that_tells_validation_rmse_changes_nothing_of_what_serves(
    sample: Path, embeddings: Path, tmp_path: Path
) -> None:
    models = []
    for share in (0.1, 0.0):
        out = tmp_path / str(share)
        run = train(sample, embeddings, out, replace(EVERYTHING, validation=share), device="cpu")
        assert run.summary.fits == EVERYTHING.members + (share > 0)
        models.append((out / "model.safetensors").read_bytes())
    assert models[0] == models[1]


def test_patience_without_validation_ratings_is_refused() -> None:
    with pytest.raises(UsageError, match=r"patience needs validation ratings to judge by: --set validation=0\.1"):
        preset("mf").with_settings(["validation=0", "patience=2"])


@pytest.mark.parametrize("torn", [b"", b'{"fit": 0, "epo'])
def test_an_epoch_told_but_not_yet_in_a_checkpoint_stands_in_the_metrics_once(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    def killed(training: Training, *state: Any) -> None:
        if training.state.epoch == 2:
            raise Stop
        save(training, *state)

    save, config, metrics = Training._save, small("mf", epochs=3, validation=0.1), tmp_path / "run" / "metrics.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(Training, "_save", killed)
        with pytest.raises(Stop):
            train(sample, None, tmp_path / "run", config, device="cpu")
    assert [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()] == [1, 2]
    metrics.write_bytes(metrics.read_bytes() + torn)
    train(sample, None, tmp_path / "run", config, device="cpu", resume=True)
    told = [(figures["fit"], figures["epoch"]) for figures in map(json.loads, metrics.read_text().splitlines())]
    assert told[:3] == [(0, 1), (0, 2), (0, 3)]
    assert len(set(told)) == len(told)


def test_a_finished_run_resumed_is_left_as_it_is(
    sample: Path, embeddings: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    train(sample, embeddings, out, EVERYTHING, device="cpu", resume=True)
    after = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert before == after


def test_a_checkpoint_that_is_damaged_is_refused_by_name(
    sample: Path, embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    stopped(monkeypatch, 2, sample, embeddings, out, EVERYTHING)
    state = out / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"state\.safetensors cannot be read"):
        train(sample, embeddings, out, EVERYTHING, device="cpu", resume=True)


# --- real processes ---------------------------------------------------------------------------------------------------


def kill_and_resume(fork_server: ForkServer, job: dict[str, Any], kills: int, seconds: float, seed: int) -> int:
    """Start the run again and again, killing it at random moments; how many kills hit it before it was done."""
    chance, hit = random.Random(seed), 0
    for _ in range(kills):
        fork_server.start(**job)
        time.sleep(chance.uniform(0, seconds))
        hit += fork_server.kill()
        if (Path(job["run"]) / "summary.json").exists():
            break
    fork_server.start(**job)
    assert fork_server.wait() == 0
    return hit


def killed_runs_end_alike(
    fork_server: ForkServer, job: dict[str, Any], expected: Path, folder: Path, kills: int
) -> None:
    began = time.monotonic()
    fork_server.start(**job, run=str(folder / "timed"))
    assert fork_server.wait() == 0
    seconds, hit, number = time.monotonic() - began, 0, 0
    while hit < kills:
        number += 1
        out = folder / f"run{number}"
        hit += kill_and_resume(fork_server, job | {"run": str(out)}, kills, 0.7 * seconds, number)
        assert same(out, expected), f"killed with seed {number}"
        assert not list(out.glob("*.tmp*"))


@pytest.fixture
def job(sample: Path, embeddings: Path) -> dict[str, Any]:
    run = {"dataset": str(sample), "embeddings": str(embeddings), "config": EVERYTHING.as_dict()}
    return {"function": "cinefuse.tests.support.jobs:train_saving_every_batch", **run}


def test_a_process_killed_at_random_moments_and_resumed_ends_in_the_same_bytes(
    fork_server: ForkServer, job: dict[str, Any], uninterrupted: Path, tmp_path: Path
) -> None:
    killed_runs_end_alike(fork_server, job, uninterrupted, tmp_path, KILLS)


@pytest.mark.torture
def test_a_process_killed_many_times_ends_in_the_same_bytes(
    fork_server: ForkServer, job: dict[str, Any], uninterrupted: Path, tmp_path: Path
) -> None:
    killed_runs_end_alike(fork_server, job, uninterrupted, tmp_path, KILLS_TORTURE)


@pytest.mark.slow
def test_two_processes_never_train_one_run(
    fork_server: ForkServer, job: dict[str, Any], sample: Path, embeddings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    child = fork_server.start(**job, run=str(out))
    until = time.monotonic() + 60
    while not (out / "config.json").exists() and time.monotonic() < until:
        time.sleep(0.002)
    assert (out / "config.json").exists()
    os.kill(child, signal.SIGSTOP)
    try:
        with pytest.raises(Busy, match=str(child)):
            train(sample, embeddings, out, EVERYTHING, device="cpu", resume=True)
    finally:
        os.kill(child, signal.SIGKILL)
        assert fork_server.wait() == -signal.SIGKILL
    train(sample, embeddings, out, EVERYTHING, device="cpu", resume=True)


# --- refusals ---------------------------------------------------------------------------------------------------------


def change_a_rating(dataset: Path) -> None:
    ratings = pl.read_parquet(dataset / "ratings.parquet")
    ratings.with_columns(rating=6 - pl.col("rating")).write_parquet(dataset / "ratings.parquet")


def test_a_run_is_not_trained_over_without_being_asked_to_resume(
    sample: Path, embeddings: Path, uninterrupted: Path
) -> None:
    with pytest.raises(UsageError, match="holds a run already: go on with --resume"):
        train(sample, embeddings, uninterrupted, EVERYTHING, device="cpu")


def test_a_run_begun_before_a_setting_existed_is_resumed(sample: Path, tmp_path: Path) -> None:
    config, file = small("bias", epochs=1), tmp_path / "run" / "config.json"
    train(sample, None, tmp_path / "run", config, device="cpu")
    about = json.loads(file.read_text())
    del about["config"]["token_drop"]
    file.write_text(json.dumps(about))
    train(sample, None, tmp_path / "run", config, device="cpu", resume=True)
    with pytest.raises(FingerprintMismatch, match=r"token_drop was 0\.\d+, is 0\.77"):
        train(sample, None, tmp_path / "run", replace(config, token_drop=0.77), device="cpu", resume=True)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_resumed_only_with_what_it_was_begun_with(
    own_sample: Path, embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    config, out = small("text"), tmp_path / "run"
    with monkeypatch.context() as patched:
        stop_after(patched, -1 if finished else 2)
        with suppress(Stop):
            train(own_sample, embeddings, out, config, device="cpu", split="random:0.2")
    assert (out / "summary.json").exists() == finished
    other = tmp_path / "other.h5"
    with EmbeddingFile.open(embeddings) as file:
        offset = file.header.datasets["text/tokens"].offset
        digest = file.header.datasets["text/checksum"].offset
    shutil.copy(embeddings, other)
    with other.open("r+b") as raw:  # another value, and so another checksum of row 0
        raw.seek(offset)
        raw.write(b"\1\2\3\4")
        raw.seek(digest)
        raw.write(b"\1\2\3\4\5\6\7\1")

    def resume(config: Config = config, file: Path = embeddings, split: str = "random:0.2", **options: Any) -> Run:
        return train(own_sample, file, out, config, device="cpu", split=split, resume=True, **options)

    with pytest.raises(FingerprintMismatch, match=r"another config .*dropout was 0\.0, is 0\.25"):
        resume(replace(config, dropout=0.25))
    with pytest.raises(FingerprintMismatch, match=r"another split .*was 'random:0\.2', is 'random:0\.1'"):
        resume(split="random:0.1")
    with pytest.raises(FingerprintMismatch, match="another missing"):
        resume(missing="drop")
    with pytest.raises(FingerprintMismatch, match="another duplicates"):
        resume(duplicates="first")
    with pytest.raises(FingerprintMismatch, match="another embeddings_digest"):
        resume(file=other)
    ratings = (own_sample / "ratings.parquet").read_bytes()
    change_a_rating(own_sample)
    with pytest.raises(FingerprintMismatch, match=r"another dataset_sha256 .*ratings was"):
        resume()
    (own_sample / "ratings.parquet").write_bytes(ratings)
    moved = Path(shutil.copy(embeddings, tmp_path / "moved.h5"))
    assert resume(file=moved).summary.test_ratings


def test_a_warm_started_run_is_not_resumed_cold(
    sample: Path, embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("mf", epochs=2)
    train(sample, None, tmp_path / "earlier", config, device="cpu")
    stopped(monkeypatch, 1, sample, None, tmp_path / "run", config, warm_start=tmp_path / "earlier")
    with pytest.raises(FingerprintMismatch, match="another warm_start"):
        train(sample, None, tmp_path / "run", config, device="cpu", resume=True)


def test_a_run_that_is_not_finished_is_not_opened(
    sample: Path, embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="is no run folder"):
        Run.open(tmp_path)
    stopped(monkeypatch, 3, sample, embeddings, tmp_path / "run", EVERYTHING)
    with pytest.raises(BadInput, match=r"not finished.*--resume"):
        Run.open(tmp_path / "run")


def test_an_embedding_file_that_is_not_finished_is_refused(sample: Path, embeddings: Path, tmp_path: Path) -> None:
    unfinished = Path(shutil.copy(embeddings, tmp_path / "unfinished.h5"))
    with EmbeddingFile.open(embeddings) as file:
        checksum = file.header.datasets["text/checksum"].offset
    with unfinished.open("r+b") as raw:  # row 1, killed in front of its checksum
        raw.seek(checksum + 8)
        raw.write(bytes(8))
    with pytest.raises(CinefuseError, match=r"unfinished\.h5.*(not finished|incomplete|not written|pending)"):
        train(sample, unfinished, tmp_path / "run", small("text"), device="cpu")


def test_an_embedding_file_of_another_catalogue_is_refused(own_sample: Path, embeddings: Path, tmp_path: Path) -> None:
    for table in ("items", "ratings"):
        content = pl.read_parquet(own_sample / f"{table}.parquet")
        content.with_columns(item_id=pl.col("item_id") + 1000).write_parquet(own_sample / f"{table}.parquet")
    with pytest.raises(BadInput, match=r"sample\.h5"):
        train(own_sample, embeddings, tmp_path / "run", small("text"), device="cpu")


def test_a_preset_that_reads_embeddings_refuses_to_go_without(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="preset text reads embeddings"):
        train(sample, None, tmp_path / "run", small("text"), device="cpu")


# --- numbers that are none --------------------------------------------------------------------------------------------


def poisoned(monkeypatch: pytest.MonkeyPatch, step: int, value: float) -> None:
    """The light step of that number, from 0 in each fit, leaves ``value`` in every user's vector."""
    factor_step = Member.factor_step

    def spoiling(self: Member, number: int, generator: torch.Generator) -> torch.Tensor:
        scores = factor_step(self, number, generator)
        if number == step:
            self.factors.tables["user"].data.fill_(value)
        return scores

    monkeypatch.setattr(Member, "factor_step", spoiling)


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("step", [4, 5, 7], ids=["early", "late", "last"])
@pytest.mark.parametrize("head", ["squared", "ordinal"])
def test_a_run_that_diverges_keeps_its_last_good_epoch_and_says_so(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, step: int, head: str
) -> None:
    config = small("mf", epochs=2, factor_steps=8, head=head)  # steps 0 to 3 are epoch 1, 4 to 7 epoch 2
    one = train(sample, None, tmp_path / "one", replace(config, patience=0), device="cpu")
    assert one.summary.rmse
    poisoned(monkeypatch, step, value)
    said = Lines()
    run = train(sample, None, tmp_path / "run", config, device="cpu", progress=said)
    users, items = len(run.recommender.user_ids), len(run.recommender.item_ids)
    ratings = run.recommender.all_ratings(np.arange(users))
    assert ratings.shape == (users, items)
    assert np.isfinite(ratings).all()
    assert np.isfinite(run.predictions()["prediction"].to_numpy()).all()
    if value != 1e30 or step != 7:
        assert any("no number any more in epoch 2, epoch 1 is kept" in line for line in said.lines), said.lines


@pytest.mark.parametrize("step", [0, 3])
def test_a_run_that_diverges_in_its_first_epoch_is_refused_and_leaves_no_model(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    poisoned(monkeypatch, step, float("nan"))
    with pytest.raises(
        BadInput, match=r"no number any more in epoch 1, and there is no earlier epoch.*factor_learning_rate"
    ):
        train(sample, None, tmp_path / "run", small("mf", epochs=2), device="cpu")
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["mf", "paper"])
@pytest.mark.parametrize("rate", [1e6, 1e25])
def test_an_absurd_rate_gives_no_predictions_that_are_no_numbers(
    sample: Path, embeddings: Path, name: str, rate: float
) -> None:
    config = small(name, factor_learning_rate=rate, transformer_learning_rate=rate)
    with EmbeddingFile.open(embeddings) as file:
        joined = join(sample, file)
        split = split_ratings(sample, "random:0.1", seed=0, validation=0)
        training_data = load_training_data(sample, joined, file, split, config, torch.device("cpu"))
        try:
            (fitted,) = Training(config, training_data).run()
        except BadInput as refusal:
            assert "no number any more" in str(refusal)  # noqa: PT017
        else:
            assert torch.isfinite(fitted.vectors.scores()).all()


# --- the smallest and the oddest data ---------------------------------------------------------------------------------


def with_ratings(dataset: Path, keep: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    keep(pl.read_parquet(dataset / "ratings.parquet")).write_parquet(dataset / "ratings.parquet")
    return dataset


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize(
    "few",
    [
        lambda ratings: ratings.head(1),
        lambda ratings: ratings.filter(pl.col("user_id") == 1),
        lambda ratings: ratings.filter(pl.col("item_id") == ratings["item_id"].mode()[0]),
        lambda ratings: ratings.with_columns(rating=pl.lit(4.0, pl.Float32)),
    ],
    ids=["one rating", "one user", "one film", "one and the same rating"],
)
def test_the_smallest_data_train_into_finite_ratings_on_their_scale(
    own_sample: Path, embeddings: Path, tmp_path: Path, name: str, few: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    with_ratings(own_sample, few)
    ratings = pl.read_parquet(own_sample / "ratings.parquet")["rating"]
    run = train(own_sample, embeddings, tmp_path / "run", small(name, validation=0.1), device="cpu", split="all")
    told = run.recommender.all_ratings(np.arange(len(run.recommender.user_ids)))
    assert np.isfinite(told).all()
    assert (told >= ratings.min()).all()  # type: ignore[operator]
    assert (told <= ratings.max()).all()  # type: ignore[operator]


def test_a_test_part_that_would_be_empty_is_refused(own_sample: Path, tmp_path: Path) -> None:
    with_ratings(own_sample, lambda ratings: ratings.head(1))
    with pytest.raises(BadInput):
        train(own_sample, None, tmp_path / "run", small("mf"), device="cpu", split="random:0.1")


def test_an_ordinal_head_refuses_ratings_of_very_many_levels(own_sample: Path, tmp_path: Path) -> None:
    with_ratings(own_sample, lambda ratings: ratings.with_columns(rating=pl.int_range(pl.len()).cast(pl.Float32)))
    with pytest.raises(BadInput, match="head=squared"):
        train(own_sample, None, tmp_path / "run", small("mf", head="ordinal"), device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("head", ["squared", "ordinal"])
@pytest.mark.parametrize(
    ("times", "plus"), [(0.5, 0.0), (2.0, 0.0), (2.0, 1.0)], ids=["0.5 to 2.5", "2 to 10", "3 to 11"]
)
def test_ratings_on_another_scale_give_the_same_predictions_on_that_scale(
    own_sample: Path, embeddings: Path, tmp_path: Path, head: str, times: float, plus: float
) -> None:
    config = small("best", head=head, layers=0, factor_steps=60)
    ours = train(own_sample, embeddings, tmp_path / "ours", config, device="cpu")
    with_ratings(own_sample, lambda ratings: ratings.with_columns(rating=pl.col("rating") * times + plus))
    theirs = train(own_sample, embeddings, tmp_path / "theirs", config, device="cpu")
    everyone = np.arange(len(ours.recommender.user_ids))
    np.testing.assert_allclose(
        theirs.recommender.all_ratings(everyone),
        ours.recommender.all_ratings(everyone) * times + plus,
        atol=1e-4 * times,
    )


# --- what training does -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_lowers_the_error_of_ratings_told_without_themselves(
    sample: Path, embeddings: Path, tmp_path: Path
) -> None:
    config = small("best", members=1, epochs=6, factor_steps=120)
    train(sample, embeddings, tmp_path / "run", config, device="cpu")
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1]["train_rmse"] < told[0]["train_rmse"]
    assert all(0 <= line["waiting_share"] <= 1 for line in told)


def test_the_test_part_changes_nothing_that_is_trained(own_sample: Path, tmp_path: Path) -> None:
    config, split = (
        small("best", modalities="none", text_components=0, image_components=0),
        split_ratings(own_sample, "random:0.2", seed=0),
    )
    ours = train(own_sample, None, tmp_path / "ours", config, device="cpu", split="random:0.2")
    ratings = pl.read_parquet(own_sample / "ratings.parquet").height
    test = pl.Series(np.isin(np.arange(ratings), split.test))
    with_ratings(own_sample, lambda r: r.with_columns(rating=pl.when(test).then(1.0).otherwise(pl.col("rating"))))
    theirs = train(own_sample, None, tmp_path / "theirs", config, device="cpu", split="random:0.2")
    assert (tmp_path / "ours" / "model.safetensors").read_bytes() == (
        tmp_path / "theirs" / "model.safetensors"
    ).read_bytes()
    assert ours.summary.rmse != theirs.summary.rmse


@pytest.mark.slow
def test_validation_ratings_are_trained_on_only_where_a_refit_is_wanted(sample: Path, tmp_path: Path) -> None:
    config = small("mf", epochs=3, validation=0.2)
    for refit, fits in ((True, 2), (False, 1)):
        run = train(sample, None, tmp_path / str(refit), replace(config, refit=refit), device="cpu")
        lines = [json.loads(line) for line in (tmp_path / str(refit) / "metrics.jsonl").read_text().splitlines()]
        assert run.summary.fits == fits
        assert {line["ratings"] for line in lines} == ({"train", "train+validation"} if refit else {"train"})
        last = [line for line in lines if line["fit"] == fits - 1]
        assert len(last) == (run.summary.chosen_epochs if refit else 3)
        assert all((line["validation_rmse"] is None) == (line["ratings"] != "train") for line in lines)
