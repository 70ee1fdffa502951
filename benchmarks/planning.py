"""Planning of stage one, texts tokenised and posters probed: on one core, on all of them, and thread by thread.

    python benchmarks/planning.py [--data DIR]

A core is bound by the affinity of a process of its own. Wall seconds mean something where nothing else runs; the
processor seconds of each kind of thread say how the work is split wherever it runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from inputs import DATA, dataset_of, films, minilm
from measure import arguments, describe_machine, heading, table

from cinefuse.data.dataset.catalog import Catalog

ROUNDS = 5


def measure(dataset: str, text_model: str, cores: str) -> None:
    """Plan a few times on so many cores; print seconds of the wall, of the processor and of Python's main thread."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    from cinefuse.extract.inputs.poster_files import PosterLimits
    from cinefuse.extract.inputs.posters import plan_posters, probing
    from cinefuse.extract.inputs.texts import plan_text
    from cinefuse.extract.models.source import ModelSource

    catalog = Catalog.open(Path(dataset))
    tokenizer = ModelSource.resolve(text_model, None, weights=False).tokenizer()
    found = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter(), time.process_time(), time.thread_time()
        with probing(catalog.posters(), catalog.poster_root, PosterLimits()) as probed:
            plan_text(catalog.texts(), tokenizer, width=384, max_length=512, progress=_nobody)
            plan_posters(probed, width=768, patches=196, progress=_nobody)
        ended = time.perf_counter(), time.process_time(), time.thread_time()
        found.append([end - begin for begin, end in zip(began, ended, strict=True)])
    print(json.dumps([median(column) for column in zip(*found[1:], strict=True)]))


def _nobody(_: int) -> None:
    pass


def main() -> None:
    """Print both ways."""
    if sys.argv[1:2] == ["--measure"]:
        return measure(*sys.argv[2:])
    parser = arguments(__doc__ or "")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of items-ml-1m.parquet and its posters")
    options = parser.parse_args()
    describe_machine(["tokenizers", "transformers", "numpy"])
    folder = Path(tempfile.mkdtemp(prefix="cinefuse-benchmark-", dir=options.folder))
    try:
        table_of_films = films(options.data)
        dataset_of(table_of_films, options.data, folder / "films")
        heading(f"Planning {table_of_films.height:,} films")
        rows, walls = [], []
        for cores in (1, len(os.sched_getaffinity(0))):
            command = [sys.executable, __file__, "--measure", str(folder / "films"), str(minilm()), str(cores)]
            ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            wall, processor, main_thread = json.loads(ended.splitlines()[-1])
            walls.append(wall)
            rows.append((f"{cores} cores", f"{wall:.2f}", f"{processor:.2f}", f"{main_thread:.2f}"))
        table(["", "wall s", "processor s", "of these Python's main thread"], rows)
        print(f"All cores against one, by the wall: {walls[0] / walls[1]:.2f}.")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
