"""A web server of embedding files that misbehaves as it is configured to, and helpers of the tests of push and pull."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.remote.retry import Retry
from cinefuse.data.sharing.pull import Pulled, pull
from cinefuse.data.sharing.selection import Selection
from cinefuse.tests.support.loopback import Quiet

ITEMS = 120
TEXT = Selection(("text",), "cls")


def drawn(
    path: Path, finished: int = ITEMS, about: dict[str, object] | None = None, seed: int = 0, width: int = 48
) -> Path:
    """An embedding file of drawn values: plots of 1 to 40 tokens, posters of 16, one of each missing."""
    rng = np.random.default_rng(seed)
    lengths = {"text": rng.integers(1, 40, ITEMS), "image": np.full(ITEMS, 16)}
    digest = rng.integers(0, 256, (ITEMS, 32), np.uint8)
    layouts = {
        name: ModalityLayout(
            {"model": name, "fingerprint": {"weights": name}},
            width,
            "float16",
            count.astype(np.int64),
            digest,
            np.arange(ITEMS, dtype=np.int32),
            np.arange(count.sum(), dtype=np.int32) if name == "text" else None,
        )
        for name, count in lengths.items()
    }
    with EmbeddingFile.create(path, np.arange(1, ITEMS + 1) * 10, layouts, about or {}) as file, RowWriter(file) as to:
        for name, count in lengths.items():
            to.write_absent(name, 0, Status.MISSING, Reason.NOT_GIVEN)
            for row in range(1, finished):
                cls, tokens = (
                    rng.standard_normal(shape).astype(np.float16) for shape in ((width,), (count[row], width))
                )
                to.write(name, row, cls, tokens, Status.OK)
    return path


@dataclass
class Web:
    """A web server: what it serves, how it behaves, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    etag: Callable[[int], str] = lambda request: '"one"'
    spoil: Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]] | None = None
    torn_after: int | None = None
    status: list[int] = field(default_factory=list)
    pause: float = 0.0
    redirect: str | None = None
    asked: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    sent: int = 0
    busy: int = 0

    def serve(self, content: bytes, name: str = "films.h5") -> str:
        self.files[f"/{name}"] = content
        return f"{self.url}/{name}"


def web_handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.busy += 1
            try:
                self.answer()
            finally:
                web.busy -= 1

        def answer(self) -> None:
            path = self.path.partition("?")[0]
            web.authorizations.append(self.headers.get("Authorization"))
            if web.redirect and path != "/redirected.h5":
                self.send_response(302)
                self.send_header("Location", web.redirect)
                self.end_headers()
                return
            content = web.files.get(path)
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if web.status and not path.endswith(".sha256"):
                self.send_error(web.status.pop(0))
                return
            if content is None:
                self.send_error(404)
                return
            web.asked.append(self.headers.get("Range", path))
            if wanted and web.ranges and not content:
                self.send_error(416)
                return
            status, headers, body = 200, {"ETag": web.etag(len(web.asked))}, content
            if wanted and web.ranges:
                start, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
                status, body = 206, content[start : last + 1]
                headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
            headers["Content-Length"] = str(len(body))
            if web.spoil and len(web.asked) > 1:
                status, headers, body = web.spoil(status, headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if web.torn_after is not None and len(body) > 1:
                body = body[: web.torn_after]
            for place in range(0, len(body), 2**14):
                time.sleep(web.pause)
                block = body[place : place + 2**14]
                try:
                    self.wfile.write(block)
                except OSError:
                    return
                web.sent += len(block)

    return Handler


def bring(
    source: str | Path, out: Path, selection: Selection | None = None, tries: int = 3, **options: object
) -> Pulled:
    return pull(str(source), out, selection, retry=Retry(tries, 0), **options)  # type: ignore[arg-type]


def arrays(path: Path) -> dict[str, bytes]:
    with EmbeddingFile.open(path, pending=True) as opened:
        return {name: opened.raw_array(name).tobytes() for name in opened.header.datasets}


Answer = tuple[int, dict[str, str], bytes]


def unavailable(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Size and head are served, and nothing else."""
    return (status, headers, body) if headers.get("Content-Range", "").startswith("bytes 0-") else (503, {}, b"")


def shifted(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Right headers, bytes from one place further on."""
    return status, headers, body[1:] + b"\0"


def one_further_on(value: str) -> str:
    """The same number of bytes, from one place further on."""
    first, last, size = map(int, re.findall(r"\d+", value))
    return f"bytes {first + 1}-{last + 1}/{size}"


def more(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Consistent in itself, and ten bytes longer."""
    first, last, size = map(int, re.findall(r"\d+", headers["Content-Range"]))
    length = str(len(body) + 10)
    value = {"Content-Range": f"bytes {first}-{last + 10}/{size}", "Content-Length": length}
    return status, headers | value, body + bytes(10)


def header(name: str, change: Callable[[str], str]) -> Callable[[int, dict[str, str], bytes], Answer]:
    return lambda status, headers, body: (status, headers | {name: change(headers.get(name, ""))}, body)


LIES = {
    "bytes of another place": shifted,
    "zeros": lambda status, headers, body: (status, headers, bytes(len(body))),
    "another range": header("Content-Range", one_further_on),
    "more than was asked for": more,
    "another size": header("Content-Range", lambda value: re.sub(r"/\d+", "/999999999", value)),
    "no range at all": header("Content-Range", lambda value: "here you are"),
    "the whole file": lambda status, headers, body: (200, headers, body),
    "packed bytes": header("Content-Encoding", lambda value: "gzip"),
    "another length": header("Content-Length", lambda value: str(int(value) + 1)),
    "another version": header("ETag", lambda value: '"two"'),
    "no version": lambda status, headers, body: (status, {k: v for k, v in headers.items() if k != "ETag"}, body),
}


def damaged(path: Path, dataset: str, at: int = 500) -> bytes:
    """The file's bytes with one bit of `dataset` flipped."""
    content = bytearray(path.read_bytes())
    with EmbeddingFile.open(path) as opened:
        content[opened.header.datasets[dataset].offset + at] ^= 1
    return bytes(content)


LOGIN = "reader:opensesame"
SIGNATURE = "X-Amz-Signature=f00dfeed"
