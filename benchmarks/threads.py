"""Stage two's factor steps by how its threads wait, on an idle machine and beside busy loops.

    python benchmarks/threads.py DATASET [--busy 4] [--rounds 3] [--steps 60]

DATASET is a dataset folder with ratings. Each way runs in a process of its own, since OpenMP reads its environment when
it is loaded: as cinefuse sets it, as OpenMP's defaults are, with OMP_WAIT_POLICY=PASSIVE, and on one thread. The rounds
alternate the ways. Printed is the median over rounds of the median step, and its ratio to one thread's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# GNU OpenMP loops 300,000 times before it sleeps where nothing is set
WAYS = {
    "as cinefuse sets it": {},
    "OpenMP's default": {"GOMP_SPINCOUNT": "300000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}

STEPS = """
import statistics, sys, tempfile, time
import cinefuse
from cinefuse.data.runtime.progress import NoProgress
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.training.member import Member

seconds, step = [], Member.factor_step

def timed(*arguments):
    began = time.perf_counter()
    result = step(*arguments)
    seconds.append(time.perf_counter() - began)
    return result

Member.factor_step = timed
settings = ["adapt=false", "objective=rating", "members=1", "epochs=1"]
config = preset("best").with_settings([*settings, f"factor_steps={sys.argv[2]}"])
with tempfile.TemporaryDirectory() as folder:
    cinefuse.train(sys.argv[1], None, folder + "/run", config, split="random:0.1", progress=NoProgress())
print(statistics.median(seconds))
"""


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many other programs that use a core each, while inside."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def step_seconds(dataset: str, steps: int, way: dict[str, str]) -> float:
    """Median seconds of a factor step in a process of its own."""
    of_threads = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in of_threads} | way
    done = subprocess.run(
        [sys.executable, "-c", STEPS, dataset, str(steps)], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--busy", type=int, default=4, help="busy loops beside")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    for count in (0, options.busy):
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        with busy_loops(count):
            for _ in range(options.rounds):
                for name, way in WAYS.items():
                    seconds[name].append(step_seconds(options.dataset, options.steps, way))
        medians = {name: statistics.median(found) for name, found in seconds.items()}
        print(f"\n{count} busy loops beside", flush=True)
        for name, median in medians.items():
            ratio = median / medians["one thread"]
            print(f"  {name:<24} {1000 * median:8.1f} ms a step   {ratio:5.2f} of one thread", flush=True)


if __name__ == "__main__":
    main()
