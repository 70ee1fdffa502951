"""Writing rows: in any order, by any number of processes, each row complete when its checksum says so."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from .disk import write_all, writing
from .embeddings import EmbeddingFile, numpy_dtype
from .status import Reason, Status


def row_checksum(cls: Any, tokens: Any, status: int, reason: int) -> int:
    """XXH3-64 over a row's cls bytes, tokens bytes, status and reason (all as they lie in the file).

    Never 0, which means that the row is not written yet: a hash of 0 becomes 1.
    """
    checksum = xxhash.xxh3_64(cls)
    checksum.update(tokens)
    checksum.update(bytes((status, reason)))
    return checksum.intdigest() or 1


class RowWriter:
    """Fills the rows of a laid-out file by `pwrite`. HDF5 has no part in it: a kill can harm no more than one row."""

    def __init__(self, file: EmbeddingFile) -> None:
        self.path: Path = file.path
        self._file = file
        self._offsets = {name: file[name].offsets for name in file.modalities}
        self._datasets = file.header.datasets
        with writing(self.path):
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(
        self,
        modality: str,
        row: int,
        cls: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        status: Status,
        reason: Reason = Reason.NONE,
    ) -> None:
        """Write one row: `cls` (D,) and `tokens` (T_i, D), C-contiguous, in the storage dtype (bfloat16 as uint16).

        Raises ValueError where a shape or dtype is not the file's or the status is PENDING, NoSpace or BadInput where
        the disk refuses.
        """
        if status is Status.PENDING:
            raise ValueError(f"{modality} row {row}: a row that is written cannot be pending")
        self._check(modality, row, cls, tokens)
        start = int(self._offsets[modality][row])
        with writing(self.path):
            # the checksum comes last: until it is there, the row counts as never written
            self._put(f"{modality}/cls", row, _bytes(cls))
            if tokens.size:
                self._put(f"{modality}/tokens", start, _bytes(tokens))
            self._put(f"{modality}/reason", row, bytes((reason,)))
            self._put(f"{modality}/status", row, bytes((status,)))
            self._put(f"{modality}/checksum", row, struct.pack("<Q", row_checksum(cls, tokens, status, reason)))

    def write_absent(self, modality: str, row: int, status: Status, reason: Reason) -> None:
        """Write a row that has no embedding: NaN throughout, so that a reader who ignores the status notices."""
        width, dtype = self._file[modality].width, self._datasets[f"{modality}/cls"].dtype
        length = int(np.diff(self._offsets[modality][row : row + 2])[0])
        self.write(modality, row, nan((width,), dtype), nan((length, width), dtype), status, reason)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        with writing(self.path):
            os.fsync(self._descriptor)

    def _put(self, name: str, index: int, data: bytes | memoryview) -> None:
        dataset = self._datasets[name]
        # bytes of one index along the first axis
        stride = dataset.length // dataset.shape[0]
        write_all(self._descriptor, data, dataset.offset + index * stride)

    def _check(self, modality: str, row: int, cls: npt.NDArray[Any], tokens: npt.NDArray[Any]) -> None:
        dataset = self._datasets[f"{modality}/cls"]
        length = int(self._offsets[modality][row + 1]) - int(self._offsets[modality][row])
        dtype, width = numpy_dtype(dataset.dtype), dataset.shape[1]
        if cls.shape != (width,) or tokens.shape != (length, width) or cls.dtype != dtype or tokens.dtype != dtype:
            raise ValueError(
                f"{modality} row {row}: expected cls {(width,)} and tokens {(length, width)} as {dtype}, "
                f"received {cls.shape} {cls.dtype} and {tokens.shape} {tokens.dtype}"
            )
        if not (cls.flags.c_contiguous and tokens.flags.c_contiguous):
            raise ValueError(f"{modality} row {row}: expected cls and tokens C-contiguous")


def _bytes(values: npt.NDArray[Any]) -> memoryview:
    return values.data.cast("B")


def nan(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """An array of `shape` full of NaN in the storage `dtype` (bfloat16: the bits of its quiet NaN)."""
    if dtype == "bfloat16":
        return np.full(shape, 0x7FC0, np.uint16)
    return np.full(shape, np.nan, numpy_dtype(dtype))
