"""Laws of lists and of what is measured on them, each against the formula worked out user by user."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinefuse.fuse.evaluation.item_lists import ItemLists, top_items
from cinefuse.fuse.evaluation.ranking_metrics import METRICS, hits_of, list_metrics

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


@pytest.mark.slow
@thorough
@given(rankings())
def test_the_top_items_are_the_best_unseen_ones_and_ties_go_to_the_lower_index(case: Any) -> None:
    scores, seen, _, k = case
    top = top_items(scores, lists(seen), k)
    assert top.shape == (len(scores), min(k, scores.shape[1]))
    for row, of_user, seen_by_user in zip(top.tolist(), scores, seen, strict=True):
        best = best_by_hand(of_user, seen_by_user, k)
        assert row == best + [-1] * (len(row) - len(best))


def metrics_of(scores: np.ndarray, seen: list[list[int]], relevant: list[list[int]], k: int) -> np.ndarray:
    """(users, 6): each metric at k, NaN for a user without a relevant item."""
    hits = hits_of(top_items(scores, lists(seen), k), lists(relevant), scores.shape[1])
    return list_metrics(hits, np.array([len(set(items)) for items in relevant], int), [k])[:, 0]


@pytest.mark.slow
@thorough
@given(rankings())
def test_every_metric_is_that_of_its_formula_for_each_user_with_a_relevant_item(case: Any) -> None:
    scores, seen, relevant, k = case
    found = metrics_of(scores, seen, relevant, k)
    for user, values in enumerate(found):
        wanted = relevant[user]
        if not wanted:
            assert np.isnan(values).all()
            continue
        best = best_by_hand(scores[user], seen[user], k)
        places = [place for place, item in enumerate(best, 1) if item in wanted]
        gain, ideal = (sum(1 / math.log2(p + 1) for p in them) for them in (places, range(1, min(k, len(wanted)) + 1)))
        precisions = [sum(other <= place for other in places) / place for place in places]
        by_hand = {
            "ndcg": gain / ideal,
            "recall": len(places) / len(wanted),
            "precision": len(places) / k,
            "map": sum(precisions) / min(k, len(wanted)),
            "mrr": 1 / places[0] if places else 0,
            "hit_rate": float(bool(places)),
        }
        assert dict(zip(METRICS, values, strict=True)) == pytest.approx(by_hand)
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.slow
@thorough
@given(rankings())
def test_a_shorter_list_is_the_beginning_of_a_longer_one(case: Any) -> None:
    scores, seen, relevant, k = case
    counts = np.array([len(items) for items in relevant])
    cutoffs = sorted({1, k, 20})
    hits = hits_of(top_items(scores, lists(seen), 20), lists(relevant), scores.shape[1])
    together = list_metrics(hits, counts, cutoffs)
    for number, cutoff in enumerate(cutoffs):
        assert np.array_equal(together[:, number], metrics_of(scores, seen, relevant, cutoff), equal_nan=True)


@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_the_metrics_are_those_of_trec_eval(k: int) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="trec_eval's measures: pip install pytrec-eval-terrier")
    chance = np.random.default_rng(k)
    scores = chance.permuted(np.tile(np.arange(60.0), (40, 1)), axis=1)
    relevant = [chance.permutation(60)[: chance.integers(1, 40)].tolist() for _ in range(40)]
    found = metrics_of(scores, [[]] * 40, relevant, k)
    names = {"ndcg": "ndcg_cut", "recall": "recall", "precision": "P", "map": "map_cut", "hit_rate": "success"}
    judged = {str(user): {str(item): 1 for item in items} for user, items in enumerate(relevant)}
    ranked = {
        str(user): {str(item): float(score) for item, score in enumerate(of_user)}
        for user, of_user in enumerate(scores)
    }
    theirs = pytrec_eval.RelevanceEvaluator(judged, {f"{name}.{k}" for name in names.values()}).evaluate(ranked)
    rank = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(ranked)
    for user, values in enumerate(found):
        ours, its = dict(zip(METRICS, values, strict=True)), theirs[str(user)]
        for name, their_name in names.items():
            value = its[f"{their_name}_{k}"]
            if name == "map":  # trec_eval divides by all relevant items, however long the list
                value *= len(relevant[user]) / min(k, len(relevant[user]))
            assert ours[name] == pytest.approx(value, abs=1e-6)
        first = rank[str(user)]["recip_rank"]
        assert ours["mrr"] == pytest.approx(first if first >= 1 / k - 1e-9 else 0, abs=1e-6)


@pytest.mark.parametrize("users", [1, 2, 3, 4, 5, 8])
def test_the_best_order_scores_exactly_one_among_however_many_users(users: int) -> None:
    scores = np.tile(-np.arange(9.0), (users, 1))
    found = metrics_of(scores, [[0]] * users, [list(range(1, 9))] * users, 8)
    assert (found == 1).all()


def test_a_part_of_a_part_of_the_users_has_their_lists() -> None:
    whole = lists([[0, 1], [2], [3, 4, 5], [6], [7]])
    part = whole.of_users(1, 5).of_users(1, 3)
    assert part.offsets.tolist() == [0, 3, 4]
    assert part.items.tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("users", [[], [0], [1, 3], [0, 1, 2, 3, 4]])
def test_the_lists_of_some_users_are_theirs(users: list[int]) -> None:
    of_users = [[0, 1], [2], [], [3, 4, 5], [6]]
    part = lists([[9, 9], *of_users]).of_users(1, 6).only(np.array(users, int))
    assert len(part) == len(users)
    assert [part.items[part.offsets[n] : part.offsets[n + 1]].tolist() for n in range(len(users))] == [
        of_users[user] for user in users
    ]


def test_a_single_hit_in_second_place_gains_what_the_paper_says() -> None:
    scores = np.array([[4.0, 3.0, 2.0, 1.0]])
    assert metrics_of(scores, [[]], [[1]], 2)[0, 0] == pytest.approx(1 / math.log2(3))
    assert metrics_of(scores, [[]], [[3]], 2)[0].tolist() == [0.0] * 6
    assert metrics_of(scores, [[0, 1, 2]], [[3]], 2)[0, 0] == 1


def test_an_item_listed_twice_counts_once() -> None:
    assert metrics_of(np.array([[2.0, 1.0]]), [[]], [[0, 0]], 1)[0, 1] == 1


def test_whole_numbers_are_scores_too() -> None:
    assert top_items(np.array([[1, 5, 3]]), lists([[1]]), 2).tolist() == [[2, 0]]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_no_users_or_no_items_rank_to_nothing(shape: tuple[int, int]) -> None:
    nothing: list[list[int]] = [[] for _ in range(shape[0])]
    assert top_items(np.zeros(shape), lists(nothing), 2).shape == (shape[0], min(2, shape[1]))
    assert np.isnan(metrics_of(np.zeros(shape), nothing, nothing, 2)).all()


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
    ],
)
def test_scores_and_lists_that_do_not_fit_are_refused(
    scores: Any, seen: list[list[int]], relevant: list[list[int]], k: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        hits_of(top_items(np.array(scores), lists(seen), k), lists(relevant), 2)


@pytest.mark.parametrize(("user", "item"), [([0, 2], [0, 0]), ([-1], [0]), ([0], [0, 1])])
def test_pairs_of_users_that_do_not_exist_are_refused(user: list[int], item: list[int]) -> None:
    with pytest.raises(ValueError, match="pairs of a user from 0 to 1"):
        ItemLists.of(np.array(user), np.array(item), 2)
