"""Diff: nothing between a file and itself; between two others every row that differs, and by how much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.formats.number_format import convert
from cinefuse.data.runtime.errors import BadInput, FingerprintMismatch
from cinefuse.data.sharing.diff import diff
from cinefuse.data.sharing.selection import Selection
from cinefuse.data.sharing.subset import subset
from cinefuse.tests.support.embedding_files import (
    GOLDEN,
    IMAGE_BFLOAT16,
    MISSING,
    OK,
    TEXT_AND_IMAGE,
    catalogues,
    make_layout,
    write_file,
)

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(catalogues())
def test_a_file_does_not_differ_from_itself(tmp_path: Path, catalogue: Any) -> None:
    write_file(tmp_path / "films.h5", *catalogue).close()
    found = diff(tmp_path / "films.h5", tmp_path / "films.h5")
    assert found.equal
    assert found.rows == []


@pytest.mark.parametrize("path", [*GOLDEN.glob("*.h5"), *GOLDEN.glob("version2/*.h5")], ids=lambda path: path.stem)
def test_a_golden_file_does_not_differ_from_itself(path: Path) -> None:
    assert diff(path, path).equal


def films(path: Path, rows: list[tuple[Any, Any, Any]], ids: list[Any] | None = None) -> Path:
    lengths = [len(content) - 1 for content, _, _ in rows]
    layout = make_layout("toy", "float32", 2, lengths, [row[1:] for row in rows], text=False)
    write_file(path, ids or list(range(len(rows))), {"image": (layout, rows)}).close()
    return path


def test_each_row_that_differs_is_told_with_how_much(tmp_path: Path) -> None:
    one = np.array([[1, 0], [0, 2]], np.float32)
    turned, longer = np.array([[1, 0], [2, 0]], np.float32), np.array([[1, 0], [0, 2], [0, 1]], np.float32)
    nothing = np.full((2, 2), np.nan, np.float32)
    a = films(tmp_path / "a.h5", [(one, *OK), (one, *OK), (one, *OK), (one, *OK)])
    b = films(tmp_path / "b.h5", [(one, *OK), (turned, *OK), (nothing, *MISSING), (longer, *OK)])
    found = {row.item: row for row in diff(a, b).rows}
    assert set(found) == {1, 2, 3}
    assert (found[1].max_abs, found[1].cosine) == (2.0, 0.0)
    assert "ok, missing (not_given)" in found[2].what
    assert found[2].max_abs is None
    assert "1 tokens, 2" in found[3].what


def test_other_dtypes_are_compared_by_value(tmp_path: Path) -> None:
    convert(TEXT_AND_IMAGE, tmp_path / "float32.h5", "float32")
    found = diff(TEXT_AND_IMAGE, tmp_path / "float32.h5")
    assert found.rows == []
    assert not found.equal  # rounded once, its float32 is none
    assert set(found.fingerprints) == {"text", "image"}
    convert(TEXT_AND_IMAGE, tmp_path / "int8.h5", "int8")
    rows = diff(TEXT_AND_IMAGE, tmp_path / "int8.h5").rows
    assert {row.item for row in rows} == {1, -5}
    assert all(0 < row.max_abs < 0.1 and row.cosine > 0.999 for row in rows if row.max_abs is not None)


def test_items_and_modalities_of_one_file_alone_are_told_and_another_order_is_no_equality(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.h5" for name in "abc")
    subset(TEXT_AND_IMAGE, a, Selection(ids=[1, -5, 31]))
    subset(TEXT_AND_IMAGE, b, Selection(("image",), ids=[31, 2**62, 1]))
    found = diff(a, b)
    assert found.only_in == ([-5], [2**62])
    assert found.modalities_only_in == (["text"], [])
    assert found.rows == []
    subset(TEXT_AND_IMAGE, c, Selection(ids=[-5, 1, 31]))
    assert not diff(a, c).equal
    assert not diff(a, c).same_order


def test_ids_of_two_kinds_are_refused() -> None:
    with pytest.raises(BadInput, match="no item is in both"):
        diff(TEXT_AND_IMAGE, IMAGE_BFLOAT16)


def test_the_command_tells_json_and_an_exit_code_where_asked(tmp_path: Path) -> None:
    convert(TEXT_AND_IMAGE, tmp_path / "int8.h5", "int8")
    files = [str(TEXT_AND_IMAGE), str(tmp_path / "int8.h5")]
    found = CliRunner().invoke(app, ["cache", "diff", *files])
    assert found.exit_code == 0
    assert "text: 2 of 4 items differ" in found.output
    as_json = json.loads(CliRunner().invoke(app, ["cache", "diff", *files, "--json"]).output)
    assert as_json["equal"] is False
    assert as_json["differ"] == {"text": 2, "image": 2}
    assert isinstance(CliRunner().invoke(app, ["cache", "diff", *files, "--strict"]).exception, FingerprintMismatch)
    same = CliRunner().invoke(app, ["cache", "diff", files[0], files[0], "--strict"])
    assert same.exit_code == 0
    assert "equal" in same.output
