"""The user block of an embedding file: one legible line, then JSON that says where every byte lies and what made it.

A header is parsed from untrusted bytes. Nothing it claims is believed until it fits the format's rules and the size of
the file, and no memory is taken on its word. docs/format.md holds the same rules in prose.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..runtime.errors import DamagedFile

MAGIC: Final = b"CINEFUSE"
VERSIONS: Final = (1, 2, 3)  # a file has the lowest version that can say what it holds: `version_of`
ALIGNMENT: Final = 64
SMALLEST_USER_BLOCK: Final = 8192
LARGEST_USER_BLOCK: Final = 2**20
LARGEST_METADATA: Final = 2**20
LONGEST_ID: Final = 256
DEEPEST_NESTING: Final = 32
MODALITIES: Final = ("text", "image")
STORAGE_DTYPES: Final = ("float16", "float32", "bfloat16")
QUANTISED: Final = "int8"
CLS_POSITION: Final = "cls_position"  # key of a record: false where no position of the encoder is a CLS

ITEM_SIZE: Final = {
    "int8": 1, "uint8": 1, "float16": 2, "bfloat16": 2, "int32": 4, "float32": 4, "int64": 8, "uint64": 8,
}  # fmt: skip
_STRING = re.compile(r"S([1-9][0-9]{0,2})")
_FIRST_LINE = re.compile(rb"CINEFUSE ([0-9]{3}) ([0-9]{8}) ([0-9]{8}) ([0-9a-f]{64})\n")
FIRST_LINE_LENGTH: Final = len(MAGIC) + 1 + 3 + 1 + 8 + 1 + 8 + 1 + 64 + 1

# the datasets of a modality: which dtypes, which shape in terms of N rows, T tokens, widths D of a vector
# and W of a token, and whether the bytes are
# final once laid out (then the header holds their SHA-256) or come row by row (then the row checksum covers them)
_Part = tuple[tuple[str, ...], tuple[str | int, ...], bool]
_FLOAT_EMBEDDINGS: Final[dict[str, _Part]] = {
    "cls": (STORAGE_DTYPES, ("N", "D"), False),
    "tokens": (STORAGE_DTYPES, ("T", "W"), False),
}
_INT8_EMBEDDINGS: Final[dict[str, _Part]] = {
    "cls": ((QUANTISED,), ("N", "D"), False),
    "cls_scale": (("float32",), ("N",), False),
    "tokens": ((QUANTISED,), ("T", "W"), False),
    "tokens_scale": (("float32",), ("T",), False),
}
_OTHER_DATASETS: Final[dict[str, _Part]] = {
    "offsets": (("int64",), ("N+1",), True),
    "status": (("uint8",), ("N",), False),
    "reason": (("uint8",), ("N",), False),
    "digest": (("uint8",), ("N", 32), True),
    "batch": (("int32",), ("N",), True),
    "checksum": (("uint64",), ("N",), False),
}
_INPUT_IDS: Final[dict[str, _Part]] = {"input_ids": (("int32",), ("T",), True)}
_COLUMNS: Final = ("name", "dtype", "shape", "offset", "length", "sha256")


def item_size(dtype: str) -> int:
    """Bytes of one element of `dtype` as the header spells it (``S12`` is a UTF-8 string of 12 bytes)."""
    string = _STRING.fullmatch(dtype)
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
            + f'"dataset_columns": {compact(_COLUMNS)},\n '
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

    @classmethod
    def parse(cls, block: bytes, file_length: int, name: str) -> Header:
        """The header in `block` (the file's first bytes) of a file of `file_length` bytes called `name`.

        Raises DamagedFile naming the rule that is broken.
        """
        header = cls._declared(block, name)
        if header.file_length != file_length:
            raise DamagedFile(
                f"{name}: expected {header.file_length:,} bytes as its header says, found {file_length:,}: "
                "the file is cut short or has grown; copy or extract it again"
            )
        _check_places(header, name)
        return header

    @classmethod
    def declared_length(cls, block: bytes, name: str) -> int:
        """How many bytes the file called `name` has in all, as the checked header in its first bytes `block` says.

        For a file of which no more is there yet. Raises DamagedFile as `parse` does.
        """
        header = cls._declared(block, name)
        _check_places(header, name)
        return header.file_length

    @classmethod
    def _declared(cls, block: bytes, name: str) -> Header:
        version, user_block, text = _json_bytes(block, name)
        header = _header_from_json(_strict_json(text, name), user_block, name)
        if version != header.version:
            raise _broken(name, f"format version {header.version} for what it holds", version)
        return header


def user_block_size(first_line: bytes, name: str) -> int:
    """Size of the user block in bytes, from the first line of a file. Raises DamagedFile if it is not one of ours."""
    _, size, _, _ = _first_line(first_line, name)
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


def _first_line(block: bytes, name: str) -> tuple[int, int, int, str]:
    """The version, the user block's size, the JSON's length and its SHA-256."""
    match = _FIRST_LINE.match(block)
    if match is None:
        raise DamagedFile(f"{name}: expected a cinefuse embedding file (first bytes 'CINEFUSE'), found something else")
    version = int(match[1])
    if version not in VERSIONS:
        known = f"{', '.join(map(str, VERSIONS[:-1]))} or {VERSIONS[-1]}"
        raise DamagedFile(
            f"{name}: expected format version {known}, found {version}: it needs another cinefuse release"
        )
    size = int(match[2])
    if size & (size - 1) or not SMALLEST_USER_BLOCK <= size <= LARGEST_USER_BLOCK:
        raise _broken(name, "user block of a power of two between 8192 and 1048576 bytes", size)
    return version, size, int(match[3]), match[4].decode()


def _broken(name: str, expected: str, found: object) -> DamagedFile:
    shown = repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return DamagedFile(f"{name}: its header is damaged: expected {expected}, found {shown}; fetch the file again")


def _json_bytes(block: bytes, name: str) -> tuple[int, int, bytes]:
    version, user_block, length, sha256 = _first_line(block, name)
    start, stop = FIRST_LINE_LENGTH, FIRST_LINE_LENGTH + length
    text, padding = block[start:stop], block[stop:user_block]
    found = hashlib.sha256(text).hexdigest()
    if found != sha256:
        raise _broken(name, "JSON with the SHA-256 of the first line", found)
    if padding != b" " * (user_block - stop - 1) + b"\n":
        raise _broken(name, "spaces up to a newline behind the JSON", padding.strip()[:40])
    return version, user_block, text


def _strict_json(text: bytes, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def no_constant(token: str) -> None:
        raise ValueError(token)

    try:
        value = json.loads(text.decode(), object_pairs_hook=unique, parse_constant=no_constant)
        _check_depth(value, DEEPEST_NESTING)
        # numbers beyond a float and half surrogate pairs parse, yet could never be written or shown again
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise _broken(name, "strict JSON", str(error)) from None
    if not isinstance(value, dict):
        raise _broken(name, "a JSON object", type(value).__name__)
    return value


def _check_depth(value: object, left: int) -> None:
    if isinstance(value, dict | list):
        if left == 0:
            raise ValueError(f"nested deeper than {DEEPEST_NESTING} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)


def _header_from_json(value: dict[str, Any], user_block: int, name: str) -> Header:
    keys = {"about", "modalities", "file_length", "hdf5_metadata", "dataset_columns", "datasets"}
    if set(value) != keys:
        raise _broken(name, f"the keys {sorted(keys)}", sorted(value))
    about, modalities, metadata = value["about"], value["modalities"], value["hdf5_metadata"]
    if not isinstance(about, dict):
        raise _broken(name, "'about' as an object", about)
    if not isinstance(modalities, dict) or not modalities or not set(modalities) <= set(MODALITIES):
        raise _broken(name, f"modalities among {list(MODALITIES)}", modalities)
    for record in modalities.values():
        if not isinstance(record, dict) or not isinstance(record.get("fingerprint"), dict):
            raise _broken(name, "a record with a fingerprint for each modality", record)
        if not isinstance(record.get(CLS_POSITION, True), bool):
            raise _broken(name, f"{CLS_POSITION} as true or false", record[CLS_POSITION])
    if not isinstance(metadata, dict) or set(metadata) != {"length", "sha256"}:
        raise _broken(name, "length and sha256 of the HDF5 metadata", metadata)
    if value["dataset_columns"] != list(_COLUMNS):
        raise _broken(name, f"the columns {', '.join(_COLUMNS)}", value["dataset_columns"])
    if not isinstance(value["datasets"], list):
        raise _broken(name, "a list of datasets", value["datasets"])
    datasets = [_dataset_from_json(entry, name) for entry in value["datasets"]]
    if len({dataset.name for dataset in datasets}) != len(datasets):
        raise _broken(name, "each dataset once", [dataset.name for dataset in datasets])
    return Header(
        about=about,
        modalities=modalities,
        datasets={dataset.name: dataset for dataset in datasets},
        user_block=user_block,
        metadata_length=_size(metadata["length"], name, LARGEST_METADATA),
        metadata_sha256=_sha256(metadata["sha256"], name),
        file_length=_size(value["file_length"], name),
    )


def _dataset_from_json(entry: object, name: str) -> Dataset:
    if not isinstance(entry, list) or len(entry) != 6:
        raise _broken(name, "a dataset of six columns", entry)
    dataset, dtype, shape, offset, length, sha256 = entry
    if not isinstance(dataset, str) or not isinstance(dtype, str):
        raise _broken(name, "a dataset's name and dtype", entry)
    if dtype not in ITEM_SIZE and not _STRING.fullmatch(dtype):
        raise _broken(name, f"a known dtype for {dataset}", dtype)
    if not isinstance(shape, list) or not 1 <= len(shape) <= 2:
        raise _broken(name, f"a shape of one or two sizes for {dataset}", shape)
    return Dataset(
        name=dataset,
        dtype=dtype,
        shape=tuple(_size(size, name) for size in shape),
        offset=_size(offset, name),
        length=_size(length, name),
        sha256=None if sha256 is None else _sha256(sha256, name),
    )


def _size(value: object, name: str, largest: int = 2**62) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise _broken(name, f"a size from 0 to {largest}", value)
    return value


def _sha256(value: object, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise _broken(name, "64 hexadecimal digits of a SHA-256", value)
    return value


def _check_places(header: Header, name: str) -> None:
    """Refuse a header whose datasets are not the format's, in the format's order, back to back within the file."""
    _check_shapes(header, name)
    end = header.user_block + header.metadata_length
    for dataset in header.datasets.values():
        if dataset.length != math.prod(dataset.shape) * item_size(dataset.dtype):
            raise _broken(name, f"{dataset.name}'s length to be its shape times its item size", dataset.length)
        if dataset.length == 0:
            if dataset.offset != 0:
                raise _broken(name, f"offset 0 for {dataset.name}, which is empty", dataset.offset)
            continue
        aligned = -(-end // ALIGNMENT) * ALIGNMENT
        if dataset.offset != aligned:
            raise _broken(name, f"{dataset.name} to start at byte {aligned}", dataset.offset)
        end = dataset.offset + dataset.length
    if end != header.file_length:
        raise _broken(name, f"datasets that end at the file's end, {header.file_length}", end)


def _parts(header: Header, modality: str) -> dict[str, _Part]:
    """The datasets that a modality must have, in the format's order; those of int8 come with their scales."""
    cls = header.datasets.get(f"{modality}/cls")
    embeddings = _INT8_EMBEDDINGS if cls is not None and cls.dtype == QUANTISED else _FLOAT_EMBEDDINGS
    return embeddings | _OTHER_DATASETS | (_INPUT_IDS if modality == "text" else {})


def _check_shapes(header: Header, name: str) -> None:
    datasets = header.datasets
    expected = ["items/id"]
    for modality in MODALITIES:
        if modality in header.modalities:
            expected += [f"{modality}/{part}" for part in _parts(header, modality)]
    if list(datasets) != expected:
        raise _broken(name, f"the datasets {', '.join(expected)}", list(datasets))
    ids = datasets["items/id"]
    if not (ids.dtype == "int64" or _STRING.fullmatch(ids.dtype)) or len(ids.shape) != 1 or ids.sha256 is None:
        raise _broken(name, "items/id as int64 or fixed-length UTF-8 with a SHA-256", [ids.dtype, ids.shape])
    if ids.shape[0] == 0:
        raise _broken(name, "at least one item", 0)
    if item_size(ids.dtype) > LONGEST_ID:
        raise _broken(name, f"ids of at most {LONGEST_ID} bytes", ids.dtype)
    for modality in header.modalities:
        parts = _parts(header, modality)
        tokens = datasets[f"{modality}/tokens"].shape
        width = datasets[f"{modality}/cls"].shape[-1]
        sizes: dict[str | int, int] = {"N": ids.shape[0], "N+1": ids.shape[0] + 1, "T": tokens[0], 32: 32}
        sizes |= {"D": width, "W": tokens[-1]}
        for part, (dtypes, shape, constant) in parts.items():
            dataset = datasets[f"{modality}/{part}"]
            if dataset.dtype not in dtypes:
                raise _broken(name, f"{dataset.name} as {' or '.join(dtypes)}", dataset.dtype)
            if dataset.shape != tuple(sizes[size] for size in shape):
                raise _broken(name, f"{dataset.name} of shape {list(shape)}", list(dataset.shape))
            if (dataset.sha256 is not None) != constant:
                raise _broken(name, f"{'a' if constant else 'no'} SHA-256 for {dataset.name}", dataset.sha256)
        if datasets[f"{modality}/cls"].dtype != datasets[f"{modality}/tokens"].dtype or 0 in (width, tokens[-1]):
            raise _broken(name, f"{modality}'s cls and tokens of one dtype and a width", width)
