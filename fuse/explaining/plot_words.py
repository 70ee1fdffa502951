"""The words of a text behind its token embeddings: a tokenizer's pieces, mapped back to the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.mini import MINI, mini_encoder
from ...data.runtime.errors import BadInput, FingerprintMismatch

_JOINING = ("'", "’", "-", "‐")  # inside a word, as in "don't" and "sci-fi"
_SHIPPED = {"cinefuse-mini-text": mini_encoder("text")}


@dataclass(frozen=True)
class Word:
    """A word of a plot, ``text[start:end]``, and the positions of its pieces (CLS is not counted).

    Without a tokenizer it is one position, named by its number, with start and end 0.
    """

    text: str
    start: int
    end: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Plot:
    """A plot as it was embedded, and its words in order.

    read_to: where the last embedded word ends; the rest was cut off. note: why there are positions instead of words.
    """

    text: str
    words: tuple[Word, ...]
    read_to: int
    note: str | None = None


def plot_words(text: str, ids: npt.NDArray[np.integer[Any]], tokenizer: Any, max_length: int | None) -> Plot | None:
    """The words of ``text``, whose token ids behind CLS are ``ids`` (L,); None where ``tokenizer`` gives other ids.

    ``tokenizer`` is a `tokenizers.Tokenizer`.
    """
    readable = text.encode("utf-8", "replace").decode()  # as it was when it was embedded
    tokenizer.no_padding()
    if max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length)
    encoding = tokenizer.encode(readable)
    if encoding.ids[1:] != ids.tolist():
        return None
    words = _joined(readable, encoding.word_ids[1:], encoding.offsets[1:])
    return Plot(readable, words, max((word.end for word in words), default=0))


def numbered_pieces(text: str, count: int, note: str) -> Plot:
    """The positions of a plot of ``count`` pieces as numbered words, for want of a tokenizer; without the end token."""
    words = tuple(Word(f"#{number + 1}", 0, 0, (number,)) for number in range(max(count - 1, 0)))
    return Plot(text, words, len(text), note)


def find_tokenizer(record: Mapping[str, Any], given: str | None = None) -> Any | None:
    """The tokenizer of the text model in a header, or of the folder ``given`` ("mini": built in); None without one.

    Searched among the encoders that ship with cinefuse and in the hub's cache on this machine, without network.
    BadInput where a folder was given that has none.
    """
    from tokenizers import Tokenizer

    file = _given(given) if given is not None else _shipped(record) or _cached(record)
    if file is None:
        return None
    try:
        return Tokenizer.from_file(str(file))
    except Exception as fault:  # tokenizers raises plain Exception
        if given is None:
            return None
        raise BadInput(f"{file}: cannot be read as a tokenizer ({str(fault).splitlines()[0]})") from None


def refuse_other_tokenizer(given: str, plot: Plot | None, model: object) -> Plot:
    """The plot; FingerprintMismatch where the user's tokenizer gave other ids than the file has."""
    if plot is None:
        raise FingerprintMismatch(
            f"--text-model {given}: its tokenizer cuts the plots into other pieces than the file's ({model}); "
            "give the folder of the model that embedded them"
        )
    return plot


def _joined(text: str, word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> tuple[Word, ...]:
    spans: list[tuple[int, int, list[int]]] = []
    before: int | None = None
    for position, (number, (start, end)) in enumerate(zip(word_ids, offsets, strict=True)):
        if number is None or end <= start:
            continue
        start += len(text[start:end]) - len(text[start:end].lstrip())  # some tokenizers count the space before
        if spans and (number == before or _continues(text, spans[-1], start)):
            spans[-1] = (spans[-1][0], end, [*spans[-1][2], position])
        else:
            spans.append((start, end, [position]))
        before = number
    return tuple(Word(text[start:end], start, end, tuple(positions)) for start, end, positions in spans)


def _continues(text: str, span: tuple[int, int, list[int]], start: int) -> bool:
    """Whether the piece at ``start`` continues the word: an apostrophe or hyphen between letters, or after one."""
    if span[1] != start or start >= len(text):
        return False
    if text[start] in _JOINING:
        return text[start - 1].isalnum() and text[start + 1 : start + 2].isalnum()
    return text[start - 1] in _JOINING and text[start].isalnum() and start - 1 > span[0]


def _given(given: str) -> Path:
    folder = _SHIPPED["cinefuse-mini-text"] if given == MINI else Path(given).expanduser()
    file = folder if folder.is_file() else folder / "tokenizer.json"
    if not file.is_file():
        raise BadInput(f"--text-model {given}: expected a model folder with a tokenizer.json, found none")
    return file


def _shipped(record: Mapping[str, Any]) -> Path | None:
    """The tokenizer of an encoder in this package, where the header names it."""
    folder = _SHIPPED.get(str(record.get("model")))
    return folder / "tokenizer.json" if folder is not None and (folder / "tokenizer.json").is_file() else None


def _cached(record: Mapping[str, Any]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if record.get("revision") is None:
        return None
    try:
        found = try_to_load_from_cache(str(record["model"]), "tokenizer.json", revision=str(record["revision"]))
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
