"""The embedding file as chunked, compressed HDF5, for programs and people who want HDF5's filters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ..embeddings.file import EmbeddingFile
from ..runtime.errors import NoSpace

_CHUNK_VALUES: Final = 2**17
_AT_ONCE: Final = 2**22  # values
_LEFT_OUT: Final = ("checksum", "batch", "cls_scale", "tokens_scale")


def write_chunked(file: EmbeddingFile, out: Path, progress: Callable[[int], None]) -> None:
    """Write the file's datasets under their names, in chunks with HDF5's shuffle and gzip filters.

    float16 and float32 stay, bfloat16 and int8 become float32, ids of text are strings. Rows without an embedding are
    NaN and `status` says why, as in the file. The header is the root's attribute `cinefuse`. It is no embedding file:
    its rows have no checksums, and it cannot be mapped. Raises NoSpace before HDF5 could meet a full disk.
    """
    import h5py

    needed, free = file.header.file_length, shutil.disk_usage(out.parent).free
    if free < needed:
        raise NoSpace(f"{out}: needs up to {needed:,} bytes, {free:,} are free")
    about = {"about": dict(file.header.about), "modalities": dict(file.header.modalities)}
    with h5py.File(out, "w") as made:
        made.attrs["cinefuse"] = json.dumps(about)
        made.attrs["content_digest"] = file.content_digest
        ids = file.ids
        text = ids.dtype.kind != "i"
        made.create_dataset("items/id", data=ids.tolist() if text else ids, dtype=h5py.string_dtype() if text else None)
        for dataset in file.header.datasets.values():
            modality, part = dataset.name.split("/")
            if modality == "items" or part in _LEFT_OUT:
                continue
            if part in ("cls", "tokens"):
                _write_embeddings(made, file, modality, part, progress)
            else:
                values = file.raw_array(dataset.name)
                chunked: dict[str, Any] = {"compression": "gzip", "shuffle": True} if values.size else {}
                made.create_dataset(dataset.name, data=values, **chunked)


def _write_embeddings(
    made: Any, file: EmbeddingFile, modality: str, part: str, progress: Callable[[int], None]
) -> None:
    arrays = file[modality]
    stored = arrays.raw_cls if part == "cls" else arrays.raw_tokens
    rows, width = stored.shape
    dtype = stored.dtype if arrays.stored_as_floats else "f4"
    if not rows:
        made.create_dataset(f"{modality}/{part}", (0, width), dtype)
        return
    chunk = (max(1, min(rows, _CHUNK_VALUES // width)), width)
    target = made.create_dataset(
        f"{modality}/{part}", (rows, width), dtype, chunks=chunk, compression="gzip", shuffle=True
    )
    step = max(chunk[0], _AT_ONCE // width // chunk[0] * chunk[0])  # whole chunks
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        target[start:stop] = stored[start:stop] if arrays.stored_as_floats else arrays.read(part, start, stop)
        progress((stop - start) * width * stored.itemsize)
        file.forget()
