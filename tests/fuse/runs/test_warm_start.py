"""Laws of the warm start: the old keep their rows, the new get rows of nothing, another make is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from cinefuse.data.dataset.splits import split_ratings
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import BadInput, FingerprintMismatch
from cinefuse.data.sample.catalogue import write_sample
from cinefuse.fuse.inputs.join import join
from cinefuse.fuse.inputs.side_information import side_columns
from cinefuse.fuse.inputs.training_data import load_training_data
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.runs.warm_start import warm_weights, with_inputs_of
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.training.loop import Training
from cinefuse.fuse.training.member import Member
from cinefuse.tests.support.progress import Lines
from cinefuse.tests.support.runs import L2_BY_HAND, SMALL

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = SMALL | {"dim": 4, "validation": 0.0}
NEW_ITEMS = [5, 39, 40]  # not known to the earlier run at all
CONFIG = replace(
    preset("best"),
    adapt=False,
    **QUICK,
    modalities="both",
    layers=2,
    text_components=0,
    image_components=0,
    head="ordinal",
    members=2,
)


def without(dataset: Path, users: list[int], items: list[int], folder: Path) -> Path:
    """A copy of a dataset as it was before these users and films came."""
    shutil.copytree(dataset, folder)
    for name in ("items", "users", "ratings"):
        table = pl.read_parquet(folder / f"{name}.parquet")
        if "user_id" in table.columns:
            table = table.filter(~pl.col("user_id").is_in(users))
        if "item_id" in table.columns:
            table = table.filter(~pl.col("item_id").is_in(items))
        table.write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def new_users(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """Two users not known to the earlier run at all, of occupations and age bands that it knows from others."""
    known = side_columns(sample)["user"]
    for pair in combinations(range(2, 21), 2):  # user 1 leaves in another law
        folder = without(sample, list(pair), [], tmp_path_factory.mktemp("pair") / "dataset")
        if side_columns(folder)["user"] == known:
            return list(pair)
    raise LookupError("expected two users whom others are like, found none")


@pytest.fixture(scope="module")
def smaller(sample: Path, new_users: list[int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample before its last users and films came; read it, never write into it."""
    return without(sample, new_users, NEW_ITEMS, tmp_path_factory.mktemp("smaller") / "dataset")


@pytest.fixture(scope="module")
def earlier(smaller: Path, embeddings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on it; read it, never write into it."""
    out = tmp_path_factory.mktemp("earlier") / "run"
    train(smaller, embeddings, out, CONFIG, device="cpu", split="all")
    return out


def for_warm_start(
    dataset: Path, embeddings: Path, run: Path, config: Config = CONFIG
) -> tuple[Any, list[dict[str, Any]]]:
    """The join of a dataset, and the weights of the run moved to it."""
    with EmbeddingFile.open(embeddings) as file:
        joined = join(dataset, file)
        earlier = Run.open(run)
        config = with_inputs_of(earlier, config)
        return joined, [dict(weights) for weights in warm_weights(earlier, config, joined, dataset)]


@pytest.mark.slow
def test_the_old_keep_their_rows_and_the_new_get_rows_of_nothing(
    sample: Path, smaller: Path, new_users: list[int], embeddings: Path, earlier: Path
) -> None:
    before, _ = for_warm_start(smaller, embeddings, earlier)
    after, weights = for_warm_start(sample, embeddings, earlier)
    assert len(weights) == CONFIG.members
    for member, moved in enumerate(weights):
        saved = load_file(earlier / f"fit-{member}.safetensors")
        per_user = {name for name, value in moved.items() if value.shape[:1] == (len(after.user_ids),) == (20,)}
        per_item = {name for name, value in moved.items() if value.shape[:1] == (len(after.item_ids),) == (40,)}
        assert per_user == {
            *(f"factors.tables.{name}" for name in ("user", "implicit_users", "explicit_users")),
            "head.user_level_logits",
        }
        assert per_item == {
            *(f"factors.tables.{name}" for name in ("item", "implicit_items", "explicit_items")),
            "content",
        }
        for names, old_ids, ids in (
            (per_user, before.user_ids.tolist(), after.user_ids.tolist()),
            (per_item, before.item_ids.tolist(), after.item_ids.tolist()),
        ):
            assert set(ids) - set(old_ids) in ({*new_users}, {*NEW_ITEMS})
            for name in names:
                for place, one in enumerate(ids):
                    if one in old_ids:
                        assert torch.equal(moved[name][place], saved[f"now.{name}"][old_ids.index(one)]), (name, one)
                    else:
                        assert not moved[name][place].any(), (name, one)
        for name in set(moved) - per_user - per_item:
            assert torch.equal(moved[name], saved[f"now.{name}"])


def test_users_who_left_take_no_place(
    sample: Path, new_users: list[int], embeddings: Path, earlier: Path, tmp_path: Path
) -> None:
    fewer = without(sample, [1, *new_users], [1, 7, *NEW_ITEMS], tmp_path / "fewer")
    joined, weights = for_warm_start(fewer, embeddings, earlier)
    saved, old = load_file(earlier / "fit-0.safetensors"), [user for user in range(1, 21) if user not in new_users]
    rows = [old.index(user) for user in joined.user_ids.tolist()]
    assert torch.equal(weights[0]["factors.tables.user"], saved["now.factors.tables.user"][rows])


def test_on_the_same_ratings_a_warm_start_begins_where_the_run_ended(
    smaller: Path, embeddings: Path, earlier: Path
) -> None:
    _, weights = for_warm_start(smaller, embeddings, earlier)
    saved = [load_file(earlier / f"fit-{member}.safetensors") for member in range(2)]
    with EmbeddingFile.open(embeddings) as file:
        joined = join(smaller, file)
        split = split_ratings(smaller, "all", validation=0)
        config = with_inputs_of(Run.open(earlier), CONFIG)
        training_data = load_training_data(smaller, joined, file, split, config, torch.device("cpu"))
        training = Training(config, training_data, warm=tuple(weights))
        for fit in training.fits():
            member: Member = training._member(fit)
            from_run = {name: saved[fit.member][f"now.{name}"] for name in member.state_dict()}
            for name, value in member.state_dict().items():
                assert torch.equal(value, from_run[name]), name


@pytest.mark.slow
def test_a_warm_start_uses_the_fits_that_serve_and_not_the_one_that_chose(
    smaller: Path, embeddings: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, validation=0.2)
    run = tmp_path / "run"
    train(smaller, embeddings, run, config, device="cpu", split="all")
    assert sorted(file.name for file in run.glob("fit-*")) == [f"fit-{number}.safetensors" for number in range(3)]
    _, weights = for_warm_start(smaller, embeddings, run, config)
    assert len(weights) == 2
    for member, moved in enumerate(weights):
        saved = load_file(run / f"fit-{member + 1}.safetensors")
        assert torch.equal(moved["factors.tables.user"], saved["now.factors.tables.user"])


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 5},
        {"head": "squared"},
        {"layers": 1},
        {"histories": False},
        {"level": "cls"},
        {"modalities": "text"},
        {"genres": False},
    ],
    ids=str,
)
def test_a_run_of_another_make_is_refused_by_what_differs(
    sample: Path, embeddings: Path, earlier: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    (name,) = change
    with pytest.raises(FingerprintMismatch, match=f"--warm-start .*its {name} is"):
        train(sample, embeddings, tmp_path / "run", replace(CONFIG, **change), device="cpu", warm_start=earlier)


def test_how_long_and_how_strictly_it_trains_may_differ(
    sample: Path, embeddings: Path, earlier: Path, tmp_path: Path
) -> None:
    changes = {"epochs": 1, "factor_steps": 5, "seed": 3, "l2.user": 9.0, "members": 3, "patience": 2}
    config = CONFIG.with_values(changes | {"validation": 0.1})
    run = train(sample, embeddings, tmp_path / "run", config, device="cpu", warm_start=earlier)
    assert len(run.recommender.vectors) == 3
    assert np.isfinite(run.recommender.all_ratings(np.arange(20))).all()


def test_what_is_no_finished_run_warms_nothing(sample: Path, embeddings: Path, earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no run folder"):
        train(sample, embeddings, tmp_path / "run", CONFIG, device="cpu", warm_start=tmp_path)
    broken = Path(shutil.copytree(earlier, tmp_path / "broken"))
    (broken / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model\.safetensors is missing"):
        train(sample, embeddings, tmp_path / "other", CONFIG, device="cpu", warm_start=broken)


def test_a_genre_that_the_run_never_saw_is_refused_in_a_line(
    own_sample: Path, embeddings: Path, earlier: Path, tmp_path: Path
) -> None:
    items = pl.read_parquet(own_sample / "items.parquet")
    new = pl.when(pl.col("item_id") == 40).then(pl.lit(["Zither"])).otherwise(pl.col("genres"))
    items.with_columns(genres=new).write_parquet(own_sample / "items.parquet")
    with pytest.raises(FingerprintMismatch, match=r"--warm-start .*genres.*train anew"):
        train(own_sample, embeddings, tmp_path / "run", CONFIG, device="cpu", warm_start=earlier)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mf", "best"])
def test_a_third_of_the_steps_reaches_the_error_of_training_from_scratch(tmp_path: Path, name: str) -> None:
    """Nine tenths of the ratings were there before; the same test part, which neither run has seen."""
    dataset = tmp_path / "dataset"
    write_sample(dataset, items=80, users=60)
    ratings = pl.read_parquet(dataset / "ratings.parquet")
    split = split_ratings(dataset, "random:0.2", seed=0, validation=0)
    old = np.sort(np.random.default_rng(1).permutation(split.train)[: len(split.train) * 9 // 10])
    before = Path(shutil.copytree(dataset, tmp_path / "before"))
    ratings[old].write_parquet(before / "ratings.parquet")

    config = replace(
        preset(name),
        **QUICK | {"modalities": "none", "text_components": 0, "image_components": 0, "epochs": 1, "factor_steps": 48},
        objective="rating",
    )
    if config.adapt:  # its strengths are set by hand, so that each run tries few others
        config = config.with_settings([*L2_BY_HAND, "l2.user=0.5", "head=squared", "bayesian=false"])
    third = replace(config, warm_start_share=1 / 3)
    train(before, None, tmp_path / "earlier", config, device="cpu", split="all")
    scratch = train(dataset, None, tmp_path / "scratch", config, device="cpu", split="random:0.2")
    warm = train(
        dataset, None, tmp_path / "warm", third, device="cpu", split="random:0.2", warm_start=tmp_path / "earlier"
    )
    assert (scratch.split.test == split.test).all()
    short = replace(config, factor_steps=16)
    cold = train(dataset, None, tmp_path / "cold", short, device="cpu", split="random:0.2")
    of_warm, of_scratch, of_cold = (run.summary.rmse for run in (warm, scratch, cold))
    assert of_warm is not None
    assert of_scratch is not None
    assert of_cold is not None
    assert of_warm <= of_scratch + 0.003
    assert of_warm < of_cold - 0.003  # steps were short enough to tell


@pytest.mark.slow
def test_a_warm_start_trains_for_its_share_and_a_resumed_one_too(
    sample: Path, embeddings: Path, earlier: Path, tmp_path: Path
) -> None:
    assert (CONFIG.for_warm_start().epochs, CONFIG.for_warm_start().factor_steps) == (1, 4)
    without = replace(CONFIG, layers=0)  # no passes to save: its epochs only divide the factor steps
    assert (without.for_warm_start().epochs, without.for_warm_start().factor_steps) == (CONFIG.epochs, 4)
    asked = {"device": "cpu", "split": "all", "warm_start": earlier}
    whole = train(sample, embeddings, tmp_path / "whole", CONFIG, **asked)
    assert whole.config.factor_steps == CONFIG.factor_steps
    assert len((whole.folder / "metrics.jsonl").read_text().splitlines()) == CONFIG.members  # an epoch each
    cut = Path(shutil.copytree(whole.folder, tmp_path / "cut"))
    for name in ("summary.json", "model.safetensors", "fit-1.safetensors"):
        (cut / name).unlink()
    train(sample, embeddings, cut, CONFIG, resume=True, **asked)
    for name in ("model.safetensors", "fit-1.safetensors"):
        assert (cut / name).read_bytes() == (whole.folder / name).read_bytes(), name


@pytest.mark.slow
def test_a_component_means_what_it_meant_to_the_earlier_run_though_items_have_come(
    sample: Path, smaller: Path, embeddings: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, layers=0, text_components=4, image_components=2)
    before = train(smaller, embeddings, tmp_path / "before", config, device="cpu", split="all").folder
    warm = train(sample, embeddings, tmp_path / "warm", config, device="cpu", split="all", warm_start=before).folder
    anew = train(sample, embeddings, tmp_path / "anew", config, device="cpu", split="all").folder
    kept, same, other = ((folder / "components.safetensors").read_bytes() for folder in (before, warm, anew))
    assert kept == same
    assert kept != other


@pytest.mark.slow
def test_embeddings_of_another_encoder_are_no_start(
    sample: Path, embeddings: Path, earlier: Path, encoders: Any, tmp_path: Path
) -> None:
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    models = {"text_model": str(encoders.text), "image_model": str(encoders.image)}
    how: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
    extract(sample, tmp_path / "stored.h5", Settings(**models, **how, dtype="float16"))
    extract(sample, tmp_path / "other.h5", Settings(**models, **how, dtype="float16", template="{title}. {text}"))
    asked = {"device": "cpu", "split": "all", "warm_start": earlier}
    train(sample, tmp_path / "stored.h5", tmp_path / "stored", CONFIG, **asked)  # the same, stored otherwise
    with pytest.raises(FingerprintMismatch, match=r"--warm-start .*its text embeddings .*template.*; train anew"):
        train(sample, tmp_path / "other.h5", tmp_path / "other", CONFIG, **asked)


def test_a_test_part_the_earlier_run_was_trained_on_is_told(own_sample: Path, tmp_path: Path) -> None:
    config = replace(preset("mf"), **QUICK | {"modalities": "none", "epochs": 1, "factor_steps": 5})
    for earlier, flatters in (("all", True), ("random:0.2", False)):
        train(own_sample, None, tmp_path / f"{earlier}-earlier", config, device="cpu", split=earlier)
        said = Lines()
        warm = tmp_path / f"{earlier}-earlier"
        train(
            own_sample, None, tmp_path / f"{earlier}-later", config, split="random:0.2", warm_start=warm, progress=said
        )
        assert any("the test RMSE flatters" in line for line in said.lines) == flatters


@pytest.mark.slow
def test_tags_keep_their_weights_by_name_and_new_ones_start_at_nothing(
    own_sample: Path, embeddings: Path, tmp_path: Path
) -> None:
    def tag(dataset: Path, given: list[list[str]]) -> None:
        items = pl.read_parquet(dataset / "items.parquet")
        rows = [given[row % len(given)] for row in range(items.height)]
        items.with_columns(tags=pl.Series(rows, dtype=pl.List(pl.String))).write_parquet(dataset / "items.parquet")

    config = replace(CONFIG, tags=True)
    tag(own_sample, [["country: B"], ["country: D"], []])
    run = train(own_sample, embeddings, tmp_path / "earlier", config, device="cpu", split="all")
    old = load_file(run.folder / "fit-0.safetensors")["now.factors.tables.item_tags"]
    for given, kept in (([["country: A"], ["country: B"], ["country: C"]], [None, 0, None]), ([[]], [])):
        tag(own_sample, given)
        _, (weights, *_) = for_warm_start(own_sample, embeddings, tmp_path / "earlier", config)
        moved = weights["factors.tables.item_tags"]
        expected = [torch.zeros(old.shape[1]) if row is None else old[row] for row in kept]
        assert torch.equal(moved, torch.stack(expected) if expected else old[:0])
        train(own_sample, embeddings, tmp_path / f"{len(kept)}", config, device="cpu", warm_start=tmp_path / "earlier")
