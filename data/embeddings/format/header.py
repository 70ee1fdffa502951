"""The user block of an embedding file: one legible line, then JSON: where every byte lies, what made it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

MAGIC: Final = b"CINEFUSE"
VERSIONS: Final = (1, 2, 3)  # a file has the lowest version that can say what it holds: `version_of`
ALIGNMENT: Final = 64
SMALLEST_USER_BLOCK: Final = 8192
LARGEST_USER_BLOCK: Final = 2**20
LONGEST_ID: Final = 256
MODALITIES: Final = ("text", "image")
STORAGE_DTYPES: Final = ("float16", "float32", "bfloat16")
QUANTISED: Final = "int8"
CLS_POSITION: Final = "cls_position"  # key of a record: false where no position of the encoder is a CLS

ITEM_SIZE: Final = {
    "int8": 1, "uint8": 1, "float16": 2, "bfloat16": 2, "int32": 4, "float32": 4, "int64": 8, "uint64": 8,
}  # fmt: skip
STRING_DTYPE = re.compile(r"S([1-9][0-9]{0,2})")
FIRST_LINE_LENGTH: Final = len(MAGIC) + 1 + 3 + 1 + 8 + 1 + 8 + 1 + 64 + 1
DATASET_COLUMNS: Final = ("name", "dtype", "shape", "offset", "length", "sha256")


def item_size(dtype: str) -> int:
    """Bytes of one element of `dtype` as the header spells it (``S12`` is a UTF-8 string of 12 bytes)."""
    string = STRING_DTYPE.fullmatch(dtype)
    return int(string[1]) if string else ITEM_SIZE[dtype]


@dataclass(frozen=True)
class Dataset:
    """One contiguous HDF5 dataset: `length` bytes at `offset` from the start of the file.

    `sha256` is the digest of its bytes where they never change after the layout, else None. A dataset without
    elements has neither bytes nor a place: offset 0, length 0.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    sha256: str | None


@dataclass(frozen=True)
class Header:
    """What a file is (`about`, `modalities`) and where its bytes are (`datasets`, the HDF5 metadata region).

    `modalities` maps "text" and/or "image" to a flat record: its "fingerprint" decides whether rows of two files are
    the same thing; everything else in it is information.
    """

    about: Mapping[str, Any]
    modalities: Mapping[str, Mapping[str, Any]]
    datasets: Mapping[str, Dataset]
    user_block: int
    metadata_length: int
    metadata_sha256: str
    file_length: int

    @property
    def rows(self) -> int:
        """N, the number of items."""
        return self.datasets["items/id"].shape[0]

    @property
    def version(self) -> int:
        """The format version, by `version_of`."""
        return version_of(self.datasets.values(), self.modalities)

    def encode(self) -> bytes:
        """The whole user block, `user_block` bytes: first line, JSON, and spaces up to a last newline."""
        text = self._json()
        line = b"%s %03d %08d %08d %s\n" % (
            MAGIC, self.version, self.user_block, len(text), hashlib.sha256(text).hexdigest().encode(),
        )  # fmt: skip
        padding = self.user_block - len(line) - len(text) - 1
        if padding < 0:
            raise ValueError(f"a header of {len(text)} bytes does not fit a user block of {self.user_block}")
        return line + text + b" " * padding + b"\n"

    def _json(self) -> bytes:
        def compact(value: Any) -> str:
            try:
                return json.dumps(value, ensure_ascii=True, allow_nan=False)
            except (TypeError, RecursionError) as error:
                raise ValueError(f"expected what JSON can say, received {error}") from None

        def block(entries: list[str], brackets: str) -> str:
            return brackets[0] + "\n  " + ",\n  ".join(entries) + "\n " + brackets[1]

        modalities = [f"{compact(name)}: {compact(record)}" for name, record in self.modalities.items()]
        datasets = [
            compact([d.name, d.dtype, list(d.shape), d.offset, d.length, d.sha256]) for d in self.datasets.values()
        ]
        return (
            "{\n "
            + f'"about": {compact(dict(self.about))},\n '
            + f'"modalities": {block(modalities, "{}")},\n '
            + f'"file_length": {self.file_length},\n '
            + f'"hdf5_metadata": {compact({"length": self.metadata_length, "sha256": self.metadata_sha256})},\n '
            + f'"dataset_columns": {compact(DATASET_COLUMNS)},\n '
            + f'"datasets": {block(datasets, "[]")}\n'
            + "}"
        ).encode()

    @classmethod
    def smallest_user_block(cls, header: Header) -> int:
        """The smallest power of two, at least 8192 bytes, that holds `header` (its own `user_block` is ignored)."""
        needed = FIRST_LINE_LENGTH + len(header._json()) + 1
        size = max(SMALLEST_USER_BLOCK, 1 << (needed - 1).bit_length())
        if size > LARGEST_USER_BLOCK:
            raise ValueError(f"a header of {needed} bytes exceeds the format's limit of {LARGEST_USER_BLOCK}")
        return size


class _Shaped(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


def version_of(datasets: Iterable[_Shaped], records: Mapping[str, Mapping[str, Any]]) -> int:
    """The lowest format version that can hold these datasets and records.

    3 where the vector of an item is not a position of its encoder (`cls_position` false in the record), or is of
    another width than tokens; else 2 where embeddings are int8; else 1.
    """
    datasets = list(datasets)
    widths = {dataset.name: dataset.shape[-1:] for dataset in datasets}
    for name, record in records.items():
        if record.get(CLS_POSITION) is False or widths.get(f"{name}/cls") != widths.get(f"{name}/tokens"):
            return 3
    return 2 if any(dataset.dtype == QUANTISED for dataset in datasets) else 1
