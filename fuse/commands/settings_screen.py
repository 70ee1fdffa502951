"""`cinefuse fuse --list-settings`. Imports nothing heavy: it answers as fast as ``--help``."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from ..settings.config import MEANINGS, PRESETS

_WIDTH_OF_A_FILE = 10_000


def show_settings() -> None:
    """Every field of the config: its value in the preset `paper`, where other presets differ, and what it means."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("--set", "paper", "other presets", "meaning"):
        table.add_column(column)
    paper = PRESETS["paper"].as_dict()
    for name, value in paper.items():
        if name == "preset":
            continue
        others = {key: preset.as_dict()[name] for key, preset in PRESETS.items()}
        differing = ", ".join(f"{key} {written(other)}" for key, other in others.items() if other != value)
        table.add_row(name, written(value), differing, MEANINGS[name])
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    console.print(table)


def written(value: Any) -> str:
    """A setting's value as ``--set`` takes it."""
    return str(value).lower() if isinstance(value, bool) else f"{value}"
