"""The HDF5 metadata that makes a flat file of arrays an ordinary HDF5 file.

It is written here, byte by byte, after the HDF5 File Format Specification (version 3.0: superblock 0, symbol-table
groups, version 1 object headers), the oldest dialect, which every HDF5 library reads. So the same datasets give the
same bytes whatever HDF5 is installed; a full disk cannot crash a library that is not there; and a reader compares
instead of parsing: an untrusted file's links, filters or virtual datasets are refused without ever being interpreted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...runtime.errors import DamagedFile
from .header import ALIGNMENT, Header, item_size

# part of the format: a changed word would make every older file's metadata another one
_DESCRIPTIONS: Final = {
    "id": "the item's id in its source",
    "cls": "embedding of the CLS position; NaN where status is neither OK nor TRUNCATED",
    "cls_scale": "float32 factor of each row of cls: the embedding is cls * cls_scale; NaN where there is none",
    "tokens": "embeddings of all other positions, items one after another without padding",
    "tokens_scale": "float32 factor of each row of tokens: the embedding is tokens * tokens_scale",
    "offsets": "item i has tokens[offsets[i]:offsets[i + 1]]",
    "status": "0 PENDING, 1 OK, 2 TRUNCATED, 3 MISSING, 4 FAILED",
    "reason": "why an item has its status: numbers in docs/format.md, 0 none",
    "digest": "SHA-256 of the input: UTF-8 text, or the poster file's bytes; zeros where there is none",
    "batch": "rows that share a number were encoded together; -1: never encoded or copied from another file",
    "checksum": "XXH3-64 of the row's cls bytes, tokens bytes, status and reason; 0: not written yet",
    "input_ids": "the token id of each row of tokens",
}

_DESCRIPTIONS_3: Final = _DESCRIPTIONS | {
    "cls": "one vector for each item, by the pooling that the header names; NaN where there is none",
    "tokens": "embeddings of positions, items one after another without padding; docs/format.md says of which",
}

_SUPERBLOCK_LENGTH: Final = 96
_UNDEFINED: Final = 2**64 - 1
_LEAF_K: Final = 8  # a group's one symbol table node has room for 2 * 8 names; text, the largest group, has at most 11
_INTERNAL_K: Final = 16
_SYMBOL: Final = struct.Struct("<QQII16x")  # name's offset in the heap, object header's address, cache type, reserved

# object header message types
_DATASPACE, _DATATYPE, _FILL_VALUE, _LAYOUT, _ATTRIBUTE, _SYMBOL_TABLE = 0x01, 0x03, 0x05, 0x08, 0x0C, 0x11
_CONSTANT: Final = 1  # message flag

# floating-point types: sign position, exponent position and size, mantissa size, exponent bias
_FLOATS: Final = {
    "float16": (15, 10, 5, 10, 15), "bfloat16": (15, 7, 8, 7, 127), "float32": (31, 23, 8, 23, 127),
}  # fmt: skip
_SIGNED: Final = ("int8", "int32", "int64")


@dataclass(frozen=True)
class Array:
    """A dataset that has a name, a dtype and a shape but no place yet."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def length(self) -> int:
        """Bytes of the whole array."""
        count = item_size(self.dtype)
        for size in self.shape:
            count *= size
        return count


def build(arrays: Iterable[Array], attributes: Mapping[str, str], user_block: int) -> tuple[bytes, dict[str, int]]:
    """The HDF5 metadata for `arrays`, and each array's byte offset from the start of the file (0 for an empty one).

    The metadata bytes start at `user_block` and end where the first array starts.
    """
    arrays = list(arrays)
    anywhere = {array.name: user_block for array in arrays}
    # the metadata's length does not depend on the addresses in it
    start = end = _aligned(user_block + len(_Region(arrays, attributes, anywhere, user_block, 0).content))
    offsets = {}
    for array in arrays:
        offsets[array.name] = _aligned(end) if array.length else 0
        end = offsets[array.name] + array.length if array.length else end
    content = _Region(arrays, attributes, offsets, user_block, end).content
    return bytes(content).ljust(start - user_block, b"\0"), offsets


def check_agreement(path: Path, found: bytes, header: Header, attributes: Mapping[str, str]) -> None:
    """Refuse HDF5 metadata `found` in `path` unless it is, byte for byte, what `header` calls for.

    Raises DamagedFile.
    """
    arrays = [Array(dataset.name, dataset.dtype, dataset.shape) for dataset in header.datasets.values()]
    expected, _ = build(arrays, attributes, header.user_block)
    if found != expected:
        raise DamagedFile(
            f"{path}: its HDF5 metadata is not the {len(expected):,} bytes that its header calls for: "
            "HDF5 programs would see another file; do not use it"
        )


class _Region:
    """All metadata as bytes; an address counts from the superblock, which lies at the end of the user block."""

    def __init__(
        self,
        arrays: list[Array],
        attributes: Mapping[str, str],
        offsets: Mapping[str, int],
        user_block: int,
        file_length: int,
    ) -> None:
        self.content = bytearray(_SUPERBLOCK_LENGTH)
        groups: dict[str, dict[str, int]] = {}
        self._descriptions = _DESCRIPTIONS_3 if attributes.get("encoding-version") == "3" else _DESCRIPTIONS
        for array in arrays:
            group, name = array.name.split("/")
            address = offsets[array.name] - user_block if array.length else _UNDEFINED
            groups.setdefault(group, {})[name] = self._dataset(array, name, address)
        members = {group: self._group(datasets, {})[0] for group, datasets in groups.items()}
        root, tables = self._group(members, attributes)
        self.content[:_SUPERBLOCK_LENGTH] = _superblock(root, tables, user_block, file_length)

    def _place(self, piece: bytes | bytearray) -> int:
        address = len(self.content)
        self.content += _padded(piece)
        return address

    def _object(self, messages: list[bytes]) -> int:
        size = sum(map(len, messages))
        return self._place(struct.pack("<BxHII4x", 1, len(messages), 1, size) + b"".join(messages))

    def _dataset(self, array: Array, name: str, address: int) -> int:
        return self._object(
            [
                _message(_DATASPACE, _dataspace(array.shape)),
                _message(_DATATYPE, _datatype(array.dtype), _CONSTANT),
                _message(_FILL_VALUE, struct.pack("<BBBBI", 2, 2, 1, 1, 0), _CONSTANT),  # allocate late, never fill
                _message(_LAYOUT, struct.pack("<BBQQ", 3, 1, address, array.length)),  # contiguous
                _attribute("description", self._descriptions[name]),
            ]
        )

    def _group(self, members: Mapping[str, int], attributes: Mapping[str, str]) -> tuple[int, bytes]:
        """The address of a group's object header, and the addresses of its B-tree and heap as the group stores them."""
        heap, symbols, last = bytearray(8), b"", 0
        for name in sorted(members):
            last = len(heap)
            symbols += _SYMBOL.pack(last, members[name], 0, 0)
            heap += _padded(name.encode() + b"\0")
        names = self._place(heap)
        head = struct.pack("<4sBxH", b"SNOD", 1, len(members))
        node = self._place(head + symbols.ljust(2 * _LEAF_K * _SYMBOL.size, b"\0"))
        head = struct.pack("<4sBBHQQ", b"TREE", 0, 0, 1, _UNDEFINED, _UNDEFINED)
        keys_and_children = struct.pack("<QQQ", 0, node, last)
        tree = self._place(head + keys_and_children.ljust((4 * _INTERNAL_K + 1) * 8, b"\0"))
        no_free_space = 1
        table = self._place(struct.pack("<4sB3xQQQ", b"HEAP", 0, len(heap), no_free_space, names))
        tables = struct.pack("<QQ", tree, table)
        described = [_attribute(key, value) for key, value in attributes.items()]
        return self._object([_message(_SYMBOL_TABLE, tables), *described]), tables


def _superblock(root: int, tables: bytes, user_block: int, file_length: int) -> bytes:
    return (
        b"\x89HDF\r\n\x1a\n"
        + struct.pack("<BBBxBBBx", 0, 0, 0, 0, 8, 8)  # versions; addresses and lengths have 8 bytes
        + struct.pack("<HHI", _LEAF_K, _INTERNAL_K, 0)
        + struct.pack("<QQQQ", user_block, _UNDEFINED, file_length, _UNDEFINED)
        + struct.pack("<QQII", 0, root, 1, 0)
        + tables
    )


def _message(kind: int, content: bytes, flags: int = 0) -> bytes:
    content = _padded(content)
    return struct.pack("<HHB3x", kind, len(content), flags) + content


def _attribute(key: str, text: str) -> bytes:
    # fixed-length: HDF5's variable-length strings live in a global heap, which not every reader follows
    name, value = key.encode() + b"\0", text.encode()
    datatype, dataspace = _string_type(len(value)), _dataspace(())
    head = struct.pack("<BxHHH", 1, len(name), len(datatype), len(dataspace))
    return _message(_ATTRIBUTE, head + _padded(name) + _padded(datatype) + _padded(dataspace) + value)


def _dataspace(shape: tuple[int, ...]) -> bytes:
    if not shape:
        return struct.pack("<BBB5x", 1, 0, 0)
    return struct.pack(f"<BBB5x{2 * len(shape)}Q", 1, len(shape), 1, *shape, *shape)  # largest shape: this one


def _datatype(dtype: str) -> bytes:
    size = item_size(dtype)
    if dtype.startswith("S"):
        return _string_type(size)
    if dtype in _FLOATS:
        sign, exponent, exponent_size, mantissa_size, bias = _FLOATS[dtype]
        # class 1 of version 1; 0x20: the mantissa's leading one is implied
        head = struct.pack("<BBBxI", 0x11, 0x20, sign, size)
        return head + struct.pack("<HHBBBBI", 0, 8 * size, exponent, exponent_size, 0, mantissa_size, bias)
    return struct.pack("<BBBxIHH", 0x10, 0x08 if dtype in _SIGNED else 0, 0, size, 0, 8 * size)


def _string_type(size: int) -> bytes:
    return struct.pack("<BBBxI", 0x13, 0x11, 0, size)  # class 3 of version 1: padded by NUL, UTF-8


def _padded(piece: bytes | bytearray) -> bytes:
    return bytes(piece) + b"\0" * (-len(piece) % 8)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
