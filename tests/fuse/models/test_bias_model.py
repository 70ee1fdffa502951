"""Laws of the bias model: its strengths come from the ratings, and nothing it is given makes it fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinefuse.fuse.models.bias_model import BiasModel

Array = npt.NDArray[Any]


def drawn(users: int, items: int, count: int, deviations: tuple[float, float, float]) -> tuple[Array, Array, Array]:
    """Ratings around 10 of random pairs; ``deviations`` of user biases, item biases and noise."""
    draw = np.random.default_rng(0)
    user, item = draw.integers(users, size=count), draw.integers(items, size=count)
    of_user, of_item, noise = (draw.normal(0, d, n) for d, n in zip(deviations, (users, items, count), strict=True))
    return user, item, 10 + of_user[user] + of_item[item] + noise


@pytest.mark.parametrize("deviations", [(1.0, 0.3, 0.8), (0.2, 2.0, 1.0), (0.01, 0.5, 1.0)], ids=str)
def test_the_strengths_are_noise_variance_over_bias_variance(deviations: tuple[float, float, float]) -> None:
    user, item, rating = drawn(800, 600, 40_000, deviations)
    model = BiasModel.fit(user, item, rating, users=800, items=600)
    of_user, of_item, noise = np.square(deviations)
    assert model.l2_item == pytest.approx(noise / of_item, rel=0.25)
    if of_user > 1e-3:
        assert model.l2_user == pytest.approx(noise / of_user, rel=0.25)
    else:
        assert model.l2_user > 200


@pytest.mark.slow
def test_no_strength_of_a_grid_predicts_held_out_ratings_much_better() -> None:
    user, item, rating = drawn(500, 300, 6_000, (0.6, 0.4, 1.0))
    known = np.arange(6_000) % 5 > 0
    model = BiasModel.fit(user[known], item[known], rating[known], users=500, items=300)
    error = np.sqrt(np.mean((model.predict(user[~known], item[~known]) - rating[~known]) ** 2))
    design = np.zeros((known.sum(), 800))
    design[np.arange(known.sum()), user[known]] = design[np.arange(known.sum()), 500 + item[known]] = 1
    errors = []
    for l2_user in (0.5, 1, 2, 4, 8):
        for l2_item in (1, 2, 4, 8, 16):
            penalty = np.diag([l2_user] * 500 + [l2_item] * 300)
            bias = np.linalg.solve(design.T @ design + penalty, design.T @ (rating[known] - rating[known].mean()))
            found = rating[known].mean() + bias[user[~known]] + bias[500 + item[~known]]
            errors.append(np.sqrt(np.mean((found - rating[~known]) ** 2)))
    assert error < min(errors) * 1.003


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=30)
)
@settings(deadline=None)
def test_any_ratings_give_finite_predictions_inside_their_range(ratings: list[tuple[int, int, float]]) -> None:
    user, item, rating = (np.array(column) for column in zip(*ratings, strict=True))
    model = BiasModel.fit(user, item, rating, users=6, items=6)
    pairs = np.indices((6, 6)).reshape(2, -1)
    found = model.predict(*pairs)
    assert np.isfinite(found).all()
    assert found.min() >= rating.min()
    assert found.max() <= rating.max()


def test_what_is_unknown_is_predicted_by_what_is_known() -> None:
    user, item, rating = drawn(50, 40, 1_000, (1.0, 1.0, 0.1))
    model = BiasModel.fit(user, item, rating, users=51, items=41)
    assert model.user[50] == model.item[40] == 0
    assert model.predict(np.array([50]), np.array([40]))[0] == pytest.approx(model.mean)
    assert model.predict(np.array([3]), np.array([40]))[0] == pytest.approx(model.mean + model.user[3])


@pytest.mark.parametrize(
    ("name", "most"), [("flixster", 0.879), ("filmtrust", 0.817), ("ml-100k-half-stars", 0.816), ("yahoo_music", 18.9)]
)
def test_real_ratings_are_predicted_as_well_as_by_tuned_strengths(name: str, most: float, shared_data: Path) -> None:
    table = pl.read_parquet(shared_data / "ratings" / f"{name}.parquet")
    user, item = (table[column].rank("dense").to_numpy().astype(np.int64) - 1 for column in ("user_id", "item_id"))
    rating, test = table["rating"].to_numpy(), table["test"].to_numpy()
    known = ~test
    model = BiasModel.fit(user[known], item[known], rating[known], users=user.max() + 1, items=item.max() + 1)
    assert np.sqrt(np.mean((model.predict(user[test], item[test]) - rating[test]) ** 2)) < most
