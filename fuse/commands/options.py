"""Options and checks that the commands of stage two share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ...data.runtime.errors import Interrupted, UsageError

CacheArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="CACHE.h5", help="embedding file; without one, plots and posters are not used"),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="any setting of `--list-settings`; may be repeated"),
]
ProtocolOption = Annotated[
    str,
    typer.Option(
        help="movielens: test films rated --liked or better are relevant; mmrec: all test films are; auto: mmrec "
        "where the data has no ratings"
    ),
]
MovedDatasetOption = Annotated[
    Path | None, typer.Option(help="where the dataset is now  [default: where it was in training]")
]
MovedCacheOption = Annotated[
    Path | None, typer.Option(metavar="FILE.h5", help="where the embedding file is now  [default: as in training]")
]
TABLE_TO_WRITE = "table to write: .parquet, .csv, .tsv or .jsonl"
KOption = Annotated[int, typer.Option("-k", help="films in a list")]


@contextmanager
def interruptible(how_to_continue: str) -> Iterator[None]:
    """Interrupted, with the way to continue, where Ctrl-C is pressed inside."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: {how_to_continue}") from None


def one_at_most(files: list[Path] | None) -> Path | None:
    """The embedding file of a command that takes one at most; UsageError for several."""
    if files and len(files) > 1:
        raise UsageError(f"expected one embedding file at most, found {len(files)}: {files[0]}, {files[1]}")
    return files[0] if files else None
