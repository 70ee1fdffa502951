"""The dataset folder: its layout, its `dataset.json`, its rule for ids, and how one comes into being whole.

    dataset.json      format and version, name, sources with SHA-256, counts, where the posters lie
    items.parquet     item_id, title, year, genres, tags, text, poster
    ratings.parquet   user_id, item_id, rating, timestamp (the last where the source has it); implicit feedback (plays,
                      clicks, likes) has the rating 1 in every row, and count
    users.parquet     user_id, age, gender, occupation, zip (where the source has them)
    links.parquet     item_id, imdb_id, tmdb_id (where the source has them)
    splits/           one table per official fold: row of ratings.parquet (from 0), part "train" or "test"
    posters/          only where the posters were copied

Row numbers in messages count data rows from 1 (a header is not a row); `row` in splits/ counts from 0.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..runtime.disk import write_json
from ..runtime.errors import BadInput, NoSpace
from ..runtime.lock import growing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT = "cinefuse-dataset"
VERSION = 1
MAX_ID_BYTES = 256
_IN_BRACES = re.compile(r"\{(\w+)\}")
_LONGEST_VALUE = 60

ITEM_COLUMNS: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "year": pl.Int32(),
    "genres": pl.List(pl.String()),
    "tags": pl.List(pl.String()),
    "text": pl.String(),
    "poster": pl.String(),
}


@dataclass(frozen=True)
class Description:
    """What `dataset.json` says.

    ``posters`` is where the paths of the column ``poster`` start: relative to the dataset folder, or absolute.
    ``sources`` lists every file read, each as ``{"name": ..., "sha256": ...}``, and every service that items were
    enriched from, with its address, terms, and the notice that has to go along with what it gave. ``implicit`` says
    that the ratings are none: each row is an interaction of a user and an item.
    """

    name: str
    posters: str = "."
    sources: list[dict[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    note: str = ""
    implicit: bool = False

    @property
    def notices(self) -> list[str]:
        """The notices that services require wherever their data goes."""
        given = [source.get("notice") for source in self.sources if isinstance(source, dict)]
        return [notice for notice in given if isinstance(notice, str)]

    def write(self, folder: Path) -> None:
        """Write `dataset.json` into ``folder``."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        write_json(folder / "dataset.json", content)

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read `dataset.json` of ``folder``; BadInput where that is no dataset folder, or one of another version."""
        file = folder / "dataset.json"
        if not file.is_file():
            aside = _aside(folder)
            if aside.exists() and not folder.exists():
                raise BadInput(
                    f"{folder}: an import that should replace it was killed; run it again, or rename {aside}"
                )
            if folder.is_file():
                raise BadInput(
                    f"{folder} is a file, expected a dataset folder: make one with "
                    f"`cinefuse data import table NAME --ratings {folder}`"
                )
            raise BadInput(f"{folder} is not a dataset folder (no dataset.json): make one with `cinefuse data import`")
        try:
            content: Any = json.loads(file.read_text("utf-8"))
        except (ValueError, OSError) as fault:
            raise BadInput(f"{file} cannot be read as JSON ({fault}): import the dataset again") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise BadInput(f"{file} does not describe a cinefuse dataset: expected format {FORMAT!r}")
        if content.get("version") != VERSION:
            raise BadInput(
                f"{file} has version {content.get('version')!r}, this cinefuse reads {VERSION}: import it again"
            )
        kinds = {"name": str, "posters": str, "sources": list, "counts": dict, "note": str, "implicit": bool}
        for key in ("name", "posters"):
            if not isinstance(content.get(key), str):
                raise BadInput(f"{file}: {key!r} must be text, found {content.get(key)!r}")
        return cls(**{key: content[key] for key, kind in kinds.items() if isinstance(content.get(key), kind)})


def poster_root_as_written(root: Path, folder: Path) -> str:
    """Return ``root`` relative to the dataset ``folder`` where both lie in one tree below `/`, else absolute.

    A relative path lets dataset and posters move together; between unrelated trees it would only look portable.
    """
    root, folder = root.resolve(), folder.resolve()
    if len(Path(os.path.commonpath([root, folder])).parts) < 2:
        return str(root)
    return Path(os.path.relpath(root, folder)).as_posix()


@dataclass(frozen=True)
class Staging:
    """Where a new dataset grows: ``folder`` becomes the dataset, ``scratch`` is thrown away."""

    folder: Path
    scratch: Path


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Staging]:
    """Give a temporary sibling of ``out`` to fill; it becomes ``out`` only when the block ends without an error.

    Refuses (BadInput) an existing ``out`` unless ``overwrite``, and even then anything that is neither a dataset
    folder nor empty. Raises Busy while another process makes ``out``; what a killed one left of it is removed. A full
    disk raises NoSpace; any other fault of the disk BadInput.
    """
    out = out.resolve()
    if not out.name:
        raise BadInput(f"{out} is the root of everything: choose another folder")
    with _refusing_faults(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with growing(out) as place:
        with _refusing_faults(out):
            _take_back(out)
        _refuse_to_replace(out, overwrite=overwrite)
        with _refusing_faults(out):
            staging = Staging(place / "dataset", place / "scratch")
            staging.folder.mkdir(parents=True)
            staging.scratch.mkdir()
            yield staging
            _make_durable(staging.folder)
            _replace(out, staging.folder)


def _aside(out: Path) -> Path:
    """Where the dataset that has the name ``out`` goes while a new one takes its place."""
    return out.parent / f".{out.name}.replaced"  # also for `.`, which has no name


def _replace(out: Path, new: Path) -> None:
    """Give ``new`` the name ``out``. What had it comes back where Ctrl-C or the disk is in between."""
    aside = _aside(out)
    try:
        if out.exists():
            out.rename(aside)
        new.rename(out)
    finally:
        _take_back(out)


def _take_back(out: Path) -> None:
    """End a replacement, killed ones too: what was put aside is ``out`` again where no new one has come, else gone."""
    aside = _aside(out)
    if not aside.exists():
        return
    if out.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.rename(out)


@contextmanager
def _refusing_faults(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as fault:
        # Polars reports a full disk in words, not by number.
        if getattr(fault, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(fault):
            raise NoSpace(f"{out.parent}: the disk is full; nothing was left there. Free space and run again") from None
        if isinstance(fault, OSError):
            raise BadInput(f"{fault.filename or out}: {fault.strerror or fault}; nothing was written") from None
        if isinstance(fault, pl.exceptions.ComputeError):
            raise BadInput(f"a source table cannot be read: {str(fault).splitlines()[0]}") from None
        raise


def _refuse_to_replace(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise BadInput(f"{out} is a file, expected a dataset folder to make: choose another name")
    if not overwrite:
        raise BadInput(f"{out} exists: choose another folder, or replace it with --overwrite")
    if any(out.iterdir()):
        try:
            Description.read(out)
        except BadInput:
            raise BadInput(f"{out} is not a dataset of this cinefuse: --overwrite will not delete it") from None


def _make_durable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def rows_named(rows: Sequence[int], total: int | None = None) -> str:
    """Say which rows: ``rows`` count from 0, the sentence from 1. ``total`` counts all where only the first are given.

    >>> rows_named([0, 4])
    'rows 1, 5'
    """
    shown = [str(row + 1) for row in rows[:5]]
    more = (len(rows) if total is None else total) - len(shown)
    return (
        ("row " if len(shown) == 1 and not more else "rows ") + ", ".join(shown) + (f" and {more:,} more" * (more > 0))
    )


def is_integer_id(column: str) -> pl.Expr:
    """True where a text id is a canonical decimal integer that fits int64: what Int64 gives back unchanged."""
    return pl.col(column).cast(pl.Int64, strict=False).cast(pl.String).eq_missing(pl.col(column))


def refuse_rows(table: pl.LazyFrame, faults: dict[str, pl.Expr], name: str) -> None:
    """Raise BadInput for the first fault that any row has, naming the first such rows.

    ``table`` has a column ``row`` (from 0); ``faults`` maps the rest of the sentence to a Boolean expression. A column
    in braces, as in "(first {rating})", stands for its value in the first such row. One streaming pass
    where all is well.
    """
    sums = table.select(fault.fill_null(False).sum().alias(problem) for problem, fault in faults.items())
    try:
        counts = sums.collect(engine="streaming").row(0, named=True)
    except pl.exceptions.ComputeError as fault:
        raise BadInput(f"{name} cannot be read as a table: {_unreadable(str(fault))}") from None
    for problem, count in counts.items():
        if count:
            shown = _IN_BRACES.findall(problem)
            first = table.filter(faults[problem]).select("row", *shown).head(5).collect(engine="streaming").sort("row")
            for column in shown:
                value = first[column][0]
                shown_value = "is empty" if value is None else f"is {value!r}"[:_LONGEST_VALUE]
                problem = problem.replace(f"first {{{column}}}", f"the first {shown_value}")
            raise BadInput(f"{name}: {rows_named(first['row'].to_list(), count)} {problem}")


def _unreadable(message: str) -> str:
    """Why Polars cannot read a text table, in words that help."""
    if "more fields than defined" in message:
        return "a row has more fields than the header has columns; put text that holds the separator in double quotes"
    if "could not parse" in message:
        return 'a double quote is opened and never closed; inside quoted text write it twice, as ""'
    return message.splitlines()[0]


def id_faults(column: str) -> dict[str, pl.Expr]:
    """For `refuse_rows`: what may be wrong with the text ids in ``column``."""
    value = pl.col(column)
    return {
        f"without an id in column {column} (null or empty); every row needs one: remove these": (
            value.is_null() | (value == "")
        ),
        f"with a NUL character in the id in column {column}; give other ids": value.str.contains("\0", literal=True),
        f"with an id of more than {MAX_ID_BYTES} bytes of UTF-8 in column {column}; shorten it": (
            value.str.len_bytes() > MAX_ID_BYTES
        ),
    }
