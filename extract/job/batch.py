"""One batch: its inputs are loaded and encoded together, and its rows are written, those that failed as absent."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...data.embeddings.ids import IdArray
from ...data.embeddings.rows import Row
from ...data.embeddings.status import Reason, Status
from ...data.runtime.errors import BadInput
from ..inputs.plan import ModalityPlan
from ..inputs.poster_files import PosterProblem
from ..models.embedded import Stored, encode_for_storage
from .feeds import Feed, Loading, PosterFeed


@dataclass(frozen=True)
class Batch:
    """Inputs that are encoded together: where they stand in `plan` and `feed`, and their `rows` in the file, (K,) each.

    `wanted` (K,) says which of the rows are to be written. A plan of a whole catalogue has equal `places` and `rows`.
    Where `items` (K,) are given, the first input that fails ends the job, and is named.
    """

    plan: ModalityPlan
    feed: Feed
    places: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    wanted: npt.NDArray[np.bool_]
    items: IdArray | None = None

    def load(self, pool: ThreadPoolExecutor) -> Loading:
        """Begin to load each distinct input among them."""
        _, first = np.unique(self.plan.digest[self.places], axis=0, return_index=True)
        places = self.places[np.sort(first)].tolist()
        begun = self.feed.begin(places) if isinstance(self.feed, PosterFeed) else None
        return begun if begun is not None else {place: pool.submit(self.feed.load, place) for place in places}

    def encode(self, loading: Loading, dtype: str) -> Encoded:
        """Wait for the inputs and encode them, for storage as `dtype`. Raises BadInput where `items` says so."""
        good: dict[int, npt.NDArray[Any]] = {}
        failed: dict[int, PosterProblem] = {}
        for place, future in loading.items():
            try:
                good[place] = future.result()
            except PosterProblem as problem:
                failed[place] = problem
        if self.items is not None and failed:
            place, first = next(iter(failed.items()))
            item = self.items[self.places == place][0]
            raise BadInput(f"{self.plan.name} of item {item}: {first.reason.sentence} (--strict)")
        return Encoded(self, list(good), encode_for_storage(self.feed.encode, list(good.values()), dtype), failed)


@dataclass(frozen=True)
class Encoded:
    """A batch behind its encoder: `encoded` are the places whose inputs it read, `failed` those it could not."""

    batch: Batch
    encoded: list[int]
    stored: Stored | None
    failed: dict[int, PosterProblem]

    def write(self, put: Callable[[Row], None]) -> tuple[int, int, int]:
        """Hand every wanted row to `put`. Gives the items written, encoder positions and bytes."""
        plan, batch = self.batch.plan, self.batch
        values, finite, vectors = self._on_host()
        skip = 1 if self.stored is None else self.stored.skip
        index = {plan.digest[place].tobytes(): number for number, place in enumerate(self.encoded)}
        problems = {plan.digest[place].tobytes(): problem.reason for place, problem in self.failed.items()}
        written = 0
        for place, row in zip(batch.places[batch.wanted].tolist(), batch.rows[batch.wanted].tolist(), strict=True):
            digest = plan.digest[place].tobytes()
            if digest in problems:
                put(Row(row, None, Status.FAILED, problems[digest]))
                continue
            number = index[digest]
            length = skip + int(plan.lengths[place])
            embedding = values[number, :length]  # (1 + T_i, D), (T_i, D) without a CLS
            vector = embedding[0] if vectors is None else vectors[number]
            if not finite[number, :length].all() or not _is_finite(vector):
                put(Row(row, None, Status.FAILED, Reason.NOT_FINITE))
                continue
            status, reason = Status(plan.status[place]), Reason(plan.reason[place])
            tokens = embedding[skip : skip + int(plan.stored_lengths[place])]  # (T_i, D), or none
            put(Row(row, (vector, tokens), status, reason))
            written += vector.nbytes + tokens.nbytes
        positions = int(plan.positions_of[self.encoded].sum()) if self.encoded else 0
        return int(batch.wanted.sum()), positions, written

    def _on_host(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], npt.NDArray[Any] | None]:
        if self.stored is None:
            return np.empty((0, 0, 0)), np.empty((0, 0), np.bool_), None
        self.stored.ready()
        vectors = self.stored.vectors
        return (
            _as_numpy(self.stored.values),
            self.stored.finite.numpy(),
            None if vectors is None else _as_numpy(vectors),
        )


def _as_numpy(values: torch.Tensor) -> npt.NDArray[Any]:
    # numpy has no bfloat16: its bits
    return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()


def _is_finite(vector: npt.NDArray[Any]) -> bool:
    if vector.dtype == np.uint16:  # the bits of bfloat16, all of whose exponent are ones in what is not finite
        return bool(((vector & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(vector).all())
