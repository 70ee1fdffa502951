"""A million rows through stage one with a small encoder: what planning, laying out, writing and verifying take.

    python benchmarks/million.py [--rows 1000000] [--quick]

Every text is short and drawn, the encoder small and random: what is measured is everything but the encoder. Seconds are
of this process's processor time, one thread: other programs lengthen it too, but far less than wall time.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from measure import arguments, describe_machine, most_resident, table

from cinefuse.data.embeddings.verification import intact_rows, verify
from cinefuse.data.runtime.progress import Phase, Unit
from cinefuse.data.sources.own_tables import import_table
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.tests.support.untrained_encoders import write_untrained_text_encoder


class Stages:
    """The processor seconds, wall seconds and peak memory of each stage."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, float]] = []
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def end(self, name: str) -> None:
        """A stage ends here, the next one begins."""
        cpu, wall = time.process_time(), time.perf_counter()
        self.rows.append((name, cpu - self._cpu, wall - self._wall, most_resident() / 1e6))
        print(f"{name}: {cpu - self._cpu:.1f} s of processor, {wall - self._wall:.1f} s", flush=True)
        self._cpu, self._wall = cpu, wall

    # as a progress of the extraction

    def message(self, text: str) -> None:
        """Drop the line."""

    def event(self, kind: str, /, **_: Any) -> None:
        """The plan is told once the file is laid out."""
        if kind == "plan":
            self.end("cut batches, lay the file out")

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: Unit = "items", *, work: int = 0) -> Iterator[Phase]:
        """A phase is a stage."""
        self.end(f"before {name}")
        yield Phase(name, total, unit, work)
        self.end(name)


def drawn_texts(rows: int, folder: Path) -> Path:
    """A table of `rows` items with texts of 4 to 12 drawn words."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("aeioustrnlmdp"), rng.integers(3, 9))) for _ in range(4000)])
    counts = rng.integers(4, 13, rows)
    drawn = words[rng.integers(0, len(words), int(counts.sum()))].tolist()
    ends = np.cumsum(counts).tolist()
    texts = [" ".join(drawn[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    file = folder / "items.parquet"
    titles = [f"Film {row}" for row in range(rows)]
    pl.DataFrame({"item_id": np.arange(rows), "title": titles, "text": texts}).write_parquet(file)
    write_untrained_text_encoder(folder / "bert", words.tolist(), width=32, layers=1)
    return file


def main() -> None:
    """Print a table of stages."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, help="how many films (1,000,000)")
    parser.add_argument("--level", default="tokens", help="tokens, or cls")
    options = parser.parse_args()
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    torch.set_num_threads(1)
    describe_machine(("torch", "polars", "numpy", "tokenizers"))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, stages = Path(name), Stages()
        source = drawn_texts(rows, folder)
        stages.end("draw the texts (not of cinefuse)")
        import_table(folder / "dataset", source)
        stages.end("import the table")
        settings = Settings(
            text_model=str(folder / "bert"), image_model=None, device="cpu", precision="fp32", level=options.level,
            batch_tokens=16384,
        )  # fmt: skip
        out = folder / "out.h5"
        summary = extract(folder / "dataset", out, settings, stages)
        stages.end("sync, rename, digest")
        from cinefuse.data.embeddings.file import EmbeddingFile

        file = EmbeddingFile.open(out)
        stages.end("open the file")
        intact_rows(file, "text")
        stages.end("look for damage, as every start of extract does")
        file.find(np.random.default_rng(1).integers(0, rows, 100_000))
        stages.end("find 100,000 ids")
        verify(out)
        stages.end("cache verify")
        print(f"\n{rows:,} rows, {summary.bytes / 1e6:,.0f} MB, {len(file.text.tokens):,} tokens of width 32\n")
        kept = [stage for stage in stages.rows if stage[1] >= 0.05]
        table(
            ["", "processor s", "rows/s of one core", "wall s, machine in use", "peak MB so far"],
            ([n, f"{c:.1f}", f"{rows / c:,.0f}", f"{w:.1f}", f"{m:,.0f}"] for n, c, w, m in kept),
        )


if __name__ == "__main__":
    main()
