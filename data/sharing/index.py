"""The small part of an embedding file, a few bytes of each row: all that is needed to plan another file of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ..embeddings.format.hdf5_metadata import check_agreement
from ..embeddings.format.header import FIRST_LINE_LENGTH, MODALITIES, Header
from ..embeddings.format.header_checks import parse_header, user_block_size
from ..embeddings.format.layout import attributes
from ..embeddings.ids import IdArray, as_stored
from ..embeddings.number_formats import numpy_dtype
from ..embeddings.status import Status
from ..runtime.errors import BadInput, DamagedFile

PER_ROW: Final = ("offsets", "status", "reason", "digest", "batch", "checksum")
_FIRST_READ: Final = 32 * 1024  # user block and HDF5 metadata of nearly every file


class ByteSource(Protocol):
    """Where the bytes of an embedding file come from: a local file, a range of an object in a store."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`. Raises OSError or EOFError where they cannot be had."""


class LocalBytes:
    """The bytes of a local file."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            raise BadInput(f"{path}: no such embedding file; `cinefuse extract` makes one") from None
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`."""
        found = b""
        while len(found) < length:
            block = os.pread(self._file.fileno(), length - len(found), offset + len(found))
            if not block:
                raise EOFError(f"expected {length} bytes at {offset}, found {len(found)}")
            found = found + block if found else block
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> LocalBytes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, eq=False)
class ModalityIndex:
    """Everything small about one modality: all its arrays but embeddings and token ids."""

    name: str
    record: Mapping[str, Any]
    dtype: str
    width: int
    token_width: int
    offsets: npt.NDArray[np.int64]  # (N + 1,)
    status: npt.NDArray[np.uint8]  # (N,)
    reason: npt.NDArray[np.uint8]  # (N,)
    digest: npt.NDArray[np.uint8]  # (N, 32)
    batch: npt.NDArray[np.int32]  # (N,)
    checksum: npt.NDArray[np.uint64]  # (N,)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) rows of tokens of each item."""
        return np.diff(self.offsets)

    @property
    def pending(self) -> npt.NDArray[np.bool_]:
        """(N,) True where the row is not written yet, or only half."""
        waiting: npt.NDArray[np.bool_] = (self.status == Status.PENDING) | (self.checksum == 0)
        return waiting

    @property
    def level(self) -> str:
        """ "cls" where no item has tokens by design, else "tokens"."""
        return "cls" if self.record.get("level") == "cls" else "tokens"


@dataclass(frozen=True, eq=False)
class Index:
    """The small part of an embedding file called `name`: enough to plan with, a few bytes of each row."""

    name: str
    header: Header
    stored: npt.NDArray[Any]  # (N,) ids as stored: int64, or bytes of UTF-8
    modalities: Mapping[str, ModalityIndex]

    def __len__(self) -> int:
        return len(self.stored)

    @classmethod
    def read(cls, source: ByteSource, name: str, modalities: Sequence[str] | None = None) -> Index:
        """Read and check what is small of a file called `name`, of these `modalities` alone (None: all it has).

        Two reads and one for each modality: what is wanted lies together. Header, HDF5 metadata, and the SHA-256 of
        ids, offsets and input digests are checked. Raises DamagedFile where they are wrong, BadInput where the file
        lacks a modality; what `source.read` raises passes through.
        """
        header = _read_header(source, name)
        wanted = checked_modalities(header, modalities, name)
        ids = header.datasets["items/id"]
        stored = np.frombuffer(source.read(ids.offset, ids.length), numpy_dtype(ids.dtype))
        _check_sha256(stored, ids.sha256, "items/id", name)
        return cls(name, header, stored, {part: _read_modality(source, header, part, name) for part in wanted})

    @property
    def ids(self) -> IdArray:
        """(N,) int64, or str. Raises DamagedFile where they are not UTF-8."""
        if self.stored.dtype.kind == "i":
            return self.stored
        try:
            return np.char.decode(self.stored, "utf-8")
        except UnicodeDecodeError as error:
            raise DamagedFile(f"{self.name}: expected items/id as UTF-8, found {error.object[:60]!r}") from None

    def rows(self, ids: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The row of each id, (K,). Raises BadInput naming ids that are absent, or wanted more than once."""
        wanted, possible = as_stored(ids, self.stored.dtype)
        order = np.argsort(self.stored, kind="stable")
        place = np.searchsorted(self.stored, wanted, sorter=order)
        rows = order[np.minimum(place, len(self) - 1)]
        found = (self.stored[rows] == wanted) & possible
        given = np.asarray(ids, dtype=object)
        if not found.all():
            absent = given[~found].tolist()
            raise BadInput(f"{self.name}: {len(absent):,} of {len(rows):,} ids are not in the file: {some_of(absent)}")
        values, counts = np.unique(rows, return_counts=True)
        if len(values) != len(rows):
            twice = self.ids[values[counts > 1]].tolist()
            raise BadInput(f"expected each wanted id once, found {len(twice):,} more than once: {some_of(twice)}")
        return rows.astype(np.int64)


def some_of(values: Sequence[Any]) -> str:
    """The first five of many, for a refusal."""
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")


def _read_header(source: ByteSource, name: str) -> Header:
    head = source.read(0, min(source.size, _FIRST_READ))
    size = user_block_size(head[:FIRST_LINE_LENGTH], name)
    if size > source.size:
        raise DamagedFile(f"{name}: expected a user block of {size:,} bytes, found a file of {source.size:,}")
    if size > len(head):
        head += source.read(len(head), size - len(head))
    header = parse_header(head[:size], source.size, name)
    end = size + header.metadata_length
    if end > len(head):
        head += source.read(len(head), end - len(head))
    metadata = head[size:end]
    if hashlib.sha256(metadata).hexdigest() != header.metadata_sha256:
        raise DamagedFile(f"{name}: its HDF5 metadata is damaged (SHA-256 differs from the header's); fetch it again")
    check_agreement(Path(name), metadata, header, attributes(header.version))
    return header


def checked_modalities(header: Header, wanted: Sequence[str] | None, name: str) -> list[str]:
    """Those of `wanted` (None: all), in the format's order. Raises BadInput for one that the file `name` lacks."""
    have = [modality for modality in MODALITIES if modality in header.modalities]
    if wanted is None:
        return have
    for modality in wanted:
        if modality not in have:
            raise BadInput(f"{name}: expected {modality} embeddings, found only {', '.join(have)}")
    return [modality for modality in have if modality in wanted]


def _read_modality(source: ByteSource, header: Header, modality: str, name: str) -> ModalityIndex:
    datasets = header.datasets
    first, last = datasets[f"{modality}/offsets"], datasets[f"{modality}/checksum"]
    content = source.read(first.offset, last.offset + last.length - first.offset)
    arrays: dict[str, Any] = {}
    for part in PER_ROW:
        dataset = datasets[f"{modality}/{part}"]
        place, dtype = dataset.offset - first.offset, numpy_dtype(dataset.dtype)
        found = np.frombuffer(content, dtype, dataset.length // dtype.itemsize, place)
        if dataset.sha256 is not None:
            _check_sha256(found, dataset.sha256, dataset.name, name)
        arrays[part] = found.reshape(dataset.shape)
    tokens, token_width = datasets[f"{modality}/tokens"].shape
    offsets = arrays["offsets"]
    if offsets[0] != 0 or offsets[-1] != tokens or (offsets[1:] < offsets[:-1]).any():
        raise DamagedFile(f"{name}: expected {modality}/offsets to rise from 0 to {tokens}, found otherwise")
    cls = datasets[f"{modality}/cls"]
    return ModalityIndex(modality, header.modalities[modality], cls.dtype, cls.shape[1], token_width, **arrays)


def _check_sha256(found: npt.NDArray[Any], expected: str | None, dataset: str, name: str) -> None:
    if hashlib.sha256(found.tobytes()).hexdigest() != expected:
        raise DamagedFile(f"{name}: {dataset} is damaged: its SHA-256 is not the header's; fetch the file again")
