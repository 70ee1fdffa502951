"""The dataset folder: its layout, its `dataset.json`, its rule for ids, and how one comes into being whole.

    dataset.json      format and version, name, sources with SHA-256, counts, where the posters lie
    items.parquet     item_id, title, year, genres, text, poster
    ratings.parquet   user_id, item_id, rating, timestamp (the last where the source has it)
    users.parquet     user_id, age, gender, occupation, zip (where the source has them)
    splits/           one table per official fold: row of ratings.parquet (from 0), part "train" or "test"
    posters/          only where the posters were copied

Row numbers in messages count data rows from 1 (a header is not a row); `row` in splits/ counts from 0.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .errors import BadInput, NoSpace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT = "cinefuse-dataset"
VERSION = 1
MAX_ID_BYTES = 256

ITEM_COLUMNS: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "year": pl.Int32(),
    "genres": pl.List(pl.String()),
    "text": pl.String(),
    "poster": pl.String(),
}


@dataclass(frozen=True)
class Description:
    """What `dataset.json` says.

    ``posters`` is where the paths of the column ``poster`` start: relative to the dataset folder, or absolute.
    ``sources`` lists every file read, each as ``{"name": ..., "sha256": ...}``.
    """

    name: str
    posters: str = "."
    sources: list[dict[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    note: str = ""

    def write(self, folder: Path) -> None:
        """Write `dataset.json` into ``folder``."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        (folder / "dataset.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read `dataset.json` of ``folder``; BadInput where that is no dataset folder, or one of another version."""
        file = folder / "dataset.json"
        if not file.is_file():
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
        kinds = {"name": str, "posters": str, "sources": list, "counts": dict, "note": str}
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


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary sibling of ``out`` to fill; it becomes ``out`` only when the block ends without an error.

    Refuses (BadInput) an existing ``out`` unless ``overwrite``, and even then anything that is neither a dataset
    folder nor empty. A full disk raises NoSpace.
    """
    out = out.resolve()
    _refuse_to_replace(out, overwrite=overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.new-", dir=out.parent))
    except OSError as fault:
        raise BadInput(f"{out.parent}: cannot write there ({fault.strerror}): choose another folder") from None
    try:
        yield staged
        _make_durable(staged)
        _put_in_place(staged, out)
    except OSError as fault:
        shutil.rmtree(staged, ignore_errors=True)
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{out.parent}: the disk is full; nothing was left there. Free space and run again") from None
        raise
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _refuse_to_replace(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise BadInput(f"{out} exists: choose another folder, or replace it with --overwrite")
    if not out.is_dir():
        raise BadInput(f"{out} is a file, not a folder: choose another name")
    if any(out.iterdir()):
        try:
            Description.read(out)
        except BadInput:
            raise BadInput(f"{out} is not a dataset of this cinefuse: --overwrite will not delete it") from None


def _make_durable(staged: Path) -> None:
    # mkdtemp makes the folder private; a dataset is as readable as any other folder of its owner.
    umask = os.umask(0)
    os.umask(umask)
    staged.chmod(0o777 & ~umask)
    for path in staged.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _put_in_place(staged: Path, out: Path) -> None:
    if not out.exists():
        staged.rename(out)
        return
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.old-", dir=out.parent) as grave:
        out.rename(Path(grave) / out.name)
        staged.rename(out)


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


ID_FAULTS: dict[str, str] = {
    "missing": "has no id (null or empty)",
    "nul": "has an id with a NUL character",
    "long": f"has an id longer than {MAX_ID_BYTES} bytes of UTF-8",
}


def id_fault(column: str) -> dict[str, pl.Expr]:
    """For each key of ID_FAULTS, where a text id has that fault (never null)."""
    value = pl.col(column)
    return {
        "missing": value.is_null() | (value == "").fill_null(False),
        "nul": value.str.contains("\0", literal=True).fill_null(False),
        "long": (value.str.len_bytes() > MAX_ID_BYTES).fill_null(False),
    }


def check_ids(table: pl.DataFrame, column: str, name: str) -> None:
    """Refuse (BadInput, naming rows) null, empty, over-long or NUL-carrying ids in an Int64 or String column."""
    if table.schema[column] != pl.String:
        table = table.select(pl.col(column).cast(pl.String))
    for key, fault in id_fault(column).items():
        rows = table.select(fault.arg_true()).to_series().to_list()
        if rows:
            raise BadInput(f"{name}, column {column}: {rows_named(rows)} {ID_FAULTS[key]}; every row needs a valid id")
