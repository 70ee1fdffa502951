"""The `cinefuse cache` commands: embedding files are looked at and checked.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .errors import DamagedFile

app = typer.Typer(no_args_is_help=True, help="Look at embedding files and check them.")


@app.command("info")
def cache_info(
    file: Annotated[Path, typer.Argument(help="embedding file, finished or not")],
    failures: Annotated[bool, typer.Option("--failures", help="list items without embedding, and why")] = False,
    truncated: Annotated[bool, typer.Option("--truncated", help="with --failures: also texts that were cut")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell what an embedding file is: models, settings, coverage, sizes, digest."""
    from .embeddings import EmbeddingFile
    from .overview import failures as found
    from .overview import overview
    from .overview_screen import show_failures, show_overview

    with EmbeddingFile.open(file, pending=True) as opened:
        if failures and as_json:
            rows = [
                {"item": f.item, "modality": f.modality, "status": f.status.name.lower(), "why": f.reason.sentence}
                for f in found(opened, truncated=truncated)
            ]
            typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        elif failures:
            show_failures(found(opened, truncated=truncated))
        elif as_json:
            typer.echo(json.dumps(overview(opened), indent=1, ensure_ascii=False))
        else:
            show_overview(overview(opened))


@app.command("verify")
def cache_verify(
    file: Annotated[Path, typer.Argument(help="embedding file")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Read every byte of an embedding file once and check all that the format promises.

    Names each damaged row; `cinefuse extract` then computes exactly those again. Exit code 4 where anything is wrong.
    """
    from .overview_screen import show_report, verify_bar
    from .verify import verify

    with verify_bar(file) as progress:
        report = verify(file, progress)
    if as_json:
        problems = [{"where": p.where, "row": p.row, "item": p.item, "what": p.what} for p in report.problems]
        told = {"path": str(file), "sound": report.sound, "complete": report.complete, "pending": report.pending}
        typer.echo(json.dumps(told | {"problems": problems}, indent=1))
    else:
        show_report(report)
    if not report.complete:
        raise DamagedFile(f"{file}: {len(report.problems):,} problems, {sum(report.pending.values()):,} rows pending")
