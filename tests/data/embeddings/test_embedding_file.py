"""The embedding file as a reader meets it: what was put in comes out, nothing is copied, no id finds another's row."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle  # noqa: TID251  (how worker processes receive a file)
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.hdf5_metadata import Array, build
from cinefuse.data.embeddings.number_formats import as_float32, numpy_dtype
from cinefuse.data.embeddings.rows import RowWriter, nan, row_checksum
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput, DamagedFile
from cinefuse.tests.support.embedding_files import (
    GOLDEN,
    IMAGE_BFLOAT16,
    MISSING,
    OK,
    TEXT_AND_IMAGE,
    catalogues,
    id_lists,
    integers,
    make_layout,
    texts,
    write_file,
)

thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@thorough
@given(catalogues())
def test_what_was_put_in_comes_out_and_hdf5_agrees(tmp_path: Path, catalogue: tuple[list[Any], dict[str, Any]]) -> None:
    ids, modalities = catalogue
    path = tmp_path / "films.h5"
    write_file(path, ids, modalities).close()
    assert verify(path).complete
    with EmbeddingFile.open(path) as file, h5py.File(path) as plain:
        assert file.ids.tolist() == ids
        assert file.modalities == tuple(name for name in ("text", "image") if name in modalities)
        for name, (layout, rows) in modalities.items():
            modality = file[name]
            assert modality.width == layout.width
            assert np.array_equal(np.diff(modality.offsets), layout.lengths)
            assert np.array_equal(modality.digest, layout.digest)
            for row, (content, status, reason) in enumerate(rows):
                assert modality.raw_cls[row].tobytes() == content[0].tobytes()
                assert modality.raw_tokens_of(row).tobytes() == content[1:].tobytes()
                assert (modality.status[row], modality.reason[row]) == (status, reason)
        for name, dataset in file.header.datasets.items():
            theirs, ours = plain[name][()], file.raw_array(name)
            ours = as_float32(ours, "bfloat16") if dataset.dtype == "bfloat16" else ours
            assert theirs.shape == ours.shape
            assert np.array_equal(theirs, ours, equal_nan=ours.dtype.kind == "f"), name


@thorough
@given(
    id_lists,
    st.lists(st.one_of(integers, texts, st.sampled_from([True, 1.0, None, b"a", "a\0", "\ud800", 2**63])), max_size=6),
)
def test_find_and_rows_agree_with_a_dict(tmp_path: Path, ids: list[Any], others: list[Any]) -> None:
    layout = make_layout("toy", "float16", 1, [0] * len(ids), [OK] * len(ids), text=False)
    file = EmbeddingFile.create(tmp_path / "films.h5", np.array(ids), {"image": layout}, {})
    known = {(type(item), item): row for row, item in enumerate(ids)}
    wanted = [*reversed(ids), *others, *ids[:1]]
    expected = [known.get((type(item), item), -1) for item in wanted]
    assert file.find(wanted).tolist() == expected
    objects = np.empty(len(wanted), object)
    objects[:] = wanted
    assert file.find(objects).tolist() == expected
    typed = np.array(ids)
    assert file.find(typed).tolist() == list(range(len(ids)))
    assert file.rows(typed[::-1]).tolist() == list(range(len(ids)))[::-1]
    if -1 in expected:
        with pytest.raises(BadInput, match=r"ids are not in the file"):
            file.rows(objects)
    else:
        assert file.rows(wanted).tolist() == expected
    file.close()


def test_a_number_never_finds_a_text_nor_a_text_a_number(tmp_path: Path) -> None:
    layout = make_layout("toy", "float16", 1, [0, 0], [OK, OK], text=False)
    numbers = EmbeddingFile.create(tmp_path / "numbers.h5", np.array([7, 8]), {"image": layout}, {})
    names = EmbeddingFile.create(tmp_path / "names.h5", np.array(["7", "a"]), {"image": layout}, {})
    assert numbers.find(["7", "8"]).tolist() == [-1, -1]
    assert numbers.find(np.array(["7"])).tolist() == [-1]
    assert names.find([7, "a"]).tolist() == [-1, 1]
    assert names.find(np.array([7, 8])).tolist() == [-1, -1]
    assert names.find(np.array([7.0])).tolist() == [-1]
    assert names.find(["a" * 300, ""]).tolist() == [-1, -1]
    assert numbers.find(np.array([7, 8], "timedelta64[ns]")).tolist() == [-1, -1]
    assert numbers.find(np.array([True, False])).tolist() == [-1, -1]
    assert numbers.find([]).tolist() == []
    assert numbers.find([True, 7.0]).tolist() == [-1, -1]


def test_ids_beyond_a_double_are_told_apart(tmp_path: Path) -> None:
    ids = [2**53, 2**53 + 1, 2**63 - 1]
    layout = make_layout("toy", "float16", 1, [0] * 3, [OK] * 3, text=False)
    file = EmbeddingFile.create(tmp_path / "films.h5", np.array(ids), {"image": layout}, {})
    assert file.find(np.array([2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)).tolist() == [1, 2, -1, -1]
    assert file.find(np.array([2**53 + 1], ">i8")).tolist() == [1]


@thorough
@given(catalogues(), st.data())
def test_gather_is_concatenation(
    tmp_path: Path, catalogue: tuple[list[Any], dict[str, Any]], data: st.DataObject
) -> None:
    ids, modalities = catalogue
    with write_file(tmp_path / "films.h5", ids, modalities) as file:
        modality = file[file.modalities[0]]
        rows = np.array(data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=9)), np.int64)
        pieces = [modality.tokens_of(row) for row in rows.tolist()]
        expected = np.concatenate([modality.tokens[:0], *pieces])
        tokens, offsets = modality.gather(rows)
        assert tokens.tobytes() == expected.tobytes()
        assert offsets.tolist() == [0, *np.cumsum([len(piece) for piece in pieces]).tolist()]
        out = np.zeros((len(expected) + 2, modality.width), modality.tokens.dtype)
        filled, again = modality.gather(rows, out)
        assert filled.tobytes() == expected.tobytes()
        assert again.tolist() == offsets.tolist()
        assert np.shares_memory(filled, out) or not filled.size
        assert not out[len(expected) :].any()


def test_what_gather_returns_is_aligned_as_the_file_is() -> None:
    with EmbeddingFile.open(TEXT_AND_IMAGE) as file:
        found = [file[name].gather(np.arange(count))[0] for name in file.modalities for count in (1, 2, 3, 4) * 9]
        assert {tokens.ctypes.data % 64 for tokens in found if tokens.size} == {0}


def test_gather_refuses_rows_that_do_not_exist_and_buffers_that_do_not_fit() -> None:
    with EmbeddingFile.open(TEXT_AND_IMAGE) as file:
        for rows in ([-1], [0, 4], [2**40]):
            with pytest.raises(ValueError, match="expected rows from 0 to 3"):
                file.text.gather(np.array(rows))
        for shape, dtype in [((4, 4), "f2"), ((5, 3), "f2"), ((5, 4), "f4"), ((20,), "f2")]:
            with pytest.raises(ValueError, match=r"expected a buffer of at least \(5, 4\) float16"):
                file.text.gather(np.array([0, 1]), np.empty(shape, dtype))
        for row in (-1, 4):
            with pytest.raises(IndexError, match="expected a row from 0 to 3"):
                file.text.tokens_of(row)


def test_every_bfloat16_reads_as_the_float32_of_the_same_bits() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    expected = np.frombuffer(b"".join(b"\0\0" + value.tobytes() for value in bits), "<f4")
    assert as_float32(bits, "bfloat16").tobytes() == expected.tobytes()
    assert np.isnan(as_float32(nan((3,), "bfloat16"), "bfloat16")).all()


def test_every_float16_converts_exactly() -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert np.array_equal(as_float32(values, "float16").astype(np.float16), values, equal_nan=True)


@pytest.mark.parametrize(
    "path", [TEXT_AND_IMAGE, IMAGE_BFLOAT16, GOLDEN / "text_all_missing.h5"], ids=lambda path: path.stem
)
def test_views_are_read_only_and_copy_nothing(path: Path) -> None:
    with EmbeddingFile.open(path) as file:
        mapped = np.frombuffer(file._content, np.uint8)
        for name, dataset in file.header.datasets.items():
            view = file.raw_array(name)
            assert not view.flags.writeable
            assert np.shares_memory(view, mapped) or dataset.length == 0
            with pytest.raises(ValueError, match="read-only"):
                view[...] = 0
        assert np.shares_memory(file[file.modalities[0]].raw_cls[1:2], mapped) or len(file) == 1
        del mapped, view


def test_views_live_on_after_close() -> None:
    file = EmbeddingFile.open(TEXT_AND_IMAGE)
    cls = file.image.cls
    expected = cls.tobytes()
    file.close()
    assert cls.tobytes() == expected


def test_a_pickled_file_is_opened_again_and_refuses_another_under_its_name(tmp_path: Path) -> None:
    path = Path(shutil.copy(TEXT_AND_IMAGE, tmp_path / "films.h5"))
    with EmbeddingFile.open(path) as file:
        pickled = pickle.dumps(file)
        assert len(pickled) < 10_000
        with pickle.loads(pickled) as again:  # noqa: S301
            assert again.content_digest == file.content_digest
    shutil.copy(IMAGE_BFLOAT16, path)
    with pytest.raises(DamagedFile, match="found another under its name"):
        pickle.loads(pickled)  # noqa: S301


def digest_of(file: EmbeddingFile) -> bytes:
    return b"".join(file.raw_array(name).tobytes() for name in file.header.datasets)


FORKED = """
import multiprocessing, runpy, sys
from pathlib import Path
here = runpy.run_path(sys.argv[1])
file = here["EmbeddingFile"].open(Path(sys.argv[2]))
expected = here["digest_of"](file)
def read(turn):
    return all(here["digest_of"](file) == expected for _ in range(200))
with multiprocessing.get_context("fork").Pool(4) as pool:
    sys.exit(0 if all(pool.map(read, range(8))) else 1)
"""


@pytest.mark.slow
def test_forked_readers_of_one_mapping_all_read_the_same() -> None:
    subprocess.run([sys.executable, "-c", FORKED, __file__, TEXT_AND_IMAGE], check=True)


def test_a_spawned_worker_maps_the_file_it_is_sent() -> None:
    with EmbeddingFile.open(TEXT_AND_IMAGE) as file, multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(EmbeddingFile.find, (file, [31, 5])).tolist() == [3, -1]
        pool.close()
        pool.join()


# ---------------------------------------------------------------- the content digest


def small(
    path: Path, about: Any = None, model: str = "toy", last: tuple[Status, Reason] = OK, value: float = 1.0
) -> str:
    states = [OK, last]
    layout = make_layout(model, "float16", 2, [1, 1], states, text=False)
    layout = replace(layout, record={**layout.record, "note": str(about)}, batch=layout.batch + (about is not None))
    content = np.full((2, 2), value, np.float16)
    rows = [(content, *OK), (content if last[0].has_embedding else nan((2, 2), "float16"), *last)]
    with write_file(path, [1, 2], {"image": (layout, rows)}, about) as file:
        return file.content_digest


def test_equal_content_has_equal_digests_whatever_the_header_tells_about_it(tmp_path: Path) -> None:
    long = {"licence": "x" * 10_000}
    assert small(tmp_path / "a.h5") == small(tmp_path / "b.h5") == small(tmp_path / "c.h5", long)
    assert EmbeddingFile.open(tmp_path / "c.h5").header.user_block == 32768


def test_other_content_has_another_digest(tmp_path: Path) -> None:
    digests = {
        small(tmp_path / "a.h5"),
        small(tmp_path / "b.h5", model="other"),
        small(tmp_path / "c.h5", last=MISSING),
        small(tmp_path / "d.h5", last=(Status.MISSING, Reason.EMPTY)),
        small(tmp_path / "e.h5", last=(Status.TRUNCATED, Reason.TOO_LONG)),
        small(tmp_path / "f.h5", value=1.5),
    }
    assert len(digests) == 6


@pytest.mark.parametrize("part", ["status", "reason", "checksum"])
def test_any_changed_status_reason_or_checksum_changes_the_digest(tmp_path: Path, part: str) -> None:
    path = Path(shutil.copy(TEXT_AND_IMAGE, tmp_path / "films.h5"))
    with EmbeddingFile.open(path) as file:
        digest, dataset = file.content_digest, file.header.datasets[f"image/{part}"]
    seen = {digest}
    for place in range(dataset.length):
        with path.open("r+b") as raw:
            raw.seek(dataset.offset + place)
            old = raw.read(1)
            raw.seek(dataset.offset + place)
            raw.write(bytes((old[0] ^ 8,)))
        with EmbeddingFile.open(path, pending=True) as file:
            seen.add(file.content_digest)
    assert len(seen) == dataset.length + 1


# ---------------------------------------------------------------- what cannot be laid out


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([], "at least one item"),
        ([1, 2, 1], "each id once, found 1 2 times|each id once, found np.int64"),
        (["a", "b", "a"], "each id once"),
        (["a", ""], "1 to 256 bytes"),
        (["a", "x" * 257], "1 to 256 bytes"),
        (["a", "é" * 129], "1 to 256 bytes"),
        (np.array([2**63, 1], np.uint64), "fit 64 bits"),
        ([2**63, 1], "text or whole numbers of 64 bits, found float64"),
        ([0.5], "text or whole numbers of 64 bits, found float64"),
    ],
)
def test_ids_that_the_format_cannot_hold_are_bad_input(tmp_path: Path, ids: list[Any], told: str) -> None:
    layout = make_layout("toy", "float16", 1, [0] * len(ids), [OK] * len(ids), text=False)
    with pytest.raises(BadInput, match=told):
        EmbeddingFile.create(tmp_path / "films.h5", np.array(ids), {"image": layout}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", None, 7, b"a"])
def test_ids_that_are_no_text_are_bad_input(tmp_path: Path, bad: object) -> None:
    layout = make_layout("toy", "float16", 1, [0, 0], [OK, OK], text=False)
    with pytest.raises(BadInput, match="1 to 256 bytes of UTF-8 without NUL"):
        EmbeddingFile.create(tmp_path / "films.h5", np.array(["a", bad], object), {"image": layout}, {})


@pytest.mark.parametrize(
    "value", [float("nan"), {1, 2}, "\ud800", "x" * 2**20, json.loads("[" * 40 + "]" * 40)],
    ids=["NaN", "set", "surrogate", "too long", "too deep"],
)  # fmt: skip
def test_an_about_that_no_reader_would_accept_is_never_written(tmp_path: Path, value: object) -> None:
    layout = make_layout("toy", "float16", 1, [0], [OK], text=False)
    with pytest.raises(ValueError):
        EmbeddingFile.create(tmp_path / "films.h5", np.array([1]), {"image": layout}, {"a": value})
    assert list(tmp_path.iterdir()) == []


def test_a_header_too_long_for_its_user_block_is_never_encoded() -> None:
    header = EmbeddingFile.open(TEXT_AND_IMAGE).header
    with pytest.raises(ValueError, match="does not fit a user block of 8192"):
        replace(header, about={"a": "x" * 8192}).encode()
    with pytest.raises(ValueError, match="exceeds the format's limit of 1048576"):
        header.smallest_user_block(replace(header, about={"a": "x" * 2**20}))


def test_layouts_that_contradict_themselves_are_never_written(tmp_path: Path) -> None:
    good = make_layout("toy", "float16", 2, [1, 2], [OK, OK], text=True)
    assert good.input_ids is not None
    bad = {
        "no token ids": {"text": replace(good, input_ids=None)},
        "token ids of an image": {"image": good},
        "token ids short": {"text": replace(good, input_ids=good.input_ids[1:])},
        "one item less": {"text": replace(good, lengths=good.lengths[1:])},
        "no width": {"text": replace(good, width=0)},
        "unknown dtype": {"text": replace(good, dtype="int64")},
        "no fingerprint": {"text": replace(good, record={})},
        "negative lengths": {"text": replace(good, lengths=np.array([-1, 4]))},
        "digests short": {"text": replace(good, digest=good.digest[1:])},
        "no modality": {},
        "a modality of another name": {"audio": good},
    }
    for what, layouts in bad.items():
        with pytest.raises(ValueError):
            EmbeddingFile.create(tmp_path / "films.h5", np.array([1, 2]), layouts, {})
        assert list(tmp_path.iterdir()) == [], what


def test_rows_that_do_not_fit_are_never_written(tmp_path: Path) -> None:
    layout = make_layout("toy", "float16", 2, [1, 2], [OK, OK], text=False)
    file = EmbeddingFile.create(tmp_path / "films.h5", np.array([1, 2]), {"image": layout}, {})
    before = (tmp_path / "films.h5").read_bytes()
    cls, tokens = np.ones(2, np.float16), np.ones((1, 2), np.float16)
    with RowWriter(file) as writer:
        for row, bad_cls, bad_tokens, status in [
            (0, cls[:1], tokens, Status.OK),
            (0, cls, tokens[:0], Status.OK),
            (1, cls, tokens, Status.OK),
            (-1, cls, tokens, Status.OK),
            (0, cls.astype("f4"), tokens.astype("f4"), Status.OK),
            (0, cls.astype(">f2"), tokens.astype(">f2"), Status.OK),
            (0, cls, tokens, Status.PENDING),
            (0, cls, np.ones((1, 4), np.float16)[:, ::2], Status.OK),
        ]:
            with pytest.raises((ValueError, TypeError)):
                writer.write("image", row, bad_cls, bad_tokens, status)
        with pytest.raises(IndexError):
            writer.write("image", 2, cls, tokens, Status.OK)
    assert (tmp_path / "films.h5").read_bytes() == before


def test_absent_rows_are_nan_in_every_dtype(tmp_path: Path) -> None:
    for dtype in ("float16", "bfloat16", "float32"):
        layout = make_layout("toy", dtype, 3, [2], [MISSING], text=False)
        with EmbeddingFile.create(tmp_path / f"{dtype}.h5", np.array([1]), {"image": layout}, {}) as file:
            with RowWriter(file) as writer:
                writer.write_absent("image", 0, *MISSING)
            assert np.isnan(as_float32(file.image.raw_cls, dtype)).all()
            assert np.isnan(as_float32(file.image.raw_tokens, dtype)).all()
            assert not file.image.has_embedding.any()
            assert file.pending == {"image": 0}


def test_a_checksum_of_zero_is_never_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from cinefuse.data.embeddings import rows

    class Zero:
        def __init__(self, _: object) -> None: ...

        def update(self, _: object) -> None: ...

        def intdigest(self) -> int:
            return 0

    monkeypatch.setattr(rows.xxhash, "xxh3_64", Zero)
    assert row_checksum(b"", b"", 1, 0) == 1


# ---------------------------------------------------------------- size costs nothing

SPARSE = """
import os, runpy, sys
from pathlib import Path
import numpy as np
here = runpy.run_path(sys.argv[1])
from cinefuse.data.embeddings import file as embeddings
embeddings.reserve = os.ftruncate  # a sparse file: no disk space behind it
items = 4000
layout = here["make_layout"]("toy", "float16", 768, [197] * items, [here["OK"]] * items, text=False)
path = Path(sys.argv[2])
embeddings.EmbeddingFile.create(path, np.arange(items), {"image": layout}, {}).close()
assert path.stat().st_size > 1_200_000_000
embeddings.EmbeddingFile.open(here["TEXT_AND_IMAGE"]).find([1])
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
files = [embeddings.EmbeddingFile.open(path, pending=True) for _ in range(5)]
for file in files:
    file.image.tokens_of(items - 1)[0, 0], file.find(np.arange(10)), file.pending
print(resident() - before)
"""


@pytest.mark.slow
def test_opening_a_file_of_a_gigabyte_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse.h5"
    child = subprocess.run([sys.executable, "-c", SPARSE, __file__, path], check=True, stdout=subprocess.PIPE)
    assert int(child.stdout) < 5 * 2**20
    assert os.stat(path).st_blocks * 512 < 10 * 2**20  # noqa: PTH116
    path.unlink()


array_names = st.tuples(st.sampled_from("abc"), st.sampled_from(["cls", "tokens", "id", "offsets", "status", "digest"]))
dtypes = st.sampled_from(["uint8", "int32", "int64", "uint64", "float16", "bfloat16", "float32", "S3", "S256"])
shapes = st.lists(st.integers(0, 50), min_size=1, max_size=2)


@thorough
@given(st.dictionaries(array_names, st.tuples(dtypes, shapes), min_size=1), st.sampled_from([8192, 16384, 2**20]))
def test_hdf5_reads_the_metadata_of_any_arrays_as_meant(
    tmp_path: Path, wanted: dict[tuple[str, str], tuple[str, list[int]]], user_block: int
) -> None:
    arrays = [Array("/".join(name), dtype, tuple(shape)) for name, (dtype, shape) in wanted.items()]
    metadata, offsets = build(arrays, {"encoding-type": "any"}, user_block)
    end = max([user_block + len(metadata), *(offsets[array.name] + array.length for array in arrays)])
    path = tmp_path / "any.h5"
    path.write_bytes((bytes(user_block) + metadata).ljust(end, b"\1"))
    with h5py.File(path) as file:
        for array in arrays:
            found = file[array.name]
            kind = np.dtype("float32") if array.dtype == "bfloat16" else numpy_dtype(array.dtype)
            assert (found.shape, found.dtype.itemsize, found.dtype.kind) == (array.shape, kind.itemsize, kind.kind)
            assert found.id.get_storage_size() == array.length
            if array.length:
                assert found.id.get_offset() == offsets[array.name]
                assert offsets[array.name] % 64 == 0
            assert found[()].shape == array.shape
