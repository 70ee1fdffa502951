"""The attention of a run's Transformers: weights of the [FUSE] query over an item's image patches and words.

The weights are those of the last block, averaged over its heads and over the members of the run. They show where the
model looks, not how its prediction depends on it, which `ablation` measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.embeddings.modality import Modality
from ...data.runtime.errors import BadInput
from ...data.runtime.untrusted_text import shown
from ..inputs.tokens import TokenBatch
from ..models.fusion_transformer import FusionTransformer
from ..runs.run import Run
from .plot_words import Plot, Word, find_tokenizer, numbered_pieces, plot_words, refuse_other_tokenizer
from .reading import Reading

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ItemAttention:
    """The attention of the [FUSE] query over one item, averaged over heads and members.

    patches: (gh, gw) and word_weights: (W,), float32, together of sum 1: each one's share of the attention on all
    patches and words. patches is None where the item has no image, the run reads none, or reads CLS alone; words are
    empty likewise.
    mass: the attention by kind of token, of sum 1: "fuse", "side" (genres and year), "separator", "words", "text.cls",
    "text.end", "text.absent", "patches", "image.cls", "image.absent".
    counts: the number of tokens of each kind, to which uniform attention is proportional.
    by_head: (M * H, 2) float32, the shares of text and image in each head of each member.
    absent: modalities that the run reads and this item lacks; their share is that of the absent token.
    rollout: whether the attention was followed through all blocks.
    """

    item: int | str
    patches: Floats | None
    plot: Plot | None
    word_weights: Floats
    mass: Mapping[str, float]
    counts: Mapping[str, int]
    by_head: Floats
    absent: tuple[str, ...]
    rollout: bool

    @property
    def words(self) -> tuple[Word, ...]:
        """The plot's words, in the order of their weights."""
        return self.plot.words if self.plot is not None else ()

    @property
    def shares(self) -> dict[str, float]:
        """How the attention is shared among "text", "image" (absent tokens included) and "rest"; of sum 1."""
        return _shares(self.mass)

    @property
    def uniform_shares(self) -> dict[str, float]:
        """What `shares` would be under uniform attention."""
        total = sum(self.counts.values())
        return _shares({kind: count / total for kind, count in self.counts.items()})

    @property
    def patch_lift(self) -> Floats | None:
        """(gh, gw): each patch's share of the attention on patches, over the uniform share."""
        return None if self.patches is None else self.patches / max(float(self.patches.mean()), 1e-30)

    @property
    def word_lift(self) -> Floats:
        """(W,): the same of words, as the mean over the pieces of each word, so that long words do not stand out."""
        pieces = np.array([max(len(word.positions), 1) for word in self.words], np.float32)
        uniform = float(self.word_weights.sum()) / max(float(pieces.sum()), 1.0)
        lift: Floats = (self.word_weights / pieces / max(uniform, 1e-30)).astype(np.float32)
        return lift


def item_attention(
    run: Run | Reading, item: int | str, *, rollout: bool = False, text_model: str | None = None
) -> ItemAttention | None:
    """The attention of the [FUSE] query over the item of that id; None where the run has no Transformer.

    ``rollout`` follows the attention through all blocks (Abnar and Zuidema 2020, half of each block being the residual
    path) in place of the last block's own. ``text_model`` is the folder of the text model, for its tokenizer, where it
    is neither shipped nor in the hub's cache. BadInput for an item that is not in the run, and where dataset or
    embedding file are missing; FingerprintMismatch where they are not the run's. For several items open a `Reading`
    once and pass it in place of the run.
    """
    reading = run if isinstance(run, Reading) else Reading.open(run)
    if not reading.config.fuses:
        return None
    number = int(reading.run.recommender.item_numbers([item])[0])
    if number < 0:
        raise BadInput(f"item {shown(item)}: the run knows no such item")
    tokens = reading.tokens(number)
    heads = torch.cat(
        [_heads(w.transformer, tokens, reading.side_information[[number]], rollout) for w in reading.members]
    )
    places = _places(reading, tokens)
    over = heads.mean(0).double().numpy()  # (T,)
    mass = {kind: float(over[at].sum()) for kind, at in places.items()}
    plot = plot_of(reading, number, text_model) if places.get("words", _NOWHERE).size else None
    patches = over[places["patches"]] if places.get("patches", _NOWHERE).size else None
    words = np.array([over[places["words"]][list(w.positions)].sum() for w in plot.words]) if plot else np.zeros(0)
    total = words.sum() + (patches.sum() if patches is not None else 0.0)
    grid = patch_grid(reading, number) if patches is not None else None
    return ItemAttention(
        item=item,
        patches=(patches / total).reshape(grid).astype(np.float32) if patches is not None and grid else None,
        plot=plot,
        word_weights=(words / max(total, 1e-30)).astype(np.float32),
        mass=mass,
        counts={kind: int((over[at] > 0).sum()) for kind, at in places.items()},
        by_head=_by_head(heads, places),
        absent=tuple(name for name in reading.modalities if not reading.has(number, name)),
        rollout=rollout,
    )


_NOWHERE: npt.NDArray[np.int64] = np.zeros(0, np.int64)


def _shares(by_kind: Mapping[str, float]) -> dict[str, float]:
    text = sum(by_kind.get(kind, 0.0) for kind in ("words", "text.cls", "text.end", "text.absent"))
    image = sum(by_kind.get(kind, 0.0) for kind in ("patches", "image.cls", "image.absent"))
    return {"text": text, "image": image, "rest": max(0.0, 1 - text - image)}


@torch.no_grad()
def _heads(
    transformer: FusionTransformer | None, tokens: Mapping[str, TokenBatch], side_information: Tensor, rollout: bool
) -> Tensor:
    """(H, T) the attention of [FUSE] in each head of the last block; with ``rollout`` (1, T) over all of them."""
    if transformer is None:
        raise ValueError("expected a model with a Transformer")
    *before, last = transformer.attention(*transformer.sequence(tokens, side_information))
    if not rollout:
        return last[0, :, 0]
    row = 0.5 * last[0, :, 0].mean(0)  # (T,)
    row[0] += 0.5
    for weights in reversed(before):
        row = 0.5 * row + 0.5 * row @ weights[0].mean(0)
    return row[None]


def _places(reading: Reading, tokens: Mapping[str, TokenBatch]) -> dict[str, npt.NDArray[np.int64]]:
    """The positions of each kind of token in the sequence."""
    transformer = reading.members[0].transformer
    lengths = {name: batch.present.shape[1] for name, batch in tokens.items()}
    found = transformer.places(lengths) if transformer is not None else {}
    numbers = np.arange(max((at.stop for at in found.values()), default=0))
    places = {kind: numbers[at] for kind, at in found.items()}
    for name, kind in (("text", "words"), ("image", "patches")):
        if name in places:
            whole = places.pop(name)
            places[f"{name}.cls"] = whole[:1]
            places[kind] = whole[1:]
    if "words" in places:
        places["words"], places["text.end"] = places["words"][:-1], places["words"][-1:]
    return places


def _by_head(heads: Tensor, places: Mapping[str, npt.NDArray[np.int64]]) -> Floats:
    shares = np.zeros((len(heads), 2), np.float32)
    for column, kinds in enumerate((("words", "text"), ("patches", "image"))):
        for kind, at in places.items():
            if kind == kinds[0] or kind.startswith(f"{kinds[1]}."):
                shares[:, column] += heads[:, torch.from_numpy(at)].sum(1).numpy()
    return shares


def plot_of(reading: Reading, item: int, text_model: str | None = None) -> Plot | None:
    """The item's text with its words; None where the run reads no text or the file keeps no tokens of this one."""
    if reading.embeddings is None or "text" not in reading.modalities or not reading.has(item, "text"):
        return None
    modality = reading.embeddings["text"]
    row = int(reading.rows[item])
    if modality.input_ids is None or not len(modality.raw_tokens_of(row)):
        return None
    ids = modality.input_ids[modality.offsets[row] : modality.offsets[row + 1]]
    text = _text(reading, item, modality)
    model = modality.record.get("model")
    tokenizer = _tokenizer(model, modality.record.get("revision"), text_model)
    if tokenizer is None:
        why = f"the tokenizer of the text model {model!r} is not on this machine: give its folder with --text-model"
        return numbered_pieces(text, len(ids), f"positions instead of words, since {why}")
    found = plot_words(text, ids, tokenizer, modality.fingerprint.get("max_length"))
    if text_model is not None:
        return refuse_other_tokenizer(text_model, found, model)
    if found is None:
        return numbered_pieces(
            text,
            len(ids),
            "positions instead of words: the tokenizer on this machine gives other pieces than the file has",
        )
    return found


@lru_cache(maxsize=4)
def _tokenizer(model: object, revision: object, given: str | None) -> Any | None:
    return find_tokenizer({"model": model, "revision": revision}, given)


def _text(reading: Reading, item: int, modality: Modality) -> str:
    one = type(reading.catalog)(reading.catalog.ids[[item]], reading.catalog.items[[item]], reading.catalog.poster_root)
    return next(one.texts(str(modality.fingerprint.get("template", "{text}")))) or ""


def patch_grid(reading: Reading, item: int) -> tuple[int, int] | None:
    """(rows, columns) of the patches that the run reads of an image, after its pooling; None without any."""
    if reading.embeddings is None or not reading.has(item, "image"):
        return None
    modality = reading.embeddings["image"]
    count = len(modality.raw_tokens_of(int(reading.rows[item])))
    grid = modality.record.get("grid")
    pool = reading.config.pool_patches
    edge = round(count**0.5)
    if isinstance(grid, list) and len(grid) == 2 and grid[0] * grid[1] == count:
        rows, columns = int(grid[0]), int(grid[1])
    else:
        rows, columns = (edge, edge) if edge * edge == count else (1, count)
    return rows // pool, columns // pool
