"""Where the bytes of a new embedding file will lie: its header and HDF5 metadata, before any of its arrays exists."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from .errors import DamagedFile
from .hdf5_metadata import Array, build
from .header import MODALITIES, Dataset, Header, version_of

# stands for a SHA-256 that is not known yet, in a header that is complete in everything else and as long as it will be
UNKNOWN_SHA256 = "0" * 64


def attributes(version: int) -> dict[str, str]:
    """The HDF5 attributes of the root group of a file of format `version`, after AnnData's convention."""
    return {"encoding-type": "cinefuse-embeddings", "encoding-version": str(version)}


def lay_out(
    arrays: Mapping[Array, str | None], records: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]
) -> tuple[Header, bytes]:
    """The header and the HDF5 metadata of a file that holds `arrays`, in this order, one behind the other.

    `arrays` names the SHA-256 of those whose bytes are final (UNKNOWN_SHA256 where it is to be told later, as it does
    not change the layout), None for those filled row by row. The metadata's place is behind the user block. Raises
    ValueError for what the format cannot hold.
    """
    told = attributes(version_of(array.dtype for array in arrays))

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
    metadata, offsets = build(arrays, told, 8192)
    user_block = Header.smallest_user_block(header(8192, metadata, offsets))
    metadata, offsets = build(arrays, told, user_block)
    final = header(user_block, metadata, offsets)
    _check_legible(final)
    return final, metadata


def _check_legible(header: Header) -> None:
    """A header must be readable to whoever writes it: a record outside the format is the caller's mistake."""
    try:
        Header.parse(header.encode(), header.file_length, "this layout")
    except DamagedFile as refusal:
        raise ValueError(str(refusal)) from None
