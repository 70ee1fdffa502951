"""The ranking model's training: the loss is that over all pairs, and a run with it can be stopped and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.fuse.inputs.interactions import TrainingPairs
from cinefuse.fuse.inputs.side_information import SideInformation
from cinefuse.fuse.inputs.sparse import SparseProduct
from cinefuse.fuse.models.factors import Vectors
from cinefuse.fuse.models.ranking_model import RankingModel
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.serving.predict import predict
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.training.ranking_choice import Blend, HeldOut, Lists, best_rated
from cinefuse.fuse.training.ranking_member import RankingMember
from cinefuse.tests.support.progress import Lines


def config(*settings: str) -> Config:
    small = [
        "factor_steps=24",
        "epochs=2",
        "members=1",
        "dim=6",
        "modalities=none",
        "ranking_item_item=8",
        "adapt=false",
    ]
    return preset("best").with_settings([*small, *settings])


def trained(dataset: Path, out: Path, *settings: str, **options: object) -> Run:
    return train(dataset, None, out, config(*settings), split="random:0.2", **options)  # type: ignore[arg-type]


def no_tags(items: int) -> SideInformation:
    side = torch.rand(items, 3, generator=torch.Generator().manual_seed(2))
    return SideInformation(torch.zeros(12, 0), side, side, SparseProduct.nothing(items, torch.device("cpu")))


@pytest.mark.parametrize("histories", [True, False])
def test_the_loss_is_that_of_all_pairs_one_by_one(histories: bool) -> None:
    chosen = torch.rand(12, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    user, item = chosen.nonzero(as_tuple=True)
    rating = torch.rand(len(user), generator=torch.Generator().manual_seed(1)) - 0.5
    pairs = TrainingPairs.sorted(user, item, rating, users=12, items=9)
    liked = pairs.rating > 0
    settings = config(f"histories={str(histories).lower()}", "tags=false", "demographics=false", "ranking_others=0.2")
    member = RankingMember(settings, pairs, liked, no_tags(9), seed=0)
    for step in range(4):
        member.step(step)
    everywhere = member.vectors().scores().square()
    everywhere[pairs.user, pairs.item] = 0
    scores = member.factors.training_scores().detach()
    expected = 0.2 * everywhere.sum() + (1 - scores[liked]).square().sum() + 0.2 * scores[~liked].square().sum()
    penalty = member.factors.penalty(member._strengths)
    found = member.loss() * len(pairs) - penalty
    torch.testing.assert_close(found, expected / 2, rtol=1e-4, atol=1e-5)


def held_out(pairs: TrainingPairs, user: torch.Tensor, item: torch.Tensor) -> HeldOut | None:
    """Everything liked."""
    return HeldOut.of(pairs, user, item, torch.full((len(user),), 5.0), torch.ones(len(user), dtype=torch.bool))


def test_validation_ndcg_is_that_of_the_best_unseen_items() -> None:
    user, item = torch.arange(40), torch.zeros(40, dtype=torch.long)
    user, item = torch.cat([user, torch.tensor([0, 0, 0])]), torch.cat([item, torch.tensor([1, 2, 3])])
    pairs = TrainingPairs.sorted(user, item, torch.zeros(43), users=40, items=12)
    # item 1, rated by user 0 alone as 2 and 3 are, is what everybody else takes next; it stands third for them
    factors = Vectors(torch.zeros(40, 1), torch.tensor([[9.0], [3.0], [5.0], [4.0], *[[0.0]] * 8]))
    others = torch.arange(1, 40)
    held = held_out(pairs, others, torch.ones(39, dtype=torch.long))
    assert held is not None
    assert held.ndcg(factors, None)[Blend(0.0, 0.0)] == pytest.approx(0.5)  # 1 / log2(4)


def test_too_few_users_to_choose_by_choose_nothing() -> None:
    pairs = TrainingPairs.sorted(torch.arange(5), torch.zeros(5), torch.zeros(5), users=5, items=2)
    assert held_out(pairs, torch.arange(5), torch.zeros(5, dtype=torch.long)) is None


def lists(mean_rating: float, *ndcg: float) -> Lists:
    return Lists(torch.tensor(ndcg, dtype=torch.float64), mean_rating)


def test_ratings_weigh_as_much_as_costs_no_ndcg_beyond_chance() -> None:
    found = {
        Blend(rating=0.0): lists(4.0, 0.30, 0.20, 0.50),
        Blend(rating=0.1): lists(4.1, 0.33, 0.22, 0.46),  # better here, worse there: as good
        Blend(rating=0.2): lists(4.2, 0.25, 0.14, 0.46),  # worse for everybody
    }
    assert best_rated(found) == Blend(rating=0.1)
    assert best_rated({blend: of for blend, of in found.items() if blend.rating != 0.1}) == Blend(rating=0.0)


def test_the_mean_rating_is_that_of_listed_items_with_a_validation_rating() -> None:
    user, item = torch.cat([torch.arange(40), torch.zeros(13).long()]), torch.tensor([*[0] * 40, *range(1, 14)])
    pairs = TrainingPairs.sorted(user, item, torch.zeros(53), users=40, items=14)
    user, item = torch.arange(1, 40).repeat(2), torch.tensor([1, 13]).repeat_interleave(39)
    held = HeldOut.of(pairs, user, item, torch.tensor([5.0, 1.0]).repeat_interleave(39), item == 1)
    assert held is not None
    factors = Vectors(torch.zeros(40, 1), -torch.arange(14.0)[:, None])  # item 13 is the last of all, on no list
    found = held.lists(factors, None, Blend(0.0, 0.0), None)[Blend(0.0, 0.0)]
    assert (found.figure, found.mean_rating) == (1.0, 5.0)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.001, 0.1])  # less, and more, than chance
def test_content_is_in_the_lists_only_where_validation_lists_gain_by_it(
    gain: float, crowd: Path, embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_content = config("modalities=auto", "text_components=4", "image_components=2", "objective=ranking")
    measured = HeldOut.lists

    def favoured(held: HeldOut, factors: Vectors, *rest: Any) -> dict[Blend, Lists]:
        fits.append(1)
        figure = torch.linspace(0.2, 0.4, 40, dtype=torch.float64)
        if len(fits) == 3:
            figure += gain + 0.05 * (-1) ** torch.arange(40)
        return {blend: Lists(figure, of.mean_rating) for blend, of in measured(held, factors, *rest).items()}

    fits: list[int] = []
    monkeypatch.setattr(HeldOut, "lists", favoured)
    found = train(crowd, embeddings, tmp_path / "with", with_content, split="random:0.2")
    assert len(fits) == 3
    assert of(found).settings["content"] == (gain == 0.1)
    fits.clear()
    without = train(crowd, None, tmp_path / "without", with_content, split="random:0.2")
    rated = of(without).counts > 0
    alike = torch.equal(of(found).vectors.item[rated], of(without).vectors.item[rated])
    assert alike == (gain == 0.001)


def test_without_a_validation_part_content_is_read_as_the_settings_say(
    sample: Path, embeddings: Path, tmp_path: Path
) -> None:
    wanted = config("modalities=auto", "text_components=4", "objective=ranking", "validation=0")
    assert of(train(sample, embeddings, tmp_path / "run", wanted, split="random:0.2")).settings["content"]


def test_where_no_validation_lists_can_be_made_there_is_one_fit_and_no_search(sample: Path, tmp_path: Path) -> None:
    lines = Lines()
    wanted = config("objective=ranking")
    run = train(sample, None, tmp_path / "run", wanted, split="cold-items:0.2", progress=lines)
    assert [line.partition("  ")[0] for line in lines.lines if line.startswith("ranking fit")] == ["ranking fit 1/1"]
    assert of(run).settings["validation_ndcg"] is None
    assert of(run).settings["content"]


def test_an_item_without_a_training_rating_is_on_no_list_that_settings_are_chosen_by() -> None:
    user, item = torch.arange(40), torch.full((40,), 2)
    pairs = TrainingPairs.sorted(
        torch.cat([user, torch.tensor([0])]), torch.cat([torch.zeros(40).long(), torch.tensor([2])]), torch.zeros(41),
        users=40, items=30,
    )  # fmt: skip
    held = held_out(pairs, user, item)
    assert held is not None
    factors = Vectors(torch.zeros(40, 1), torch.arange(30.0)[:, None])  # items that nobody rated have the best scores
    assert held.lists(factors, None, Blend(0.0, 0.0), None)[Blend(0.0, 0.0)].figure == pytest.approx(39 / 40)


@pytest.fixture(scope="module")
def whole(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with both models that nothing interrupted."""
    return trained(crowd, tmp_path_factory.mktemp("whole") / "run")


def same(one: RankingModel, other: RankingModel) -> bool:
    names = ("implicit", "explicit", "item_item", "base", "residual", "offsets", "items")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names] + list(
        zip(one.vectors, other.vectors, strict=True)
    )
    return all(torch.equal(a, b) for a, b in pairs) and one.settings == other.settings


def of(run: Run) -> RankingModel:
    assert run.ranking is not None
    return run.ranking


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("stop", [7, 24, 31, 60])
def test_a_run_killed_in_the_ranking_phase_goes_on_to_the_same_bits(
    stop: int, crowd: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, step_once = [0], RankingMember.step

    def killed(member: RankingMember, step: int) -> torch.Tensor:
        if steps[0] == stop:
            raise Killed
        steps[0] += 1
        return step_once(member, step)

    with monkeypatch.context() as patched:
        patched.setattr(RankingMember, "step", killed)
        patched.setattr("cinefuse.fuse.training.ranking._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        with pytest.raises(Killed):
            trained(crowd, tmp_path / "run")
    assert not (tmp_path / "run" / "ranking.safetensors").exists()
    resumed = trained(crowd, tmp_path / "run", resume=True)
    assert same(of(resumed), of(whole))
    assert not (tmp_path / "run" / "ranking-state.safetensors").exists()


def test_the_rating_model_is_the_same_with_a_ranking_model_beside_it(crowd: Path, whole: Run, tmp_path: Path) -> None:
    alone = trained(crowd, tmp_path / "run", "objective=rating")
    assert alone.ranking is None
    assert alone.summary.rmse == whole.summary.rmse


def test_a_ranking_model_alone_is_the_same_as_one_beside_a_rating_model(
    crowd: Path, whole: Run, tmp_path: Path
) -> None:
    run = trained(crowd, tmp_path / "run", "objective=ranking")
    assert same(of(run), of(whole))
    assert not run.recommender.predicts
    with pytest.raises(BadInput, match="has no rating model to predict by"):
        predict(run, pl.DataFrame({"user_id": [1], "item_id": [1]}))


def test_a_warm_start_goes_on_from_the_earlier_vectors_and_blend(crowd: Path, whole: Run, tmp_path: Path) -> None:
    warm = trained(crowd, tmp_path / "run", warm_start=whole.folder)
    assert of(warm).settings["share"] == of(whole).settings["share"]
    anew = trained(
        crowd, tmp_path / "anew", "factor_steps=6", "validation=0", "seed=1"
    )  # as many steps as the warm one

    def product(run: Run) -> torch.Tensor:
        vectors = of(run).vectors
        return vectors.user[:, :6] @ vectors.item[:, :6].T

    distances = [float((product(run) - product(whole)).norm()) for run in (warm, anew)]
    assert 0 < distances[0] < distances[1]


def test_what_is_saved_is_read_back(whole: Run, tmp_path: Path) -> None:
    of(whole).save(tmp_path / "model")
    assert same(RankingModel.load(tmp_path / "model"), of(whole))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "ranking.safetensors cannot be read"),
        (lambda file: file.unlink(), "ranking.safetensors is missing: train the run again"),
    ],
)
def test_a_damaged_model_is_refused_by_name(
    damage: Callable[[Path], object], says: str, whole: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    damage(folder / "ranking.safetensors")
    with pytest.raises(BadInput, match=says):
        _ = Run.open(folder).ranking


def test_an_objective_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="objective"):
        config("objective=lists")
