"""A warm start beside training from scratch, once ratings have grown by a ninth: seconds of a command, and RMSE.

    python benchmarks/warm_start.py ml-100k ml-100k.h5 --without-test-of u1 [--preset best] [--rounds 3]
        [--set members=1 --set validation=0]

Each round draws a tenth of the ratings to test on; of the others an earlier run has the oldest nine tenths, and both
ways train on all. A tenth of what a run has is its validation part, which training from scratch holds out of a first
fit; the warm start has the default share of the steps. `--without-test-of` keeps the test part of a split out of all
that. What is timed is the command as a user types it, from the start of Python to the written run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from measure import arguments, describe_machine, heading, table

from cinefuse.data.dataset.splits import split_ratings

AT_MOST = 1 / 3
SCRATCH, WARM = "from scratch", "warm start"


def write_splits(dataset: Path, without: str | None, seed: int, folder: Path) -> tuple[Path, Path]:
    """Split files of the ratings as they were, and as they are now; both test on the same rows."""
    ratings = pl.read_parquet(dataset / "ratings.parquet")
    rows = np.arange(ratings.height) if without is None else split_ratings(dataset, without, validation=0).train
    chance = np.random.default_rng(seed)
    drawn = chance.permutation(rows)
    test, train = drawn[: len(rows) // 10], drawn[len(rows) // 10 :]
    dated = "timestamp" in ratings.columns  # else an earlier run has any nine tenths
    by_age = train[np.argsort(ratings["timestamp"].to_numpy()[train], kind="stable")] if dated else train
    files = folder / f"before-{seed}.parquet", folder / f"now-{seed}.parquet"
    for file, known in zip(files, (by_age[: len(train) * 9 // 10], train), strict=True):
        shuffled = chance.permutation(known)
        parts = {"test": test, "validation": shuffled[: len(known) // 10], "train": shuffled[len(known) // 10 :]}
        named = (pl.DataFrame({"row": part}).with_columns(part=pl.lit(name)) for name, part in parts.items())
        pl.concat(named).write_parquet(file)
    return files


def train(command: list[str], out: Path, split: Path, *more: str) -> tuple[float, float]:
    """Seconds of the command, and the RMSE of its test part."""
    started = time.perf_counter()
    subprocess.run([*command, str(out), "--split", f"file:{split}", *more], check=True, capture_output=True)
    return time.perf_counter() - started, json.loads((out / "summary.json").read_text())["rmse"]


def main() -> None:
    """Print a table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--preset", default="best")
    parser.add_argument("--set", action="append", default=[], help="a setting of both ways")
    parser.add_argument("--without-test-of", help="a split whose test part is left out")
    options = parser.parse_args()
    describe_machine(("torch",))
    cinefuse = str(Path(sys.executable).with_name("cinefuse"))
    settings = [word for setting in options.set for word in ("--set", setting)]
    command = [cinefuse, "fuse", str(options.dataset), str(options.embeddings)]
    found: dict[str, list[tuple[float, float]]] = {SCRATCH: [], WARM: []}
    for seed in range(options.rounds or (1 if options.quick else 3)):
        with TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            before, now = write_splits(options.dataset, options.without_test_of, seed, folder)
            asked = ["--preset", options.preset, *settings]
            train(command, folder / "earlier", before, *asked)
            for way in (SCRATCH, WARM) if seed % 2 == 0 else (WARM, SCRATCH):
                more = ["--warm-start", str(folder / "earlier")] if way == WARM else []
                found[way].append(train(command, folder / way.replace(" ", "-"), now, *asked, *more))
                print(f"{way}: {found[way][-1][0]:.1f} s, RMSE {found[way][-1][1]:.5f}", file=sys.stderr, flush=True)
    heading(f"{options.preset} {' '.join(options.set)}, {len(found[WARM])} rounds, each of other test ratings")
    rows = (
        (way, f"{median(s for s, _ in rounds):.1f}", f"{mean(r for _, r in rounds):.5f}")
        for way, rounds in found.items()
    )
    table(["", "s, the whole command", "RMSE"], rows)
    pairs = list(zip(found[WARM], found[SCRATCH], strict=True))
    share = median(warm / scratch for (warm, _), (scratch, _) in pairs)
    change = [warm - scratch for (_, warm), (_, scratch) in pairs]
    kept = "" if share <= AT_MOST else ", missed"
    print(
        f"The warm start takes **{share:.2f}** of the time (goal: at most {AT_MOST:.2f}{kept}); "
        f"its RMSE differs by {mean(change):+.5f} ({min(change):+.5f} to {max(change):+.5f})."
    )


if __name__ == "__main__":
    main()
