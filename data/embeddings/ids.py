"""Items' ids, as the source gives them and as an embedding file stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.errors import BadInput
from ..runtime.untrusted_text import shown
from .format.header import LONGEST_ID

IdArray = npt.NDArray[np.int64] | npt.NDArray[np.str_]


def as_stored(
    ids: Sequence[Any] | npt.NDArray[Any], dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """`ids` in the stored `dtype`, and where they can be ids of such a file at all."""
    # a list becomes objects first: [7, "a"] must not turn into ["7", "a"]
    wanted = ids if isinstance(ids, np.ndarray) else np.array(ids, dtype=object)
    if dtype.kind == "i" and wanted.dtype.kind in "iu":
        return wanted.astype(np.int64), wanted <= np.iinfo(np.int64).max
    if wanted.dtype.kind not in "OUT":
        return np.zeros(wanted.shape, dtype), np.zeros(wanted.shape, np.bool_)
    stored, possible = np.zeros(wanted.shape, dtype), np.zeros(wanted.shape, np.bool_)
    for place, value in enumerate(wanted.tolist()):
        fitting = _integer(value) if dtype.kind == "i" else _text(value, dtype.itemsize)
        if fitting is not None:
            stored[place], possible[place] = fitting, True
    return stored, possible


def _integer(value: object) -> int | None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        return None
    return int(value) if -(2**63) <= int(value) < 2**63 else None


def _text(value: object, longest: int) -> bytes | None:
    encoded = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b""
    # numpy drops NULs at the end, so "a\0" would be found where "a" is
    return encoded if 0 < len(encoded) <= longest and b"\0" not in encoded else None


def stored_ids(ids: IdArray) -> npt.NDArray[Any]:
    """`ids` (N,) as the format stores them: int64, or UTF-8 padded with NUL. Raises BadInput where it cannot."""
    if len(ids) == 0:
        raise BadInput("expected at least one item to lay out an embedding file for, found none")
    if ids.dtype.kind in "iu":
        if ids.max() > np.iinfo(np.int64).max:
            raise BadInput(f"expected ids that fit 64 bits with a sign, found {ids.max()}")
        stored: npt.NDArray[Any] = np.ascontiguousarray(ids, "<i8")
    elif ids.dtype.kind not in "OUT":
        raise BadInput(f"expected ids that are text or whole numbers of 64 bits, found {ids.dtype}")
    else:
        stored = _encoded_ids(ids.tolist())
    values, counts = np.unique(stored, return_counts=True)
    if len(values) != len(stored):
        raise BadInput(f"expected each id once, found {shown(values[counts > 1][0])} {counts.max()} times")
    return stored


def _encoded_ids(ids: list[Any]) -> npt.NDArray[np.bytes_]:
    encoded = [_text(value, LONGEST_ID) for value in ids]
    for value, found in zip(ids, encoded, strict=True):
        if found is None or not _is_unicode(value):
            raise BadInput(f"expected ids of 1 to {LONGEST_ID} bytes of UTF-8 without NUL, found {str(value)[:60]!r}")
    return np.array(encoded, dtype=f"S{max(len(found or b'') for found in encoded)}")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
