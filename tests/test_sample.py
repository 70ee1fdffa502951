"""Laws of the generated sample catalogue: a real dataset folder, the same for a seed, with something to learn in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest
from PIL import Image, ImageStat

from cinefuse.data.catalog import Catalog
from cinefuse.data.dataset import Description
from cinefuse.data.errors import BadInput
from cinefuse.data.info import dataset_info
from cinefuse.data.sample import GENRES, MOODS, POSTER_SIZE, draw_poster, write_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "d"
    write_sample(folder)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path, sample: Path) -> None:
    write_sample(tmp_path / "again")
    write_sample(tmp_path / "other", seed=1)
    assert contents(tmp_path / "again") == contents(sample)
    assert contents(tmp_path / "other") != contents(sample)


def test_it_is_a_dataset_with_gaps_and_duplicates_as_real_ones_have(sample: Path) -> None:
    info = dataset_info(sample)
    assert info["items"] == 64
    assert 0 < info["items"] - info["texts"]["given"] < 8
    assert 0 < info["items"] - info["posters"]["given"] < 8
    assert info["posters"]["present"] == info["posters"]["given"]
    assert info["texts"]["repeated"] == 1
    assert info["posters"]["repeated"] == 1
    assert info["ratings"]["users"] == info["users"] == 60
    assert info["ratings"]["unknown_items"] == info["ratings"]["repeated_pairs"] == 0


def test_it_says_that_it_is_generated(sample: Path) -> None:
    description = Description.read(sample)
    assert description.name == "generated-sample"
    assert "made up" in description.note


def test_plots_have_two_to_five_sentences_and_posters_open(sample: Path) -> None:
    catalog = Catalog.open(sample)
    assert all(2 <= text.count(".") <= 5 for text in catalog.texts() if text)
    assert catalog.items["title"].n_unique() == 64
    for poster in filter(None, catalog.posters()):
        with Image.open(catalog.poster_root / poster) as image:
            assert (image.mode, image.size) == ("RGB", POSTER_SIZE)


def test_gaps_do_not_fall_on_one_genre(tmp_path: Path) -> None:
    write_sample(tmp_path / "d", items=300)
    items = Catalog.open(tmp_path / "d").items
    for column in ("text", "poster"):
        assert items.filter(pl.col(column).is_null())["genres"].explode().n_unique() == len(GENRES)
    assert items["title"].n_unique() == 300


def test_mood_shows_in_the_colours_of_a_poster(sample: Path) -> None:
    for genre in GENRES:
        brightness = {
            mood.name: ImageStat.Stat(draw_poster("The Title", genre, mood).crop((0, 0, 120, 130)).convert("L")).mean[0]
            for mood in MOODS
        }
        assert brightness["dark"] < min(brightness["bright"], brightness["dreamy"])


def test_users_rate_by_taste_for_genre(sample: Path) -> None:
    ratings = pl.read_parquet(sample / "ratings.parquet")
    rated = ratings.join(Catalog.open(sample).items.select("item_id", "genres"), on="item_id")
    within = rated.group_by("user_id", "genres").agg(pl.col("rating").var())["rating"].drop_nulls().mean()
    overall = ratings["rating"].var()
    assert within is not None
    assert overall is not None
    assert within < 0.8 * overall


@pytest.mark.parametrize("items", [1, 2, 3, 4, 5])
def test_small_samples_are_whole_too(tmp_path: Path, items: int) -> None:
    write_sample(tmp_path / "d", items=items, users=2)
    assert len(Catalog.open(tmp_path / "d")) == items
    assert dataset_info(tmp_path / "d")["posters"]["missing"] == 0


def test_an_existing_folder_is_never_written_over(sample: Path) -> None:
    before = contents(sample)
    with pytest.raises(BadInput, match="exists"):
        write_sample(sample)
    assert contents(sample) == before
