"""Laws of the heads: distributions are distributions, expectations are theirs, ratings stay on their scale."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cinefuse.data.runtime.errors import BadInput
from cinefuse.fuse.models.heads import MOST_LEVELS, OrdinalHead, Scale, SquaredHead, levels_named

RATINGS = torch.tensor([1.0, 2, 2, 3, 3, 3, 4, 4, 5, 5])
USERS = 4
AFFINE = pytest.mark.parametrize(("times", "plus"), [(0.5, 0.0), (2.0, 0.0), (1.0, -3.0), (10.0, 50.0)])


def ordinal(*, spread: float = 0.0, ratings: Tensor = RATINGS, seed: int = 0) -> OrdinalHead:
    """A head whose parameters are drawn that far from where they start."""
    head = OrdinalHead(Scale.of(ratings), ratings, USERS)
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return head


scores = st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=8).map(torch.tensor)
widths = st.sampled_from([0.0, 0.3, 5.0])


@settings(deadline=None)
@given(scores, widths, st.integers(0, 9))
def test_probabilities_are_not_negative_and_sum_to_one_for_any_parameters(
    scores: Tensor, width: float, seed: int
) -> None:
    found = ordinal(spread=width, seed=seed).distribution(scores, torch.arange(len(scores)) % USERS)
    assert found.shape == (len(scores), 5)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(len(scores)))


@settings(deadline=None)
@given(scores, widths, st.integers(0, 9))
def test_the_rating_is_the_expectation_of_the_distribution_and_on_the_scale(
    scores: Tensor, width: float, seed: int
) -> None:
    head, user = ordinal(spread=width, seed=seed), torch.arange(len(scores)) % USERS
    found = head.ratings(scores, user)
    torch.testing.assert_close(found, head.distribution(scores, user) @ head.levels)
    assert (found >= 1 - 1e-5).all()
    assert (found <= 5 + 1e-5).all()


@settings(deadline=None)
@given(scores, widths)
def test_losses_and_their_gradients_are_finite(scores: Tensor, width: float) -> None:
    for head in (ordinal(spread=width), SquaredHead(Scale.of(RATINGS))):
        asked = scores.clone().requires_grad_()
        rating = head.scale.standardise(RATINGS[torch.arange(len(scores)) % len(RATINGS)])
        losses = head.losses(asked, rating, torch.arange(len(scores)) % USERS)
        losses.sum().backward()
        assert torch.isfinite(losses).all()
        assert asked.grad is not None
        assert torch.isfinite(asked.grad).all()
        assert (losses >= 0).all()


@settings(deadline=None)
@given(st.lists(st.floats(-20, 20, width=32), min_size=10, max_size=10).map(torch.tensor), widths, st.integers(0, 9))
def test_likelihood_and_expectation_belong_to_one_distribution_for_any_parameters(
    scores: Tensor, width: float, seed: int
) -> None:
    head, user = ordinal(spread=width, seed=seed).double(), torch.arange(len(RATINGS)) % USERS
    scores = scores.double()
    losses = head.losses(scores, head.scale.standardise(RATINGS).double(), user)
    distribution = head.distribution(scores, user)
    given = distribution.gather(1, RATINGS.long()[:, None] - 1)[:, 0]
    torch.testing.assert_close(losses, -0.75 * given.log(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.ratings(scores, user), distribution @ head.levels)


def test_the_gradient_of_an_ordinal_loss_is_that_of_its_distribution() -> None:
    head, user = ordinal(spread=0.5).double(), torch.arange(len(RATINGS)) % USERS
    scores = torch.linspace(-2, 2, len(RATINGS), dtype=torch.float64).requires_grad_()
    weights = torch.linspace(0.5, 2, len(RATINGS), dtype=torch.float64)
    wanted = (scores, *head.parameters())
    losses = head.losses(scores, head.scale.standardise(RATINGS).double(), user)
    found = torch.autograd.grad((weights * losses).sum(), wanted)
    given = head.distribution(scores, user).gather(1, RATINGS.long()[:, None] - 1)[:, 0]
    expected = torch.autograd.grad((weights * -0.75 * given.log()).sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_every_level_finds_its_own_class_whatever_its_spacing() -> None:
    ratings = torch.tensor([0.5, 1.0, 1.5, 4.0, 4.5, 10.0, 0.1, 0.3])
    head = ordinal(ratings=ratings)
    high = head.losses(torch.full((2,), 9.0), head.scale.standardise(torch.tensor([10.0, 0.1])), torch.zeros(2).long())
    assert high[0] < 0.1 < 1 < high[1]


def test_a_higher_score_never_means_a_lower_rating() -> None:
    ladder = torch.linspace(-6, 6, 200)
    for head in (ordinal(), SquaredHead(Scale.of(RATINGS))):
        found = head.ratings(ladder, torch.zeros(200, dtype=torch.long))
        assert (found.diff() >= 0).all()


def test_scores_of_all_items_are_told_as_scores_of_pairs_are() -> None:
    asked, user = torch.randn(USERS, 6, generator=torch.Generator().manual_seed(1)), torch.arange(USERS)
    for head in (ordinal(spread=0.5), SquaredHead(Scale.of(RATINGS))):
        together = head.ratings(asked, user)
        alone = head.ratings(asked.flatten(), user.repeat_interleave(6)).view(USERS, 6)
        torch.testing.assert_close(together, alone)
    distribution = ordinal(spread=0.5).distribution(asked, user)
    assert distribution.shape == (USERS, 6, 5)


def test_squared_ratings_are_clamped_to_what_was_seen() -> None:
    head = SquaredHead(Scale.of(RATINGS))
    found = head.ratings(torch.tensor([-99.0, 0.0, 99.0, float("inf")]), torch.zeros(4).long())
    torch.testing.assert_close(found, torch.tensor([1.0, float(RATINGS.mean()), 5.0, 5.0]))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.5, 1.0, 2.5, 3.0, 7.0, 100.0]), min_size=1, max_size=30))
def test_standardising_a_rating_and_predicting_it_gives_it_back(given_ratings: list[float]) -> None:
    ratings = torch.tensor(given_ratings)
    scale = Scale.of(ratings)
    head = SquaredHead(scale)
    found = head.ratings(scale.standardise(ratings), torch.zeros(len(ratings)).long())
    torch.testing.assert_close(found, ratings, rtol=1e-5, atol=1e-5)
    assert scale.levels == tuple(sorted(set(given_ratings)))


def test_ratings_that_are_all_the_same_have_a_scale() -> None:
    for ratings in (torch.full((9,), 3.5), torch.tensor([4.0])):
        scale = Scale.of(ratings)
        assert (scale.unit, scale.levels) == (1.0, (float(ratings[0]),))
        found = SquaredHead(scale).ratings(torch.tensor([-2.0, 0.0, 2.0]), torch.zeros(3).long())
        assert found.tolist() == [float(ratings[0])] * 3


@AFFINE
def test_a_scale_of_other_ratings_gives_the_same_scores_and_ratings_moved_alike(times: float, plus: float) -> None:
    other = RATINGS * times + plus
    torch.testing.assert_close(Scale.of(other).standardise(other), Scale.of(RATINGS).standardise(RATINGS))
    asked, user = torch.linspace(-3, 3, 9), torch.arange(9) % USERS
    for ours, theirs in (
        (SquaredHead(Scale.of(RATINGS)), SquaredHead(Scale.of(other))),
        (ordinal(spread=0.5), ordinal(spread=0.5, ratings=other)),
    ):
        torch.testing.assert_close(theirs.ratings(asked, user), ours.ratings(asked, user) * times + plus)
        torch.testing.assert_close(
            theirs.losses(asked, Scale.of(other).standardise(other)[:9], user),
            ours.losses(asked, Scale.of(RATINGS).standardise(RATINGS)[:9], user),
        )


@pytest.mark.parametrize("ratings", [torch.full((3,), 2.0), torch.linspace(0, 1, MOST_LEVELS + 1)])
def test_an_ordinal_head_of_one_level_or_of_too_many_is_refused(ratings: Tensor) -> None:
    with pytest.raises(BadInput, match=f"2 to {MOST_LEVELS} different ratings, found .*head=squared"):
        OrdinalHead(Scale.of(ratings), ratings, USERS)


def test_only_users_own_logits_are_under_l2() -> None:
    head = ordinal(spread=1.0)
    expected = 0.5 * float(head.l2) * float(head.user_level_logits.data.square().sum())
    assert float(head.penalty().detach()) == pytest.approx(expected)
    assert float(SquaredHead(Scale.of(RATINGS)).penalty()) == 0


def test_the_l2_of_users_own_logits_falls_the_more_users_differ_in_the_levels_they_give() -> None:
    user, found = torch.arange(USERS).repeat_interleave(50), []
    for spread in (0.1, 0.5, 2.0):
        head = ordinal()
        head.user_level_logits.data = spread * torch.tensor([[1.0, -1, 1, -1, 1], [-1, 1, -1, 1, -1]] * 2)
        head.estimate_l2(torch.linspace(-2, 2, len(user)), user)
        found.append(float(head.l2))
    assert found[0] > found[1] > found[2] > 0


def test_levels_are_named_as_a_person_writes_them() -> None:
    assert levels_named((0.5, 1.0, 10.0)) == "0.5, 1, 10"
