"""`cinefuse fuse --list-settings`. Imports no torch and no polars: it answers as fast as ``--help``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...data.runtime.terminal import screen
from ..settings.config import SETTINGS
from ..settings.presets import PRESETS

_WIDTH_OF_TABLE = 160


class _Setting(NamedTuple):
    group: str
    name: str
    value: str
    others: str
    meaning: str


def show_settings(console: Console | None = None) -> None:
    """Every setting: its value in the preset `paper`, where other presets differ, and what it means.

    A table of a line each where there is room, as in a file; else the meaning stands below.
    """
    console = console or screen()
    groups = groupby(_settings(), lambda setting: setting.group)
    if console.width >= _WIDTH_OF_TABLE:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("--set", "paper", "other presets", "meaning"):
            table.add_column(column)
        for group, settings in groups:
            table.add_row(Text(group, "bold"))
            for _, *cells in settings:
                table.add_row(*cells)
        console.print(table)
        return
    console.print("NAME=VALUE of the preset paper; values of other presets", style="bold")
    for group, settings in groups:
        console.print(group, style="bold")
        for _, name, value, others, meaning in settings:
            first = f"{name}={value}" + (f"; {others}" if others else "")
            console.print(textwrap.fill(first, console.width, subsequent_indent="    "), style="cyan")
            console.print(textwrap.fill(meaning, console.width, initial_indent="    ", subsequent_indent="    "))


def _settings() -> Iterator[_Setting]:
    presets = {name: preset.values() for name, preset in PRESETS.items()}
    for name, value in presets["paper"].items():
        if name != "preset":
            others = (
                f"{preset} {written(values[name])}" for preset, values in presets.items() if values[name] != value
            )
            yield _Setting(SETTINGS[name].group, name, written(value), ", ".join(others), SETTINGS[name].meaning)


def written(value: Any) -> str:
    """A setting's value as ``--set`` takes it."""
    return str(value).lower() if isinstance(value, bool) else f"{value}"
