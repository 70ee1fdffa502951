"""Laws of joining tables: ids of two makers never meet in silence, and a table of both is the way between them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cinefuse.data.dataset.assembly import Choices, ImportReport
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sources.own_tables import import_table

TMDB = "id,imdb_id,title,overview\n862,tt0114709,Dolls,A doll.\n2,tt0094675,North,A miner.\n3,tt0092149,Yard,A guard.\n"
RATINGS = "userId,movieId,rating\n1,2,4.0\n2,3,2.5\n2,1,3\n"
LINKS = "movieId,imdbId,tmdbId\n1,0114709,862.0\n2,0113497,8844.0\n3,0113228,\n"


def imported(folder: Path, items: str, ratings: str, links: str | None = None, **columns: str) -> ImportReport:
    for name, content in (("items.csv", items), ("ratings.csv", ratings), ("links.csv", links)):
        if content is not None:
            (folder / name).write_text(content, "utf-8")
    return import_table(
        folder / "out",
        folder / "items.csv",
        folder / "ratings.csv",
        links=folder / "links.csv" if links is not None else None,
        columns=columns,
        choices=Choices(overwrite=True),
    )


def test_guessed_ids_of_different_names_are_refused_with_the_evidence_and_the_ways_out(tmp_path: Path) -> None:
    (tmp_path / "links_small.csv").write_text(LINKS)
    with pytest.raises(BadInput) as refused:
        imported(tmp_path, TMDB, RATINGS)
    for part in (
        "'id'",
        "'movieId'",
        "2 of 3 rated ids",
        "links_small.csv",
        "--links",
        "--item-id id --rating-item-id",
    ):
        assert part in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_an_id_of_both_tables_is_the_row_s_where_the_ratings_name_films_otherwise(tmp_path: Path) -> None:
    items, ratings = "id,title\n1,A\n2,B\n", "id,user_id,movie_id,rating\n1,1,2,4\n2,2,2,5\n"
    with pytest.raises(BadInput, match=r"by 'id', ratings\.csv by 'movie_id'.*--item-id id --rating-item-id movie_id"):
        imported(tmp_path, items, ratings)
    report = imported(tmp_path, items, ratings, item_id="id", rating_item_id="movie_id")
    assert pl.read_parquet(report.folder / "ratings.parquet")["item_id"].to_list() == [2, 2]
    imported(tmp_path, items, "id,user_id,rating\n1,1,4\n2,2,5\n")  # no other column can be the film's


def test_ids_that_the_user_calls_the_same_are_joined_and_never_in_silence(tmp_path: Path) -> None:
    both = imported(tmp_path, TMDB, RATINGS, item_id="id", rating_item_id="movieId")
    assert both.warnings == ["1 ratings name 1 films that the items lack; they were kept"]
    one = imported(tmp_path, TMDB, RATINGS, item_id="id")
    assert any("joined as the same ids (2 of 3 rated ids are also found in items.csv)" in said for said in one.warnings)


@pytest.mark.parametrize("items", [TMDB, TMDB.replace("imdb_id", "other"), TMDB.replace("id,imdb_id", "x,tconst")])
def test_a_table_of_links_leads_from_one_maker_s_ids_to_the_other_s(tmp_path: Path, items: str) -> None:
    report = imported(tmp_path, items, RATINGS, LINKS)
    catalog = Catalog.open(report.folder)
    assert catalog.ids.tolist() == [1]
    assert list(catalog.texts()) == ["A doll."]
    assert any("1 films were joined through links.csv" in said for said in report.warnings)
    assert any("2 films have no link; they were left out" in said for said in report.warnings)
    assert any("2 ratings name 2 films that the items lack" in said for said in report.warnings)


def test_links_without_a_header_are_refused_and_no_link_is_lost(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"its first line names no columns \(1, 862\)"):
        imported(tmp_path, "tmdbId,title\n862,A\n8844,B\n", "userId,movieId,rating\n1,1,4\n", "1,862\n2,8844\n")


def test_a_refusal_about_the_ratings_ids_names_the_option_of_the_ratings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column for item_id; name it with --rating-item-id"):
        imported(tmp_path, "id,title\n1,A\n", "user,what,rating\n1,1,4\n")


def test_links_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of its columns imdbId, tmdbId holds ids of items\.csv"):
        imported(tmp_path, "key,title\na,A\n", RATINGS, LINKS, item_id="key")
    with pytest.raises(UsageError, match=r"no column movieId, as ratings\.csv names films"):
        imported(tmp_path, TMDB, RATINGS, "a,b\nx,y\n")


def titled(*titles: str, key: str = "movieId") -> str:
    return f"{key},title\n" + "".join(f'{number},"{title}"\n' for number, title in enumerate(titles, 1))


FILMS = ("Toy Story (1995)", "Heat (1995)", "Amélie (2001)", "Matrix, The (1999)")


def rated_with(*titles: str) -> str:
    rows = "".join(f'1,{number},5,"{title}"\n' for number, title in enumerate(titles, 1))
    return f"userId,movieId,rating,title\n{rows}"


def test_most_titles_that_differ_under_one_id_are_the_evidence(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"3 of 4 titles under one id differ \(2 is 'Heat \(1995\)' here and 'Ariel' there"
    ):
        imported(tmp_path, titled(*FILMS), rated_with("Toy Story", "Ariel", "Judgment Night", "Star Wars"))
    imported(
        tmp_path,
        titled(*FILMS),
        rated_with("Toy Story", "Ariel", "Judgment Night", "Star Wars"),
        item_id="movieId",
        rating_item_id="movieId",
    )


def test_the_same_film_may_be_spelt_otherwise(tmp_path: Path) -> None:
    imported(tmp_path, titled(*FILMS), rated_with("Toy Story", "HEAT", "Le fabuleux destin d'Amelie", "The Matrix"))


def test_ids_meet_without_white_space_and_points_but_never_without_leading_zeros(tmp_path: Path) -> None:
    report = imported(tmp_path, "id,title\n 1,A\n2 ,B\n3,C\n", "userId,id,rating\n1,1.0,4\n1,2,3\n")
    assert Catalog.open(report.folder).ids.tolist() == [1, 2, 3]
    assert any("ids meet without the white space" in said for said in report.warnings)
    report = imported(tmp_path, "id,title\n007,A\n7,B\n010,C\n", "userId,id,rating\n1,007,4\n1,10,3\n")
    assert Catalog.open(report.folder).ids.tolist() == ["007", "7", "010"]
    assert pl.read_parquet(report.folder / "ratings.parquet")["item_id"].to_list() == ["007", "10"]
    assert any("1 of them would meet without leading zeros" in said for said in report.warnings)
    with pytest.raises(BadInput, match=r"none of its 1 rated ids .* would meet without leading zeros"):
        imported(tmp_path, "id,title\n007,A\n", "userId,id,rating\n1,7,4\n")


def test_ids_meet_however_unicode_spells_them_where_no_two_become_one(tmp_path: Path) -> None:
    report = imported(tmp_path, "id,title\ncaf\u00e9,A\nthe,B\n", "userId,id,rating\n1,cafe\u0301,4\n1,the,3\n")
    assert pl.read_parquet(report.folder / "ratings.parquet")["item_id"].to_list() == ["caf\u00e9", "the"]
    with pytest.raises(BadInput, match="none of its 1 rated ids"):
        imported(tmp_path, "id,title\nx\u00e9,A\nxe\u0301,B\n", "userId,id,rating\n1, xe\u0301y,4\n")


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        ("tt0114709", "114709", "as IMDb's numbers"),
        ("1234", "tt0001234", "as IMDb's numbers"),
        ("\uff11\uff12", "12", "with plain digits"),
        ("A-1", "a-1", "if capitals were small letters"),
        ('"1,234"', "1234", "without separators of thousands"),
        ("1.5E+05", "150000", "a spreadsheet may have rounded"),
        ("https://boxd.it/2a9q", "2a9q", "by the last part of an address"),
    ],
)
def test_ids_that_would_meet_if_written_alike_are_refused_saying_how(
    tmp_path: Path, ours: str, theirs: str, says: str
) -> None:
    with pytest.raises(BadInput, match=f"none of its 1 rated ids .*1 of them would meet .*{says}.*on both sides"):
        imported(tmp_path, f"id,title\n{ours},A\n", f"userId,id,rating\n1,{theirs},4\n")


def test_ids_with_fractions_are_not_said_to_be_rounded(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name the columns with --item-id"):
        imported(tmp_path, "id,title\n1.5,A\n", "userId,id,rating\n1,1,4\n")


def test_ratings_none_of_which_is_of_a_film_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none of its 1 rated ids \('x' first\) is an id of the films \('a' first\)"):
        imported(tmp_path, "id,title\na,A\n", "userId,id,rating\n1,x,4\n")


pairs = st.lists(
    st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)),
    min_size=1,
    max_size=12,
    unique_by=(
        lambda pair: pair[0],
        lambda pair: pair[1],
    ),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=pairs, linked=st.data())
def test_a_film_gets_the_rated_id_of_its_link_and_no_other(
    tmp_path: Path, pairs: list[tuple[int, int]], linked: st.DataObject
) -> None:
    some = linked.draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    items = "tmdb_id,title\n" + "".join(f"{tmdb},t{tmdb}\n" for _, tmdb in pairs)
    ratings = "userId,movieId,rating\n" + "".join(f"1,{movie},4\n" for movie, _ in some)
    links = "movieId,tmdbId\n" + "".join(f"{movie},{tmdb}.0\n" for movie, tmdb in some)
    report = imported(tmp_path, items, ratings, links)
    catalog = Catalog.open(report.folder)
    assert dict(zip(catalog.ids.tolist(), catalog.items["title"].to_list(), strict=True)) == {
        movie: f"t{tmdb}" for movie, tmdb in some
    }
