"""Which class of transformers reads a model's texts or images, and how it is run: alone, or as one tower of two."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from ...data.runtime.errors import BadInput
from .failures import first_line
from .transformers_log import quiet_transformers

if TYPE_CHECKING:
    from .pooling import Pooling
    from .source import Modality, ModelSource


def model_class(source: ModelSource, modality: Modality, pooling: Pooling) -> tuple[str, Any, Any]:
    """How the model is run (as `Structure.tower` says), its class and the configuration for it.

    Raises BadInput where transformers has no class that reads this modality.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

    wanted = "pixel_values" if modality == "image" else "input_ids"
    whole, settings = source.whole_settings, source.settings
    features = f"get_{modality}_features"
    wants_projection = "projection" in pooling.modes or (modality == "text" and pooling.mode is None)
    if source.has_two_towers:
        both = _found(MODEL_MAPPING, whole)
        tower = _found(MODEL_MAPPING, settings)
        two = both is not None and hasattr(both, "get_text_features") and hasattr(both, "get_image_features")
        reads = tower is not None and getattr(tower, "main_input_name", None) == wanted
        if two and (modality == "text" or wants_projection or not reads):
            return "features", both, whole
        if not reads or (modality == "text" and not two):
            raise BadInput(
                f"{source.name}: model type {whole.model_type!r} has no {modality} tower that can be run by itself; "
                f"give that tower's own model"
            )
        return "alone", tower, settings
    if modality == "text":
        alone = _found(MODEL_FOR_TEXT_ENCODING_MAPPING, settings)
        if alone is not None and alone.__name__.endswith("EncoderModel"):
            return "alone_encoder", alone, settings
    named = [str(name) for name in getattr(whole, "architectures", None) or ()]
    projected = next((name for name in named if name.endswith("ModelWithProjection")), None)
    if projected and wants_projection and getattr(transformers, projected, None) is not None:
        return "projected", getattr(transformers, projected), settings
    if modality == "text" and getattr(settings, "is_encoder_decoder", False):
        both = _found(MODEL_MAPPING, settings)
        if both is not None and hasattr(both, "get_encoder") and getattr(both, "main_input_name", None) == wanted:
            return "encoder", both, settings
    found = _found(MODEL_MAPPING, settings)
    if found is None or getattr(found, "main_input_name", None) != wanted:
        if found is not None and hasattr(found, features) and modality == "image":
            return "features", found, settings
        source.refuse_remote_code()
        like = "ViT-like image" if modality == "image" else "BERT-like text"
        raise BadInput(f"{source.name}: model type {source.model_type!r} is no {like} model; choose one that is")
    return "alone", found, settings


def run_tower(tower: str, model: nn.Module, modality: Modality, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The output of the part of ``model`` that ``tower`` names."""
    if tower == "features":
        out = getattr(model, f"get_{modality}_features")(**inputs, return_dict=True)
        return _Pooled(out) if isinstance(out, torch.Tensor) else out
    if tower == "encoder":
        return cast("Any", model).get_encoder()(**inputs, return_dict=True)
    return model(**inputs, return_dict=True)


def own_vector(out: Any) -> torch.Tensor | None:
    """(B, V) what the model itself made of all positions: its projection, its pooler; None where it has none."""
    for name in ("text_embeds", "image_embeds", "pooler_output"):
        value = getattr(out, name, None)
        if isinstance(value, torch.Tensor):
            if value.dim() == 4 and value.shape[2:] == (1, 1):
                return value.flatten(1)
            if value.dim() == 2:
                return value
    return None


@dataclass(frozen=True)
class _Pooled:
    pooler_output: torch.Tensor


def _found(mapping: Any, settings: Any) -> Any:
    try:
        found = mapping[type(settings)]
    except (KeyError, ImportError):
        return None
    return found[0] if isinstance(found, (tuple, list)) else found


def built(source: ModelSource, modality: Modality, pooling: Pooling) -> tuple[str, nn.Module]:
    """How the model is run, and the model itself on the meta device: its structure without memory for weights."""
    tower, kind, settings = model_class(source, modality, pooling)
    try:
        with torch.device("meta"), quiet_transformers():
            model = kind(deepcopy(settings))
    except Exception as error:  # missing packages, configurations that do not fit together
        source.refuse_remote_code()
        raise BadInput(
            f"{source.name}: transformers cannot build it: {first_line(error)}; choose another model"
        ) from error
    return tower, cast("nn.Module", model.eval())


def is_causal(source: ModelSource, model: nn.Module) -> bool:
    """Whether a position sees only what stands before it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    declared = {
        bool(module.is_causal) for module in model.modules() if isinstance(getattr(module, "is_causal", None), bool)
    }
    settings = source.settings
    if declared:
        return True in declared
    if getattr(settings, "is_decoder", False) and not getattr(settings, "is_encoder_decoder", False):
        return True
    kind = type(settings)
    return (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING and kind.model_type != "xlnet"
    )
