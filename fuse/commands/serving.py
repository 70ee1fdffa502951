"""The commands that use a finished run: `cinefuse predict`, `recommend`, `similar` and `export`.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ...data.commands.options import JsonOption
from ...data.runtime.errors import UsageError
from ...data.runtime.untrusted_text import printable
from .options import TABLE_TO_WRITE, KOption, RunArgument

app = typer.Typer()


@app.command("predict")
def predict(
    run: RunArgument,
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="table with user_id and item_id: .csv, .parquet, ...")],
    out: Annotated[Path, typer.Option(help=TABLE_TO_WRITE)],
    distribution: Annotated[
        bool, typer.Option("--distribution", help="the probability of each rating too (ordinal head)")
    ] = False,
) -> None:
    """Predict the rating of each pair of a user and a film, and say why where a run cannot."""
    from ..runs.run import Run
    from ..serving.predict import predict as predicted
    from ..serving.table_files import read_pairs, refuse_unknown_suffix, write_table

    refuse_unknown_suffix(out)
    table = predicted(Run.open(run), read_pairs(pairs), distribution=distribution)
    write_table(table, out)
    unknown = table["prediction"].null_count()
    typer.echo(f"{printable(out)}: {len(table) - unknown:,} predictions, {unknown:,} pairs unknown to the run")


@app.command("recommend")
def recommend(
    run: RunArgument,
    user: Annotated[str | None, typer.Option(help="id of the user to recommend films to")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="for every user; with --out or --json")] = False,
    likes: Annotated[
        str | None, typer.Option(metavar="ID,ID,...", help="for somebody new, by the films they like, as 1,50,260")
    ] = None,
    k: KOption = 10,
    by: Annotated[
        str, typer.Option(help="ranking: what comes next; rating: the expected rating; auto: ranking if the run has it")
    ] = "auto",
    genre: Annotated[
        list[str] | None, typer.Option(help="films of this genre alone; may be repeated", rich_help_panel="Filters")
    ] = None,
    years: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="as 1990:1999, 1990: or :1950", rich_help_panel="Filters")
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(help="films left out: ids in a .txt, one a line, or a table", rich_help_panel="Filters"),
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="no other films than these; a file as above", rich_help_panel="Filters")
    ] = None,
    diversity: Annotated[float, typer.Option(help="from 0 to 1: how unlike each other the films of a list are")] = 0.0,
    new: Annotated[int, typer.Option(help="places kept for films that nobody has rated yet")] = 0,
    only_new: Annotated[bool, typer.Option("--only-new", help="films that nobody has rated yet, no others")] = False,
    out: Annotated[Path | None, typer.Option(help=TABLE_TO_WRITE)] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend the k films that a user would take next, none of which they have rated; or do so for all users at once.

    Beside each stands the rating expected of the user, and the film of theirs that adds most to its score. Films that
    nobody has rated yet have places of their own: --new N keeps N of a list for them, --only-new gives nothing else.
    """
    if (user is not None) + everybody + (likes is not None) != 1:
        raise UsageError("recommend: expected one of --user ID, --all and --likes ID,ID,...")
    if likes is not None and by == "rating":
        raise UsageError("--likes: a list for somebody new is made by the ranking model; leave --by rating away")
    if everybody and not (out or as_json):
        raise UsageError("recommend --all: expected --out FILE.parquet or --json, as there are many rows")
    from ..runs.run import Run
    from ..serving.filters import Filters, read_ids
    from ..serving.recommend import recommend as best_films
    from ..serving.recommend import recommend_all, recommend_for_likes
    from ..serving.table_files import refuse_unknown_suffix, write_table
    from .recommendation_screen import show_recommendations

    if out:
        refuse_unknown_suffix(out)
    opened = Run.open(run)
    filters = Filters(
        genres=tuple(genre or ()),
        years=years,
        exclude=read_ids(exclude) if exclude else (),
        candidates=read_ids(candidates) if candidates else None,
    )
    options: dict[str, Any] = {"filters": filters, "diversity": diversity, "new": new, "only_new": only_new}
    if likes is not None:
        table = recommend_for_likes(opened, _ids_in(likes), k, **options)
    elif user is not None:
        table = best_films(opened, user, k, by=by, **options)
    else:
        table = recommend_all(opened, k, by=by, **options)
    if out:
        write_table(table, out)
    if as_json:
        typer.echo(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False))
    elif out:
        typer.echo(f"{printable(out)}: {len(table):,} rows")
    else:
        show_recommendations(table, f"user {user}" if user is not None else "who likes these", k)


def _ids_in(likes: str) -> list[str]:
    """The ids between commas; one with a comma of its own stands in double quotes, as in a CSV."""
    return [one.strip() for one in next(csv.reader([likes], skipinitialspace=True), []) if one.strip()]


@app.command("similar")
def similar(
    run: RunArgument,
    item: Annotated[str, typer.Option(help="id of the film that others are compared with")],
    k: KOption = 10,
    by: Annotated[
        str, typer.Option(help="content: genres, year, plot and poster; taste: who takes them; or both")
    ] = "both",
    as_json: JsonOption = False,
) -> None:
    """Show the films most like one, by content, by taste, or by both."""
    from ..runs.run import Run
    from ..serving.similar import similar as most_alike
    from .recommendation_screen import show_similar

    table = most_alike(Run.open(run), item, k, by=by)
    typer.echo(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False)) if as_json else show_similar(table)


@app.command("export")
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder to make")],
    format_: Annotated[str, typer.Option("--format", help="parquet or npy")] = "parquet",
    approximate: Annotated[
        bool, typer.Option("--approximate", help="accept vectors that rank only nearly as the run does")
    ] = False,
    by: Annotated[
        str, typer.Option(help="ranking or rating: whose vectors; auto: the ranking model's if the run has one")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write vectors, biases and ids of users and films for a nearest-neighbour index, and say how exact they are."""
    from ..runs.run import Run
    from ..serving.export import export as written

    done = written(Run.open(run), out, format=format_, approximate=approximate, by=by)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(done.as_dict(), indent=2))
        return
    exact = "the run's ratings and ranking" if done.rates_exactly else "the run's ranking" if done.ranks_exactly else ""
    nearly = f"by score {done.agreement:.1%} of a user's ten best films are found"
    says = f"a score gives {exact} exactly" if exact else nearly
    typer.echo(f"{printable(out)}: {done.users:,} users and {done.items:,} films, {done.dim} numbers each; {says}")
