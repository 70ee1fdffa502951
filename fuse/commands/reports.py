"""The commands that write pages and pictures: `cinefuse report` and `explain`.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ...data.commands.options import JsonOption
from ...data.runtime.untrusted_text import printable
from .options import MovedCacheOption, MovedDatasetOption, RunArgument

app = typer.Typer()


@app.command("report")
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="folders of finished runs; the page is about the first")
    ],
    out: Annotated[Path | None, typer.Option(help="page to write  [default: report.html in the first run]")] = None,
    dataset: MovedDatasetOption = None,
    cache: MovedCacheOption = None,
    posters: Annotated[
        bool, typer.Option("--posters/--no-posters", help="without them the page can be shown to anybody")
    ] = True,
) -> None:
    """Write one page about a run, readable without network: figures, films, users, and what was trained on what.

    More runs, tested on the same ratings, stand beside the first one, with the differences and their intervals.
    """
    from ..reporting.report import write_report
    from ..runs.run import Run
    from ..runs.run_folder import RunFolder

    page = out or RunFolder(runs[0]).report
    done = write_report([Run.open(run) for run in runs], page, dataset=dataset, cache=cache, posters=posters)
    lacking = f", {done.without_poster:,} films have none" if posters and done.without_poster else ""
    if done.left_out:
        typer.echo(f"attention is left out: {printable(done.left_out)}", err=True)
    typer.echo(f"{printable(page)}: {done.bytes / 1e6:.2f} MB, {done.posters:,} posters{lacking}; open it in a browser")


@app.command("explain")
def explain(
    run: RunArgument,
    item: Annotated[list[str], typer.Option("--item", metavar="ID", help="film to explain; may be repeated")],
    user: Annotated[str | None, typer.Option(help="id of a user whose prediction is explained too")] = None,
    out: Annotated[
        list[Path] | None, typer.Option(help="picture or page to write: .png or .html; may be repeated")
    ] = None,
    rollout: Annotated[
        bool, typer.Option("--rollout", help="attention through all blocks, not the last alone")
    ] = False,
    dataset: MovedDatasetOption = None,
    cache: MovedCacheOption = None,
    text_model: Annotated[
        str | None, typer.Option(help="folder of the text model, for the words of plots: its tokenizer.json; or mini")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a model's attention over a film's poster and plot, and what it predicts with them masked.

    The model itself is run with words and patches masked, and a check says whether attention agrees with the change.
    """
    from ..explaining.explain import explain as explained
    from ..explaining.files import refuse_unknown_picture, write_explanation
    from ..runs.run import Run

    for file in out or []:
        refuse_unknown_picture(file)
    opened = Run.open(run)
    options: dict[str, Any] = {"dataset": dataset, "cache": cache, "text_model": text_model, "rollout": rollout}
    found = explained(opened, item, user, **options)
    for file in out or []:
        write_explanation(file, found, opened)
    if as_json:
        typer.echo(json.dumps([each.as_dict() for each in found], indent=1, ensure_ascii=False))
        return
    from .explain_screen import show_explanations

    show_explanations(found)
    for file in out or []:
        typer.echo(f"\nwritten to {printable(file)}")
