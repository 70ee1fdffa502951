"""Where an encoder's inputs come from: token ids out of a plan, posters out of files, in the form that it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from copy import copy
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...data.embeddings.status import Reason
from ..inputs.decoders import Decoded, Decoders, Poster, side_by_side
from ..inputs.pixels import poster_pixels
from ..inputs.plan import ModalityPlan
from ..inputs.poster_files import PosterLimits, PosterProblem, read_poster
from ..inputs.processor_pixels import Inputs, Pixels, ProcessorPixels
from ..models.embedded import Embedded
from ..models.encoders import ImageEncoder, TextEncoder
from ..models.source import ModelSource
from ..models.structure import Structure

Loading = dict[int, "Future[npt.NDArray[Any]] | Decoded"]


class Feed(Protocol):
    """Where an encoder's inputs come from: `load` runs in threads, one input each; `encode` takes a batch of them."""

    def load(self, row: int) -> Any: ...

    def encode(self, inputs: list[Any]) -> Embedded: ...


class TextFeed:
    """Token ids out of the plan, padded to the longest of the batch."""

    def __init__(self, plan: ModalityPlan, encoder: TextEncoder) -> None:
        if plan.input_ids is None:
            raise ValueError("a text plan has input_ids")
        self._ids, self._plan, self._encoder = plan.input_ids, plan, encoder

    def load(self, row: int) -> npt.NDArray[np.int32]:
        """(1 + T_i,) token ids, CLS first; (T_i,) of an encoder without CLS."""
        ids = self._ids[self._plan.starts[row] : self._plan.starts[row + 1]]
        if not self._plan.has_cls:
            return np.ascontiguousarray(ids)
        return np.concatenate((np.array([self._plan.cls_id], np.int32), ids))

    def encode(self, inputs: list[npt.NDArray[Any]]) -> Embedded:
        """Hidden states (B, T, D), T the longest input's length, and vectors."""
        lengths = np.array([len(ids) for ids in inputs], np.int64)
        padded = np.full((len(inputs), lengths.max()), self._plan.pad_id, np.int32)
        for place, ids in zip(padded, inputs, strict=True):
            place[: len(ids)] = ids
        return self._encoder.embed(padded, lengths)


class PosterFeed:
    """Posters decoded and resized to pixels."""

    def __init__(
        self,
        plan: ModalityPlan,
        encoder: ImageEncoder,
        posters: list[str | None],
        root: Path,
        recipe: Pixels,
        limits: PosterLimits,
    ) -> None:
        self._plan, self._encoder, self._posters, self._root = plan, encoder, posters, root
        self._recipe, self._limits = recipe, limits
        # not `_from_file` itself: a feed that held itself would keep the file of its plan mapped until a collection
        self._read: Callable[[int], bytes] | None = None
        self._decoders: Decoders | None = None

    def reading(self, read: Callable[[int], bytes]) -> PosterFeed:
        """The same feed with posters as `read` gives them, in place of files."""
        other = copy(self)
        other._read = read
        return other

    def decoding(self, decoders: Decoders) -> PosterFeed:
        """The same feed with posters that processes decode, in place of threads."""
        other = copy(self)
        other._decoders = decoders
        return other

    def begin(self, rows: list[int]) -> Loading | None:
        """Have processes begin to load the posters of a batch; None where threads are to do it."""
        if self._decoders is None:
            return None
        posters = [Poster(self._posters[row] or "", self._plan.digest[row].tobytes()) for row in rows]
        return dict(zip(rows, self._decoders.begin(posters), strict=True))

    def load(self, row: int) -> npt.NDArray[np.uint8] | Inputs:
        """(H, W, 3) pixels, or what the model's own image processor makes.

        Raises PosterProblem, also where the file is no longer the one the plan saw.
        """
        raw = (self._read or self._from_file)(row)
        if hashlib.sha256(raw).digest() != self._plan.digest[row].tobytes():
            raise PosterProblem(Reason.CHANGED)
        if isinstance(self._recipe, ProcessorPixels):
            return self._recipe.load(raw, self._limits)
        return poster_pixels(raw, self._recipe, self._limits)

    def _from_file(self, row: int) -> bytes:
        path = self._posters[row]
        if path is None:
            raise PosterProblem(Reason.NOT_GIVEN)
        return read_poster(path, self._root, self._limits)

    def encode(self, inputs: list[Any]) -> Embedded:
        """Hidden states (B, 1 + P, D), CLS, then the patches, and vectors."""
        if isinstance(self._recipe, ProcessorPixels):
            return self._encoder.embed_inputs(_stacked(inputs))
        return self._encoder.embed(side_by_side(inputs))


def load_encoder(
    source: ModelSource,
    recipe: Pixels | None,
    layer: int | None,
    device: str,
    precision: str,
    compile_: bool,
    structure: Structure | None = None,
    prompt_length: int = 0,
) -> TextEncoder | ImageEncoder:
    """The frozen encoder on its device: of posters where there is a `recipe` for their pixels, else of text.

    Raises BadInput where it does not run.
    """
    how: dict[str, Any] = {"device": device, "precision": precision, "layer": layer, "compile": compile_}
    how["structure"] = structure
    if recipe is None:
        return TextEncoder.load(source, **how, prompt_length=prompt_length)
    if isinstance(recipe, ProcessorPixels):
        encoder = ImageEncoder.load(source, **how)
        sample = recipe.at(source).sample()
        encoder.try_out(source, lambda: encoder.embed_inputs(sample))
        return encoder
    encoder = ImageEncoder.load(
        source,
        mean=recipe.mean,
        std=recipe.std,
        rescale_factor=recipe.rescale_factor,
        pixels=recipe.output,
        **how,
    )
    encoder.try_out(source, lambda: encoder.embed(np.zeros((1, *recipe.output, 3), np.uint8)))
    return encoder


def feed_for(
    plan: ModalityPlan,
    encoder: TextEncoder | ImageEncoder,
    recipe: Pixels | None,
    posters: list[str | None],
    root: Path,
    limits: PosterLimits,
) -> Feed:
    """The inputs of `plan` for `encoder`; `posters` are as long as the plan, for posters alone."""
    if isinstance(encoder, TextEncoder):
        return TextFeed(plan, encoder)
    if recipe is None:
        raise ValueError("an image encoder needs the recipe of its pixels")
    return PosterFeed(plan, encoder, posters, root, recipe, limits)


def _stacked(inputs: list[Inputs]) -> Inputs:
    """The inputs of several images, each (1, ...), as those of one batch, (B, ...)."""
    return {key: np.concatenate([one[key] for one in inputs]) for key in inputs[0]}
