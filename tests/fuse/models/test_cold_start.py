"""Laws of the weights for films nobody has rated: the least error that side information and tags can reach."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cinefuse.fuse.inputs import interactions
from cinefuse.fuse.inputs.interactions import TrainingPairs
from cinefuse.fuse.inputs.side_information import SideInformation
from cinefuse.fuse.inputs.sparse import SparseProduct
from cinefuse.fuse.models.cold_start import cold_start_weights
from cinefuse.fuse.models.factors import Factors
from cinefuse.fuse.models.heads import Scale
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.training.member import Member

USERS, ITEMS, DIM, SIDE = 9, 8, 3, 4
TAGS = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]]).float()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sparse(dense: Tensor) -> SparseProduct:
    row, column = dense.nonzero(as_tuple=True)
    return SparseProduct.sorted(row, column, dense[row, column], rows=dense.shape[0], columns=dense.shape[1])


def factors_of(tags: Tensor | None, *, histories: bool = True, side: int = SIDE) -> Factors:
    """Factors over drawn pairs, every table far from zero; the last film is rated by nobody."""
    listed = (drawn(USERS, ITEMS - 1, seed=0) > -0.4).nonzero()
    pairs = TrainingPairs.sorted(listed[:, 0], listed[:, 1], drawn(len(listed), seed=1), users=USERS, items=ITEMS)
    factors = Factors(
        pairs,
        drawn(USERS, 2, seed=2),
        drawn(ITEMS, side, seed=3),
        None if tags is None else sparse(tags),
        dim=DIM,
        histories=histories,
        generator=torch.Generator().manual_seed(4),
    )
    for number, table in enumerate(factors.tables.values()):
        table.data = 0.5 * drawn(*table.shape, seed=10 + number)
    return factors


def penalised_error(factors: Factors, side: Tensor, tags: Tensor, of_side: Tensor, of_tag: float) -> Tensor:
    """What the weights are to make least, pair by pair as the docstring says it."""
    dense = factors.item_tags @ torch.eye(factors.item_tags.columns)
    item = factors.item_features @ side + dense @ tags  # (I, D + 1)
    user = factors.vectors().user
    error = torch.zeros(())
    for pair in range(len(factors.pairs)):
        of_user = factors.user_vectors_at(user, torch.tensor([pair]))[0]
        of_item = item[factors.pairs.item[pair]]
        found = of_user[:-1] @ of_item[:-1] + of_user[-1] + of_item[-1]
        error = error + (found - factors.pairs.rating[pair]).square() / 2
    return error + (of_side[:, None] * side.square()).sum() / 2 + of_tag / 2 * tags.square().sum()


@pytest.mark.parametrize("strengths", [([0.5] * SIDE, 2.0), ([30.0, 30.0, 0.5, 7.0], 0.0)])
@pytest.mark.parametrize("histories", [True, False])
@pytest.mark.parametrize("tags", [None, TAGS], ids=["no tags", "tags"])
def test_no_change_of_the_weights_lowers_the_penalised_error(
    tags: Tensor | None, histories: bool, strengths: tuple[list[float], float]
) -> None:
    factors = factors_of(tags, histories=histories)
    of_side, of_tag = torch.tensor(strengths[0]), strengths[1]
    side, of_tags = (found.requires_grad_() for found in cold_start_weights(factors, of_side, of_tag))
    assert side.shape == (SIDE, DIM + 1)
    assert of_tags.shape == (0 if tags is None else 3, DIM + 1)
    penalised_error(factors, side, of_tags, of_side, of_tag).backward()  # convex: no slope is the least
    for found in (side, of_tags):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, torch.zeros_like(found), atol=2e-3, rtol=0)


def test_weights_do_not_depend_on_how_many_ratings_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    factors, strength = factors_of(TAGS), torch.full((SIDE,), 2.0)
    whole = cold_start_weights(factors, strength, 2.0)
    for budget in (1, 5 * 28 * (DIM + 1)):  # one rating at a time; five, so that most films' ratings are split
        monkeypatch.setattr(interactions, "CHUNK_BYTES", budget)
        for found, expected in zip(cold_start_weights(factors, strength, 2.0), whole, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_where_the_search_begins_does_not_change_where_it_ends() -> None:
    factors, strength = factors_of(TAGS), torch.full((SIDE,), 2.0)
    side, tags = cold_start_weights(factors, strength, 2.0)
    factors.cold_side, factors.cold_tags = side + 3 * drawn(*side.shape, seed=5), drawn(*tags.shape, seed=6)
    for found, expected in zip(cold_start_weights(factors, strength, 2.0), (side, tags), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_tags_alone_are_enough() -> None:
    side, tags = cold_start_weights(factors_of(TAGS, side=0), torch.ones(0), 1.0)
    assert side.shape == (0, DIM + 1)
    assert tags.abs().min() > 1e-4


def test_a_item_without_a_rating_is_told_by_the_cold_weights_and_a_rated_one_is_not() -> None:
    factors = factors_of(TAGS)
    before = factors.vectors().item
    factors.cold_side, factors.cold_tags = cold_start_weights(factors, torch.ones(SIDE), 1.0)
    after = factors.vectors().item
    torch.testing.assert_close(after[:-1], before[:-1])
    torch.testing.assert_close(after[-1], factors.item_features[-1] @ factors.cold_side + TAGS[-1] @ factors.cold_tags)


def test_tags_add_to_the_vector_of_a_rated_item() -> None:
    factors = factors_of(TAGS)
    plain = factors.vectors().item
    factors.tables["item_tags"].data += 1
    torch.testing.assert_close(factors.vectors().item - plain, TAGS.sum(1, keepdim=True).expand(ITEMS, DIM + 1))


def test_components_answer_to_a_strength_of_their_own() -> None:
    listed = (drawn(USERS, ITEMS - 1, seed=0) > -0.4).nonzero()
    rating = drawn(len(listed), seed=1)
    pairs = TrainingPairs.sorted(listed[:, 0], listed[:, 1], rating, users=USERS, items=ITEMS)
    item = drawn(ITEMS, SIDE, seed=3)
    side = SideInformation(
        user=torch.zeros(USERS, 0), item=item, shown=item[:, :2]
    )  # genres and years, then components

    def weights(**strengths: float) -> Tensor:
        plain = replace(preset("best"), modalities="none", head="squared", dim=DIM, tags=False)
        config = replace(plain, l2=replace(plain.l2, **strengths))
        member = Member(config, pairs, Scale.of(rating), side, {}, seed=0)
        member.learn_unrated_items()
        return member.factors.cold_side.abs()

    assert weights(cold_components=1e9, cold_side=1.0)[2:].max() < 1e-4
    assert weights(cold_components=1e9, cold_side=1.0)[:2].max() > 1e-2
    assert weights(cold_components=1.0, cold_side=1e9)[:2].max() < 1e-4
