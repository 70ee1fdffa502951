"""The map of the house: docs/architecture.md's list of every module with its first sentence, from the code itself.

Run `python -m tools.architecture` to write the part between the two markers again.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- map: begin -->", "<!-- map: end -->"
PARTS = ("data", "extract", "fuse")


def first_sentence(file: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0]


def house_map() -> str:
    """Every package and module as Markdown: a heading a package, a line a module."""
    lines = ["### The root", ""]
    lines += [f"- `{file.name}`: {first_sentence(file)}" for file in sorted(ROOT.glob("*.py")) if first_sentence(file)]
    for part in PARTS:
        for folder in sorted({file.parent for file in (ROOT / part).rglob("*.py")}):
            lines += ["", f"### {folder.relative_to(ROOT).as_posix()}/", "", first_sentence(folder / "__init__.py"), ""]
            lines += [f"- `{file.name}`: {first_sentence(file)}" for file in sorted(folder.glob("[!_]*.py"))]
    return "\n".join(lines)


def with_map(page: str) -> str:
    """The page with the map between its markers."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{house_map()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_map(PAGE.read_text("utf-8")), "utf-8")
