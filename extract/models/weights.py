"""Weights from safetensors into a model, none of them left random, and those without a place reported."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from ...data.runtime.errors import BadInput
from . import packed
from .failures import first_line, is_out_of_memory
from .transformers_log import quiet_transformers

if TYPE_CHECKING:
    import torch

    from .source import ModelSource
    from .structure import Structure


def load_model(
    source: ModelSource, model_class: Any, settings: Any, dtype: torch.dtype, structure: Structure
) -> nn.Module:
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters and structure.has_cls:
        options["add_pooling_layer"] = "pooler" in structure.pooling.modes
    source.weight_files()
    # models that know no attention functions but their own
    attentions = [packed.ATTENTION, "sdpa"] if model_class._supports_sdpa else []
    if structure.tower not in ("alone", "projected"):
        attentions = attentions[1:]
    for attention in [*attentions, "eager"]:
        try:
            with quiet_transformers():
                model, report = model_class.from_pretrained(
                    source.folder,
                    config=deepcopy(settings),
                    dtype=dtype,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                    attn_implementation=attention,
                    **options,
                )
            break
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if attention == "eager" or not _is_about_attention(error):
                source.refuse_remote_code()
                why = first_line(error)
                raise BadInput(f"{source.name}: its weights cannot be loaded: {why}; fetch it again") from error
    _refuse_gaps(source, report, structure)
    model.eval().requires_grad_(requires_grad=False)
    _drop_other_tower(model, source, structure)
    model.unused_weights = _unused(report, structure)
    return cast("nn.Module", model)


def _is_about_attention(error: Exception) -> bool:
    words = str(error).lower()
    return packed.ATTENTION in words or "attn_implementation" in words or "sdpa" in words


def _drop_other_tower(model: nn.Module, source: ModelSource, structure: Structure) -> None:
    """Give back the memory of the tower, or the decoder, that is never run."""
    others = []
    if structure.tower == "features":
        others = ["vision_model"] if source.modality == "text" else ["text_model"]
    if structure.tower == "encoder":
        others = ["decoder"]
    for name in others:
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, None)


def _refuse_gaps(source: ModelSource, report: Any, structure: Structure) -> None:
    """Weights that the checkpoint lacks would be random. A mask token is never used here, a pooler seldom."""
    asks_pooler = {"pooler", "projection"} & set(structure.pooling.modes)
    missing = [
        key for key in report["missing_keys"]
        if (asks_pooler or "pooler" not in key) and not key.endswith(("mask_token", "position_ids", "logit_scale"))
    ]  # fmt: skip
    if structure.tower == "encoder":
        missing = [key for key in missing if not key.startswith("decoder.")]
    mismatched = [key[0] for key in report.get("mismatched_keys", ())]
    broken = sorted(missing) + sorted(mismatched) + list(report.get("error_msgs", ()))
    if broken:
        source.refuse_remote_code()
        if source.has_two_towers and structure.tower == "alone":
            raise BadInput(
                f"{source.name}: a model of texts and images whose {source.modality} tower cannot be run by itself "
                f"({len(broken)} of its weights are elsewhere); give that tower's own model, or CLIP or SigLIP"
            )
        raise BadInput(
            f"{source.name}: its weights do not fit its config.json: {len(broken)} are missing or misshapen, "
            f"such as {broken[0]}; fetch the model again or choose another"
        )


_HEADS = (
    "cls.", "classifier", "lm_head", "head.", "qa_outputs", "vocab_", "generator", "discriminator", "decoder.",
    "pooler",     "text_model", "vision_model", "text_projection", "visual_projection", "logit_", "mlm", "fc.",
)  # fmt: skip


def _unused(report: Any, structure: Structure) -> list[str]:
    """Weights of the checkpoint that the model has no place for, heads of its training not among them."""
    unused = [str(key) for key in report.get("unexpected_keys", ())]
    return sorted(key for key in unused if not any(head in key for head in _HEADS) and "position_ids" not in key)
