"""Conversions: exact where they can be, told where they cannot, and never a byte more than was declared."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.number_formats import as_float32, converted_fingerprint, infinite, quantised, rounded
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.exports.export import FORMATS, write_as
from cinefuse.data.formats.compression import compress, compression_of, decompress
from cinefuse.data.formats.number_format import convert
from cinefuse.data.runtime.errors import BadInput, CinefuseError, DamagedFile, NoSpace, UsageError
from cinefuse.data.sharing.lineage import steps_of
from cinefuse.tests.support.embedding_files import (
    IMAGE_BFLOAT16,
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
floats = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(width=32))


# ---------------------------------------------------------------- number formats


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@quick
@given(floats)
def test_a_rounded_value_is_the_nearest_one_ties_to_even(dtype: str, values: np.ndarray) -> None:
    import torch

    ours = rounded(values, dtype)
    theirs = torch.from_numpy(values).to(getattr(torch, dtype))
    assert np.array_equal(as_float32(ours, dtype), theirs.float().numpy(), equal_nan=True)
    assert np.array_equal(infinite(ours, dtype), theirs.isinf().numpy())


def test_an_infinite_float16_is_known_by_its_bits() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert np.array_equal(infinite(every, "float16"), np.isinf(every))


@quick
@given(arrays.arrays(np.float32, (3, 7), elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_int8_is_off_by_at_most_half_a_step(values: np.ndarray) -> None:
    steps, scale = quantised(values)
    assert (np.abs(steps.astype(int)) <= 127).all()
    error = np.abs(steps * scale[:, None].astype(np.float64) - values)
    tiny = 127 * 2.0**-149  # where scales are subnormal they have few bits of their own
    assert (error <= scale[:, None] * 0.5001 + tiny).all()
    assert np.array_equal(steps == 0, np.abs(values) <= scale[:, None] * 0.5) or (scale < 2.0**-120).any()


def test_rows_of_zeros_and_of_nan_keep_their_meaning_in_int8() -> None:
    steps, scale = quantised(np.array([[0, 0], [np.nan, np.nan], [-3, 1]], np.float32))
    assert scale[0] == 0
    assert np.isnan(scale[1])
    assert steps.tolist() == [[0, 0], [0, 0], [-127, 42]]


@pytest.mark.slow
@quick
@given(catalogues(), st.data())
def test_widening_and_back_is_the_same_file(tmp_path: Path, catalogue: Any, data: st.DataObject) -> None:
    source, wide, back = (tmp_path / f"{name}.h5" for name in ("films", "wide", "back"))
    ids, modalities = catalogue
    dtype = data.draw(st.sampled_from(["float16", "bfloat16"]))
    modalities = {
        name: (
            make_layout("toy", dtype, layout.width, layout.lengths.tolist(), [row[1:] for row in rows], name == "text"),
            [(_as(dtype, content, layout.dtype), *state) for content, *state in rows],
        )
        for name, (layout, rows) in modalities.items()
    }
    write_file(source, ids, modalities).close()
    convert(source, wide, "float32", overwrite=True)
    convert(wide, back, dtype, overwrite=True)
    assert digest(back) == digest(source)
    assert verify(wide).complete
    with EmbeddingFile.open(source) as narrow, EmbeddingFile.open(wide) as exact:
        assert narrow.content_digest != exact.content_digest
        for name in narrow.modalities:
            same = as_float32(narrow[name].raw_tokens, dtype)
            assert np.array_equal(same, exact[name].tokens, equal_nan=True)
            assert exact[name].fingerprint["rounded"] == [dtype]


def _as(dtype: str, content: np.ndarray, was: str) -> np.ndarray:
    return rounded(as_float32(content, was) / 128, dtype)


def test_a_fingerprint_remembers_every_rounding_and_nothing_else() -> None:
    def after(*dtypes: str) -> dict:
        told: dict = {"weights": "w", "dtype": dtypes[0]}
        for dtype in dtypes[1:]:
            told = converted_fingerprint(told, dtype)
        return told

    assert after("float32", "float16") == after("float16")
    assert after("float16", "float32", "float16") == after("float16")
    assert after("float32", "int8") == after("int8")
    assert after("float16", "float32")["rounded"] == ["float16"]
    assert after("float16", "bfloat16", "float32")["rounded"] == ["float16", "bfloat16"]
    assert after("float16", "bfloat16", "float16")["rounded"] == ["float16", "bfloat16"]
    assert after("float16", "int8") != after("float32", "int8")


def test_int8_of_a_file_is_small_near_and_sound(tmp_path: Path) -> None:
    chance, width = np.random.default_rng(0), 384
    layout = make_layout("toy", "float16", width, [40] * 5, [OK] * 5, text=True)
    rows = [(chance.standard_normal((41, width)).astype(np.float16), *OK) for _ in range(5)]
    write_file(tmp_path / "films.h5", [1, 2, 3, 4, 5], {"text": (layout, rows)}).close()
    convert(tmp_path / "films.h5", tmp_path / "int8.h5", "int8")
    assert verify(tmp_path / "int8.h5").complete
    header = EmbeddingFile.open(tmp_path / "int8.h5").header
    stored = sum(header.datasets[f"text/{part}"].length for part in ("tokens", "tokens_scale", "input_ids"))
    before = EmbeddingFile.open(tmp_path / "films.h5").header.datasets
    assert stored <= 0.52 * (before["text/tokens"].length + before["text/input_ids"].length)
    with EmbeddingFile.open(tmp_path / "int8.h5") as file:
        for row, (content, *_) in enumerate(rows):
            exact, near = content[1:].astype(np.float64), file.text.read_tokens(row).astype(np.float64)
            cosine = (exact * near).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
            assert cosine.min() >= 0.998


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_every_row_keeps_its_state_and_a_pending_one_stays_pending(tmp_path: Path, dtype: str) -> None:
    convert(TEXT_AND_IMAGE, tmp_path / "both.h5", dtype)
    with EmbeddingFile.open(TEXT_AND_IMAGE) as one, EmbeddingFile.open(tmp_path / "both.h5") as other:
        for name in one.modalities:
            for part in ("offsets", "status", "reason", "digest", "batch"):
                assert np.array_equal(one.raw_array(f"{name}/{part}"), other.raw_array(f"{name}/{part}"))
        assert np.isnan(other.text.read_cls(2)).all()
        steps = steps_of(other.header.about)
        assert (steps[0]["operation"], steps[0]["with"]) == ("convert", {"dtype": dtype})
        assert (steps[0]["from"], steps[0]["digest"]) == ([one.content_digest], other.content_digest)
    assert convert(UNFINISHED, tmp_path / "unfinished.h5", dtype).pending == 2
    assert verify(tmp_path / "unfinished.h5").sound


def test_values_too_large_for_the_dtype_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    layout = make_layout("toy", "float32", 2, [2, 2], [OK, OK], text=False)
    rows = [(np.ones((3, 2), np.float32), *OK), (np.array([[1, 1], [1, 7e4], [1, 1]], np.float32), *OK)]
    write_file(tmp_path / "films.h5", ["a", "b"], {"image": (layout, rows)}).close()
    with pytest.raises(BadInput, match="image of item b: a value is too large for float16"):
        convert(tmp_path / "films.h5", tmp_path / "out.h5", "float16")
    assert names(tmp_path) == ["films.h5"]
    convert(tmp_path / "films.h5", tmp_path / "out.h5", "bfloat16")


def test_damaged_rows_are_never_converted(tmp_path: Path) -> None:
    source = Path(shutil.copy(TEXT_AND_IMAGE, tmp_path / "films.h5"))
    with source.open("r+b") as raw:
        raw.seek(EmbeddingFile.open(source).header.datasets["image/tokens"].offset + 1)
        raw.write(b"\x01")
    for out in (lambda: convert(source, tmp_path / "o", "int8"), lambda: write_as(source, tmp_path / "o", "npy")):
        with pytest.raises(DamagedFile, match=r"1 rows are damaged \(image of item 1\)"):
            out()
    assert names(tmp_path) == ["films.h5"]


# ---------------------------------------------------------------- gzip and zstd for the way


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("source", [TEXT_AND_IMAGE, UNFINISHED, TEXT_INT8], ids=lambda path: path.stem)
def test_there_and_back_is_bit_for_bit(tmp_path: Path, source: Path, compression: str) -> None:
    packed, flat = tmp_path / "films.packed", tmp_path / "films.h5"
    compress(source, packed, compression)
    assert compression_of(packed) == compression
    decompress(packed, flat)
    assert flat.read_bytes() == source.read_bytes()


def test_everybodys_programs_undo_it_and_equal_files_pack_to_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        compress(TEXT_AND_IMAGE, tmp_path / name, "gzip")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == TEXT_AND_IMAGE.read_bytes()
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    compress(TEXT_AND_IMAGE, tmp_path / "a.zst", "zstd")
    with zstandard.ZstdDecompressor().stream_reader((tmp_path / "a.zst").read_bytes(), read_across_frames=True) as way:
        assert way.read() == TEXT_AND_IMAGE.read_bytes()


def test_files_of_many_blocks_and_other_writers_frames_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cinefuse.data.formats.compression._BLOCK", 1000)
    content = TEXT_AND_IMAGE.read_bytes()
    for compression in ("gzip", "zstd"):
        compress(TEXT_AND_IMAGE, tmp_path / compression, compression)
        decompress(tmp_path / compression, tmp_path / f"{compression}.h5")
        assert (tmp_path / f"{compression}.h5").read_bytes() == content
    (tmp_path / "whole.gz").write_bytes(gzip.compress(content))
    (tmp_path / "whole.zst").write_bytes(zstandard.compress(content, 19))
    for name in ("whole.gz", "whole.zst"):
        decompress(tmp_path / name, tmp_path / f"{name}.h5")
        assert (tmp_path / f"{name}.h5").read_bytes() == content


BOMB = """
import resource, sys
from pathlib import Path
from cinefuse.data.runtime.errors import DamagedFile
from cinefuse.data.formats.compression import decompress
import zstandard, polars
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20,) * 2)
try:
    decompress(Path(sys.argv[1]), Path(sys.argv[2]))
except DamagedFile as refusal:
    print(refusal)
"""


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("honest_start", [True, False])
def test_a_decompression_bomb_is_refused_within_memory_and_disk(
    tmp_path: Path, compression: str, honest_start: bool
) -> None:
    start = TEXT_AND_IMAGE.read_bytes() if honest_start else b""
    bomb = tmp_path / "bomb"
    nothing = bytes(2**24)
    with bomb.open("wb") as file:
        if compression == "gzip":
            packer = zlib.compressobj(9, zlib.DEFLATED, 31)
            file.write(packer.compress(start))
            for _ in range(64):  # a gigabyte of zeros in one member
                file.write(packer.compress(nothing))
            file.write(packer.flush())
        else:
            with zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False) as writer:
                writer.write(start)
                for _ in range(64):
                    writer.write(nothing)
    told = subprocess.run(
        [sys.executable, "-c", BOMB, bomb, tmp_path / "out.h5"], capture_output=True, text=True, check=True
    ).stdout
    assert ("holds more than the" if honest_start else "first bytes 'CINEFUSE'") in told
    assert names(tmp_path) == ["bomb"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_torn_and_altered_transports_are_refused(tmp_path: Path, compression: str) -> None:
    packed = tmp_path / "packed"
    compress(TEXT_AND_IMAGE, packed, compression)
    whole = packed.read_bytes()
    for content in (whole[:100], whole[: len(whole) // 2], whole[:-1], whole[:-12], whole + whole):
        packed.write_bytes(content)
        with pytest.raises(DamagedFile):
            decompress(packed, tmp_path / "out.h5")
        assert names(tmp_path) == ["packed"]
    for place in range(40, len(whole), 97):
        packed.write_bytes(whole[:place] + bytes((whole[place] ^ 8,)) + whole[place + 1 :])
        with pytest.raises(DamagedFile):
            decompress(packed, tmp_path / "out.h5")
    (tmp_path / "packed").write_bytes(b"neither")
    with pytest.raises(DamagedFile, match="expected gzip or zstd"):
        decompress(packed, tmp_path / "out.h5")


def test_room_is_reserved_before_anything_is_decompressed(tmp_path: Path, disk: Path) -> None:
    layout = make_layout("toy", "float32", 512, [20] * 40, [OK] * 40, text=False)
    write_file(tmp_path / "a.h5", list(range(40)), {"image": (layout, [(np.ones((21, 512), "f4"), *OK)] * 40)}).close()
    compress(tmp_path / "a.h5", tmp_path / "a.zst", "zstd")
    progress: list[int] = []
    with pytest.raises(NoSpace):
        decompress(tmp_path / "a.zst", disk / "a.h5", progress=progress.append)
    assert progress == []
    assert names(disk) == []


ALONE = [to for to in FORMATS if to != "mmrec"]  # which goes with ratings alone


# ---------------------------------------------------------------- for other programs


@pytest.mark.parametrize("source", [TEXT_AND_IMAGE, IMAGE_BFLOAT16, TEXT_INT8], ids=lambda path: path.stem)
@pytest.mark.parametrize("to", ["parquet", "arrow"])
def test_a_table_has_every_items_vectors_or_null(tmp_path: Path, source: Path, to: str) -> None:
    write_as(source, tmp_path / "table", to)
    read = pl.read_parquet if to == "parquet" else pl.read_ipc
    with EmbeddingFile.open(source) as file:
        table = pl.concat(read(part) for part in sorted((tmp_path / "table").iterdir()))
        assert table["item_id"].to_list() == file.ids.tolist()
        for name in file.modalities:
            for row, record in enumerate(table.iter_rows(named=True)):
                there = file[name].has_embedding[row]
                assert (record[f"{name}_cls"] is not None) == there == (record[f"{name}_tokens"] is not None)
                if there:
                    assert np.array_equal(np.array(record[f"{name}_cls"]), file[name].read_cls(row))
                    tokens = np.array(record[f"{name}_tokens"]).reshape(-1, file[name].width)
                    assert np.array_equal(tokens, file[name].read_tokens(row))
                else:
                    assert record[f"{name}_status"] in ("missing", "failed")


@pytest.mark.parametrize("source", [TEXT_AND_IMAGE, IMAGE_BFLOAT16, TEXT_INT8], ids=lambda path: path.stem)
def test_safetensors_hold_the_same_bytes(tmp_path: Path, source: Path) -> None:
    write_as(source, tmp_path / "films.safetensors", "safetensors")
    with EmbeddingFile.open(source) as file:
        if source != IMAGE_BFLOAT16:  # numpy has no bfloat16
            for name, array in load_file(tmp_path / "films.safetensors").items():
                if name != "items/id" or array.dtype != np.uint8:
                    assert np.array_equal(array, file.raw_array(name), equal_nan=array.dtype.kind == "f"), name
        from safetensors.torch import load_file as load_tensors

        tensors = load_tensors(tmp_path / "films.safetensors")
        assert set(tensors) >= {f"{name}/{part}" for name in file.modalities for part in ("cls", "tokens", "offsets")}
        if source == IMAGE_BFLOAT16:
            expected = as_float32(file.image.raw_tokens, "bfloat16")
            assert np.array_equal(tensors["image/tokens"].float().numpy(), expected, equal_nan=True)
            ids = [bytes(row.tolist()).rstrip(b"\0").decode() for row in tensors["items/id"]]
            assert ids == file.ids.tolist()


@pytest.mark.parametrize("source", [TEXT_AND_IMAGE, IMAGE_BFLOAT16, TEXT_INT8], ids=lambda path: path.stem)
def test_numpy_arrays_lie_beside_a_table_of_where(tmp_path: Path, source: Path) -> None:
    write_as(source, tmp_path / "films", "npy")
    items = pl.read_parquet(tmp_path / "films" / "items.parquet")
    with EmbeddingFile.open(source) as file:
        assert items["item_id"].to_list() == file.ids.tolist()
        for name in file.modalities:
            tokens = np.load(tmp_path / "films" / f"{name}_tokens.npy")
            if file[name].dtype == "int8":
                tokens = tokens * np.load(tmp_path / "films" / f"{name}_tokens_scale.npy")[:, None]
            for row in np.flatnonzero(file[name].has_embedding).tolist():
                start, stop = items[f"{name}_start"][row], items[f"{name}_stop"][row]
                assert np.array_equal(tokens[start:stop].astype(np.float32), file[name].read_tokens(row))


def test_an_unfinished_file_is_given_to_no_other_program(tmp_path: Path) -> None:
    for to in ALONE:
        with pytest.raises(DamagedFile, match="still pending"):
            write_as(UNFINISHED, tmp_path / "out", to)
    assert names(tmp_path) == []


# ---------------------------------------------------------------- the command


def command(*words: object) -> Any:
    return CliRunner().invoke(app, ["cache", "convert", *map(str, words)])


@pytest.mark.slow
def test_the_command_goes_to_each_form_and_back(tmp_path: Path) -> None:
    assert command(TEXT_AND_IMAGE, tmp_path / "a.h5", "--dtype", "int8").exit_code == 0
    assert command(TEXT_AND_IMAGE, tmp_path / "a.h5.zst", "--compression", "zstd").exit_code == 0
    back = command(tmp_path / "a.h5.zst", tmp_path / "b.h5", "--compression", "none")
    assert back.exit_code == 0
    assert digest(TEXT_AND_IMAGE) in back.output
    assert (tmp_path / "b.h5").read_bytes() == TEXT_AND_IMAGE.read_bytes()
    for to in ALONE:
        assert command(TEXT_AND_IMAGE, tmp_path / f"a.{to}", "--to", to).exit_code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["--dtype", "int8", "--to", "npy"], 2),
        (["--dtype", "int4"], 2),
        (["--dtype", "float16"], 2),
        (["--to", "csv"], 2),
        (["--compression", "brotli"], 2),
        (["--compression", "none"], 2),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(tmp_path: Path, words: list[str], code: int) -> None:
    refused = command(TEXT_AND_IMAGE, tmp_path / "out", *words)
    assert isinstance(refused.exception, CinefuseError)
    assert refused.exception.exit_code == code
    assert "\n" not in str(refused.exception)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_an_absent_file_is_bad_input(tmp_path: Path) -> None:
    refused = command(tmp_path / "absent.h5", tmp_path / "out", "--dtype", "int8").exception
    assert isinstance(refused, BadInput)
    with pytest.raises(UsageError, match="int8 already"):
        convert(INT8_ONLY(tmp_path), tmp_path / "out", "int8")


def INT8_ONLY(folder: Path) -> Path:  # noqa: N802
    convert(TEXT_AND_IMAGE, folder / "int8.h5", "int8")
    return folder / "int8.h5"
