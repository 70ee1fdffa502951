"""Laws of what an import says of its ratings: counts, and values that mean "not rated"; and what it never says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cinefuse.data.dataset.rating_scale import looks_like_counts, median_of, values_not_rated
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sources.own_tables import import_table


def histogram_of(values: Any) -> dict[float, int]:
    return {float(value): int(count) for value, count in zip(*np.unique(values, return_counts=True), strict=True)}


DRAW = np.random.default_rng(0)
SCALES = {
    "1 to 5": np.arange(1, 6),
    "half stars": np.arange(1, 11) / 2,
    "0 to 10, few zeros": np.r_[0, np.repeat(np.arange(1, 11), 5)],
    "0 to 5 in halves": np.arange(11) / 2,
    "1 to 100": np.arange(1, 101),
    "-10 to 10": DRAW.uniform(-10, 10, 500),
    "likes": np.ones(50),
    "0 and 1": np.r_[np.zeros(80), np.ones(20)],
    "-1, 0 and 1": np.r_[np.full(50, -1), np.zeros(20), np.ones(30)],
    "0 to 3 with many zeros": np.r_[np.zeros(20), np.arange(0, 3.1, 0.25)],
}
COUNTS = {
    "zipf": np.minimum(DRAW.zipf(1.7, 2000), 10**6),
    "uniform to a million": DRAW.integers(1, 10**6, 500),
    "plays to 300": np.minimum(np.floor(np.exp(DRAW.normal(1.5, 1.3, 3000))), 300),
    "seconds watched": DRAW.exponential(900, 500),
}


@pytest.mark.parametrize("scale", SCALES)
def test_scales_are_neither_counts_nor_doubted(scale: str) -> None:
    found = histogram_of(SCALES[scale])
    assert not looks_like_counts(min(found), median_of(found), max(found), len(found))
    assert values_not_rated(found) == []


@pytest.mark.parametrize("kind", COUNTS)
def test_counts_are_known_by_their_range_or_skew(kind: str) -> None:
    found = histogram_of(COUNTS[kind])
    assert looks_like_counts(min(found), median_of(found), max(found), len(found))


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        (np.r_[np.zeros(60), np.repeat(np.arange(1, 11), 4)], [0]),
        (np.r_[np.full(60, -1), np.repeat(np.arange(1, 11), 4)], [-1]),
        (np.r_[DRAW.uniform(-10, 10, 500), np.full(100, 99)], [99]),
        (np.r_[np.arange(1, 6), 999], [999]),
        (np.r_[-999, np.arange(1, 6)], [-999]),
    ],
    ids=str,
)
def test_a_value_apart_from_all_others_is_asked_about(values: Any, marks: list[float]) -> None:
    assert values_not_rated(histogram_of(values)) == marks


def imported(folder: Path, rating: Any, **options: Any) -> list[str]:
    count = len(rating)
    table = pl.DataFrame({"user_id": np.arange(count) % 7, "item_id": np.arange(count), "rating": rating})
    table.write_parquet(folder / "ratings.parquet")
    return import_table(folder / "dataset", ratings=folder / "ratings.parquet", **options).warnings


def test_an_import_names_the_option_for_what_it_doubts(tmp_path: Path) -> None:
    rating = np.r_[np.zeros(60), np.repeat(np.arange(1.0, 11), 4)]
    (doubt,) = imported(tmp_path, rating)
    assert doubt.endswith("import with --drop-rating 0")


def test_counts_have_no_scale_and_none_below_zero(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--scale and --log-ratings"):
        imported(tmp_path, np.arange(1.0, 9), log_ratings=True, scale=(1, 5))
    with pytest.raises(BadInput, match="row 2 with a rating below 0, of which there is no logarithm"):
        imported(tmp_path, np.array([1.0, -1.0, 3.0]), log_ratings=True)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), None], ids=str)
def test_a_rating_that_is_no_number_is_refused_with_its_row(tmp_path: Path, wrong: float | None) -> None:
    with pytest.raises(BadInput, match="row 3 with a rating that is not a number"):
        imported(tmp_path, [1.0, 2.0, wrong, 4.0])


def test_a_scale_stated_wrongly_is_refused_with_its_rows(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="rows 1, 4 with a rating outside 1 to 5"):
        imported(tmp_path, [0.5, 2.0, 5.0, 10.0], scale=(1, 5))
