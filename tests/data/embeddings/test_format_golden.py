"""Golden files of format version 1: what was once shared can be read for ever, and is still written the same."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.header import FIRST_LINE_LENGTH
from cinefuse.data.embeddings.number_formats import as_float32
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import DamagedFile
from cinefuse.tests.golden.make import make
from cinefuse.tests.support.embedding_files import GOLDEN

ROOT = Path(__file__).parents[3]
FILES = sorted(GOLDEN.glob("*.h5"))
FINISHED = [path for path in FILES if path.name != "unfinished.h5"]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "format.md").read_text(), re.DOTALL)


def named(path: Path) -> str:
    return path.stem


def quarters(file: EmbeddingFile, name: str, row: int) -> np.ndarray:
    """(1 + T_i, D) float32: what the golden files hold in a row that has an embedding, CLS first."""
    length = 1 + int(np.diff(file[name].offsets)[row])
    width = file[name].width
    return (np.arange(length * width, dtype=np.float32).reshape(length, width) + 10 * row) % 256 / 4 - 16


def test_five_golden_files_are_there() -> None:
    assert len(FILES) == 5


def test_making_the_golden_files_again_gives_the_same_bytes_whatever_hdf5_is_installed(tmp_path: Path) -> None:
    make(tmp_path)
    for path in FILES:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("path", FINISHED, ids=named)
def test_golden_files_hold_what_was_put_in(path: Path) -> None:
    assert verify(path).complete
    with EmbeddingFile.open(path) as file:
        for name in file.modalities:
            modality = file[name]
            for row, (status, reason) in enumerate(zip(modality.status, modality.reason, strict=True)):
                found = np.concatenate((modality.raw_cls[row : row + 1], modality.raw_tokens_of(row)))
                if status in (Status.OK, Status.TRUNCATED):
                    assert np.array_equal(as_float32(found, modality.dtype), quarters(file, name, row))
                else:
                    assert reason != Reason.NONE
                    assert np.isnan(as_float32(found, modality.dtype)).all()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_plain_h5py_sees_the_same_arrays(path: Path) -> None:
    with EmbeddingFile.open(path, pending=True) as file, h5py.File(path) as plain:
        names = []
        plain.visititems(lambda name, thing: names.append(name) if isinstance(thing, h5py.Dataset) else None)
        assert sorted(names) == sorted(file.header.datasets)
        for name, dataset in file.header.datasets.items():
            ours, theirs = file.raw_array(name), plain[name][()]
            if dataset.dtype == "bfloat16":
                assert theirs.dtype == np.float32
                ours = as_float32(ours, "bfloat16")
            assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
            assert np.array_equal(theirs, ours, equal_nan=ours.dtype.kind == "f"), name
            if dataset.length:
                assert plain[name].id.get_offset() == dataset.offset
            assert plain[name].attrs["description"]
        assert plain.attrs["encoding-type"] == b"cinefuse-embeddings"


@pytest.mark.parametrize("path", FILES, ids=named)
@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed (Debian: hdf5-tools)")
def test_h5dump_reads_the_same_bytes(path: Path, tmp_path: Path) -> None:
    subprocess.run(["h5dump", "-H", "-p", path], capture_output=True, check=True)
    with EmbeddingFile.open(path, pending=True) as file:
        for name, dataset in file.header.datasets.items():
            if dataset.length:
                dumped = tmp_path / "dumped"
                command = ["h5dump", "-d", name, "-b", "FILE", "-o", dumped, path]
                subprocess.run(command, capture_output=True, check=True)
                assert dumped.read_bytes() == file.raw_array(name).tobytes(), name


def test_an_unfinished_file_is_refused_until_asked_for() -> None:
    path = GOLDEN / "unfinished.h5"
    with pytest.raises(DamagedFile, match="2 image rows still pending"):
        EmbeddingFile.open(path)
    with EmbeddingFile.open(path, pending=True) as file:
        assert file.pending == {"image": 2}
        # row 1 was killed in front of its checksum: its status says OK, yet nobody may use it
        assert file.image.status.tolist() == [Status.OK, Status.OK, Status.PENDING]
        assert file.image.has_embedding.tolist() == [True, False, False]
    report = verify(path)
    assert report.sound
    assert not report.complete


@pytest.mark.parametrize("path", FINISHED, ids=named)
@pytest.mark.parametrize("snippet", SNIPPETS, ids=["h5py", "numpy"])
def test_the_snippets_of_the_specification_read_every_file_that_has_images(path: Path, snippet: str) -> None:
    with EmbeddingFile.open(path) as file:
        if "h5py" in snippet and "image" not in file.modalities:
            snippet = snippet.replace("image/", "text/")
        scope: dict = {"path": path}
        exec(snippet, scope)
        name = file.modalities[-1]
        if "arrays" in scope:
            for dataset, array in scope["arrays"].items():
                expected = file.raw_array(dataset)
                if file.header.datasets[dataset].dtype == "bfloat16":
                    expected = as_float32(expected, "bfloat16")
                assert np.array_equal(array, expected, equal_nan=array.dtype.kind == "f"), dataset
        else:
            modality = file[name]
            expected = as_float32(modality.raw_cls, modality.dtype)[modality.has_embedding]
            assert np.array_equal(scope["cls"], expected)
            assert scope["first"].shape == modality.tokens_of(0).shape


def test_the_specification_shows_how_to_read_in_python_twice() -> None:
    assert len(SNIPPETS) == 2


def test_the_specification_names_every_status_and_reason_with_its_number() -> None:
    text = (ROOT / "docs" / "format.md").read_text()
    for reason in Reason:
        assert f"{reason.value} {reason.name}" in text
    for status in Status:
        assert status.name in text


@pytest.mark.parametrize("path", FILES, ids=named)
def test_the_content_digest_is_what_the_specification_says(path: Path) -> None:
    with EmbeddingFile.open(path, pending=True) as file:
        fingerprints = {name: record["fingerprint"] for name, record in file.header.modalities.items()}
        hashed = json.dumps([1, fingerprints], sort_keys=True).encode()
        for name, dataset in file.header.datasets.items():
            if name.endswith(("/status", "/reason", "/checksum")):
                hashed += file.raw_array(name).tobytes()
            elif name.endswith(("/cls", "/tokens")):
                hashed += f"{name} {dataset.dtype} {list(dataset.shape)}\n".encode()
            elif not name.endswith("/batch"):
                hashed += f"{name} {dataset.dtype} {dataset.sha256}\n".encode()
        assert file.content_digest == hashlib.sha256(hashed).hexdigest()


def test_the_first_lines_of_a_file_are_legible() -> None:
    head = (GOLDEN / "text_image_float16.h5").read_bytes()[:4096].decode()
    first, rest = head.split("\n", 1)
    assert len(first) + 1 == FIRST_LINE_LENGTH
    assert f"MUST be {FIRST_LINE_LENGTH} bytes" in (ROOT / "docs" / "format.md").read_text()
    assert first.startswith("CINEFUSE 001 00008192 ")
    assert json.loads(rest[: int(first.split()[3])])["about"]["licence"] == "CC0-1.0"
