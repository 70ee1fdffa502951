"""One writer at a time, on real processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cinefuse.data.runtime import lock as lock_module
from cinefuse.data.runtime.errors import BadInput, Busy
from cinefuse.data.runtime.lock import sole_writer

HOLD = """
import sys
from pathlib import Path
from cinefuse.data.runtime.lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

CONTEND = """
import os, sys
from pathlib import Path
from cinefuse.data.runtime.errors import Busy
from cinefuse.data.runtime.lock import sole_writer
path, inside, entries = Path(sys.argv[1]), Path(sys.argv[1] + ".inside"), 0
while entries < int(sys.argv[2]):
    try:
        with sole_writer(path):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # FileExistsError: somebody else is in here too
            entries += 1
            inside.unlink()
    except Busy:
        pass
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def release(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")
    assert process.returncode == 0


def test_a_second_writer_is_refused_with_code_6_and_told_who_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "films.h5"
    process = hold(path)
    try:
        with pytest.raises(Busy) as refusal, sole_writer(path):
            pass
        assert refusal.value.exit_code == 6
        assert f"process {process.pid} on {socket.gethostname()}" in str(refusal.value)
        assert "\n" not in str(refusal.value)
    finally:
        release(process)
    with sole_writer(path):
        pass


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "films.h5"):
        with pytest.raises(Busy, match=f"process {os.getpid()} "), sole_writer(tmp_path / "films.h5"):
            pass
        with sole_writer(tmp_path / "other.h5"):
            pass


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "films.h5"
    process = hold(path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "films.h5.lock").exists()
    with sole_writer(path):
        pass
    assert not (tmp_path / "films.h5.lock").exists()


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sole_writer(tmp_path / "films.h5"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("entries", [50, pytest.param(2000, marks=pytest.mark.torture)])
def test_contending_processes_are_never_inside_together(tmp_path: Path, entries: int) -> None:
    command = [sys.executable, "-c", CONTEND, tmp_path / "films.h5", str(entries)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    assert list(tmp_path.iterdir()) == []


def refuse_with(number: int):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_warns_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse_with(number))
    monkeypatch.setattr(fcntl, "lockf", refuse_with(number))
    entered = False
    with pytest.warns(UserWarning, match="this file system has no locks"), sole_writer(tmp_path / "films.h5"):
        entered = True
    assert entered


def test_where_flock_is_unknown_posix_locks_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse_with(errno.ENOSYS))
    path = tmp_path / "films.h5"
    with sole_writer(path):
        probe = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        other = subprocess.run(
            [sys.executable, "-c", probe, f"{path}.lock"], capture_output=True, text=True, check=False
        )
    assert "BlockingIOError" in other.stderr


def test_a_disk_error_while_locking_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse_with(errno.EIO))
    with pytest.raises(BadInput, match="Input/output error"), sole_writer(tmp_path / "films.h5"):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"process": 1}', b"null"])
def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path, content: bytes) -> None:
    lock = tmp_path / "films.h5.lock"
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(content)
        held.flush()
        with pytest.raises(Busy, match="another process is writing it"), sole_writer(tmp_path / "films.h5"):
            pass


def test_a_lock_in_a_missing_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"), sole_writer(tmp_path / "none" / "films.h5"):
        pass


def test_a_lock_file_removed_between_opening_and_locking_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "films.h5", tmp_path / "films.h5.lock"
    turns: list[int] = []
    real = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if not turns:
            lock.unlink()
        turns.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr(lock_module.fcntl, "flock", late)
    with sole_writer(path):
        assert lock.exists()
    assert len(turns) == 2
