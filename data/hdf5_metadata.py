"""The HDF5 metadata that makes a flat file of arrays an ordinary HDF5 file.

HDF5 writes it into memory, never onto a disk: a full disk cannot crash the library, the bytes are the same on every
run, and all of them lie in front of the first array, so that one hash covers them. The arrays themselves are then
written and read without HDF5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import DamagedFile
from .header import ALIGNMENT, Dataset, Header, item_size
from .status import Status

_DESCRIPTIONS = {
    "id": "the item's id in its source",
    "cls": "embedding of the CLS position; NaN where status is neither OK nor TRUNCATED",
    "tokens": "embeddings of all other positions, items one after another without padding",
    "offsets": "item i has tokens[offsets[i]:offsets[i + 1]]",
    "status": ", ".join(f"{status.value} {status.name}" for status in Status),
    "reason": "why an item has its status: numbers in docs/format.md, 0 none",
    "digest": "SHA-256 of the input: UTF-8 text, or the poster file's bytes; zeros where there is none",
    "batch": "rows that share a number were encoded together; -1: never encoded or copied from another file",
    "checksum": "XXH3-64 of the row's cls bytes, tokens bytes, status and reason",
    "input_ids": "the token id of each row of tokens",
}


@dataclass(frozen=True)
class Array:
    """A dataset that has a name, a dtype and a shape but no place yet."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class _Memory:
    """A sparse file for HDF5 to write to: metadata is kept; of the arrays only single elements ever arrive."""

    def __init__(self) -> None:
        self.position = 0
        self.pieces: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = 0) -> int:
        end = max((start + len(piece) for start, piece in self.pieces), default=0)
        self.position = offset + (0, self.position, end)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.pieces.append((self.position, piece))
        self.position += len(piece)
        return len(piece)

    def read(self, size: int = -1) -> bytes:
        raise OSError("nothing written here is read back")

    def readinto(self, buffer: Any) -> int:
        raise OSError("nothing written here is read back")

    def truncate(self, size: int | None = None) -> int:
        return size or 0

    def flush(self) -> None:
        pass

    def region(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`; what was never written is zero."""
        region = bytearray(stop - start)
        for offset, piece in self.pieces:
            if start <= offset < stop:
                region[offset - start : offset - start + len(piece)] = piece
        return bytes(region)


def build(arrays: Iterable[Array], attributes: Mapping[str, str], user_block: int) -> tuple[bytes, dict[str, int]]:
    """The HDF5 metadata for `arrays`, and each array's byte offset from the start of the file (0 for an empty one).

    The metadata bytes start at `user_block` and end where the first array starts.
    """
    memory = _Memory()
    file = h5py.File(
        memory, "w", libver=("earliest", "v108"), userblock_size=user_block,
        alignment_threshold=1, alignment_interval=ALIGNMENT,
    )  # fmt: skip
    with file:
        for key, value in attributes.items():
            _describe(file, key, value)
        datasets = {}
        for array in arrays:
            dataset = _create(file, array)
            _describe(dataset, "description", _DESCRIPTIONS[array.name.split("/")[1]])
            datasets[array.name] = dataset
        # space is given out in the order of the first writes, after all metadata: one write of one element each
        offsets = {name: _allocate(dataset) for name, dataset in datasets.items()}
    first = min((offset for offset in offsets.values() if offset), default=0)
    return memory.region(user_block, first), offsets


def _create(file: h5py.File, array: Array) -> h5py.Dataset:
    group, name = array.name.split("/")
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    space = h5py.h5s.create_simple(array.shape)
    parent = file.require_group(group)
    return h5py.Dataset(h5py.h5d.create(parent.id, name.encode(), _hdf5_type(array.dtype), space, properties))


def _hdf5_type(dtype: str) -> h5py.h5t.TypeID:
    if dtype == "bfloat16":
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)  # sign bit, exponent position and size, mantissa position and size
        kind.set_size(2)
        kind.set_ebias(127)
        return kind
    if dtype.startswith("S"):
        return h5py.h5t.py_create(h5py.string_dtype("utf-8", int(dtype[1:])), logical=True)
    return h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"))


def _describe(thing: h5py.HLObject, key: str, text: str) -> None:
    # fixed-length: HDF5's variable-length strings live in a global heap, which not every reader follows
    encoded = text.encode()
    thing.attrs.create(key, np.bytes_(encoded), dtype=h5py.string_dtype("utf-8", len(encoded)))


def _allocate(dataset: h5py.Dataset) -> int:
    if dataset.size == 0:
        return 0
    first = dataset.id.get_space()
    first.select_elements(np.zeros((1, dataset.ndim), np.uint64))
    kind = dataset.id.get_type()
    dataset.id.write(h5py.h5s.create_simple((1,)), first, np.zeros(kind.get_size(), np.uint8), kind)
    return int(dataset.id.get_offset())


def check_agreement(path: Path, found: bytes, header: Header, attributes: Mapping[str, str]) -> None:
    """Refuse HDF5 metadata `found` in `path` that tells another story than `header`.

    Metadata equal to what HDF5 writes here for these datasets agrees by construction, and HDF5 never gets to parse it.
    Other bytes may come from another HDF5 release: then every link, type, layout and place is compared one by one.
    Raises DamagedFile.
    """
    arrays = [Array(dataset.name, dataset.dtype, dataset.shape) for dataset in header.datasets.values()]
    expected, _ = build(arrays, attributes, header.user_block)
    if found != expected:
        _walk(path, header.datasets)


def _walk(path: Path, datasets: Mapping[str, Dataset]) -> None:
    def refuse(what: str) -> DamagedFile:
        return DamagedFile(f"{path}: its HDF5 metadata and its header disagree: {what}; do not use this file")

    try:
        with h5py.File(path, "r", locking=False) as file:
            groups = sorted({name.split("/")[0] for name in datasets})
            if sorted(file) != groups:
                raise refuse(f"expected the groups {', '.join(groups)}, found {', '.join(sorted(file)[:9])}")
            for group in groups:
                if not isinstance(file.get(group, getlink=True), h5py.HardLink):
                    raise refuse(f"/{group} is not a hard link")
                if file.get(group, getclass=True) is not h5py.Group:
                    raise refuse(f"/{group} is not a group")
                names = sorted(name.split("/")[1] for name in datasets if name.startswith(f"{group}/"))
                if sorted(file[group]) != names:
                    raise refuse(f"expected {', '.join(names)} in /{group}, found {', '.join(sorted(file[group])[:9])}")
            for dataset in datasets.values():
                _compare(file, dataset, refuse)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise refuse(f"HDF5 cannot read it ({error})") from None


def _compare(file: h5py.File, expected: Dataset, refuse: Any) -> None:
    name = expected.name
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise refuse(f"/{name} is not a hard link")
    if file.get(name, getclass=True) is not h5py.Dataset:
        raise refuse(f"/{name} is not a dataset")
    found = file[name].id
    properties = found.get_create_plist()
    if properties.get_layout() != h5py.h5d.CONTIGUOUS or properties.get_external_count():
        raise refuse(f"/{name} is not stored contiguously inside the file")
    if found.shape != expected.shape or not found.get_type().equal(_hdf5_type(expected.dtype)):
        raise refuse(f"/{name} is not {expected.dtype} {list(expected.shape)}")
    if expected.length and (found.get_offset() != expected.offset or found.get_storage_size() != expected.length):
        raise refuse(f"/{name} does not lie at byte {expected.offset}")
    if item_size(expected.dtype) != found.get_type().get_size():
        raise refuse(f"/{name} has elements of another size")
