"""What every source of embeddings is once it is opened: items with ids, each with one vector or a matrix of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..embeddings.ids import IdArray
from ..embeddings.status import Reason, Status
from ..runtime.errors import BadInput, UsageError

NONE_AT_ALL: Final = -1  # as the length of an item: it has no vector
WIDTHS_DIFFER: Final = "the tokens are of another width than the vectors, and are left behind"
_FLOATS: Final = {"float16": "float16", "float32": "float32", "float64": "float32", "bfloat16": "bfloat16",
                  "halffloat": "float16", "float": "float32", "double": "float32"}  # fmt: skip
_WIDEST: Final = 2**20
# names of columns that hold ids, without signs between words and without an s at the end
_ID_NAMES: Final = {
    "itemid", "id", "movieid", "filmid", "asin", "parentasin", "customid", "imdbid", "tmdbid", "iid", "key", "uid",
    "productid", "bookid", "videoid", "trackid", "docid", "documentid", "imageid", "slideid", "sampleid",
}  # fmt: skip
_NUMBERED: Final = re.compile(r"(.*?)[0-9]+")
_PANDAS_INDEX: Final = "__index_level_0__"  # as a Parquet file calls an index without a name
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
_WHOLE_FLOAT: Final = re.compile(r"(-?[0-9]{1,19})\.0+")


@dataclass(frozen=True)
class Where:
    """Where ids and vectors lie in a source; None: where that kind of source usually has them."""

    ids: Path | None = None
    offsets: Path | None = None
    id_column: str | None = None
    column: str | None = None
    dataset: str | None = None


@dataclass
class Vectors:
    """A source opened: N items, each with `lengths[i]` vectors of `width` values (NONE_AT_ALL: no vector).

    `matrices()` yields the vectors of each item in order, (length, width), anything of no rows where there is none.
    `single` says that every item is one vector and not a matrix; `cls` how a matrix gives the CLS, where the source
    itself says so; `states` the status and reason of items without a vector; `notes` what a person should know.
    """

    ids: IdArray
    lengths: npt.NDArray[np.int64]
    width: int
    dtype: str
    single: bool
    matrices: Callable[[], Iterator[npt.NDArray[Any]]]
    cls: str | None = None
    states: dict[int, tuple[Status, Reason]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def float_dtype(name: str, source: object) -> str:
    """The storage dtype for values of the dtype `name`; float64 becomes float32. Raises BadInput for no floats."""
    if name not in _FLOATS:
        raise BadInput(f"{source}: expected floating-point numbers, found {name}")
    return _FLOATS[name]


def checked_width(width: int, source: object) -> int:
    """`width` where it can be that of an embedding. Raises BadInput."""
    if not 1 <= width <= _WIDEST:
        raise BadInput(f"{source}: expected embeddings of 1 to {_WIDEST:,} values, found {width:,}")
    return width


def numbers_if_all(ids: Sequence[str]) -> IdArray:
    """Ids read as text: int64 where every one is a whole number as a program writes it (no leading zeros), else str.

    Whole numbers that a spreadsheet or pandas made floats ("862.0") count as whole.

    >>> numbers_if_all(["10", "2"]).tolist(), numbers_if_all(["10", "02"]).tolist()
    ([10, 2], ['10', '02'])
    """
    texts = [match[1] if (match := _WHOLE_FLOAT.fullmatch(text)) else text for text in ids]
    if all(_NUMBER.fullmatch(text) and str(int(text)) == text and abs(int(text)) < 2**63 for text in texts):
        return np.array([int(text) for text in texts], np.int64)
    return np.array(list(ids), object)


def value_columns(names: Sequence[str], source: object) -> tuple[list[str], tuple[str, ...]]:
    """Those of the columns that are numbered values of a vector (e0, e1, ...), and a note on the others.

    All of them where none is numbered. Raises UsageError where several runs of numbers could be the vector.
    """
    runs: dict[str, list[str]] = {}
    for name in names:
        if found := _NUMBERED.fullmatch(name.strip()):
            runs.setdefault(found[1], []).append(name)
    long = {stem: run for stem, run in runs.items() if len(run) > 1}
    if len(long) > 1:
        shown = ", ".join(f"{run[0]} to {run[-1]}" for run in long.values())
        raise UsageError(
            f"{source}: several runs of columns are numbered ({shown}); keep the vector's alone beside the ids"
        )
    values = next(iter(long.values()), list(names))
    others = [name for name in names if name not in values]
    note = f"columns that are not numbered as {values[0]} to {values[-1]} are no values: {', '.join(others[:5])}"
    return values, (note,) if others else ()


def in_order(names: Sequence[str]) -> list[str]:
    """Names sorted as numbers where all are numbers, else as text: 1, 2, 10."""
    return sorted(names, key=int) if all(_NUMBER.fullmatch(name) for name in names) else sorted(names)


def is_known(name: str) -> bool:
    """Whether a column of this name holds ids as far as names go."""
    return _plain(name) in _ID_NAMES or name == _PANDAS_INDEX


def known_column(names: list[str], path: object) -> str:
    """The one of `names` that holds ids. Raises UsageError, naming all, where none or several could."""
    found = [name for name in names if is_known(name)]
    found = [name for name in found if name != _PANDAS_INDEX] or found
    exact = [name for name in found if _plain(name) == "itemid"]
    if len(found) != 1 and len(exact) != 1:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise UsageError(f"{path}: name the column of ids with --id-column: {shown}")
    return (exact or found)[0]


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "").replace("-", "").replace(" ", "").removesuffix("s")
