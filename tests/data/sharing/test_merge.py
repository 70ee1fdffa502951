"""Merging: every row of every file once, none lost, none of two that differ taken in silence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.formats.number_format import convert
from cinefuse.data.runtime.errors import BadInput, CinefuseError, DamagedFile, FingerprintMismatch, UsageError
from cinefuse.data.sharing.lineage import steps_of
from cinefuse.data.sharing.merge import merge
from cinefuse.data.sharing.selection import Selection
from cinefuse.data.sharing.subset import subset
from cinefuse.tests.support.embedding_files import (
    IMAGE_BFLOAT16,
    OK,
    TEXT_AND_IMAGE,
    TEXT_INT8,
    digest,
    make_layout,
    write_file,
)


def job(path: Path, done: list[int], *, items: int = 6, value: float = 1.0, model: str = "toy") -> Path:
    """One task's file of an array job: laid out for all items, with the rows `done` written."""
    layout = make_layout(model, "float16", 4, [3] * items, [OK] * items, text=True)
    with EmbeddingFile.create(path, np.arange(items), {"text": layout}, {}) as file, RowWriter(file) as writer:
        for row in done:
            content = np.full((4, 4), value + row, np.float16)
            writer.write("text", row, content[0], content[1:], *OK)
    return path


def test_parts_of_an_array_job_make_the_file_of_one_job_byte_for_byte(tmp_path: Path) -> None:
    parts = [job(tmp_path / f"part{n}.h5", list(range(n, 6, 3))) for n in range(3)]
    whole = job(tmp_path / "whole.h5", list(range(6)))
    merge(parts, tmp_path / "merged.h5")
    with EmbeddingFile.open(whole) as one, EmbeddingFile.open(tmp_path / "merged.h5") as other:
        for name in one.header.datasets:  # batch numbers too: a row that is damaged later is encoded as it was
            assert one.raw_array(name).tobytes() == other.raw_array(name).tobytes(), name
        assert one.content_digest == other.content_digest


def test_rows_that_no_part_has_stay_pending(tmp_path: Path) -> None:
    parts = [job(tmp_path / "a.h5", [0, 1]), job(tmp_path / "b.h5", [1, 4])]
    plan = merge(parts, tmp_path / "merged.h5")
    assert plan.pending == 3
    assert verify(tmp_path / "merged.h5").sound
    with EmbeddingFile.open(tmp_path / "merged.h5", pending=True) as file:
        assert file.text.pending.tolist() == [False, False, True, True, False, True]
    merge([tmp_path / "merged.h5", job(tmp_path / "c.h5", [2, 3, 5])], tmp_path / "whole.h5")
    assert digest(tmp_path / "whole.h5") == digest(job(tmp_path / "at once.h5", list(range(6))))


def test_a_half_written_row_gives_way_to_a_written_one(tmp_path: Path) -> None:
    half, other = job(tmp_path / "a.h5", [0, 1]), job(tmp_path / "b.h5", [1])
    checksum = EmbeddingFile.open(half, pending=True).header.datasets["text/checksum"]
    with half.open("r+b") as raw:
        raw.seek(checksum.offset + 8)
        raw.write(bytes(8))
    merge([half, other], tmp_path / "merged.h5")
    with EmbeddingFile.open(tmp_path / "merged.h5", pending=True) as file:
        assert file.text.pending.tolist() == [False, False, True, True, True, True]


def test_text_and_posters_of_the_same_films_become_one_file(tmp_path: Path) -> None:
    for name in ("text", "image"):
        subset(TEXT_AND_IMAGE, tmp_path / f"{name}.h5", Selection((name,)))
    merge([tmp_path / "image.h5", tmp_path / "text.h5"], tmp_path / "merged.h5")
    assert digest(tmp_path / "merged.h5") == digest(TEXT_AND_IMAGE)
    subset(TEXT_AND_IMAGE, tmp_path / "fewer.h5", Selection(("text",), ids=[1, 31]))
    with pytest.raises(BadInput, match="2 of 4 items have no row of text in any of the files: -5, "):
        merge([tmp_path / "image.h5", tmp_path / "fewer.h5"], tmp_path / "other.h5")


@pytest.mark.parametrize("source", [IMAGE_BFLOAT16, TEXT_INT8], ids=["bfloat16", "int8"])
def test_text_ids_and_every_dtype_can_be_merged(tmp_path: Path, source: Path) -> None:
    ids = EmbeddingFile.open(source).ids.tolist()
    parts = []
    for number, chosen in enumerate((ids[:1], ids[1:3], ids[2:])):
        parts.append(tmp_path / f"{number}.h5")
        subset(source, parts[-1], Selection(ids=chosen))
    merge(parts, tmp_path / "merged.h5")
    assert digest(tmp_path / "merged.h5") == digest(source)
    assert verify(tmp_path / "merged.h5").complete


def test_the_lineage_keeps_the_steps_of_every_source_once(tmp_path: Path) -> None:
    subset(TEXT_AND_IMAGE, tmp_path / "a.h5", Selection(ids=[1, -5]))
    subset(TEXT_AND_IMAGE, tmp_path / "b.h5", Selection(ids=[2**62, 31]))
    merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "merged.h5")
    steps = steps_of(EmbeddingFile.open(tmp_path / "merged.h5").header.about)
    assert [step["operation"] for step in steps] == ["subset", "subset", "merge"]
    assert steps[-1]["from"] == [digest(tmp_path / "a.h5"), digest(tmp_path / "b.h5")]
    assert steps[-1]["digest"] == digest(TEXT_AND_IMAGE)


def test_licences_that_differ_are_all_told(tmp_path: Path) -> None:
    paths = []
    for number, licence in enumerate(("CC0-1.0", "CC-BY-4.0", "CC0-1.0")):
        layout = make_layout("toy", "float16", 2, [1], [OK], text=False)
        rows = [(np.ones((2, 2), np.float16), *OK)]
        paths.append(tmp_path / f"{number}.h5")
        write_file(paths[-1], [number], {"image": (layout, rows)}, {"licence": licence}).close()
    merge(paths, tmp_path / "merged.h5")
    assert EmbeddingFile.open(tmp_path / "merged.h5").header.about["licence"] == "CC0-1.0; CC-BY-4.0"


# ---------------------------------------------------------------- what is refused


def test_rows_that_differ_are_named_with_both_files(tmp_path: Path) -> None:
    a, b = job(tmp_path / "a.h5", [0, 1, 2]), job(tmp_path / "b.h5", [1, 3], value=2.0)
    with pytest.raises(BadInput, match=r"1 rows conflict: text of item 1: other embeddings in .*a.h5 and .*b.h5"):
        merge([a, b], tmp_path / "merged.h5")
    assert not (tmp_path / "merged.h5").exists()


def relaid(path: Path, **changes: Any) -> Path:
    """A one-item file whose layout differs from the usual in `changes`."""
    layout = make_layout("toy", "float16", 2, [1], [OK], text=False)
    layout = replace(layout, **changes)
    content = np.ones((1 + int(layout.lengths[0]), layout.width), np.float16)
    write_file(path, [7], {"image": (layout, [(content, *OK)])}).close()
    return path


def test_another_input_or_length_of_the_same_item_is_a_conflict(tmp_path: Path) -> None:
    a = relaid(tmp_path / "a.h5")
    inputs = relaid(tmp_path / "b.h5", digest=np.ones((1, 32), np.uint8))
    longer = relaid(tmp_path / "c.h5", lengths=np.array([2]))
    with pytest.raises(BadInput, match="image of item 7: another input in"):
        merge([a, inputs], tmp_path / "merged.h5")
    with pytest.raises(BadInput, match="image of item 7: another number of tokens in"):
        merge([a, longer], tmp_path / "merged.h5")


def test_files_made_differently_are_a_fingerprint_mismatch(tmp_path: Path) -> None:
    a, b = job(tmp_path / "a.h5", [0]), job(tmp_path / "b.h5", [1], model="other")
    with pytest.raises(FingerprintMismatch, match=r"text embeddings were made differently.*weights: expected"):
        merge([a, b], tmp_path / "merged.h5")
    whole = job(tmp_path / "whole.h5", list(range(6)))
    convert(whole, tmp_path / "int8.h5", "int8")
    with pytest.raises(FingerprintMismatch, match="dtype: expected 'float16', found 'int8'"):
        merge([whole, tmp_path / "int8.h5"], tmp_path / "merged.h5")


def test_ids_of_two_kinds_and_a_single_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"found numbers in .* and text in"):
        merge([TEXT_AND_IMAGE, IMAGE_BFLOAT16], tmp_path / "merged.h5")
    with pytest.raises(UsageError, match="at least two files"):
        merge([TEXT_AND_IMAGE], tmp_path / "merged.h5")


def test_a_damaged_row_of_any_part_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    a, b = job(tmp_path / "a.h5", [0, 1, 2]), job(tmp_path / "b.h5", [3, 4, 5])
    tokens = EmbeddingFile.open(b, pending=True).header.datasets["text/tokens"]
    with b.open("r+b") as raw:
        raw.seek(tokens.offset + 4 * 3 * 8)
        raw.write(b"\x01")
    with pytest.raises(DamagedFile, match=r"1 rows are damaged \(text of item 4\)"):
        merge([a, b], tmp_path / "merged.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_the_command_merges_all_but_the_last_into_the_last(tmp_path: Path) -> None:
    parts = [job(tmp_path / "a.h5", [0, 1, 2]), job(tmp_path / "b.h5", [3, 4])]
    out = tmp_path / "merged.h5"
    done = CliRunner().invoke(app, ["cache", "merge", *map(str, parts), str(out)])
    assert done.exit_code == 0
    assert "6 items" in done.output
    assert "1 text rows are pending as they were" in done.output
    refused = CliRunner().invoke(
        app, ["cache", "merge", str(parts[0]), str(shutil.copy(TEXT_AND_IMAGE, tmp_path / "x.h5")), "y"]
    )
    assert isinstance(refused.exception, CinefuseError)
    assert refused.exception.exit_code == 5
