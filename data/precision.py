"""Embeddings in another number format: float32, float16, bfloat16, and int8 with a scale for each embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .header import QUANTISED, STORAGE_DTYPES

DTYPES: Final = (*STORAGE_DTYPES, QUANTISED)
_TOO_LARGE_FOR_HALF = 65520  # rounds to 2^16
_LARGEST = 127  # of int8: symmetric, so that a vector and its negative have the same length


def rounded(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """(…) float32 to the nearest values of float `dtype`, ties to even; bfloat16 as its uint16 bits.

    What is too large becomes infinite, as IEEE 754 has it.
    """
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        nearest = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)
        return np.where(np.isnan(values), np.uint16(0x7FC0), nearest)
    return _half(values) if dtype == "float16" else values


def _half(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """(…) float32 to the nearest float16, ties to even: what `astype` gives, in about 0.6 of its time.

    A power of two 2^13 times as large as a value's own is added to it: float32's rounding then drops just the bits that
    float16 has no room for (below 2^-14, where float16's steps stay the same, the power stays too). The power carries
    float16's exponent in its own last bits, so that the sum ends in the bits of the result.
    """
    magnitude = np.abs(values)
    if not magnitude.max(initial=0) < _TOO_LARGE_FOR_HALF:  # or NaN: rare, and left to numpy
        with np.errstate(over="ignore"):
            return values.astype("<f2")
    bits = values.view(np.uint32)
    power = np.maximum(bits & np.uint32(0x7F800000), np.uint32(113 << 23))  # 113: the exponent of 2^-14
    power += power >> np.uint32(13)
    power += np.uint32((13 << 23) - (113 << 10))
    magnitude += power.view(np.float32)
    half = magnitude.view(np.uint32).astype(np.uint16)
    np.bitwise_and(bits >> np.uint32(16), np.uint32(0x8000), out=power)  # the sign
    half |= power.astype(np.uint16)
    return half.view("<f2")


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
    told = {key: value for key, value in fingerprint.items() if key not in ("dtype", "rounded")}
    order = {key: told.get(key, dtype) for key in fingerprint if key != "rounded"} | {"dtype": dtype}
    return order | ({"rounded": before} if before else {})
