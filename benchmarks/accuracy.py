"""RMSE of the preset `best` beside myFM's, on the same rows of the same splits.

    python benchmarks/accuracy.py ml-100k ml-100k.h5 --split u1 u2 u3 u4 u5 --out folds.csv
    python benchmarks/accuracy.py ml-1m ml-1m.h5 --split random:0.1 --rank 20 --iterations 120

Needs `pip install -e '.[bench]'`. myFM (Bayesian factorisation machine, Gibbs sampling) gets ids, who rated what on
both sides, genres, years, tags and demographics; no dates, no plots, no posters. Both learn from all ratings that are
not in the test part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measure import describe_machine, heading, table
from torch import Tensor

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.runtime.errors import CinefuseError
from cinefuse.fuse.evaluation.metrics import Interval, paired_difference, rmse
from cinefuse.fuse.inputs.join import Joined, join
from cinefuse.fuse.inputs.side_information import item_features, user_features
from cinefuse.fuse.inputs.tags import ItemTags
from cinefuse.fuse.inputs.training_data import places_of
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.settings.presets import preset


@dataclass(frozen=True, eq=False)
class Ratings:
    """R ratings by number: user and film (R,) int32, rating (R,) float32."""

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray

    @classmethod
    def at(cls, joined: Joined, rows: np.ndarray) -> Ratings:
        """The ratings in these rows of `ratings.parquet`."""
        places = places_of(joined, rows)
        return cls(joined.user[places], joined.item[places], joined.rating[places])


@dataclass(frozen=True, eq=False)
class Predicted:
    """The same R test ratings as both predicted them, and the seconds each took to train and predict."""

    user: np.ndarray
    rating: np.ndarray
    ours: np.ndarray
    myfm: np.ndarray
    our_seconds: float
    myfm_seconds: float

    def difference(self) -> Interval:
        """RMSE of ours minus myFM's; below 0 ours is better. Whole users are drawn."""
        return paired_difference(self.rating, self.ours, self.myfm, self.user)

    @classmethod
    def pooled(cls, parts: Sequence[Predicted]) -> Predicted:
        """All test ratings of several folds and seeds as one."""
        user, rating, ours, myfm = (np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)[:4])
        return cls(user, rating, ours, myfm, sum(p.our_seconds for p in parts), sum(p.myfm_seconds for p in parts))


@dataclass(frozen=True)
class Line:
    """One line of the table and of the CSV."""

    split: str
    seed: int | None
    test_ratings: int
    ours: float
    myfm: float
    difference: float
    low: float
    high: float
    our_seconds: float
    myfm_seconds: float

    @classmethod
    def of(cls, split: str, seed: int, predicted: Predicted) -> Line:
        """The figures of one fold."""
        difference = predicted.difference()
        return cls(
            split,
            seed,
            len(predicted.rating),
            rmse(predicted.rating, predicted.ours),
            rmse(predicted.rating, predicted.myfm),
            difference.value,
            difference.low,
            difference.high,
            predicted.our_seconds,
            predicted.myfm_seconds,
        )

    @classmethod
    def mean(cls, lines: Sequence[Line], pooled: Predicted) -> Line:
        """Means over folds and seeds; the difference and its interval are those of all their ratings together."""
        ours, myfm, our_seconds, myfm_seconds = (
            float(np.mean([getattr(line, name) for line in lines]))
            for name in ("ours", "myfm", "our_seconds", "myfm_seconds")
        )
        difference, low, high = astuple(pooled.difference())
        return cls("mean", None, len(pooled.rating), ours, myfm, difference, low, high, our_seconds, myfm_seconds)

    def cells(self) -> list[str]:
        """For Markdown."""
        return [
            self.split,
            "" if self.seed is None else str(self.seed),
            f"{self.test_ratings:,}",
            f"{self.ours:.4f}",
            f"{self.myfm:.4f}",
            f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]",
            f"{self.our_seconds:,.0f}",
            f"{self.myfm_seconds:,.0f}",
        ]


class MyFM:
    """myFM over two relation blocks: what is known of a user, and of a film, each with who rated what in training.

    It reads what `best` reads but for plots and posters: demographics, genres, years, tags.

    A set of rated films, or of raters, has length 1 whatever its size: each of n members weighs n ** -0.5.
    """

    def __init__(self, dataset: Path, joined: Joined, train: Ratings) -> None:
        from scipy import sparse

        users, items = len(joined.user_ids), len(joined.item_ids)
        seen = sparse.csr_matrix(
            (np.ones(len(train.user)), (train.user.astype(np.int64), train.item.astype(np.int64))), (users, items)
        )
        catalog = Catalog.open(dataset).items
        tags = ItemTags.read(catalog).of_items.matrix
        user_parts = [sparse.identity(users), _of_length_one(seen), user_features(dataset, joined.user_ids)]
        item_parts = [sparse.identity(items), _of_length_one(seen.T), item_features(catalog), _as_scipy(tags)]
        parts = [[part for part in side if part.shape[1]] for side in (user_parts, item_parts)]
        self._user, self._item = (sparse.hstack(side, format="csr", dtype=np.float64) for side in parts)
        self._groups = [part.shape[1] for side in parts for part in side]
        self._train = train

    def predict(self, test: Ratings, *, rank: int, iterations: int, burn_in: int, seed: int) -> np.ndarray:
        """Fit by `iterations` Gibbs samples, the first `burn_in` left out, and predict (R,) within the scale."""
        fitted = _myfm().MyFMRegressor(rank=rank, random_seed=seed)
        fitted.fit(
            self._no_columns(self._train),
            self._train.rating.astype(np.float64),
            X_rel=self._blocks(self._train),
            group_shapes=self._groups,
            n_iter=iterations,
            n_kept_samples=iterations - burn_in,
        )
        found = fitted.predict(self._no_columns(test), X_rel=self._blocks(test))
        return np.clip(found, self._train.rating.min(), self._train.rating.max())

    def _blocks(self, ratings: Ratings) -> list[Any]:
        block = _myfm().RelationBlock
        return [block(ratings.user.tolist(), self._user), block(ratings.item.tolist(), self._item)]

    @staticmethod
    def _no_columns(ratings: Ratings) -> Any:
        from scipy import sparse

        return sparse.csr_matrix((len(ratings.user), 0))


def _as_scipy(matrix: Tensor) -> Any:
    from scipy import sparse

    parts = (matrix.values(), matrix.col_indices(), matrix.crow_indices())
    return sparse.csr_matrix(tuple(part.numpy() for part in parts), tuple(matrix.shape))


def _of_length_one(members: Any) -> Any:
    from scipy import sparse

    return sparse.diags(np.maximum(np.asarray(members.sum(1)).ravel(), 1) ** -0.5) @ members


def _myfm() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks setuptools for its own version in a deprecated way
            import myfm
    except ImportError as fault:
        raise SystemExit(f"no myFM ({fault}): pip install -e '.[bench]', or pip install myfm 'setuptools<81'") from None
    return myfm


def compare(options: argparse.Namespace, split: str, seed: int, folder: Path) -> Predicted:
    """Train both on one split and predict its test part."""
    config = replace(_config(options), seed=seed)
    started = time.perf_counter()
    run = train(options.dataset, options.embeddings, folder, config, split=split, device=options.device)
    our_seconds = time.perf_counter() - started
    joined = join(options.dataset, None)
    test = Ratings.at(joined, run.split.test)
    known = Ratings.at(joined, np.sort(np.concatenate([run.split.train, run.split.validation])))
    ours = _ours(run, joined, test)
    started = time.perf_counter()
    theirs = MyFM(options.dataset, joined, known).predict(
        test, rank=options.rank, iterations=options.iterations, burn_in=options.burn_in, seed=seed
    )
    return Predicted(test.user, test.rating, ours, theirs, our_seconds, time.perf_counter() - started)


def _ours(run: Run, joined: Joined, test: Ratings) -> np.ndarray:
    found = run.predictions()
    given = found["user_id"].to_list(), found["item_id"].to_list()
    if given != (joined.user_ids[test.user].tolist(), joined.item_ids[test.item].tolist()):
        raise SystemExit("the run's test part is not the one of its split: the two would not be compared on one input")
    return found["prediction"].to_numpy()


def _config(options: argparse.Namespace) -> Config:
    return preset(options.preset).with_settings(options.set)


def _lines(options: argparse.Namespace, parts: list[Predicted]) -> Iterator[Line]:
    """A line for each fold and seed as it is ready; what both predicted is added to `parts`."""
    with tempfile.TemporaryDirectory(prefix="cinefuse-accuracy-", dir=options.folder) as folder:
        for seed in range(options.seeds):
            for number, split in enumerate(options.split):
                parts.append(compare(options, split, seed, Path(folder) / f"{seed}-{number}"))
                yield Line.of(split, seed, parts[-1])


def main() -> None:
    """Compare on every split and seed; print the table, and write the CSV after each line."""
    options = _options()
    _myfm()
    describe_machine(["torch", "myfm", "numpy"])
    heading(f"`best` against myFM, rank {options.rank}, {options.iterations} iterations, {options.burn_in} left out")
    lines: list[Line] = []
    parts: list[Predicted] = []
    for line in _lines(options, parts):
        lines.append(line)
        print("   ".join(line.cells()), file=sys.stderr, flush=True)
        if options.out is not None:
            pl.DataFrame(lines).write_csv(options.out)
    if len(lines) > 1:
        lines.append(Line.mean(lines, Predicted.pooled(parts)))
        if options.out is not None:
            pl.DataFrame(lines).write_csv(options.out)
    head = ["split", "seed", "test ratings", "RMSE, ours", "RMSE, myFM", "ours minus myFM", "s, ours", "s, myFM"]
    table(head, (line.cells() for line in lines))
    print("In brackets the 95 % interval over users. A random split is drawn from the seed.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder of `cinefuse import`")
    parser.add_argument("embeddings", type=Path, help="file of `cinefuse extract`")
    parser.add_argument(
        "--split", nargs="+", default=["u1"], help="u1 u2 ..., random:0.1: any that `cinefuse fuse` takes"
    )
    parser.add_argument("--rank", type=int, default=10, help="of myFM")
    parser.add_argument("--iterations", type=int, default=200, help="of myFM")
    parser.add_argument("--burn-in", type=int, default=5, help="iterations that myFM leaves out, by default as it does")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--preset", default="best", help="of ours")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting of the preset"
    )
    parser.add_argument("--device", default="auto", help="of ours: auto, cpu, cuda; myFM runs on the CPU")
    parser.add_argument("--out", type=Path, help="CSV to write")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the runs are written")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except CinefuseError as fault:
        raise SystemExit(str(fault)) from None
