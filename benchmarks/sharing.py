"""How fast embedding files are cut, merged and converted, beside `cp` of the same bytes, and how small they become.

`python benchmarks/sharing.py FILE` takes a real file; without one it makes one of random values. Everything is timed
until it is on the disk, `cp` too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from measure import arguments, describe_machine, goal, heading, interleaved, table

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.exports.export import write_as
from cinefuse.data.formats.compression import compress, decompress
from cinefuse.data.formats.number_format import convert
from cinefuse.data.sharing.diff import diff
from cinefuse.data.sharing.merge import merge
from cinefuse.data.sharing.selection import Selection
from cinefuse.data.sharing.subset import subset

LEAST = 0.5


def invented(path: Path, films: int) -> Path:
    """A file of `films` films with 197 x 768 random float16 each."""
    chance = np.random.default_rng(0)
    layout = ModalityLayout(
        record={"model": "random", "fingerprint": {"weights": "0", "dtype": "float16"}, "level": "tokens"},
        width=768,
        dtype="float16",
        lengths=np.full(films, 196),
        digest=np.zeros((films, 32), np.uint8),
        batch=np.arange(films, dtype=np.int32),
    )
    pool = chance.standard_normal((8, 197, 768), np.float32).astype(np.float16)
    with EmbeddingFile.create(path, np.arange(films), {"image": layout}, {}) as file, RowWriter(file) as writer:
        for row in range(films):
            content = pool[row % 8]
            writer.write("image", row, content[0], content[1:], Status.OK)
        writer.sync()
    return path


def copy(source: Path, out: Path) -> None:
    """`cp`, until it is on the disk."""
    subprocess.run(["cp", "--reflink=never", source, out], check=True)
    descriptor = os.open(out, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def from_rest(way: Callable[[], object], out: Path) -> float:
    """Seconds of `way`, with nothing left for the disk to do before it: freeing the blocks of an older file neither."""
    out.unlink(missing_ok=True)
    os.sync()
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def speeds(source: Path, folder: Path, rounds: int) -> None:
    """Lossless operations beside `cp` of what they write."""
    with EmbeddingFile.open(source) as file:
        ids = file.ids
    half, third = ids[: len(ids) // 2], ids[::3]
    scattered = np.random.default_rng(0).permutation(ids)[: len(ids) // 2]
    out, parts = folder / "out.h5", [folder / "first.h5", folder / "second.h5"]
    subset(source, parts[0], Selection(ids=half), overwrite=True)
    subset(source, parts[1], Selection(ids=ids[len(half) :]), overwrite=True)
    wide, packed = folder / "wide.h5", folder / "packed.zst"
    convert(source, wide, "float32", overwrite=True)
    compress(source, packed, "zstd", overwrite=True)
    ways: dict[str, Callable[[], object]] = {
        "subset: first half": lambda: subset(source, out, Selection(ids=half), overwrite=True),
        "subset: every third": lambda: subset(source, out, Selection(ids=third), overwrite=True),
        "subset: half, at random": lambda: subset(source, out, Selection(ids=scattered), overwrite=True),
        "merge of two halves": lambda: merge(parts, out, overwrite=True),
        "to float32": lambda: convert(source, out, "float32", overwrite=True),
        "float32 back to float16": lambda: convert(wide, out, "float16", overwrite=True),
        "to int8 (lossy)": lambda: convert(source, out, "int8", overwrite=True),
        "zstd": lambda: compress(source, out, "zstd", overwrite=True),
        "zstd back to flat": lambda: decompress(packed, out, overwrite=True),
        "safetensors": lambda: write_as(source, out, "safetensors", overwrite=True),
    }
    heading("Until it is on the disk, against cp of the file that was written")
    rows = []
    for name, way in ways.items():
        way()
        made = folder / "made.h5"
        shutil.copyfile(out, made)
        ours, cp = partial(from_rest, way, out), partial(from_rest, partial(copy, made, out), out)
        timed = interleaved({"cp": cp, "ours": ours}, rounds, warm_up=False)
        speed = made.stat().st_size / timed.median("ours") / 1e6
        ratio = timed.times_faster("ours", "cp")
        lossless = "lossy" not in name and name != "zstd"
        shown = goal(ratio, LEAST) if lossless else f"{ratio:.2f}"
        rows.append((name, f"{made.stat().st_size / 1e6:,.0f}", f"{speed:,.0f}", shown, f"{100 * timed.others:.0f} %"))
        made.unlink()
    table(["", "MB written", "MB/s", "of cp's speed", "others took"], rows)


def sizes(source: Path, folder: Path) -> None:
    """What each form takes, and what is left of the embeddings in it."""
    heading("Size and nearness")
    out, whole = folder / "out.h5", source.stat().st_size
    rows: list[tuple[str, ...]] = []
    for name, write in {
        "float32": lambda: convert(source, out, "float32", overwrite=True),
        "bfloat16": lambda: convert(source, out, "bfloat16", overwrite=True),
        "int8": lambda: convert(source, out, "int8", overwrite=True),
    }.items():
        write()
        assert verify(out).complete
        found = [row for row in diff(source, out).rows if row.cosine is not None]
        nearest = min((row.cosine or 0.0 for row in found), default=1.0)
        farthest = max((row.max_abs or 0.0 for row in found), default=0.0)
        rows.append((name, f"{out.stat().st_size / whole:.3f}", f"{nearest:.5f}", f"{farthest:.4g}"))
        if name == "int8":
            int8 = out.rename(folder / "int8.h5")
            compress(int8, out, "zstd", overwrite=True)
            rows.append(("int8, zstd", f"{out.stat().st_size / whole:.3f}", *rows[-1][2:]))
            int8.unlink()
    for compression in ("gzip", "zstd"):
        compress(source, out, compression, overwrite=True)
        rows.append((compression, f"{out.stat().st_size / whole:.3f}", "1", "0"))
    subset(source, out, Selection(level="cls"), overwrite=True)
    rows.append(("CLS alone", f"{out.stat().st_size / whole:.4f}", "1", "0"))
    table(["stored as", "size", "smallest cosine", "largest difference"], rows)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("file", type=Path, nargs="?", help="a finished embedding file of float16")
    parser.add_argument("--no-sizes", action="store_true", help="speeds alone")
    chosen = parser.parse_args()
    folder = chosen.folder / "cinefuse-sharing"
    folder.mkdir(exist_ok=True)
    try:
        describe_machine(["numpy", "zstandard"])
        source = chosen.file or invented(folder / "films.h5", 500 if chosen.quick else 3000)
        speeds(source, folder, chosen.rounds or (2 if chosen.quick else 5))
        if not chosen.no_sizes:
            sizes(source, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
