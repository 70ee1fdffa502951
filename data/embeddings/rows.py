"""Writing rows: in any order, by any number of processes, each row complete when its checksum says so."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from ..runtime.disk import reserve_parts, write_all, writing
from .file import EmbeddingFile
from .format.header import QUANTISED
from .number_formats import numpy_dtype
from .status import Reason, Status


def row_checksum(cls: Any, tokens: Any, status: int, reason: int, scales: Any = b"") -> int:
    """XXH3-64 over a row's cls bytes, tokens bytes, status and reason (all as they lie in the file).

    The `scales` of int8, the CLS's first, come behind the tokens. Never 0, which means that the row is not written yet:
    a hash of 0 becomes 1.
    """
    checksum = xxhash.xxh3_64(cls)
    checksum.update(tokens)
    checksum.update(scales)
    checksum.update(bytes((status, reason)))
    return checksum.intdigest() or 1


class Row(NamedTuple):
    """One row as it is to be written: `cls` (D,) and `tokens` (T_i, W), or neither where the item has no embedding."""

    number: int
    embedding: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None
    status: Status
    reason: Reason


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

    def reserve(self, modality: str, rows: npt.NDArray[np.int64]) -> None:
        """Room on the disk for these ascending `rows` of a sparse file. Raises NoSpace before anything is computed."""
        if not rows.size:
            return
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        firsts = rows[np.concatenate(([0], breaks))]
        ends = rows[np.concatenate((breaks - 1, [len(rows) - 1]))] + 1
        offsets = self._offsets[modality]
        parts = [(f"{modality}/{name}", 0, len(offsets) - 1) for name in ("status", "reason", "checksum")]
        for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
            parts.append((f"{modality}/cls", first, end))
            if offsets[end] > offsets[first]:
                parts.append((f"{modality}/tokens", int(offsets[first]), int(offsets[end])))
        with writing(self.path):
            reserve_parts(self._descriptor, (self._extent(*part) for part in parts))

    def write(
        self,
        modality: str,
        row: int,
        cls: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        status: Status,
        reason: Reason = Reason.NONE,
        scales: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Write one row: `cls` (D,) and `tokens` (T_i, W), C-contiguous, in the storage dtype (bfloat16 as uint16).

        int8 needs its `scales` (1 + T_i,) float32, the CLS's first.
        Raises ValueError where a shape or dtype is not the file's or the status is PENDING, NoSpace or BadInput where
        the disk refuses.
        """
        if status is Status.PENDING:
            raise ValueError(f"{modality} row {row}: a row that is written cannot be pending")
        self._check(modality, row, cls, tokens, scales)
        start = int(self._offsets[modality][row])
        with writing(self.path):
            # the checksum comes last: until it is there, the row counts as never written
            self._put(f"{modality}/cls", row, _bytes(cls))
            if tokens.size:
                self._put(f"{modality}/tokens", start, _bytes(tokens))
            if scales is not None:
                self._put(f"{modality}/cls_scale", row, _bytes(scales[:1]))
                if tokens.size:
                    self._put(f"{modality}/tokens_scale", start, _bytes(scales[1:]))
            self._put(f"{modality}/reason", row, bytes((reason,)))
            self._put(f"{modality}/status", row, bytes((status,)))
            checksum = row_checksum(cls, tokens, status, reason, b"" if scales is None else scales)
            self._put(f"{modality}/checksum", row, struct.pack("<Q", checksum))

    def put(self, modality: str, row: Row) -> None:
        """Write one row, with its embedding or as absent; as `write`, of what is not int8."""
        if row.embedding is None:
            self.write_absent(modality, row.number, row.status, row.reason)
        else:
            self.write(modality, row.number, *row.embedding, row.status, row.reason)

    def write_absent(self, modality: str, row: int, status: Status, reason: Reason) -> None:
        """Write a row that has no embedding: NaN throughout, so that a reader who ignores the status notices."""
        arrays, dtype = self._file[modality], self._datasets[f"{modality}/cls"].dtype
        length = int(np.diff(self._offsets[modality][row : row + 2])[0])
        scales = np.full(1 + length, np.nan, "<f4") if dtype == QUANTISED else None
        cls, tokens = nan((arrays.width,), dtype), nan((length, arrays.token_width), dtype)
        self.write(modality, row, cls, tokens, status, reason, scales)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        with writing(self.path):
            os.fsync(self._descriptor)

    def _extent(self, name: str, first: int, end: int) -> tuple[int, int]:
        """Where indices `first` to `end` of the dataset `name` lie: offset and length in bytes."""
        dataset = self._datasets[name]
        stride = dataset.length // dataset.shape[0]
        return dataset.offset + first * stride, (end - first) * stride

    def _put(self, name: str, index: int, data: bytes | memoryview) -> None:
        dataset = self._datasets[name]
        # bytes of one index along the first axis
        stride = dataset.length // dataset.shape[0]
        write_all(self._descriptor, data, dataset.offset + index * stride)

    def _check(
        self,
        modality: str,
        row: int,
        cls: npt.NDArray[Any],
        tokens: npt.NDArray[Any],
        scales: npt.NDArray[np.float32] | None,
    ) -> None:
        dataset = self._datasets[f"{modality}/cls"]
        length = int(self._offsets[modality][row + 1]) - int(self._offsets[modality][row])
        dtype, width = numpy_dtype(dataset.dtype), dataset.shape[1]
        wide = self._datasets[f"{modality}/tokens"].shape[1]
        if cls.shape != (width,) or tokens.shape != (length, wide) or cls.dtype != dtype or tokens.dtype != dtype:
            raise ValueError(
                f"{modality} row {row}: expected cls {(width,)} and tokens {(length, wide)} as {dtype}, "
                f"received {cls.shape} {cls.dtype} and {tokens.shape} {tokens.dtype}"
            )
        if not (cls.flags.c_contiguous and tokens.flags.c_contiguous):
            raise ValueError(f"{modality} row {row}: expected cls and tokens C-contiguous")
        if (scales is not None) != (dataset.dtype == QUANTISED):
            raise ValueError(f"{modality} row {row}: expected scales with int8 and with nothing else")
        if scales is not None and (scales.shape != (1 + length,) or scales.dtype != np.dtype("<f4")):
            raise ValueError(f"{modality} row {row}: expected {1 + length} float32 scales, received {scales.shape}")


def _bytes(values: npt.NDArray[Any]) -> memoryview:
    return values.data.cast("B")


def nan(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """An array of `shape` full of NaN in the storage `dtype` (bfloat16: the bits of its quiet NaN).

    int8 has no NaN: it is 0, and its scale is NaN.
    """
    if dtype == QUANTISED:
        return np.zeros(shape, np.int8)
    if dtype == "bfloat16":
        return np.full(shape, 0x7FC0, np.uint16)
    return np.full(shape, np.nan, numpy_dtype(dtype))
