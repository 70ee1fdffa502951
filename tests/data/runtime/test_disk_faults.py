"""Disks that are full, quota'd, read-only, slow or broken: one refusal, nothing half-written under the final name."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.disk import put_in_place, read_all, reserve, write_all, writing, written_behind
from cinefuse.data.runtime.errors import BadInput, CinefuseError, DamagedFile, NoSpace
from cinefuse.tests.support.embedding_files import make_layout


def create(path: Path, items: int = 3, width: int = 4) -> EmbeddingFile:
    """A file of images, two patches each, laid out and pending."""
    states = [(Status.OK, Reason.NONE)] * items
    layout = make_layout("toy-vit", "float16", width, [2] * items, states, text=False)
    return EmbeddingFile.create(path, np.arange(items), {"image": layout}, {})


def fill(file: EmbeddingFile) -> None:
    with RowWriter(file) as writer:
        for row in range(len(file)):
            width = file.image.width
            writer.write("image", row, np.ones(width, np.float16), np.ones((2, width), np.float16), Status.OK)
        writer.sync()


def failing(name: str, number: int, after: int = 0) -> Callable[..., object]:
    """`os.<name>`, which fails with `number` from its call number `after` on."""
    real, calls = getattr(os, name), [0]

    def call(*arguments: object) -> object:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    return call


FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG]
BROKEN = [errno.EIO, errno.EROFS, errno.EPERM]


@pytest.mark.parametrize("number", FULL + BROKEN, ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("call", "after"), [("posix_fallocate", 0), ("pwrite", 0), ("pwrite", 2), ("fsync", 0), ("replace", 0)]
)
def test_a_disk_that_fails_while_laying_out_leaves_nothing_and_a_retry_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: int, number: int
) -> None:
    path = tmp_path / "films.h5"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(call, number, after))
        with pytest.raises(CinefuseError) as refusal:
            create(path)
    assert type(refusal.value) is (NoSpace if number in FULL else BadInput)
    assert refusal.value.exit_code == (7 if number in FULL else 3)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
    fill(create(path))
    assert verify(path).complete


def test_a_file_whose_name_may_not_survive_a_power_cut_is_whole_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "films.h5"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing("fsync", errno.EIO, after=1))
        with pytest.raises(BadInput, match="Input/output error"):
            create(path)
    assert verify(path).sound


def test_a_disk_that_cannot_sync_folders_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing("fsync", errno.EINVAL, after=1))
    assert verify(create(tmp_path / "films.h5").path).sound


def test_a_failed_layout_leaves_an_older_file_of_that_name_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "films.h5"
    fill(create(path))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing("pwrite", errno.ENOSPC))
        with pytest.raises(NoSpace):
            create(path, items=5)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", FULL + BROKEN, ids=errno.errorcode.get)
@pytest.mark.parametrize("after", range(5))
def test_a_disk_that_fails_within_a_row_harms_that_row_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, number: int
) -> None:
    path = tmp_path / "films.h5"
    file = create(path)
    with RowWriter(file) as writer:
        row = np.ones(4, np.float16), np.ones((2, 4), np.float16), Status.OK
        writer.write("image", 0, *row)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", failing("pwrite", number, after))
            with pytest.raises(NoSpace if number in FULL else BadInput, match=r"films\.h5"):
                writer.write("image", 1, *row)
        report = verify(path)
        assert report.sound
        assert file.image.pending.tolist() == [False, True, True]
        fill(file)
    assert verify(path).complete


def test_a_failing_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RowWriter(create(tmp_path / "films.h5")) as writer:
        monkeypatch.setattr(os, "fsync", failing("fsync", errno.EIO))
        with pytest.raises(BadInput, match="Input/output error"):
            writer.sync()


def test_a_write_that_was_lost_behind_is_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met = threading.Event()

    def fsync(descriptor: int) -> None:
        if not met.is_set():  # the system tells of a lost write once: whoever asks later is told that all is well
            met.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "films.h5"
    with (
        pytest.raises(BadInput, match=r"films\.h5: cannot be written \(Input/output error\)"),
        writing(path),
        path.open("wb") as file,
        written_behind(file.fileno()),
    ):
        assert met.wait(30)
    assert not [thread for thread in threading.enumerate() if thread.name == "written-behind"]


def test_short_writes_and_reads_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda to, data, offset: pwrite(to, bytes(data[:7]), offset))
    monkeypatch.setattr(os, "preadv", lambda of, buffers, offset: preadv(of, [buffers[0][:5]], offset))
    path = tmp_path / "films.h5"
    fill(create(path))
    assert verify(path).complete
    with path.open("rb") as file:
        content = bytearray(path.stat().st_size)
        read_all(file.fileno(), memoryview(content), 0)
        assert content == path.read_bytes()
        with pytest.raises(EOFError):
            read_all(file.fileno(), memoryview(content), 1)


def test_a_disk_that_takes_nothing_is_an_error_not_an_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="Input/output"):
        write_all(file.fileno(), b"bytes", 0)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL], ids=errno.errorcode.get)
def test_a_file_system_that_cannot_reserve_is_asked_for_its_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing("posix_fallocate", number))
    fill(create(tmp_path / "films.h5"))
    assert verify(tmp_path / "films.h5").complete
    with (tmp_path / "huge").open("wb") as file, pytest.raises(OSError, match="No space left"):
        reserve(file.fileno(), 2**60)


SIGNALLED = """
import os, runpy, signal, sys
from pathlib import Path
here = runpy.run_path(sys.argv[1])
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for turn in range(20):
    path = Path(sys.argv[2]) / f"{turn}.h5"
    here["fill"](here["create"](path, items=20))
    assert here["verify"](path).complete
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_signals_in_the_middle_of_system_calls_change_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SIGNALLED, __file__, tmp_path], check=True, timeout=300)


LIMITED = """
import resource, runpy, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
here = runpy.run_path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000,) * 2)
try:
    here["create"](Path(sys.argv[2]) / "films.h5")
except here["CinefuseError"] as refusal:
    sys.exit(refusal.exit_code)
"""


def test_a_process_that_may_not_write_such_large_files_is_refused_with_code_7(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", LIMITED, __file__, tmp_path], check=False)
    assert child.returncode == 7
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small_is_refused_before_anything_is_computed(disk: Path) -> None:
    path = disk / "films.h5"
    with pytest.raises(NoSpace, match="No space left on device"):
        create(path, items=10, width=100_000)
    assert list(disk.iterdir()) == []
    fill(create(path))
    assert verify(path).complete


def test_a_laid_out_file_fits_even_when_others_fill_the_disk(disk: Path) -> None:
    file = create(disk / "films.h5", items=10, width=5_000)
    with (disk / "greedy").open("wb", buffering=0) as other:
        taken = other.write(bytes(2 * 2**20))
        assert taken < 2 * 2**20
        with pytest.raises(OSError, match="No space left"):
            other.write(b"more")
    fill(file)
    assert verify(file.path).complete


def test_a_read_only_disk_is_bad_input(disk: Path) -> None:
    path = disk / "films.h5"
    fill(create(path))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(BadInput, match="Read-only file system"):
        create(disk / "more.h5")
    with EmbeddingFile.open(path) as file, pytest.raises(BadInput, match="Read-only file system"):
        RowWriter(file)
    assert verify(path).complete


NOBODY = """
import os, runpy, sys
from pathlib import Path
here = runpy.run_path(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chdir(sys.argv[2])
try:
    here["create"](Path("films.h5"))
except here["CinefuseError"] as refusal:
    sys.exit(refusal.exit_code)
"""


def test_a_folder_without_write_permission_is_bad_input() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o555)
        child = subprocess.run([sys.executable, "-c", NOBODY, __file__, folder], check=False)
        assert child.returncode == 3
        assert list(folder.iterdir()) == []
    finally:
        folder.rmdir()


def test_a_missing_folder_and_a_folder_of_that_name_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file or directory"):
        create(tmp_path / "none" / "films.h5")
    (tmp_path / "films.h5").mkdir()
    with pytest.raises(BadInput):
        create(tmp_path / "films.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["films.h5"]


def test_a_file_that_may_not_be_read_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "films.h5"
    fill(create(path))
    monkeypatch.setattr(os, "open", failing("open", errno.EACCES))
    with pytest.raises(BadInput, match="you may not read this file"):
        EmbeddingFile.open(path)


KILLED = """
import os, runpy, signal, sys
from pathlib import Path
here = runpy.run_path(sys.argv[1])
real = {name: getattr(os, name) for name in ("pwrite", "fsync", "posix_fallocate", "replace")}

def die_at(left):
    def counted(name):
        def call(*arguments):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real[name](*arguments)
        return call
    for name in real:
        setattr(os, name, counted(name))

for calls in range(1000):
    path = Path(sys.argv[2]) / str(calls) / "films.h5"
    path.parent.mkdir()
    child = os.fork()
    if child == 0:
        die_at(calls)
        here["fill"](here["create"](path))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(calls)
"""


def test_a_kill_at_any_system_call_leaves_a_file_that_can_be_finished_or_none(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED, __file__, tmp_path], check=True, stdout=subprocess.PIPE)
    calls = int(child.stdout)
    assert calls > 20
    for number in range(calls):
        path = tmp_path / str(number) / "films.h5"
        if not path.exists():
            create(path)
        report = verify(path)
        assert report.sound
        if not report.complete:
            with pytest.raises(DamagedFile, match="still pending"):
                EmbeddingFile.open(path)
            with EmbeddingFile.open(path, pending=True) as file:
                fill(file)
        assert verify(path).complete
        assert list(path.parent.iterdir()) == [path]


def test_putting_in_place_syncs_the_bytes_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary, final, found = tmp_path / "a", tmp_path / "b", []
    temporary.write_bytes(b"new")
    final.write_bytes(b"old")
    real = os.fsync

    def fsync(descriptor: int) -> None:
        found.append(final.read_bytes())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put_in_place(temporary, final)
    assert found == [b"old", b"new"]
