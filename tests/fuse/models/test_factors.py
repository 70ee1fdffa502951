"""Laws of the light side: what a score is made of, and that no training score ever sees the rating it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cinefuse.fuse.inputs.interactions import TrainingPairs
from cinefuse.fuse.models.factors import Factors, Vectors

USERS, ITEMS, DIM = 7, 6, 3
LISTED = [
    (0, 0),
    (0, 1),
    (0, 2),
    (1, 0),
    (1, 3),
    (2, 4),
    (3, 1),
    (4, 2),
    (5, 0),
    (5, 3),
    (5, 4),
]  # sorted, as pairs are


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


RATING = normal(len(LISTED), seed=0)
CONTENT = normal(ITEMS, DIM + 1, seed=1)
KEEP = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
CASES = pytest.mark.parametrize(
    ("content", "keep"),
    [(None, None), (CONTENT, None), (None, KEEP), (CONTENT, KEEP)],
    ids=["plain", "content", "film-drop", "content and film-drop"],
)


def factors_of(rating: Tensor, *, histories: bool = True, listed: list[tuple[int, int]] = LISTED) -> Factors:
    """Factors of the same weights whatever the ratings are; every table is far from zero, also in its biases."""
    user, item = torch.tensor(listed).T
    pairs = TrainingPairs.sorted(user, item, rating, users=USERS, items=ITEMS)
    factors = Factors(
        pairs,
        normal(USERS, 2, seed=2),
        normal(ITEMS, 4, seed=3),
        dim=DIM,
        histories=histories,
        generator=torch.Generator().manual_seed(4),
    )
    for number, table in enumerate(factors.tables.values()):
        table.data = normal(*table.shape, seed=10 + number)
    return factors


@CASES
@pytest.mark.parametrize("changed", range(len(LISTED)))
def test_a_training_score_does_not_change_with_its_own_rating(
    changed: int, content: Tensor | None, keep: Tensor | None
) -> None:
    other = RATING.clone()
    other[changed] += 2
    before, after = (factors_of(rating).training_scores(content, keep) for rating in (RATING, other))
    torch.testing.assert_close(after[changed], before[changed], atol=2e-5, rtol=0)


@CASES
def test_a_training_score_does_change_with_the_ratings_of_others(content: Tensor | None, keep: Tensor | None) -> None:
    other = RATING.clone()
    other[0] += 2  # user 0's other films, and film 0's other raters
    before, after = (factors_of(rating).training_scores(content, keep) for rating in (RATING, other))
    assert ((after - before).abs() > 1e-2)[[1, 2]].all()


@pytest.mark.parametrize("changed", range(len(LISTED)))
def test_user_vectors_that_the_transformer_sees_do_not_change_with_the_rating_they_are_for(changed: int) -> None:
    other = RATING.clone()
    other[changed] += 2
    before, after = (
        factors.user_vectors_at(factors.vectors(None, KEEP).user, torch.arange(len(LISTED)))
        for factors in (factors_of(RATING), factors_of(other))
    )
    torch.testing.assert_close(after[changed], before[changed], atol=2e-5, rtol=0)
    assert (after - before).abs().max() > 1e-2 or LISTED[changed][0] in (2, 3, 4)  # who has no other rating


@pytest.mark.parametrize("histories", [True, False])
def test_content_meets_users_without_the_pairs_own_term_and_learns_from_all_its_pairs(histories: bool) -> None:
    factors = factors_of(RATING, histories=histories)
    user = factors.vectors(None, KEEP).user.detach()
    items = torch.tensor([3, 0, 5, 4])  # the film before the last is rated by nobody
    pair = torch.tensor([place for item in items.tolist() for place, one in enumerate(LISTED) if one[1] == item])
    place = torch.tensor([number for number, item in enumerate(items.tolist()) for one in LISTED if one[1] == item])
    ours, plain = (normal(len(items), DIM + 1, seed=5).requires_grad_() for _ in range(2))
    weights = normal(len(pair), seed=6)
    scores = factors.content_scores(ours, user, items, factors.pairs.by_item.argsort()[pair], place)
    asking, answer = factors.user_vectors_at(user, pair)[:, :-1], plain[place]
    expected = (asking * answer[:, :-1]).sum(1) + answer[:, -1]
    torch.testing.assert_close(scores, expected)
    (scores * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)


@CASES
def test_training_scores_equal_those_of_histories_rebuilt_without_the_pair(
    content: Tensor | None, keep: Tensor | None
) -> None:
    factors = factors_of(RATING)
    pairs, t, h = factors.pairs, factors.tables, factors.histories
    assert h is not None
    user_mean, item_mean = pairs.means()  # held constant, as the code does
    expected = []
    for target in range(len(LISTED)):
        u, i = int(pairs.user[target]), int(pairs.item[target])
        user = factors.user_features[u] @ t["user_features"] + t["user"][u]
        of_ids = t["item"][i].clone()
        for other in range(len(LISTED)):
            v, j, rating = int(pairs.user[other]), int(pairs.item[other]), pairs.rating[other]
            if other != target and v == u:
                user = user + pairs.user_counts[u] ** -0.5 * (
                    t["implicit_items"][j] + (rating - item_mean[j]) * t["explicit_items"][j]
                )
            if other != target and j == i:
                term = t["implicit_users"][v] + (rating - user_mean[v]) * t["explicit_users"][v]
                of_ids = of_ids + pairs.item_counts[i] ** -0.5 * term
        item = factors.item_features[i] @ t["item_features"] + of_ids * (1 if keep is None else keep[i])
        item = item if content is None else item + content[i]
        expected.append(user[:-1] @ item[:-1] + user[-1] + item[-1])
    torch.testing.assert_close(factors.training_scores(content, keep), torch.stack(expected), atol=1e-4, rtol=1e-5)


def test_gradients_of_training_scores_equal_those_of_the_same_scores_taken_dense() -> None:
    factors, dense = factors_of(RATING), factors_of(RATING)
    weight = normal(len(LISTED), seed=5)
    (factors.training_scores(CONTENT, KEEP) * weight).sum().backward()

    pairs, t, h = dense.pairs, dense.tables, dense.histories
    assert h is not None
    u, i = pairs.user, pairs.item
    vectors = dense.vectors(CONTENT, KEEP)
    own_user = h.user_weight[u, None] * (t["implicit_items"][i] + h.item_residual[:, None] * t["explicit_items"][i])
    own_item = (h.item_weight * KEEP)[i, None] * (
        t["implicit_users"][u] + h.user_residual[:, None] * t["explicit_users"][u]
    )
    scores = Vectors(vectors.user[u] - own_user, vectors.item[i] - own_item)
    everyone = torch.arange(len(u))
    (scores.pair_scores(everyone, everyone) * weight).sum().backward()
    for name, table in factors.tables.items():
        torch.testing.assert_close(table.grad, t[name].grad, atol=1e-4, rtol=1e-4)


def test_without_histories_a_training_score_is_the_served_score() -> None:
    factors = factors_of(RATING, histories=False)
    served = factors.vectors(CONTENT).pair_scores(factors.pairs.user, factors.pairs.item)
    torch.testing.assert_close(factors.training_scores(CONTENT), served)


def test_a_user_and_a_item_with_one_rating_are_scored_by_everything_but_it() -> None:
    lone = factors_of(RATING[:1], listed=[(2, 4)])
    t = lone.tables
    expected = Vectors(
        (lone.user_features @ t["user_features"] + t["user"])[[2]],
        (lone.item_features @ t["item_features"] + t["item"])[[4]],
    ).pair_scores(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(lone.training_scores(), expected, atol=1e-5, rtol=1e-5)


def test_a_dropped_item_is_scored_as_if_nobody_had_rated_it() -> None:
    factors = factors_of(RATING)
    dropped = factors.vectors(CONTENT, torch.zeros(ITEMS)).item
    torch.testing.assert_close(dropped, factors.item_features @ factors.tables["item_features"] + CONTENT)


def test_users_and_items_without_a_training_rating_start_as_their_side_information() -> None:
    user, item = torch.tensor(LISTED).T
    pairs = TrainingPairs.sorted(user, item, RATING, users=USERS, items=ITEMS)
    factors = Factors(
        pairs, normal(USERS, 2, seed=2), normal(ITEMS, 4, seed=3), dim=DIM, generator=torch.Generator().manual_seed(4)
    )
    vectors = factors.vectors()
    torch.testing.assert_close(
        vectors.user[6], factors.user_features[6] @ factors.tables["user_features"]
    )  # rated nothing
    torch.testing.assert_close(
        vectors.item[5], factors.item_features[5] @ factors.tables["item_features"]
    )  # rated by nobody
    factors.training_scores().sum().backward()
    assert factors.tables["user"].grad is not None
    assert not factors.tables["user"].grad[6].any()


def test_all_scores_are_the_scores_of_all_pairs() -> None:
    vectors = factors_of(RATING).vectors(CONTENT)
    user, item = torch.cartesian_prod(torch.arange(USERS), torch.arange(ITEMS)).T
    torch.testing.assert_close(vectors.scores().flatten(), vectors.pair_scores(user, item))
    torch.testing.assert_close(vectors.scores(torch.tensor([3, 1])), vectors.scores()[[3, 1]])


def test_scores_of_pairs_do_not_depend_on_how_many_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = factors_of(RATING).vectors(CONTENT)
    user, item = torch.cartesian_prod(torch.arange(USERS), torch.arange(ITEMS)).T
    whole = vectors.pair_scores(user, item)
    monkeypatch.setattr("cinefuse.fuse.inputs.interactions.CHUNK_BYTES", 1)
    torch.testing.assert_close(vectors.pair_scores(user, item), whole)
    assert vectors.pair_scores(user[:0], item[:0]).shape == (0,)


def test_the_penalty_is_half_the_squared_weights_each_group_times_its_own_strength() -> None:
    factors = factors_of(RATING)
    names = list(factors.tables)
    strengths = {name: 2.0 + n for n, name in enumerate(names)} | {f"{n}.bias": 0.5 * k for k, n in enumerate(names)}
    expected = sum(
        (
            strengths[name] * float(table.data[:, :-1].square().sum())
            + strengths[f"{name}.bias"] * float(table.data[:, -1].square().sum())
        )
        / 2
        for name, table in factors.tables.items()
    )
    assert float(factors.penalty(strengths).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_strength_of_a_row_grows_with_that_power_of_its_ratings_and_is_one_for_the_mean(power: float) -> None:
    user, item = torch.tensor(LISTED).T
    pairs = TrainingPairs.sorted(user, item, RATING, users=USERS, items=ITEMS)
    factors = Factors(
        pairs,
        torch.zeros(USERS, 0),
        torch.zeros(ITEMS, 0),
        dim=DIM,
        histories=False,
        user_power=power,
        item_power=2 * power,
        generator=torch.Generator().manual_seed(4),
    )
    expected = 0.0
    for name, counts, its_power in (("user", pairs.user_counts, power), ("item", pairs.item_counts, 2 * power)):
        counts = counts.clamp(min=1)
        for count, row in zip(counts, factors.tables[name].data, strict=True):
            expected += float((count / counts.mean()) ** its_power * row[:-1].square().sum()) / 2
    strengths = {"user": 1.0, "item": 1.0, "user_features": 1.0, "item_features": 1.0}
    strengths |= {f"{name}.bias": 1.0 for name in strengths}
    assert float(factors.penalty(strengths).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_same_generator_gives_the_same_weights_and_another_gives_others() -> None:
    user, item = torch.tensor(LISTED).T
    pairs = TrainingPairs.sorted(user, item, RATING, users=USERS, items=ITEMS)

    def drawn(seed: int) -> Tensor:
        factors = Factors(
            pairs, torch.ones(USERS, 1), torch.ones(ITEMS, 1), dim=DIM, generator=torch.Generator().manual_seed(seed)
        )
        return torch.cat([table.data for table in factors.tables.values()])

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
