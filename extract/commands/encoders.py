"""The `cinefuse encoders` command: which families can be read, and what a given model would do."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

FAMILIES = Path(__file__).with_name("families.tsv")


def families_table() -> list[list[str]]:
    """Family, text or image, vector, tokens, path and an example of each family that the tests hold equal.

    The test of families writes the file.
    """
    return [line.split("\t") for line in FAMILIES.read_text(encoding="utf-8").splitlines()[1:]]


def transformers_version() -> str:
    """The version of transformers that the families were tested with."""
    return FAMILIES.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


@app.command("encoders")
def encoders(
    describe: Annotated[
        str | None,
        typer.Option(metavar="ID_OR_FOLDER", help="say what this model would do; loads no weights"),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="commit, tag or branch of it")] = None,
) -> None:
    """List the families of encoders that can be read, or say what one model would do, without its weights."""
    from rich.table import Table

    from ...data.runtime.errors import UsageError
    from ...data.runtime.terminal import screen
    from ...data.runtime.untrusted_text import printable

    console = screen()
    if describe is not None:
        from ..job.describe import describe as described

        for found in described(describe, revision):
            revised = f" at {found.source.revision[:12]}" if found.source.revision else ""
            console.print(f"{printable(found.source.name)}{revised}, {found.modality}:", soft_wrap=True)
            for line in found.lines:
                console.print(f"  {printable(line)}", soft_wrap=True)
        return
    if revision is not None:
        raise UsageError("--revision: expected --describe ID with it")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("family", "of", "vector", "tokens", "how", "for example"):
        table.add_column(column, overflow="fold")
    for row in families_table():
        table.add_row(*row)
    console.print(table)
    try:
        here = f"; here is {version('transformers')}"
    except PackageNotFoundError:
        here = ""
    console.print(f"tested with {transformers_version()}{here}; a family that is not listed may work: try --describe")
