"""Links: IMDb's and TMDB's numbers reach the dataset however they are written."""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl

from cinefuse.data.dataset.links import read_links, tidy_links
from cinefuse.data.sources.movielens.importing import import_movielens
from cinefuse.data.sources.own_tables import import_table


def test_links_of_a_movielens_archive_are_kept_for_its_films_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        archive.writestr("ml/movies.csv", "movieId,title,genres\n1,Amber (1995),Drama\n2,Basalt (1996),Drama\n")
        archive.writestr("ml/ratings.csv", "userId,movieId,rating,timestamp\n1,1,4.0,1\n1,2,3.5,2\n")
        archive.writestr("ml/links.csv", "movieId,imdbId,tmdbId\n1,0000017,862\n2,,\n99,0000018,5\n")
    import_movielens(tmp_path / "ml.zip", tmp_path / "ml")
    links = read_links(tmp_path / "ml")
    assert links is not None
    assert links.rows() == [("1", "tt0000017", 862)]
    assert pl.read_parquet(tmp_path / "ml" / "links.parquet").schema["item_id"] == pl.Int64


def test_links_in_columns_of_an_own_table_are_kept(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("imdbID,title,tmdb_id\ntt0000017,Amber,862.0\ntt0000018,Basalt,\n")
    import_table(tmp_path / "out", tmp_path / "films.csv", columns={"item_id": "imdbID"})
    links = read_links(tmp_path / "out")
    assert links is not None
    assert links.rows() == [("tt0000017", "tt0000017", 862), ("tt0000018", "tt0000018", None)]


def test_a_number_is_the_same_however_it_is_written_and_nonsense_is_none() -> None:
    given = ["tt0114709", "0114709", "114709", "114709.0", " tt0114709 ", "N/A", "", "0", None]
    raw = pl.LazyFrame({"item_id": [str(row) for row in range(len(given))], "imdb_id": given})
    links = tidy_links(raw)
    assert links is not None
    assert links["item_id"].to_list() == ["0", "1", "2", "3", "4"]
    assert set(links["imdb_id"]) == {"tt0114709"}


def test_a_dataset_without_links_has_no_such_file(own_sample: Path) -> None:
    assert read_links(own_sample) is None
