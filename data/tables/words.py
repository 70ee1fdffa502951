"""Cells made into the words meant: lists as JSON, Python literals, structs or separated text; words that mean nothing.

[{"id": 16, "name": "Animation"}]    ['Animation' 'Comedy']    {'Animation', 'Comedy'}    Animation, Comedy
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NO_VALUE = ("", "n/a", "#n/a", "\\n", "null", "nan", "none", "<na>", "nat", "-", "--", "–", "—", "?", "...")
NO_WORD = (*NO_VALUE, "(no genres listed)")
SEPARATORS = ("|", ";", ",")
_NAME_KEYS = ("name", "title", "label", "genre", "tag", "keyword", "value", "text", "english_name")
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
# As NumPy prints an array: no comma, which Python would read as one long word.
_SPACED = re.compile(rf"[\[(]\s*(?:{_QUOTED})(?:\s+(?:{_QUOTED}))+\s*[\])]", re.DOTALL)
_OPENED = re.compile(r"\[\s*[\[{'\"]|\{\s*['\"]")  # a list that something cut off before its end
_LONGEST_LITERAL = 1 << 20


class NotAList(Exception):
    """A cell that looks like a list and cannot be read as one."""


def means_nothing(cell: pl.Expr) -> pl.Expr:
    """True where text is a word for a missing value, such as N/A or NaN, with or without white space around it."""
    bare = cell.str.strip_chars()
    return bare.str.to_lowercase().is_in([word for word in NO_VALUE if word]) | (bare == "NA")


def listed(cell: str) -> Any:
    """The list, tuple, set or dict that a cell holds as text; None where it is plain text.

    Raises NotAList where it starts and ends as a list of JSON or Python does and is none.
    """
    text = cell.strip()
    if _BRACKETS.get(text[:1]) != text[-1:] or len(text) < 2:
        if _OPENED.match(text):
            raise NotAList(text)
        return None
    if len(text) > _LONGEST_LITERAL:
        raise NotAList(f"a list of {len(text):,} characters")
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        pass
    if _SPACED.fullmatch(text):
        return [_unquoted(word) for word in re.findall(_QUOTED, text)]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        value = None
    if isinstance(value, list | tuple | set | frozenset | dict):
        return value
    if text.startswith("(") or value is not None:
        return None
    inside = text[1:-1]
    if text.startswith("[") and not re.search(r"[\[\]{}\"]|\.\.\.|(?:^|,)\s*'", inside):
        return inside.split(",")  # [Animation, Comedy], as Java and some templates print a list
    raise NotAList(text)


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1])


def words_in(value: Any) -> list[str]:
    """The words of any nest of lists and dicts, each once, in order; raises NotAList for a dict without a name."""
    return list(dict.fromkeys(word for word in _words(value) if word.casefold() not in NO_WORD))


def _words(value: Any) -> Iterable[str]:
    if value is None or (isinstance(value, float) and value != value):
        return
    if isinstance(value, dict):
        yield from _words_of_dict(value)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _words(part)
    elif isinstance(value, set | frozenset):
        for part in sorted(value, key=str):
            yield from _words(part)
    else:
        yield str(value).strip()


def _words_of_dict(value: dict[Any, Any]) -> Iterable[str]:
    if not value:
        return
    named = {str(key).casefold(): part for key, part in value.items()}
    for key in _NAME_KEYS:
        if key in named:
            yield from _words(named[key])
            return
    parts = [part for part in value.values() if part is not None]
    if parts and all(_is_number(part) for part in parts):  # word -> weight
        yield from (str(key) for key, part in value.items() if part is not None and float(part) > 0)
        return
    texts = [part for part in parts if isinstance(part, str) and not _is_number(part)]
    if len(texts) == 1 or (texts and len(texts) == len(parts) and not any(str(key).isalpha() for key in value)):
        yield from texts  # id -> word, or one word among numbers
        return
    raise NotAList(f"an object with {', '.join(map(str, value))}, none of which is a name")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return True
    return isinstance(value, str) and re.fullmatch(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", value) is not None


def word_lists(column: pl.Series, separators: Sequence[str] | None = None) -> tuple[pl.Series, list[int], str]:
    """Each cell's words as List(String), the rows of cells that look like lists and are none, and the first of these.

    ``separators`` are what may stand between the words of plain text; None takes the first of SEPARATORS that any cell
    has. A list's own words are never cut.
    """
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.List(pl.String):
        column = column.fill_null([])
    cells = column.unique() if column.dtype == pl.String else column
    plain = column.dtype == pl.String and not cells.str.contains(r"^\s*[\[{(]").any()
    if separators is None:
        separators = _separator_of(cells) if column.dtype == pl.String else ()
    if plain:
        return _plain_words(column, separators), [], ""
    known: dict[str, list[str] | None] = {}
    first = ""
    words: list[list[str] | None] = []
    for cell in column.to_list():
        key = cell if isinstance(cell, str) else None
        if key is not None and key in known:
            words.append(known[key])
            continue
        try:
            found = _words_of_cell(cell, separators)
        except NotAList as fault:
            found, first = None, first or str(fault)[:60]
        if key is not None:
            known[key] = found
        words.append(found)
    wrong = [row for row, found in enumerate(words) if found is None]
    return pl.Series(column.name, [found or [] for found in words], dtype=pl.List(pl.String)), wrong, first


def _words_of_cell(cell: Any, separators: Sequence[str]) -> list[str]:
    if not isinstance(cell, str):
        if isinstance(cell, list):  # objects of JSON lines may lie in a list of text
            cell = [listed(part) or part if isinstance(part, str) and part[:1] == "{" else part for part in cell]
        return words_in(cell)
    value = None if cell.strip().casefold() in NO_WORD else listed(cell)
    return words_in(_cut(cell, separators) if value is None else value)


def _cut(cell: str, separators: Sequence[str]) -> list[str]:
    return re.split("|".join(map(re.escape, separators)), cell) if separators else [cell]


def _separator_of(cells: pl.Series) -> tuple[str, ...]:
    plain = cells.filter(~cells.str.contains(r"^\s*[\[{(].*[\]})]\s*$").fill_null(True))
    return next(((one,) for one in SEPARATORS if plain.str.contains(one, literal=True).any()), ())


def _plain_words(column: pl.Series, separators: Sequence[str]) -> pl.Series:
    text = pl.col(column.name)
    for other in separators[1:]:
        text = text.str.replace_all(other, separators[0], literal=True)
    parts = text.str.split(separators[0]) if separators else pl.concat_list(text)
    word = pl.element()
    words = parts.list.eval(word.str.strip_chars()).list.eval(
        word.filter(word.is_not_null() & ~word.str.to_lowercase().is_in(NO_WORD))
    )
    return column.to_frame().select(words.fill_null([]).list.unique(maintain_order=True)).to_series()
