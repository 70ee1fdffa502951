"""A slice: the share of one machine among several that fill part files of one plan, each on its own."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...data.runtime.errors import UsageError

_WRITTEN = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class Slice:
    """The `number`-th of `count` slices, counted from 1.

    Every slice plans the whole catalogue and lays out the whole file, so all part files have one header. Batches are
    dealt in turn: the longest texts come first, and each slice gets as many of them as any other.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, words: str) -> Slice:
        """Read ``3/16``. Raises UsageError for anything else."""
        match = _WRITTEN.fullmatch(words)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"--slice: expected K/N with K from 1 to N, such as 3/16, found {words}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def rows(self, batch: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """(N,) True for the rows of this slice, by their `batch` (N,). Rows without a batch are dealt one by one."""
        dealt = np.where(batch >= 0, batch, np.arange(len(batch)))
        mine: npt.NDArray[np.bool_] = dealt % self.count == self.number - 1
        return mine
