"""Laws of films without ids: the title stands for one, and films of one title and several years stay apart."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.runtime.errors import UsageError
from cinefuse.data.sources.own_tables import import_table

FILMS = "title,year,plot\nSolaris,1972,A station.\nSolaris,2002,A remake.\nDune,1984,Sand.\n"


def _written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("head", ["user,Name,Year,Rating", "user,movie,year,rating", "user,film,release_date,score"])
def test_films_of_one_title_and_two_years_are_two(tmp_path: Path, head: str) -> None:
    ratings = _written(tmp_path, "r.csv", f"{head}\nann,Solaris,1972,4\nann,Solaris,2002,2\nbob,Dune,,5\n")
    report = import_table(tmp_path / "out", ratings=ratings)
    assert Catalog.open(report.folder).ids.tolist() == ["Dune", "Solaris (1972)", "Solaris (2002)"]
    assert any("films are known by the column" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    "ratings",
    [
        "user,Name,Year,Rating\nann,Solaris,1972,4\nann,Solaris,2002,2\nbob,Dune,1984,5\n",
        "user,title,rating\nann,Solaris (1972),4\nann,Solaris (2002),2\nbob,Dune (1984),5\n",
    ],
)
def test_films_and_ratings_without_ids_meet_by_title_and_year(tmp_path: Path, ratings: str) -> None:
    films, rated = _written(tmp_path, "f.csv", FILMS), _written(tmp_path, "r.csv", ratings)
    report = import_table(tmp_path / "out", films, rated)
    texts = dict(zip(Catalog.open(report.folder).ids.tolist(), Catalog.open(report.folder).texts(), strict=True))
    joined = pl.read_parquet(report.folder / "ratings.parquet").select("item_id", "rating").rows()
    assert [(texts[item], rating) for item, rating in joined] == [("A station.", 4), ("A remake.", 2), ("Sand.", 5)]


def test_a_column_called_movie_that_holds_numbers_is_of_ids(tmp_path: Path) -> None:
    ratings = _written(tmp_path, "r.csv", "user,movie,year,rating\nann,10,1972,4\nbob,11,2002,2\n")
    report = import_table(tmp_path / "out", ratings=ratings)
    assert Catalog.open(report.folder).ids.tolist() == [10, 11]


def test_one_person_s_export_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    ratings = _written(tmp_path, "r.csv", "Date,Name,Year,Letterboxd URI,Rating\n2021-03-01,Solaris,1972,https://x,4\n")
    with pytest.raises(UsageError, match=r"one person's ratings.* need a column that says whose"):
        import_table(tmp_path / "out", ratings=ratings)
