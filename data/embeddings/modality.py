"""The embeddings of one modality in an embedding file: views, rows in any number format, ragged gathering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .format.header import ALIGNMENT, CLS_POSITION
from .number_formats import Float32Rows, as_float32, dequantised
from .status import Status


@dataclass(frozen=True)
class Modality:
    """The arrays of one modality, as zero-copy views into the mapped file.

    `cls` and `tokens` are embeddings whatever the file stores; `raw_cls` and `raw_tokens` are the stored numbers:
    float16 or float32 values, the bits of bfloat16 as uint16, int8 steps that mean nothing without their scales.
    """

    name: str
    record: Mapping[str, Any]
    dtype: str
    raw_cls: npt.NDArray[Any] = field(repr=False)  # (N, D)
    raw_tokens: npt.NDArray[Any] = field(repr=False)  # (T, W)
    offsets: npt.NDArray[np.int64] = field(repr=False)  # (N + 1,)
    status: npt.NDArray[np.uint8] = field(repr=False)  # (N,)
    reason: npt.NDArray[np.uint8] = field(repr=False)  # (N,)
    digest: npt.NDArray[np.uint8] = field(repr=False)  # (N, 32)
    batch: npt.NDArray[np.int32] = field(repr=False)  # (N,)
    checksum: npt.NDArray[np.uint64] = field(repr=False)  # (N,)
    input_ids: npt.NDArray[np.int32] | None = field(default=None, repr=False)  # (T,)
    cls_scale: npt.NDArray[np.float32] | None = field(default=None, repr=False)  # (N,), int8 alone
    tokens_scale: npt.NDArray[np.float32] | None = field(default=None, repr=False)  # (T,), int8 alone

    @property
    def width(self) -> int:
        """D, the number of values in an item's vector."""
        return int(self.raw_cls.shape[1])

    @property
    def token_width(self) -> int:
        """W, the number of values in a token's embedding: D in files of versions 1 and 2."""
        return int(self.raw_tokens.shape[1])

    @property
    def has_cls_position(self) -> bool:
        """Whether the encoder has a CLS position, which tokens leave out; else tokens are all its positions."""
        return self.record.get(CLS_POSITION) is not False

    @property
    def stored_as_floats(self) -> bool:
        """Whether numpy and PyTorch read the stored numbers as they are: neither bfloat16's bits nor int8 steps."""
        return self.dtype in ("float16", "float32")

    @cached_property
    def cls(self) -> npt.NDArray[Any]:
        """(N, D) vectors of items: a view of the file for float16 and float32, else a float32 copy, made once."""
        if self.stored_as_floats:
            return self.raw_cls
        converted = self.read("cls", 0, len(self.raw_cls))
        converted.flags.writeable = False
        return converted

    @cached_property
    def tokens(self) -> npt.NDArray[Any] | Float32Rows:
        """(T, W) token embeddings of all items: a view of the file for float16 and float32.

        For bfloat16 and int8 it converts only the rows that are indexed: all of them may be more than memory holds.
        """
        return self.raw_tokens if self.stored_as_floats else Float32Rows(self.raw_tokens, self.dtype, self.tokens_scale)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What decides the embeddings: weights, preprocessing, layer, precision. Equal fingerprints, equal meaning."""
        fingerprint: Mapping[str, Any] = self.record["fingerprint"]
        return fingerprint

    @property
    def pending(self) -> npt.NDArray[np.bool_]:
        """(N,) True where the row is not written yet, or only half: its checksum, which comes last, is still 0."""
        waiting: npt.NDArray[np.bool_] = (self.status == Status.PENDING) | (self.checksum == 0)
        return waiting

    @property
    def has_embedding(self) -> npt.NDArray[np.bool_]:
        """(N,) True where the item has a real embedding; elsewhere its cls and tokens are NaN (or not written yet)."""
        embedded: npt.NDArray[np.bool_] = (self.status == Status.OK) | (self.status == Status.TRUNCATED)
        return embedded & ~self.pending

    def tokens_of(self, row: int) -> npt.NDArray[Any]:
        """The item's token embeddings, (T_i, W): a view for float16 and float32, else a float32 copy.

        Raises IndexError where there is no such row.
        """
        raw = self.raw_tokens_of(row)
        return raw if self.stored_as_floats else self.read_tokens(row)

    def raw_tokens_of(self, row: int) -> npt.NDArray[Any]:
        """The item's tokens as they are stored, (T_i, W), a view. Raises IndexError where there is no such row."""
        if not 0 <= row < len(self.status):
            raise IndexError(f"expected a row from 0 to {len(self.status) - 1}, received {row}")
        return self.raw_tokens[self.offsets[row] : self.offsets[row + 1]]

    def read_cls(self, row: int) -> npt.NDArray[np.float32]:
        """The item's vector, (D,) float32, whatever it is stored as."""
        one: npt.NDArray[np.float32] = self.read("cls", row, row + 1)[0]
        return one

    def read_tokens(self, row: int) -> npt.NDArray[np.float32]:
        """The item's token embeddings, (T_i, W) float32, whatever they are stored as."""
        return self.read("tokens", int(self.offsets[row]), int(self.offsets[row + 1]))

    def read(self, part: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Embeddings `start` to `stop` of "cls" or "tokens", (K, D) float32, whatever they are stored as."""
        values, scale = (self.raw_cls, self.cls_scale) if part == "cls" else (self.raw_tokens, self.tokens_scale)
        if scale is None:
            return as_float32(values[start:stop], self.dtype)
        return dequantised(values[start:stop], scale[start:stop])

    def scales_of(self, row: int) -> npt.NDArray[np.float32] | None:
        """The item's scales, CLS first, (1 + T_i,) float32, where embeddings are int8; else None."""
        if self.cls_scale is None or self.tokens_scale is None:
            return None
        tokens = self.tokens_scale[self.offsets[row] : self.offsets[row + 1]]
        return np.concatenate((self.cls_scale[row : row + 1], tokens))

    def gather(
        self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The tokens of `rows` one after another, (sum T_i, W), and their offsets, (len(rows) + 1,).

        float16 and float32 come as they are stored, bfloat16 and int8 as float32.
        With `out` (at least that many rows of width W, same dtype) its front part is filled and returned: no memory is
        taken. What an earlier call returned is the fastest `out`, for it is aligned as the file is. Raises ValueError
        where it does not fit, or where a row does not exist (-1 as `find` says it).
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(self.status):
            raise ValueError(f"expected rows from 0 to {len(self.status) - 1}, received {rows.min()} to {rows.max()}")
        starts, stops = self.offsets[rows], self.offsets[rows + 1]
        offsets = np.concatenate(([0], np.cumsum(stops - starts)))
        total = int(offsets[-1])
        dtype = self.raw_tokens.dtype if self.stored_as_floats else np.dtype(np.float32)
        if out is None:
            out = _aligned((total, self.token_width), dtype)
        if len(out) < total or out.shape[1:] != (self.token_width,) or out.dtype != dtype:
            expected = f"at least ({total}, {self.token_width}) {dtype}"
            raise ValueError(f"expected a buffer of {expected}, received {out.shape} {out.dtype}")
        for start, stop, at in zip(starts.tolist(), stops.tolist(), offsets[:-1].tolist(), strict=True):
            place = out[at : at + stop - start]
            if self.tokens_scale is not None:
                np.multiply(self.raw_tokens[start:stop], self.tokens_scale[start:stop, None], place, dtype=np.float32)
            elif self.dtype == "bfloat16":
                np.left_shift(self.raw_tokens[start:stop], 16, place.view(np.uint32), dtype=np.uint32)
            else:
                place[...] = self.raw_tokens[start:stop]
        return out[:total], offsets


def _aligned(shape: tuple[int, int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An empty array aligned as datasets are: from where `np.empty` puts one, copies took a fifth longer."""
    length = shape[0] * shape[1] * dtype.itemsize
    place = np.empty(length + ALIGNMENT, np.uint8)
    start = -place.ctypes.data % ALIGNMENT
    return place[start : start + length].view(dtype).reshape(shape)
