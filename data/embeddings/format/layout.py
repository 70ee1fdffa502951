"""Where the bytes of a new embedding file will lie: its header and HDF5 metadata, before any of its arrays exists."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.errors import DamagedFile
from ..ids import IdArray, stored_ids
from .hdf5_metadata import Array, build
from .header import MODALITIES, QUANTISED, Dataset, Header, version_of
from .header_checks import parse_header

# stands for a SHA-256 that is not known yet, in a header that is complete in everything else and as long as it will be
UNKNOWN_SHA256 = "0" * 64


def attributes(version: int) -> dict[str, str]:
    """The HDF5 attributes of the root group of a file of format `version`, after AnnData's convention."""
    return {"encoding-type": "cinefuse-embeddings", "encoding-version": str(version)}


def embedding_arrays(
    name: str, dtype: str, rows: int, tokens: int, width: int, token_width: int | None = None
) -> list[Array]:
    """The datasets that hold the embeddings of a modality; int8 comes with a scale for each embedding.

    ``width`` is that of an item's vector, ``token_width`` (by default the same) that of a token.
    """
    token_width = token_width or width
    if dtype != QUANTISED:
        return [Array(f"{name}/cls", dtype, (rows, width)), Array(f"{name}/tokens", dtype, (tokens, token_width))]
    return [
        Array(f"{name}/cls", dtype, (rows, width)),
        Array(f"{name}/cls_scale", "float32", (rows,)),
        Array(f"{name}/tokens", dtype, (tokens, token_width)),
        Array(f"{name}/tokens_scale", "float32", (tokens,)),
    ]


@dataclass(frozen=True)
class ModalityLayout:
    """Everything about one modality that is known before the first embedding.

    `record` goes into the header as it is and must hold a "fingerprint". `lengths` (N,) counts the rows of tokens of
    each item, `digest` (N, 32) uint8 is the SHA-256 of its input, `batch` (N,) int32 the batch that encodes it (-1:
    none), `input_ids` (sum of lengths,) int32 the token ids of text. `width` is that of an item's vector, `token_width`
    that of a token, where it is another.
    """

    record: Mapping[str, Any]
    width: int
    dtype: str
    lengths: npt.NDArray[np.int64]
    digest: npt.NDArray[np.uint8]
    batch: npt.NDArray[np.int32]
    input_ids: npt.NDArray[np.int32] | None = None
    token_width: int | None = None

    def arrays(self, name: str) -> dict[Array, npt.NDArray[Any] | None]:
        """Each dataset of the modality in the format's order, with its content where that is known by now."""
        if (self.lengths < 0).any():
            raise ValueError(f"{name}: expected lengths of at least 0, received {self.lengths.min()}")
        rows, tokens = len(self.lengths), int(self.lengths.sum())
        offsets = np.concatenate(([0], np.cumsum(self.lengths))).astype("<i8")
        arrays: dict[Array, npt.NDArray[Any] | None] = dict.fromkeys(
            embedding_arrays(name, self.dtype, rows, tokens, self.width, self.token_width)
        )
        arrays |= {
            Array(f"{name}/offsets", "int64", (rows + 1,)): offsets,
            Array(f"{name}/status", "uint8", (rows,)): None,
            Array(f"{name}/reason", "uint8", (rows,)): None,
            Array(f"{name}/digest", "uint8", (rows, 32)): np.ascontiguousarray(self.digest, np.uint8),
            Array(f"{name}/batch", "int32", (rows,)): np.ascontiguousarray(self.batch, "<i4"),
            Array(f"{name}/checksum", "uint64", (rows,)): None,
        }
        if self.input_ids is not None:
            arrays[Array(f"{name}/input_ids", "int32", (tokens,))] = np.ascontiguousarray(self.input_ids, "<i4")
        return arrays


def lay_out(
    arrays: Mapping[Array, str | None], records: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]
) -> tuple[Header, bytes]:
    """The header and the HDF5 metadata of a file that holds `arrays`, in this order, one behind the other.

    `arrays` names the SHA-256 of those whose bytes are final (UNKNOWN_SHA256 where it is filled in later, as it does
    not change the layout), None for those filled row by row. The metadata's place is behind the user block. Raises
    ValueError for what the format cannot hold.
    """
    root_attributes = attributes(version_of(arrays, records))

    def header(user_block: int, metadata: bytes, offsets: Mapping[str, int]) -> Header:
        datasets = {}
        for array, digest in arrays.items():
            length = array.length
            place = offsets[array.name] if length else 0
            datasets[array.name] = Dataset(array.name, array.dtype, array.shape, place, length, digest)
        return Header(
            about=about,
            modalities={name: records[name] for name in MODALITIES if name in records},
            datasets=datasets,
            user_block=user_block,
            metadata_length=len(metadata),
            metadata_sha256=hashlib.sha256(metadata).hexdigest(),
            file_length=max(dataset.offset + dataset.length for dataset in datasets.values()),
        )

    # the offsets depend on the user block, whose size depends on how many digits the offsets have: two passes settle it
    metadata, offsets = build(arrays, root_attributes, 8192)
    user_block = Header.smallest_user_block(header(8192, metadata, offsets))
    metadata, offsets = build(arrays, root_attributes, user_block)
    final = header(user_block, metadata, offsets)
    _check_legible(final)
    return final, metadata


def _check_legible(header: Header) -> None:
    """A header must be readable to whoever writes it: a record outside the format is the caller's mistake."""
    try:
        parse_header(header.encode(), header.file_length, "this layout")
    except DamagedFile as refusal:
        raise ValueError(str(refusal)) from None


def lay_out_embeddings(
    ids: IdArray, modalities: Mapping[str, ModalityLayout], about: Mapping[str, Any]
) -> tuple[Header, list[tuple[int, bytes | memoryview]]]:
    """The header of a new file, and the bytes known by now with their offsets."""
    if unknown := set(modalities) - set(MODALITIES):
        raise ValueError(f"expected modalities among {', '.join(MODALITIES)}, received {', '.join(sorted(unknown))}")
    arrays: dict[Array, npt.NDArray[Any] | None] = {}
    stored = stored_ids(ids)
    arrays[Array("items/id", "int64" if stored.dtype.kind == "i" else f"S{stored.itemsize}", stored.shape)] = stored
    for name in MODALITIES:
        if name in modalities:
            arrays |= modalities[name].arrays(name)
    for array, content in arrays.items():
        if content is not None and content.shape != array.shape:
            raise ValueError(f"{array.name}: expected {array.shape} as the lengths say, received {content.shape}")

    digests = {
        array: None if content is None else hashlib.sha256(content.tobytes()).hexdigest()
        for array, content in arrays.items()
    }
    records = {name: layout.record for name, layout in modalities.items()}
    header, metadata = lay_out(digests, records, about)
    contents: list[tuple[int, bytes | memoryview]] = [(header.user_block, metadata)]
    for array, content in arrays.items():
        if content is not None and content.size:
            contents.append((header.datasets[array.name].offset, content.tobytes()))
    return header, contents
