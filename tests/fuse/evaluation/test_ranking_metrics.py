"""Laws of lists and of what is measured on them, each against the formula worked out user by user."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinefuse.fuse.evaluation.item_lists import ItemLists, top_items
from cinefuse.fuse.evaluation.ranking_metrics import Ranking, ndcg_at, ranking, recall_at

thorough = settings(max_examples=200, deadline=None)


def lists(of_users: list[list[int]]) -> ItemLists:
    pairs = [(user, item) for user, items in enumerate(of_users) for item in items]
    user, item = (np.array([pair[side] for pair in pairs], int) for side in (0, 1))
    return ItemLists.of(user, item, len(of_users))


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]], list[list[int]], int]:
    """Scores with many ties, and of each user seen and relevant items that do not overlap."""
    users, items = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    scores = [
        draw(st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), min_size=items, max_size=items)) for _ in range(users)
    ]
    states = [draw(st.lists(st.sampled_from("sr-"), min_size=items, max_size=items)) for _ in range(users)]
    seen = [[item for item, state in enumerate(of_user) if state == "s"] for of_user in states]
    relevant = [[item for item, state in enumerate(of_user) if state == "r"] for of_user in states]
    return np.array(scores, np.float32), seen, relevant, draw(st.integers(1, 11))


def best_by_hand(scores: np.ndarray, seen: list[int], k: int) -> list[int]:
    unseen = [item for item in range(len(scores)) if item not in seen]
    return sorted(unseen, key=lambda item: (-scores[item], item))[:k]


@thorough
@given(rankings())
def test_the_top_items_are_the_best_unseen_ones_and_ties_go_to_the_lower_index(case: Any) -> None:
    scores, seen, _, k = case
    top = top_items(scores, lists(seen), k)
    assert top.shape == (len(scores), min(k, scores.shape[1]))
    for row, of_user, seen_by_user in zip(top.tolist(), scores, seen, strict=True):
        best = best_by_hand(of_user, seen_by_user, k)
        assert row == best + [-1] * (len(row) - len(best))


@thorough
@given(rankings())
def test_ndcg_and_recall_are_those_of_the_formula_for_each_user_with_a_relevant_item(case: Any) -> None:
    scores, seen, relevant, k = case
    found = ranking(scores, lists(seen), lists(relevant), k)
    assert found.users.tolist() == [user for user, items in enumerate(relevant) if items]
    for user, ndcg, recall in zip(found.users.tolist(), found.ndcg, found.recall, strict=True):
        best = best_by_hand(scores[user], seen[user], k)
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(best) if item in relevant[user])
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant[user]))))
        assert ndcg == pytest.approx(gain / ideal)
        assert recall == pytest.approx(len(set(best) & set(relevant[user])) / len(relevant[user]))
        assert 0 <= ndcg <= 1
    if len(found.users):
        assert found.mean_ndcg == pytest.approx(sum(found.ndcg) / len(found.ndcg))
        assert found.mean_recall == pytest.approx(sum(found.recall) / len(found.recall))


@thorough
@given(rankings(), st.integers(0, 5))
def test_users_ranked_in_chunks_are_ranked_as_all_at_once(case: Any, cut: int) -> None:
    scores, seen, relevant, k = case
    cut = min(cut, len(scores))
    seen, relevant = lists(seen), lists(relevant)
    chunks = [
        (start, ranking(scores[start:stop], seen.of_users(start, stop), relevant.of_users(start, stop), k))
        for start, stop in ((0, cut), (cut, len(scores)))
    ]
    whole, parts = ranking(scores, seen, relevant, k), Ranking.joined(chunks)
    assert parts.users.tolist() == whole.users.tolist()
    assert parts.ndcg.tolist() == whole.ndcg.tolist()
    assert parts.recall.tolist() == whole.recall.tolist()


@pytest.mark.parametrize("users", [1, 2, 3, 4, 5, 8])
def test_the_best_order_scores_exactly_one_among_however_many_users(users: int) -> None:
    scores = np.tile(-np.arange(9.0), (users, 1))
    found = ranking(scores, lists([[0]] * users), lists([list(range(1, 9))] * users), 8)
    assert found.ndcg.tolist() == [1.0] * users


def test_a_part_of_a_part_of_the_users_has_their_lists() -> None:
    whole = lists([[0, 1], [2], [3, 4, 5], [6], [7]])
    part = whole.of_users(1, 5).of_users(1, 3)
    assert part.offsets.tolist() == [0, 3, 4]
    assert part.items.tolist() == [3, 4, 5, 6]


def test_the_best_order_scores_one_and_a_single_hit_in_second_place_what_the_paper_says() -> None:
    scores = np.array([[4.0, 3.0, 2.0, 1.0]])
    nothing = lists([[]])
    assert ranking(scores, nothing, lists([[0, 1]]), 2).ndcg.tolist() == [1.0]
    assert ranking(scores, nothing, lists([[1]]), 2).ndcg.tolist() == pytest.approx([1 / math.log2(3)])
    assert ranking(scores, nothing, lists([[3]]), 2).ndcg.tolist() == [0.0]
    assert ranking(scores, lists([[0, 1, 2]]), lists([[3]]), 2).ndcg.tolist() == [1.0]


def test_without_a_relevant_item_there_is_no_user_and_the_mean_is_not_a_number() -> None:
    scores = np.zeros((2, 3))
    found = ranking(scores, lists([[], []]), lists([[], []]), 2)
    assert len(found.users) == len(found.ndcg) == len(found.recall) == 0
    assert math.isnan(found.mean_ndcg)
    assert math.isnan(found.mean_recall)
    assert math.isnan(Ranking.joined([]).mean_ndcg)
    nobody = np.zeros((1, 3), bool)
    assert math.isnan(ndcg_at(np.array([[0, 1]]), nobody)[0])
    assert math.isnan(recall_at(np.array([[0, 1]]), nobody)[0])


def test_an_item_listed_twice_counts_once() -> None:
    found = ranking(np.array([[2.0, 1.0]]), lists([[]]), lists([[0, 0]]), 1)
    assert found.recall.tolist() == [1.0]


def test_whole_numbers_are_scores_too() -> None:
    assert top_items(np.array([[1, 5, 3]]), lists([[1]]), 2).tolist() == [[2, 0]]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_no_users_or_no_items_rank_to_nothing(shape: tuple[int, int]) -> None:
    nothing = lists([[] for _ in range(shape[0])])
    assert top_items(np.zeros(shape), nothing, 2).shape == (shape[0], min(2, shape[1]))
    assert len(ranking(np.zeros(shape), nothing, nothing, 2).users) == 0


@pytest.mark.parametrize(
    ("scores", "seen", "relevant", "k", "says"),
    [
        ([[1.0, math.nan]], [[]], [[]], 1, "finite scores"),
        ([[1.0, -math.inf]], [[]], [[]], 1, "finite scores"),
        ([[1.0, 2.0]], [[]], [[]], 0, "k of at least 1"),
        ([[1.0, 2.0]], [[], []], [[]], 1, "of 2 users"),
        ([[1.0, 2.0]], [[]], [[], []], 1, "lists of 1 users"),
        ([1.0], [[]], [[]], 1, r"scores \(users, items\)"),
        ([[1.0, 2.0]], [[2]], [[]], 1, "items from 0 to 1"),
        ([[1.0, 2.0]], [[]], [[2]], 1, "items from 0 to 1"),
        ([[1.0, 2.0]], [[-1]], [[]], 1, "items from 0 to 1"),
        ([[1.0, 2.0]], [[0]], [[0]], 1, "in both lists"),
    ],
)
def test_scores_and_lists_that_do_not_fit_are_refused(
    scores: Any, seen: list[list[int]], relevant: list[list[int]], k: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        ranking(np.array(scores), lists(seen), lists(relevant), k)


@pytest.mark.parametrize(("user", "item"), [([0, 2], [0, 0]), ([-1], [0]), ([0], [0, 1])])
def test_pairs_of_users_that_do_not_exist_are_refused(user: list[int], item: list[int]) -> None:
    with pytest.raises(ValueError, match="pairs of a user from 0 to 1"):
        ItemLists.of(np.array(user), np.array(item), 2)
