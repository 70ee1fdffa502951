"""What the documents say exists: commands, options, links, modules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main

from cinefuse.cli import app
from cinefuse.tools import architecture, settings_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    for sub, found in getattr(command, "commands", {}).items():
        yield from _commands(found, f"{name} {sub}")


COMMANDS = dict(_commands(typer.main.get_command(app), "cinefuse"))


def _sections(page: str) -> dict[str, str]:
    parts = re.split(r"^#+ `(cinefuse[^`]*)`$", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_reference_has_a_section_for_every_command_and_none_for_another() -> None:
    assert set(_sections((ROOT / "docs" / "cli.md").read_text("utf-8"))) == set(COMMANDS), "run `make docs`"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_names_exactly_the_options_a_command_has(name: str) -> None:
    section = _sections((ROOT / "docs" / "cli.md").read_text("utf-8"))[name]
    found = set(re.findall(r"^\* `(?:-\w, )?(--[a-z0-9-]+|-\w)", section, flags=re.M)) - {"--help"}
    has = {
        next((word for word in option.opts if word.startswith("--")), option.opts[0])
        for option in COMMANDS[name].params
        if option.param_type_name == "option" and not getattr(option, "hidden", False)
    } - {"--help"}
    assert found == has, "run `make docs`"


def test_the_page_of_settings_is_what_the_declarations_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == settings_page.settings_page(), "run `make reference`"


def _links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    lost = [target for target in _links(page) if not (page.parent / target).exists()]
    assert not lost


def test_the_map_of_the_house_is_that_of_the_code() -> None:
    page = architecture.PAGE.read_text("utf-8")
    assert page == architecture.with_map(page), "run `python -m tools.architecture`"
