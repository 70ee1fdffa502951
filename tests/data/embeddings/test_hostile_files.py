"""Files from strangers: whatever their bytes say, they are refused in one line or read as what they are.

Run as a script (`python tests/test_hostile_files.py SEED COUNT FOLDER`) this opens mutated files under limits of memory
and time; the tests run it in child processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.header import FIRST_LINE_LENGTH, Header
from cinefuse.data.embeddings.format.header_checks import parse_header
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import CinefuseError, DamagedFile

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = sorted(GOLDEN.glob("*.h5"))
BOTH = GOLDEN / "text_image_float16.h5"
USER_BLOCK = 8192


def header_of(content: bytes) -> dict[str, Any]:
    """The JSON of a file's header."""
    length = int(content[:FIRST_LINE_LENGTH].split()[3])
    header: dict[str, Any] = json.loads(content[FIRST_LINE_LENGTH : FIRST_LINE_LENGTH + length])
    return header


def with_json(content: bytes, text: bytes) -> bytes:
    """`content` with another JSON in its header, and a first line that vouches for it."""
    line = b"CINEFUSE 001 %08d %08d %s\n" % (USER_BLOCK, len(text), hashlib.sha256(text).hexdigest().encode())
    return (line + text).ljust(USER_BLOCK - 1) + b"\n" + content[USER_BLOCK:]


def with_header(content: bytes, header: dict[str, Any]) -> bytes:
    """`content` with another header, vouched for."""
    return with_json(content, json.dumps(header).encode())


def dataset(header: dict[str, Any], name: str) -> list[Any]:
    """The row of the header's table that tells of `name`."""
    found: list[Any] = next(row for row in header["datasets"] if row[0] == name)
    return found


# ---------------------------------------------------------------- headers that lie, one lie each

Edit = Callable[[dict[str, Any]], object]


def put(name: str, column: int, value: object) -> Edit:
    def edit(header: dict[str, Any]) -> None:
        dataset(header, name)[column] = value

    return edit


def move(name: str, by: int) -> Edit:
    def edit(header: dict[str, Any]) -> None:
        dataset(header, name)[3] += by

    return edit


def swap(one: str, other: str) -> Edit:
    def edit(header: dict[str, Any]) -> None:
        a, b = dataset(header, one), dataset(header, other)
        a[0], b[0] = b[0], a[0]

    return edit


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


LIES: dict[str, Edit] = {
    "no about": lambda h: h.pop("about"),
    "no datasets": lambda h: h.pop("datasets"),
    "one key more": lambda h: h.update(more=1),
    "about a list": lambda h: h.update(about=[]),
    "about too deep": lambda h: h.update(about={"a": deep(40)}),
    "about beyond a float": lambda h: h.update(about={"a": "@1e999@"}),
    "about NaN": lambda h: h.update(about={"a": float("nan")}),
    "about a lone surrogate": lambda h: h.update(about={"a": "\ud800"}),
    "no modality": lambda h: h.update(modalities={}),
    "a modality more": lambda h: h["modalities"].update(audio=h["modalities"]["text"]),
    "a modality less": lambda h: h["modalities"].pop("text"),
    "no fingerprint": lambda h: h["modalities"]["text"].pop("fingerprint"),
    "fingerprint a string": lambda h: h["modalities"]["text"].update(fingerprint="same"),
    "columns in another order": lambda h: h["dataset_columns"].reverse(),
    "datasets an object": lambda h: h.update(datasets={}),
    "a dataset less": lambda h: h["datasets"].pop(),
    "a dataset twice": lambda h: h["datasets"].insert(0, list(h["datasets"][0])),
    "a dataset more": lambda h: h["datasets"].append(["text/more", "uint8", [1], 19520, 1, None]),
    "datasets in another order": lambda h: h["datasets"].reverse(),
    "five columns": lambda h: h["datasets"][0].pop(),
    "names swapped": swap("text/status", "text/reason"),
    "modalities swapped": swap("text/cls", "image/cls"),
    "name a number": put("items/id", 0, 7),
    "name out of the tree": put("text/cls", 0, "../cls"),
    "dtype object": put("text/cls", 1, "object"),
    "dtype float64": put("text/cls", 1, "float64"),
    "dtype of the same size": put("text/cls", 1, "bfloat16"),
    "dtype null": put("text/cls", 1, None),
    "both dtypes of the same size": lambda h: (put("text/cls", 1, "bfloat16")(h), put("text/tokens", 1, "bfloat16")(h)),
    "ids as bytes of the same size": put("items/id", 1, "S8"),
    "ids longer than ids may be": put("items/id", 1, "S999"),
    "ids unsigned": put("items/id", 1, "uint64"),
    "shape empty": put("text/cls", 2, []),
    "shape of three sizes": put("text/cls", 2, [4, 4, 1]),
    "shape negative": put("text/cls", 2, [-4, -4]),
    "shape of floats": put("text/cls", 2, [4.0, 4]),
    "shape of booleans": put("text/status", 2, [True]),
    "shape of strings": put("text/status", 2, ["4"]),
    "shape enormous": put("text/cls", 2, [2**61, 4]),
    "shape beyond 64 bits": put("text/cls", 2, [2**70, 4]),
    "shape whose product wraps to the truth": put("text/cls", 2, [4, 2**62 + 4]),
    "no width": put("text/cls", 2, [4, 0]),
    "other sides": put("text/tokens", 2, [4, 6]),
    "one row more": put("text/status", 2, [5]),
    "one item more": put("items/id", 2, [5]),
    "offset negative": put("text/cls", 3, -64),
    "offset zero": put("text/cls", 3, 0),
    "offset behind the end": put("image/checksum", 3, 2**40),
    "offset 1e308": put("text/cls", 3, 1e308),
    "offset true": put("text/cls", 3, True),
    "overlapping": move("text/tokens", -64),
    "a gap": move("image/checksum", 64),
    "not aligned": move("text/cls", 8),
    "length short": put("text/cls", 4, 8),
    "length enormous": put("text/cls", 4, 2**62),
    "hash missing": put("items/id", 5, None),
    "hash not of this": put("text/cls", 5, "0" * 64),
    "hash in capitals": lambda h: put("items/id", 5, dataset(h, "items/id")[5].upper())(h),
    "file length short": lambda h: h.update(file_length=h["file_length"] - 1),
    "file length a float": lambda h: h.update(file_length=float(h["file_length"])),
    "metadata empty": lambda h: h["hdf5_metadata"].update(length=0),
    "metadata as long as the file": lambda h: h["hdf5_metadata"].update(length=2**62),
    "metadata true": lambda h: h["hdf5_metadata"].update(length=True),
    "metadata of another hash": lambda h: h["hdf5_metadata"].update(sha256="0" * 64),
    "metadata a list": lambda h: h.update(hdf5_metadata=[1, 2]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_in_one_line(lie: str, tmp_path: Path) -> None:
    content = BOTH.read_bytes()
    header = header_of(content)
    LIES[lie](header)
    text = json.dumps(header).replace('"@1e999@"', "1e999").encode()
    path = tmp_path / "lie.h5"
    path.write_bytes(with_json(content, text))
    with pytest.raises(DamagedFile) as refusal:
        EmbeddingFile.open(path)
    assert refusal.value.exit_code == 4
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600 + len(str(path))


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"null", b"1", b"[" * 8000, b'{"a":' * 1600, b"\xff\xfe", b'{"a": {}, "a": {}}', b"9" * 6000],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_json_that_is_no_header_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "json.h5"
    path.write_bytes(with_json(BOTH.read_bytes(), text))
    with pytest.raises(DamagedFile):
        EmbeddingFile.open(path)


@pytest.mark.parametrize("key", [b'{"about": {},', b'{"about": {"a": 1, "a": 1},'])
def test_a_key_that_stands_twice_is_refused(key: bytes, tmp_path: Path) -> None:
    content = BOTH.read_bytes()
    header = header_of(content)
    if b"1" in key:
        del header["about"]
    path = tmp_path / "twice.h5"
    path.write_bytes(with_json(content, key + json.dumps(header).encode()[1:]))
    with pytest.raises(DamagedFile, match="a key stands twice"):
        EmbeddingFile.open(path)


@pytest.mark.parametrize("version", [b"000", b"004", b"999"])
def test_another_version_is_refused_by_its_number(version: bytes, tmp_path: Path) -> None:
    path = tmp_path / "version.h5"
    path.write_bytes(BOTH.read_bytes().replace(b"CINEFUSE 001", b"CINEFUSE " + version, 1))
    with pytest.raises(DamagedFile, match=f"expected format version 1, 2 or 3, found {int(version)}"):
        EmbeddingFile.open(path)


def test_a_file_that_claims_a_version_it_has_no_use_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "version.h5"
    path.write_bytes(BOTH.read_bytes().replace(b"CINEFUSE 001", b"CINEFUSE 002", 1))
    with pytest.raises(DamagedFile, match="expected format version 1 for what it holds, found 2"):
        EmbeddingFile.open(path)


@pytest.mark.parametrize("size", [b"00004096", b"00008191", b"00008193", b"00012288", b"02097152", b"00000000"])
def test_a_user_block_of_another_size_is_refused(size: bytes, tmp_path: Path) -> None:
    path = tmp_path / "block.h5"
    path.write_bytes(BOTH.read_bytes().replace(b"00008192", size, 1))
    with pytest.raises(DamagedFile, match="power of two between 8192 and 1048576"):
        EmbeddingFile.open(path)


@pytest.mark.parametrize("padding", [b" " * 6000, b"\n" * 6000, b"{}"])
def test_padding_other_than_spaces_and_a_newline_is_refused(padding: bytes, tmp_path: Path) -> None:
    content = BOTH.read_bytes()
    path = tmp_path / "padding.h5"
    path.write_bytes(content[: USER_BLOCK - len(padding)] + padding + content[USER_BLOCK:])
    with pytest.raises(DamagedFile, match="spaces up to a newline"):
        EmbeddingFile.open(path)


def test_a_harmless_edit_of_about_still_opens(tmp_path: Path) -> None:
    content = BOTH.read_bytes()
    header = header_of(content)
    header["about"] = {"licence": "\u202e\x1b[31m", "nested": deep(20)}
    path = tmp_path / "edited.h5"
    path.write_bytes(with_header(content, header))
    assert verify(path).complete


# ---------------------------------------------------------------- HDF5 metadata that tells another story


def honest(file: h5py.File, header: Header) -> None:
    """What a plain HDF5 writer would make of the same datasets."""
    for name, at in header.datasets.items():
        file.create_dataset(name, at.shape, at.dtype)


def replaced(name: str, make: Callable[[h5py.File, Any], object]) -> Callable[[h5py.File, Header], None]:
    def craft(file: h5py.File, header: Header) -> None:
        honest(file, header)
        del file[name]
        make(file, header.datasets[name])

    return craft


def hard_link_loop(file: h5py.File, header: Header) -> None:
    honest(file, header)
    file["text/loop"] = file["text"]


def virtual(file: h5py.File, at: Any) -> None:
    layout = h5py.VirtualLayout(at.shape, at.dtype)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", at.shape)
    file.create_virtual_dataset(at.name, layout)


STORIES: dict[str, Callable[[h5py.File, Header], None]] = {
    "written by a plain HDF5": honest,
    "nothing at all": lambda file, header: None,
    "external link": replaced("text/cls", lambda f, at: f.__setitem__(at.name, h5py.ExternalLink("/etc/passwd", "/"))),
    "soft link loop": replaced("text/cls", lambda f, at: f.__setitem__(at.name, h5py.SoftLink("/text/cls"))),
    "soft link to another": replaced("text/cls", lambda f, at: f.__setitem__(at.name, h5py.SoftLink("/image/cls"))),
    "hard link loop": hard_link_loop,
    "virtual dataset": replaced("text/cls", virtual),
    "external dataset": replaced(
        "text/cls",
        lambda f, at: f.create_dataset(at.name, at.shape, at.dtype, external=[("/etc/passwd", 0, at.length)]),
    ),
    "chunked": replaced("text/cls", lambda f, at: f.create_dataset(at.name, at.shape, at.dtype, chunks=(1, 4))),
    "compressed": replaced("text/cls", lambda f, at: f.create_dataset(at.name, at.shape, at.dtype, compression="gzip")),
    "variable length": replaced("items/id", lambda f, at: f.create_dataset(at.name, at.shape, h5py.string_dtype())),
    "references": replaced("items/id", lambda f, at: f.create_dataset(at.name, at.shape, h5py.ref_dtype)),
    "compact": replaced("text/cls", lambda f, at: f.create_dataset(at.name, data=np.zeros(at.shape, at.dtype))),
    "another shape": replaced("text/cls", lambda f, at: f.create_dataset(at.name, (2**40, 2**20), at.dtype)),
    "another dtype": replaced("text/cls", lambda f, at: f.create_dataset(at.name, at.shape, ">f2")),
    "a group for a dataset": replaced("text/cls", lambda f, at: f.create_group(at.name)),
}


def with_metadata(content: bytes, metadata: bytes) -> bytes:
    """`content` with other HDF5 metadata, everything behind it moved, and a header that vouches for all of it."""
    header = parse_header(content[:USER_BLOCK], len(content), "golden")
    arrays = content[USER_BLOCK + header.metadata_length :]
    metadata += bytes(-len(metadata) % 64)
    shift = len(metadata) - header.metadata_length
    moved = replace(
        header,
        datasets={n: replace(d, offset=d.offset + shift if d.length else 0) for n, d in header.datasets.items()},
        metadata_length=len(metadata),
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        file_length=header.file_length + shift,
    )
    return moved.encode() + metadata + arrays


@pytest.mark.parametrize("story", STORIES)
def test_hdf5_metadata_that_tells_another_story_is_refused(story: str, tmp_path: Path) -> None:
    content = BOTH.read_bytes()
    header = parse_header(content[:USER_BLOCK], len(content), "golden")
    crafted = tmp_path / "crafted.h5"
    with h5py.File(crafted, "w", userblock_size=USER_BLOCK, libver=("earliest", "latest")) as file:
        STORIES[story](file, header)
    path = tmp_path / "story.h5"
    path.write_bytes(with_metadata(content, crafted.read_bytes()[USER_BLOCK:]))
    with pytest.raises(DamagedFile, match="its HDF5 metadata is not the"):
        EmbeddingFile.open(path)


def test_metadata_that_agrees_is_accepted_by_the_same_route(tmp_path: Path) -> None:
    content = BOTH.read_bytes()
    header = parse_header(content[:USER_BLOCK], len(content), "golden")
    path = tmp_path / "same.h5"
    path.write_bytes(with_metadata(content, content[USER_BLOCK : USER_BLOCK + header.metadata_length]))
    assert verify(path).complete


def test_hdf5_never_parses_a_file_that_is_opened_or_verified() -> None:
    """HDF5 2.0 still has crashes to find; here it is not even loaded."""
    code = (
        "import sys; from cinefuse.data.embeddings.verification import verify; from pathlib import Path; "
        f"assert verify(Path({str(BOTH)!r})).complete; sys.exit('h5py' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- contents that lie under right hashes


def with_array(content: bytes, name: str, array: bytes) -> bytes:
    """`content` with other bytes in a dataset whose hash the header holds, and a header that vouches for them."""
    header = header_of(content)
    row = dataset(header, name)
    row[5] = hashlib.sha256(array).hexdigest()
    changed = content[: row[3]] + array + content[row[3] + row[4] :]
    return with_header(changed, header)


@pytest.mark.parametrize(
    "offsets",
    [[1, 3, 5, 5, 6], [0, 3, 5, 5, 7], [0, 5, 3, 5, 6], [0, -1, 5, 5, 6], [0, 2**62, 5, 5, 6], [-(2**63), 3, 5, 5, 6]],
    ids=str,
)
def test_offsets_that_do_not_rise_from_0_to_the_number_of_tokens_are_refused(
    offsets: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "offsets.h5"
    path.write_bytes(with_array(BOTH.read_bytes(), "text/offsets", np.array(offsets, "<i8").tobytes()))
    with pytest.raises(DamagedFile, match="text/offsets to rise"):
        EmbeddingFile.open(path)


def test_offsets_whose_differences_overflow_are_refused(tmp_path: Path) -> None:
    offsets = [0, 2**63 - 1, -2, 6, 6]  # each step is positive in 64 bits
    path = tmp_path / "offsets.h5"
    path.write_bytes(with_array(BOTH.read_bytes(), "text/offsets", np.array(offsets, "<i8").tobytes()))
    with pytest.raises(DamagedFile, match="text/offsets to rise"):
        EmbeddingFile.open(path)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ([b"a", b"\xff\xfe", b"c", b"d"], "not UTF-8"),
        ([b"a", b"", b"c", b"d"], "not UTF-8 of at least one byte"),
        ([b"a", b"b\0b", b"c", b"d"], "not UTF-8 of at least one byte"),
        ([b"a", b"b", b"a", b"d"], "stands twice"),
    ],
)
def test_ids_that_no_source_could_have_are_named_by_verify(raw: list[bytes], told: str, tmp_path: Path) -> None:
    content = (GOLDEN / "image_bfloat16.h5").read_bytes()
    width = int(dataset(header_of(content), "items/id")[1][1:])
    path = tmp_path / "ids.h5"
    path.write_bytes(with_array(content, "items/id", b"".join(value.ljust(width, b"\0") for value in raw)))
    problems = [problem for problem in verify(path).problems if problem.where == "items/id"]
    assert len(problems) == 1
    assert told in problems[0].what
    with EmbeddingFile.open(path) as file:
        assert file.find(["d"]).tolist() == [3]
        if b"\xff\xfe" in raw:
            with pytest.raises(DamagedFile, match="expected items/id as UTF-8"):
                _ = file.ids


@pytest.mark.parametrize("number", [-2, 4, 2**31 - 1])
def test_batch_numbers_out_of_range_are_named_by_verify(number: int, tmp_path: Path) -> None:
    path = tmp_path / "batch.h5"
    path.write_bytes(with_array(BOTH.read_bytes(), "image/batch", np.array([0, number, -1, 0], "<i4").tobytes()))
    assert [problem.where for problem in verify(path).problems] == ["image/batch"]


def test_a_pipe_a_device_and_a_folder_are_refused_and_block_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.h5"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), Path("/dev/null"), tmp_path):
        with pytest.raises(DamagedFile):
            EmbeddingFile.open(path)


# ---------------------------------------------------------------- mutations by the thousand, in child processes

HOSTILE = [
    None, True, False, 0, 1, -1, 63, 64, 2**31, 2**32, 2**53 + 1, 2**62, 2**63, 2**64, 10**400,
    0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "float64", "bfloat16", "S1", "S256", "S0", "S99999", "text/cls", "\0", "\ud800", "é" * 300, "0" * 64,
    [], {}, [1], [0, 0], [2**61, 4], [[]], {"fingerprint": {}}, {"length": 1}, deep(31), deep(500),
]  # fmt: skip


def clone(value: Any) -> Any:
    return json.loads(json.dumps(value))  # copy.deepcopy recurses in Python, too deep for `deep`


def slots(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    found: list[tuple[Any, Any]] = []
    for key, inner in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += slots(inner)
    return found


def mutated_header(chance: random.Random, content: bytes) -> bytes:
    header = header_of(content)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        places = slots(header)
        if not places:
            break
        container, key = chance.choice(places)
        kind = chance.randrange(7)
        if kind == 0:
            del container[key]
        elif kind == 1 and type(container[key]) is int:
            container[key] += chance.choice((-64, -8, -1, 1, 8, 64, 2**33))
        elif kind == 2:
            other, where = chance.choice(places)
            container[key], other[where] = clone(other[where]), clone(container[key])
        elif kind == 3 and isinstance(container, list):
            container.insert(key, clone(chance.choice(container)))
        elif kind == 4 and isinstance(container, dict):
            container[chance.choice(("more", "", "text", "__proto__"))] = container[key]
        else:
            container[key] = clone(chance.choice(HOSTILE))
    text = json.dumps(header).encode()
    if chance.random() < 0.1:  # a key twice, a broken brace, a stray byte
        at = chance.randrange(len(text))
        text = (
            text[:at] + chance.choice((b'"about": {}, ', b"{", b"]", b"\xff", b"1e999", b"NaN", b"\\ud800")) + text[at:]
        )
    return with_json(content, text) if len(text) < USER_BLOCK - FIRST_LINE_LENGTH else content[:-1]


def mutated_metadata(chance: random.Random, content: bytes) -> bytes:
    header = header_of(content)
    length = header["hdf5_metadata"]["length"]
    metadata = bytearray(content[USER_BLOCK : USER_BLOCK + length])
    for _ in range(chance.choice((1, 2, 8))):
        metadata[chance.randrange(length)] ^= chance.randrange(1, 256)
    if metadata == content[USER_BLOCK : USER_BLOCK + length]:
        metadata[0] ^= 1
    header["hdf5_metadata"]["sha256"] = hashlib.sha256(metadata).hexdigest()
    return with_header(content[:USER_BLOCK] + bytes(metadata) + content[USER_BLOCK + length :], header)


def mutated_array(chance: random.Random, content: bytes) -> bytes:
    row = chance.choice([row for row in header_of(content)["datasets"] if row[4] and row[5]])
    array = bytearray(content[row[3] : row[3] + row[4]])
    for _ in range(chance.choice((1, 3))):
        at = chance.randrange(len(array))
        if chance.random() < 0.5 and len(array) >= 8:
            at -= at % 8
            array[at : at + 8] = struct.pack("<q", chance.choice((-1, 0, 1, 2**31, 2**62, -(2**63), 2**63 - 1)))[
                : len(array) - at
            ]
        else:
            array[at] ^= chance.randrange(1, 256)
    return with_array(content, row[0], bytes(array))


def mutated_bytes(chance: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 4, 32))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def mutated_blocks(chance: random.Random, content: bytes) -> bytes:
    start, stop = sorted((chance.randrange(len(content)), chance.randrange(len(content))))
    kind = chance.randrange(5)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[stop:]
    if kind == 2:
        return content[:start] + bytes(stop - start) + content[stop:]
    if kind == 3:
        return content + content[start:stop] + b"x"
    other = chance.choice(FILES).read_bytes()
    return content[:start] + other[start:]


MUTATIONS = {
    "bytes": mutated_bytes,
    "blocks": mutated_blocks,
    "header": mutated_header,
    "metadata": mutated_metadata,
    "array": mutated_array,
}
HONEST_HASHES = ("header", "array")  # these may come out as another, equally valid file


def use_everything(path: Path) -> bool:
    """Open, read and verify a file in every way there is; whether it passed as complete."""
    with EmbeddingFile.open(path, pending=True) as file:
        for name in file.modalities:
            modality = file[name]
            for view in (modality.cls, modality.tokens, modality.digest, modality.batch):
                np.asarray(view).tobytes()
            for row in range(len(file)):
                modality.tokens_of(row).tobytes()
            modality.gather(np.arange(len(file)))
        file.find([1, "a", -5])
        str(file.content_digest), repr(file), file.pending
        complete = verify(path).complete
        str(file.ids)
    return complete


def arrays_of(content: bytes) -> list[bytes]:
    """The bytes of all datasets, one by one."""
    return [content[row[3] : row[3] + row[4]] for row in header_of(content)["datasets"]]


def torture(seed: int, count: int, folder: Path) -> int:
    """Open `count` mutated files. Returns the number that went wrong, telling which on standard error."""
    use_everything(BOTH)
    use_everything(GOLDEN / "image_bfloat16.h5")
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    # the files have 20 kB; verify's buffer takes 8 MiB
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 24 * 2**20,) * 2)
    path, wrong, passed = folder / f"hostile-{seed}.h5", 0, 0
    for turn in range(count):
        chance = random.Random(f"{seed} {turn}")
        kind = chance.choice(list(MUTATIONS))
        original = chance.choice(FILES).read_bytes()
        content = MUTATIONS[kind](chance, original)
        path.write_bytes(content)
        (folder / f"turn-{seed}").write_text(f"{turn} {kind}")
        signal.alarm(10)
        try:
            complete = use_everything(path)
        except CinefuseError as refusal:
            complete = False
            if "\n" in str(refusal):
                wrong += 1
                sys.stderr.write(f"seed {seed} turn {turn} {kind}: not one line: {refusal}\n")
        except BaseException as error:
            complete = False
            wrong += 1
            sys.stderr.write(f"seed {seed} turn {turn} {kind}: {type(error).__name__}: {error}\n")
        signal.alarm(0)
        if complete and content != original:
            passed += 1
            if kind not in HONEST_HASHES or (kind == "header" and arrays_of(content) != arrays_of(original)):
                wrong += 1
                sys.stderr.write(f"seed {seed} turn {turn} {kind}: read as if nothing had happened\n")
    sys.stdout.write(f"{passed} of {count} passed as other valid files\n")
    return wrong


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(1, 20))])
def test_a_thousand_mutated_files_neither_crash_nor_hang_nor_pass(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", __file__, str(seed), "1000", str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    last = (tmp_path / f"turn-{seed}").read_text()
    assert child.returncode == 0, f"exit {child.returncode} at turn {last}:\n{child.stderr[-3000:]}"


if __name__ == "__main__":
    sys.exit(min(torture(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])), 100))
