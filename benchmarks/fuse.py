"""Stage two: seconds of training, recommending and whole runs, beside a DataLoader over the same embeddings.

    python benchmarks/fuse.py --data ml-100k --embeddings ml-100k.h5 --data-1m ml-1m --embeddings-1m ml-1m.h5
        [--quick] [--busy] [--only throughput growth epoch waiting top whole] [--device cuda]

Needs `pip install -e '.[bench]'`, datasets of MovieLens 100K and 1M (`cinefuse data import movielens`) and their
embedding files with plots and posters (`cinefuse extract`). All ratings are training ratings, but in `whole`. The model
is the preset `paper`, the Transformer over every token of both modalities, unless a table says otherwise; `whole` runs
`best`, on both data sets. Speed does not depend on the weights. `--busy` counts CPU seconds of one thread, reading
ahead included, where others use the machine; a DataLoader's workers count themselves, so it has none then.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from epoch import Epoch, Source, grown
from measure import Rounds, arguments, describe_machine, goal, heading, interleaved, table

from cinefuse.data.runtime.errors import CinefuseError
from cinefuse.device import resolve_device, resolve_precision
from cinefuse.fuse.models.recommender import Recommender
from cinefuse.fuse.runs.record import RunRecord
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.serving.recommend import recommend_all
from cinefuse.fuse.settings.presets import preset

OURS = "cinefuse, item-major"
ITEMS_IF_QUICK = 256
TIMES = 10


class Bench:
    """The inputs of one run, in a folder that goes with it."""

    def __init__(self, options: Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.device = resolve_device(options.device)
        self.rounds = options.rounds or (2 if options.quick else 3)
        self.patience = options.patience
        self.clock = time.process_time if options.busy else time.perf_counter
        self.settings = options.set
        full = preset("paper").with_settings(options.set)
        self.config = replace(full, precision=resolve_precision(full.precision, self.device))

    @cached_property
    def small(self) -> Source:
        """MovieLens 100K, or as many of its films as a quick run takes."""
        return self._source("ml-100k", self.options.data, self.options.embeddings)

    @cached_property
    def large(self) -> Source:
        """MovieLens 1M, or as many of its films as a quick run takes."""
        return self._source("ml-1m", self.options.data_1m, self.options.embeddings_1m)

    def _source(self, name: str, dataset: Path | None, embeddings: Path | None) -> Source:
        suffix = "-1m" if name == "ml-1m" else ""
        if dataset is None or embeddings is None:
            raise SystemExit(
                f"no {name}: give --data{suffix} FOLDER and --embeddings{suffix} FILE, or choose with --only"
            )
        whole = Source(dataset, embeddings)
        return whole.smaller(ITEMS_IF_QUICK, self.folder / name) if self.options.quick else whole

    def epoch(self, source: Source, **changes: object) -> Epoch:
        """An epoch of `paper` on all ratings of `source`."""
        config = replace(self.config, **changes)
        return Epoch(config, source.training_data(config, self.device), self.clock)

    def timed(self, ways: dict[str, Callable[[], object]], *, warm_up: bool = True) -> Rounds:
        """Interleaved rounds of `ways`."""
        return interleaved(ways, self.rounds, warm_up=warm_up, clock=self.clock, patience=self.patience)


def throughput(bench: Bench) -> None:
    """Print ratings a second beside a DataLoader over h5py rows."""
    from fuse_rivals import BATCH, PerRatingTraining

    epoch = bench.epoch(bench.small)
    rows = bench.small.joined().embedding_row
    rival = PerRatingTraining(bench.config, epoch.training_data, bench.small.embeddings, rows, bench.clock)
    ratings = len(epoch.pairs)
    _heading(bench, f"Training throughput, {_shape(epoch)}, full tokens")
    budget = bench.options.budget or (8 if bench.options.quick else 60)
    each = budget / bench.rounds
    rivals: dict[str, Callable[[], object]] = {
        f"DataLoader over h5py rows, batch {BATCH}, {workers} workers": partial(rival.epoch, workers, each)
        for workers in ((0,) if bench.options.busy else (0, 2))
    }
    epoch.whole()
    # not watched for other programs: the workers of a DataLoader would count as such
    found = interleaved({OURS: epoch.whole, **rivals}, bench.rounds, warm_up=False)
    table(
        ["", "ratings/s", "s an epoch", "ours is faster by"],
        (
            (
                way,
                f"{ratings / found.median(way):,.0f}",
                f"{found.median(way):,.1f}",
                f"{found.times_faster(OURS, way):.1f}",
            )
            for way in (OURS, *rivals)
        ),
    )
    print(f"The DataLoader ran {each:.0f} s a round, scaled to the epoch; its faster form counts.")
    print(f"Ours against it: {goal(min(found.times_faster(OURS, way) for way in rivals), 100)}.", flush=True)


def growth(bench: Bench) -> None:
    """Print what an epoch costs when the same films have ten times the ratings."""
    few = bench.epoch(bench.small)
    many = Epoch(bench.config, grown(few.training_data, TIMES), bench.clock)
    _heading(bench, f"An epoch with {TIMES} times the ratings of the same films, {_shape(few)}, full tokens")
    epochs = {"few": few, "many": many}
    ways = {f"{name}: {part}": way for name, epoch in epochs.items() for part, way in epoch.parts().items()}
    found = bench.timed(ways)
    seconds = {
        name: {part: found.median(f"{name}: {part}") for part in epoch.parts()} for name, epoch in epochs.items()
    }
    rows = [(part, seconds["few"][part], seconds["many"][part]) for part in few.parts()]
    rows.append(("an epoch", sum(seconds["few"].values()), sum(seconds["many"].values())))
    table(
        ["seconds", f"{len(few.pairs):,} ratings", f"{len(many.pairs):,} ratings", "times"],
        ((part, f"{a:.2f}", f"{b:.2f}", f"{b / a:.2f}") for part, a, b in rows),
    )
    found.warn()
    _, a, b = rows[-1]
    print(f"An epoch costs {at_most(b / a, 1.5)} times as much.")
    most, *_ = max(rows[:-1], key=lambda row: row[2] - row[1])
    print(
        f"Of the {b - a:.2f} s more, most is the {most}. The factor steps follow ratings and users; in the Transformer "
        "pass only each film's scores against its ratings grow, and the content refresh doesn't know of ratings.",
        flush=True,
    )


def epoch(bench: Bench) -> None:
    """Print the parts of an epoch on MovieLens 1M, by tokens and by CLS alone."""
    on_gpu = bench.device.type == "cuda"
    for level, most in (("tokens", 0.5 if on_gpu else 45.0), ("cls", 2.0)):
        one = bench.epoch(bench.large, level=level)
        _heading(bench, f"An epoch, {_shape(one)}, {'full tokens' if level == 'tokens' else 'CLS alone'}")
        found = bench.timed(one.parts())
        whole = sum(found.median(part) for part in one.parts())
        rows = [(part, found.median(part)) for part in one.parts()] + [("an epoch", whole)]
        table(["", "seconds", "share"], ((part, f"{took:.3f}", f"{took / whole:.2f}") for part, took in rows))
        found.warn()
        print(f"{one.factor_steps} factor steps. An epoch: {at_most(whole, most)} s.", flush=True)


def waiting(bench: Bench) -> None:
    """Print the share of the steps in which training waited for tokens."""
    _heading(bench, "Waiting for data, full tokens")
    rows = []
    for source in [bench.small] + ([bench.large] if bench.options.data_1m else []):
        one = bench.epoch(source)
        one.waiting_share()
        shares = [100 * one.waiting_share() for _ in range(bench.rounds)]
        places = ", ".join(sorted({held.place for held in one.training_data.tables.values()}))
        rows.append((_shape(one), places, at_most(median(shares), 3.0)))
    table(["", "tokens lie in", "% of a step"], rows)


def top(bench: Bench) -> None:
    """Print how long the ten best films of every user take."""
    run = _served(bench)
    recommender = run.recommender
    users, items = len(recommender.user_ids), len(recommender.item_ids)
    _heading(bench, f"The top 10 of {users:,} users among {items:,} films, {len(recommender.vectors)} member(s), cpu")
    found = bench.timed({"": lambda: recommend_all(run, 10)})
    found.warn()
    print(f"{at_most(found.median(''), 2.0)} s, the table with its predicted ratings included.", flush=True)


def _served(bench: Bench) -> Run:
    """A run as it would be served, its members hardly trained."""
    config = replace(
        preset("best").with_settings(bench.settings), dim=128, modalities="none", text_components=0, image_components=0
    )
    joined = bench.large.joined()
    trained = [
        Epoch(replace(config, seed=seed), bench.large.training_data(config, torch.device("cpu")))
        for seed in range(config.members)
    ]
    for one in trained:
        one.factor_pass()
    pairs = trained[0].pairs
    recommender = Recommender(
        user_ids=np.array(joined.user_ids),
        item_ids=np.array(joined.item_ids),
        scale=trained[0].member.head.scale,
        vectors=tuple(one.member.vectors() for one in trained),
        heads=tuple(one.member.head for one in trained),
        rated_offsets=pairs.user_offsets.numpy(),
        rated_items=pairs.item.numpy(),
    )
    record = RunRecord(config, bench.large.dataset, {}, {}, "all")
    return Run(bench.folder, record, recommender)


def whole(bench: Bench) -> None:
    """Print whole runs of the preset `best`, from reading the tables to testing."""
    _heading(bench, "`cinefuse fuse`, end to end")
    cases = [("best", "MovieLens 100K", bench.small, "random:0.2" if bench.options.quick else "u1", 5.0)]
    if bench.options.data_1m:
        cases.append(("best", "MovieLens 1M", bench.large, "random:0.1", 40.0))
    rows = [_whole(bench, *case) for case in cases]
    table(["", "minutes", "epochs chosen", "RMSE"], rows)
    print("Each ran once; the RMSE belongs to this one seed.", flush=True)


def _whole(bench: Bench, which: str, name: str, source: Source, split: str, most: float) -> tuple[str, ...]:
    folder = bench.folder / f"run-{name}"
    config = preset(which).with_settings(bench.settings)
    if bench.options.quick:
        config = replace(config, epochs=1, factor_steps=20)

    def run() -> None:
        train(source.dataset, source.embeddings, folder, config, split=split, device=str(bench.device))

    found = interleaved({"": run}, 1, warm_up=False, clock=bench.clock)
    found.warn()
    summary = Run.open(folder).summary
    minutes = at_most(found.median("") / 60, most)
    return f"{name}, {split}", minutes, str(summary.chosen_epochs), f"{summary.rmse:.4f}"


def at_most(reached: float, most: float) -> str:
    """A figure beside the one it must not exceed."""
    return f"**{reached:.2f}** (goal: at most {most:g}{'' if reached <= most else ', missed'})"


def _heading(bench: Bench, words: str) -> None:
    where = "" if words.endswith("cpu") else f", {bench.config.precision}, {bench.device}"
    heading(f"{words}{where}{', QUICK: part of the films, no figure to keep' if bench.options.quick else ''}")


def _shape(one: Epoch) -> str:
    return f"{one.training_data.items:,} films, {len(one.pairs):,} ratings"


SECTIONS = {
    "throughput": throughput, "growth": growth, "epoch": epoch, "waiting": waiting, "top": top, "whole": whole,
}  # fmt: skip


def main() -> None:
    """Run the chosen sections."""
    options = _parser().parse_args()
    if options.busy or options.threads:
        torch.set_num_threads(1 if options.busy else options.threads)
    describe_machine(["torch", "h5py", "numpy", "polars"])
    if torch.cuda.is_available():
        print(torch.cuda.get_device_name())
    print(f"{torch.get_num_threads()} thread(s){', CPU seconds' if options.busy else ''}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="cinefuse-benchmark-", dir=options.folder))
    try:
        bench = Bench(options, folder)
        for section in options.only:
            SECTIONS[section](bench)
    except CinefuseError as fault:
        raise SystemExit(str(fault)) from None
    finally:
        shutil.rmtree(folder)


def _parser() -> ArgumentParser:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--data", type=Path, help="dataset folder of MovieLens 100K")
    parser.add_argument("--embeddings", type=Path, help="its embedding file, plots and posters")
    parser.add_argument("--data-1m", type=Path, help="dataset folder of MovieLens 1M")
    parser.add_argument("--embeddings-1m", type=Path, help="its embedding file")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--threads", type=int, help="how many torch uses (as many as there are cores)")
    parser.add_argument(
        "--busy", action="store_true", help="one thread and its CPU seconds, where others use the machine"
    )
    parser.add_argument("--budget", type=float, help="seconds that each form of the DataLoader runs, over all rounds")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting of the presets"
    )
    return parser


if __name__ == "__main__":
    main()
