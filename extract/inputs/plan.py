"""The plan of one modality, made before any model loads: token ids, digests, statuses, and the batches that will run.

The plan depends on the catalogue and the settings alone. A resumed job therefore runs the same batches, and padding,
kernel choice and rounding come out the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.embeddings.format.header import item_size
from ...data.embeddings.format.layout import ModalityLayout
from ...data.embeddings.status import Status


@dataclass(frozen=True)
class ModalityPlan:
    """One modality of a catalogue of N items, ready to be laid out.

    `status` and `reason` (N,) are the outcomes as far as they are known now; `lengths` (N,) counts token rows, the CLS
    position, where the encoder has one, not among them; `digest` (N, 32) is the SHA-256 of the inputs; `batch` (N,) the
    number of the batch that encodes an item, -1 for none. Text has `input_ids` (sum of lengths,) and the ids that frame
    them. `width` is that of an item's vector, `token_width` that of a token, where it is another.
    """

    name: str
    width: int
    status: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]
    digest: npt.NDArray[np.uint8]
    batch: npt.NDArray[np.int32]
    input_ids: npt.NDArray[np.int32] | None = None
    cls_id: int = 0
    pad_id: int = 0
    keeps_tokens: bool = True
    has_cls: bool = True
    token_width: int | None = None

    @property
    def stored_lengths(self) -> npt.NDArray[np.int64]:
        """(N,) Rows of tokens that the file keeps of each item: none where only CLS is kept."""
        return self.lengths if self.keeps_tokens else np.zeros_like(self.lengths)

    @property
    def positions_of(self) -> npt.NDArray[np.int64]:
        """(N,) Positions that the encoder reads of each item."""
        return self.lengths + int(self.has_cls)

    @property
    def encodable(self) -> npt.NDArray[np.bool_]:
        """(N,) True where there is an input that an encoder can read."""
        readable: npt.NDArray[np.bool_] = (self.status == Status.OK) | (self.status == Status.TRUNCATED)
        return readable

    @cached_property
    def distinct(self) -> npt.NDArray[np.int64]:
        """The first row of each distinct encodable input, ascending: what the encoder runs over."""
        return self._first_of_each(self.encodable)

    @cached_property
    def batched(self) -> npt.NDArray[np.int64]:
        """The first row in a batch of each distinct input, ascending; an equal row before it may be in none."""
        return self._first_of_each(self.encodable & (self.batch >= 0))

    def _first_of_each(self, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        rows = np.flatnonzero(among)
        _, first = np.unique(self.digest[rows], axis=0, return_index=True)
        return np.sort(rows[first])

    @property
    def positions(self) -> int:
        """Token positions the encoder reads, CLS included, each distinct input once, without padding."""
        return int(self.positions_of[self.distinct].sum())

    @property
    def padding(self) -> float:
        """The share of padding among all positions of all batches."""
        lengths, numbers = self.positions_of[self.batched], self.batch[self.batched]
        if not lengths.size:
            return 0.0
        longest = np.zeros(numbers.max() + 1, np.int64)
        np.maximum.at(longest, numbers, lengths)
        return 1 - float(lengths.sum() / longest[numbers].sum())

    def layout(self, record: Mapping[str, Any], dtype: str) -> ModalityLayout:
        """The layout of this modality in a file that stores `dtype` and calls it `record`."""
        ids = self.input_ids if self.keeps_tokens or self.input_ids is None else self.input_ids[:0]
        return ModalityLayout(
            record, self.width, dtype, self.stored_lengths, self.digest, self.batch, ids, self.token_width
        )

    def stored_bytes(self, dtype: str, rows: npt.NDArray[np.bool_] | None = None) -> int:
        """Bytes of cls and tokens in the file, of all items or of `rows` (N,)."""
        lengths = self.stored_lengths if rows is None else self.stored_lengths[rows]
        values = len(lengths) * self.width + int(lengths.sum()) * (self.token_width or self.width)
        return values * item_size(dtype)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """(N + 1,) Where the token ids of each item begin in `input_ids`, and where the last ones end."""
        return np.concatenate(([0], np.cumsum(self.lengths)))

    def taking(self, rows: npt.NDArray[np.int64]) -> ModalityPlan:
        """The plan of these `rows` (K,) alone, in their order."""
        ids = self.input_ids
        if ids is not None:
            ids = np.concatenate([ids[self.starts[row] : self.starts[row + 1]] for row in rows.tolist()])
        return replace(
            self,
            status=self.status[rows],
            reason=self.reason[rows],
            lengths=self.lengths[rows],
            digest=self.digest[rows],
            batch=self.batch[rows],
            input_ids=ids,
        )

    def without(self, rows: npt.NDArray[np.bool_], cut: Callable[[ModalityPlan], ModalityPlan]) -> ModalityPlan:
        """This plan with batches, made by `cut`, only for those encodable items that are not among `rows` (N,)."""
        fewer = cut(replace(self, status=np.where(rows, np.uint8(Status.MISSING), self.status)))
        return replace(self, batch=fewer.batch)


def chunks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The values in lists of ``size``, the last one perhaps shorter."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
