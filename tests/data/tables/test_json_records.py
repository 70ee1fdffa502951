"""Laws of JSON tables: an object a line, an array, a document, lines of Python literals give the same records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.tables.delimited import ROW
from cinefuse.data.tables.opening import open_table

RECORDS: list[dict[str, Any]] = [
    {"id": 2**60 + 1, "title": "A", "genres": [{"name": "x"}]},
    {"id": 7, "title": None, "more": "é"},
]
WAYS = {
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "lines.json": "\n".join(map(json.dumps, RECORDS)) + "\n",
    "array.json": json.dumps(RECORDS, indent=1),
    "array.jsonl": json.dumps(RECORDS),
    "document.json": json.dumps({"page": 1, "results": RECORDS}),
    "literals.json": "\n".join(map(repr, RECORDS)),
    "columns.json": json.dumps(
        {name: {str(i): r.get(name) for i, r in enumerate(RECORDS)} for name in ("id", "title")}
    ),
    "split.json": json.dumps(
        {"columns": ["id", "title"], "index": [0, 1], "data": [[r["id"], r["title"]] for r in RECORDS]}
    ),
    "byid.json": json.dumps({str(r["id"]): {"title": r["title"]} for r in RECORDS}, indent=1),
}


@pytest.mark.parametrize("name", WAYS)
def test_records_come_the_same_from_every_way_to_keep_them(tmp_path: Path, name: str) -> None:
    if name == "byid.json":
        (tmp_path / name).write_text(json.dumps({f"tt{r['id']}": {"title": r["title"]} for r in RECORDS}, indent=1))
    else:
        (tmp_path / name).write_text(WAYS[name])
    found = open_table(tmp_path / name, tmp_path).frame.collect()
    assert found[ROW].to_list() == [0, 1]
    ids = ["1152921504606846977", "7"]
    assert found["id"].to_list() == ([f"tt{key}" for key in ids] if name == "byid.json" else ids)
    assert found["title"].to_list() == ["A", None]
    assert set(found.dtypes[1:]) == {pl.String}


def test_an_array_is_read_record_by_record_whatever_the_blocks(tmp_path: Path) -> None:
    records = [{"id": number, "text": "x" * 3000} for number in range(1500)]
    (tmp_path / "a.json").write_text(json.dumps(records))
    found = open_table(tmp_path / "a.json", tmp_path).frame.collect()
    assert found["id"].to_list() == [str(number) for number in range(1500)]


def test_nan_is_null_and_never_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "plot": NaN, "genres": [NaN, "Drama"]}\n')
    assert open_table(tmp_path / "a.jsonl", tmp_path).frame.collect().row(0)[2:] == (None, '[null, "Drama"]')


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"id": 1}, 3]', "record 2: expected an object, found int|record 2: expected an object, found str"),
        ('[{"id": 1}', "the array is not closed|not valid JSON"),
        ('[{"id": 1} x]', "record 2: not valid JSON"),
        ('{"a": 1,\n"b": 2}', "expected one object a line, or an object that holds a list"),
        ('{"a": [{"x": 1}],\n"b": [{"y": 2}]}', "holds several lists of objects"),
        ("", "holds no records"),
    ],
)
def test_what_is_no_table_of_records_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadInput, match=says):
        open_table(tmp_path / "a.json", tmp_path)
