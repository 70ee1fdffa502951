"""The spec of a split, such as random:0.1, parsed, or refused with the nearest one that exists."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import UsageError

FORMS = (
    "an official fold such as u1, random:0.1, kfold:5/2, temporal:0.1, user-temporal:0.1, leave-one-out, "
    "cold-items:0.1, cold-users:0.1, column:NAME, file:PATH or all"
)
_SHARES = ("random", "temporal", "user-temporal", "cold-items", "cold-users")
_ALONE = ("leave-one-out", "all")
_WORDS = (*_SHARES, *_ALONE, "kfold", "column", "file")


@dataclass(frozen=True)
class SplitSpec:
    """A parsed spec: its ``text`` and ``kind`` ("fold" or one of the words); the rest is set where the kind has it."""

    text: str
    kind: str
    share: float = 0.0
    fold: int = 0
    folds: int = 0
    file: Path = Path()
    column: str = ""

    @classmethod
    def parse(cls, spec: str, official: dict[str, Path]) -> SplitSpec:
        word, colon, value = spec.partition(":")
        if not colon and spec in official:
            return cls(spec, "fold", file=official[spec])
        if spec in _ALONE:
            return cls(spec, spec)
        if colon and word in _SHARES:
            return cls(spec, word, share=_share(spec, word, value))
        if colon and word == "kfold":
            fold, folds = _fold_of(spec, value)
            return cls(spec, word, fold=fold, folds=folds)
        if word == "file" and value:
            return cls(spec, word, file=Path(value))
        if word == "column" and value:
            return cls(spec, word, column=value)
        raise UsageError(_unknown(spec, word, bool(colon), list(official)))


def _unknown(spec: str, word: str, colon: bool, official: list[str]) -> str:
    if colon or not spec or spec in _WORDS:
        near = difflib.get_close_matches(word, _WORDS, n=1) if word not in _WORDS else []
        hint = f" (did you mean {near[0]}:…?)" if near else ""
        return f"split {spec!r} is malformed{hint}: expected {FORMS}"
    near = difflib.get_close_matches(spec, [*official, *_WORDS], n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]}?)" if near else ""
    has = f"its official folds are {', '.join(official)}" if official else "it has no official folds"
    return f"split {spec!r}: the dataset has no such fold{hint}; {has}; expected {FORMS}"


def _share(spec: str, word: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise UsageError(f"split {spec!r}: expected a share between 0 and 1, found {value!r}; for instance {word}:0.1")
    return share


def _fold_of(spec: str, value: str) -> tuple[int, int]:
    numbers = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", value)
    folds, fold = (int(number) for number in numbers.groups()) if numbers else (0, 0)
    if folds < 2 or not 1 <= fold <= folds:
        raise UsageError(
            f"split {spec!r}: expected kfold:FOLDS/FOLD with at least 2 folds and a fold from 1 to their number, "
            f"found {value!r}; for instance kfold:5/2"
        )
    return fold, folds
