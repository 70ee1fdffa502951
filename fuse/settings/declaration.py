"""Declaring a setting once: default, range, meaning and group stand with its dataclass field; all else reads them."""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar

from ...data.runtime.errors import UsageError

T = TypeVar("T")
Group = Literal["run", "inputs", "model", "Transformer", "training", "L2", "ranking model"]


@dataclass(frozen=True)
class Setting:
    """What is known of one setting. ``name`` is as `--set` takes it: a setting of a nested dataclass has a dot."""

    name: str
    kind: Any
    group: Group
    meaning: str
    low: float | None
    high: float | None

    def parsed(self, text: str) -> Any:
        """The value that ``text`` stands for. UsageError where it is of another type."""
        if typing.get_origin(self.kind) is Literal:
            choices = typing.get_args(self.kind)
            if text not in choices:
                raise UsageError(f"--set {self.name}: expected {' or '.join(choices)}, found {text!r}")
            return text
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            value = self.kind(text)
        except (ValueError, KeyError):
            value = math.nan
        if not math.isfinite(value):
            expected = {bool: "true or false", int: "a whole number", float: "a number"}[self.kind]
            raise UsageError(f"--set {self.name}: expected {expected}, found {text!r}")
        return value

    def refuse_outside_range(self, value: Any) -> None:
        """UsageError where a number is out of its range."""
        if self.low is None or self.high is None or self.low <= value <= self.high:
            return
        if self.high == math.inf and self.low == 0:
            raise UsageError(f"{self.name} must not be negative, found {value:g}")
        raise UsageError(f"{self.name} must lie from {self.low:.12g} to {self.high:.12g}, found {value:.12g}")


def setting(group: Group, default: T, meaning: str, low: float | None = None, high: float | None = None) -> T:
    """The dataclass field of a setting. Numbers have a range, both ends included; ``high`` may be infinite."""
    return field(default=default, metadata={"group": group, "meaning": meaning, "low": low, "high": high})


def settings_of(declared: type[Any], prefix: str = "") -> dict[str, Setting]:
    """Every setting that a dataclass and those nested in it declare, by name."""
    kinds, found = typing.get_type_hints(declared), dict[str, Setting]()
    for each in fields(declared):
        name = f"{prefix}{each.name}"
        if is_dataclass(kind := kinds[each.name]):
            found |= settings_of(typing.cast("type[Any]", kind), f"{name}.")
        else:
            found[name] = Setting(name, kind, **each.metadata)
    return found


def has_type(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of a type: there a path is text, a tuple a list, and a float may be whole."""
    of, parts = typing.get_origin(kind), typing.get_args(kind)
    if of is Literal:
        return value in parts
    if of is UnionType:
        return any(has_type(value, part) for part in parts)
    if of is dict:
        return isinstance(value, dict) and all(has_type(part, parts[1]) for part in value.values())
    if of in (list, tuple):
        return isinstance(value, list) and all(has_type(part, parts[0]) for part in value)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return kind is Any or isinstance(value, str if kind is Path else kind)


def nearest(name: str, names: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, where one of ``names`` is close."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
