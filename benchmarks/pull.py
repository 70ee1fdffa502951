"""What a part of an embedding file costs to pull, counted at the server, and how fast the whole one is.

    python benchmarks/pull.py [--quick] [--films N] [--folder ON_THE_DISK_TO_MEASURE]

Posters as ViT-B/16 makes them and plots as MiniLM does, float16; 2,550 films are 1 GB. The values are drawn. The server
is on loopback: bytes and requests are those of a real one, seconds are not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from measure import arguments, describe_machine, heading, table

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.sharing.pull import pull
from cinefuse.data.sharing.selection import selection_from_only
from cinefuse.data.sharing.transfer_checks import SUFFIX, Sidecar

SHAPES = {"text": (116, 384), "image": (196, 768)}
POOL = 256
MOST = 1.1  # bytes transferred against bytes needed


class Server(ThreadingHTTPServer):
    """Serves the files of one folder by ranges, and counts."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent = self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.server.folder / self.path.strip("/")
        self.server.requests += 1
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, last = (int(wanted[1]), min(int(wanted[2] or size), size - 1)) if wanted else (0, size - 1)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{last}/{size}")
        self.send_header("Content-Length", str(last + 1 - start))
        self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        self.end_headers()
        self.wfile.flush()
        with path.open("rb") as stream:
            while start <= last:
                count = os.sendfile(self.connection.fileno(), stream.fileno(), start, last + 1 - start)
                start += count
                self.server.sent += count


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of `folder` on loopback."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def draw(path: Path, films: int) -> None:
    """Write an embedding file of `films` films."""
    rng = np.random.default_rng(0)
    layouts, pools = {}, {}
    for name, (tokens, width) in SHAPES.items():
        digest, batch = rng.integers(0, 256, (films, 32), np.uint8), np.arange(films, dtype=np.int32) // 16
        lengths = rng.integers(tokens - 40, tokens + 40, films) if name == "text" else np.full(films, tokens)
        ids = rng.integers(0, 30522, lengths.sum()).astype(np.int32) if name == "text" else None
        record = {"model": "drawn", "fingerprint": {}}
        layouts[name] = ModalityLayout(record, width, "float16", lengths.astype(np.int64), digest, batch, ids)
        pools[name] = rng.standard_normal((POOL, tokens + 41, width), np.float32).astype(np.float16)
    with EmbeddingFile.create(path, np.arange(films), layouts, {}) as file, RowWriter(file) as writer:
        for name, layout in layouts.items():
            for row, length in enumerate(layout.lengths.tolist()):
                film = pools[name][row % POOL]
                writer.write(name, row, film[0], film[1 : length + 1], Status.OK)


def parts(server: Server, films: int, folder: Path) -> None:
    """Print what each kind of part costs."""
    some = np.sort(np.random.default_rng(1).permutation(films)[: films // 20])
    near = np.arange(films // 2, films // 2 + films // 20)
    wanted: dict[str, tuple[list[str], list[str] | None]] = {
        "`--only text/cls`": (["text/cls"], None),
        "`--only image/cls`": (["image/cls"], None),
        "`--only cls`": (["cls"], None),
        "`--only text`": (["text"], None),
        f"`--items`, {len(some)} films here and there": ([], list(map(str, some))),
        f"`--items`, {len(near)} films side by side": ([], list(map(str, near))),
        f"`--only text/cls --items`, {len(some)} here and there": (["text/cls"], list(map(str, some))),
        "`--items`, one film": ([], ["7"]),
    }
    rows = []
    for what, (only, ids) in wanted.items():
        server.sent = server.requests = 0
        started = time.perf_counter()
        pulled = pull(f"{server.url}/films.h5", folder / "part.h5", selection_from_only(only, ids), overwrite=True)
        seconds = time.perf_counter() - started
        ratio = server.sent / pulled.needed
        shown = f"{ratio:.3f}"
        if only == ["text/cls"] and ids is None:
            shown = f"**{shown}** (at most {MOST:g}{'' if ratio <= MOST else ', missed'})"
        figures = (f"{pulled.needed / 1e6:,.2f}", f"{server.sent / 1e6:,.2f}", shown, server.requests, f"{seconds:.2f}")
        rows.append((what, *figures, pulled.proof.partition(";")[0]))
    table(["", "MB of the part", "MB transferred", "ratio", "requests", "s", "proof"], rows)


def whole(server: Server, path: Path, folder: Path, rounds: int) -> None:
    """Print how long the whole file takes, beside curl, which proves nothing."""
    out = folder / "whole.h5"
    times: dict[str, list[float]] = {"cinefuse": [], "curl, then `cinefuse cache verify`": [], "curl": []}
    for _ in range(rounds):
        started = time.perf_counter()
        pull(f"{server.url}/films.h5", out, overwrite=True)
        times["cinefuse"].append(time.perf_counter() - started)
        started = time.perf_counter()
        subprocess.run(["curl", "-s", "-o", out, f"{server.url}/films.h5"], check=True)
        times["curl"].append(time.perf_counter() - started)
        verify(out)
        times["curl, then `cinefuse cache verify`"].append(time.perf_counter() - started)
    size = path.stat().st_size / 1e6
    table(["", "s", "MB/s"], [(way, f"{min(s):.2f}", f"{size / min(s):,.0f}") for way, s in times.items()])


def main() -> None:
    """Run all of it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--films", type=int, help="how many films")
    options = parser.parse_args()
    films = options.films or (500 if options.quick else 2550)
    describe_machine(["numpy", "xxhash"])
    folder = Path(tempfile.mkdtemp(prefix="cinefuse-benchmark-", dir=options.folder))
    os.environ["no_proxy"] = "127.0.0.1"
    try:
        path = folder / "films.h5"
        draw(path, films)
        with serving(folder) as server:
            heading(
                f"Parts of a file of {films:,} films, {path.stat().st_size / 1e9:.2f} GB, with FILE{SUFFIX} beside it"
            )
            path.with_name(path.name + SUFFIX).write_bytes(Sidecar.of(path).encode())
            parts(server, films, folder)
            heading(f"The same without FILE{SUFFIX}")
            path.with_name(path.name + SUFFIX).unlink()
            parts(server, films, folder)
            if shutil.which("curl"):
                heading("The whole file over loopback")
                whole(server, path, folder, options.rounds or 3)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
