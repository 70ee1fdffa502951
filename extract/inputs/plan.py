"""What there is to encode, before any model loads: token ids, digests, statuses, and the batches that will run.

The plan depends on the catalogue and the settings alone. A resumed job therefore runs the same batches, and padding,
kernel choice and rounding come out the same to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...data.embeddings.format.header import item_size
from ...data.embeddings.format.layout import ModalityLayout
from ...data.embeddings.status import Reason, Status
from ...data.runtime.errors import BadInput
from ...data.runtime.processor import usable_cores
from .poster_files import PosterLimits, PosterProblem, read_poster
from .poster_header import checked_format

_TEXTS_AT_A_TIME, _POSTERS_AT_A_TIME = 512, 64
MOST_PADDING = 0.05


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


def plan_text(
    texts: Iterable[str | None],
    tokenizer: Any,
    *,
    width: int,
    max_length: int,
    progress: Callable[[int], None],
    prompt: str = "",
    has_cls: bool = True,
    token_width: int | None = None,
) -> ModalityPlan:
    """Tokenise `texts` (None: the item has none), at most `max_length` positions each; `cut_text` makes the batches.

    `prompt` is put in front of every text. Raises BadInput where the tokenizer puts no CLS token in front, unless
    without `has_cls`, when every position is a token.
    """
    bare = int(tokenizer.num_special_tokens_to_add())
    if prompt:
        bare += len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    status, reason, lengths, digests, pieces = [], [], [], [], []
    for chunk in _chunks(texts, _TEXTS_AT_A_TIME):
        given = [prompt + text for text in chunk if text is not None]
        tokenised = iter(_tokenise(given, tokenizer, max_length, has_cls))
        for text in chunk:
            ids, cut = next(tokenised) if text is not None else (np.empty(0, np.int32), False)
            outcome = _text_outcome(text, len(ids) + has_cls > bare, cut)
            status.append(outcome[0])
            reason.append(outcome[1])
            kept = ids if outcome[0] in (Status.OK, Status.TRUNCATED) else ids[:0]
            lengths.append(len(kept))
            pieces.append(kept)
            digests.append(hashlib.sha256(_utf8(text)).digest() if len(kept) else bytes(32))
        progress(len(chunk))
    return ModalityPlan(
        name="text",
        width=width,
        status=np.array(status, np.uint8),
        reason=np.array(reason, np.uint8),
        lengths=np.array(lengths, np.int64),
        digest=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        batch=np.full(len(status), -1, np.int32),
        input_ids=np.concatenate(pieces) if pieces else np.empty(0, np.int32),
        cls_id=int(tokenizer.cls_token_id) if has_cls else 0,
        pad_id=int(tokenizer.pad_token_id or 0),
        has_cls=has_cls,
        token_width=token_width,
    )


class Probed(NamedTuple):
    """What is known of some posters, one after another: a byte of status and reason each, and 32 of digest."""

    status: bytes
    reason: bytes
    digest: bytes


@contextmanager
def probing(posters: list[str | None], root: Path, limits: PosterLimits) -> Iterator[Iterator[Probed]]:
    """Begins to read and probe every poster (None: the item has none) in threads, and gives what they find, in order.

    No pixel is decoded. It goes on while the caller does something else; on the way out what has not begun is dropped.
    """

    def probe(chunk: list[str | None]) -> Probed:
        found = [_probe(path, root, limits) for path in chunk]
        status, reason, digest = zip(*found, strict=True)
        return Probed(bytes(status), bytes(reason), b"".join(digest))

    pool = ThreadPoolExecutor(min(8, usable_cores() * 2), "probe")
    try:
        chunks = [pool.submit(probe, chunk) for chunk in _chunks(posters, _POSTERS_AT_A_TIME)]
        yield (chunk.result() for chunk in chunks)
    finally:
        pool.shutdown(cancel_futures=True)


def _probe(path: str | None, root: Path, limits: PosterLimits) -> tuple[Status, Reason, bytes]:
    if path is None:
        return Status.MISSING, Reason.NOT_GIVEN, bytes(32)
    try:
        raw = read_poster(path, root, limits)
        checked_format(raw, limits)
    except PosterProblem as problem:
        return Status.FAILED, problem.reason, bytes(32)
    return Status.OK, Reason.NONE, hashlib.sha256(raw).digest()


def plan_posters(
    probed: Iterable[Probed],
    *,
    width: int,
    patches: int,
    progress: Callable[[int], None],
    has_cls: bool = True,
    token_width: int | None = None,
) -> ModalityPlan:
    """The plan of posters as `probing` finds them; `cut_posters` makes the batches."""
    pieces = []
    for piece in probed:
        pieces.append(piece)
        progress(len(piece.status))
    status, reason, digest = (
        np.frombuffer(b"".join(getattr(piece, name) for piece in pieces), np.uint8) for name in Probed._fields
    )
    return ModalityPlan(
        name="image",
        width=width,
        status=status,
        reason=reason,
        lengths=np.where(status == Status.OK, patches, 0).astype(np.int64),
        digest=digest.reshape(-1, 32),
        batch=np.full(len(status), -1, np.int32),
        has_cls=has_cls,
        token_width=token_width,
    )


def cut_text(plan: ModalityPlan, budget: int, enough: int | None = None) -> ModalityPlan:
    """`plan` with batches of at most `budget` positions, padding included, over rows sorted by length.

    The longest come first, so that a batch that does not fit the memory is met in the first seconds. A batch also ends
    where one more row would raise its padding above 5 %, and, once it has `enough` positions, where the next row is
    shorter: a batch of one length needs neither padding nor mask.
    """
    enough = budget if enough is None else enough
    rows = plan.distinct
    order = rows[np.argsort(-plan.lengths[rows], kind="stable")]
    numbers = np.full(len(plan.status), -1, np.int32)
    number, longest, count, total = -1, 0, 0, 0
    for row, length in zip(order.tolist(), plan.positions_of[order].tolist(), strict=True):
        padded = longest * (count + 1)
        full = padded > budget or (length < longest and total >= enough)
        if number < 0 or full or total + length < (1 - MOST_PADDING) * padded:
            number, longest, count, total = number + 1, length, 0, 0
        numbers[row] = number
        count, total = count + 1, total + length
    return replace(plan, batch=_with_duplicates(plan, numbers))


def cut_posters(plan: ModalityPlan, size: int) -> ModalityPlan:
    """`plan` with batches of `size` posters, in the catalogue's order."""
    rows = plan.distinct
    numbers = np.full(len(plan.status), -1, np.int32)
    numbers[rows] = np.arange(len(rows)) // size
    return replace(plan, batch=_with_duplicates(plan, numbers))


def join_batches(plan: ModalityPlan, budget: int) -> ModalityPlan:
    """`plan` with neighbouring batches joined up to `budget` positions, padding included, of which at most 5 %.

    Batches that were cut for this budget stay as they are; those cut for a smaller one, on another device, are joined
    to calls that are worth it here. Which ones depends on the plan and the budget alone.
    """
    rows = plan.batched
    numbers, number_of = np.unique(plan.batch[rows], return_inverse=True)
    positions = plan.positions_of[rows]
    counts, totals = (np.bincount(number_of, weights, len(numbers)) for weights in (None, positions))
    longest = np.zeros(len(numbers), np.int64)
    np.maximum.at(longest, number_of, positions)
    joined = np.full(int(plan.batch.max(initial=0)) + 1, -1, np.int32)
    last, widest, count, total = -1, 0, 0, 0.0
    for number, wide, more, read in zip(
        numbers.tolist(), longest.tolist(), counts.tolist(), totals.tolist(), strict=True
    ):
        padded = max(widest, wide) * (count + more)
        if last < 0 or padded > budget or total + read < (1 - MOST_PADDING) * padded:
            last, widest, count, total = last + 1, 0, 0, 0.0
        joined[number] = last
        widest, count, total = max(widest, wide), count + more, total + read
    return replace(plan, batch=np.where(plan.batch >= 0, joined[plan.batch], plan.batch).astype(np.int32))


def _with_duplicates(plan: ModalityPlan, numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """An item whose input stood before belongs to the batch that encodes it."""
    rows = np.flatnonzero(plan.encodable)
    if rows.size:
        _, first, group = np.unique(plan.digest[rows], axis=0, return_index=True, return_inverse=True)
        numbers[rows] = numbers[rows[first[group.reshape(-1)]]]
    return numbers


def _text_outcome(text: str | None, has_words: bool, cut: bool) -> tuple[Status, Reason]:
    if text is None:
        return Status.MISSING, Reason.NOT_GIVEN
    if not has_words:  # special tokens alone: no word was left after the tokenizer's cleaning
        return Status.MISSING, Reason.EMPTY
    return (Status.TRUNCATED, Reason.TOO_LONG) if cut else (Status.OK, Reason.NONE)


def _tokenise(
    texts: list[str], tokenizer: Any, max_length: int, has_cls: bool
) -> Iterator[tuple[npt.NDArray[np.int32], bool]]:
    """Token ids behind the CLS position, if there is one, and whether the text was cut."""
    if not texts:
        return
    readable = [_utf8(text).decode() for text in texts]
    if not tokenizer.is_fast:
        for text in readable:
            whole = len(tokenizer(text)["input_ids"])
            ids = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
            yield _behind_cls(np.array(ids, np.int32), tokenizer, has_cls), len(ids) < whole
        return
    found = tokenizer(
        readable, truncation=True, max_length=max_length, return_overflowing_tokens=True,
        return_attention_mask=False, return_token_type_ids=False,
    )  # fmt: skip
    sample = np.asarray(found["overflow_to_sample_mapping"])
    first = np.searchsorted(sample, np.arange(len(texts)))
    pieces = np.bincount(sample, minlength=len(texts))
    for index in range(len(texts)):
        ids = np.array(found["input_ids"][first[index]], np.int32)
        yield _behind_cls(ids, tokenizer, has_cls), bool(pieces[index] > 1)


def _behind_cls(ids: npt.NDArray[np.int32], tokenizer: Any, has_cls: bool) -> npt.NDArray[np.int32]:
    if not has_cls:
        return ids
    if not len(ids) or ids[0] != tokenizer.cls_token_id:
        raise BadInput(
            f"{tokenizer.name_or_path}: expected a tokenizer that puts a CLS token in front, as BERT's does; "
            "choose a BERT-like text model"
        )
    return ids[1:]


def _utf8(text: str | None) -> bytes:
    # a lone surrogate has no UTF-8; it becomes "?" rather than an error that stops the job
    return (text or "").encode("utf-8", "replace")


def _chunks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
