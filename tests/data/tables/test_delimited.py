"""Laws of delimited text: every record has the header's fields, by quotes and separators that the whole file has."""

from __future__ import annotations

import csv
import gzip
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.tables.delimited import ROW, Layout
from cinefuse.data.tables.opening import open_table
from cinefuse.data.tables.table import Table

IMDB = (
    'id\ttitle\tplot\n1\tHarbour\ta\n2\t"Swing" the Master\tb\n3\t"Rome\tc\n4\tNext\td\n5\tLast "one\te\n6\tRoad\tf\n'
)


def table(folder: Path, content: str | bytes, name: str = "t.csv", **layout: object) -> Table:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_table(file, folder, layout=Layout(**layout))  # type: ignore[arg-type]


def rows(opened: Table) -> list[tuple[object, ...]]:
    return opened.frame.drop(ROW).collect().rows()


@pytest.mark.parametrize("quotes", ["auto", "none"])
def test_quotes_that_stand_for_themselves_are_kept_and_no_row_is_swallowed(tmp_path: Path, quotes: str) -> None:
    opened = table(tmp_path, IMDB, "t.tsv", quotes=quotes)
    titles = [row[1] for row in rows(opened)]
    assert titles == ["Harbour", '"Swing" the Master', '"Rome', "Next", 'Last "one', "Road"]
    assert [("line 3" in note, "--quote none" in note) for note in opened.notes] == [(True, True)] * (quotes == "auto")


def test_a_quote_closed_in_another_line_swallows_no_row_where_each_line_is_whole(
    tmp_path: Path,
) -> None:
    opened = table(tmp_path, 'id\ttitle\n1\tA\n2\t"Rome\n3\tB"\n4\tC\n', "t.tsv")
    assert rows(opened) == [("1", "A"), ("2", '"Rome'), ("3", 'B"'), ("4", "C")]
    assert "line 3" in opened.notes[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('id,title\n1,"A\n2,B\n', "line 2: a double quote is opened and never closed"),
        ('id,title\n1,A\n2,"Swing" the Master\n', "line 3: text stands beside a quoted field's quotes"),
        ('id,title\n1,"A, B",C\n', "line 2: 3 fields, where the header has 2"),
    ],
)
def test_a_csv_whose_quotes_do_not_close_is_refused_naming_the_line_and_the_way_in(
    tmp_path: Path, content: str, says: str
) -> None:
    with pytest.raises(BadInput, match=says + ".*--quote none"):
        table(tmp_path, content)


def test_a_quote_in_the_middle_of_a_field_is_a_letter(tmp_path: Path) -> None:
    assert rows(table(tmp_path, 'id,title,plot\n1,5" disk,"a, b"\n2,B,c\n')) == [
        ("1", '5" disk', "a, b"),
        ("2", "B", "c"),
    ]


def test_a_backslash_before_a_quote_is_understood_where_the_file_has_no_other_way(tmp_path: Path) -> None:
    content = 'id;title\n1;"He said \\"no\\"; twice"\n2;"C:\\\\x"\n'
    assert rows(table(tmp_path, content)) == [("1", 'He said "no"; twice'), ("2", "C:\\x")]


@pytest.mark.parametrize(
    ("content", "separator"),
    [
        ("id;title, original;plot\n1;A;b, c\n2;B;d\n", ";"),
        ("id|title;x|plot\n1|A|b;c\n2|B|d,e\n", "|"),
        ("id\ttitle, x\n1\tA, B\n2\tC\n", "\t"),
        ('id,"title;x"\n1,"A;B"\n2,C\n', ","),
        ("id::title::genres\n1::A: B::x|y\n2::C::z\n", "::"),
    ],
)
def test_the_separator_is_what_gives_the_records_as_many_fields_as_the_header(
    tmp_path: Path, content: str, separator: str
) -> None:
    opened = table(tmp_path, content)
    assert len(opened.columns) == content.split("\n")[0].count(separator) + 1
    assert all(None not in row for row in rows(opened))


def test_two_tabs_stand_between_fields_where_the_names_say_so(tmp_path: Path) -> None:
    opened = table(tmp_path, "1\t\t5\t\t0.2\n1\t\t7\t\t-9\n", "r.dat", columns=("user_id", "item_id", "rating"))
    assert rows(opened) == [("1", "5", "0.2"), ("1", "7", "-9")]


def test_a_file_without_a_header_gets_the_names_it_is_given(tmp_path: Path) -> None:
    content = "1::Star Wars: A New Hope (1977)::Action|Sci-Fi\n2::B::Drama\n"
    opened = table(tmp_path, content, "movies.dat", columns=("item_id", "title", "genres"))
    assert opened.columns == ["item_id", "title", "genres"]
    assert rows(opened)[0] == ("1", "Star Wars: A New Hope (1977)", "Action|Sci-Fi")
    for names in (("item_id", "title"), ("item_id", "title", "genres", "year")):
        with pytest.raises(BadInput, match=rf"{len(names)} columns are named .*first line has 3 fields"):
            table(tmp_path, content, "movies.dat", columns=names)


@pytest.mark.parametrize("start", ["sep=;\r\n", "\ufeffsep=;\n", '"sep=;"\n'])
def test_a_first_line_that_states_the_separator_is_no_header(tmp_path: Path, start: str) -> None:
    opened = table(tmp_path, f"{start}id;note\n1;a,b\n2;c,d\n")
    assert (opened.columns, rows(opened)) == (["id", "note"], [("1", "a,b"), ("2", "c,d")])


def test_a_file_without_a_header_is_recognised_in_the_refusal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a file without a header needs --columns"):
        table(tmp_path, "1,A\n2,B\n").column_for("item_id", required=True)


def test_records_with_fewer_fields_are_counted_and_with_more_refused_or_left_out(tmp_path: Path) -> None:
    for content in ("id,a,b\n1,x\n2,y,z\n", 'id,a,b\n1,"x"\n2,y,z\n'):
        opened = table(tmp_path, content)
        assert rows(opened) == [("1", "x", None), ("2", "y", "z")]
        assert "1 records have fewer fields than the header (line 2)" in opened.notes[0]
    long = table(tmp_path, "id,a\n1,x\n2,y,z\n3,w\n", skip=True)
    assert rows(long) == [("1", "x"), ("3", "w")]
    assert "1 records have more fields than the header (line 3); they were left out" in long.notes[0]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_compressed_table_is_read_like_the_plain_one(tmp_path: Path, mark: str) -> None:
    opened = table(tmp_path, gzip.compress((mark + "id,title\n1,A\n").encode()), "t.csv.gz")
    assert (opened.columns, rows(opened)) == (["id", "title"], [("1", "A")])
    with pytest.raises(BadInput, match="cannot be unpacked"):
        table(tmp_path, b"no gzip", "u.csv.gz")


def test_an_unknown_way_to_quote_is_refused() -> None:
    with pytest.raises(UsageError, match="--quote single: expected auto, double, backslash, none"):
        Layout("single")


cells = st.text(st.characters(exclude_characters="\0\r\x1f", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.lists(st.tuples(cells, cells), min_size=1, max_size=8), separator=st.sampled_from(",;\t|"))
def test_whatever_a_csv_writer_writes_comes_back(tmp_path: Path, body: list[tuple[str, str]], separator: str) -> None:
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerows([("id", "a", "b"), *((f"k{number}", *row) for number, row in enumerate(body))])
    opened = open_table(tmp_path / "t.csv", tmp_path, layout=Layout("double", separator=separator))
    assert rows(opened) == [(f"k{number}", a or None, b or None) for number, (a, b) in enumerate(body)]


def zipped(folder: Path, **members: str) -> Path:
    file = folder / "ratings.csv.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.csv", content)
    return file


def test_a_table_alone_in_a_zip_is_read_and_a_zip_of_several_is_refused(tmp_path: Path) -> None:
    opened = open_table(zipped(tmp_path, ratings="id,a\n1,x\n"), tmp_path)
    assert (opened.columns, rows(opened)) == (["id", "a"], [("1", "x")])
    with pytest.raises(BadInput, match=r"expected a zip of one table, found 2 files \(ratings\.csv, movies\.csv\)"):
        open_table(zipped(tmp_path, ratings="id\n1\n", movies="id\n1\n"), tmp_path)
    (tmp_path / "ratings.csv.zip").write_bytes(b"PK and no more")
    with pytest.raises(BadInput, match="cannot be unpacked"):
        open_table(tmp_path / "ratings.csv.zip", tmp_path)


def test_what_a_finder_adds_to_a_zip_is_no_file_of_it(tmp_path: Path) -> None:
    file = zipped(tmp_path, ratings="id,a\n1,x\n")
    with zipfile.ZipFile(file, "a") as archive:
        for name in (".DS_Store", "more/.DS_Store", "__MACOSX/._ratings.csv"):
            archive.writestr(name, "x")
    assert rows(open_table(file, tmp_path)) == [("1", "x")]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_file_of_a_zip_is_refused(tmp_path: Path, method: int) -> None:
    file = tmp_path / "ratings.csv.zip"
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("ratings.csv", "id,a\n" + "".join(f"{number},x\n" for number in range(5_000)))
    damaged = bytearray(file.read_bytes())
    damaged[60:600] = b"\xff" * 540
    file.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"ratings\.csv\.zip cannot be"):
        open_table(file, tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04" + bytes(100), "a spreadsheet or zip under another name"),
        (b"\xd0\xcf\x11\xe0" + bytes(100), "a spreadsheet under another name"),
        (b"\x1f\x8b\x08" + bytes(100), r"compressed by gzip.* ends in \.gz"),
        (b"PAR1" + bytes(100), r"Parquet.* ends in \.parquet"),
        (b"\n<!DOCTYPE html><html></html>", "a web page, not a table"),
        (b"<HTML><body>404</body></HTML>", "a web page, not a table"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_what_is_no_table_under_its_name_is_called_what_it_is(
    content: bytes, says: str, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"t.{suffix}"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=says):
        open_table(file, tmp_path)


def test_a_long_line_is_named_though_a_short_one_makes_up_for_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"line 4: 4, expected 3"):
        table(tmp_path, "user_id,item_id,rating\n1,1,4\n1,2\n2,2,5,7\n")


@pytest.mark.parametrize("head", ["\n\n", "\ufeff\r\n", "\ufeffsep=,\n\n", "  \n"])
def test_empty_lines_before_the_header_are_no_header(tmp_path: Path, head: str) -> None:
    assert rows(table(tmp_path, f"{head}id,title\n1,A\n")) == [("1", "A")]


def test_a_comment_before_the_header_is_called_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"its first line names no columns \(#, exported.*remove what stands before"):
        table(tmp_path, "# exported by tool\nid,title\n1,A\n").column_for("item_id", required=True)


def test_a_line_before_the_header_is_not_called_a_header(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"first line names no columns \(My, ratings, 2024\); remove what stands before"
    ):
        table(tmp_path, "My ratings 2024\n\nid,title\n1,A\n").column_for("item_id", required=True)
