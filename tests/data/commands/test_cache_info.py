"""`cache info` says how far a file is that somebody writes now, and lists what failed apart from what never was."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.runtime.lock import sole_writer, writer_of
from tests.support.embedding_files import UNFINISHED, make_layout

OK = (Status.OK, Reason.NONE)


def info(*words: object) -> Any:
    return CliRunner().invoke(app, ["cache", "info", *map(str, words)])


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    return Path(shutil.copy(UNFINISHED, tmp_path / "films.h5"))


def test_an_unfinished_file_says_how_many_rows_are_done(unfinished: Path) -> None:
    shown = info(unfinished).output
    with EmbeddingFile.open(unfinished, pending=True) as file:
        for waiting in file.pending.values():
            if waiting:
                assert f"{len(file) - waiting} of {len(file)} done" in shown
    assert "unfinished: run the same extract again" in shown


def test_a_file_that_is_being_written_says_by_whom_and_how_fast(tmp_path: Path) -> None:
    path, rows = tmp_path / "films.h5", 4000
    layout = make_layout("m", "float32", 2, [0] * rows, [OK] * rows, text=False)
    file = EmbeddingFile.create(path, np.arange(rows), {"image": layout}, {})
    stop = threading.Event()

    def fill() -> None:
        with RowWriter(file) as writer:
            for row in range(rows):
                if stop.is_set():
                    break
                writer.write("image", row, np.ones(2, np.float32), np.ones((0, 2), np.float32), *OK)
                time.sleep(0.002)

    with sole_writer(path):
        work = threading.Thread(target=fill)
        work.start()
        shown = info(path).output
        stop.set()
        work.join()
        assert json.loads(info(path, "--json").output)["writer"] == writer_of(path) is not None
    assert f"process {os.getpid()} on {socket.gethostname()}" in shown
    assert "rows/s" in shown
    assert " left" in shown
    assert json.loads(info(path, "--json").output)["writer"] is None


def test_the_lock_of_a_job_that_was_killed_names_nobody(unfinished: Path) -> None:
    code = "import os; print(os.getpid())"
    gone = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    lock = unfinished.with_name("films.h5.lock")
    lock.write_text(json.dumps({"process": gone, "host": socket.gethostname(), "since": "2026-01-01 00:00:00"}))
    assert writer_of(unfinished) is None
    lock.write_text("{")
    assert writer_of(unfinished) is None
    assert "run the same extract again" in info(unfinished).output


def test_what_is_missing_is_listed_with_the_failures_without_saying_so_twice(unfinished: Path) -> None:
    assert info(unfinished, "--missing").output == info(unfinished, "--failures", "--missing").output
    assert info(unfinished, "--truncated").output == info(unfinished, "--failures", "--truncated").output
