"""Ray with two workers beside one process, on the same two cores: plots per second of the encoder-bound part.

    python benchmarks/cluster.py [--rounds 3] [--plots 1024] [--text-model FOLDER]

Both are the real command with `--log-json`. What is compared is how fast rows come once all workers are at it (from
the first progress told then to the last), since Ray's start takes seconds that a long job does not notice; the whole
command is told beside it. The local run has two threads, a worker one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import median

from inputs import DATA, dataset_of, minilm, sample_of_plots
from measure import arguments, describe_machine, goal, heading, table

LOCAL, RAY = "one process, two threads", "Ray, two workers of one thread"


def events(log: Path, *names: str) -> list[dict]:
    """The events of these names in a log."""
    return [event for event in map(json.loads, log.read_text().splitlines()) if event["event"] in names]


def seconds_between(first: dict, last: dict) -> float:
    """Seconds between two events."""
    return (datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])).total_seconds()


def run(dataset: Path, model: Path, folder: Path, way: str) -> tuple[float, float, bytes]:
    """Plots per second, seconds of the whole command, and the file."""
    out, log = folder / "out.h5", folder / "events.jsonl"
    out.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    ray = ["--engine", "ray", "--workers", "2"] if way == RAY else []
    program = str(Path(sys.executable).with_name("cinefuse"))
    command = [program, "extract", str(dataset), str(out), "--text-model", str(model), "--no-image"]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"HF_HUB_OFFLINE": "1"} | ({} if way == RAY else {"OMP_NUM_THREADS": "2"})
    subprocess.run([*command, *ray, "--log-json", str(log)], check=True, capture_output=True, env=environment)
    ready = [event["time"] for event in events(log, "worker")]
    begun = ready[1] if len(ready) > 1 else ""
    found = [e for e in events(log, "progress") if e["phase"] == "encoding text" and e["time"] > begun]
    rate = (found[-1]["items_done"] - found[0]["items_done"]) / max(seconds_between(found[0], found[-1]), 1e-9)
    return rate, events(log, "end")[-1]["seconds"], out.read_bytes()


def main() -> None:
    """Print a table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--plots", type=int, help="how many films (1,024)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with items-ml-1m.parquet")
    parser.add_argument("--text-model", type=Path, help="folder of a text model (all-MiniLM-L6-v2)")
    options = parser.parse_args()
    plots, rounds = options.plots or (256 if options.quick else 1024), options.rounds or (2 if options.quick else 3)
    describe_machine(("torch", "transformers", "ray"))
    model = options.text_model or minilm()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        dataset_of(sample_of_plots(options.data, plots), options.data, folder / "films")
        took: dict[str, list[tuple[float, float]]] = {LOCAL: [], RAY: []}
        files = {}
        for number in range(rounds):
            for way in (LOCAL, RAY) if number % 2 == 0 else (RAY, LOCAL):
                rate, whole, files[way] = run(folder / "films", model, folder, way)
                took[way].append((rate, whole))
                print(f"{way}: {rate:.1f} plots/s, {whole:.1f} s", file=sys.stderr, flush=True)
    heading(f"{plots} plots, {model.parent.name}, {rounds} rounds in turn")
    rows = ((w, f"{median(r for r, _ in t):.1f}", f"{median(a for _, a in t):.1f}") for w, t in took.items())
    table(["", "plots/s while encoding", "s, the whole command"], rows)
    share = median(b / a for (a, _), (b, _) in zip(took[LOCAL], took[RAY], strict=True))
    same = "the same" if files[LOCAL] == files[RAY] else "not the same"
    print(f"Ray against one process: {goal(share, 0.9)}. The files are {same}.")


if __name__ == "__main__":
    main()
