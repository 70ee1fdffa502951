"""What comes out of a model, found without its weights: positions, widths, the CLS token, what is pooled.

The model is built from its configuration without memory for its weights (PyTorch's meta device) and run on one input
that has a shape and no values. What each output position is follows from what the architecture declares: parameters for
a CLS, register, distillation or detection token, the size of a patch. Nothing is counted from the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ...data.runtime.errors import BadInput
from .pooling import Pooling, width_behind
from .probe import probe, sample_text
from .sizes import max_positions, patch_grid, patch_size
from .towers import built, is_causal

if TYPE_CHECKING:
    from .source import Modality, ModelSource

_CLS_PARAMETERS = {"cls_token", "class_embedding", "class_token"}
# the pooled feature map stands in front of its positions
_POOLED_FIRST = {"dinov3_convnext"}
# trained on texts that were all padded to their longest, without a mask; the last position is the vector
_READ_WITH_PADDING = {"siglip_text_model", "siglip2_text_model"}
_DRAWN = {"vit_mae", "videomae"}  # leave out patches at random


@dataclass(frozen=True)
class Structure:
    """What a model gives for one input.

    ``tower`` says how the model is run: "alone" (its own class), "features" (the towers of a model of texts and images,
    by `get_text_features` or `get_image_features`), "projected" (the class with a projection), "encoder" (that of an
    encoder-decoder). ``has_cls``: the first position is a CLS. Of images, ``tokens`` positions on ``grid`` (rows,
    columns) stay when ``front`` positions behind the CLS and ``end`` at the end are left out. ``pooling`` has its mode.
    Texts are padded with ``pad_id`` to ``fixed_length``, and read with their padding, where the model was trained so.
    ``layer_list`` names the module list of layers where one of them is kept; ``cuts``: the list may end behind it.
    It is empty where the model itself returns what stands behind each layer.
    """

    tower: str
    has_cls: bool
    token_width: int
    vector_width: int
    pooling: Pooling
    tokens: int = 0
    grid: tuple[int, int] | None = None
    front: int = 0
    end: int = 0
    layers: int = 0
    fixed_length: int | None = None
    pad_id: int = 0
    layer_list: str = ""
    cuts: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """What of it the header of an embedding file says."""
        return {} if self.has_cls else {"cls_position": False}


def text_structure(source: ModelSource, tokenizer: Any, pooling: Pooling, layer: int | None) -> Structure:
    """The structure of a text encoder. Raises BadInput where there is no such model in transformers."""
    # a layer before the last has no projection behind it
    tower, model = built(source, "text", pooling if layer is None else replace(pooling, mode=pooling.mode or "mean"))
    ids = tokenizer("a b")["input_ids"]
    cls_id = getattr(tokenizer, "cls_token_id", None)
    causal = is_causal(source, model) and tower not in ("encoder", "alone_encoder")
    in_front = cls_id is not None and bool(ids) and ids[0] == cls_id
    has_cls = in_front and not causal and tower == "alone"
    out, layers = probe(source, tower, model, sample_text(), "text", layer)
    width = source.width if out is None or out.hidden is None else int(out.hidden.shape[-1])
    own = None if out is None else out.own
    if pooling.mode is None:
        if layer is None and tower in ("features", "projected") and own is not None:
            mode = "projection"
        elif has_cls or (in_front and not causal and tower == "features"):
            mode = "cls"
        elif own is not None and tower == "alone" and layer is None and cls_id is None:
            mode = "pooler"
        elif causal or (cls_id is not None and bool(ids) and ids[-1] == cls_id):
            mode = "last"
        else:
            mode = "mean"
        pooling = replace(pooling, mode=mode)
    _check_mode(source, tower, pooling, has_cls or in_front, own, layer)
    vector = _vector_width(source, pooling, width, own)
    fixed = max_positions(source) if source.model_type in _READ_WITH_PADDING else None
    pad_id = int(getattr(tokenizer, "pad_token_id", None) or 0)
    return Structure(
        tower, has_cls, width, vector, pooling, layers=_depth(source), fixed_length=fixed, pad_id=pad_id, **layers
    )  # fmt: skip


def shares_space(source: ModelSource) -> bool:
    """Whether it is a model such as CLIP, whose towers project texts and images into one space."""
    if not source.has_two_towers:
        return False
    tower, model = built(replace(source, modality="text"), "text", Pooling())
    if tower != "features" or not hasattr(model, "get_image_features"):
        return False
    out, _ = probe(replace(source, modality="text"), tower, model, sample_text(), "text")
    return out is not None and out.own is not None


def image_structure(
    source: ModelSource, sample: Mapping[str, torch.Tensor], pooling: Pooling, layer: int | None
) -> Structure:
    """The structure of an image encoder that is given inputs of the shapes of ``sample``, each (1, ...).

    Raises BadInput where it does not read them, or where it is unclear what its output positions are.
    """
    if source.model_type in _DRAWN:
        raise BadInput(f"{source.name}: masks patches at random; choose ViT, DeiT, DINOv2, BEiT or CLIP")
    if getattr(source.settings, "is_encoder_decoder", False):
        raise BadInput(f"{source.name}: gives objects, or a text, in place of an image's positions; choose an encoder")
    tower, model = built(source, "image", pooling)
    out, layers = probe(source, tower, model, sample, "image", layer)
    if out is None:
        raise BadInput(f"{source.name}: what it gives cannot be found without its weights; choose another model")
    hidden, own = out.hidden, out.own
    if hidden is None or hidden.dim() not in (3, 4):
        raise BadInput(f"{source.name}: gives no hidden states of an image's positions; choose an image encoder")
    several = False  # CLS tokens, which the model pools itself
    grid: tuple[int, int] | None
    if hidden.dim() == 4:
        width, (rows, columns) = _map_shape(hidden, own)
        grid, has_cls, tokens, front, end = (rows, columns), False, rows * columns, 0, 0
    else:
        width, positions = hidden.shape[2], hidden.shape[1]
        shapes = {key.rpartition(".")[2]: value.shape for key, value in model.named_parameters()}
        has_cls = bool(shapes.keys() & _CLS_PARAMETERS) and source.model_type not in _POOLED_FIRST
        front, end = _declared(source, shapes)
        several = any(len(shape) == 3 and shape[1] > 1 for shape in map(shapes.get, _CLS_PARAMETERS) if shape)
        tokens = positions - has_cls - front - end
        by_patch = _config_grid(source, sample)
        if has_cls and by_patch is not None and tokens + 1 == math.prod(by_patch):
            has_cls, tokens = False, tokens + 1  # the CLS is the query of a pooling head, and no position
        grid = _grid(source, sample, tokens, has_cls)
        if has_cls and grid is None and by_patch is not None:
            raise BadInput(
                f"{source.name}: of its {positions} output positions {tokens} should be patches, but its patch size "
                f"makes {math.prod(by_patch)}; choose a model that declares its other tokens"
            )
    if tokens < 1:
        raise BadInput(f"{source.name}: gives no position for an image of this size; choose another model")
    if pooling.mode is None:
        mode = "cls" if has_cls else "mean"
        if own is not None and layer is None and (not has_cls or several):
            mode = "projection" if tower == "features" else "pooler"
        pooling = replace(pooling, mode=mode)
    _check_mode(source, tower, pooling, has_cls, own, layer)
    vector = _vector_width(source, pooling, width, own)
    return Structure(tower, has_cls, width, vector, pooling, tokens, grid, front, end, _depth(source), **layers)


def cls_structure(
    source: ModelSource, modality: Modality, pixels: tuple[int, int] | None = None, layer: int | None = None
) -> Structure:
    """The structure of a model whose CLS is its vector, as its configuration says it."""
    if source.modality is None:
        source = replace(source, modality=modality)
    pooling = Pooling(mode="cls")
    if modality == "image":
        grid = patch_grid(source, pixels)
        height, width = pixels or tuple(side * patch for side, patch in zip(grid, patch_size(source), strict=True))
        return image_structure(source, {"pixel_values": torch.zeros(1, 3, height, width)}, pooling, layer)
    tower, model = built(source, "text", pooling)
    if is_causal(source, model) or tower != "alone":
        raise BadInput(f"{source.name}: a decoder, whose first token sees nothing of the text; name a pooling for it")
    _, layers = probe(source, tower, model, sample_text(), "text", layer)
    return Structure(tower, True, source.width, source.width, pooling, **layers)


def _check_mode(
    source: ModelSource, tower: str, pooling: Pooling, has_cls: bool, own: torch.Tensor | None, layer: int | None
) -> None:
    for mode in pooling.modes:
        lacks = own is None or layer is not None or (mode == "projection" and tower not in ("features", "projected"))
        if mode in ("pooler", "projection") and lacks:
            why = "a layer before the last has none" if layer is not None else "it has none"
            raise BadInput(f"{source.name}: pooling {mode}: {why}; choose cls, mean or max")
        if mode == "cls" and not has_cls and source.sentence is None:
            raise BadInput(f"{source.name}: pooling cls: it has no CLS position; choose mean, max or last")
        if mode in ("last", "weightedmean") and source.modality == "image":
            raise BadInput(f"{source.name}: pooling {mode} is for texts; choose cls, mean, max or pooler")


def _vector_width(source: ModelSource, pooling: Pooling, width: int, own: torch.Tensor | None) -> int:
    given = 0 if own is None else int(own.shape[-1])
    wide = sum(given if mode in ("pooler", "projection") else width for mode in pooling.modes)
    return width_behind(pooling, wide, source.name)


def _map_shape(hidden: torch.Tensor, own: torch.Tensor | None) -> tuple[int, tuple[int, int]]:
    """The width and the grid of a feature map, (1, C, H, W) or (1, H, W, C)."""
    if channels_last(hidden, own):
        return hidden.shape[3], (hidden.shape[1], hidden.shape[2])
    return hidden.shape[1], (hidden.shape[2], hidden.shape[3])


def channels_last(hidden: torch.Tensor, own: torch.Tensor | None) -> bool:
    """Whether a feature map (B, ., ., .) ends with its channels.

    The model's own pooled vector has as many of them; without one, the two equal sides are those of a square map.
    """
    _, first, second, third = hidden.shape
    return first == second != third if own is None else first != own.shape[-1] == third


def _declared(source: ModelSource, shapes: Mapping[str, torch.Size]) -> tuple[int, int]:
    """How many other tokens stand behind the first CLS, and detection tokens at the end, by parameters' ``shapes``.

    Behind it stand further CLS tokens, registers and a distillation token.
    """
    count = {name: int(shape[1]) if len(shape) == 3 else 0 for name, shape in shapes.items()}
    registers = int(getattr(source.settings, "num_register_tokens", 0) or 0)
    registers = registers or count.get("register_tokens", 0) + count.get("reg_token", 0)
    distillation = count.get("distillation_token", 0) + count.get("dist_token", 0)
    more = sum(max(0, count.get(name, 0) - 1) for name in _CLS_PARAMETERS)
    pooled = 1 if source.model_type in _POOLED_FIRST else 0
    return registers + distillation + more + pooled, count.get("detection_tokens", 0)


def _config_grid(source: ModelSource, sample: Mapping[str, torch.Tensor]) -> tuple[int, int] | None:
    """Patches of an image by the patch size in the configuration, where it has one."""
    patch = getattr(source.settings, "patch_size", None)
    pixels = sample["pixel_values"]
    sides = (patch, patch) if isinstance(patch, int) else tuple(patch) if isinstance(patch, (list, tuple)) else ()
    if pixels.dim() != 4 or len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        return None
    return pixels.shape[2] // sides[0], pixels.shape[3] // sides[1]


def _grid(
    source: ModelSource, sample: Mapping[str, torch.Tensor], tokens: int, has_cls: bool
) -> tuple[int, int] | None:
    """Rows and columns of the patches: by the patch size, or of a square feature map; None where neither fits."""
    by_patch = _config_grid(source, sample)
    if by_patch is not None and math.prod(by_patch) == tokens:
        return by_patch
    if "spatial_shapes" in sample:
        rows, columns = sample["spatial_shapes"][0].tolist()
        return (rows, columns) if rows * columns == tokens else None
    side = math.isqrt(max(tokens, 0))
    return (side, side) if side * side == tokens and not (has_cls and by_patch is not None) else None


def _depth(source: ModelSource) -> int:
    depth = getattr(source.settings, "num_hidden_layers", None)
    return depth if isinstance(depth, int) else 0
