"""Writing, opening and reading an embedding file, beside plain h5py.

    python benchmarks/embedding_file.py [--quick] [--films N] [--rounds N] [--folder ON_THE_DISK_TO_MEASURE]

Posters as ViT-B/16 makes them, 196 tokens x 768, and plots as MiniLM does, 116 x 384, all float16; 3,883 films of the
former are 1.2 GB. The values are drawn, not encoded.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
from measure import Rounds, arguments, describe_machine, goal, heading, interleaved, resident, table

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter, row_checksum
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.disk import reserve

POSTER, PLOT = (196, 768), (116, 384)
POOL_BYTES = 96 * 2**20
GATHERED = 256
RAW, OURS, GATHER, COPY = "raw `pwrite`", "cinefuse, checksums included", "cinefuse `gather`", "plain copy of memory"


class Films:
    """Embeddings of `count` films to write: a drawn pool, larger than a processor's caches, used over and over."""

    def __init__(self, count: int, shape: tuple[int, int]) -> None:
        self.count = count
        self.tokens, self.width = shape
        self.row_bytes = self.width * 2
        self.film_bytes = (1 + self.tokens) * self.row_bytes
        self.bytes = count * self.film_bytes
        rng = np.random.default_rng(0)
        pool = POOL_BYTES // self.film_bytes
        self._pool = rng.standard_normal((pool, 1 + self.tokens, self.width), np.float32).astype(np.float16)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """cls (D,) and tokens (T, D) of one film."""
        film = self._pool[row % len(self._pool)]
        return film[0], film[1:]

    def layout(self) -> ModalityLayout:
        """The layout of a file that holds them all."""
        digest = np.random.default_rng(1).integers(0, 256, (self.count, 32), np.uint8)
        lengths, batch = np.full(self.count, self.tokens, np.int64), np.arange(self.count, dtype=np.int32) // 16
        return ModalityLayout({"model": "drawn", "fingerprint": {}}, self.width, "float16", lengths, digest, batch)


def clocked(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- writing ---------------------------------------------------------------------------------------------------------


def write_ours(films: Films, path: Path, sync: bool) -> float:
    """Seconds to write all rows of a file that is laid out already."""
    path.unlink(missing_ok=True)
    with EmbeddingFile.create(path, np.arange(films.count), {"image": films.layout()}, {}) as file:

        def write() -> None:
            with RowWriter(file) as writer:
                for row in range(films.count):
                    writer.write("image", row, *films[row], Status.OK)
                if sync:
                    writer.sync()

        return clocked(write)


def write_raw(films: Films, path: Path, sync: bool) -> float:
    """Seconds to `pwrite` the same embeddings to the same places of a file reserved in the same way, and no more."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    reserve(descriptor, films.bytes)
    os.fsync(descriptor)

    def write() -> None:
        tokens_at = films.count * films.row_bytes
        for row in range(films.count):
            cls, tokens = films[row]
            os.pwrite(descriptor, cls.data, row * films.row_bytes)
            os.pwrite(descriptor, tokens.data, tokens_at + row * tokens.nbytes)
        if sync:
            os.fsync(descriptor)

    seconds = clocked(write)
    os.close(descriptor)
    return seconds


def write_h5py(films: Films, path: Path, sync: bool, *, chunked: bool = False, gzip: bool = False) -> float:
    """Seconds to write the same films one by one into (N, T, D) of h5py, closing the file included."""
    path.unlink(missing_ok=True)
    shape = (films.tokens, films.width)
    how: dict[str, Any] = {"chunks": (1, *shape)} if chunked else {}
    if gzip:
        how["compression"] = "gzip"

    def write() -> None:
        with h5py.File(path, "w") as file:
            cls = file.create_dataset("cls", (films.count, films.width), "f2")
            tokens = file.create_dataset("tokens", (films.count, *shape), "f2", **how)
            for row in range(films.count):
                cls[row], tokens[row] = films[row]
        if sync:
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    return clocked(write)


def writing(films: Films, noun: str, folder: Path, rounds: int, patience: int) -> None:
    """Print how fast rows are written."""
    size = films.film_bytes / 1e3
    heading(f"Writing {films.count:,} {noun} of {size:.0f} kB one by one, {films.bytes / 1e9:.2f} GB")
    checksums = clocked(lambda: [row_checksum(*films[row], Status.OK, Reason.NONE) for row in range(films.count)])
    files = [folder / name for name in ("raw", "ours.h5", "plain.h5", "chunked.h5", "gzip.h5")]
    for sync in (False, True):
        ways: dict[str, Callable[[], float]] = {
            RAW: partial(write_raw, films, files[0], sync),
            OURS: partial(write_ours, films, files[1], sync),
            "h5py, contiguous": partial(write_h5py, films, files[2], sync),
            "h5py, a chunk a film": partial(write_h5py, films, files[3], sync, chunked=True),
        }
        found = interleaved(ways, rounds, patience=patience)
        found.warn()
        rows = [[way, f"{films.bytes / found.median(way) / 1e6:,.0f}", _share(found, way)] for way in ways]
        if not sync:
            few = Films(64, (films.tokens, films.width))
            seconds = write_h5py(few, files[4], sync, chunked=True, gzip=True)
            rows.append([f"h5py, a chunk a film, gzip ({few.count} films)", f"{few.bytes / seconds / 1e6:,.0f}", ""])
        print("Until `fsync` returns:\n" if sync else "Into the page cache, no `fsync`:\n")
        table(["", "MB/s", "of raw `pwrite`"], rows)
    print(f"The checksums alone: {films.bytes / checksums / 1e6:,.0f} MB/s.")
    for file in files:
        file.unlink()


def _share(found: Rounds, way: str) -> str:
    times = found.times_faster(way, RAW)
    return goal(times, 0.5) if way == OURS else f"{times:.2f}"


# --- opening ---------------------------------------------------------------------------------------------------------


def opening(path: Path, rounds: int) -> None:
    """Print how long opening takes, and what memory."""
    heading(f"Opening a file of {path.stat().st_size / 1e9:.2f} GB (goal: under 50 ms)")
    ways: dict[str, Callable[[], Any]] = {
        "cinefuse: header, metadata hash, offsets and statuses checked": partial(EmbeddingFile.open, path),
        "h5py.File, and the offsets read": partial(_open_with_h5py, path),
    }
    rows = []
    for way, open_file in ways.items():
        open_file().close()
        before = resident()
        opened = open_file()
        taken = max(resident() - before, 0)
        opened.close()
        warm = median(_opened(open_file) for _ in range(10 * rounds))
        cold = median(_opened_cold(path, open_file) for _ in range(rounds))
        rows.append((way, f"{warm * 1e3:.2f}", f"{cold * 1e3:.2f}", f"{taken / 1e6:.1f}"))
    table(["", "ms, page cache warm", "ms, page cache dropped before", "MB of memory"], rows)
    seconds = clocked(lambda: verify(path))
    print(f"`cinefuse cache verify`, which reads every byte: {seconds:.2f} s.")


def _open_with_h5py(path: Path) -> h5py.File:
    file = h5py.File(path)
    file["image/offsets"][:]
    return file


def _opened(open_file: Callable[[], Any]) -> float:
    return clocked(lambda: open_file().close())


def _opened_cold(path: Path, open_file: Callable[[], Any]) -> float:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return _opened(open_file)


# --- gathering -------------------------------------------------------------------------------------------------------


class Draws:
    """Reads the tokens of films drawn at random into one buffer, in every way."""

    def __init__(self, films: Films, buffer: np.ndarray) -> None:
        self._films, self._rng = films, np.random.default_rng(2)
        self.buffer = buffer
        self._by_film = self.buffer.reshape(GATHERED, films.tokens, films.width)
        self._elsewhere = np.ones_like(self.buffer)

    def rows(self, among: int) -> np.ndarray:
        """Other rows at each call."""
        return self._rng.choice(among, GATHERED, replace=False)

    def copy(self) -> None:
        """As many bytes from elsewhere in memory."""
        np.copyto(self.buffer, self._elsewhere)

    def gather(self, file: EmbeddingFile) -> None:
        """Ours."""
        file.image.gather(self.rows(len(file)), self.buffer)

    def slices(self, dataset: h5py.Dataset) -> None:
        """A read for each film out of flat tokens (sum T, D)."""
        length = self._films.tokens
        for place, row in enumerate(self.rows(self._films.count).tolist()):
            source = np.s_[row * length : (row + 1) * length]
            dataset.read_direct(self.buffer, source, np.s_[place * length : (place + 1) * length])

    def fancy(self, dataset: h5py.Dataset) -> None:
        """All of them by one list of row numbers, which h5py wants ascending, out of flat tokens (sum T, D)."""
        length = self._films.tokens
        rows = np.sort(self.rows(self._films.count))[:, None] * length + np.arange(length)
        dataset.read_direct(self.buffer, np.s_[rows.ravel()])

    def films_fancy(self, dataset: h5py.Dataset) -> None:
        """All of them by one list of film numbers out of (N, T, D)."""
        dataset.read_direct(self._by_film, np.s_[np.sort(self.rows(len(dataset)))])

    def film_by_film(self, dataset: h5py.Dataset) -> None:
        """A read for each film out of (N, T, D)."""
        for place, row in enumerate(self.rows(len(dataset)).tolist()):
            dataset.read_direct(self._by_film, np.s_[row], np.s_[place])


def gathering(films: Films, path: Path, folder: Path, rounds: int, patience: int) -> None:
    """Print how fast the tokens of films drawn at random come into a buffer that is used again."""
    size = GATHERED * films.tokens * films.row_bytes
    heading(f"The tokens of {GATHERED} films drawn at random, {size / 1e6:.0f} MB, into a reused buffer, warm")
    shape = (films.tokens, films.width)
    write_h5py(films, folder / "plain.h5", False)
    write_h5py(films, folder / "chunked.h5", False, chunked=True)
    write_h5py(Films(2 * GATHERED, shape), folder / "gzip.h5", False, chunked=True, gzip=True)
    with (
        EmbeddingFile.open(path) as file,
        h5py.File(path) as same,
        h5py.File(folder / "plain.h5") as plain,
        h5py.File(folder / "chunked.h5") as chunked,
        h5py.File(folder / "gzip.h5") as gzip,
    ):
        # every way fills the buffer that an earlier `gather` returned, as a training does
        draws = Draws(films, file.image.gather(np.arange(GATHERED))[0])
        file.image.tokens[::2].sum(dtype=np.float32)  # every page is mapped, as after the first epoch of a training
        often: dict[str, Callable[[], object]] = {
            COPY: draws.copy,
            GATHER: partial(draws.gather, file),
            "h5py, the same dataset, fancy indexing": partial(draws.fancy, same["image/tokens"]),
            "h5py, the same dataset, a slice a film": partial(draws.slices, same["image/tokens"]),
            "h5py, contiguous (N, T, D), fancy indexing": partial(draws.films_fancy, plain["tokens"]),
            "h5py, a chunk a film, film by film": partial(draws.film_by_film, chunked["tokens"]),
        }
        rarely: dict[str, Callable[[], object]] = {
            "h5py, a chunk a film, gzip, film by film": partial(draws.film_by_film, gzip["tokens"]),
            "h5py, a chunk a film, fancy indexing": partial(draws.films_fancy, chunked["tokens"]),
        }
        often_found = interleaved(often, 4 * rounds, patience=patience)
        rarely_found = interleaved(rarely, 1, warm_up=False)
    ours = often_found.median(GATHER)
    rows = []
    for found, ways in ((often_found, often), (rarely_found, rarely)):
        for way in ways:
            seconds = found.median(way)
            times = often_found.times_faster(GATHER, way) if found is often_found else seconds / ours
            rows.append((way, f"{seconds * 1e3:,.1f}", f"{size / seconds / 1e6:,.0f}", _judged(way, times)))
    table(["", "ms", "MB/s", "`gather` is faster by"], rows)


def _judged(way: str, times: float) -> str:
    if way == COPY:
        return goal(times, 0.7)
    return goal(times, 2) if way.endswith("same dataset, fancy indexing") else f"{times:.2f}"


def main() -> None:
    """Run all of it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--films", type=int, help="how many films, at least 512")
    options = parser.parse_args()
    count = options.films or (768 if options.quick else 3883)
    posters, plots = Films(count, POSTER), Films(count, PLOT)
    rounds = options.rounds or (3 if options.quick else 7)
    describe_machine(["numpy", "h5py", "xxhash"])
    folder = Path(tempfile.mkdtemp(prefix="cinefuse-benchmark-", dir=options.folder))
    try:
        writing(posters, "posters", folder, rounds, options.patience)
        writing(plots, "plots", folder, rounds, options.patience)
        path = folder / "embeddings.h5"
        write_ours(posters, path, sync=True)
        opening(path, rounds)
        gathering(posters, path, folder, rounds, options.patience)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
