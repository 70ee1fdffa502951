"""Laws of known sources: each is read as it is published, by invented files of its layout with its known faults."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest

from cinefuse.data.commands.dataset_import import _KNOWN
from cinefuse.data.dataset.assembly import Choices, ImportReport
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.links import read_links
from cinefuse.data.dataset.summary import dataset_info
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sources.known_sources import KNOWN, import_known
from cinefuse.data.sources.source_files import SourceFiles

META = "adult,belongs_to_collection,genres,id,imdb_id,overview,poster_path,release_date,title\n"
KAGGLE = {
    "movies_metadata.csv": META
    + "False,,\"[{'id': 16, 'name': 'Animation'}, {'id': 35, 'name': \"\"Kids' Comedy\"\"}]\",862,tt0114709,"
    + '"A doll, ""new""\nin town.",/a.jpg,1995-10-30,Dolls\n'
    + "False,\"{'id': 9, 'name': 'X'}\",[],8844,tt0113497,No overview found.,,1995-12-15,Board\n"
    + 'False,,"[]",82663,tt0113002,"A soldier.\n'
    + ' - Written by N",/b.jpg,1999-01-01,Soldier\n'
    + "- Written by N,0.06,\"['Carousel']\",1997-08-20,0,104.0,Released,,False\n"
    + "False,,[],862,tt0114709,Again.,/a.jpg,1995-10-30,Dolls\n"
    + "False,,[],5,,No link.,/c.jpg,,Unlinked\n",
    "links_small.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n2,0113497,8844.0\n3,0113002,82663\n4,0000009,\n",
    "ratings_small.csv": "userId,movieId,rating,timestamp\n1,1,4.0,1260759144\n1,2,2.5,1260759179\n"
    "2,4,3.0,1260759182\n",
    "keywords.csv": "id,keywords\n862,\"[{'id': 931, 'name': 'jealousy'}, {'id': 4290, 'name': 'toy'}]\"\n"
    "862,[]\n8844,[]\n",
    "credits.csv": "cast,crew,id\n\"[{'cast_id': 1, 'character': 'W', 'name': 'Ann Lee', 'order': 0}]\","
    "\"[{'job': 'Director', 'name': 'Bo Ek'}, {'job': 'Editor', 'name': 'X'}]\",862\n[],[],8844\n",
}
TWEETINGS = {
    "movies.dat": "0000008::Sneeze (1894)::Documentary|Short\n0114709::Dolls: A Story (1995)::Animation\n"
    "0499549::None (2009)::\n",
    "ratings.dat": "1::0114709::8::1373234211\n1::0000008::0::1373234212\n2::0114709::10::1373234213\n",
    "users.dat": "1::139564917\n2::17528189\n",
}
GOODBOOKS = {
    "books.csv": "book_id,goodreads_book_id,authors,original_publication_year,title\n"
    '1,2767052,"Ann Lee, Bo Ek",2008.0,"Games, The"\n2,3,C. D.,-720.0,Old Song\n3,41865,E,,New\n',
    "ratings.csv": "user_id,book_id,rating\n1,1,5\n2,3,4\n2,1,3\n",
    "tags.csv": "tag_id,tag_name\n0,-\n1,fantasy\n2,to-read\n",
    "book_tags.csv": "goodreads_book_id,tag_id,count\n2767052,1,30\n2767052,2,50\n3,1,-1\n41865,0,4\n",
}
BOOKS = (
    '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";"Image-URL-S"\n'
    '"0195153448";"Classical Myth";"Mark Lee";"2002";"Press &amp; Co";"http://x/1.jpg"\n'
    '"078946697X";"Readers: Level 4\\"";Bo Ek""";"2000";"DK Inc";"http://x/2.jpg"\n'
    '"0440234743";"The \\""Real\\"" Thing; again";"Caf\xe9";"0";"Dell";"http://x/3.jpg"\n'
    '"1";"Too";"Many";"1999";"P";"http://x/4.jpg";"more"\n'
)
CROSSING = {
    "BX-Books.csv": BOOKS.encode("latin-1"),
    "BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\n"276725";"078946697X";"0"\n"276726";"0195153448";"5"\n'
    '"276727";"0440234743";"10"\n"276729";"052165615X";"3"\n',
    "BX-Users.csv": '"User-ID";"Location";"Age"\n"1";"nyc, new york, usa";NULL\n',
}
MICROLENS = {
    "MicroLens-100k_pairs.csv": "user,item,timestamp\n1,10,1583378629552\n1,11,1583378629553\n2,10,1583378629554\n",
    "MicroLens-100k_title_en.csv": 'item,title\n10,"A cat, falling"\n11,Bread\n',
}
RECBOLE = {
    "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t3\t881250949\n"
    "2\t11\t5\t881250950\n",
    "ml.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "10\tToy Story\t1995\tAnimation Comedy\n11\tHeat\t1995\tCrime\n",
}
NETFLIX = {
    "movie_titles.csv": "1,2003,Dinosaur Planet\n2,NULL,Se\xf1or, the Film, Part 2\n".encode("latin-1"),
    "combined_data_1.txt": "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n",
    "combined_data_2.txt": "2:\n1488844,4,2005-10-19\n",
}
META_2018 = [
    {
        "asin": "B01",
        "title": "Harbour &amp; Sea",
        "description": ["A <b>sailor</b> leaves.", "Again."],
        "category": ["Movies & TV", "Drama"],
        "brand": "Lee, Ann",
    },
    {"asin": "B02", "title": '<span class="a">\nvar aPageStart = 1;', "description": [], "category": [], "brand": ""},
    {"asin": "B01", "title": "Harbour", "description": [], "category": []},
]
REVIEWS_2018 = [
    {
        "overall": 5.0,
        "verified": True,
        "reviewTime": "11 9, 2012",
        "reviewerID": "A1",
        "asin": "B01",
        "unixReviewTime": 1352419200,
        "reviewText": "x",
    },
    {"overall": 2.0, "verified": False, "reviewerID": "A2", "asin": "B09", "unixReviewTime": 1352419201},
]
META_2023 = [
    {
        "main_category": "Movies & TV",
        "title": "Harbour",
        "average_rating": 4.8,
        "features": [],
        "description": ["A sailor."],
        "images": [{"large": "https://x/1.jpg"}],
        "categories": ["Drama", "Sea"],
        "details": {"Format": "DVD"},
        "parent_asin": "P1",
        "store": "Ann Lee (Actor), Bo",
    },
    {"title": None, "description": [], "categories": [], "parent_asin": "P2", "store": None},
]
REVIEWS_2023 = [
    {
        "rating": 5.0,
        "title": "Loved it",
        "text": "t",
        "images": [],
        "asin": "C1",
        "parent_asin": "P1",
        "user_id": "U1",
        "timestamp": 1677939345945,
        "verified_purchase": True,
    },
    {
        "rating": 1.0,
        "title": "No",
        "text": "t",
        "asin": "C2",
        "parent_asin": "P2",
        "user_id": "U2",
        "timestamp": 1677939345946,
    },
]


def lines(records: list[dict[str, object]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def written(folder: Path, files: dict[str, str | bytes], *, zipped: bool = False) -> Path:
    if zipped:
        with zipfile.ZipFile(folder / "s.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"some/{name}", content)
        return folder / "s.zip"
    (folder / "s").mkdir()
    for name, content in files.items():
        (folder / "s" / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / "s"


def made(
    folder: Path, name: str, files: dict[str, str | bytes], **how: bool
) -> tuple[ImportReport, pl.DataFrame, pl.DataFrame]:
    report = import_known(name, written(folder, files, **how), folder / "out", choices=Choices())
    return report, Catalog.open(report.folder).items, pl.read_parquet(report.folder / "ratings.parquet")


def said(report: ImportReport, *parts: str) -> None:
    for part in parts:
        assert any(part in warning for warning in report.warnings), (part, report.warnings)


@pytest.mark.parametrize("zipped", [False, True])
def test_kaggle_s_movies_come_under_movielens_ids_without_the_broken_records(tmp_path: Path, zipped: bool) -> None:
    report, items, ratings = made(tmp_path, "kaggle-movies", KAGGLE, zipped=zipped)
    assert items.rows() == [
        (1, "Dolls", 1995, ["Animation", "Kids' Comedy"],
         ["keywords: jealousy", "keywords: toy", "cast: Ann Lee", "director: Bo Ek"], 'A doll, "new"\nin town.', None),
        (2, "Board", 1995, [], [], "No overview found.", None),
        (3, "Soldier", 1999, [], [], "A soldier.\n - Written by N", None),
    ]  # fmt: skip
    assert ratings.height == 3
    said(
        report, "1 records are broken in two", "1 films have no MovieLens id", "1 ratings name 1 films", "TMDB's paths"
    )
    links = read_links(report.folder)
    assert links is not None
    assert links.rows()[0] == ("1", "tt0114709", 862)


def test_kaggle_s_movies_without_ratings_keep_tmdb_s_ids(tmp_path: Path) -> None:
    report = import_known(
        "kaggle-movies", written(tmp_path, {"movies_metadata.csv": KAGGLE["movies_metadata.csv"]}), tmp_path / "o"
    )
    assert Catalog.open(report.folder).ids.tolist() == [862, 8844, 82663, 5]


def test_movietweetings_keeps_the_zeros_of_imdb_s_numbers(tmp_path: Path) -> None:
    report, items, ratings = made(tmp_path, "movietweetings", TWEETINGS)
    assert items["item_id"].to_list() == ["0000008", "0114709", "0499549"]
    assert items["title"].to_list()[1] == "Dolls: A Story (1995)"
    assert items["year"].to_list() == [1894, 1995, 2009]
    assert items["genres"].to_list() == [["Documentary", "Short"], ["Animation"], []]
    assert ratings["rating"].to_list() == [8, 0, 10]
    assert ratings["item_id"].to_list()[0] == "0114709"
    links = read_links(report.folder)
    assert links is not None
    assert links["imdb_id"].to_list() == ["tt0000008", "tt0114709", "tt0499549"]


def test_goodbooks_joins_tags_by_goodreads_s_ids_in_both_editions(tmp_path: Path) -> None:
    report, items, ratings = made(tmp_path, "goodbooks", GOODBOOKS)
    expected = [
        ["authors: Ann Lee", "authors: Bo Ek", "shelf: to-read", "shelf: fantasy"],
        ["authors: C. D."],
        ["authors: E"],
    ]
    assert items["tags"].to_list() == expected
    assert items["year"].to_list() == [2008, -720, None]
    assert ratings["item_id"].to_list() == [1, 3, 1]
    said(report, "1 rows count a tag less than once")
    (tmp_path / "first").mkdir()
    first = GOODBOOKS | {"books.csv": GOODBOOKS["books.csv"].replace("book_id,goodreads_book_id", "id,book_id")}
    assert made(tmp_path / "first", "goodbooks", first)[1]["tags"].to_list() == expected


def test_book_crossing_puts_shifted_rows_back_and_leaves_unrated_books_out(tmp_path: Path) -> None:
    report, items, ratings = made(tmp_path, "book-crossing", CROSSING)
    assert items.select("item_id", "title", "year", "tags").rows() == [
        ("0195153448", "Classical Myth", 2002, ["author: Mark Lee", "publisher: Press & Co"]),
        ("078946697X", "Readers: Level 4", 2000, ["author: Bo Ek", "publisher: DK Inc"]),
        ("0440234743", 'The "Real" Thing; again', None, ["author: Café", "publisher: Dell"]),
    ]
    assert ratings.select("item_id", "rating").rows() == [("0195153448", 5), ("0440234743", 10), ("052165615X", 3)]
    said(report, "1 rows have title and author in one field", "1 rows have the rating 0", "1 records have more fields")


def test_microlens_is_interactions_and_its_titles_are_the_text(tmp_path: Path) -> None:
    report, items, ratings = made(tmp_path, "microlens", MICROLENS)
    assert items.select("item_id", "title", "text").rows() == [
        (10, "A cat, falling", "A cat, falling"),
        (11, "Bread", "Bread"),
    ]
    assert ratings["timestamp"].to_list() == [1583378629] * 3
    assert dataset_info(report.folder)["implicit"] is True


def test_recbole_s_atomic_files_come_with_their_types(tmp_path: Path) -> None:
    report, items, ratings = made(tmp_path, "recbole", RECBOLE)
    assert items.select("item_id", "title", "year", "genres").rows() == [
        (10, "Toy Story", 1995, ["Animation", "Comedy"]),
        (11, "Heat", 1995, ["Crime"]),
    ]
    assert ratings.rows() == [(1, 10, 3.0, 881250949), (2, 11, 5.0, 881250950)]
    assert report.warnings == []
    (tmp_path / "plays").mkdir()
    plays = {"x.inter": "user_id:token\titem_id:token\n1\ta\n2\ta\n"}
    report, items, _ = made(tmp_path / "plays", "recbole", plays)
    assert items["item_id"].to_list() == ["a"]
    assert dataset_info(report.folder)["implicit"] is True


@pytest.mark.parametrize("original", [False, True])
def test_the_netflix_prize_reads_films_off_lines_of_their_own(tmp_path: Path, original: bool) -> None:
    files = NETFLIX
    if original:
        files = {
            name.replace("csv", "txt").replace("combined_data_", "mv_000000"): text for name, text in NETFLIX.items()
        }
    _, items, ratings = made(tmp_path, "netflix-prize", files)
    assert items.select("item_id", "title", "year").rows() == [
        (1, "Dinosaur Planet", 2003),
        (2, "Señor, the Film, Part 2", None),
    ]
    assert ratings.rows() == [
        (1488844, 1, 3.0, 1125964800),
        (822109, 1, 5.0, 1115942400),
        (1488844, 2, 4.0, 1129680000),
    ]


def test_amazon_s_reviews_of_2018_come_with_their_products(tmp_path: Path) -> None:
    files = {"Movies_5.json.gz": gzip.compress(lines(REVIEWS_2018).encode()), "meta_Movies.json": lines(META_2018)}
    report, items, ratings = made(tmp_path, "amazon-reviews", files)
    assert items.rows() == [
        (
            "B01",
            "Harbour & Sea",
            None,
            ["Movies & TV", "Drama"],
            ["brand: Lee, Ann"],
            "A  sailor  leaves. Again.",
            None,
        ),
        ("B02", "", None, [], [], None, None),
    ]
    assert ratings.rows() == [("A1", "B01", 5.0, 1352419200), ("A2", "B09", 2.0, 1352419201)]
    said(report, "1 titles are HTML or a script", "id 'B01' is given by rows 1, 3", "1 ratings name 1 films")


@pytest.mark.parametrize("table", [False, True])
def test_amazon_s_reviews_of_2023_go_by_the_parent_product(tmp_path: Path, table: bool) -> None:
    files = {"Movies.jsonl": lines(REVIEWS_2023), "meta_Movies.jsonl": lines(META_2023)}
    if table:
        del files["Movies.jsonl"]
        files["Movies.csv"] = "user_id,parent_asin,rating,timestamp\nU1,P1,5.0,1677939345945\nU2,P2,1.0,1677939345946\n"
    _, items, ratings = made(tmp_path, "amazon-reviews", files)
    assert items.select("item_id", "title", "genres", "tags", "text").rows() == [
        ("P1", "Harbour", ["Drama", "Sea"], ["store: Ann Lee (Actor), Bo"], "A sailor."),
        ("P2", "", [], [], None),
    ]
    assert ratings.rows() == [("U1", "P1", 5.0, 1677939345), ("U2", "P2", 1.0, 1677939345)]


def test_amazon_s_ratings_of_2018_without_a_header_need_no_products(tmp_path: Path) -> None:
    report, items, ratings = made(
        tmp_path, "amazon-reviews", {"Movies.csv": "0001527665,A3478QRKQDOPQ2,5.0,1362960000\n"}
    )
    assert items["item_id"].to_list() == ["0001527665"]
    assert ratings.rows() == [("A3478QRKQDOPQ2", "0001527665", 5.0, 1362960000)]
    said(report, "there is no meta_*")


@pytest.mark.parametrize("name", KNOWN)
def test_a_folder_without_the_source_s_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="expected"):
        import_known(name, written(tmp_path, {"other.md": "x"}), tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_each_known_source_has_a_command(tmp_path: Path) -> None:
    assert list(_KNOWN) == list(KNOWN)
    with pytest.raises(UsageError, match="unknown source; there are kaggle-movies"):
        import_known("imdb", tmp_path, tmp_path / "o")
    source = written(tmp_path, TWEETINGS)
    command = [
        sys.executable,
        "-m",
        "cinefuse.cli",
        "data",
        "import",
        "movietweetings",
        str(source),
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 items" in done.stdout


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_source_is_refused(tmp_path: Path, method: int) -> None:
    zipped = tmp_path / "s.zip"
    with zipfile.ZipFile(zipped, "w", method) as archive:
        archive.writestr("ratings.csv", "".join(f"{number},x\n" for number in range(5_000)))
    damaged = bytearray(zipped.read_bytes())
    damaged[60:600] = b"\xff" * 540
    zipped.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"s\.zip, member ratings\.csv: .*fetch the archive again"):
        SourceFiles(zipped, tmp_path).need("ratings.csv")


@pytest.mark.parametrize(("place", "byte"), [(0, 0), (6, 99)], ids=["damaged", "of an unknown version"])
def test_a_zip_whose_directory_cannot_be_read_is_refused(tmp_path: Path, place: int, byte: int) -> None:
    zipped = written(tmp_path, {"ratings.csv": "a"}, zipped=True)
    content = bytearray(zipped.read_bytes())
    content[content.rfind(b"PK\x01\x02") + place] = byte
    zipped.write_bytes(content)
    with pytest.raises(BadInput, match=r"s\.zip is not a whole zip archive"):
        SourceFiles(zipped, tmp_path)
