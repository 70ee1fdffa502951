"""Which class of transformers reads a model's texts or images, and how it is run: alone, or as one tower of two."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from ...data.runtime.errors import BadInput
from .failures import first_line, quiet_transformers

if TYPE_CHECKING:
    from .pooling import Pooling
    from .source import Modality, ModelSource


def model_class(source: ModelSource, modality: Modality, pooling: Pooling) -> tuple[str, Any, Any]:
    """How the model is run (as `Structure.tower` says), its class and the configuration for it.

    Raises BadInput where transformers has no class that reads this modality.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_BACKBONE_MAPPING,
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        MODEL_MAPPING,
    )

    whole, settings = source.whole_settings, source.settings
    both, found = _found(MODEL_MAPPING, whole), _found(MODEL_MAPPING, settings)
    wants_projection = "projection" in pooling.modes or (modality == "text" and pooling.mode is None)
    if modality == "text" and hasattr(both, "get_text_features"):
        return "features", both, whole
    if modality == "image" and hasattr(both, "get_image_features"):
        shared = hasattr(both, "get_text_features")
        if settings is whole or (shared and (wants_projection or not _reads(found, modality))):
            return "features", both, whole
    if settings is whole:
        projected = _named(whole, ("ModelWithProjection",))
        if projected is not None and wants_projection:
            return "projected", projected, settings
    if modality == "text":
        alone = _found(MODEL_FOR_TEXT_ENCODING_MAPPING, settings)
        if alone is not None and alone.__name__.endswith("EncoderModel") and _builds(alone, settings):
            return "alone_encoder", alone, settings
        if getattr(settings, "is_encoder_decoder", False) and hasattr(found, "get_encoder") and _reads(found, modality):
            return "encoder", found, settings
        found = _named(settings, ("Encoder",)) or found
    elif found is None:
        found = _found(MODEL_FOR_BACKBONE_MAPPING, settings)
    if _reads(found, modality):
        return "alone", found, settings
    source.refuse_remote_code()
    if settings is not whole:
        raise BadInput(
            f"{source.name}: model type {whole.model_type!r} has no {modality} tower that can be run by itself; "
            f"give that tower's own model"
        )
    like = "ViT-like image" if modality == "image" else "BERT-like text"
    raise BadInput(f"{source.name}: model type {source.model_type!r} is no {like} model; choose one that is")


def _found(mapping: Any, settings: Any) -> Any:
    """The class of ``mapping`` for this configuration: of several, the one that the configuration names."""
    try:
        found = mapping[type(settings)]
    except (KeyError, ImportError):
        return None
    if not isinstance(found, (tuple, list)):
        return found
    named = getattr(settings, "architectures", None) or ()
    return next((kind for kind in found if kind.__name__ in named), found[0])


def _builds(kind: Any, settings: Any) -> bool:
    """Whether the class takes the configuration: T5Gemma's encoder has one of its own."""
    try:
        with torch.device("meta"), quiet_transformers():
            kind(deepcopy(settings))
    except ValueError:
        return False
    return True


def _named(settings: Any, endings: tuple[str, ...]) -> Any:
    """The class of transformers for this configuration that it names itself and whose name ends so; or None."""
    import transformers

    for name in getattr(settings, "architectures", None) or ():
        kind = getattr(transformers, str(name), None) if str(name).endswith(endings) else None
        if kind is not None and getattr(kind, "config_class", None) is type(settings):
            return kind
    return None


def _reads(kind: Any, modality: Modality) -> bool:
    """Whether the class takes token ids, or pixels."""
    if kind is None:
        return False
    return ("pixel_values" if modality == "image" else "input_ids") in inspect.signature(kind.forward).parameters


@dataclass(frozen=True)
class Output:
    """What a tower gives: hidden states (B, ...), and the vectors (B, V) that it made of them itself; None: none."""

    hidden: torch.Tensor | None
    own: torch.Tensor | None


def run_tower(tower: str, model: nn.Module, modality: Modality, inputs: Mapping[str, torch.Tensor]) -> Output:
    """The output of the part of ``model`` that ``tower`` names."""
    out = whole_output(tower, model, modality, inputs)
    if isinstance(out, torch.Tensor):  # pooled, and nothing else
        return Output(None, out if out.dim() == 2 else None)
    hidden = getattr(out, "last_hidden_state", None)
    maps, states = getattr(out, "feature_maps", None), getattr(out, "hidden_states", None)
    if hidden is None and maps:
        hidden = maps[-1]
    elif hidden is None and modality == "text":
        settings: Any = model.config
        if states is None and not settings.output_hidden_states:
            settings.output_hidden_states = True  # kept for the next batch
            return run_tower(tower, model, modality, inputs)
        hidden = states[-1] if states else None
    if not isinstance(hidden, torch.Tensor):
        return Output(None, None)
    own = next((value for value in map(partial(_pooled, out), _POOLED) if value is not None), None)
    return Output(hidden, own if own is not None and len(own) == len(hidden) else None)


def whole_output(
    tower: str, model: nn.Module, modality: Modality, inputs: Mapping[str, torch.Tensor], **options: bool
) -> Any:
    """All that transformers returns of the part of ``model`` that ``tower`` names."""
    run = getattr(model, f"get_{modality}_features") if tower == "features" else part(tower, model)
    return run(**inputs, return_dict=True, **options)


def lacking(tower: str, model: nn.Module, modality: Modality, given: Iterable[str]) -> list[str]:
    """What this part of ``model`` must be given beside the inputs ``given``."""
    run = getattr(model, f"get_{modality}_features") if tower == "features" else part(tower, model).forward
    parameters = inspect.signature(run).parameters.values()
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return sorted({one.name for one in named if one.default is one.empty} - {*given, "self"})


def part(tower: str, model: nn.Module) -> nn.Module:
    """The module that is run: the encoder of an encoder-decoder, else the model."""
    return cast("nn.Module", cast("Any", model).get_encoder()) if tower == "encoder" else model


_POOLED = ("text_embeds", "image_embeds", "pooler_output", "cls_token_value")


def _pooled(out: Any, name: str) -> torch.Tensor | None:
    value = getattr(out, name, None)
    if isinstance(value, torch.Tensor) and value.dim() == 4 and value.shape[2:] == (1, 1):
        value = value.flatten(1)
    if isinstance(value, torch.Tensor) and value.dim() == 3 and value.shape[1] == 1:
        value = value[:, 0]  # a CLS that stands beside its feature map
    return value if isinstance(value, torch.Tensor) and value.dim() == 2 else None


def built(source: ModelSource, modality: Modality, pooling: Pooling) -> tuple[str, nn.Module]:
    """How the model is run, and the model itself on the meta device: its structure without memory for weights."""
    tower, kind, settings = model_class(source, modality, pooling)
    try:
        with torch.device("meta"), quiet_transformers():
            model = kind(without_cache(settings))
    except Exception as error:  # missing packages, configurations that do not fit together
        source.refuse_remote_code()
        raise BadInput(
            f"{source.name}: transformers cannot build it: {first_line(error)}; choose another model"
        ) from error
    return tower, cast("nn.Module", model.eval())


def whole_model(source: ModelSource) -> nn.Module | None:
    """The model of which a tower is a part, on the meta device; None where transformers cannot build it."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    kind = _found(MODEL_MAPPING, source.whole_settings)
    try:
        with torch.device("meta"), quiet_transformers():
            return cast("nn.Module", kind(deepcopy(source.whole_settings)))
    except Exception:  # missing packages, among much else
        return None


def without_cache(settings: Any) -> Any:
    """A copy of the configuration whose model keeps no keys and values for texts that go on."""
    settings = deepcopy(settings)
    if getattr(settings, "use_cache", False):
        settings.use_cache = False
    return settings


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
