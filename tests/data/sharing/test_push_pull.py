"""Laws of pushing and pulling, against real servers on loopback: proven before it gets its name, and never a secret."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.remote.address import hub_place, redacted
from cinefuse.data.remote.remote_file import Span, coalesced
from cinefuse.data.remote.retry import Retry, TransientTransferError
from cinefuse.data.remote.web_file import Redirects, WebFile
from cinefuse.data.runtime.errors import BadInput, Busy, CinefuseError, DamagedFile, UsageError
from cinefuse.data.runtime.lock import sole_writer
from cinefuse.data.sharing.pull import Expected, Pulled, pull
from cinefuse.data.sharing.push import push
from cinefuse.data.sharing.selection import Selection, selection_from_only
from cinefuse.data.sharing.subset import subset
from cinefuse.data.sharing.transfer_checks import Sidecar

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


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished embedding file of half a megabyte."""
    return drawn(tmp_path_factory.mktemp("drawn") / "films.h5")


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
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

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


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    state = Web()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), web_handler(state))
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{listening.server_address[1]}"
    yield state
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def web(server: Web) -> Web:
    """The server as a well-behaved one that serves nothing yet."""
    fresh = Web(url=server.url)
    server.__dict__.update(fresh.__dict__)
    return server


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def bring(
    source: str | Path, out: Path, selection: Selection | None = None, tries: int = 3, **options: object
) -> Pulled:
    return pull(str(source), out, selection, retry=Retry(tries, 0), **options)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def arrays(path: Path) -> dict[str, bytes]:
    with EmbeddingFile.open(path, pending=True) as opened:
        return {name: opened.array(name).tobytes() for name in opened.header.datasets}


Answer = tuple[int, dict[str, str], bytes]


def unavailable(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Size and head are served, and nothing else."""
    return (status, headers, body) if headers.get("Content-Range", "").startswith("bytes 0-") else (503, {}, b"")


# --- what arrives ---


def test_a_whole_file_arrives_byte_for_byte(file: Path, web: Web, tmp_path: Path) -> None:
    pulled = bring(web.serve(file.read_bytes()), tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == file.read_bytes()
    assert names(tmp_path) == ["out.h5"]
    assert pulled.received == file.stat().st_size
    with EmbeddingFile.open(file) as opened:
        assert pulled.digest == opened.content_digest


def test_a_server_without_ranges_or_lengths_serves_a_whole_file_too(file: Path, web: Web, tmp_path: Path) -> None:
    web.ranges = False
    web.spoil = lambda status, headers, body: (status, {"ETag": headers["ETag"]}, body)
    bring(web.serve(file.read_bytes()), tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("only", [["text"], ["image"], ["text/cls"], ["image/cls"], ["cls"], ["text", "image"]])
@pytest.mark.parametrize("ids", [None, [900, 20, 500, 30, 10]])
def test_a_part_is_what_subset_would_cut(
    file: Path, web: Web, tmp_path: Path, only: list[str], ids: list[int] | None
) -> None:
    selection = selection_from_only(only, None if ids is None else list(map(str, ids)))
    assert selection is not None
    bring(web.serve(file.read_bytes()), tmp_path / "pulled.h5", selection)
    subset(file, tmp_path / "cut.h5", Selection(selection.modalities, selection.level, ids))
    assert arrays(tmp_path / "pulled.h5") == arrays(tmp_path / "cut.h5")
    assert verify(tmp_path / "pulled.h5").complete


def test_a_part_costs_little_more_than_its_own_bytes(web: Web, tmp_path: Path) -> None:
    content = drawn(tmp_path / "films.h5").read_bytes()
    sidecar = Sidecar.of(tmp_path / "films.h5").encode()
    url = web.serve(content)
    web.serve(sidecar, "films.h5.sha256")
    pulled = bring(url, tmp_path / "cls.h5", TEXT)
    head = 2**15  # of so small a file the head is a large part
    assert pulled.needed == (tmp_path / "cls.h5").stat().st_size
    assert web.sent - len(sidecar) <= 1.1 * pulled.needed + head
    assert web.sent < len(content) / 5


def test_the_header_of_a_part_tells_where_it_comes_from_and_what_proved_it(
    file: Path, web: Web, tmp_path: Path
) -> None:
    url = web.serve(file.read_bytes())
    bring(url, tmp_path / "part.h5", TEXT)
    with EmbeddingFile.open(file) as source, EmbeddingFile.open(tmp_path / "part.h5") as part:
        step = part.header.about["lineage"][-1]
        assert step["from"] == [source.content_digest]
        assert step["digest"] == part.content_digest
        assert step["with"]["source"] == url
        assert step["with"]["proven_by"].endswith("rows of a sample")


def test_an_item_that_is_not_there_is_named(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes())
    with pytest.raises(BadInput, match="not in the file: 11"):
        bring(url, tmp_path / "out.h5", Selection(ids=["10", "11"]))
    with pytest.raises(BadInput, match="its ids are numbers, wanted is 'ten'"):
        bring(url, tmp_path / "out.h5", Selection(ids=["ten"]))
    assert "out.h5" not in names(tmp_path)


def test_a_server_without_ranges_is_not_made_to_send_everything_for_a_part_unasked(
    file: Path, web: Web, tmp_path: Path
) -> None:
    web.ranges, web.pause = False, 0.02
    url = web.serve(file.read_bytes())
    with pytest.raises(UsageError, match=f"{file.stat().st_size:,} bytes.*--whole"):
        bring(url, tmp_path / "part.h5", TEXT)
    while web.busy:
        time.sleep(0.01)
    assert web.sent < file.stat().st_size
    web.pause = 0.0
    bring(url, tmp_path / "part.h5", TEXT, whole=True)
    subset(file, tmp_path / "cut.h5", TEXT)
    assert arrays(tmp_path / "part.h5") == arrays(tmp_path / "cut.h5")


# --- transfers that break ---


def test_torn_transfers_are_continued_where_they_tore(file: Path, web: Web, tmp_path: Path) -> None:
    web.torn_after = 50_000
    bring(web.serve(file.read_bytes()), tmp_path / "out.h5", tries=2)
    assert (tmp_path / "out.h5").read_bytes() == file.read_bytes()
    assert web.sent <= file.stat().st_size + 1


def test_a_server_in_trouble_is_asked_again(file: Path, web: Web, tmp_path: Path) -> None:
    web.status = [503, 500]
    bring(web.serve(file.read_bytes()), tmp_path / "out.h5", tries=3)
    assert (tmp_path / "out.h5").read_bytes() == file.read_bytes()


def test_a_server_that_stays_in_trouble_is_given_up_and_what_arrived_waits(
    file: Path, web: Web, tmp_path: Path
) -> None:
    web.spoil = unavailable
    url = web.serve(file.read_bytes())
    with pytest.raises(BadInput, match=r"3 attempts in a row failed.*continues it"):
        bring(url, tmp_path / "out.h5")
    assert names(tmp_path) == ["out.h5.part", "out.h5.part.json"]
    web.spoil, web.sent = None, 0
    pulled = bring(url, tmp_path / "out.h5")
    assert pulled.resumed == 2**15
    assert web.sent <= file.stat().st_size - 2**15 + 1


def test_nobody_listening_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="attempts in a row failed"):
        bring("http://127.0.0.1:9/films.h5", tmp_path / "out.h5")
    assert names(tmp_path) == []


@pytest.mark.parametrize("options", [[], ["--only", "text"]])
def test_a_killed_pull_goes_on_where_it_was(web: Web, tmp_path: Path, options: list[str]) -> None:
    content = bytearray(drawn(tmp_path / "films.h5").read_bytes())
    url = web.serve(bytes(content))
    command = [sys.executable, "-m", "cinefuse.cli", "cache", "pull", url, str(tmp_path / "out.h5"), *options]
    web.pause = 0.05
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part = tmp_path / "out.h5.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= 2**15) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.h5").exists()
    kept = part.stat().st_size
    web.pause = 0.0
    while web.busy:
        time.sleep(0.01)
    web.sent = 0
    pulled = bring(url, tmp_path / "out.h5", selection_from_only(options[1:], None))
    assert kept >= 2**15
    assert pulled.resumed == kept
    assert web.sent == pulled.received + 1  # and one byte to ask for size and version
    assert verify(tmp_path / "out.h5").complete
    assert not part.exists()


def test_a_pull_that_is_interrupted_says_so_and_keeps_what_arrived(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes())
    command = [sys.executable, "-m", "cinefuse.cli", "cache", "pull", url, str(tmp_path / "out.h5")]
    web.spoil = unavailable  # so the next attempt is waited for
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(web.asked) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(told.splitlines()) == 1
    assert names(tmp_path) == ["out.h5.part", "out.h5.part.json"]


def test_bytes_of_another_pull_are_not_continued(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes())
    (tmp_path / "out.h5.part").write_bytes(b"x" * 5000)
    assert bring(url, tmp_path / "out.h5").resumed == 0


def test_bytes_that_an_earlier_pull_left_damaged_are_fetched_again(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes())
    web.spoil = unavailable
    with pytest.raises(BadInput):
        bring(url, tmp_path / "out.h5", tries=1)
    web.spoil = None
    left = bytearray((tmp_path / "out.h5.part").read_bytes())
    left[100] ^= 1
    (tmp_path / "out.h5.part").write_bytes(left)
    bring(url, tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == file.read_bytes()


# --- servers that lie ---


def shifted(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Right headers, bytes from one place further on."""
    return status, headers, body[1:] + b"\0"


def one_further_on(told: str) -> str:
    """The same number of bytes, from one place further on."""
    first, last, size = map(int, re.findall(r"\d+", told))
    return f"bytes {first + 1}-{last + 1}/{size}"


def more(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Consistent in itself, and ten bytes longer."""
    first, last, size = map(int, re.findall(r"\d+", headers["Content-Range"]))
    length = str(len(body) + 10)
    told = {"Content-Range": f"bytes {first}-{last + 10}/{size}", "Content-Length": length}
    return status, headers | told, body + bytes(10)


def header(name: str, change: Callable[[str], str]) -> Callable[[int, dict[str, str], bytes], Answer]:
    return lambda status, headers, body: (status, headers | {name: change(headers.get(name, ""))}, body)


LIES = {
    "bytes of another place": shifted,
    "zeros": lambda status, headers, body: (status, headers, bytes(len(body))),
    "another range": header("Content-Range", one_further_on),
    "more than was asked for": more,
    "another size": header("Content-Range", lambda told: re.sub(r"/\d+", "/999999999", told)),
    "no range at all": header("Content-Range", lambda told: "here you are"),
    "the whole file": lambda status, headers, body: (200, headers, body),
    "packed bytes": header("Content-Encoding", lambda told: "gzip"),
    "another length": header("Content-Length", lambda told: str(int(told) + 1)),
    "another version": header("ETag", lambda told: '"two"'),
    "no version": lambda status, headers, body: (status, {k: v for k, v in headers.items() if k != "ETag"}, body),
}


@pytest.mark.parametrize("selection", [None, TEXT, Selection(ids=["20", "900"])], ids=["whole", "cls", "items"])
@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_is_refused_and_nothing_is_kept(
    file: Path, web: Web, tmp_path: Path, lie: str, selection: Selection | None
) -> None:
    def from_the_third(status: int, headers: dict[str, str], body: bytes) -> Answer:
        honest = len(web.asked) <= 2  # size and head
        return (status, headers, body) if honest else LIES[lie](status, headers, body)  # type: ignore[operator]

    web.spoil = from_the_third
    with pytest.raises(DamagedFile) as refusal:
        bring(web.serve(file.read_bytes()), tmp_path / "out.h5", selection)
    assert refusal.value.exit_code == 4
    assert "\n" not in str(refusal.value)
    if lie not in ("bytes of another place", "zeros"):  # those that the answer itself gives away
        assert re.search("the server sent|the file changed|packed", str(refusal.value))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "found a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(5000), "expected a cinefuse embedding file"),
        (b"", "empty|expected a cinefuse"),
    ],
)
@pytest.mark.parametrize("ranges", [True, False])
def test_something_else_than_an_embedding_file_is_named(
    web: Web, tmp_path: Path, content: bytes, told: str, ranges: bool
) -> None:
    web.ranges = ranges
    with pytest.raises((DamagedFile, BadInput), match=told):
        bring(web.serve(content), tmp_path / "out.h5")
    assert names(tmp_path) == []


def test_a_file_of_another_size_than_its_header_says_is_refused_before_it_is_fetched(
    file: Path, web: Web, tmp_path: Path
) -> None:
    for content in (file.read_bytes()[:-100], file.read_bytes() + bytes(100)):
        web.sent = 0
        with pytest.raises(DamagedFile, match="as its header says"):
            bring(web.serve(content), tmp_path / "out.h5")
        assert web.sent <= 2**15 + 1
    assert names(tmp_path) == []


def damaged(path: Path, dataset: str, at: int = 500) -> bytes:
    """The file's bytes with one bit of `dataset` flipped."""
    content = bytearray(path.read_bytes())
    with EmbeddingFile.open(path) as opened:
        content[opened.header.datasets[dataset].offset + at] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("dataset", "selection"),
    [
        ("text/tokens", None),
        ("text/cls", None),
        ("items/id", None),
        ("text/tokens", Selection(("text",))),
        ("text/cls", Selection(("text",))),
        ("text/offsets", TEXT),
        ("text/digest", TEXT),
        ("items/id", TEXT),
    ],
)
def test_a_flipped_bit_in_what_is_pulled_is_found(
    file: Path, web: Web, tmp_path: Path, dataset: str, selection: Selection | None
) -> None:
    with pytest.raises(DamagedFile, match="damaged"):
        bring(web.serve(damaged(file, dataset)), tmp_path / "out.h5", selection)
    assert names(tmp_path) == []


def test_a_flipped_bit_in_a_cls_alone_is_found_by_the_digest_in_the_sidecar(
    file: Path, web: Web, tmp_path: Path
) -> None:
    url = web.serve(damaged(file, "text/cls"))
    web.serve(Sidecar.of(file).encode(), "films.h5.sha256")
    with pytest.raises(DamagedFile, match="expected text/cls with SHA-256"):
        bring(url, tmp_path / "out.h5", TEXT)
    assert names(tmp_path) == []
    web.serve(file.read_bytes())
    assert "the SHA-256 of text/cls" in bring(url, tmp_path / "out.h5", TEXT).proof


def test_without_a_sidecar_a_cls_alone_is_said_to_be_sampled_only(file: Path, web: Web, tmp_path: Path) -> None:
    assert "only a sample agrees, rows: 1" in bring(web.serve(file.read_bytes()), tmp_path / "out.h5", TEXT).proof


def test_a_sample_shows_that_rows_are_not_those_of_their_items(file: Path, web: Web, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    with EmbeddingFile.open(file) as opened:
        cls, first = opened.array("text/cls"), opened.header.datasets["text/cls"].offset + 2 * 48
        content[first : first + 2 * 48 * (ITEMS - 1)] = np.roll(cls[1:], 1, axis=0).tobytes()
    with pytest.raises(DamagedFile, match="its checksum disagrees"):
        bring(web.serve(bytes(content)), tmp_path / "out.h5", TEXT)
    assert names(tmp_path) == []


# --- digests ---


def test_another_file_than_the_one_expected_is_refused(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes())
    sidecar = Sidecar.of(file)
    wrong = "0" * 64
    for expected, told in ((Expected(sha256=wrong), "--sha256"), (Expected(digest=wrong), "--digest")):
        with pytest.raises(DamagedFile, match=told):
            bring(url, tmp_path / "out.h5", expected=expected)
    with pytest.raises(DamagedFile, match="--digest"):
        bring(url, tmp_path / "out.h5", TEXT, expected=Expected(digest=wrong))
    assert names(tmp_path) == []
    bring(url, tmp_path / "out.h5", expected=Expected(sidecar.sha256, sidecar.content))
    bring(url, tmp_path / "part.h5", TEXT, expected=Expected(digest=sidecar.content))
    with pytest.raises(UsageError, match="--digest"):
        bring(url, tmp_path / "more.h5", TEXT, expected=Expected(sha256=sidecar.sha256))


def test_a_sidecar_that_speaks_of_another_file_is_believed_unless_the_user_knows_better(
    file: Path, web: Web, tmp_path: Path
) -> None:
    url = web.serve(file.read_bytes())
    other = Sidecar.of(drawn(tmp_path / "other.h5", seed=1))
    web.serve(other.encode(), "films.h5.sha256")
    for selection in (None, TEXT):
        with pytest.raises(DamagedFile, match=r"films\.h5\.sha256"):
            bring(url, tmp_path / "out.h5", selection)
    bring(url, tmp_path / "out.h5", expected=Expected(sha256=Sidecar.of(file).sha256))


def test_what_is_no_sidecar_is_ignored(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes())
    web.serve(b"<html>no such page</html>", "films.h5.sha256")
    assert "no SHA-256 was published" in bring(url, tmp_path / "out.h5").proof


def test_a_file_that_is_there_already_is_not_pulled_again_nor_replaced(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes())
    web.serve(Sidecar.of(file).encode(), "films.h5.sha256")
    shutil.copy(file, tmp_path / "out.h5")
    assert bring(url, tmp_path / "out.h5").already
    drawn(tmp_path / "other.h5", seed=1).replace(tmp_path / "out.h5")
    before = (tmp_path / "out.h5").read_bytes()
    with pytest.raises(BadInput, match="is there already"):
        bring(url, tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == before
    bring(url, tmp_path / "out.h5", overwrite=True)
    assert (tmp_path / "out.h5").read_bytes() == file.read_bytes()


def test_two_pulls_to_one_place_do_not_mix(file: Path, web: Web, tmp_path: Path) -> None:
    with sole_writer(tmp_path / "out.h5"), pytest.raises(Busy):
        bring(web.serve(file.read_bytes()), tmp_path / "out.h5")


def test_an_unfinished_file_is_pulled_only_on_request(web: Web, tmp_path: Path) -> None:
    url = web.serve(drawn(tmp_path / "films.h5", finished=50).read_bytes())
    for selection in (None, TEXT):
        with pytest.raises(DamagedFile, match="rows pending"):
            bring(url, tmp_path / "out.h5", selection)
        bring(url, tmp_path / f"{selection is None}.h5", selection, partial=True)


# --- secrets ---

LOGIN = "reader:opensesame"
SIGNATURE = "X-Amz-Signature=f00dfeed"


def test_no_secret_of_an_address_is_written_or_told(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes()).replace("//", f"//{LOGIN}@") + f"?{SIGNATURE}"
    pulled = bring(url, tmp_path / "part.h5", TEXT)
    assert web.authorizations[0] == "Basic cmVhZGVyOm9wZW5zZXNhbWU="
    web.spoil = unavailable
    with pytest.raises(CinefuseError) as refusal:
        bring(url, tmp_path / "whole.h5", tries=1)
    told = [str(refusal.value), repr(pulled)]
    told += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    assert {"part.h5", "whole.h5.part.json"} <= set(names(tmp_path))
    for text in told:
        assert "opensesame" not in text
        assert "f00dfeed" not in text


def test_a_command_that_fails_shows_no_secret(web: Web, tmp_path: Path) -> None:
    url = web.url.replace("//", f"//{LOGIN}@") + f"/gone.h5?{SIGNATURE}"
    for command, code in ((["pull", url, "out.h5"], 3), (["push", "films.h5", url], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "cinefuse.cli", "cache", *command],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == 1
        assert "opensesame" not in done.stderr
        assert "f00dfeed" not in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "https://me:SECRET@host/f.h5",
        "https://SECRET@host/f.h5",
        "https://me:SECRET/with/slash@host/f.h5",
        "https://host/f.h5?sig=SECRET",
        "https://host/f.h5#SECRET",
        "gone: 'https://host/f.h5?X-Goog-Signature=SECRET' (403)",
        "Authorization: Bearer SECRET",
        "hf_SECRETSECRETSECRET",
        "sftp://me:SECRET@host:22/f.h5",
        "the key AKIASECRETSECRET99 is unknown",
        "wrong ThisIsMyOwnSecret",
    ],
)
def test_what_is_shown_holds_no_secret(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ThisIsMyOwnSecret")
    shown = redacted(text)
    assert "SECRET" not in shown
    assert "ThisIsMyOwnSecret" not in shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text", ["https://host:8080/a@b/f.h5", "s3://bucket/key.h5", "hf://datasets/o/n@main/f.h5", "12:30 a@b"]
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert redacted(text) == text


def test_a_login_stays_with_its_server(file: Path, web: Web, tmp_path: Path) -> None:
    web.serve(file.read_bytes(), "redirected.h5")
    elsewhere = web.url.replace("127.0.0.1", "localhost") + "/redirected.h5"
    for target, allowed in ((elsewhere, None), ("/redirected.h5", "Basic cmVhZGVyOm9wZW5zZXNhbWU=")):
        web.redirect, web.authorizations = target, []
        WebFile(web.url.replace("//", f"//{LOGIN}@") + "/films.h5", Retry(1, 0))
        assert web.authorizations == ["Basic cmVhZGVyOm9wZW5zZXNhbWU=", allowed]


@pytest.mark.parametrize(
    ("target", "told"),
    [("file:///etc/passwd", "302"), ("data:,CINEFUSE", "302"), ("ftp://127.0.0.1/films.h5", "not followed")],
)
def test_a_redirect_out_of_the_web_is_not_followed(web: Web, target: str, told: str) -> None:
    web.redirect = target
    with pytest.raises(BadInput, match=told):
        WebFile(web.url + "/films.h5", Retry(1, 0))


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    request = urllib.request.Request("https://127.0.0.1/films.h5?sig=f00dfeed")
    target = "http://127.0.0.1/films.h5?sig=f00dfeed"
    with pytest.raises(BadInput, match="not followed") as refusal:
        Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, target)
    assert "f00dfeed" not in str(refusal.value)


# --- stores ---


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of moto's S3 server."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "reader-key-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "reader-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem(use_listings_cache=False).mkdir("films")
        yield "s3://films"
    running.stop()


@pytest.fixture(params=["s3", "file", "path"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address to push to, in each kind of store."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}/shared.h5"
    return ("file://" if request.param == "file" else "") + str(tmp_path / "elsewhere" / "shared.h5")


def test_what_was_pushed_comes_back(file: Path, store: str, tmp_path: Path) -> None:
    pushed = push(file, store)
    assert pushed.beside == (f"{store}.sha256",)
    assert pushed.sha256 == Sidecar.of(file).sha256
    whole = bring(store, tmp_path / "back.h5")
    assert (tmp_path / "back.h5").read_bytes() == file.read_bytes()
    assert "SHA-256 is the one given by shared.h5.sha256" in whole.proof
    assert "the SHA-256 of text/cls" in bring(store, tmp_path / "cls.h5", TEXT).proof
    subset(file, tmp_path / "cut.h5", TEXT)
    assert arrays(tmp_path / "cls.h5") == arrays(tmp_path / "cut.h5")


def test_the_same_file_is_not_pushed_twice_and_another_one_not_over_it(file: Path, store: str, tmp_path: Path) -> None:
    push(file, store)
    assert push(file, store).already
    other = drawn(tmp_path / "other.h5", seed=1)
    with pytest.raises(BadInput, match=r"another file is there already.*--overwrite"):
        push(other, store)
    assert bring(store, tmp_path / "back.h5").digest == Sidecar.of(file).content
    push(other, store, overwrite=True)
    assert bring(store, tmp_path / "other_back.h5").digest == Sidecar.of(other).content


def test_a_file_that_went_in_parts_is_proven_by_the_digest_of_its_parts(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cinefuse.data.remote import store

    monkeypatch.setattr(store, "PART", 5 * 2**20)
    large = drawn(tmp_path / "large.h5", width=2048)
    assert large.stat().st_size > 10 * 2**20
    assert "the store's own digest" in push(large, f"{bucket}/large.h5").proof
    bring(f"{bucket}/large.h5", tmp_path / "back.h5")
    assert (tmp_path / "back.h5").read_bytes() == large.read_bytes()


def test_an_upload_whose_answer_got_lost_is_not_made_twice(
    bucket: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cinefuse.data.remote.store import Store

    upload, uploads = Store.upload, []

    def answer_lost(self: Store, file: Path, progress: Callable[[int], None]) -> None:
        uploads.append(file)
        upload(self, file, progress)
        raise TransientTransferError("the answer got lost")

    monkeypatch.setattr(Store, "upload", answer_lost)
    push(file, f"{bucket}/{tmp_path.name}.h5", retry=Retry(2, 0))
    assert len(uploads) == 1


def test_a_part_of_an_int8_file_is_proven_too(file: Path, web: Web, tmp_path: Path) -> None:
    from cinefuse.data.formats.number_format import convert

    convert(file, tmp_path / "films.h5", "int8")
    url = web.serve((tmp_path / "films.h5").read_bytes())
    assert "only a sample" in bring(url, tmp_path / "sampled.h5", TEXT).proof
    web.serve(Sidecar.of(tmp_path / "films.h5").encode(), "films.h5.sha256")
    assert "text/cls and text/cls_scale" in bring(url, tmp_path / "proven.h5", TEXT).proof
    bring(url, tmp_path / "tokens.h5", Selection(("text",), ids=["500", "20"]))
    web.serve(damaged(tmp_path / "films.h5", "text/cls_scale", at=41))
    with pytest.raises(DamagedFile, match="expected text/cls_scale with SHA-256"):
        bring(url, tmp_path / "out.h5", TEXT)


def test_a_card_lies_beside_the_file(file: Path, store: str, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("# Films\n")
    pushed = push(file, store, card=tmp_path / "card.md")
    assert pushed.beside == (f"{store}.sha256", f"{store}.md")


def test_the_sidecar_is_one_that_sha256sum_checks(file: Path, tmp_path: Path) -> None:
    push(file, str(tmp_path) + "/")
    assert names(tmp_path) == ["films.h5", "films.h5.sha256"]
    done = subprocess.run(["sha256sum", "-c", "films.h5.sha256"], cwd=tmp_path, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_that_is_not_sound_or_not_finished_is_not_pushed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.h5").write_bytes(damaged(file, "text/tokens"))
    with pytest.raises(DamagedFile, match="expected a sound file"):
        push(tmp_path / "bad.h5", str(tmp_path / "store.h5"))
    half = drawn(tmp_path / "half.h5", finished=50)
    with pytest.raises(DamagedFile, match="--partial"):
        push(half, str(tmp_path / "store.h5"))
    assert not (tmp_path / "store.h5").exists()
    push(half, str(tmp_path / "store.h5"), partial=True)


def test_a_card_or_header_with_a_secret_in_it_is_not_pushed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "card.md").write_text("load it from https://me:opensesame@host/films.h5")
    with pytest.raises(BadInput, match="holds a password") as refusal:
        push(file, str(tmp_path / "store.h5"), card=tmp_path / "card.md")
    assert "opensesame" not in str(refusal.value)
    monkeypatch.setenv("HF_TOKEN", "hf-a-token-of-mine")
    told = drawn(tmp_path / "told.h5", about={"source": "made with hf-a-token-of-mine"})
    with pytest.raises(BadInput, match="header holds a password"):
        push(told, str(tmp_path / "store.h5"))
    assert not (tmp_path / "store.h5").exists()


def test_a_push_that_fails_leaves_nothing_under_the_name(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    def torn(self: object, lpath: str, rpath: str, **_: object) -> None:
        Path(rpath).write_bytes(file.read_bytes()[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "put_file", torn)
    with pytest.raises(CinefuseError, match="No space left"):
        push(file, str(tmp_path / "store" / "films.h5"))
    assert names(tmp_path / "store") == []


def test_bytes_that_did_not_arrive_as_they_left_are_found(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    def flipping(self: object, lpath: str, rpath: str, **_: object) -> None:
        Path(rpath).write_bytes(damaged(file, "image/tokens"))

    monkeypatch.setattr(LocalFileSystem, "put_file", flipping)
    with pytest.raises(DamagedFile, match="read back"):
        push(file, str(tmp_path / "films.h5"))


def test_a_file_replaced_in_its_store_while_it_is_read_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cinefuse.data.remote.store import StoreFile

    shutil.copy(file, tmp_path / "shared.h5")
    shutil.copy(file, tmp_path / "other.h5")  # no byte tells, only what the store says of it
    read = StoreFile.stream

    def replaced(self: StoreFile, start: int, stop: int | None) -> Iterator[bytes]:
        yield from read(self, start, stop)
        if (tmp_path / "other.h5").exists():
            (tmp_path / "other.h5").replace(tmp_path / "shared.h5")

    monkeypatch.setattr(StoreFile, "stream", replaced)
    (tmp_path / "out").mkdir()
    with pytest.raises(DamagedFile, match="the file changed while it was read"):
        bring(tmp_path / "shared.h5", tmp_path / "out" / "out.h5", TEXT)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("address", ["s3://no-such-bucket/films.h5", "s3://films/no-such-key.h5"])
def test_a_missing_object_is_told(bucket: str, tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInput, match="no such file"):
        bring(address, tmp_path / "out.h5")


def test_a_missing_bucket_is_told_before_it_is_filled(bucket: str, file: Path) -> None:
    with pytest.raises(BadInput, match="no such bucket"):
        push(file, "s3://no-such-bucket/films.h5", retry=Retry(1, 0))


def test_a_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for work in (lambda: push(file, "s3://films/f.h5"), lambda: bring("s3://films/f.h5", tmp_path / "out.h5")):
        with pytest.raises(UsageError, match=r"needs s3fs.*cinefuse\[share\]"):
            work()


@pytest.mark.parametrize(
    ("destination", "told"),
    [
        ("https://host/films.h5", "takes no files"),
        ("nonsense://films.h5", "expected s3://"),
        ("hf://films.h5", "expected hf://datasets/"),
        ("hf://models/a/b/films.h5", "expected hf://datasets/"),
    ],
)
def test_a_place_that_takes_no_files_is_refused(file: Path, destination: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        push(file, destination)


# --- words and spans ---


@pytest.mark.parametrize("only", [["plots"], ["text/tokens"], ["text", "image/cls"], [""], ["/cls"]])
def test_what_only_does_not_know_is_refused(only: list[str]) -> None:
    with pytest.raises(UsageError, match="--only"):
        selection_from_only(only, None)


def test_an_address_of_the_hub_is_told_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backup").mkdir()
    place = hub_place("hf://datasets/owner/films@refs%2Fpr%2F1/v2/films.h5")
    assert place is not None
    assert (place.repo, place.revision, place.path) == ("owner/films", "refs/pr/1", "v2/films.h5")
    assert place.shown == "hf://datasets/owner/films@refs%2Fpr%2F1/v2/films.h5"
    assert hub_place("owner/films") is not None
    for path in ("backup/films", "owner/films.h5", "./owner/films", "/owner/films", "s3://owner/films"):
        assert hub_place(path) is None


def test_coalesced_spans_hold_all_that_is_wanted_and_little_else() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        starts = np.sort(rng.integers(0, 10**6, 40))
        spans = [Span(start, start + length) for start, length in zip(starts, rng.integers(0, 9000, 40), strict=True)]
        wanted = set().union(*(range(span.start, span.stop) for span in spans))
        joined = coalesced(spans, widest_gap=5000, waste=0.05, least=0)
        held = [byte for span in joined for byte in range(span.start, span.stop)]
        assert held == sorted(set(held))
        assert wanted <= set(held)
        assert len(held) <= 1.05 * len(wanted)


def test_the_label_of_a_part_file_is_plain_json(file: Path, web: Web, tmp_path: Path) -> None:
    web.spoil = unavailable
    with pytest.raises(BadInput):
        bring(web.serve(file.read_bytes()), tmp_path / "out.h5", TEXT, tries=1)
    label = json.loads((tmp_path / "out.h5.part.json").read_text())
    assert set(label) == {"source", "size", "version", "wanted"}
