"""Rows read as they lie on the disk, neighbours together, with the checksum that each has now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from ..runtime.disk import read_all
from ..runtime.errors import DamagedFile
from .file import EmbeddingFile
from .rows import row_checksum

_BLOCK = 2**20  # small enough to stay in a core's cache between being read and being hashed


@dataclass(frozen=True)
class StoredRow:
    """One row's bytes as they lie in the file; valid until the next one is read."""

    cls: memoryview
    tokens: memoryview
    scales: npt.NDArray[np.float32] | None
    status: int
    reason: int
    checksum: int

    @property
    def checksum_agrees(self) -> bool:
        """Whether the bytes are those that were written."""
        return self.checksum_now == self.checksum

    @property
    def checksum_now(self) -> int:
        """The checksum that these bytes have."""
        scales = b"" if self.scales is None else self.scales
        return row_checksum(self.cls, self.tokens, self.status, self.reason, scales)


class RowReader:
    """Reads by `pread` into one buffer: a bad sector is an error to report, where a mapped page would be a crash."""

    def __init__(self, file: EmbeddingFile) -> None:
        self._file = file
        self._modalities = {name: file[name] for name in file.modalities}
        self._buffer = memoryview(bytearray(_BLOCK))
        try:
            self._descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DamagedFile(f"{file.path}: cannot be read again ({error.strerror}); was it moved?") from None

    def __enter__(self) -> RowReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        os.close(self._descriptor)
        if isinstance(error, EOFError | OSError):
            reason = "it became shorter" if isinstance(error, EOFError) else error.strerror or error
            raise DamagedFile(f"{self._file.path}: cannot be read to its end ({reason})") from error

    def block(self, offset: int, length: int) -> memoryview:
        """At most `_BLOCK` bytes at `offset`; valid until the next call."""
        view = self._buffer[:length]
        read_all(self._descriptor, view, offset)
        return view

    def rows(self, modality: str, rows: npt.NDArray[np.intp]) -> Iterator[tuple[int, StoredRow]]:
        """Each of `rows` as it lies in the file, valid until the next is drawn; neighbours are read together."""
        offsets = self._modalities[modality].offsets
        of_cls, of_token = self._strides(modality)
        first = last = size = 0  # of the neighbours met so far: rows, and the bytes they take
        for row in rows.tolist():
            own = of_cls + of_token * (int(offsets[row + 1]) - int(offsets[row]))
            if size and (row != last + 1 or size + own > len(self._buffer)):
                yield from self._span(modality, first, last + 1)
                size = 0
            first, last, size = first if size else row, row, size + own
        if size:
            yield from self._span(modality, first, last + 1)

    def _span(self, modality: str, first: int, end: int) -> Iterator[tuple[int, StoredRow]]:
        """The rows `first` to `end`, in one read of each dataset."""
        datasets, arrays = self._file.header.datasets, self._modalities[modality]
        of_cls, of_token = self._strides(modality)
        ends = arrays.offsets[first : end + 1].tolist()
        middle = of_cls * (end - first)
        length = middle + of_token * (ends[-1] - ends[0])
        if length > len(self._buffer):
            self._buffer = memoryview(bytearray(length))
        cls, tokens = self._buffer[:middle], self._buffer[middle:length]
        read_all(self._descriptor, cls, datasets[f"{modality}/cls"].offset + first * of_cls)
        read_all(self._descriptor, tokens, datasets[f"{modality}/tokens"].offset + ends[0] * of_token)
        scales = self._scales(modality, first, end)
        states = (values[first:end].tolist() for values in (arrays.status, arrays.reason, arrays.checksum))
        for place, (status, reason, checksum) in enumerate(zip(*states, strict=True)):
            start, stop = ends[place] - ends[0], ends[place + 1] - ends[0]
            own = None if scales is None else np.concatenate([scales[0][place : place + 1], scales[1][start:stop]])
            row_cls, row_tokens = cls[place * of_cls : (place + 1) * of_cls], tokens[start * of_token : stop * of_token]
            yield first + place, StoredRow(row_cls, row_tokens, own, status, reason, checksum)

    def _strides(self, modality: str) -> tuple[int, int]:
        """The bytes of one vector, and of one token's embedding."""
        arrays = self._modalities[modality]
        return arrays.width * arrays.raw_cls.itemsize, arrays.token_width * arrays.raw_tokens.itemsize

    def _scales(self, modality: str, first: int, end: int) -> list[npt.NDArray[np.float32]] | None:
        """The scales of the CLS of rows `first` to `end`, and of their tokens."""
        datasets, offsets = self._file.header.datasets, self._modalities[modality].offsets
        if f"{modality}/cls_scale" not in datasets:
            return None
        found = []
        for name, start, stop in (("cls", first, end), ("tokens", int(offsets[first]), int(offsets[end]))):
            raw = bytearray(4 * (stop - start))
            read_all(self._descriptor, memoryview(raw), datasets[f"{modality}/{name}_scale"].offset + 4 * start)
            found.append(np.frombuffer(raw, "<f4"))
        return found
