"""A pull from a server that sends anything but what was requested is refused, and nothing of it is kept."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import BadInput, DamagedFile
from cinefuse.data.sharing.selection import Selection
from cinefuse.data.sharing.transfer_checks import Sidecar
from cinefuse.tests.support.embedding_files import names
from cinefuse.tests.support.faulty_file_server import ITEMS, LIES, TEXT, Answer, Web, bring, damaged


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
        cls, first = opened.raw_array("text/cls"), opened.header.datasets["text/cls"].offset + 2 * 48
        content[first : first + 2 * 48 * (ITEMS - 1)] = np.roll(cls[1:], 1, axis=0).tobytes()
    with pytest.raises(DamagedFile, match="its checksum disagrees"):
        bring(web.serve(bytes(content)), tmp_path / "out.h5", TEXT)
    assert names(tmp_path) == []
