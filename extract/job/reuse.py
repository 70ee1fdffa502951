"""Rows that another embedding file already holds are copied, not encoded again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.fingerprints import differences as differences
from ...data.embeddings.modality import Modality
from ...data.embeddings.rows import RowWriter, row_checksum
from ...data.embeddings.status import Reason, Status
from ..inputs.plan import ModalityPlan


@dataclass(frozen=True)
class Reusable:
    """For each item of a plan, the row of `old` that holds its embedding, (N,) int64, -1 for none."""

    old: EmbeddingFile
    rows: npt.NDArray[np.int64]

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """(N,) True where there is something to copy."""
        return self.rows >= 0


def find_reusable(old: EmbeddingFile, plan: ModalityPlan) -> Reusable:
    """Match the plan's inputs with intact rows of `old` by digest. The caller has compared the fingerprints."""
    modality = old[plan.name]
    rows = np.full(len(plan.status), -1, np.int64)
    known: dict[bytes, int] = {}
    wanted = {plan.digest[row].tobytes() for row in np.flatnonzero(plan.encodable).tolist()}
    for row in np.flatnonzero(modality.has_embedding).tolist():
        digest = modality.digest[row].tobytes()
        if digest in wanted and digest not in known and _intact(modality, row):
            known[digest] = row
    for row in np.flatnonzero(plan.encodable).tolist():
        candidate = known.get(plan.digest[row].tobytes(), -1)
        # a file that keeps no tokens can serve one that keeps none, a whole file both
        if candidate >= 0 and len(modality.raw_tokens_of(candidate)) in {plan.lengths[row], plan.stored_lengths[row]}:
            rows[row] = candidate
    return Reusable(old, rows)


def copy_rows(
    source: Reusable,
    file: EmbeddingFile,
    plan: ModalityPlan,
    wanted: npt.NDArray[np.bool_],
    advance: Callable[[int], None],
) -> int:
    """Copy what `source` has of the `wanted` rows (N,) into `file`; returns how many rows that were."""
    old = source.old[plan.name]
    rows = np.flatnonzero(wanted & source.found).tolist()
    with RowWriter(file) as writer:
        for row in rows:
            at = int(source.rows[row])
            status, reason = Status(plan.status[row]), Reason(plan.reason[row])
            tokens = old.raw_tokens_of(at)[: plan.stored_lengths[row]]
            writer.write(plan.name, row, old.raw_cls[at], tokens, status, reason)
            advance(row)
    return len(rows)


def _intact(modality: Modality, row: int) -> bool:
    checksum = row_checksum(
        modality.raw_cls[row], modality.raw_tokens_of(row), int(modality.status[row]), int(modality.reason[row])
    )
    return checksum == int(modality.checksum[row])
