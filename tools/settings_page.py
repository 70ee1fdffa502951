"""docs/settings.md: every setting of a run, from where it is declared (fuse/settings).

Run `python -m tools.settings_page` to write the page again.
"""

from __future__ import annotations

import math
import typing
from itertools import groupby
from pathlib import Path
from typing import Any

from cinefuse.fuse.settings.config import SETTINGS
from cinefuse.fuse.settings.declaration import Setting
from cinefuse.fuse.settings.presets import PRESETS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
_HEAD = """# Settings

Every setting of a run, as `cinefuse fuse --set NAME=VALUE`, `tune --set` and `study --set` take it; `Config` has the
same names in Python. `cinefuse fuse --list-settings` shows them in a terminal. With the preset `best` a run chooses
some of them by its training ratings (`adapt`); what is set by hand stays. This page is made by `make reference`.

The presets and what they change from `paper`, whose values the tables show:
"""


def settings_page() -> str:
    """The whole page as Markdown: the presets, then a table for each group of settings."""
    paper = PRESETS["paper"]
    lines = [_HEAD]
    for name, config in PRESETS.items():
        changes = {each: value for each, value in config.changes_from(paper).items() if each != "preset"}
        words = ", ".join(f"`{each}={_written(value)}`" for each, value in changes.items())
        lines.append(f"- **{name}**: {words or 'as below'}")
    shown = [each for each in SETTINGS.values() if each.name != "preset"]
    for group, settings in groupby(shown, lambda each: each.group):
        heading = group[0].upper() + group[1:]
        lines += ["", f"## {heading}", "", "| setting | in `paper` | values | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{each.name}` | `{_written(paper.value(each.name))}` | {_values(each)} | {_cell(each.meaning)} |"
            for each in settings
        ]
    return "\n".join(lines) + "\n"


def _values(each: Setting) -> str:
    if typing.get_origin(each.kind) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(each.kind))
    if each.kind is bool:
        return "`true`, `false`"
    if each.low is None or each.high is None:
        return "text"
    kind = "whole numbers " if each.kind is int else ""
    return f"{kind}from {each.low:.12g}" + ("" if each.high == math.inf else f" to {each.high:.12g}")


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(settings_page(), "utf-8")
