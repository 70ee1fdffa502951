"""The plain command on many rating tables, beside what other libraries predict on the same rows.

    python benchmarks/generality.py --ratings TABLES --ml-100k ml-100k --ml-1m ml-1m --out generality.json

`--ratings` is a folder of Parquet files with the columns user_id, item_id, rating and test (true for test rows);
`--ml-100k` and `--ml-1m` are dataset folders of `cinefuse data import movielens`. Every table is trained by
`cinefuse.train` as it is, without an embedding file. Rivals: biases, item-kNN, biased matrix factorisation and SVD++ of
scikit-surprise with its own defaults, and myFM. Needs `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import MyFM, Ratings
from measure import describe_machine, heading, most_resident, table

import cinefuse
from cinefuse.data.runtime.errors import CinefuseError
from cinefuse.fuse.evaluation.metrics import mae, paired_difference, rmse
from cinefuse.fuse.inputs.join import Joined, join

PUBLISHED = {
    "flixster": "GC-MC .917, IGMC .872",
    "yahoo_music": "GC-MC 20.5, IGMC 19.1",
    "ml-100k u1": "GLocal-K .8889, myFM with dates .8808",
    "ml-1m": "Sparse FC .824, GLocal-K .8227, myFM with dates .8140",
}
OURS = "cinefuse"


@dataclass(frozen=True)
class Case:
    """A dataset folder and the split it is tested on."""

    name: str
    dataset: Path
    split: str


@dataclass(frozen=True)
class Line:
    """What one model reached on one test part; ``difference`` is ours minus its RMSE, with the interval over users."""

    case: str
    model: str
    test_ratings: int
    rmse: float
    mae: float
    seconds: float
    peak_bytes: float
    difference: tuple[float, float, float] | None = None

    @property
    def verdict(self) -> str:
        """Of ours against this model: a win or a loss where the interval leaves out 0."""
        if self.difference is None:
            return ""
        _, low, high = self.difference
        return "win" if high < 0 else "loss" if low > 0 else "draw"


def cases(options: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """Every test part of the options, the small ones first; tables are imported as a user would import them."""
    for file in sorted(options.ratings.glob("*.parquet")) if options.ratings else ():
        dataset = folder / f"dataset-{file.stem}"
        words = ["data", "import", "table", str(dataset), "--ratings", str(file)]
        subprocess.run([sys.executable, "-m", "cinefuse", *words], check=True, stdout=subprocess.DEVNULL)
        yield Case(file.stem, dataset, "column:test")
    if options.ml_100k:
        for fold in ("u1",) if options.quick else ("u1", "u2", "u3", "u4", "u5"):
            yield Case(f"ml-100k {fold}", options.ml_100k, fold)
    if options.ml_1m and not options.quick:
        yield Case("ml-1m", options.ml_1m, "random:0.1")


def surprise_model(name: str) -> Any:
    """A model of scikit-surprise with its own defaults, or those of its documentation's example for item-kNN."""
    import surprise

    if name == "item-kNN":
        similarity = {"name": "pearson_baseline", "user_based": False}
        return surprise.KNNBaseline(k=40, sim_options=similarity, verbose=False, bsl_options={"verbose": False})
    if name == "biases":
        return surprise.BaselineOnly(verbose=False)
    return {"biased MF": surprise.SVD, "SVD++": surprise.SVDpp}[name](random_state=0)


def by_surprise(name: str, train: Ratings, test: Ratings) -> np.ndarray:
    """(R,) what a model of scikit-surprise predicts for the test ratings."""
    import pandas
    import surprise

    rows = pandas.DataFrame({"user": train.user, "item": train.item, "rating": train.rating.astype(np.float64)})
    reader = surprise.Reader(rating_scale=(float(train.rating.min()), float(train.rating.max())))
    model = surprise_model(name)
    with contextlib.redirect_stdout(None):
        model.fit(surprise.Dataset.load_from_df(rows, reader).build_full_trainset())
    pairs = zip(test.user.tolist(), test.item.tolist(), strict=True)
    return np.array([model.predict(user, item).est for user, item in pairs])


def rivals(dataset: Path, joined: Joined) -> dict[str, Callable[[Ratings, Ratings], np.ndarray]]:
    """Each rival by name: from training and test ratings to (R,) predictions."""
    named: dict[str, Callable[[Ratings, Ratings], np.ndarray]] = {
        name: lambda train, test, name=name: by_surprise(name, train, test)  # type: ignore[misc]
        for name in ("biases", "item-kNN", "biased MF", "SVD++")
    }
    return named | {
        "myFM": lambda train, test: MyFM(dataset, joined, train).predict(
            test, rank=10, iterations=200, burn_in=5, seed=0
        )
    }


def compare(case: Case, folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    """A line for ours, then one a rival, on the same training and test ratings."""
    with measured() as ours:
        run = cinefuse.train(case.dataset, None, folder / case.name.replace(" ", "-"), split=case.split)
    joined = join(case.dataset, None)
    test = Ratings.at(joined, run.split.test)
    train = Ratings.at(joined, np.sort(np.concatenate([run.split.train, run.split.validation])))

    def line(
        model: str, prediction: np.ndarray, cost: list[float], difference: tuple[float, float, float] | None = None
    ) -> Line:
        seconds, peak = cost
        errors = rmse(test.rating, prediction), mae(test.rating, prediction)
        return Line(case.name, model, len(test.rating), *errors, seconds, peak, difference)

    our_prediction = run.recommender.pair_ratings(test.user, test.item)
    yield line(OURS, our_prediction, ours)
    for name, predict in rivals(case.dataset, joined).items():
        if name in options.skip:
            continue
        with measured() as cost:
            prediction = predict(train, test)
        difference = paired_difference(test.rating, our_prediction, prediction, test.user)
        yield line(name, prediction, cost, (difference.value, difference.low, difference.high))


@contextlib.contextmanager
def measured() -> Iterator[list[float]]:
    """Seconds of the block, and the most bytes that the process had in memory meanwhile."""
    figures: list[float] = []
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the highest mark
    began = time.perf_counter()
    yield figures
    figures += [time.perf_counter() - began, most_resident()]


def show(lines: list[Line]) -> None:
    """One table: a row a test part, a column a model, and how ours fares against the five."""
    models = list(dict.fromkeys(line.model for line in lines))
    heading(
        "RMSE on the same rows; in brackets ours against it: w(in), d(raw) or l(oss) by the 95 % interval over users"
    )
    rows = []
    for case in dict.fromkeys(line.case for line in lines):
        of = {line.model: line for line in lines if line.case == case}
        cells = [
            f"{of[m].rmse:.4f}{f' ({of[m].verdict[0]})' if of[m].verdict else ''}" if m in of else "" for m in models
        ]
        rows.append([case, *cells, PUBLISHED.get(case, "")])
    table(["", *models, "published"], rows)
    verdicts = [line.verdict for line in lines if line.verdict]
    print(", ".join(f"{verdicts.count(word)} {word}" for word in ("win", "draw", "loss")))
    heading("MAE, seconds and peak memory")
    table(
        ["", "model", "MAE", "s", "GB"],
        [[x.case, x.model, f"{x.mae:.4f}", f"{x.seconds:.0f}", f"{x.peak_bytes / 1e9:.2f}"] for x in lines],
    )


def main() -> None:
    """Compare on every case, write the JSON after each line, and print the tables."""
    options = _options()
    describe_machine(["torch", "scikit-surprise", "myfm", "numpy"])
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="cinefuse-generality-", dir=options.folder) as folder:
        for case in cases(options, Path(folder)):
            if options.only and case.name not in options.only:
                continue
            for line in compare(case, Path(folder), options):
                lines.append(line)
                print(f"{line.case}  {line.model}  {line.rmse:.4f}  {line.seconds:.0f} s", file=sys.stderr, flush=True)
                if options.out:
                    options.out.write_text(
                        json.dumps([asdict(one) | {"verdict": one.verdict} for one in lines], indent=1)
                    )
    show(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=Path, help="folder of Parquet tables with user_id, item_id, rating, test")
    parser.add_argument("--ml-100k", type=Path, help="dataset folder of MovieLens 100K")
    parser.add_argument("--ml-1m", type=Path, help="dataset folder of MovieLens 1M")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these alone: flixster, ml-100k u1, ...")
    parser.add_argument("--skip", nargs="+", default=[], metavar="RIVAL", help="rivals to leave out: SVD++, myFM, ...")
    parser.add_argument("--quick", action="store_true", help="u1 alone of MovieLens 100K, and no MovieLens 1M")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the runs are written")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except CinefuseError as fault:
        raise SystemExit(str(fault)) from None
