"""Laws of the metrics, each against the formula worked out one number at a time in plain Python."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinefuse.fuse.evaluation.metrics import (
    BANDS,
    bootstrap_interval,
    by_popularity,
    mae,
    paired_difference,
    rmse,
)

thorough = settings(max_examples=200, deadline=None)
numbers = st.floats(-1e3, 1e3, width=32)
rated = st.lists(st.tuples(numbers, numbers, st.integers(0, 25), st.integers(0, 3)), min_size=1, max_size=40)


def columns(rows: list[tuple[Any, ...]]) -> list[np.ndarray]:
    rating, prediction, *others = (np.array(column) for column in zip(*rows, strict=True))
    return [rating.astype(np.float32), prediction.astype(np.float32), *others]


def rmse_by_hand(rows: list[tuple[Any, ...]]) -> float:
    return math.sqrt(math.fsum((prediction - rating) ** 2 for rating, prediction, *_ in rows) / len(rows))


def mae_by_hand(rows: list[tuple[Any, ...]]) -> float:
    return math.fsum(abs(prediction - rating) for rating, prediction, *_ in rows) / len(rows)


@pytest.mark.slow
@thorough
@given(rated)
def test_errors_are_those_of_the_formula(rows: list[tuple[Any, ...]]) -> None:
    rating, prediction, *_ = columns(rows)
    assert rmse(rating, prediction) == pytest.approx(rmse_by_hand(rows), rel=1e-9)
    assert mae(rating, prediction) == pytest.approx(mae_by_hand(rows), rel=1e-9)


def test_errors_of_many_small_numbers_are_summed_in_double_precision() -> None:
    rating = np.zeros(3_000_000, np.float16)
    assert rmse(rating, rating + np.float16(0.1)) == pytest.approx(float(np.float16(0.1)), rel=1e-9)
    assert mae(rating, rating + np.float16(0.1)) == pytest.approx(float(np.float16(0.1)), rel=1e-9)


@pytest.mark.parametrize(
    ("rating", "prediction", "says"),
    [
        ([], [], "at least one rating"),
        ([1.0], [1.0, 2.0], "received"),
        ([[1.0]], [[1.0]], "received"),
        ([1.0, 2.0], [1.0, math.nan], "received 1 other"),
        ([math.inf], [1.0], "received 1 other"),
    ],
)
def test_errors_of_nothing_or_of_no_numbers_are_refused(rating: Any, prediction: Any, says: str) -> None:
    rating, prediction = np.array(rating), np.array(prediction)
    users = np.zeros(len(rating), int)
    for refused in (
        lambda: rmse(rating, prediction),
        lambda: mae(rating, prediction),
        lambda: bootstrap_interval(rating, prediction, users),
        lambda: paired_difference(rating, prediction, prediction, users),
        lambda: by_popularity(rating, prediction, users),
    ):
        with pytest.raises(ValueError, match=says):
            refused()


def drawn_users(users: list[int], seed: int, draws: int) -> list[list[int]]:
    """Which users each draw takes, repeats included; told apart in ascending order."""
    chance, apart = np.random.default_rng(seed), sorted(set(users))
    return [[apart[place] for place in chance.integers(0, len(apart), len(apart))] for _ in range(draws)]


def bounds_by_hand(values: list[float], level: float) -> tuple[float, float]:
    """The linearly interpolated quantiles that leave the same share out on both sides."""
    ordered = sorted(values)

    def quantile(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = min(int(place), len(ordered) - 1)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return quantile((1 - level) / 2), quantile((1 + level) / 2)


@settings(max_examples=60, deadline=None)
@given(rated, st.integers(0, 5), st.sampled_from([0.5, 0.95]))
def test_an_interval_draws_whole_users_and_cuts_both_tails(
    rows: list[tuple[Any, ...]], seed: int, level: float
) -> None:
    rating, prediction, _, user = columns(rows)
    found = bootstrap_interval(rating, prediction, user, seed=seed, draws=40, level=level)
    assert (found.rmse.value, found.mae.value) == (rmse(rating, prediction), mae(rating, prediction))
    if len(set(user.tolist())) == 1:
        assert all(math.isnan(bound) for one in (found.rmse, found.mae) for bound in (one.low, one.high))
        return
    rows_of = {one: [row for row in rows if row[3] == one] for one in user.tolist()}
    samples = [[row for one in drawn for row in rows_of[one]] for drawn in drawn_users(user.tolist(), seed, 40)]
    for interval, by_hand in ((found.rmse, rmse_by_hand), (found.mae, mae_by_hand)):
        low, high = bounds_by_hand([by_hand(sample) for sample in samples], level)
        assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


def test_names_of_users_tell_them_apart_as_numbers_do() -> None:
    chance = np.random.default_rng(1)
    rating, prediction = chance.random(50), chance.random(50)
    user = chance.integers(0, 9, 50)
    names = np.array([f"user {one}" for one in user])
    assert bootstrap_interval(rating, prediction, user) == bootstrap_interval(rating, prediction, names)


def test_without_users_single_ratings_are_drawn() -> None:
    chance = np.random.default_rng(1)
    rating, prediction = chance.random(60), chance.random(60)
    every_rating_a_user = np.arange(60)
    assert bootstrap_interval(rating, prediction, None) == bootstrap_interval(rating, prediction, every_rating_a_user)


def test_users_whose_errors_are_alike_widen_the_interval() -> None:
    chance = np.random.default_rng(0)
    user = np.repeat(np.arange(30), 40)
    prediction = chance.random(30)[user] * 3 + chance.random(1200) * 0.1
    rating = np.zeros(1200)
    by_user = bootstrap_interval(rating, prediction, user).rmse
    by_rating = bootstrap_interval(rating, prediction, None).rmse
    assert by_user.high - by_user.low > 3 * (by_rating.high - by_rating.low)


@pytest.mark.slow
def test_the_interval_holds_the_true_error_about_as_often_as_it_says() -> None:
    held = 0
    for trial in range(200):
        chance = np.random.default_rng(trial)
        user = np.repeat(np.arange(80), 5)
        prediction = chance.standard_normal(80)[user] + chance.standard_normal(400)
        found = bootstrap_interval(np.zeros(400), prediction, user, seed=trial, draws=300, level=0.9).rmse
        held += found.low <= math.sqrt(2) <= found.high
    assert 0.82 <= held / 200 <= 0.97


def test_a_seed_gives_the_same_interval_and_another_seed_another() -> None:
    chance = np.random.default_rng(3)
    rating, prediction, user = chance.random(100), chance.random(100), chance.integers(0, 20, 100)
    first = bootstrap_interval(rating, prediction, user, seed=4)
    assert bootstrap_interval(rating, prediction, user, seed=4) == first
    assert bootstrap_interval(rating, prediction, user, seed=5) != first


@settings(max_examples=60, deadline=None)
@given(rated, st.integers(0, 5))
def test_a_paired_difference_takes_the_same_users_for_both(rows: list[tuple[Any, ...]], seed: int) -> None:
    rating, a, _, user = columns(rows)
    b = a[::-1].copy()
    found = paired_difference(rating, a, b, user, seed=seed, draws=30)
    assert found.value == rmse(rating, a) - rmse(rating, b)
    if len(set(user.tolist())) == 1:
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        return
    differences = []
    for drawn in drawn_users(user.tolist(), seed, 30):
        rows_drawn = [row for one in drawn for row in np.flatnonzero(user == one).tolist()]
        of_a, of_b = ([(rating[row].item(), p[row].item()) for row in rows_drawn] for p in (a, b))
        differences.append(rmse_by_hand(of_a) - rmse_by_hand(of_b))
    low, high = bounds_by_hand(differences, 0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-7, abs=1e-7)


def test_what_is_hard_for_both_cancels_in_a_paired_difference() -> None:
    chance = np.random.default_rng(0)
    user = np.repeat(np.arange(50), 10)
    hard = chance.random(50)[user] * 4
    a, b = hard + 0.1, hard + 0.2
    found = paired_difference(np.zeros(500), a, b, user)
    alone = bootstrap_interval(np.zeros(500), a, user).rmse
    assert found.low <= found.value <= found.high < 0
    assert found.high - found.low < (alone.high - alone.low) / 10
    assert paired_difference(np.zeros(500), a, a, user).high == 0


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"draws": 0}, "at least 1 draw"),
        ({"level": 0.0}, "level"),
        ({"level": 1.0}, "level"),
        ({"user": np.arange(3)}, "one user a rating"),
    ],
)
def test_a_bootstrap_that_means_nothing_is_refused(choices: dict[str, Any], says: str) -> None:
    choices = {"user": np.arange(4)} | choices
    with pytest.raises(ValueError, match=says):
        bootstrap_interval(np.ones(4), np.zeros(4), **choices)
    with pytest.raises(ValueError, match=says):
        paired_difference(np.ones(4), np.zeros(4), np.zeros(4), **choices)


def band_by_hand(count: int) -> str:
    if count == 0:
        return "unseen"
    return "1-4" if count < 5 else "5-19" if count < 20 else "20+"


@pytest.mark.slow
@thorough
@given(rated)
def test_every_rating_is_in_the_one_band_of_its_item(rows: list[tuple[Any, ...]]) -> None:
    rating, prediction, counts, _ = columns(rows)
    table = by_popularity(rating, prediction, counts)
    assert table.columns == ["band", "ratings", "rmse", "mae"]
    assert table["band"].to_list() == [name for name, _ in BANDS] == ["unseen", "1-4", "5-19", "20+"]
    for band, count, root, absolute in table.iter_rows():
        inside = [row for row in rows if band_by_hand(row[2]) == band]
        assert count == len(inside)
        if inside:
            assert root == pytest.approx(rmse_by_hand(inside), rel=1e-9)
            assert absolute == pytest.approx(mae_by_hand(inside), rel=1e-9)
        else:
            assert (root, absolute) == (None, None)


@pytest.mark.parametrize("counts", [[1], [1, -1]])
def test_counts_that_are_none_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="training count"):
        by_popularity(np.ones(2), np.ones(2), np.array(counts))
