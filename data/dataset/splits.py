"""Cutting ratings into train, validation and test, by the row numbers (from 0) of a dataset's `ratings.parquet`."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ..runtime.disk import put_in_place, writing
from ..runtime.errors import BadInput, UsageError
from ..runtime.parquet import read_parquet
from ..splitting.hold_out import HoldOut, RatingColumns
from ..splitting.row_files import PARTS, Rows, listed_rows, parts_in, readable, row_numbers
from ..splitting.specs import SplitSpec
from .folder import Description

__all__ = ["PARTS", "Split", "split_ratings"]

_MOST_ROWS = 2**32  # of a table whose row numbers are UInt32


@dataclass(frozen=True, eq=False)
class Split:
    """The three parts of a split; a row of `ratings.parquet` is in one of them at most.

    ``name`` is the spec as given. ``train``, ``validation`` and ``test`` are (n,) int64, ascending; only
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
        with readable(file):
            about = pl.read_parquet_metadata(file)
            if not {"split", "seed"} <= about.keys():
                raise BadInput(f"{file} is no saved split (it names no split and seed): save the split again")
            name, seed = about["split"], int(about["seed"])
            listed = read_parquet(file, columns=["row", "part"])
        return cls(name, seed, **parts_in(listed, _MOST_ROWS, file))


def split_ratings(dataset: Path, spec: str, *, seed: int = 0, validation: float = 0.1, draw: int = 0) -> Split:
    """Cut the ratings of a dataset folder as ``spec`` says, reading no more of their columns than that needs.

    The test part, for n ratings, films or users:

    - ``u1`` (any file of `splits/`): the official one.
    - ``random:S``: the first int(n S) of ``numpy.random.default_rng(seed).permutation(n)``.
    - ``kfold:K/F``: part F (from 1) of K of that permutation, their sizes at most 1 apart.
    - ``temporal:S``: the int(n S) latest ratings; of equally old ones (no timestamp: oldest) the later rows.
    - ``user-temporal:S``: floor(n S + 1/2) latest ratings of each user's n, but never all of them.
    - ``leave-one-out``: the latest rating of each user, of equally old ones the later row; one at random where no
      rating has a timestamp. Who has one rating only keeps it.
    - ``cold-items:S``, ``cold-users:S``: all ratings of the first int(n S) of a permutation of the rated films or the
      users, in the order of their ids.
    - ``column:NAME``: the rows where a boolean column of `ratings.parquet` is true.
    - ``file:PATH``: the rows in column ``row`` of .parquet or .csv, or in .npy, or one a line in .txt.
    - ``all``: none.

    The validation part holds the share ``validation`` (0: none) out of what is not test: its last ratings where the
    split is temporal, one rating more of each user where one is left out, some of its films or users where it is cold,
    else ratings at random. Where a file has a column
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
    ratings = RatingColumns(dataset / "ratings.parquet")
    parsed = SplitSpec.parse(spec, _official_folds(dataset))
    rows = np.arange(ratings.count(), dtype=np.int64)
    hold_out = ratings.way_to_hold_out(parsed.kind)
    marked = ratings.marked(parsed) if parsed.kind == "column" else None
    parts = _cut(parsed, rows, hold_out, np.random.default_rng(seed), marked)
    _refuse_empty(parts, parsed, rows.size)
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


def _cut(
    spec: SplitSpec, rows: Rows, hold_out: HoldOut, draw: np.random.Generator, marked: Rows | None
) -> dict[str, Rows]:
    """Train and test part; and validation where a file gives it. ``marked``: the test part that a column gives."""
    if spec.kind in ("fold", "file"):
        listed = listed_rows(spec.file)
        if "part" not in listed.columns:
            test = row_numbers(listed["row"], rows.size, spec.file)
            return {"train": _without(rows, test), "test": np.sort(test)}
        parts = parts_in(listed, rows.size, spec.file)
        return {part: parts[part] for part in PARTS if part != "validation" or spec.kind == "file"}
    if spec.kind == "kfold":
        test = _nth_fold(draw.permutation(rows.size), spec.fold, spec.folds)
    elif spec.kind == "all":
        test = _none()
    elif marked is not None:
        test = marked
    else:
        test = hold_out(rows, spec.share, draw)
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


def _refuse_empty(parts: dict[str, Rows], spec: SplitSpec, ratings: int) -> None:
    for part in ("train", "test"):
        if not parts[part].size and not (part == "test" and spec.kind == "all"):
            advice = _ADVICE.get(spec.kind, "ask for a larger share, import more ratings, or train on all: --split all")
            raise BadInput(f"split {spec.text} of {ratings:,} ratings: its {part} part is empty; {advice}")
