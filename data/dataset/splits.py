"""Cutting ratings into train, validation and test, by the row numbers (from 0) of a dataset's `ratings.parquet`."""

from __future__ import annotations

import difflib
import io
import math
import re
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..runtime.disk import put_in_place, writing
from ..runtime.errors import BadInput, UsageError
from ..tables.delimited import ROW, scan_text
from .boolean_columns import boolean_columns_of
from .folder import Description

if TYPE_CHECKING:
    from collections.abc import Iterator

Rows = npt.NDArray[np.int64]
# Takes rows (ascending), the share asked for and a generator; gives those of the rows that are held out.
HoldOut = Callable[[Rows, float, np.random.Generator], Rows]

PARTS = ("train", "validation", "test")
FORMS = (
    "an official fold such as u1, random:0.1, kfold:5/2, temporal:0.1, user-temporal:0.1, "
    "cold-items:0.1, cold-users:0.1, column:NAME, file:PATH or all"
)
_MOST_ROWS = 2**32  # of a table whose row numbers are UInt32
_SHARES = ("random", "temporal", "user-temporal", "cold-items", "cold-users")
_WORDS = (*_SHARES, "kfold", "column", "file", "all")


@dataclass(frozen=True, eq=False)
class Split:
    """The three parts of a split; a row of `ratings.parquet` is in one of them at most.

    ``name`` is the spec as asked. ``train``, ``validation`` and ``test`` are (n,) int64, ascending; only
    ``validation`` may be empty, and ``test`` where the spec was "all".
    """

    name: str
    seed: int
    train: Rows
    validation: Rows
    test: Rows

    def within(self, kept: npt.NDArray[np.bool_]) -> Split:
        """The same split without the rows that a join dropped; row numbers stay those of `ratings.parquet`.

        ``kept`` is (rows of `ratings.parquet`,) bool. BadInput where nothing is left of the train or test part.
        """
        if kept.dtype != np.bool_ or kept.ndim != 1:
            raise ValueError(f"kept must be one truth value a rating, found {kept.dtype} of shape {kept.shape}")
        parts = {part: getattr(self, part)[kept[getattr(self, part)]] for part in PARTS}
        for part in ("train", "test"):
            if not parts[part].size and getattr(self, part).size:
                raise BadInput(
                    f"split {self.name}: none of the {getattr(self, part).size:,} ratings of its {part} part is left "
                    "after the join; check that the ratings and the embeddings are of the same films"
                )
        return replace(self, **parts)

    def save(self, file: Path) -> None:
        """Write Parquet, all or nothing: row (UInt32, ascending) and part (Enum, text to other readers), name and seed.

        Name and seed stand in the file's metadata. NoSpace or BadInput where the disk refuses.
        """
        named = [
            pl.DataFrame({"row": getattr(self, part).astype(np.uint32)}).with_columns(part=pl.lit(part, pl.Enum(PARTS)))
            for part in PARTS
        ]
        content = io.BytesIO()
        about = {"split": self.name, "seed": str(self.seed)}
        pl.concat(named).sort("row").write_parquet(content, compression="zstd", metadata=about)
        with writing(file), tempfile.TemporaryDirectory(prefix=f".{file.name}.new-", dir=file.parent) as place:
            temporary = Path(place) / file.name
            temporary.write_bytes(content.getbuffer())
            put_in_place(temporary, file)

    @classmethod
    def load(cls, file: Path) -> Split:
        """Read what `save` wrote; BadInput where the file is missing, unreadable or no saved split."""
        with _readable(file):
            about = pl.read_parquet_metadata(file)
            if not {"split", "seed"} <= about.keys():
                raise BadInput(f"{file} is no saved split (it names no split and seed): save the split again")
            name, seed = about["split"], int(about["seed"])
            listed = pl.read_parquet(file, columns=["row", "part"])
        return cls(name, seed, **_parts_in(listed, _MOST_ROWS, file))


def split_ratings(dataset: Path, spec: str, *, seed: int = 0, validation: float = 0.1, draw: int = 0) -> Split:
    """Cut the ratings of a dataset folder as ``spec`` says, reading no more of their columns than that needs.

    The test part, for n ratings, films or users:

    - ``u1`` (any file of `splits/`): the official one.
    - ``random:S``: the first int(n S) of ``numpy.random.default_rng(seed).permutation(n)``.
    - ``kfold:K/F``: part F (from 1) of K of that permutation, their sizes at most 1 apart.
    - ``temporal:S``: the int(n S) latest ratings; of equally old ones (no timestamp: oldest) the later rows.
    - ``user-temporal:S``: floor(n S + 1/2) latest ratings of each user's n, but never all of them.
    - ``cold-items:S``, ``cold-users:S``: all ratings of the first int(n S) of a permutation of the rated films or the
      users, in the order of their ids.
    - ``column:NAME``: the rows where a boolean column of `ratings.parquet` is true.
    - ``file:PATH``: the rows in column ``row`` of .parquet or .csv, or in .npy, or one a line in .txt.
    - ``all``: none.

    The validation part holds the share ``validation`` (0: none) out of what is not test: its last ratings where the
    split is temporal, some of its films or users where it is cold, else ratings at random. Where a file has a column
    ``part``, all three parts are the file's own. Test and validation are drawn independently, each from ``seed``;
    ``draw`` (from 0) numbers the ways to draw the validation part of one and the same test part.

    UsageError: a malformed spec, a fold or a column that does not exist, a share outside (0, 1), a negative seed.
    BadInput: no dataset folder, no timestamps where they are needed, row numbers that are none or given twice, an empty
    train or test part.
    """
    if seed < 0:
        raise UsageError(f"seed {seed}: expected 0 or more, for instance 0")
    if not 0 <= validation < 1:
        raise UsageError(f"validation share {validation:g}: expected a share from 0 to below 1, for instance 0.1")
    Description.read(dataset)
    ratings = _Ratings(dataset / "ratings.parquet")
    asked = _Asked.parse(spec, _official_folds(dataset))
    rows = np.arange(ratings.count(), dtype=np.int64)
    hold_out = ratings.way_to_hold_out(asked.kind)
    marked = ratings.marked(asked) if asked.kind == "column" else None
    parts = _cut(asked, rows, hold_out, np.random.default_rng(seed), marked)
    _refuse_empty(parts, asked, rows.size)
    if "validation" not in parts:
        # A child of the seed: numbers that have nothing to do with those that drew the test part.
        child = np.random.default_rng(np.random.SeedSequence(seed).spawn(draw + 1)[draw])
        held = hold_out(parts["train"], validation, child) if validation else _none()
        parts |= {"validation": np.sort(held), "train": _without(parts["train"], held)}
    return Split(spec, seed, parts["train"], parts["validation"], parts["test"])


def _none() -> Rows:
    return np.empty(0, dtype=np.int64)


def _without(rows: Rows, held: Rows) -> Rows:
    return np.setdiff1d(rows, held, assume_unique=True)


def _official_folds(dataset: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted((dataset / "splits").glob("*.parquet"))}


@dataclass(frozen=True)
class _Asked:
    """A spec, understood. ``kind`` is "fold" or one of the words; the rest is set where the kind has it."""

    spec: str
    kind: str
    share: float = 0.0
    fold: int = 0
    folds: int = 0
    file: Path = Path()
    column: str = ""

    @classmethod
    def parse(cls, spec: str, official: dict[str, Path]) -> _Asked:
        word, colon, value = spec.partition(":")
        if not colon and spec in official:
            return cls(spec, "fold", file=official[spec])
        if spec == "all":
            return cls(spec, "all")
        if colon and word in _SHARES:
            return cls(spec, word, share=_share(spec, word, value))
        if colon and word == "kfold":
            fold, folds = _fold_of(spec, value)
            return cls(spec, word, fold=fold, folds=folds)
        if word == "file" and value:
            return cls(spec, word, file=Path(value))
        if word == "column" and value:
            return cls(spec, word, column=value)
        raise UsageError(_unknown(spec, word, bool(colon), list(official)))


def _unknown(spec: str, word: str, colon: bool, official: list[str]) -> str:
    if colon or not spec or spec in _WORDS:
        near = difflib.get_close_matches(word, _WORDS, n=1) if word not in _WORDS else []
        hint = f" (did you mean {near[0]}:…?)" if near else ""
        return f"split {spec!r} is malformed{hint}: expected {FORMS}"
    near = difflib.get_close_matches(spec, [*official, *_WORDS], n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]}?)" if near else ""
    has = f"its official folds are {', '.join(official)}" if official else "it has no official folds"
    return f"split {spec!r}: the dataset has no such fold{hint}; {has}; expected {FORMS}"


def _share(spec: str, word: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise UsageError(f"split {spec!r}: expected a share between 0 and 1, found {value!r}; for instance {word}:0.1")
    return share


def _fold_of(spec: str, value: str) -> tuple[int, int]:
    numbers = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", value)
    folds, fold = (int(number) for number in numbers.groups()) if numbers else (0, 0)
    if folds < 2 or not 1 <= fold <= folds:
        raise UsageError(
            f"split {spec!r}: expected kfold:FOLDS/FOLD with at least 2 folds and a fold from 1 to their number, "
            f"found {value!r}; for instance kfold:5/2"
        )
    return fold, folds


def _cut(
    asked: _Asked, rows: Rows, hold_out: HoldOut, draw: np.random.Generator, marked: Rows | None
) -> dict[str, Rows]:
    """Train and test part; and validation where a file gives it. ``marked``: the test part that a column gives."""
    if asked.kind in ("fold", "file"):
        listed = _listed(asked.file)
        if "part" not in listed.columns:
            test = _row_numbers(listed["row"], rows.size, asked.file)
            return {"train": _without(rows, test), "test": np.sort(test)}
        parts = _parts_in(listed, rows.size, asked.file)
        return {part: parts[part] for part in PARTS if part != "validation" or asked.kind == "file"}
    if asked.kind == "kfold":
        test = _nth_fold(draw.permutation(rows.size), asked.fold, asked.folds)
    elif asked.kind == "all":
        test = _none()
    elif marked is not None:
        test = marked
    else:
        test = hold_out(rows, asked.share, draw)
    return {"train": _without(rows, test), "test": np.sort(test)}


def _nth_fold(order: Rows, fold: int, folds: int) -> Rows:
    size, longer = divmod(order.size, folds)
    first, last = (before * size + min(before, longer) for before in (fold - 1, fold))
    return order[first:last]


_ADVICE = {
    "fold": "import the dataset again",
    "file": "correct the file",
    "column": "expected a column that is true in some rows and false in others",
    "kfold": "ask for fewer folds, or import more ratings",
    "all": "import a dataset with ratings",
}


def _refuse_empty(parts: dict[str, Rows], asked: _Asked, ratings: int) -> None:
    for part in ("train", "test"):
        if not parts[part].size and not (part == "test" and asked.kind == "all"):
            advice = _ADVICE.get(asked.kind, "ask for a larger share, or import more ratings")
            raise BadInput(f"split {asked.spec} of {ratings:,} ratings: its {part} part is empty; {advice}")


def _at_random(rows: Rows, share: float, draw: np.random.Generator) -> Rows:
    return rows[draw.permutation(rows.size)[: int(rows.size * share)]]


def _latest(times: Rows, rows: Rows, share: float, _: np.random.Generator) -> Rows:
    order = np.argsort(times[rows], kind="stable")
    return rows[order[rows.size - int(rows.size * share) :]]


def _latest_of_each(
    users: npt.NDArray[np.uint32], times: Rows, rows: Rows, share: float, _: np.random.Generator
) -> Rows:
    order = np.lexsort((times[rows], users[rows]))
    _users, first, given = np.unique(users[rows[order]], return_index=True, return_counts=True)
    held = np.minimum(np.floor(given * share + 0.5).astype(np.int64), given - 1)
    place = np.arange(rows.size) - np.repeat(first, given)
    return rows[order[place >= np.repeat(given - held, given)]]


def _whole_groups(groups: npt.NDArray[np.uint32], rows: Rows, share: float, draw: np.random.Generator) -> Rows:
    present = np.unique(groups[rows])
    chosen = present[draw.permutation(present.size)[: int(present.size * share)]]
    return rows[np.isin(groups[rows], chosen)]


@dataclass(frozen=True)
class _Ratings:
    """A `ratings.parquet`, of which only the columns asked for are ever read."""

    file: Path

    def count(self) -> int:
        with _readable(self.file):
            return int(pl.scan_parquet(self.file).select(pl.len()).collect().item())

    def way_to_hold_out(self, kind: str) -> HoldOut:
        """How a split of this kind takes rows away, from all of them and again from its training part."""
        if kind == "temporal":
            return partial(_latest, self._times(kind))
        if kind == "user-temporal":
            return partial(_latest_of_each, self._groups("user_id"), self._times(kind))
        if kind in ("cold-items", "cold-users"):
            return partial(_whole_groups, self._groups("item_id" if kind == "cold-items" else "user_id"))
        return _at_random

    def marked(self, asked: _Asked) -> Rows:
        """The rows where the column that is asked for is true."""
        with _readable(self.file):
            known = boolean_columns_of(self.file)
        if asked.column not in known:
            has = f"its boolean columns are {', '.join(known)}" if known else "it has no boolean column"
            near = difflib.get_close_matches(asked.column, known, n=1, cutoff=0.4)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UsageError(
                f"split {asked.spec!r}: {self.file} has no boolean column {asked.column!r}{hint}; {has}; an import "
                "keeps a column of true and false, or of 0 and 1, that is filled in every row"
            )
        values = self._column(asked.column)
        if values.null_count():
            raise BadInput(f"{self.file}, column {asked.column}: {values.null_count():,} rows are empty; fill them in")
        return np.flatnonzero(values.to_numpy())

    def _times(self, kind: str) -> Rows:
        """Timestamps (rows,); those not given lie before all others."""
        with _readable(self.file):
            dtype = pl.read_parquet_schema(self.file).get("timestamp")
        if dtype is not None and dtype != pl.Int64:
            raise BadInput(f"{self.file}: its timestamp must be Int64, found {dtype}: import the dataset again")
        times = None if dtype is None else self._column("timestamp")
        if times is None or (len(times) and times.null_count() == len(times)):
            raise BadInput(
                f"{self.file} has no timestamps, which a {kind} split needs: import ratings with a column timestamp, "
                "or ask for random:0.1"
            )
        return times.fill_null(np.iinfo(np.int64).min).to_numpy()

    def _groups(self, column: str) -> npt.NDArray[np.uint32]:
        """(rows,): for each rating the place of its film or user in the order of their ids."""
        ids = self._column(column)
        if ids.null_count():
            raise BadInput(f"{self.file} has ratings without {column}: import the dataset again")
        return ids.rank("dense").cast(pl.UInt32).to_numpy()

    def _column(self, name: str) -> pl.Series:
        with _readable(self.file):
            return pl.read_parquet(self.file, columns=[name])[name]


def _parts_in(listed: pl.DataFrame, ratings: int, file: Path) -> dict[str, Rows]:
    """The row numbers of each part, ascending; BadInput where a part is none of the three."""
    rows = _row_numbers(listed["row"], ratings, file)
    with _readable(file):
        named = listed["part"].cast(pl.String)
    if strange := named.filter(~named.is_in(PARTS).fill_null(False)).unique(maintain_order=True).to_list():
        raise BadInput(f"{file}: a part must be train, validation or test, found {_shown(strange)}; correct the file")
    return {part: np.sort(rows[(named == part).to_numpy()]) for part in PARTS}


def _listed(file: Path) -> pl.DataFrame:
    """Columns row and perhaps part, of whatever type the file has."""
    with _readable(file):
        if file.suffix == ".npy":
            return pl.DataFrame({"row": _array(file)})
        if file.suffix == ".txt":
            return scan_text(file, ",", ["row"]).select("row").collect()
        if file.suffix == ".csv":
            frame = scan_text(file, ",")
        elif file.suffix == ".parquet":
            frame = pl.scan_parquet(file)
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


def _row_numbers(given: pl.Series, ratings: int, file: Path) -> Rows:
    """(n,) int64, in the order of the file; BadInput naming those that are no row number, or are given twice."""
    with _readable(file):
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
def _readable(file: Path) -> Iterator[None]:
    """Turn a file that cannot be read into a refusal that names it."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except (pl.exceptions.PolarsError, OSError, ValueError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise BadInput(f"{file} cannot be read ({reason}); replace it or make it again") from None
