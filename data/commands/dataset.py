"""The `cinefuse data` commands: dataset folders are made, fetched and looked at.

Slow imports stand inside the commands, so that ``cinefuse --help`` appears at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from .dataset_import import import_app
from .options import DatasetArgument, JsonOption

app = typer.Typer(no_args_is_help=True, help="Make, fetch and look at dataset folders.")


@app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="ml-100k, ml-1m, ml-latest-small, ml-25m or ml-32m")],
    out: Annotated[Path, typer.Argument(help="a folder, or the name of the .zip to write")],
    mirror: Annotated[str | None, typer.Option(envvar="CINEFUSE_MIRROR", help="address to fetch from instead")] = None,
    checksum: Annotated[str | None, typer.Option(help="md5:HEX or sha256:HEX to expect instead")] = None,
) -> None:
    """Download a MovieLens archive: resumed, retried, and checked before it gets its name."""
    from ..sources.movielens.download import GROUPLENS, fetch
    from .transfer_screen import transfer_bar

    with transfer_bar(name) as progress:
        fetched = fetch(name, out, mirror=mirror or GROUPLENS, checksum=checksum, progress=progress)
    typer.echo(f"{fetched.file}: sha256 {fetched.sha256}" + (" (was there already)" if fetched.already else ""))


@app.command("enrich")
def data_enrich(
    dataset: Annotated[Path, typer.Argument(help="dataset folder, made by `cinefuse data import`")],
    source: Annotated[
        Literal["tmdb", "omdb", "wikidata"],
        typer.Option(help="TMDB, OMDb, or plots of Wikipedia (by way of Wikidata, needs no key)"),
    ] = "tmdb",
    poster_size: Annotated[str, typer.Option(help="of TMDB: w92, w154, w185, w342, w500, w780, original")] = "w342",
    no_posters: Annotated[bool, typer.Option("--no-posters", help="plots and tags alone")] = False,
    language: Annotated[str, typer.Option(help="of plots and titles")] = "en-US",
    accept: Annotated[float, typer.Option(min=0, max=1, help="confidence that a match needs")] = 0.8,
    item_ids: Annotated[
        Literal["tmdb", "imdb"] | None, typer.Option(help="whose numbers the items' own ids are, where they are such")
    ] = None,
    matches: Annotated[
        Path | None,
        typer.Option(
            help="table of item_id and tmdb_id or imdb_id that you vouch for, as in enrichment/*-doubtful.csv"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what the dataset has already")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count requests and megabytes, send nothing")] = False,
    rate: Annotated[float | None, typer.Option(min=0.01, help="requests a second [default: what it allows]")] = None,
    connections: Annotated[int | None, typer.Option(min=1, max=64, help="at once [default: 16, 8 or 2]")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="file with TMDB_TOKEN=..., TMDB_API_KEY=... or OMDB_API_KEY=...")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(envvar="CINEFUSE_ENRICH_URL", help="address of a mirror of the service")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(envvar="CINEFUSE_CONTACT", help="mail or page of yours, sent along to Wikimedia")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(envvar="CINEFUSE_CACHE", help="folder of responses [default: cinefuse in the user's caches]"),
    ] = None,
) -> None:
    """Bring plots, posters, genres, credits and keywords into a dataset.

    Items are found by links (links.csv of MovieLens, columns imdb_id or tmdb_id), else by title and year. Matches below
    --accept are not taken but listed in DATASET/enrichment. What the dataset has already stays, unless --overwrite.

    TMDB needs TMDB_TOKEN (or TMDB_API_KEY), OMDb needs OMDB_API_KEY, in the environment or a --key-file. Nothing is
    fetched twice: run the same command again to continue.
    """
    from ..enrichment.job import enrich
    from ..enrichment.options import EnrichOptions
    from ..enrichment.plan import plan_enrichment
    from ..runtime.errors import BadInput
    from ..runtime.progress import TerminalProgress
    from .enrich_screen import show_plan, show_report

    options = EnrichOptions(
        source=source,
        posters=not no_posters,
        poster_size=poster_size,
        language=language,
        accept=accept,
        overwrite=overwrite,
        item_ids=item_ids,
        matches=matches,
        rate=rate,
        connections=connections,
        key_file=key_file,
        base_url=base_url,
        contact=contact,
        cache=cache,
    )
    if dry_run:
        show_plan(dataset, plan_enrichment(dataset, options))
        return
    report = enrich(dataset, options, TerminalProgress())
    show_report(report)
    if report.stopped:
        raise BadInput(
            f"{report.service}: {report.stopped}; {report.looked_up:,} of {report.wanted:,} items were looked up, "
            "what was found is in the dataset; the same command continues"
        )


@app.command("info")
def data_info(
    dataset: DatasetArgument,
    as_json: JsonOption = False,
) -> None:
    """Count what a dataset folder holds: items, plots, posters, ratings, duplicates, splits."""
    from ..dataset.summary import dataset_info

    info = dataset_info(dataset)
    if as_json:
        typer.echo(json.dumps(info, indent=2, ensure_ascii=False))
        return
    from .dataset_screen import show_info

    show_info(info)


app.add_typer(import_app, name="import")
