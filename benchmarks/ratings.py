"""A large rating table through the front of stage two: join, split, sorted pairs, an epoch of film batches.

    python benchmarks/ratings.py [--quick] [--ratings N]
    python benchmarks/ratings.py --factors [--ratings N]

The shape is MovieLens 32M's: 32,000,204 ratings, 200,948 users, 87,585 films, some films far more popular than others.
Every part runs in a process of its own, so that its peak of memory is its own; the goal is under 4 GB for the largest.
``--factors`` measures full-batch steps of 128 factors with rating histories instead, on one thread, over 22.5 million
ratings of MovieLens 25M's shape: dot products sampled as on a CPU, and gathered in chunks as on a GPU.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measure import arguments, describe_machine, heading, most_resident, resident, table

from cinefuse.data.dataset.folder import Description
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Reason, Status

RATINGS, USERS, ITEMS = 32_000_204, 200_948, 87_585
TRAINING_RATINGS, TRAINING_USERS, TRAINING_ITEMS = 22_500_000, 162_541, 59_047  # nine tenths of MovieLens 25M
FACTORS, STEPS = 128, 3
TOKENS, WIDTH = 9, 64


def draw_dataset(folder: Path, ratings: int) -> None:
    """A dataset folder of that many ratings, some films rated twice by a user; the shape shrinks with their number."""
    scale = ratings / RATINGS
    users, items = max(int(USERS * scale), 100), max(int(ITEMS * scale**0.5), 100)
    rng = np.random.default_rng(0)
    folder.mkdir()
    drawn = {
        "user_id": rng.integers(1, users + 1, ratings),
        "item_id": (items * rng.random(ratings) ** 3).astype(np.int64) + 1,
        "rating": rng.integers(1, 11, ratings).astype(np.float32) / 2,
        "timestamp": rng.integers(800_000_000, 1_700_000_000, ratings),
    }
    pl.DataFrame(drawn).write_parquet(folder / "ratings.parquet")
    table = {"item_id": np.arange(1, items + 1), "title": [f"Film {item}" for item in range(items)]}
    empty = {"year": pl.Int32, "genres": pl.List(pl.String), "text": pl.String, "poster": pl.String}
    nothing = [pl.lit(None, dtype).alias(name) for name, dtype in empty.items()]
    pl.DataFrame(table).with_columns(nothing).write_parquet(folder / "items.parquet")
    Description("drawn", note="Drawn at random for a benchmark.").write(folder)
    lengths = np.full(items, TOKENS, np.int64)
    digest, batch = rng.integers(0, 256, (items, 32), np.uint8), np.arange(items, dtype=np.int32) // 64
    layout = ModalityLayout({"model": "drawn", "fingerprint": {}}, WIDTH, "float16", lengths, digest, batch)
    content = rng.standard_normal((1 + TOKENS, WIDTH), np.float32).astype(np.float16)
    path = folder / "embeddings.h5"
    with EmbeddingFile.create(path, np.arange(1, items + 1), {"image": layout}, {}) as file, RowWriter(file) as writer:
        for row in range(items):
            writer.write("image", row, content[0], content[1:], Status.OK, Reason.NONE)


def joining(folder: Path) -> None:
    """Ratings, films and rows of the embedding file, joined by number."""
    from cinefuse.fuse.inputs.join import join

    with EmbeddingFile.open(folder / "embeddings.h5") as file:
        join(folder, file)


def batching(folder: Path) -> None:
    """The same, cut into parts, sorted from both sides, and one epoch of film batches with their tokens and ratings."""
    import torch

    from cinefuse.data.dataset.splits import split_ratings
    from cinefuse.fuse.inputs.interactions import TrainingPairs
    from cinefuse.fuse.inputs.join import join
    from cinefuse.fuse.inputs.training_data import load_training_data
    from cinefuse.fuse.settings.presets import preset
    from cinefuse.fuse.training.batches import ItemBatches

    settings = ["modalities=image", "genres=false", "demographics=false", "precision=fp32"]
    config = preset("paper").with_settings(settings)
    with EmbeddingFile.open(folder / "embeddings.h5") as file:
        joined = join(folder, file)
        kept = np.zeros(joined.coverage.ratings, bool)
        kept[joined.row] = True
        parts = split_ratings(folder, "random:0.1", seed=0, validation=0.05).within(kept)
        training_data = load_training_data(folder, joined, file, parts, config, torch.device("cpu"))
        del joined, parts, kept
        m, rows = training_data, training_data.train
        pairs = TrainingPairs.sorted(m.user[rows], m.item[rows], m.rating[rows], users=m.users, items=m.items)
        read = 0
        for batch in ItemBatches(m.tables, m.items, config.batch_items, m.device).epoch(pairs, seed=0, epoch=0):
            read += len(batch.pair)
    if read != len(rows):
        raise SystemExit(f"expected {len(rows):,} ratings in an epoch, met {read:,}")


def training(folder: Path) -> None:
    """A whole small training of matrix factorisation: 16 factors, 5 full-batch steps."""
    from cinefuse.fuse.runs.train import train
    from cinefuse.fuse.settings.presets import preset

    settings = ["dim=16", "factor_steps=5", "epochs=1", "validation=0", "histories=false", "precision=fp32"]
    train(folder, None, folder / "run", preset("mf").with_settings(settings), split="random:0.1")


def factor_steps(ratings: int, gathered: bool) -> tuple[float, float]:
    """Processor seconds of a full-batch step on one thread, and bytes of this process before the first one."""
    import torch

    from cinefuse.fuse.inputs import interactions
    from cinefuse.fuse.inputs.side_information import SideInformation
    from cinefuse.fuse.models.heads import Scale
    from cinefuse.fuse.settings.presets import preset
    from cinefuse.fuse.training.member import Member

    torch.set_num_threads(1)
    if gathered:
        interactions._SAMPLED_ON = ()  # type: ignore[assignment]
    share = min(1.0, ratings / TRAINING_RATINGS)
    users, items = max(int(TRAINING_USERS * share), 100), max(int(TRAINING_ITEMS * share**0.5), 100)
    rng = np.random.default_rng(0)
    draws = int(1.2 * ratings)  # more than are wanted: some pairs are drawn twice
    key = rng.integers(0, users, draws) * items + (items * rng.random(draws) ** 2).astype(np.int64)
    key = rng.permutation(np.unique(key))[:ratings]
    user, item = torch.from_numpy(key // items), torch.from_numpy(key % items)
    rating = torch.from_numpy(rng.integers(1, 11, len(key)).astype(np.float32) / 2)
    del key
    scale = Scale.of(rating)
    pairs = interactions.TrainingPairs.sorted(user, item, scale.standardise(rating), users=users, items=items)
    del user, item, rating
    side = SideInformation(torch.zeros(users, 0), torch.zeros(items, 20), torch.zeros(items, 20))
    config = preset("best").with_settings([f"dim={FACTORS}", "precision=fp32"])
    member = Member(config, pairs, scale, side, {}, seed=0)
    before, began = resident(), time.process_time()
    for step in range(STEPS):
        member.factor_step(step, torch.Generator().manual_seed(step))
    return (time.process_time() - began) / STEPS, before


def _measure_steps(ratings: int, gathered: bool) -> tuple[float, float, float]:
    return *factor_steps(ratings, gathered), most_resident()


def report_factor_steps(ratings: int) -> None:
    """Print what full-batch steps over so many ratings take, both ways."""
    heading(f"Full-batch steps over {ratings:,} ratings, {FACTORS} factors, one thread")
    rows = []
    for name, gathered in (("sampled, as on a CPU", False), ("gathered in chunks, as on a GPU", True)):
        seconds, before, peak = in_own_process(_measure_steps, ratings, gathered)
        rows.append((name, f"{seconds:.2f}", f"{before / 1e9:.2f}", f"{peak / 1e9:.2f}"))
        print(*rows[-1], sep=" | ", flush=True)
    table(["", "processor s a step", "GB before the steps", "peak GB"], rows)


def _measure(part: Any, folder: Path) -> tuple[float, float]:
    """Seconds and peak bytes of ``part``."""
    began = time.perf_counter()
    part(folder)
    return time.perf_counter() - began, most_resident()


def in_own_process(measure: Any, *arguments: Any) -> Any:
    """What ``measure`` returns in a process of its own, whose peak of memory is its own too."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_send, args=(there, measure, *arguments))
    process.start()
    there.close()
    result = here.recv()
    process.join()
    return result


def _send(results: Any, measure: Any, *arguments: Any) -> None:
    results.send(measure(*arguments))


def main() -> None:
    """Run all of it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--ratings", type=int, help="how many ratings")
    parser.add_argument("--factors", action="store_true", help="full-batch steps of 128 factors only")
    options = parser.parse_args()
    ratings = options.ratings or (1_000_000 if options.quick else TRAINING_RATINGS if options.factors else RATINGS)
    describe_machine(["polars", "numpy", "torch"])
    if options.factors:
        report_factor_steps(ratings)
        return
    folder = Path(tempfile.mkdtemp(prefix="cinefuse-benchmark-", dir=options.folder))
    try:
        drawing = multiprocessing.get_context("spawn").Process(target=draw_dataset, args=(folder / "drawn", ratings))
        drawing.start()
        drawing.join()
        heading(f"{ratings:,} ratings")
        rows = []
        for part, name in ((joining, "join"), (batching, "join, split, pairs, an epoch of batches"), (training, "mf")):
            seconds, peak = in_own_process(_measure, part, folder / "drawn")
            rows.append((name, f"{seconds:.1f}", f"{peak / 1e9:.2f}"))
        table(["", "seconds", "peak GB"], rows)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
