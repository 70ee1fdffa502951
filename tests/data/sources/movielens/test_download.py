"""Downloads of archives from a faulty server: resumed, retried, and never unchecked under the final name."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cinefuse.data.remote.remote_file import TransferProgress
from cinefuse.data.remote.retry import Retry
from cinefuse.data.runtime.errors import BadInput, Busy, UsageError
from cinefuse.data.runtime.lock import sole_writer
from cinefuse.data.sources.movielens.download import PUBLISHED_MD5, Fetched, fetch
from cinefuse.tests.support.embedding_files import names
from cinefuse.tests.support.loopback import Quiet, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


def zipped(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ml/u.data", text)
    return buffer.getvalue()


ARCHIVE = zipped(os.urandom(300_000))
MD5 = "md5:" + hashlib.md5(ARCHIVE).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(ARCHIVE).hexdigest()


@dataclass
class Mirror:
    """What the server does next: ``answers`` are used up one a request, the last is kept.

    The client's first small request, for the size, uses up only answers that are error codes; ``requested`` has the
    ranges of all other requests.
    """

    url: str = ""
    body: bytes = ARCHIVE
    ranges: bool = True
    answers: list[int | str] = field(default_factory=lambda: ["whole"])
    requested: list[str | None] = field(default_factory=list)
    md5_file: bytes | None = None
    retry_after: str | None = None


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    state = Mirror()

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".md5"):
                self.send_response(200 if state.md5_file else 404)
                self.end_headers()
                self.wfile.write(state.md5_file or b"")
                return
            probe = self.headers.get("Range") == "bytes=0-0"
            answer = state.answers[0]
            if not probe or isinstance(answer, int):
                state.requested.append(self.headers.get("Range"))
                if len(state.answers) > 1:
                    state.answers.pop(0)
            if isinstance(answer, int):
                self.send_response(answer)
                if state.retry_after:
                    self.send_header("Retry-After", state.retry_after)
                self.end_headers()
                return
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            rest = state.body
            if wanted and state.ranges:
                start, stop = int(wanted[1]), int(wanted[2] or len(state.body) - 1) + 1
                rest = state.body[start:stop]
                self.send_response(206)
                shown = 0 if answer == "wrong range" else start
                self.send_header("Content-Range", f"bytes {shown}-{shown + len(rest) - 1}/{len(state.body)}")
            else:
                self.send_response(200)
            if answer != "no length":
                self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client hangs up once it knows the size
                self.wfile.write(rest[: len(rest) // 2] if answer == "torn" and not probe else rest)

    with serving(Handler) as port:
        state.url = f"http://127.0.0.1:{port}"
        yield state


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def bring(mirror: Mirror, out: Path, checksum: str | None = MD5, name: str = "ml-100k", tries: int = 3) -> Fetched:
    return fetch(name, out, mirror=mirror.url, checksum=checksum, retry=Retry(tries, 0))


def interrupted(mirror: Mirror, folder: Path) -> Path:
    """The part file that a download leaves whose connection broke off half way."""
    mirror.answers = ["torn"]
    with pytest.raises(BadInput, match=r"1 attempts in a row failed.*; what arrived is kept"):
        bring(mirror, folder, tries=1)
    mirror.answers = ["whole"]
    mirror.requested.clear()
    return folder / "ml-100k.zip.part"


@pytest.mark.parametrize("checksum", [MD5, SHA256, SHA256.upper()], ids=["md5", "sha256", "capitals"])
def test_an_archive_arrives_whole_with_its_sha256_beside_it(mirror: Mirror, tmp_path: Path, checksum: str) -> None:
    fetched = bring(mirror, tmp_path / "new", checksum)
    assert fetched.file == tmp_path / "new" / "ml-100k.zip"
    assert fetched.file.read_bytes() == ARCHIVE
    assert names(tmp_path / "new") == ["ml-100k.zip", "ml-100k.zip.sha256"]
    done = subprocess.run(
        ["sha256sum", "-c", "ml-100k.zip.sha256"], cwd=tmp_path / "new", check=False, capture_output=True
    )
    assert done.returncode == 0


def test_an_out_that_ends_in_zip_is_the_file_itself(mirror: Mirror, tmp_path: Path) -> None:
    assert bring(mirror, tmp_path / "mine.zip").file == tmp_path / "mine.zip"


def test_bytes_of_an_earlier_call_are_not_fetched_again(mirror: Mirror, tmp_path: Path) -> None:
    part = interrupted(mirror, tmp_path)
    assert part.read_bytes() == ARCHIVE[: len(ARCHIVE) // 2]
    assert bring(mirror, tmp_path).file.read_bytes() == ARCHIVE
    assert mirror.requested == [f"bytes={len(ARCHIVE) // 2}-"]


def test_a_torn_connection_is_continued_where_it_tore(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers = ["torn", "torn", "torn", "torn", "torn", "whole"]
    assert bring(mirror, tmp_path, tries=2).file.read_bytes() == ARCHIVE
    starts = [int(str(requested)[6:-1]) for requested in mirror.requested]
    assert starts == sorted(set(starts))
    assert starts[:2] == [0, len(ARCHIVE) // 2]


def test_a_server_without_ranges_sends_all_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.ranges, mirror.answers = False, ["torn", "whole"]
    assert bring(mirror, tmp_path).file.read_bytes() == ARCHIVE


def test_a_server_without_ranges_that_always_tears_is_given_up(mirror: Mirror, tmp_path: Path) -> None:
    mirror.ranges, mirror.answers = False, ["torn"]
    with pytest.raises(BadInput, match="3 attempts in a row failed"):
        bring(mirror, tmp_path)
    assert names(tmp_path) == ["ml-100k.zip.part", "ml-100k.zip.part.json"]


def test_a_server_that_names_no_length_is_held_to_the_checksum_alone(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers = ["no length"]
    assert bring(mirror, tmp_path).file.read_bytes() == ARCHIVE


def test_a_whole_part_file_needs_no_byte_more(mirror: Mirror, tmp_path: Path) -> None:
    interrupted(mirror, tmp_path).write_bytes(ARCHIVE)
    assert bring(mirror, tmp_path).file.read_bytes() == ARCHIVE
    assert mirror.requested == []


@pytest.mark.parametrize("stale", [b"x" * 1000, b"x" * len(ARCHIVE), b"x" * (len(ARCHIVE) + 5)])
def test_a_part_file_of_other_bytes_is_thrown_away_and_fetched_whole(
    mirror: Mirror, tmp_path: Path, stale: bytes
) -> None:
    interrupted(mirror, tmp_path).write_bytes(stale)
    assert bring(mirror, tmp_path).file.read_bytes() == ARCHIVE


def test_an_answer_for_another_range_is_never_appended(mirror: Mirror, tmp_path: Path) -> None:
    part = interrupted(mirror, tmp_path)
    mirror.answers = ["wrong range"]
    with pytest.raises(BadInput, match="do not trust it"):
        bring(mirror, tmp_path)
    assert part.read_bytes() == ARCHIVE[: len(ARCHIVE) // 2]


def test_a_part_file_of_an_earlier_release_is_not_continued(mirror: Mirror, tmp_path: Path) -> None:
    interrupted(mirror, tmp_path)
    mirror.body = zipped(b"another release" * 10_000)
    fetched = bring(mirror, tmp_path, "md5:" + hashlib.md5(mirror.body).hexdigest())
    assert fetched.file.read_bytes() == mirror.body
    assert mirror.requested == ["bytes=0-"]


def test_bytes_of_a_wrong_checksum_never_get_the_final_name(mirror: Mirror, tmp_path: Path) -> None:
    mirror.body = ARCHIVE[:-1] + b"?"
    with pytest.raises(BadInput, match="its MD5 is"):
        bring(mirror, tmp_path)
    assert names(tmp_path) == []


def test_the_published_checksum_is_held_unless_another_is_given(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"expected {PUBLISHED_MD5['ml-100k']}"):
        bring(mirror, tmp_path, checksum=None)


def test_a_release_without_a_pinned_checksum_is_held_to_the_one_beside_it(mirror: Mirror, tmp_path: Path) -> None:
    mirror.md5_file = b"MD5 (ml-latest-small.zip) = " + b"0" * 32
    with pytest.raises(BadInput, match="expected 0000"):
        bring(mirror, tmp_path, checksum=None, name="ml-latest-small")
    mirror.md5_file = MD5[4:].upper().encode()
    assert bring(mirror, tmp_path, checksum=None, name="ml-latest-small").checked == MD5


def test_where_no_checksum_is_published_the_archive_must_at_least_be_whole(mirror: Mirror, tmp_path: Path) -> None:
    mirror.body = ARCHIVE[:-30_000]
    with pytest.raises(BadInput, match="not a whole zip"):
        bring(mirror, tmp_path, checksum=None, name="ml-latest-small")
    flipped = bytearray(ARCHIVE)
    flipped[1000] ^= 1
    mirror.body = bytes(flipped)
    with pytest.raises(BadInput, match=r"member ml/u\.data is damaged"):
        bring(mirror, tmp_path, checksum=None, name="ml-latest-small")
    mirror.body = ARCHIVE
    fetched = bring(mirror, tmp_path, checksum=None, name="ml-latest-small")
    assert (fetched.checked, fetched.sha256) == ("", SHA256[7:])


def test_a_missing_file_is_refused_at_once(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers = [404]
    with pytest.raises(BadInput, match="answers 404"):
        bring(mirror, tmp_path)
    assert len(mirror.requested) == 1


@pytest.mark.parametrize("code", [500, 502, 503, 429, 408])
def test_a_server_in_trouble_is_asked_again(mirror: Mirror, tmp_path: Path, code: int) -> None:
    mirror.answers = [code, code, "whole"]
    assert bring(mirror, tmp_path).file.read_bytes() == ARCHIVE
    assert len(mirror.requested) == 3


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "date"])
def test_a_server_is_left_alone_as_long_as_retry_after_says(mirror: Mirror, tmp_path: Path, date: bool) -> None:
    mirror.answers = [503, "whole"]
    mirror.retry_after = formatdate(time.time() + 2, usegmt=True) if date else "1"
    start = time.monotonic()
    bring(mirror, tmp_path)
    assert 0.9 < time.monotonic() - start < 30


def test_a_server_that_stays_in_trouble_is_given_up(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers = [500]
    with pytest.raises(BadInput, match=r"3 attempts in a row failed.*; nothing arrived; run the same command again"):
        bring(mirror, tmp_path)
    assert len(mirror.requested) == 3


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2 attempts in a row failed"):
        fetch("ml-100k", tmp_path, mirror="http://127.0.0.1:9", retry=Retry(2, 0))


def test_an_archive_already_there_is_checked_and_not_fetched(mirror: Mirror, tmp_path: Path) -> None:
    bring(mirror, tmp_path)
    assert bring(mirror, tmp_path).already
    assert len(mirror.requested) == 1
    (tmp_path / "ml-100k.zip").write_bytes(b"damaged")
    with pytest.raises(BadInput, match="remove it and fetch again"):
        bring(mirror, tmp_path)
    assert (tmp_path / "ml-100k.zip").read_bytes() == b"damaged"


def test_two_downloads_to_one_place_do_not_mix(mirror: Mirror, tmp_path: Path) -> None:
    with sole_writer(tmp_path / "ml-100k.zip"), pytest.raises(Busy, match="is writing it"):
        bring(mirror, tmp_path)


@pytest.mark.parametrize("name", ["ml-100m", "../ml-100k", ""])
def test_an_unknown_name_is_refused_naming_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="ml-100k, ml-1m, ml-latest-small, ml-25m, ml-32m"):
        fetch(name, tmp_path)


@pytest.mark.parametrize("checksum", ["md5:", "md5:12", "sha256:" + "0" * 32, "crc:1234", "0" * 32, "md5:" + "g" * 32])
def test_a_malformed_checksum_is_refused(tmp_path: Path, checksum: str) -> None:
    with pytest.raises(UsageError, match="--checksum"):
        fetch("ml-100k", tmp_path, checksum=checksum)


@pytest.mark.parametrize("address", ["file:///etc", "ftp://x", "x"])
def test_a_mirror_is_a_web_address(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="--mirror"):
        fetch("ml-100k", tmp_path, mirror=address)


def test_progress_ends_at_the_whole(mirror: Mirror, tmp_path: Path) -> None:
    class Counter(TransferProgress):
        total = here = 0

        def expect(self, total: int) -> None:
            self.total = total

        def advance(self, count: int) -> None:
            self.here += count

    interrupted(mirror, tmp_path)
    counter = Counter()
    fetch("ml-100k", tmp_path, mirror=mirror.url, checksum=MD5, progress=counter)
    assert (counter.here, counter.total) == (len(ARCHIVE), len(ARCHIVE))


def test_the_command_line_fetches_from_a_mirror_in_the_environment(mirror: Mirror, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cinefuse.cli", "data", "fetch", "ml-100k", str(tmp_path)]
    environment = os.environ | {"CINEFUSE_MIRROR": mirror.url}
    refused = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert refused.returncode == 3
    assert "Traceback" not in refused.stderr
    done = subprocess.run([*command, "--checksum", MD5], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert SHA256[7:] in done.stdout
