"""Laws of Bayesian factors: tastes are learned, nothing else moves the draws, served vectors stand for all draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cinefuse.fuse.inputs.interactions import TrainingPairs
from cinefuse.fuse.models import bayesian_factors
from cinefuse.fuse.models.bayesian_factors import affordable, fit_bayesian_factors
from cinefuse.fuse.models.factors import Vectors

pytestmark = pytest.mark.usefixtures("one_thread")

USERS, ITEMS = 80, 30


def ratings() -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and standardised ratings of all pairs in drawn order: a bias each, tastes, and noise."""
    drawn = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=drawn)

    score = normal(USERS, 1) * 0.5 + normal(ITEMS) * 0.5 + normal(USERS, 2) @ normal(2, ITEMS)
    score = score + 0.5 * normal(USERS, ITEMS)
    order = torch.randperm(USERS * ITEMS, generator=drawn)
    return order // ITEMS, order % ITEMS, score.flatten()[order]


def pairs_of(user: Tensor, item: Tensor, rating: Tensor) -> TrainingPairs:
    return TrainingPairs.sorted(user, item, rating, users=USERS + 1, items=ITEMS + 1)


def test_tastes_are_learned_from_what_users_gave_to_other_items() -> None:
    user, item, rating = ratings()
    held, kept = slice(0, 600), slice(600, None)
    vectors = fit_bayesian_factors(pairs_of(user[kept], item[kept], rating[kept]), seed=0)
    error = (vectors.pair_scores(user[held], item[held]) - rating[held]).square().mean().sqrt()
    assert float(error) < 0.42 * float(rating[held].std())  # biases leave .9 of it, the noise alone .34


def test_the_order_of_ratings_does_not_matter_and_a_seed_gives_the_same_twice() -> None:
    user, item, rating = ratings()
    first = fit_bayesian_factors(pairs_of(user, item, rating), seed=0)
    again = fit_bayesian_factors(pairs_of(user.flip(0), item.flip(0), rating.flip(0)), seed=0)
    other = fit_bayesian_factors(pairs_of(user, item, rating), seed=1)
    assert torch.equal(first.user, again.user)
    assert torch.equal(first.item, again.item)
    assert not torch.equal(first.user, other.user)
    apart = (first.scores() - other.scores())[:USERS, :ITEMS].square().mean().sqrt()
    assert float(apart) < 0.1 * float(rating.std())  # of two chains


def test_rows_are_drawn_alike_whether_they_fit_the_memory_limit_at_once_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_of(*ratings())
    monkeypatch.setattr(bayesian_factors, "SWEEPS", bayesian_factors._BURN_IN + 3)
    whole = fit_bayesian_factors(pairs, seed=0)
    monkeypatch.setattr("cinefuse.fuse.inputs.interactions.CHUNK_BYTES", 40_000)
    torch.testing.assert_close(fit_bayesian_factors(pairs, seed=0).scores(), whole.scores(), rtol=0, atol=2e-2)


def test_served_vectors_score_as_the_mean_of_the_draws_does(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.Generator().manual_seed(3)
    common = torch.randn(40, 5, generator=drawn), torch.randn(30, 5, generator=drawn)
    monkeypatch.setattr(bayesian_factors, "SERVED_RANK", 8)
    total, mean = bayesian_factors._Total(40, 30, torch.device("cpu")), torch.zeros(40, 30)
    for _ in range(12):  # turned otherwise in each draw, as draws of vectors are, with the same scores
        turn = torch.linalg.qr(torch.randn(5, 5, generator=drawn)).Q
        bias = torch.randn(40, 1, generator=drawn), torch.randn(30, 1, generator=drawn)
        draw = Vectors(*(torch.cat([side @ turn, own], 1) for side, own in zip(common, bias, strict=True)))
        total.add(*draw)
        mean += draw.scores() / 12
    served = total.mean_vectors(0.5)
    assert served.user.shape == (40, 9)
    torch.testing.assert_close(served.scores(), mean + 0.5, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("few_sweeps")
def test_users_and_items_without_ratings_get_finite_scores() -> None:
    vectors = fit_bayesian_factors(pairs_of(*ratings()), seed=0)
    assert bool(torch.isfinite(vectors.scores()).all())


@pytest.mark.usefixtures("few_sweeps")
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_ratings_that_are_all_equal_are_expected_everywhere(value: float) -> None:
    user, item, rating = ratings()
    vectors = fit_bayesian_factors(pairs_of(user, item, torch.full_like(rating, value)), seed=0)
    scores = vectors.scores()[:USERS, :ITEMS]
    torch.testing.assert_close(scores, torch.full((USERS, ITEMS), value), rtol=0, atol=0.05)


@pytest.mark.usefixtures("few_sweeps")
def test_every_sweep_is_counted() -> None:
    counted: list[int] = []
    fit_bayesian_factors(pairs_of(*(part[:500] for part in ratings())), seed=0, advance=lambda: counted.append(1))
    assert len(counted) == bayesian_factors.SWEEPS


def test_the_cost_is_bounded() -> None:
    assert affordable(1_000_209, 6_040, 3_706)
    assert not affordable(20_000_263, 138_493, 26_744)
    assert not affordable(1_000_000, 400_000, 10)
