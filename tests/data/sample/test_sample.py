"""Laws of the generated sample catalogue: a real dataset folder, the same for a seed, with something to learn in it."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageStat

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.folder import Description
from cinefuse.data.dataset.summary import dataset_info
from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.sample.catalogue import invent_films, unrated_films, write_sample
from cinefuse.data.sample.plots import GENRES, MOODS, THEMES
from cinefuse.data.sample.posters import MANNERS, POSTER_SIZE, draw_poster


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
    assert not contents(tmp_path / "other").items() & contents(sample).items()


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


def test_it_says_that_it_is_generated_in_its_description_and_on_every_poster(sample: Path) -> None:
    description = Description.read(sample)
    assert description.name == "generated-sample"
    assert "made up" in description.note
    imprint = (0, round(0.93 * POSTER_SIZE[1]), POSTER_SIZE[0], POSTER_SIZE[1])
    for manner in MANNERS:
        poster = draw_poster("The Title", "Western", "bright", manner).crop(imprint).convert("L")
        assert ImageStat.Stat(poster).stddev[0] > 4, "letters stand out from their ground"


def test_plots_have_three_to_seven_sentences_hardly_one_twice_and_posters_open(sample: Path) -> None:
    catalog = Catalog.open(sample)
    texts = [text for text in catalog.texts() if text]
    assert all(3 <= text.count(". ") + 1 <= 7 and text.endswith(".") for text in texts)
    assert not any(brace in text for text in texts for brace in "{}")
    assert len(set(texts)) == len(texts) - 1, "the one that is repeated"
    for poster in filter(None, catalog.posters()):
        with Image.open(catalog.poster_root / poster) as image:
            assert (image.mode, image.size) == ("RGB", POSTER_SIZE)


def test_plots_and_titles_are_one_film_s_own_however_many_there_are() -> None:
    films = invent_films(2000)
    assert len({film.title for film in films}) == 2000
    assert len({film.plot for film in films}) > 1990


def test_every_trait_is_dealt_evenly() -> None:
    kinds = pl.DataFrame([film.kind() for film in invent_films(320)])
    for trait, names in (("genre", GENRES), ("manner", MANNERS), ("theme", THEMES)):
        assert kinds[trait].value_counts()["count"].to_list() == [320 / len(names)] * len(names)
    assert kinds["mood"].n_unique() == len(MOODS)


def test_gaps_do_not_fall_on_one_genre() -> None:
    films = invent_films(300)
    genres = [film.genre.name for film in films]
    for first, step in ((7, 17), (11, 17)):
        assert len(set(genres[first::step])) >= len(GENRES) - 2
    assert {genres[place] for place in unrated_films(films)} == {genre.name for genre in GENRES}


def test_some_films_are_never_rated_and_few_have_most_of_the_ratings(tmp_path: Path) -> None:
    write_sample(tmp_path / "d", items=120, users=100)
    counts = pl.read_parquet(tmp_path / "d" / "ratings.parquet")["item_id"].value_counts()["count"].sort()
    assert counts.len() == 120 - 4
    assert counts.tail(12).sum() > 3 * counts.head(58).sum() / 4
    assert counts[-1] > 4 * counts.median()


def test_mood_shows_in_the_colours_of_a_poster() -> None:
    for genre in GENRES:
        light = {
            mood.name: ImageStat.Stat(draw_poster("The Title", genre.name, mood.name, "epic").convert("L")).mean[0]
            for mood in MOODS
        }
        assert light["dark"] < min(light["bright"], light["dreamy"], light["wistful"]) - 20


def test_no_two_posters_of_a_genre_mood_and_manner_are_alike() -> None:
    for manner in MANNERS:
        posters = [
            np.asarray(draw_poster(f"The {name} Title", "Crime", "dark", manner).resize((24, 36)), np.float32)
            for name in ("First", "Second", "Third", "Fourth")
        ]
        assert all(np.abs(one - other).mean() > 4 for one, other in combinations(posters, 2))


def test_only_the_poster_tells_the_manner_and_only_the_plot_the_theme() -> None:
    films = invent_films(200)
    turns = {theme.name: {turn.split("{")[0].split(".")[0][:20] for turn in theme.turns} for theme in THEMES}
    assert all(film.manner not in film.plot.lower() for film in films)
    assert not any(words & others for words, others in combinations(turns.values(), 2) if "" not in words & others)
    one, other = (film for film in films[:2])
    drawn = draw_poster(one.title, one.genre.name, one.mood.name, one.manner, one.tagline)
    assert drawn.tobytes() == one.poster().tobytes(), "the plot has no say in it"
    assert other.poster().tobytes() != drawn.tobytes()


@pytest.mark.parametrize("trait", ["genre", "mood", "manner", "theme"])
def test_users_rate_by_taste_for_what_plots_and_posters_tell(trait: str, tmp_path: Path) -> None:
    write_sample(tmp_path / "d", items=150, users=100)
    kinds = pl.DataFrame([film.kind() for film in invent_films(150)]).with_row_index("item_id", offset=1)
    ratings = pl.read_parquet(tmp_path / "d" / "ratings.parquet").join(
        kinds.with_columns(pl.col("item_id").cast(pl.Int64)), on="item_id"
    )
    shuffled = ratings.with_columns(pl.col(trait).shuffle(seed=0))

    def within(table: pl.DataFrame) -> float:
        spread = pl.col("rating") - pl.col("rating").mean().over("user_id", trait)
        return float(table.select(spread.pow(2).mean()).item())

    assert within(ratings) < 0.9 * within(shuffled)


@pytest.mark.parametrize("items", [1, 2, 3, 4, 5, 30])
def test_small_samples_are_whole_too(tmp_path: Path, items: int) -> None:
    write_sample(tmp_path / "d", items=items, users=2)
    assert len(Catalog.open(tmp_path / "d")) == items
    assert dataset_info(tmp_path / "d")["posters"]["missing"] == 0
    assert pl.read_parquet(tmp_path / "d" / "ratings.parquet")["user_id"].n_unique() == 2


def test_an_existing_folder_is_never_written_over(sample: Path) -> None:
    before = contents(sample)
    with pytest.raises(BadInput, match="exists"):
        write_sample(sample)
    assert contents(sample) == before
