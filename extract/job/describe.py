"""What an encoder would do, from its configuration alone: sizes, positions, pooling. No weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...data.runtime.errors import BadInput
from ..models.pooling import Pooling
from ..models.sizes import max_positions
from ..models.source import ModelSource
from ..models.structure import Structure, shares_space, text_structure

if TYPE_CHECKING:
    from ..models.source import Modality

_WORDS = {
    "cls": "its CLS",
    "mean": "the mean of its positions",
    "max": "the largest value of each dimension",
    "last": "its last token",
    "pooler": "the model's own pooling",
    "projection": "its projection",
    "weightedmean": "the mean, later positions counting more",
    "mean_sqrt_len_tokens": "the sum over the square root of the length",
}


@dataclass(frozen=True)
class Description:
    """One modality of an encoder: where its files are, and a sentence about each thing that it does."""

    source: ModelSource
    modality: Modality
    lines: list[str]


def describe(model: str, revision: str | None = None) -> list[Description]:
    """What `cinefuse extract` would do with ``model``, a hub id or a folder, for texts and for images.

    Raises BadInput, saying why, where it is an encoder of neither.
    """
    found, refusals = [], []
    for modality in ("text", "image"):
        source = ModelSource.resolve(model, revision, weights=False, modality=modality)
        if not _may_read(source, modality):
            continue
        try:
            lines = _text_lines(source) if modality == "text" else _image_lines(source)
        except BadInput as refusal:
            refusals.append(refusal)
            continue
        found.append(Description(source, modality, lines))
    if not found:
        if refusals:
            raise refusals[0]
        raise BadInput(f"{model}: has neither a tokenizer nor an image processor; point at a model's whole folder")
    return found


def _may_read(source: ModelSource, modality: str) -> bool:
    """Whether the folder has the files with which a text, or an image, is made ready."""
    try:
        if modality == "image":
            source.processor_config()
        else:
            source.tokenizer_files()
    except BadInput:
        return False
    return True


def _text_lines(source: ModelSource) -> list[str]:
    tokenizer = source.tokenizer()
    structure = text_structure(source, tokenizer, source.pooling, None)
    longest = min(max_positions(source), source.pooling.max_length or int(tokenizer.model_max_length))
    lines = [f"reads up to {longest:,} tokens", _vector(source, structure)]
    kept = "all positions but the CLS" if structure.has_cls else "all positions"
    lines.append(f"tokens: {kept}, {structure.token_width} wide")
    if structure.pooling.prompt:
        lines.append(f"puts {structure.pooling.prompt!r} in front of every text")
    if structure.fixed_length is not None:
        lines.append(f"every text is padded to {structure.fixed_length} tokens, as it was trained")
    return lines


def _image_lines(source: ModelSource) -> list[str]:
    from ..inputs.processor_pixels import ProcessorPixels, choose_pixels
    from .settings import image_structure_of

    recipe = choose_pixels(source)
    own = not isinstance(recipe, ProcessorPixels)
    structure = image_structure_of(source, recipe, source.pooling, None)
    if isinstance(recipe, ProcessorPixels):
        shape = recipe.sample()["pixel_values"].shape
        size = (shape[2], shape[3]) if len(shape) == 4 else (recipe.square or 0, recipe.square or 0)
    else:
        size = recipe.output
    positions = int(structure.has_cls) + structure.front + structure.tokens + structure.end
    how = "cinefuse's own resizing" if own else "the model's own image processor, slower"
    lines = [f"reads {size[0]} x {size[1]}, {positions} positions", _vector(source, structure)]
    grid = f" ({structure.grid[0]} x {structure.grid[1]})" if structure.grid else ""
    lines.append(f"tokens {structure.tokens}{grid}, {structure.token_width} wide")
    lines.append(f"pixels by {how}")
    if structure.pooling.is_cls and shares_space(source):
        shared = image_structure_of(source, recipe, Pooling(mode="projection"), None)
        lines.append(f"given for both models: {_vector(source, shared)}")
    return lines


def _vector(source: ModelSource, structure: Structure) -> str:
    pooling, said = structure.pooling, _WORDS
    if "projection" in pooling.modes and shares_space(source):  # CLAP shares its own with sounds
        said = _WORDS | {"projection": "projection into the space that texts and images share"}
    words = " and ".join(said[mode] for mode in pooling.modes)
    behind = {"dense": "a dense layer", "layernorm": "a layer norm", "normalize": "scaling to length 1"}
    steps = "".join(f", then {behind[kind]}" for kind, _ in pooling.layers)
    return f"vector by {words}{steps}, {structure.vector_width} wide"
