"""How much a model reads, by its configuration: tokens of a text, patches of an image."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.runtime.errors import BadInput
from .source import CONFIG, PROCESSOR

if TYPE_CHECKING:
    from .source import ModelSource

_LONGEST_WITHOUT_LIMIT = 512  # tokens of a text where neither model nor tokenizer has a limit (T5, XLNet)
# These interpolate their position embeddings (or rotate them) by themselves, so any whole number of patches will do.
_ANY_IMAGE_SIZE = {"dinov2", "dinov2_with_registers", "dinov3_vit"}


def max_positions(source: ModelSource) -> int:
    """How many tokens of a text the model has positions for, CLS included."""
    settings = source.settings
    positions = getattr(settings, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        positions = getattr(settings, "n_positions", None)
    if not isinstance(positions, int) or positions < 1:
        return _LONGEST_WITHOUT_LIMIT
    if _counts_from_padding(settings):
        positions -= int(getattr(settings, "pad_token_id", 0) or 0) + 1
    return positions


def _counts_from_padding(settings: Any) -> bool:
    """Whether the family's code counts positions from its padding id + 1 onwards, as RoBERTa's does.

    Its table of positions then holds fewer tokens than it has rows.
    """
    code = importlib.util.find_spec(type(settings).__module__.replace(".configuration_", ".modeling_"))
    if code is None or code.origin is None:
        return False
    return "create_position_ids_from_input_ids" in Path(code.origin).read_text(encoding="utf-8")


def patch_grid(source: ModelSource, pixels: tuple[int, int] | None = None) -> tuple[int, int]:
    """(rows, columns) of patches of an image of ``pixels`` (height, width); by default of the model's own size.

    Raises BadInput for a size the model does not take.
    """
    expected, patch = _pair(source, "image_size"), patch_size(source)
    height, width = pixels or expected
    if source.model_type not in _ANY_IMAGE_SIZE and (height, width) != expected:
        raise BadInput(
            f"{source.name}: reads images of {expected[0]} x {expected[1]} pixels, but its {PROCESSOR} makes "
            f"{height} x {width}; correct the size there"
        )
    if height < patch[0] or width < patch[1]:
        raise BadInput(f"{source.name}: {height} x {width} pixels hold no patch of {patch[0]} x {patch[1]}")
    return height // patch[0], width // patch[1]


def patch_size(source: ModelSource) -> tuple[int, int]:
    """(height, width) of a patch in pixels."""
    return _pair(source, "patch_size")


def _pair(source: ModelSource, key: str) -> tuple[int, int]:
    """A size given as one number (square) or as (height, width)."""
    value = getattr(source.settings, key, None)
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise BadInput(
            f"{source.name}: {CONFIG} gives no {key}, so it is not a ViT-like image model; choose one that is"
        )
    return pair
