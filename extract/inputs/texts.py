"""The plan of texts: each is tokenised, cut to what the model reads, and has its status."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.embeddings.status import Reason, Status
from ...data.runtime.errors import BadInput
from .plan import ModalityPlan, chunks

_TEXTS_AT_A_TIME = 512


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
    for chunk in chunks(texts, _TEXTS_AT_A_TIME):
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
