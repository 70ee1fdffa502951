"""A header read from untrusted bytes: nothing it claims is believed until it fits the format's rules.

No memory is taken on its word. docs/format.md holds the same rules in prose.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, Final

from ...runtime.errors import DamagedFile
from .header import (
    ALIGNMENT,
    CLS_POSITION,
    DATASET_COLUMNS,
    FIRST_LINE_LENGTH,
    ITEM_SIZE,
    LARGEST_USER_BLOCK,
    LONGEST_ID,
    MODALITIES,
    QUANTISED,
    SMALLEST_USER_BLOCK,
    STORAGE_DTYPES,
    STRING_DTYPE,
    VERSIONS,
    Dataset,
    Header,
    item_size,
)

LARGEST_METADATA: Final = 2**20
DEEPEST_NESTING: Final = 32
_FIRST_LINE = re.compile(rb"CINEFUSE ([0-9]{3}) ([0-9]{8}) ([0-9]{8}) ([0-9a-f]{64})\n")


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


def parse_header(block: bytes, file_length: int, name: str) -> Header:
    """The header in `block` (the file's first bytes) of a file of `file_length` bytes called `name`.

    Raises DamagedFile naming the rule that is broken.
    """
    header = _declared(block, name)
    if header.file_length != file_length:
        raise DamagedFile(
            f"{name}: expected {header.file_length:,} bytes as its header says, found {file_length:,}: "
            "the file is cut short or has grown; copy or extract it again"
        )
    check_places(header, name)
    return header


def declared_length(block: bytes, name: str) -> int:
    """How many bytes the file called `name` has in all, as the checked header in its first bytes `block` says.

    For a file of which no more is there yet. Raises DamagedFile as `parse_header` does.
    """
    header = _declared(block, name)
    check_places(header, name)
    return header.file_length


def _declared(block: bytes, name: str) -> Header:
    version, user_block, text = _json_bytes(block, name)
    header = _header_from_json(_strict_json(text, name), user_block, name)
    if version != header.version:
        raise _broken(name, f"format version {header.version} for what it holds", version)
    return header


def user_block_size(first_line: bytes, name: str) -> int:
    """Size of the user block in bytes, from the first line of a file. Raises DamagedFile if it is not one of ours."""
    _, size, _, _ = _first_line(first_line, name)
    return size


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
    if value["dataset_columns"] != list(DATASET_COLUMNS):
        raise _broken(name, f"the columns {', '.join(DATASET_COLUMNS)}", value["dataset_columns"])
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
    if dtype not in ITEM_SIZE and not STRING_DTYPE.fullmatch(dtype):
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


def check_places(header: Header, name: str) -> None:
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
    if not (ids.dtype == "int64" or STRING_DTYPE.fullmatch(ids.dtype)) or len(ids.shape) != 1 or ids.sha256 is None:
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
