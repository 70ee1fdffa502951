"""The contract that every model keeps, and what a saved recommender is: exactly the one that was trained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from cinefuse.data.runtime.errors import BadInput
from cinefuse.fuse.explaining.masking import item_ratings
from cinefuse.fuse.models.factors import Vectors
from cinefuse.fuse.models.heads import OrdinalHead, Scale, SquaredHead
from cinefuse.fuse.models.recommender import Recommender
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.serving.predict import predict
from cinefuse.fuse.settings.choices import Choices
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.settings.presets import PRESETS
from cinefuse.tests.support.runs import small_config

pytestmark = pytest.mark.usefixtures("one_thread")

NEW_USERS, NEW_ITEMS = [19, 20], [36, 37, 38, 39, 40]  # of the sample: in its tables, but in no rating


def small(name: str, **changes: Any) -> Config:
    return small_config(name, **({"transformer_learning_rate": 5e-3} | changes))


CASES = {name: small(name) for name in PRESETS} | {
    "text": small("text", level="tokens"),  # CLS of a random encoder is nearly the same for every plot
    "ordinal": small("best", layers=2, head="ordinal"),
    "members": small("best", layers=2, head="ordinal", members=2, validation=0.1),
    "film drop": small("best", layers=2, item_dropout=0.3, members=2),
    "cls": small("paper", level="cls"),
    "linear": small("best", layers=0),
    "pooled, by bf16": small("poster", level="tokens", pool_patches=2, precision="bf16"),
    "no ids": small("paper", user_ids=False, item_ids=False),
}


@pytest.fixture(scope="module")
def dataset(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample without the ratings of some users and films; read it, never write into it."""
    folder = Path(shutil.copytree(sample, tmp_path_factory.mktemp("known") / "dataset"))
    new = pl.col("user_id").is_in(NEW_USERS) | pl.col("item_id").is_in(NEW_ITEMS)
    pl.read_parquet(sample / "ratings.parquet").filter(~new).write_parquet(folder / "ratings.parquet")
    return folder


@pytest.fixture(scope="module", params=list(CASES))
def case(
    request: pytest.FixtureRequest, dataset: Path, embeddings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, Run]:
    """A config and the run it gave; read it, never write into it."""
    config = CASES[request.param]
    return config, train(dataset, embeddings, tmp_path_factory.mktemp("case") / "run", config, device="cpu")


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_rating_is_a_number_on_the_scale(case: tuple[Config, Run]) -> None:
    recommender = case[1].recommender
    found = recommender.all_ratings(np.arange(len(recommender.user_ids)))
    assert found.shape == (20, 40)
    assert np.isfinite(found).all()
    assert found.min() >= recommender.scale.levels[0] - 1e-5
    assert found.max() <= recommender.scale.levels[-1] + 1e-5


def test_users_and_items_never_seen_get_a_sensible_rating(case: tuple[Config, Run]) -> None:
    recommender = case[1].recommender
    users, items = recommender.user_numbers([*NEW_USERS, 1]), recommender.item_numbers([*NEW_ITEMS, 1])
    assert (users >= 0).all()
    assert (items >= 0).all()
    found = recommender.all_ratings(users)[:, items]
    assert (np.abs(found[:2, :5] - recommender.scale.mean) < 1).all()  # both unknown: not far from the mean
    assert (np.abs(found - recommender.scale.mean) < 2).all()


def test_items_never_seen_differ_by_their_content_and_by_nothing_else(case: tuple[Config, Run]) -> None:
    config, run = case
    items = run.recommender.item_numbers(NEW_ITEMS)
    found = run.recommender.all_ratings(run.recommender.user_numbers([1, 2, 3]))[:, items]
    spread = (found.max(1) - found.min(1)).max()
    if config.reads_embeddings:
        assert spread > 1e-4
    else:
        assert spread == 0


def test_nobody_has_seen_a_item_without_ratings_and_everybody_what_they_rated_in_training(
    case: tuple[Config, Run],
) -> None:
    _, run = case
    recommender, split = run.recommender, run.split
    ratings = pl.read_parquet(run.record.dataset / "ratings.parquet")
    known = ratings[np.sort(np.concatenate([split.train, split.validation]))]
    for number, user in enumerate(recommender.user_ids.tolist()):
        seen = recommender.rated_items[recommender.rated_offsets[number] : recommender.rated_offsets[number + 1]]
        expected = known.filter(pl.col("user_id") == user)["item_id"].sort().to_list()
        assert recommender.item_ids[seen].tolist() == expected


def test_a_saved_recommender_is_exactly_the_one_that_was_saved(case: tuple[Config, Run], tmp_path: Path) -> None:
    ours = case[1].recommender
    ours.save(tmp_path / "model.safetensors")
    theirs = Recommender.load(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == (case[1].folder / "model.safetensors").read_bytes()
    everyone = np.arange(len(ours.user_ids))
    assert np.array_equal(ours.all_ratings(everyone), theirs.all_ratings(everyone))
    assert ours.scale == theirs.scale
    assert ours.user_ids.tolist() == theirs.user_ids.tolist()
    assert ours.item_ids.tolist() == theirs.item_ids.tolist()


def test_the_predictions_of_a_run_are_those_of_its_recommender(case: tuple[Config, Run]) -> None:
    _, run = case
    found, recommender = run.predictions(), run.recommender
    again = recommender.pair_ratings(
        recommender.user_numbers(found["user_id"].to_list()), recommender.item_numbers(found["item_id"].to_list())
    )
    assert np.array_equal(found["prediction"].to_numpy(), again)
    error = found["prediction"].cast(pl.Float64) - found["rating"].cast(pl.Float64)
    assert run.summary.rmse == pytest.approx(float(np.sqrt((error.to_numpy() ** 2).mean())), rel=1e-6)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(
    case: tuple[Config, Run], dataset: Path, embeddings: Path, tmp_path: Path
) -> None:
    config, run = case
    train(dataset, embeddings, tmp_path / "run", config, device="cpu")
    for name in ("model.safetensors", "predictions.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (run.folder / name).read_bytes()


def test_a_distribution_is_one_and_its_mean_is_the_rating(case: tuple[Config, Run]) -> None:
    config, run = case
    users, items = np.arange(20), np.arange(20, 40)
    found = run.recommender.distribution(users, items)
    if config.head == "squared":
        assert found is None
        return
    assert found is not None
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(
        found @ np.array(run.recommender.scale.levels), run.recommender.pair_ratings(users, items), atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mf", "paper", "best"])
def test_another_seed_gives_another_model_of_the_same_ratings(
    dataset: Path, embeddings: Path, tmp_path: Path, name: str
) -> None:
    first, second = (
        train(dataset, embeddings, tmp_path / str(seed), small(name, seed=seed), device="cpu", split="all")
        for seed in (0, 1)
    )
    everyone = np.arange(20)
    assert not np.array_equal(first.recommender.all_ratings(everyone), second.recommender.all_ratings(everyone))


def test_members_are_of_different_seeds(dataset: Path, embeddings: Path, tmp_path: Path) -> None:
    run = train(dataset, embeddings, tmp_path / "run", small("best", members=2), device="cpu")
    first, second = run.recommender.vectors
    assert not torch.equal(first.user, second.user)


# --- the recommender itself -------------------------------------------------------------------------------------------

RATINGS = torch.tensor([1.0, 2, 3, 4, 5, 5])


def made(members: int = 2, *, head: str = "squared", ids: type = int) -> Recommender:
    """A recommender of 3 users and 4 films with drawn vectors."""
    drawn, scale = torch.Generator().manual_seed(0), Scale.of(RATINGS)
    heads = []
    for _ in range(members):
        ordinal = OrdinalHead(scale, RATINGS, 3)
        ordinal.user_level_logits.data = torch.randn(3, 5, generator=drawn) * 0.1
        heads.append(ordinal if head == "ordinal" else SquaredHead(scale))
    users, items = [7, 9, 8], [40, 10, 30, 20]
    return Recommender(
        user_ids=np.array(users) if ids is int else np.array(["ü", "b", "七"], dtype=object),
        item_ids=np.array(items) if ids is int else np.array(["", "x" * 99, "🎬", "tt01"], dtype=object),
        scale=scale,
        vectors=tuple(
            Vectors(torch.randn(3, 3, generator=drawn) / 2, torch.randn(4, 3, generator=drawn) / 2)
            for _ in range(members)
        ),
        heads=tuple(heads),
        rated_offsets=np.array([0, 2, 2, 3]),
        rated_items=np.array([0, 3, 1]),
    )


@pytest.mark.parametrize("head", ["squared", "ordinal"])
@pytest.mark.parametrize("members", [1, 3])
def test_ratings_of_pairs_are_those_of_all(head: str, members: int) -> None:
    recommender = made(members, head=head)
    user, item = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    np.testing.assert_allclose(
        recommender.pair_ratings(user, item), recommender.all_ratings(np.arange(3)).flatten(), atol=1e-5
    )


@pytest.mark.parametrize("head", ["squared", "ordinal"])
def test_a_rating_is_the_mean_of_the_members_ratings(head: str) -> None:
    both = made(2, head=head)
    alone = [replace(both, vectors=(v,), heads=(h,)) for v, h in zip(both.vectors, both.heads, strict=True)]
    everyone = np.arange(3)
    np.testing.assert_allclose(
        both.all_ratings(everyone), (alone[0].all_ratings(everyone) + alone[1].all_ratings(everyone)) / 2, atol=1e-6
    )


@pytest.mark.parametrize("members", [1, 3])
def test_joint_vectors_score_as_the_mean_of_the_members_does(members: int) -> None:
    recommender = made(members)
    mean = torch.stack([vectors.scores() for vectors in recommender.vectors]).mean(0)
    torch.testing.assert_close(recommender.joint_vectors().scores(), mean)
    assert recommender.is_one_product
    assert not made(head="ordinal").is_one_product


@pytest.mark.parametrize("head", ["squared", "ordinal"])
@pytest.mark.parametrize("ids", [int, str])
def test_ids_of_either_kind_and_heads_survive_the_file(tmp_path: Path, head: str, ids: type) -> None:
    ours = made(3, head=head, ids=ids)
    ours.save(tmp_path / "model.safetensors")
    theirs = Recommender.load(tmp_path / "model.safetensors")
    assert theirs.user_ids.tolist() == ours.user_ids.tolist()
    assert theirs.item_ids.tolist() == ours.item_ids.tolist()
    assert theirs.user_ids.dtype == ours.user_ids.dtype
    assert np.array_equal(theirs.all_ratings(np.arange(3)), ours.all_ratings(np.arange(3)))
    assert theirs.rated_items.tolist() == [0, 3, 1]


def with_bayesian(recommender: Recommender, share: float) -> Recommender:
    drawn = torch.Generator().manual_seed(1)
    vectors = Vectors(torch.randn(3, 4, generator=drawn), torch.randn(4, 4, generator=drawn))
    return replace(recommender, bayesian=vectors, bayesian_share=share)


@pytest.mark.parametrize("head", ["squared", "ordinal"])
def test_bayesian_factors_have_their_share_where_user_and_item_have_ratings_and_none_elsewhere(head: str) -> None:
    members = made(2, head=head)
    alone, everyone = members.all_ratings(np.arange(3)), np.arange(3)
    assert np.array_equal(with_bayesian(members, 0.0).all_ratings(everyone), alone)
    whole, half = (with_bayesian(members, share).all_ratings(everyone) for share in (1.0, 0.5))
    assert np.array_equal(whole[1], alone[1])  # of the second user there is no rating
    assert np.array_equal(whole[:, 2], alone[:, 2])  # nor of the third item
    np.testing.assert_allclose(half, (whole + alone) / 2, atol=1e-5)
    assert not np.allclose(whole, alone)
    user, item = np.repeat(everyone, 4), np.tile(np.arange(4), 3)
    pairs = with_bayesian(members, 0.5).pair_ratings(user, item)
    np.testing.assert_allclose(pairs, half.flatten(), atol=1e-5)


def test_bayesian_factors_survive_the_file_and_are_no_product(tmp_path: Path) -> None:
    ours = with_bayesian(made(2), 0.3)
    ours.save(tmp_path / "model.safetensors")
    theirs = Recommender.load(tmp_path / "model.safetensors")
    assert np.array_equal(theirs.all_ratings(np.arange(3)), ours.all_ratings(np.arange(3)))
    assert len(theirs.vectors) == 2
    assert not theirs.is_one_product


@pytest.mark.parametrize("head", ["squared", "ordinal"])
def test_explanations_start_from_the_rating_that_is_served(head: str) -> None:
    recommender, everyone = with_bayesian(made(2, head=head), 0.3), np.arange(3)
    for item in range(4):
        vectors = [each.item[item, None] for each in recommender.vectors]
        explained = item_ratings(recommender, item, vectors, everyone)[:, 0]
        np.testing.assert_allclose(explained, recommender.all_ratings(everyone)[:, item], atol=1e-6)


@pytest.mark.slow
def test_a_run_serves_the_bayesian_factors_that_its_choices_ask_for(dataset: Path, tmp_path: Path) -> None:
    config = replace(small("best"), modalities="none", text_components=0, image_components=0)
    runs = [
        train(
            dataset,
            None,
            tmp_path / str(share),
            config,
            device="cpu",
            choices=Choices(({},), "", bayesian_share=share),
        )
        for share in (0.0, 0.4)
    ]
    assert [run.recommender.bayesian is not None for run in runs] == [False, True]
    tested = runs[1].predictions()
    predicted = predict(runs[1], tested)["prediction"]
    np.testing.assert_allclose(predicted, tested["prediction"], atol=1e-6)
    alone = replace(runs[1].recommender, bayesian=None)
    assert np.array_equal(alone.all_ratings(np.arange(18)), runs[0].recommender.all_ratings(np.arange(18)))


def test_members_keep_their_order_beyond_ten(tmp_path: Path) -> None:
    ours = made(12)
    ours.save(tmp_path / "model.safetensors")
    theirs = Recommender.load(tmp_path / "model.safetensors")
    for our, their in zip(ours.vectors, theirs.vectors, strict=True):
        assert torch.equal(our.user, their.user)


def test_numbers_of_ids_are_their_places_and_minus_one_for_the_unknown() -> None:
    recommender = made()
    assert recommender.user_numbers([8, 7, 5, "7"]).tolist() == [2, 0, -1, -1]
    assert recommender.item_numbers([10, 99]).tolist() == [1, -1]


def test_a_model_file_that_is_missing_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model\.safetensors is missing.*--resume"):
        Recommender.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_model_file_that_is_damaged_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "model.safetensors"
    made().save(file)
    whole = file.read_bytes()
    if damage == "other":
        from safetensors.torch import save_file

        save_file({"weights": torch.zeros(3)}, file)
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    with pytest.raises(BadInput, match=r"model\.safetensors cannot be read"):
        Recommender.load(file)
