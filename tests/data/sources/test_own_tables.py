"""Laws of importing tables of anyone's making: ids stay exact, bad rows are named, odd text never crashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cinefuse.data.dataset.assembly import Choices, ImportReport
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.summary import dataset_info
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sources.own_tables import import_table, parse_scale

FILMS = "item_id,title,year,genres,text,poster\n1,Heat (1995),1995,Crime|Drama,Two men meet.,1.jpg\n2,Brazil,,,,\n"
RATINGS = "user_id,item_id,rating,timestamp\nann,1,4.5,978300760\nbob,2,3,\n"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def imported(folder: Path, films: str | bytes, ratings: str | bytes | None = None, **options: object) -> ImportReport:
    items = write(folder / "films.csv", films)
    rated = None if ratings is None else write(folder / "ratings.csv", ratings)
    return import_table(folder / "out", items, rated, choices=Choices(overwrite=True), **options)  # type: ignore[arg-type]


def test_a_csv_catalogue_comes_with_its_types(tmp_path: Path) -> None:
    report = imported(tmp_path, FILMS, RATINGS)
    items = Catalog.open(report.folder).items
    assert items.rows() == [
        (1, "Heat (1995)", 1995, ["Crime", "Drama"], [], "Two men meet.", "1.jpg"),
        (2, "Brazil", None, [], [], None, None),
    ]
    assert pl.read_parquet(report.folder / "ratings.parquet").rows() == [
        ("ann", 1, 4.5, 978300760),
        ("bob", 2, 3.0, None),
    ]
    assert Catalog.open(report.folder).poster_root == report.folder / ".."


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_the_same_rows_make_the_same_dataset_from_any_kind_of_table(tmp_path: Path, suffix: str) -> None:
    films = pl.DataFrame({"movieId": [5, 2**53 + 1], "plot": ['a\tb\n"c"', None], "genre": ["x|y", None]})
    ratings = pl.DataFrame({"userId": [1, 2], "movieId": [5, 2**53 + 1], "rating": [4.5, 3.0]})
    files = []
    for name, table in (("films", films), ("ratings", ratings)):
        file = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            table.write_parquet(file)
        elif suffix == "jsonl":
            table.write_ndjson(file)
        else:
            table.write_csv(file, separator="\t" if suffix == "tsv" else ",")
        files.append(file)
    out = import_table(tmp_path / "out", *files).folder
    assert Catalog.open(out).ids.tolist() == [5, 2**53 + 1]
    assert list(Catalog.open(out).texts()) == ['a\tb\n"c"', None]
    assert Catalog.open(out).items["genres"].to_list() == [["x", "y"], []]
    assert pl.read_parquet(out / "ratings.parquet").rows() == [(1, 5, 4.5), (2, 2**53 + 1, 3.0)]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_columns_that_films_share_words_in_become_tags(tmp_path: Path, suffix: str) -> None:
    films = pl.DataFrame(
        {
            "id": [1, 2, 3],
            "director": ["Agnès Varda, JR", " Agnès Varda ", None],
            "actors": [["JR", "JR"], [], ["N/A"]],
            "colour": ["yes", "no|partly", ""],
        }
    )
    file = tmp_path / f"films.{suffix}"
    if suffix == "csv":
        films.with_columns(pl.col("actors").list.join("|")).write_csv(file)
    else:
        films.write_parquet(file) if suffix == "parquet" else films.write_ndjson(file)

    def tags(*chosen: str) -> list[list[str]]:
        out = import_table(tmp_path / "out", file, choices=Choices(overwrite=True, tags=chosen)).folder
        assert dataset_info(out)["tags"] == Counter(
            tag.split(": ")[0] for tag in {*chain(*Catalog.open(out).items["tags"])}
        )
        return Catalog.open(out).items["tags"].to_list()

    varda = "director: Agnès Varda"
    assert tags() == [[varda, "director: JR", "actors: JR"], [varda], []], "director and actors are familiar"
    assert tags("colour") == [["colour: yes"], ["colour: no", "colour: partly"], []]
    with pytest.raises(UsageError, match=r"--tags color: films.* has no such column; it has id, director"):
        tags("color")


def test_the_films_of_a_dataset_folder_keep_their_tags_when_they_are_imported_again(tmp_path: Path) -> None:
    films = pl.DataFrame({"id": [1, 2], "director": ["JR", "Agnès Varda"], "tags": [["slow: burn", "heist"], []]})
    films.write_parquet(tmp_path / "films.parquet")
    once = import_table(tmp_path / "once", tmp_path / "films.parquet").folder
    tags = Catalog.open(once).items["tags"].to_list()
    assert tags == [["director: JR", "slow: burn", "tags: heist"], ["director: Agnès Varda"]]
    again = import_table(tmp_path / "again", once / "items.parquet").folder
    assert Catalog.open(again).items["tags"].to_list() == tags


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20, unique=True))
def test_every_int64_id_comes_back_exactly(tmp_path: Path, ids: list[int]) -> None:
    report = imported(
        tmp_path, "id\n" + "\n".join(map(str, ids)), "userId,id,rating\n" + "\n".join(f"{key},{key},3" for key in ids)
    )
    assert Catalog.open(report.folder).ids.tolist() == ids
    ratings = pl.read_parquet(report.folder / "ratings.parquet")
    assert ratings["item_id"].to_list() == ratings["user_id"].to_list() == ids


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(words, min_size=1, max_size=10, unique=True))
def test_every_text_id_comes_back_exactly(tmp_path: Path, ids: list[str]) -> None:
    keys = ["x", *(f"x{key}" for key in ids)]  # one without spaces around it: where all have some, they are padding
    pl.DataFrame({"id": keys}).write_parquet(tmp_path / "films.parquet")
    write(tmp_path / "films.jsonl", "".join(json.dumps({"id": key}) + "\n" for key in keys))
    pl.DataFrame({"id": keys}).write_csv(tmp_path / "films.csv", quote_style="always")
    for suffix in ("parquet", "jsonl", "csv"):
        report = import_table(tmp_path / "out", tmp_path / f"films.{suffix}", choices=Choices(overwrite=True))
        assert Catalog.open(report.folder).ids.tolist() == keys


@pytest.mark.parametrize(
    "odd",
    ["007", "1.0", "1e3", "-0", "+1", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "１", "../x", "1_0"],
)
def test_one_id_that_is_no_canonical_integer_keeps_all_as_text(tmp_path: Path, odd: str) -> None:
    report = imported(tmp_path, f'item_id,text\n5,a\n"{odd}",b\n', f'user_id,item_id,rating\n1,5,3\n1,"{odd}",4\n')
    assert Catalog.open(report.folder).ids.tolist() == ["5", odd]
    assert pl.read_parquet(report.folder / "ratings.parquet")["item_id"].to_list() == ["5", odd]


def test_a_text_id_in_the_ratings_alone_makes_the_items_text_too(tmp_path: Path) -> None:
    report = imported(tmp_path, "item_id\n1\n2\n", "user_id,item_id,rating\n1,1,3\n1,tt9,4\n")
    assert Catalog.open(report.folder).ids.tolist() == ["1", "2"]
    assert dataset_info(report.folder)["ratings"]["unknown_items"] == 1


def test_json_numbers_never_go_through_a_float(tmp_path: Path) -> None:
    films = write(
        tmp_path / "f.jsonl", '{"id": 9007199254740993}\n\n{"id": "12"}\n{"id": 1.0}\n{"id": 12345678901234567890.10}\n'
    )
    out = import_table(tmp_path / "out", films).folder
    assert Catalog.open(out).ids.tolist() == ["9007199254740993", "12", "1.0", "12345678901234567890.10"]


@pytest.mark.parametrize("key", [1.5, 2.0**53])
def test_float_ids_in_parquet_are_whole_numbers_or_refused(tmp_path: Path, key: float) -> None:
    pl.DataFrame({"id": [1.0, 862.0]}).write_parquet(tmp_path / "f.parquet")
    assert Catalog.open(import_table(tmp_path / "out", tmp_path / "f.parquet").folder).ids.tolist() == [1, 862]
    pl.DataFrame({"id": [1.0, key]}).write_parquet(tmp_path / "f.parquet")
    with pytest.raises(BadInput, match="found Float64 with 1 that are not exact whole numbers"):
        import_table(tmp_path / "o2", tmp_path / "f.parquet")


LONG = "é" * 129


@pytest.mark.parametrize(
    ("films", "ratings", "says"),
    [
        ("item_id,text\n1,a\n,b\n3,c\n", None, "row 2 without an id in column item_id"),
        ('item_id,text\n1,a\n"",b\n', None, "row 2 without an id"),
        ("item_id,text\na\0b,a\n", None, "row 1 with a NUL"),
        (f"item_id,text\n1,a\n{LONG},b\n", None, "row 2 with an id of more than 256 bytes"),
        ("item_id,text\n", None, "no items"),
        ("", None, "cannot be read as a table"),
        ("item_id,text\n1,a,b\n", None, "cannot be read"),
        (b"item_id,text\n1,a\n2,caf\xe9\n", None, "not valid utf-8: byte 0xe9 in line 3"),
        (FILMS, "user_id,item_id,rating\n1,1,3\n1,2,good\n1,2,\n", "rows 2, 3 with a rating that is not a number"),
        (FILMS, "user_id,item_id,rating\n1,1,nan\n", "row 1 with a rating that is not a number"),
        (FILMS, "user_id,item_id,rating\n1,1,inf\n", "row 1 with a rating that is not a number"),
        (FILMS, "user_id,item_id,rating\n1,1,1e300\n", "row 1 with a rating that is not a number"),
        (FILMS, "user_id,item_id,rating\n,1,3\n", "row 1 without an id in column user_id"),
        (FILMS, "user_id,item_id,rating\n1,,3\n", "row 1 without an id in column item_id"),
        (FILMS, "user_id,item_id,rating\na\0,1,3\n", "row 1 with a NUL"),
        (FILMS, f"user_id,item_id,rating\n{LONG},1,3\n", "row 1 with an id of more than 256 bytes"),
        (FILMS, "user_id,item_id,rating,timestamp\n1,1,3,soon\n", "row 1 with a timestamp"),
        (FILMS, "user_id,item_id,rating\n" + "1,1,x\n" * 1200, "rows 1, 2, 3, 4, 5 and 1,195 more"),
        (FILMS, b"user_id,item_id,rating\n1,1,3\n\xff,1,3\n", "ratings.csv is not valid utf-8: byte 0xff in line 3"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(
    tmp_path: Path, films: str | bytes, ratings: str | bytes | None, says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        imported(tmp_path, films, ratings)
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv"}


def test_a_rating_known_by_the_ending_of_its_name_alone_is_never_taken_in_silence(tmp_path: Path) -> None:
    for name, notes in (("taste_score", 1), ("rating", 0)):
        file = write(tmp_path / "r.csv", f"user_id,item_id,{name}\n1,1,4\n2,1,5\n")
        said = import_table(tmp_path / "out", None, file, choices=Choices(overwrite=True)).warnings
        assert sum(f"{name} is taken as the rating; --rating names another" in note for note in said) == notes


def test_ratings_off_a_given_scale_are_refused_and_the_ends_belong_to_it(tmp_path: Path) -> None:
    ratings = "user_id,item_id,rating\n1,1,0\n1,2,10\n"
    assert imported(tmp_path, FILMS, ratings, scale=(0, 10)).counts["ratings"] == 2
    with pytest.raises(BadInput, match=r"row 2 with a rating outside 0 to 9\.5"):
        imported(tmp_path, FILMS, ratings, scale=(0, 9.5))


@pytest.mark.parametrize("words", ["5", "a:b", "5:1", "1:1", "1:2:3", "nan:5"])
def test_a_scale_is_two_rising_numbers(words: str) -> None:
    with pytest.raises(UsageError, match="--scale"):
        parse_scale(words)


def test_the_first_of_repeated_ids_is_kept_told_and_refused_when_strict(tmp_path: Path) -> None:
    films = "item_id,text\n1,a\n2,b\n1,c\n1,d\n"
    report = imported(tmp_path, films)
    assert list(Catalog.open(report.folder).texts()) == ["a", "b"]
    assert report.warnings == ["films.csv: id '1' is given by rows 1, 3, 4; the first is kept"]
    with pytest.raises(BadInput, match="id '1' is given by rows 1, 3, 4"):
        import_table(tmp_path / "o2", tmp_path / "films.csv", choices=Choices(strict=True))


def test_odd_text_never_crashes(tmp_path: Path) -> None:
    odd = ["nul \0 inside", "\u202e\U0001f600", "line\nbreak", "   ", "", "a" * 300_000]
    records = [{"id": key, "text": text} for key, text in enumerate(odd)] + [{"id": 99, "text": "lone \ud800 one"}]
    films = write(tmp_path / "f.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    report = import_table(tmp_path / "out", films)
    expected = [odd[0], odd[1], odd[2], None, None, odd[5], "lone \ufffd one"]
    assert list(Catalog.open(report.folder).texts()) == expected
    assert any("1 lone surrogates" in warning for warning in report.warnings)


@pytest.mark.parametrize("line", ["{", "[1]", "3", "nonsense", "[" * 100_000])
def test_a_line_that_is_no_json_object_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadInput, match="line 2"):
        import_table(tmp_path / "out", write(tmp_path / "f.jsonl", f'{{"id": 1}}\n{line}\n'))


def test_json_columns_may_come_late_and_genres_may_be_lists(tmp_path: Path) -> None:
    films = write(
        tmp_path / "f.jsonl", '{"id": 1}\n{"id": 2, "genres": ["a", "b|c"]}\n{"id": 3, "genres": null, "plot": "p"}\n'
    )
    items = Catalog.open(import_table(tmp_path / "out", films).folder).items
    assert items["genres"].to_list() == [[], ["a", "b|c"], []]
    assert items["text"].to_list() == [None, None, "p"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_another_encoding_is_read_when_named(tmp_path: Path, encoding: str) -> None:
    report = imported(tmp_path, "item_id,text\n1,café\n".encode(encoding), encoding=encoding)
    assert list(Catalog.open(report.folder).texts()) == ["café"]


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--encoding klingon"):
        imported(tmp_path, FILMS, encoding="klingon")


def test_columns_are_named_by_options_and_a_wrong_name_lists_what_there_is(tmp_path: Path) -> None:
    films, ratings = "key,story\na,x\n", "who,what,stars\nu,a,2\n"
    columns = {"item_id": "key", "text": "story", "user_id": "who", "rating_item_id": "what", "rating": "stars"}
    report = imported(tmp_path, films, ratings, columns=columns)
    assert list(Catalog.open(report.folder).texts()) == ["x"]
    assert pl.read_parquet(report.folder / "ratings.parquet").rows() == [("u", "a", 2.0)]
    with pytest.raises(UsageError, match=r"--text plot: films.csv has no such column; it has key, story"):
        imported(tmp_path, films, columns={"item_id": "key", "text": "plot"})
    with pytest.raises(UsageError, match="no column for item_id; name it with --item-id"):
        imported(tmp_path, films)


def test_a_source_column_called_row_is_an_ordinary_column(tmp_path: Path) -> None:
    assert list(Catalog.open(imported(tmp_path, "item_id,row,text\n1,9,a\n").folder).texts()) == ["a"]


def test_an_unreadable_year_is_left_empty_and_told(tmp_path: Path) -> None:
    report = imported(tmp_path, "item_id,year\n1,1995\n2,soon\n3,1996.0\n4,\n")
    assert Catalog.open(report.folder).items["year"].to_list() == [1995, None, 1996, None]
    assert report.warnings == ["films.csv: row 2 with a year that is not a whole number; it was left empty"]


def test_dates_become_seconds_since_1970(tmp_path: Path) -> None:
    films = write(tmp_path / "films.csv", "item_id\n1\n")
    table = pl.DataFrame({"user_id": [1], "item_id": [1], "rating": [3]}).with_columns(
        timestamp=pl.datetime(2001, 1, 1, time_unit="ms")
    )
    table.write_parquet(tmp_path / "r.parquet")
    out = import_table(tmp_path / "out", films, tmp_path / "r.parquet").folder
    assert pl.read_parquet(out / "ratings.parquet")["timestamp"].to_list() == [978307200]


def test_ids_that_look_like_paths_find_no_poster_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "posters").mkdir()
    (tmp_path / "x.jpg").write_bytes(b"")
    (tmp_path / "posters" / "y.gif").write_bytes(b"")
    report = imported(tmp_path, "item_id,text\n../x,a\ny,b\n", posters=tmp_path / "posters")
    assert Catalog.open(report.folder).posters() == [None, "y.gif"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_csv_is_read_as_spreadsheets_write_it(tmp_path: Path, separator: str, ends: str, mark: str) -> None:
    rows = [["Movie_ID", " Title", "PLOT"], ["1", "Heat", "Cops; robbers"], ["2", "Alien", '"In space, no one"']]
    rows[1][2] = f'"{rows[1][2]}"'
    (tmp_path / "films.csv").write_bytes((mark + ends.join(separator.join(row) for row in rows) + ends).encode())
    catalog = Catalog.open(import_table(tmp_path / "out", tmp_path / "films.csv").folder)
    assert catalog.ids.tolist() == [1, 2]
    assert catalog.items["title"].to_list() == ["Heat", "Alien"]
    assert list(catalog.texts()) == ["Cops; robbers", "In space, no one"]


@pytest.mark.parametrize(
    ("content", "says"),
    {
        "more fields": (b"item_id,title\n1,A,B\n", "films.csv cannot be read as a table: a row has more fields than"),
        "open quote": (b'item_id,title\n1,"A\n2,B\n', "a double quote is opened and never closed"),
        "old Mac": (b"item_id,title\r1,A\r2,B\r", "its lines end with CR alone; save it with ordinary line ends"),
        "cp1252": (b"item_id,title\n1,\xc4\n", "say how it is encoded, for instance --encoding cp1252"),
        "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "fetch it by `git lfs pull`"),
    }.values(),
)
def test_a_csv_that_cannot_be_read_says_why_and_what_to_do(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "films.csv").write_bytes(content)
    with pytest.raises(BadInput, match=says):
        import_table(tmp_path / "out", tmp_path / "films.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["films.csv"]


def test_utf_16_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    report = imported(tmp_path, "item_id\ttitle\r\n1\tÄ\r\n".encode("utf-16"))
    assert Catalog.open(report.folder).items["title"].to_list() == ["Ä"]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    report = imported(tmp_path, "item_id,text\n1,a\n\n2,b\n\n", "user_id,item_id,rating\n1,1,3\n\n")
    assert (report.counts["items"], report.counts["ratings"]) == (2, 1)


def cinefuse(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cinefuse.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_imports_shows_and_refuses_in_one_line(tmp_path: Path) -> None:
    films = write(tmp_path / "films.csv", "key,title,plot\n1,A,one two\n2,B,\n2,C,x\n")
    ratings = write(tmp_path / "r.csv", "user_id,item_id,rating\n1,1,3\n1,1,4\n1,7,5\n")
    done = cinefuse(
        "data", "import", "table", tmp_path / "out", "--items", films, "--ratings", ratings, "--item-id", "key"
    )
    assert done.returncode == 0, done.stderr
    assert "2 items" in done.stdout
    assert "id '2' is given by rows 2, 3" in done.stderr
    again = cinefuse("data", "import", "table", tmp_path / "out", "--items", films, "--item-id", "key")
    assert again.returncode == 3
    assert again.stderr.count("\n") == 1
    assert again.stderr.startswith("cinefuse: ")
    assert cinefuse("data", "import", "table", tmp_path / "o", "--items", films, "--text", "no").returncode == 2
    info = json.loads(cinefuse("data", "info", tmp_path / "out", "--json").stdout)
    assert info["ratings"]["repeated_pairs"] == 1
    assert info["ratings"]["unknown_item_ratings"] == 1
    assert info["ratings"]["histogram"] == {"3": 1, "4": 1, "5": 1}
    assert info["texts"]["words"]["0.5"] == 2
    shown = cinefuse("data", "info", tmp_path / "out")
    assert shown.returncode == 0
    assert "1 repeat a user and film already rated" in shown.stdout
    assert cinefuse("data", "info", tmp_path).returncode == 3


def test_of_several_id_columns_the_one_that_the_ratings_name_and_hold_is_the_items(tmp_path: Path) -> None:
    films = "book_id,isbn,title\n" + "".join(f"{n},97{n}X,Book {n}\n" for n in range(1, 9))
    ratings = "user_id,book_id,rating\n" + "".join(f"u{n},{n},4\n" for n in range(1, 9))
    report = imported(tmp_path, films, ratings)
    assert Catalog.open(report.folder).ids.tolist() == list(range(1, 9))
    assert report.warnings == []
    # one name for two makers' ids: what is rated are not the numbers of that column
    others = films.replace("book_id,", "goodreads,").replace("isbn", "book_id")
    with pytest.raises(BadInput, match="none of its 8 rated ids"):
        imported(tmp_path, others, ratings)
    both = "id,book_id,title\n" + "".join(f"{n},{n + 5000},Book {n}\n" for n in range(1, 9))
    with pytest.raises(BadInput, match="nothing says that these are the same ids"):
        imported(tmp_path, both, ratings)


@pytest.mark.parametrize(
    ("film", "says"),
    [
        ("Tom &amp; Jerry,Drama,x", "HTML"),
        ("A,Drama,<p>He <b>walks</b>.</p>", "HTML"),
        ("AmÃ©lie,Drama,x", "read as Latin-1"),
        ("A,Drama/Crime,x", "hold '/' .*--genre-separator '/'"),
        ("A < B & C,Drama,x > y", None),
        ("A,\"['Sci-Fi/Fantasy']\",x", None),
    ],
)
def test_marks_that_a_program_left_in_titles_texts_and_genres_are_said(
    tmp_path: Path, film: str, says: str | None
) -> None:
    warnings = imported(tmp_path, f"item_id,title,genres,text\n1,{film}\n").warnings
    assert [bool(says and re.search(says, said)) for said in warnings] == [True] * (says is not None)


def test_a_question_mark_is_a_missing_value_as_uci_writes_it(tmp_path: Path) -> None:
    items = Catalog.open(imported(tmp_path, "item_id,title,text,director\n1,A,?,?\n2,B,...,X\n").folder).items
    assert (items["text"].to_list(), items["tags"].to_list()) == ([None, None], [[], ["director: X"]])


def test_columns_none_of_which_is_known_are_said(tmp_path: Path) -> None:
    films = "id;nombre;g\u00e9nero\n1;\u00d1and\u00fa;Comedia\n"
    assert any("(nombre, g\u00e9nero): name them with --title" in said for said in imported(tmp_path, films).warnings)
    assert imported(tmp_path, films, columns={"title": "nombre"}).warnings == []
    assert imported(tmp_path, "id\n1\n").warnings == []
