"""Baselines against their formulas worked out plainly, and lists measured in blocks against all at once."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from cinefuse.fuse.evaluation import baselines as module
from cinefuse.fuse.evaluation.baselines import Baseline, History, baselines, ease, ials, most_popular
from cinefuse.fuse.evaluation.item_lists import USERS_AT_ONCE, ItemLists
from cinefuse.fuse.evaluation.list_tables import activity_table, difference_table, quality_table, resampled_means
from cinefuse.fuse.evaluation.measured_lists import ListTask, Measured, measure


def taste(users: int = 150, items: int = 60, seed: int = 0) -> np.ndarray:
    """(users, items) bool: users of two tastes, each of which prefers half of the items; some items are popular."""
    chance = np.random.default_rng(seed)
    kind, half = np.arange(users) % 2, np.arange(items) % 2
    popular = np.where(np.arange(items) < 6, 0.5, 0.0)
    share = np.where(kind[:, None] == half[None], 0.25, 0.02) + popular
    return chance.random((users, items)) < share


def history(rows: np.ndarray, held: float = 0.1, seed: int = 0) -> History:
    user, item = (side.astype(np.int64) for side in np.nonzero(rows))
    chance = np.random.default_rng(seed)
    return History(
        len(rows), rows.shape[1], user, item, chance.random(len(user)) < 0.8, chance.random(len(user)) < held
    )


def all_scores(baseline: Baseline, users: int) -> np.ndarray:
    assert baseline.scores is not None
    return np.concatenate([baseline.scores(block) for block in range(-(-users // USERS_AT_ONCE))])


def silent(_: str) -> None:
    pass


def test_most_popular_ranks_by_training_rows_for_everybody() -> None:
    rows = taste()
    scores = all_scores(most_popular(history(rows)), len(rows))
    assert np.array_equal(scores, np.tile(rows.sum(0), (len(rows), 1)))


def test_ease_is_the_closed_form_of_its_paper() -> None:
    rows, known = taste(), history(taste())
    found = ease(known, 10, silent)
    l2 = float(found.settings.split()[1].rstrip(","))
    learned = np.zeros(rows.shape)
    chosen = known.liked if "liked rows" in found.settings else np.ones(len(known.user), bool)
    learned[known.user[chosen], known.item[chosen]] = 1
    inverse = np.linalg.inv(learned.T @ learned + l2 * np.eye(rows.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    assert np.allclose(all_scores(found, len(rows)), learned @ weights, atol=1e-5)
    assert "chosen by NDCG@10 on validation rows" in found.settings


def test_ease_without_held_out_rows_says_that_nothing_was_chosen() -> None:
    known = history(taste(), held=0)
    assert "not chosen: no row is held out" in ease(known, 10, silent).settings


def task_of(rows: np.ndarray, cutoffs: tuple[int, ...] = (5, 10)) -> ListTask:
    chance = np.random.default_rng(1)
    user, item = (side.astype(np.int64) for side in np.nonzero(rows))
    test = chance.random(len(user)) < 0.3
    rating = chance.integers(1, 6, len(user)).astype(np.float32)
    seen = ItemLists.of(user[~test], item[~test], len(rows))
    columns = user[test], item[test], rating[test], rating[test] >= 4
    return ListTask.of(seen, rows.shape[1], *columns, cutoffs)


def measured_plainly(task: ListTask, scores: np.ndarray) -> dict[str, Any]:
    """The figures of the catalogue, user by user."""
    listed, rated, recall = [], [], []
    for user in np.unique(task.user).tolist():
        seen = task.seen.items[task.seen.offsets[user] : task.seen.offsets[user + 1]]
        order = [item for item in np.argsort(-scores[user], kind="stable").tolist() if item not in seen][:10]
        listed += order
        mine = task.user == user
        rating = dict(zip(task.item[mine].tolist(), task.rating[mine].tolist(), strict=True))
        rated += [rating[item] for item in order if item in rating]
        liked = set(task.item[mine & task.relevant].tolist())
        if liked:
            recall.append(len(liked & set(order)) / len(liked))
    return {"listed": listed, "rated": rated, "recall": recall}


def test_figures_of_the_catalogue_are_those_of_all_lists_together() -> None:
    rows = taste()
    task = task_of(rows)
    scores = np.random.default_rng(3).standard_normal(rows.shape).astype(np.float32)
    found = measure(task, lambda block: scores[block * USERS_AT_ONCE : (block + 1) * USERS_AT_ONCE])
    row = quality_table(task, {"it": found}, draws=10, seed=0).row(1, named=True)
    plain = measured_plainly(task, scores)
    count = np.bincount(task.seen.items, minlength=task.items)
    head = np.argsort(-count, kind="stable")[:12].tolist()
    assert row["k"] == 10
    assert row["users"] == len(plain["recall"])
    assert row["recall"] == pytest.approx(np.mean(plain["recall"]))
    assert row["coverage"] == pytest.approx(len(set(plain["listed"])) / 60)
    assert row["novelty"] == pytest.approx(np.mean([-np.log2(max(count[item], 1) / 150) for item in plain["listed"]]))
    assert row["head_share"] == pytest.approx(np.mean([item in head for item in plain["listed"]]))
    assert row["rated_share"] == pytest.approx(len(plain["rated"]) / len(plain["listed"]))
    assert row["mean_rating"] == pytest.approx(np.mean(plain["rated"]))


def two(task: ListTask, rows: np.ndarray) -> dict[str, Measured]:
    chance = np.random.default_rng(3)
    good = (rows + 0.5 * chance.standard_normal(rows.shape)).astype(np.float32)
    poor = (rows + 2.0 * chance.standard_normal(rows.shape)).astype(np.float32)
    cut = [slice(start, start + USERS_AT_ONCE) for start in range(0, len(rows), USERS_AT_ONCE)]
    return {"good": measure(task, lambda b: good[cut[b]]), "poor": measure(task, lambda b: poor[cut[b]])}


def test_a_difference_is_that_of_the_means_and_its_bounds_draw_the_same_users() -> None:
    rows = taste()
    task = task_of(rows)
    methods = two(task, rows)
    quality = quality_table(task, methods, draws=50, seed=4)
    for row in difference_table(task, methods, draws=50, seed=4).to_dicts():
        number, metric = (
            task.cutoffs.index(row["k"]),
            ("ndcg", "recall", "precision", "map", "mrr", "hit_rate").index(row["metric"]),
        )
        gap = methods["good"].values[:, number, metric] - methods["poor"].values[:, number, metric]
        chance = np.random.default_rng(4)
        means = [gap[chance.integers(0, len(gap), len(gap))].mean() for _ in range(50)]
        assert row["difference"] == pytest.approx(gap.mean())
        assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    good, poor = quality.filter(k=10)["ndcg"].to_list()
    assert good > poor


def test_one_user_has_figures_without_bounds() -> None:
    rows = taste(1)
    task = task_of(np.ones_like(rows))
    row = quality_table(task, two(task, rows), draws=5, seed=0).row(0, named=True)
    assert row["ndcg"] is not None
    assert row["ndcg_low"] is row["ndcg_high"] is None


def test_every_user_is_in_one_band_of_activity() -> None:
    rows = taste()
    task = task_of(rows)
    methods = two(task, rows)
    table = activity_table(task, methods, 10)
    for name, found in methods.items():
        mine = table.filter(method=name)
        assert mine["users"].sum() == len(found.users)
        whole = (mine["ndcg"] * mine["users"]).sum() / len(found.users)
        assert whole == pytest.approx(found.values[:, 1, 0].mean())
    rated = np.diff(task.seen.offsets)[methods["good"].users]
    assert table.filter(method="good", band="5-19")["users"].item() == ((rated >= 5) & (rated < 20)).sum()


def test_resampled_means_do_not_depend_on_the_other_columns() -> None:
    values = np.random.default_rng(0).random((30, 4))
    together = resampled_means(values, draws=20, seed=1)
    assert np.array_equal(together[:, [2]], resampled_means(values[:, [2]], draws=20, seed=1))


def test_a_catalogue_too_large_for_ease_has_ials_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("implicit", reason="iALS is that of the library implicit")
    monkeypatch.setattr(module, "MOST_ITEMS_OF_EASE", 59)
    rows = taste()
    popular, refused, factors = baselines(history(rows), 10, silent)
    assert popular.name == "most popular"
    assert (refused.name, refused.scores, refused.reason) == ("EASE", None, "60 items are more than EASE's 59")
    assert factors.name == "iALS"
    assert factors.settings.startswith("library implicit, 64 factors")
    task = task_of(rows)
    assert factors.scores is not None
    assert popular.scores is not None
    assert measure(task, factors.scores).values[:, 1, 0].mean() > measure(task, popular.scores).values[:, 1, 0].mean()


def test_ials_without_its_library_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "implicit":
            raise ImportError(name)
        return ordinary(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    found = ials(history(taste()), 10, silent)
    assert found.scores is None
    assert "the library implicit is not installed" in found.reason


def test_settings_are_chosen_among_popular_items_and_some_users_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ITEMS_TO_CHOOSE_ON", 20)
    monkeypatch.setattr(module, "_USERS_TO_CHOOSE_ON", 30)
    said: list[str] = []
    found = ease(history(taste()), 10, said.append)
    assert said[0].endswith("validation rows (20 items)")
    assert all_scores(found, 150).shape == (150, 60)
