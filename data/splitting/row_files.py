"""Files that list rows of `ratings.parquet`: row numbers in .parquet, .csv, .npy or .txt, perhaps with their part."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..runtime.errors import BadInput
from ..runtime.parquet import scan_parquet
from ..tables.delimited import ROW, scan_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Rows = npt.NDArray[np.int64]

PARTS = ("train", "validation", "test")


def parts_in(listed: pl.DataFrame, ratings: int, file: Path) -> dict[str, Rows]:
    """The row numbers of each part, ascending; BadInput where a part is none of the three."""
    rows = row_numbers(listed["row"], ratings, file)
    with readable(file):
        named = listed["part"].cast(pl.String)
    if strange := named.filter(~named.is_in(PARTS).fill_null(False)).unique(maintain_order=True).to_list():
        raise BadInput(f"{file}: a part must be train, validation or test, found {_shown(strange)}; correct the file")
    return {part: np.sort(rows[(named == part).to_numpy()]) for part in PARTS}


def listed_rows(file: Path) -> pl.DataFrame:
    """Columns row and perhaps part, of whatever type the file has."""
    with readable(file):
        if file.suffix == ".npy":
            return pl.DataFrame({"row": _array(file)})
        if file.suffix == ".txt":
            return scan_text(file, ",", ["row"]).select("row").collect()
        if file.suffix == ".csv":
            frame = scan_text(file, ",")
        elif file.suffix == ".parquet":
            frame = scan_parquet(file)
        else:
            raise BadInput(f"{file}: expected .parquet, .csv, .txt or .npy, found {file.suffix or 'no suffix'!r}")
        columns = [name for name in frame.collect_schema().names() if name != ROW]
        if "row" not in columns:
            raise BadInput(
                f"{file}: expected a column row (row numbers of ratings.parquet, from 0) and perhaps a column part, "
                f"found {', '.join(columns)}"
            )
        return frame.select(name for name in ("row", "part") if name in columns).collect()


def _array(file: Path) -> npt.NDArray[Any]:
    # Mapped, so that a header that promises more than the file holds is refused before memory is set aside.
    array = np.lib.format.open_memmap(file, mode="r")
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"expected one dimension of row numbers, found {array.dtype} of shape {array.shape}")
    return array


def row_numbers(given: pl.Series, ratings: int, file: Path) -> Rows:
    """(n,) int64, in the order of the file; BadInput naming those that are no row number, or are given twice."""
    with readable(file):
        text = given if given.dtype.is_integer() else given.cast(pl.String).str.strip_chars()
        rows = text.cast(pl.Int64, strict=False)
        if (wrong := text.filter(~rows.is_between(0, ratings - 1).fill_null(False))).len():
            raise BadInput(
                f"{file}: expected row numbers of ratings.parquet from 0 to {ratings - 1:,}, "
                f"found {_shown(wrong.unique(maintain_order=True).to_list())}; correct the file"
            )
    if (twice := rows.filter(rows.is_duplicated())).len():
        repeated = twice.unique(maintain_order=True).to_list()
        raise BadInput(f"{file}: these row numbers are given more than once: {_shown(repeated)}; name each once")
    return rows.to_numpy()


def _shown(values: list[Any]) -> str:
    more = f" and {len(values) - 5:,} more" if len(values) > 5 else ""
    return ", ".join("nothing" if value is None else str(value) for value in values[:5]) + more


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn a file that cannot be read into a refusal that names it."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except (pl.exceptions.PolarsError, OSError, ValueError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise BadInput(f"{file} cannot be read ({reason}); replace it or make it again") from None
