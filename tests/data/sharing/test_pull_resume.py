"""Transfers that break are retried and continued, never mixed with other bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.sharing.selection import selection_from_only
from cinefuse.tests.support.embedding_files import names
from cinefuse.tests.support.faulty_file_server import Web, bring, drawn, unavailable


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


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
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
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(output.splitlines()) == 1
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
