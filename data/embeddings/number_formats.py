"""Embeddings in another number format: float32, float16, bfloat16, and int8 with a scale for each embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .format.header import QUANTISED, STORAGE_DTYPES

DTYPES: Final = (*STORAGE_DTYPES, QUANTISED)
_LARGEST = 127  # of int8: symmetric, so that a vector and its negative have the same length


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The little-endian numpy dtype that holds `dtype` (a header's spelling); bfloat16 as its uint16 bits."""
    if dtype.startswith("S"):
        return np.dtype(dtype)
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")


def rounded(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """(…) float32 to the nearest values of float `dtype`, ties to even; bfloat16 as its uint16 bits.

    What is too large becomes infinite, as IEEE 754 has it.
    """
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        nearest = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)
        return np.where(np.isnan(values), np.uint16(0x7FC0), nearest)
    # one call, not a dozen faster ones: threads that share the work would wait for the interpreter between them
    with np.errstate(over="ignore"):
        return values.astype("<f2") if dtype == "float16" else values


def infinite(stored: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.bool_]:
    """Where an array as `rounded` gives it is infinite."""
    found: npt.NDArray[np.bool_]
    if dtype == "float32":
        found = np.isinf(stored)
    else:  # by its bits: several times faster than numpy asks its half-precision floats
        found = (stored.view(np.uint16) & 0x7FFF) == (0x7F80 if dtype == "bfloat16" else 0x7C00)
    return found


def quantised(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """(K, D) float32 to (K, D) int8 from -127 to 127 and (K,) float32 scales: largest magnitude / 127.

    The error of a value is at most half its row's scale. A row of zeros has scale 0; one of NaN is 0 with scale NaN.
    """
    scale = (np.abs(values).max(axis=1, initial=0) / np.float32(_LARGEST)).astype("<f4")
    divisor = np.where((scale > 0) & np.isfinite(scale), scale, np.float32(1))
    steps = values / divisor[:, None]
    np.rint(steps, out=steps)
    steps[np.isnan(scale)] = 0
    np.clip(steps, -_LARGEST, _LARGEST, out=steps)
    return steps.astype(np.int8), scale


def dequantised(values: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(K, D) int8 times (K,) float32, as float32: what int8 embeddings mean."""
    product: npt.NDArray[np.float32] = np.multiply(values, scale[:, None], dtype=np.float32)
    return product


def as_float32(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """`values` as read from an array stored as `dtype`, converted to float32 (exact for all three float dtypes).

    Raises ValueError for int8, which means nothing without its scales: `Modality.read_cls`, `read_tokens`, `gather`.
    """
    if dtype == QUANTISED:
        raise ValueError("int8 embeddings need their scales: read them with read_cls, read_tokens or gather")
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


class Float32Rows(np.lib.mixins.NDArrayOperatorsMixin):
    """An array stored as bfloat16 or int8, (K, D), that reads as float32: only the rows that are indexed are converted.

    It indexes along its first axis as a numpy array does, and `np.asarray` converts all of it.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, stored: npt.NDArray[Any], dtype: str, scale: npt.NDArray[np.float32] | None = None) -> None:
        self._stored, self._dtype, self._scale = stored, dtype, scale
        self.shape: tuple[int, ...] = stored.shape
        self.size, self.nbytes = stored.size, stored.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, key: Any) -> Any:
        first, *others = key if isinstance(key, tuple) and key else (key,)
        if first is None or first is Ellipsis or (others and any(part is None or part is Ellipsis for part in others)):
            return np.asarray(self)[key]
        stored = self._stored[first]
        rows = np.atleast_2d(stored)
        if self._scale is None:
            found = as_float32(rows, self._dtype)
        else:
            found = dequantised(rows.reshape(-1, self.shape[1]), np.atleast_1d(self._scale[first]).reshape(-1))
        found = found.reshape(stored.shape)
        whole = (slice(None),) * (stored.ndim - 1)
        return found[(*whole, *others)] if others else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("expected leave to copy: float32 is not what is stored")
        converted: npt.NDArray[Any] = self[:]
        return converted if dtype is None else converted.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = (np.asarray(value) if isinstance(value, Float32Rows) else value for value in inputs)
        return getattr(ufunc, method)(*arrays, **options)

    def __repr__(self) -> str:
        return f"Float32Rows({self.shape}, stored as {self._dtype})"


def converted_fingerprint(fingerprint: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """The fingerprint of embeddings now stored as `dtype`.

    Where that is what an extraction with this dtype gives (the values were rounded to it and to nothing else), it is
    that extraction's; else `rounded` lists the other dtypes that they went through: float16 made float32 is no float32.
    """
    earlier = fingerprint.get("rounded")
    path = [*(earlier if isinstance(earlier, list) else []), fingerprint.get("dtype"), dtype]
    lossy: list[Any] = []
    for step in path:
        if step != "float32" and step not in lossy[-1:]:
            lossy.append(step)
    before = lossy if dtype == "float32" else lossy[:-1]
    kept = {key: value for key, value in fingerprint.items() if key not in ("dtype", "rounded")}
    order = {key: kept.get(key, dtype) for key in fingerprint if key != "rounded"} | {"dtype": dtype}
    return order | ({"rounded": before} if before else {})
