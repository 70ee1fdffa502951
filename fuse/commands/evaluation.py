"""The commands `cinefuse evaluate` and `compare`: measure runs on their test part.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ...data.commands.options import JsonOption
from .options import ProtocolOption, RunArgument

app = typer.Typer()


@app.command("evaluate")
def evaluate(
    run: RunArgument,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", help="films in the lists of the headline  [default: 10, or 20 by mmrec]", show_default=False
        ),
    ] = None,
    protocol: ProtocolOption = "auto",
    liked: Annotated[
        float | None,
        typer.Option(
            help="lowest rating of a relevant film  [default: four fifths of the highest; below 0, three quarters up]",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run on its test part: errors of its ratings, and its lists beside most popular and EASE.

    RMSE and MAE with intervals and by popularity. Lists of 5, 10 and 20 of all films new to the user: NDCG, recall,
    precision, MAP, MRR, hit rate, coverage, novelty, and the share of the most popular films; beside the most popular
    films and EASE (above 20,000 films: iALS) on the same rows, with intervals and paired differences. The last lines
    name the baselines that the lists don't beat.
    """
    from ...data.runtime.progress import TerminalProgress
    from ..evaluation.evaluate import evaluate as measure
    from ..runs.run import Run
    from .evaluation_screen import show_evaluation

    found = measure(Run.open(run), k=k, liked=liked, protocol=protocol, progress=TerminalProgress())
    typer.echo(json.dumps(found.as_dict(), indent=2)) if as_json else show_evaluation(found)


@app.command("compare")
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="folders of finished runs, the first to compare to")
    ],
    k: Annotated[
        int | None, typer.Option("-k", help="films in a list  [default: 10, or 20 by mmrec]", show_default=False)
    ] = None,
    protocol: Annotated[str, typer.Option(help="movielens, mmrec or auto, as in `cinefuse evaluate`")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compare runs tested on the same ratings: RMSE and lists, with intervals and differences to the first run.

    The most popular films and EASE stand beside the lists of the runs.
    """
    from ...data.runtime.progress import TerminalProgress
    from ..evaluation.comparison import compare as compared
    from ..evaluation.list_comparison import compare_lists
    from ..runs.run import Run
    from .evaluation_screen import show_comparison, show_list_comparison

    opened = [Run.open(run) for run in runs]
    table = compared(opened) if all(run.recommender.predicts for run in opened) else None
    lists = compare_lists(opened, k=k, protocol=protocol, progress=TerminalProgress())
    if as_json:
        both = {"ratings": table.to_dicts() if table is not None else [], "lists": lists.as_dict()}
        typer.echo(json.dumps(both, indent=1, ensure_ascii=False))
        return
    if table is not None:
        show_comparison(table)
    show_list_comparison(lists)
