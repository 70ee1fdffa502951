"""Lists of our runs beside other methods', on the same rows, in the same process, by the protocol of `evaluate`.

    python benchmarks/ranking.py runs/100k --out ranking.json
    python benchmarks/ranking.py runs/100k --grow runs/1m --embeddings ml-100k.h5
    python benchmarks/ranking.py runs/100k --quick

RUN is a finished run whose dataset is still where it was; its split gives the rows. Beside it: most popular and EASE
(ours), item-kNN and iALS (implicit), PureSVD (SciPy), Mult-VAE, RecVAE and VBPR (Cornac; VBPR with the mean embeddings
of --embeddings). Settings are chosen by NDCG@10 on the run's validation rows; then each method learns training and
validation rows and is judged on the test part once. Needs `pip install -e '.[bench]'`; what isn't installed is named.
Seconds are those of the last fit and of all lists, without the search; memory is the largest growth of the process
meanwhile. With --grow a second run, on a larger dataset, is measured too, and its cost shown as a multiple of the
first's.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import describe_machine, heading, resident, table

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import CinefuseError
from cinefuse.fuse.evaluation.baselines import History, chosen_for_ease, ease_scores, most_popular
from cinefuse.fuse.evaluation.evaluate import THIS_RUN, list_task, run_scores
from cinefuse.fuse.evaluation.item_lists import USERS_AT_ONCE, ItemLists
from cinefuse.fuse.evaluation.list_tables import difference_table, headline, quality_table
from cinefuse.fuse.evaluation.measured_lists import BlockScores, ListTask, Measured, measure
from cinefuse.fuse.evaluation.protocol import protocol_for
from cinefuse.fuse.evaluation.run_rows import Tested, history_of
from cinefuse.fuse.inputs.components import mean_tokens
from cinefuse.fuse.runs.run import Run

K = 10
Setting = dict[str, Any]
Fit = Callable[["Learned", Setting], BlockScores]


@dataclass(frozen=True, eq=False)
class Learned:
    """What a method learns from: each user's items, and a vector of every item where there is one."""

    users: int
    items: int
    lists: ItemLists
    vectors: np.ndarray | None

    def matrix(self) -> Any:
        """(U, I) ones as SciPy's compressed sparse rows."""
        import scipy.sparse

        ones = np.ones(len(self.lists.items), np.float32)
        return scipy.sparse.csr_matrix((ones, self.lists.items, self.lists.offsets), (self.users, self.items))


@dataclass(frozen=True)
class Method:
    """A method: its name, who made it, how it is fitted, and the settings that are tried; one in quick mode."""

    name: str
    source: str
    fit: Fit
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Row:
    """What is known of a method in the end."""

    method: str
    source: str
    setting: str
    ndcg: float
    low: float
    high: float
    recall: float
    coverage: float
    ours_minus_it: float | None
    ours_minus_it_low: float | None
    ours_minus_it_high: float | None
    seconds: float
    megabytes: float


def of_matrix(scores: np.ndarray) -> BlockScores:
    """Blocks of all scores (U, I)."""
    return lambda block: scores[block * USERS_AT_ONCE : (block + 1) * USERS_AT_ONCE]


def of_factors(user: np.ndarray, item: np.ndarray) -> BlockScores:
    """Blocks of the product of factors (U, D) and (I, D)."""
    return lambda block: user[block * USERS_AT_ONCE : (block + 1) * USERS_AT_ONCE] @ item.T


def item_knn(learned: Learned, setting: Setting) -> BlockScores:
    """Cosine between items, the nearest ones of each."""
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=setting["neighbours"], num_threads=torch.get_num_threads())
    matrix = learned.matrix()
    model.fit(matrix, show_progress=False)
    near = model.similarity.tocsr().astype(np.float32)
    near.setdiag(0)
    return lambda block: (matrix[block * USERS_AT_ONCE : (block + 1) * USERS_AT_ONCE] @ near).toarray()


def pure_svd(learned: Learned, setting: Setting) -> BlockScores:
    """Cremonesi et al. 2010: the largest singular vectors of the matrix of ones."""
    import scipy.sparse.linalg

    matrix = learned.matrix()
    _, _, item = scipy.sparse.linalg.svds(matrix.astype(np.float64), setting["factors"], random_state=0)
    item = item.T.astype(np.float32)
    return of_factors(matrix @ item, item)


def implicit_als(learned: Learned, setting: Setting) -> BlockScores:
    """Hu, Koren and Volinsky 2008, by conjugate gradients."""
    from implicit.als import AlternatingLeastSquares

    threads = torch.get_num_threads()
    model = AlternatingLeastSquares(**setting, iterations=15, random_state=0, num_threads=threads)
    model.fit(learned.matrix(), show_progress=False)
    return of_factors(np.asarray(model.user_factors), np.asarray(model.item_factors))


def mult_vae(learned: Learned, setting: Setting) -> BlockScores:
    """Liang et al. 2018."""
    from cornac.models import VAECF

    return cornac(VAECF(**setting, likelihood="mult", seed=0), learned)


def rec_vae(learned: Learned, setting: Setting) -> BlockScores:
    """Shenbin et al. 2020."""
    from cornac.models import RecVAE

    return cornac(RecVAE(**setting, seed=0, use_gpu=False), learned)


def vbpr(learned: Learned, setting: Setting) -> BlockScores:
    """He and McAuley 2016, with our vectors as visual features."""
    from cornac.models import VBPR

    return cornac(VBPR(**setting, seed=0, verbose=False), learned)


def cornac(model: Any, learned: Learned) -> BlockScores:
    """Fit a model of Cornac's and score all items of all users; what it has never seen comes last."""
    from cornac.data import Dataset, ImageModality

    user = np.repeat(np.arange(learned.users), np.diff(learned.lists.offsets))
    triples = [(str(u), str(i), 1.0) for u, i in zip(user.tolist(), learned.lists.items.tolist(), strict=True)]
    train = Dataset.from_uir(triples, seed=0)
    if learned.vectors is not None:
        ids = [str(item) for item in range(learned.items)]
        features = ImageModality(features=learned.vectors, ids=ids, normalized=False)
        features.build(id_map=train.iid_map)
        train.add_modalities(item_image=features)
    model.fit(train)
    scores = np.full((learned.users, learned.items), -1e9, np.float32)
    places = np.array([int(item) for item in train.iid_map])
    for name, number in train.uid_map.items():
        scores[int(name), places] = np.asarray(model.score(number), np.float32)[: len(places)]
    return of_matrix(np.nan_to_num(scores, nan=-1e9, neginf=-1e9))


METHODS = (
    Method("item-kNN", "implicit", item_knn, tuple({"neighbours": n} for n in (50, 200, 500))),
    Method("PureSVD", "SciPy", pure_svd, tuple({"factors": d} for d in (20, 50, 100))),
    Method(
        "iALS",
        "implicit",
        implicit_als,
        tuple(
            {"factors": d, "alpha": a, "regularization": r}
            for d in (32, 64)
            for a, r in ((3.0, 3.0), (3.0, 10.0), (10.0, 10.0), (10.0, 30.0))
        ),
    ),
    Method(
        "Mult-VAE",
        "Cornac",
        mult_vae,
        tuple({"k": 100, "autoencoder_structure": [300], "n_epochs": n, "beta": 0.2} for n in (40, 100)),
    ),
    Method("RecVAE", "Cornac", rec_vae, ({"hidden_dim": 300, "latent_dim": 100, "n_epochs": 20},)),
    Method("VBPR", "Cornac", vbpr, ({"k": 32, "k2": 32, "n_epochs": 20, "batch_size": 1000},)),
)


class Resident:
    """Megabytes by which the process grew at most, in a `with` block, read every 10 ms."""

    def __enter__(self) -> Resident:
        self.least = self.most = resident()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def megabytes(self) -> float:
        """So far."""
        return (self.most - self.least) / 1e6

    def _watch(self) -> None:
        while not self._end.wait(0.01):
            self.most = max(self.most, resident())


def learned_from(history: History, rows: np.ndarray | None, vectors: np.ndarray | None) -> Learned:
    """All rows of a history, or some of them."""
    return Learned(history.users, history.items, history.lists(rows), vectors)


def held_out_task(history: History) -> ListTask:
    """The task of ranking the liked held-out rows, by which settings are chosen."""
    rows = history.held & history.liked
    zeros, ones = np.zeros(int(rows.sum()), np.float32), np.ones(int(rows.sum()), np.bool_)
    known = history.lists(~history.held)
    return ListTask.of(known, history.items, history.user[rows], history.item[rows], zeros, ones, (K,), implicit=True)


def chosen_setting(method: Method, history: History, vectors: np.ndarray | None, quick: bool) -> tuple[Setting, bool]:
    """The setting with the best NDCG on held-out rows, and whether liked rows alone are learned; none tried if one."""
    if quick:
        return method.settings[0], False
    judge, best = held_out_task(history), (-1.0, method.settings[0], False)
    for liked in (False, True) if len(method.settings) > 1 else (False,):
        rows = ~history.held & history.liked if liked else ~history.held
        for setting in method.settings:
            values = measure(judge, method.fit(learned_from(history, rows, vectors), setting)).values
            found = float(values[:, 0, 0].mean())
            say(f"  {method.name} {words(setting)}, {'liked' if liked else 'all'} rows: {found:.4f} on validation")
            best = max(best, (found, setting, liked), key=lambda each: each[0])
    return best[1], best[2]


def words(setting: Setting) -> str:
    """A setting as people write it."""
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def say(line: str) -> None:
    """Progress goes to standard error."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def measured_fit() -> Iterator[dict[str, float]]:
    """Seconds and megabytes of a block."""
    cost: dict[str, float] = {}
    began = time.perf_counter()
    with Resident() as memory:
        yield cost
    cost |= {"seconds": time.perf_counter() - began, "megabytes": memory.megabytes}


def item_vectors(run: Run, file: Path | None) -> np.ndarray | None:
    """(I, D) the mean embeddings of every item of a run, both modalities side by side; zeros where it has none."""
    if file is None:
        return None
    with EmbeddingFile.open(file) as embeddings:
        rows = embeddings.find(run.recommender.item_ids)
        parts = [mean_tokens(embeddings[name], rows) for name in embeddings.modalities]
    vectors = np.nan_to_num(np.hstack(parts)).astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def compare(run: Run, file: Path | None, *, quick: bool, only: set[str]) -> tuple[list[Row], list[str]]:
    """All methods on the rows of a run, and a line for each that could not be run."""
    protocol = replace(protocol_for(run.recommender.scale, implicit=run.implicit), k=K)
    task, history = list_task(run.recommender, Tested.rows_of(run), protocol), history_of(run, protocol)
    vectors = item_vectors(run, file)
    lists: dict[str, Measured] = {}
    facts: dict[str, dict[str, Any]] = {}
    absent = []

    def take(name: str, source: str, setting: str, make: Callable[[], BlockScores], before: float = 0.0) -> None:
        with measured_fit() as cost:
            lists[name] = measure(task, make())
        cost["seconds"] += before
        facts[name] = {"source": source, "setting": setting} | cost
        say(f"{name}: {cost['seconds']:.1f} s")

    take(THIS_RUN, "ours", f"preset {run.config.preset}", lambda: run_scores(run)[THIS_RUN], run.summary.seconds)
    take("most popular", "ours", "by training rows", lambda: known(most_popular(history).scores))
    l2, liked, _ = chosen_for_ease(history, K, say)
    chosen = f"L2 {l2:g}, {'liked' if liked else 'all'} rows"
    take("EASE", "ours", chosen, lambda: ease_scores(history, l2, liked=liked))
    for method in METHODS:
        if only and method.name not in only:
            continue
        if method.fit is vbpr and vectors is None:
            absent.append("VBPR: not run, no --embeddings are given")
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                setting, positive = chosen_setting(method, history, vectors, quick)
                learned = learned_from(history, history.liked if positive else None, vectors)
                chosen = f"{words(setting)}, {'liked' if positive else 'all'} rows"
                take(method.name, method.source, chosen, partial(method.fit, learned, setting))
        except ImportError as fault:
            absent.append(f"{method.name}: not run, {fault}")
    return rows_of(task, lists, facts), absent


def known(scores: BlockScores | None) -> BlockScores:
    """Scores that are there."""
    if scores is None:
        raise CinefuseError("a baseline has no scores")
    return scores


def rows_of(task: ListTask, lists: dict[str, Measured], facts: dict[str, dict[str, Any]]) -> list[Row]:
    """A row a method: what its lists are worth, how far they are from ours, what they cost."""
    quality = quality_table(task, lists, draws=2000, seed=0)
    differences = difference_table(task, lists, draws=2000, seed=0)
    rows = []
    for row in headline(quality, differences, K).to_dicts():
        fact = facts[row["method"]]
        rows.append(
            Row(
                row["method"],
                fact["source"],
                fact["setting"],
                row["ndcg"],
                row["ndcg_low"],
                row["ndcg_high"],
                row["recall"],
                row["coverage"],
                row["difference"],
                row["low"],
                row["high"],
                fact["seconds"],
                fact["megabytes"],
            )
        )
    return rows


def cells(row: Row) -> list[str]:
    """For Markdown."""
    gap = "" if row.ours_minus_it is None else f"{row.ours_minus_it:+.4f}"
    bounds = "" if row.ours_minus_it_low is None else f"{row.ours_minus_it_low:+.4f} to {row.ours_minus_it_high:+.4f}"
    figures = [f"{row.ndcg:.4f}", f"{row.low:.4f} to {row.high:.4f}", f"{row.recall:.4f}", f"{row.coverage:.1%}"]
    return [row.method, row.source, *figures, gap, bounds, f"{row.seconds:.1f}", f"{row.megabytes:.0f}", row.setting]


def main() -> None:
    """Measure, print Markdown, and write JSON where --out is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run")
    parser.add_argument("--grow", type=Path, help="finished run on a larger dataset, to show how costs grow")
    parser.add_argument("--embeddings", type=Path, help="embedding file of the run's films, for VBPR")
    parser.add_argument("--only", nargs="*", default=[], help="some of the methods")
    parser.add_argument("--quick", action="store_true", help="one setting a method, no search")
    parser.add_argument("--out", type=Path, help="JSON to write")
    options = parser.parse_args()
    describe_machine(("torch", "numpy", "scipy", "implicit", "cornac"))
    measured: dict[str, Any] = {}
    for place in [options.run, *([options.grow] if options.grow else [])]:
        run = Run.open(place)
        file = options.embeddings if place is options.run else None
        rows, absent = compare(run, file, quick=options.quick, only=set(options.only))
        heading(f"{run.record.dataset.name}, split {run.record.split}")
        names = [f"NDCG@{K}", "95 %", f"Recall@{K}", "coverage", "ours minus it", "95 %", "seconds", "MB", "settings"]
        table(["method", "source", *names], [cells(row) for row in rows])
        for line in absent:
            print(f"- {line}")
        measured[run.record.dataset.name] = {
            "split": run.record.split,
            "methods": [asdict(row) for row in rows],
            "not_run": absent,
        }
    if options.grow:
        small, large = ({row["method"]: row for row in part["methods"]} for part in measured.values())
        heading("Growth, second dataset over first")
        table(
            ["method", "seconds", "MB"],
            [
                [
                    name,
                    f"{large[name]['seconds'] / max(small[name]['seconds'], 1e-9):.1f}",
                    f"{large[name]['megabytes'] / max(small[name]['megabytes'], 1):.1f}",
                ]
                for name in small
                if name in large
            ],
        )
    if options.out:
        options.out.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        main()
    except CinefuseError as refusal:
        sys.exit(f"ranking: {refusal}")
