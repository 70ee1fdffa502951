"""A pulled file is held against the digests that are published for it or given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cinefuse.data.runtime.errors import BadInput, Busy, DamagedFile, UsageError
from cinefuse.data.runtime.lock import sole_writer
from cinefuse.data.sharing.pull import Expected
from cinefuse.data.sharing.transfer_checks import Sidecar
from cinefuse.tests.support.embedding_files import names
from cinefuse.tests.support.faulty_file_server import TEXT, Web, bring, drawn


def test_another_file_than_the_one_expected_is_refused(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes())
    sidecar = Sidecar.of(file)
    wrong = "0" * 64
    for expected, option in ((Expected(sha256=wrong), "--sha256"), (Expected(digest=wrong), "--digest")):
        with pytest.raises(DamagedFile, match=option):
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
