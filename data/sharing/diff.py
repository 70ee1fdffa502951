"""How two embedding files differ: items in one alone, rows that are not the same, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.fingerprints import differences
from ..embeddings.format.header import MODALITIES
from ..embeddings.modality import Modality
from ..embeddings.status import Reason, Status
from ..runtime.errors import BadInput

_VALUES = 2**21  # compared at once


@dataclass(frozen=True)
class RowDifference:
    """One item whose rows differ. Where embeddings can be compared: the largest absolute difference of two values, and
    the smallest cosine of two embeddings (CLS or token, each with its own)."""

    item: int | str
    modality: str
    what: str
    max_abs: float | None = None
    cosine: float | None = None


@dataclass(frozen=True)
class Difference:
    """How a file differs from another. `rows` are in the order of the first file, text before image."""

    files: tuple[Path, Path]
    only_in: tuple[list[Any], list[Any]]
    modalities_only_in: tuple[list[str], list[str]]
    fingerprints: Mapping[str, list[str]]
    compared: Mapping[str, int]
    rows: list[RowDifference] = field(repr=False)
    same_order: bool = True

    @property
    def equal(self) -> bool:
        """Whether both say the same of the same items, in the same order."""
        lists = (*self.only_in, *self.modalities_only_in, self.rows)
        return self.same_order and not any(lists) and not any(self.fingerprints.values())

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "files": [str(path) for path in self.files],
            "equal": self.equal,
            "same_order": self.same_order,
            "only_in": [[_plain(item) for item in items] for items in self.only_in],
            "modalities_only_in": list(self.modalities_only_in),
            "fingerprints": dict(self.fingerprints),
            "compared": dict(self.compared),
            "differ": {name: sum(row.modality == name for row in self.rows) for name in self.compared},
            "rows": [vars(row) for row in self.rows],
        }


def diff(first: Path, second: Path, progress: Callable[[int], None] = lambda _: None) -> Difference:
    """Compare two embedding files, finished or not, item by item.

    Rows of one dtype whose checksums agree are taken for the same without being read: `verify` checks whether a file is
    what its checksums say. `progress` gets the number of rows compared each time. Raises BadInput where one has ids of
    numbers and the other of text, DamagedFile where a file cannot be opened.
    """
    with EmbeddingFile.open(first, pending=True) as one, EmbeddingFile.open(second, pending=True) as other:
        if one.ids.dtype.kind != other.ids.dtype.kind:
            raise BadInput(f"{first} and {second}: the ids of one are numbers, of the other text: no item is in both")
        theirs = other.find(one.ids)
        both = np.flatnonzero(theirs >= 0)
        back = one.find(other.ids)
        shared = [name for name in MODALITIES if name in one.modalities and name in other.modalities]
        rows: list[RowDifference] = []
        for name in shared:
            rows += _rows(one, other, name, both, theirs[both], progress)
        return Difference(
            files=(first, second),
            only_in=(one.ids[theirs < 0].tolist(), other.ids[back < 0].tolist()),
            modalities_only_in=(
                [name for name in one.modalities if name not in shared],
                [name for name in other.modalities if name not in shared],
            ),
            fingerprints={name: differences(one[name].fingerprint, other[name].fingerprint) for name in shared},
            compared={name: len(both) for name in shared},
            rows=rows,
            same_order=bool((np.diff(theirs[both]) > 0).all()),
        )


def _rows(
    one: EmbeddingFile,
    other: EmbeddingFile,
    name: str,
    rows: npt.NDArray[np.intp],
    theirs: npt.NDArray[np.int64],
    progress: Callable[[int], None],
) -> list[RowDifference]:
    a, b = one[name], other[name]
    same_input = (a.digest[rows] == b.digest[theirs]).all(1)
    same_length = np.diff(a.offsets)[rows] == np.diff(b.offsets)[theirs]
    alike = (a.status[rows] == b.status[theirs]) & (a.reason[rows] == b.reason[theirs])
    alike &= a.pending[rows] == b.pending[theirs]
    # without an embedding on either side there is nothing more to compare, whatever the dtype of the NaNs
    nothing = ~(a.has_embedding[rows] | b.has_embedding[theirs])
    unchanged = (a.checksum[rows] == b.checksum[theirs]) & (a.dtype == b.dtype)
    same = same_input & same_length & alike & (nothing | unchanged)
    progress(int(same.sum()))
    found, read = [], 0
    for place in np.flatnonzero(~same).tolist():
        row, their = int(rows[place]), int(theirs[place])
        what = _what(a, b, row, their, bool(same_input[place]), bool(same_length[place]))
        max_abs = cosine = None
        if a.has_embedding[row] and b.has_embedding[their] and same_length[place] and _widths(a) == _widths(b):
            max_abs, cosine = _apart(a, b, row, their)
        found += [RowDifference(_plain(one.ids[row]), name, what, max_abs, cosine)] if what or max_abs != 0 else []
        progress(1)
        read += a.width + (a.offsets[row + 1] - a.offsets[row]) * a.token_width
        if read > _VALUES:
            read = 0
            one.forget()
            other.forget()
    return found


def _what(a: Modality, b: Modality, row: int, their: int, same_input: bool, same_length: bool) -> str:
    reasons = []
    states = [_state(modality, at) for modality, at in ((a, row), (b, their))]
    if not same_input:
        reasons.append("another input")
    if states[0] != states[1]:
        reasons.append(f"{states[0]}, {states[1]}")
    if not same_length:
        reasons.append(f"{a.offsets[row + 1] - a.offsets[row]:,} tokens, {b.offsets[their + 1] - b.offsets[their]:,}")
    if a.width != b.width:
        reasons.append(f"{a.width} wide, {b.width}")
    elif a.token_width != b.token_width:
        reasons.append(f"tokens {a.token_width} wide, {b.token_width}")
    return "; ".join(reasons)


def _widths(modality: Modality) -> tuple[int, int]:
    return modality.width, modality.token_width


def _state(modality: Modality, row: int) -> str:
    if modality.pending[row]:
        return "pending"
    status, reason = int(modality.status[row]), int(modality.reason[row])
    named = Status(status).name.lower() if status <= max(Status) else str(status)
    because = Reason(reason).name.lower() if reason <= max(Reason) else str(reason)
    return named if reason == Reason.NONE else f"{named} ({because})"


def _apart(a: Modality, b: Modality, row: int, their: int) -> tuple[float, float]:
    """The largest absolute difference of the values of two rows, and the smallest cosine of their embeddings."""
    max_abs, cosine = _of_pairs(a.read("cls", row, row + 1), b.read("cls", their, their + 1))
    ours, others = a.read_tokens(row), b.read_tokens(their)
    at_once = max(1, _VALUES // a.token_width)
    for start in range(0, len(ours), at_once):
        further = _of_pairs(ours[start : start + at_once], others[start : start + at_once])
        max_abs, cosine = max(max_abs, further[0]), min(cosine, further[1])
    return max_abs, cosine


def _of_pairs(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> tuple[float, float]:
    if np.array_equal(ours, theirs):
        return 0.0, 1.0
    dot, x, y = (
        np.einsum("ij,ij->i", a, b, dtype=np.float64) for a, b in ((ours, theirs), (ours, ours), (theirs, theirs))
    )
    lengths = np.sqrt(x * y)
    cosines = np.where(lengths > 0, dot / np.where(lengths > 0, lengths, 1.0), np.where(x == y, 1.0, 0.0))
    return float(np.abs(ours - theirs).max(initial=0)), float(cosines.min(initial=1))


def _plain(value: Any) -> int | str:
    item: int | str = value.item() if isinstance(value, np.generic) else value
    return item
