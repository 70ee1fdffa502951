"""Subsets: what is asked for comes out, byte for byte, checked on the way; nothing else does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.status import Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput, Busy, CinefuseError, DamagedFile, NoSpace, UsageError
from cinefuse.data.runtime.lock import sole_writer
from cinefuse.data.sharing.copy_plan import select
from cinefuse.data.sharing.copying import begin, finish, new_file
from cinefuse.data.sharing.index import Index, LocalBytes
from cinefuse.data.sharing.lineage import steps_of
from cinefuse.data.sharing.merge import merge
from cinefuse.data.sharing.selection import Selection, selection_from_options
from cinefuse.data.sharing.subset import subset
from cinefuse.tests.support.embedding_files import (
    OK,
    TEXT_AND_IMAGE,
    TEXT_INT8,
    UNFINISHED,
    catalogues,
    digest,
    make_layout,
    names,
    write_file,
)

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same_row(one: EmbeddingFile, other: EmbeddingFile, item: Any, name: str, level: str) -> bool:
    """Whether an item has the same bytes in two files, tokens aside where `level` is cls."""
    a, b = one[name], other[name]
    row, their = int(one.rows([item])[0]), int(other.rows([item])[0])
    parts = [(a.cls[row], b.cls[their]), (a.status[row], b.status[their]), (a.reason[row], b.reason[their])]
    parts += [(a.digest[row], b.digest[their])]
    if level == "tokens":
        parts += [(a.tokens_of(row), b.tokens_of(their))]
    elif len(b.tokens_of(their)):
        return False
    return all(x.tobytes() == y.tobytes() for x, y in parts)


@quick
@given(catalogues(), st.data())
def test_a_subset_holds_the_bytes_of_the_items_wanted_in_their_order(
    tmp_path: Path, catalogue: Any, data: st.DataObject
) -> None:
    ids, modalities = catalogue
    source, out = tmp_path / "films.h5", tmp_path / "some.h5"
    write_file(source, ids, modalities).close()
    chosen = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    kinds = data.draw(st.sets(st.sampled_from(sorted(modalities)), min_size=1))
    level = data.draw(st.sampled_from(["tokens", "cls"]))
    subset(source, out, Selection(tuple(kinds), level, chosen), overwrite=True)
    assert verify(out).complete
    with EmbeddingFile.open(source) as whole, EmbeddingFile.open(out) as part:
        assert part.ids.tolist() == chosen
        assert set(part.modalities) == kinds
        for name in kinds:
            assert all(same_row(whole, part, item, name, level) for item in chosen)
            if level == "tokens" and name == "text":
                tokens = [whole.text.input_ids[slice(*whole.text.offsets[r : r + 2])] for r in whole.rows(chosen)]
                assert np.array_equal(part.text.input_ids, np.concatenate(tokens))


@quick
@given(catalogues(), st.data())
def test_merging_a_partition_gives_the_original(tmp_path: Path, catalogue: Any, data: st.DataObject) -> None:
    ids, modalities = catalogue
    source, whole = tmp_path / "films.h5", tmp_path / "whole.h5"
    write_file(source, ids, modalities).close()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ids) - 1), max_size=3)) if len(ids) > 1 else set())
    runs = [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    parts = []
    for number, run in enumerate([*runs, ids[:1]]):  # the last part repeats a row
        parts.append(tmp_path / f"part{number}.h5")
        subset(source, parts[-1], Selection(ids=run), overwrite=True)
    merge(parts, whole, overwrite=True)
    assert digest(whole) == digest(source)
    assert verify(whole).complete


@quick
@given(catalogues(), st.data())
def test_a_plan_copies_exactly_the_wanted_bytes_and_none_twice(
    tmp_path: Path, catalogue: Any, data: st.DataObject
) -> None:
    ids, modalities = catalogue
    source = tmp_path / "films.h5"
    write_file(source, ids, modalities).close()
    chosen = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    level = data.draw(st.sampled_from(["tokens", "cls"]))
    with LocalBytes(source) as content:
        index = Index.read(content, "films.h5")
        plan = select(index, Selection(level=level, ids=chosen), {})
    copies = plan.copies[0]
    rows = index.rows(chosen)
    read: set[int] = set()
    written: set[int] = set()
    for name in index.modalities:
        for part in ("cls", "tokens", "input_ids"):
            dataset = index.header.datasets.get(f"{name}/{part}")
            if dataset is None or dataset.length == 0 or (level == "cls" and part != "cls"):
                continue
            stride = dataset.length // dataset.shape[0]
            offsets = index.modalities[name].offsets
            for row in rows.tolist():
                start, stop = (row, row + 1) if part == "cls" else (int(offsets[row]), int(offsets[row + 1]))
                read |= set(range(dataset.offset + start * stride, dataset.offset + stop * stride))
    for offset, length, place in copies.tolist():
        assert length > 0
        assert not written & set(range(place, place + length))
        written |= set(range(place, place + length))
        assert set(range(offset, offset + length)) <= read
        read -= set(range(offset, offset + length))
    assert not read
    assert (np.diff(copies[:, 0]) > 0).all()
    touching = (copies[1:, 0] == copies[:-1, :2].sum(1)) & (copies[1:, 2] == copies[:-1, 1:].sum(1))
    assert not touching.any()


def test_the_whole_of_a_file_is_few_runs_however_many_rows_it_has() -> None:
    with LocalBytes(TEXT_AND_IMAGE) as content:
        plan = select(Index.read(content, "films.h5"), Selection(), {})
    assert len(plan.copies[0]) == 5  # cls and tokens of both, token ids


class Counted:
    """A source that tells which bytes were asked of it."""

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self.size, self.asked = len(self._content), 0

    def read(self, offset: int, length: int) -> bytes:
        self.asked += 1
        assert offset + length <= self.size
        return self._content[offset : offset + length]


def test_any_source_of_bytes_will_do_and_is_asked_few_times(tmp_path: Path) -> None:
    source, out = Counted(TEXT_INT8), tmp_path / "some.h5"
    index = Index.read(source, "elsewhere")
    assert source.asked <= 4
    plan = select(index, Selection(ids=[31, 1]), {})
    with new_file(out) as working:
        descriptor = os.open(working, os.O_RDWR | os.O_CREAT)
        begin(plan, descriptor)
        for offset, length, place in reversed(plan.copies[0].tolist()):
            os.pwrite(descriptor, source.read(offset, length), place)
        with pytest.raises(DamagedFile):
            EmbeddingFile.open(working, pending=True)  # no header before all is checked
        os.close(descriptor)
        finish(plan, working)
    assert verify(out).complete
    subset(TEXT_INT8, tmp_path / "local.h5", Selection(ids=[31, 1]))
    assert digest(out) == digest(tmp_path / "local.h5")


def test_bytes_that_are_not_the_sources_are_refused(tmp_path: Path) -> None:
    source, working = Counted(TEXT_AND_IMAGE), tmp_path / "some.h5"
    plan = select(Index.read(source, "a.h5"), Selection(), {})
    descriptor = os.open(working, os.O_RDWR | os.O_CREAT)
    begin(plan, descriptor)
    for offset, length, place in plan.copies[0].tolist():
        os.pwrite(descriptor, bytes(byte ^ 1 for byte in source.read(offset, length)), place)
    os.close(descriptor)
    with pytest.raises(DamagedFile, match="8 rows are damaged"):
        finish(plan, working)
    with pytest.raises(DamagedFile, match="first bytes 'CINEFUSE'"):
        EmbeddingFile.open(working, pending=True)


def damaged(path: Path, part: str, row: int) -> Path:
    """`path` with one bit of a row's first byte in the dataset `part` changed."""
    dataset = EmbeddingFile.open(path).header.datasets[part]
    with path.open("r+b") as raw:
        raw.seek(dataset.offset + row * (dataset.length // dataset.shape[0]))
        byte = raw.read(1)[0]
        raw.seek(-1, os.SEEK_CUR)
        raw.write(bytes((byte ^ 4,)))
    return path


@pytest.mark.parametrize("level", ["tokens", "cls"])
@pytest.mark.parametrize("part", ["text/cls", "text/tokens"])
def test_a_damaged_row_is_named_and_never_sealed_with_a_new_checksum(tmp_path: Path, part: str, level: str) -> None:
    source = damaged(Path(shutil.copy(TEXT_AND_IMAGE, tmp_path / "films.h5")), part, 0)
    with pytest.raises(DamagedFile, match=r"1 rows are damaged \(text of item 1\)"):
        subset(source, tmp_path / "out.h5", Selection(level=level))
    assert names(tmp_path) == ["films.h5"]
    subset(source, tmp_path / "out.h5", Selection(level=level, ids=[-5, 31]))  # rows that are whole can be had


@pytest.mark.parametrize("part", ["items/id", "text/offsets", "text/digest"])
def test_damaged_small_arrays_are_refused(tmp_path: Path, part: str) -> None:
    source = damaged(Path(shutil.copy(TEXT_AND_IMAGE, tmp_path / "films.h5")), part, 1)
    with pytest.raises(DamagedFile):
        subset(source, tmp_path / "out.h5", Selection())
    assert names(tmp_path) == ["films.h5"]


def test_pending_rows_stay_pending_and_bring_no_bytes(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    plan = subset(UNFINISHED, out, Selection())
    assert plan.pending == 2
    assert digest(out) != digest(UNFINISHED)  # its half-written row is nothing here
    with EmbeddingFile.open(out, pending=True) as file:
        assert file.image.status.tolist() == [Status.OK, Status.PENDING, Status.PENDING]
        assert not file.image.tokens[2:].any()
        assert np.array_equal(file.image.batch, EmbeddingFile.open(UNFINISHED, pending=True).image.batch)
    assert verify(out).sound
    with pytest.raises(DamagedFile, match="2 image rows still pending"):
        EmbeddingFile.open(out)


def test_the_lineage_names_both_digests_and_every_earlier_step(tmp_path: Path) -> None:
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    subset(TEXT_AND_IMAGE, a, Selection(("text",)))
    subset(a, b, Selection(level="cls", ids=[31]))
    steps = steps_of(EmbeddingFile.open(b).header.about)
    assert [step["operation"] for step in steps] == ["subset", "subset"]
    assert [step["from"] for step in steps] == [[digest(TEXT_AND_IMAGE)], [digest(a)]]
    assert [step["digest"] for step in steps] == [digest(a), digest(b)]
    assert steps[0]["with"] == {"modalities": ["text"], "items": 4}
    assert steps[1]["with"] == {"level": "cls", "items": 1}
    assert EmbeddingFile.open(b).header.about["licence"] == "CC0-1.0"
    assert EmbeddingFile.open(b).text.fingerprint == EmbeddingFile.open(TEXT_AND_IMAGE).text.fingerprint


@pytest.mark.parametrize(
    ("selection", "kind", "message"),
    [
        (Selection(ids=[1, 7, 8]), BadInput, "2 of 3 ids are not in the file: 7, 8"),
        (Selection(ids=["1", "x"]), BadInput, "its ids are numbers, wanted is 'x'"),
        (Selection(ids=[1, 31, 1]), BadInput, "1 more than once: 1"),
        (Selection(("text", "audio")), BadInput, "expected audio embeddings, found only text, image"),
    ],
)
def test_what_the_file_lacks_is_named(tmp_path: Path, selection: Selection, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        subset(TEXT_AND_IMAGE, tmp_path / "out.h5", selection)
    assert names(tmp_path) == []


def test_a_file_that_is_there_or_being_made_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    out.write_bytes(b"mine")
    with pytest.raises(BadInput, match="is there already"):
        subset(TEXT_AND_IMAGE, out, Selection())
    assert out.read_bytes() == b"mine"
    with sole_writer(out), pytest.raises(Busy, match="is writing it"):
        subset(TEXT_AND_IMAGE, out, Selection(), overwrite=True)
    with pytest.raises(BadInput, match="a folder that exists"):
        subset(TEXT_AND_IMAGE, tmp_path / "nowhere" / "out.h5", Selection())
    subset(TEXT_AND_IMAGE, out, Selection(), overwrite=True)
    assert digest(out) == digest(TEXT_AND_IMAGE)


def test_a_disk_too_small_is_told_before_a_byte_is_copied(tmp_path: Path, disk: Path) -> None:
    ids = list(range(40))
    layout = make_layout("toy", "float32", 512, [20] * 40, [OK] * 40, text=False)
    content = np.ones((21, 512), np.float32)
    write_file(tmp_path / "films.h5", ids, {"image": (layout, [(content, *OK)] * 40)}).close()
    copied: list[int] = []
    with pytest.raises(NoSpace, match="the disk is full"):
        subset(tmp_path / "films.h5", disk / "out.h5", Selection(), progress=copied.append)
    assert copied == []
    assert names(disk) == []


ENDLESS = """
import sys, time
from pathlib import Path
from cinefuse.data.sharing.selection import Selection
from cinefuse.data.sharing.subset import subset
def slowly(count):
    print(count, flush=True)
    time.sleep(60)
subset(Path(sys.argv[1]), Path(sys.argv[2]), Selection(), progress=slowly)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_job_killed_half_way_leaves_no_half_file(tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "out.h5"
    job = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, TEXT_AND_IMAGE, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline()  # something is copied by now
    time.sleep(0.05)
    job.send_signal(how)
    job.wait()
    job.stdout.close()
    assert not out.exists()
    left = names(tmp_path)
    assert left == ([] if how == signal.SIGINT else [".out.h5.new", "out.h5.lock"])
    subset(TEXT_AND_IMAGE, out, Selection())
    assert names(tmp_path) == ["out.h5"]
    assert digest(out) == digest(TEXT_AND_IMAGE)


def test_options_become_a_selection_or_a_refusal(tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("31\n\n 1 \n")
    assert selection_from_options(None, listed, ["text"], "cls") == Selection(("text",), "cls", ["31", "1"])
    assert selection_from_options("31, 1", None, [], "tokens") == Selection(None, "tokens", ["31", "1"])
    assert selection_from_options(None, None, [], "tokens") == Selection()
    for options in [
        ("1", listed, [], "cls"),
        (None, None, ["audio"], "cls"),
        (None, None, [], "all"),
        (",", None, [], "cls"),
    ]:
        with pytest.raises(UsageError):
            selection_from_options(*options)
    listed.write_text("\n")
    with pytest.raises(BadInput, match="found none"):
        selection_from_options(None, listed, [], "tokens")
    with pytest.raises(BadInput, match="expected a text file"):
        selection_from_options(None, tmp_path / "absent.txt", [], "tokens")


def test_the_command_says_what_it_made_and_refuses_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    done = CliRunner().invoke(
        app, ["cache", "subset", str(TEXT_AND_IMAGE), str(out), "--ids", "31,1", "--level", "cls"]
    )
    assert done.exit_code == 0
    assert "2 items, text float16 + image float16" in done.output
    assert digest(out) in done.output
    info = CliRunner().invoke(app, ["cache", "info", str(out)])
    assert "lineage     subset (level cls, items 2) of" in info.output
    refused = CliRunner().invoke(app, ["cache", "subset", str(TEXT_AND_IMAGE), str(out), "--ids", "7"])
    assert isinstance(refused.exception, CinefuseError)
    assert refused.exception.exit_code == 3
    assert "\n" not in str(refused.exception)


def test_a_header_full_of_a_strangers_lineage_is_cut_or_refused_never_a_defect(tmp_path: Path) -> None:
    layout = make_layout("toy", "float16", 2, [1], [OK], text=False)
    rows = [(np.ones((2, 2), np.float16), *OK)]
    write_file(tmp_path / "long.h5", [7], {"image": (layout, rows)}, {"lineage": list(range(100_000))}).close()
    subset(tmp_path / "long.h5", tmp_path / "out.h5", Selection())
    assert len(EmbeddingFile.open(tmp_path / "out.h5").header.about["lineage"]) <= 64
    for spare in range(1000, 4000, 100):  # the longest note that leaves no room for a step more
        try:
            write_file(tmp_path / "full.h5", [7], {"image": (layout, rows)}, {"note": "x" * (2**20 - spare)}).close()
        except ValueError:
            continue
        break
    with pytest.raises(BadInput, match="exceeds the format's limit"):
        subset(tmp_path / "full.h5", tmp_path / "other.h5", Selection())
