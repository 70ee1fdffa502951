"""Laws of cells: lists in any form become the words meant, words for nothing are none, unreadable lists are named."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cinefuse.data.tables.words import NotAList, listed, word_lists, words_in


@pytest.mark.parametrize(
    "cell",
    [
        "Animation, Comedy",
        "Animation|Comedy",
        "Animation; Comedy",
        '["Animation", "Comedy"]',
        "['Animation', 'Comedy']",
        "['Animation' 'Comedy']",
        "['Animation'\n 'Comedy']",
        "('Animation', 'Comedy')",
        "{'Animation', 'Comedy'}",
        "[Animation, Comedy]",
        '[["Animation"], ["Comedy", "Animation"]]',
        '[{"id": 16, "name": "Animation"}, {"id": 35, "name": "Comedy"}]',
        "[{'id': 16, 'name': 'Animation'}, {'id': 35, 'name': 'Comedy'}]",
        '{"/m/0hcr": "Animation", "/m/05p553": "Comedy"}',
        '{"Animation": 7, "Comedy": 0.5, "Drama": 0}',
        "Animation, N/A, Comedy",
        '["Animation", null, "Comedy", "nan"]',
    ],
)
def test_a_list_in_any_form_is_its_words(cell: str) -> None:
    words, wrong, _ = word_lists(pl.Series([cell, None]))
    assert words.to_list() == [["Animation", "Comedy"], []]
    assert wrong == []


@pytest.mark.parametrize(
    "cell", ["", " ", "N/A", "\\N", "null", "NaN", "None", "-", "n/a", "(no genres listed)", "[]", "{}"]
)
def test_a_word_for_nothing_is_no_word(cell: str) -> None:
    assert word_lists(pl.Series([cell]))[0].to_list() == [[]]


@pytest.mark.parametrize(
    "cell", ["[{'id': 16, 'na", "[{'id': 16, 'name': 'Anim]", "['a' 'b' ... 'z']", '{"x": "a", "y": "b"}']
)
def test_what_looks_like_a_list_and_is_none_is_named(cell: str) -> None:
    words, wrong, first = word_lists(pl.Series(["['Drama']", cell]))
    assert (words.to_list(), wrong) == ([["Drama"], []], [1])
    assert first


def test_no_code_in_a_cell_is_ever_run(tmp_path: Path) -> None:
    for cell in (
        f"[open('{tmp_path}/x', 'w')]",
        f"{{'a': open('{tmp_path}/x', 'w')}}",
        f"(open('{tmp_path}/x', 'w'),)",
    ):
        with suppress(NotAList):
            listed(cell)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([["a", "b"], None, []]),
        pl.Series([[["a"], ["b", "a"]], None, [[]]]),
        pl.Series([[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], None, []]),
        pl.Series([[{"name": "a"}, {"name": "b"}, {"name": None}], None, []]),
    ],
)
def test_nested_lists_and_structs_of_parquet_are_their_words(values: pl.Series) -> None:
    assert word_lists(values)[0].to_list() == [["a", "b"], [], []]


words = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), max_size=5, unique=True).filter(
    lambda some: not {word.casefold() for word in some} & {"nan", "null", "none", "nat"}
)


@given(words)
def test_words_come_back_from_json_python_and_structs_alike(some: list[str]) -> None:
    named = [{"id": number, "name": word} for number, word in enumerate(some)]
    for cell in (json.dumps(some), repr(some), json.dumps(named), repr(named)):
        value = listed(cell)
        assert words_in(value) == some
