"""Pushing to stores: verified once there, never over another file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cinefuse.data.remote.retry import Retry, TransientTransferError
from cinefuse.data.runtime.errors import BadInput, CinefuseError, DamagedFile, UsageError
from cinefuse.data.sharing.push import push
from cinefuse.data.sharing.selection import Selection
from cinefuse.data.sharing.subset import subset
from cinefuse.data.sharing.transfer_checks import Sidecar
from cinefuse.tests.support.embedding_files import names
from cinefuse.tests.support.faulty_file_server import TEXT, Web, arrays, bring, damaged, drawn


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
    message = drawn(tmp_path / "header.h5", about={"source": "made with hf-a-token-of-mine"})
    with pytest.raises(BadInput, match="header holds a password"):
        push(message, str(tmp_path / "store.h5"))
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
def test_a_missing_object_is_named(bucket: str, tmp_path: Path, address: str) -> None:
    with pytest.raises(BadInput, match="no such file"):
        bring(address, tmp_path / "out.h5")


def test_a_missing_bucket_is_named_before_it_is_filled(bucket: str, file: Path) -> None:
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
    ("destination", "message"),
    [
        ("https://host/films.h5", "takes no files"),
        ("nonsense://films.h5", "expected s3://"),
        ("hf://films.h5", "expected hf://datasets/"),
        ("hf://models/a/b/films.h5", "expected hf://datasets/"),
    ],
)
def test_a_place_that_takes_no_files_is_refused(file: Path, destination: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        push(file, destination)
