"""Laws of side information: the unknown is nothing, order and company of rows don't matter, doubles are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cinefuse.data.runtime.errors import BadInput, FingerprintMismatch
from cinefuse.fuse.inputs.side_information import item_features, side_columns, user_features
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.presets import preset


def items(*rows: tuple[list[str] | None, int | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"genres": pl.List(pl.String), "year": pl.Int32}, orient="row")


def users_file(folder: Path, **columns: list[Any]) -> Path:
    pl.DataFrame(columns).write_parquet(folder / "users.parquet")
    return folder


# --- films ------------------------------------------------------------------------------------------------------------


def test_genres_have_unit_length_and_a_item_of_none_has_nothing() -> None:
    side = item_features(items((["Drama", "War"], None), (["War"], None), ([], None), (None, None)))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(side[:, :2], [[half, half], [0, 1], [0, 0], [0, 0]], atol=1e-6)
    assert not side[:, 2:].any()


@pytest.mark.parametrize(
    ("year", "column"), [(1800, 0), (1920, 0), (1926, 0), (1927, 1), (1995, 10), (2031, 15), (2999, 15), (None, None)]
)
def test_years_fall_into_bins_of_seven_from_1920_and_those_beyond_into_the_outermost(
    year: int | None, column: int | None
) -> None:
    side = item_features(items(([], year)))
    assert side.shape == (1, 16)
    assert np.flatnonzero(side[0]).tolist() == ([] if column is None else [column])


def test_a_catalogue_that_knows_nothing_has_sides_of_nothing() -> None:
    side = item_features(items((None, None), (None, None)))
    assert side.shape == (2, 16)
    assert not side.any()


# --- users ------------------------------------------------------------------------------------------------------------


def test_without_a_users_table_there_is_no_side(tmp_path: Path) -> None:
    assert user_features(tmp_path, np.arange(5)).shape == (5, 0)


def test_users_get_their_own_row_in_whatever_order_the_table_lists_them(tmp_path: Path) -> None:
    users_file(tmp_path, user_id=[9, 4, 7], occupation=["cook", "poet", "cook"], gender=["F", "M", "M"])
    side = user_features(tmp_path, np.array([4, 5, 7, 9]))
    assert side.tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0]]  # cook, poet, F, M


def test_a_listed_user_who_is_not_asked_for_takes_nobodys_row(tmp_path: Path) -> None:
    users_file(tmp_path, user_id=[4, 5, 6], gender=["F", "M", "M"])
    assert user_features(tmp_path, np.array([4, 5])).tolist() == [[1, 0], [0, 1]]
    assert user_features(tmp_path, np.array([6, 4])).tolist() == [[0, 1], [1, 0]]


def test_unknown_values_are_nothing_rather_than_a_value_of_their_own(tmp_path: Path) -> None:
    users_file(tmp_path, user_id=["a", "b"], occupation=[None, "poet"], gender=["F", None], age=[None, float("nan")])
    side = user_features(tmp_path, np.array(["a", "b"], dtype=object))
    assert side.sum(1).tolist() == [1, 1]


def test_ages_are_cut_as_movielens_1m_cuts_them(tmp_path: Path) -> None:
    ages = [17, 18, 24, 25, 34, 35, 44, 45, 49, 50, 55, 56, 99]
    users_file(tmp_path, user_id=list(range(13)), age=ages)
    side = user_features(tmp_path, np.arange(13))
    bands = side.argmax(1)
    expected = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert [[bands[a] == bands[b] for b in range(13)] for a in range(13)] == [
        [expected[a] == expected[b] for b in range(13)] for a in range(13)
    ]
    assert (side.sum(1) == 1).all()


def test_a_users_table_of_ids_alone_has_no_side(tmp_path: Path) -> None:
    assert user_features(users_file(tmp_path, user_id=[1, 2]), np.array([1, 2])).shape == (2, 0)


def test_a_user_listed_twice_is_refused(tmp_path: Path) -> None:
    users_file(tmp_path, user_id=[1, 2, 1], gender=["F", "M", "M"])
    with pytest.raises(BadInput, match="each user once"):
        user_features(tmp_path, np.array([1, 2]))


def test_a_users_table_without_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="column user_id"):
        user_features(users_file(tmp_path, name=["a"]), np.array([1]))


def test_a_users_table_that_is_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "users.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match=r"users\.parquet cannot be read as Parquet"):
        user_features(tmp_path, np.array([1]))


def _with_genre_renamed(dataset: Path, folder: Path) -> Path:
    """The same dataset, one genre of which has another name: as many columns, another meaning."""
    shutil.copytree(dataset, folder)
    items = pl.read_parquet(folder / "items.parquet")
    one = items["genres"].explode().drop_nulls().min()
    renamed = items.with_columns(pl.col("genres").list.eval(pl.element().replace(one, "Zither")))
    renamed.write_parquet(folder / "items.parquet")
    return folder


def test_as_many_genres_of_other_names_are_no_start_for_a_run(sample: Path, tmp_path: Path) -> None:
    config = preset("mf").with_settings(["genres=true", "epochs=1", "factor_steps=2", "dim=2"])
    train(sample, None, tmp_path / "earlier", config, split="all")
    other = _with_genre_renamed(sample, tmp_path / "other")
    with pytest.raises(FingerprintMismatch, match=r"its genres are not this dataset's .*--set genres=false"):
        train(other, None, tmp_path / "run", config, split="all", warm_start=tmp_path / "earlier")
    train(sample, None, tmp_path / "same", config, split="all", warm_start=tmp_path / "earlier")


def test_columns_are_named_in_the_order_in_which_they_stand(sample: Path) -> None:
    columns = side_columns(sample)
    items, users = pl.read_parquet(sample / "items.parquet"), pl.read_parquet(sample / "users.parquet")
    found = item_features(items)
    for row, genres in enumerate(items["genres"].to_list()):
        assert {columns["item"][place] for place in np.flatnonzero(found[row, : len(columns["item"])])} == {*genres}
    flags = user_features(sample, users["user_id"].to_numpy())
    for row, person in enumerate(users.to_dicts()):
        names = {columns["user"][place] for place in np.flatnonzero(flags[row])}
        assert {f"occupation {person['occupation']}", f"gender {person['gender']}"} < names
