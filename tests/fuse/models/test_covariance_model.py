"""Laws of the covariance model: tastes are learned, the order of ratings does not matter, nothing known is the mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cinefuse.fuse.inputs.interactions import TrainingPairs
from cinefuse.fuse.models.covariance_model import MOST_ITEMS, affordable, fit_covariance_model

USERS, ITEMS = 80, 30


def ratings(taste: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and standardised ratings of all pairs in drawn order: a bias each, tastes, and noise."""
    drawn = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=drawn)

    score = normal(USERS, 1) * 0.5 + normal(ITEMS) * 0.5 + taste * normal(USERS, 2) @ normal(2, ITEMS)
    score = score + 0.5 * normal(USERS, ITEMS)
    order = torch.randperm(USERS * ITEMS, generator=drawn)
    return order // ITEMS, order % ITEMS, score.flatten()[order]


def pairs_of(user: Tensor, item: Tensor, rating: Tensor) -> TrainingPairs:
    return TrainingPairs.sorted(user, item, rating, users=USERS + 1, items=ITEMS + 1)


def test_tastes_are_learned_from_what_users_gave_to_other_items() -> None:
    user, item, rating = ratings()
    held, kept = slice(0, 600), slice(600, None)
    vectors = fit_covariance_model(pairs_of(user[kept], item[kept], rating[kept]))
    error = (vectors.pair_scores(user[held], item[held]) - rating[held]).square().mean().sqrt()
    assert float(error) < 0.5 * float(rating[held].std())  # biases leave .9 of it


def test_the_order_of_ratings_does_not_matter_and_twice_is_the_same() -> None:
    user, item, rating = ratings()
    first = fit_covariance_model(pairs_of(user, item, rating))
    again = fit_covariance_model(pairs_of(user.flip(0), item.flip(0), rating.flip(0)))
    assert torch.equal(first.user, again.user)
    assert torch.equal(first.item, again.item)


def test_a_user_without_ratings_is_expected_to_give_the_mean_of_each_item() -> None:
    user, item, rating = ratings()
    vectors = fit_covariance_model(pairs_of(user, item, rating))
    assert not vectors.user[USERS].any()
    torch.testing.assert_close(vectors.scores(torch.tensor([USERS]))[0], vectors.item[:, -1])
    mean = torch.zeros(ITEMS).index_add(0, item, rating) / USERS
    assert float((vectors.item[:ITEMS, -1] - mean).abs().max()) < 0.2
    assert float((vectors.item[ITEMS, -1] - rating.mean()).abs()) < 1e-5


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_ratings_that_are_all_equal_are_expected_everywhere(value: float) -> None:
    user, item, rating = ratings()
    vectors = fit_covariance_model(pairs_of(user, item, torch.full_like(rating, value)))
    torch.testing.assert_close(vectors.scores(), torch.full((USERS + 1, ITEMS + 1), value))


def test_its_cost_is_bounded() -> None:
    users = torch.arange(100_000)
    assert affordable(users, MOST_ITEMS // 2)
    assert not affordable(users, MOST_ITEMS + 1)
    assert not affordable(torch.zeros(30_000, dtype=torch.long), 1000)  # one user with 30,000 ratings
    assert not affordable(torch.arange(200_000), 1000)  # many users with a rating each
