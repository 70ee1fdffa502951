"""What a pull brings: the bytes of the whole file, or what subset would cut."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sharing.selection import Selection, selection_from_only
from cinefuse.data.sharing.subset import subset
from cinefuse.data.sharing.transfer_checks import Sidecar
from cinefuse.tests.support.embedding_files import names
from cinefuse.tests.support.faulty_file_server import TEXT, Web, arrays, bring, drawn


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
