"""Processor time that a poster takes in the main process and in all of them: decoded by threads, and by processes.

    python benchmarks/decoders.py [--data DIR] [--processes 2] [--side 176]

Everything of stage one but encoder and file: posters are read, checked, hashed, decoded, resized and stacked in batches
of 128. Processor seconds alone are counted, which other programs hardly change. ``--side`` scales the posters first.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from inputs import DATA, dataset_of, films
from measure import arguments, describe_machine, heading, table
from PIL import Image

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.extract.inputs.decoders import Decoders, Poster, side_by_side
from cinefuse.extract.inputs.pixel_recipe import PixelRecipe
from cinefuse.extract.inputs.poster_files import PosterLimits
from cinefuse.extract.inputs.posters import plan_posters, probing
from cinefuse.extract.job.feeds import PosterFeed
from cinefuse.extract.job.loop import loading_threads

BATCH, RECIPE = 128, PixelRecipe()


def seconds(who: int) -> float:
    """Processor seconds of this process, or of its children that have ended."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def by_threads(catalog: Catalog, plan: Any, rows: list[int]) -> None:
    """As `extract` does by default with few cores."""
    feed: Any = PosterFeed(plan, Any, catalog.posters(), catalog.poster_root, RECIPE, PosterLimits())
    with ThreadPoolExecutor(loading_threads()) as pool:
        for start in range(0, len(rows), BATCH):
            np.stack([one.result() for one in [pool.submit(feed.load, row) for row in rows[start : start + BATCH]]])


def by_processes(catalog: Catalog, plan: Any, rows: list[int], count: int) -> None:
    """As `extract --decoders` does."""
    paths = catalog.posters()
    waiting: list[Any] = []
    with Decoders(
        count, catalog.poster_root, RECIPE, PosterLimits(), largest=BATCH, batches=3, say=sys.exit
    ) as decoders:
        for start in range(0, len(rows), BATCH):
            batch = [Poster(paths[row] or "", plan.digest[row].tobytes()) for row in rows[start : start + BATCH]]
            waiting.append(decoders.begin(batch))
            if len(waiting) > 2:
                side_by_side([one.result() for one in waiting.pop(0)])
        for begun in waiting:
            side_by_side([one.result() for one in begun])


def main() -> None:
    """Print milliseconds a poster."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of items-ml-1m.parquet and its posters")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--side", type=int, help="width that posters are scaled to first")
    options = parser.parse_args()
    describe_machine(["numpy", "pillow"])
    folder = Path(tempfile.mkdtemp(prefix="cinefuse-benchmark-", dir=options.folder))
    try:
        chosen = films(options.data).drop_nulls("poster")
        posters = options.data
        if options.side:
            posters = folder / "scaled"
            for path in chosen["poster"]:
                (posters / path).parent.mkdir(parents=True, exist_ok=True)
                image = Image.open(options.data / path).convert("RGB")
                image.resize((options.side, options.side * image.height // image.width)).save(posters / path)
        catalog = dataset_of(chosen, posters, folder / "films")
        with probing(catalog.posters(), catalog.poster_root, PosterLimits()) as probed:
            plan = plan_posters(probed, width=768, patches=196, progress=lambda _: None)
        rows = plan.distinct.tolist()
        size = np.mean([(catalog.poster_root / path).stat().st_size for path in catalog.posters() if path])
        heading(f"{len(rows):,} posters of {size / 1000:.0f} kB, {options.processes} processes")
        rows *= 3
        start = seconds(resource.RUSAGE_CHILDREN)
        by_processes(catalog, plan, rows[:2], options.processes)
        start = seconds(resource.RUSAGE_CHILDREN) - start
        table_rows = []
        for name, starting, way in (
            ("threads", 0.0, lambda: by_threads(catalog, plan, rows)),
            ("processes", start, lambda: by_processes(catalog, plan, rows, options.processes)),
        ):
            here, there = seconds(resource.RUSAGE_SELF), seconds(resource.RUSAGE_CHILDREN)
            way()
            here, there = seconds(resource.RUSAGE_SELF) - here, seconds(resource.RUSAGE_CHILDREN) - there
            table_rows.append((name, *(f"{1000 * value / len(rows):.3f}" for value in (here, here + there - starting))))
        table(["ms of processor a poster", "in the main process", "in all processes, their start left out"], table_rows)
        print(f"Starting a process: {start / options.processes:.2f} s of processor.")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
