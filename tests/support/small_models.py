"""Tiny models of any model type of transformers: its own configuration, made small by the names of its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from cinefuse.tests.support.encoder_families import DEEP, HEADS, INNER, PATCH, SIDE, VOCABULARY, WIDE

_SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim"), WIDE),
    **dict.fromkeys(("embedding_size", "word_embed_proj_dim"), WIDE),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), HEADS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), HEADS),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), DEEP),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), DEEP),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "hidden_dim", "mlp_dim"), INNER),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), INNER),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 80),
    **dict.fromkeys(("initializer_range", "init_std"), 0.1),
    "vocab_size": VOCABULARY, "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8, "projection_dim": 24,
    "image_size": SIDE, "patch_size": PATCH, "sliding_window": 8, "num_experts": 4, "num_local_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16,
}  # fmt: skip
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}


def small_config(kind: Any, **changes: Any) -> Any:
    """A configuration of the class `kind` in the tiny size, and so those of its parts; `changes` go before."""
    default, settings = kind(), {}
    for name, value in {**_SMALL, **_IDS}.items():
        found = getattr(default, name, None) if name not in getattr(kind, "attribute_map", {}) else None
        if isinstance(found, (list, tuple)) and name in ("image_size", "patch_size"):
            settings[name] = [value] * len(found)
        elif (found is not None and not isinstance(found, (list, tuple, dict))) or (
            name in _IDS and hasattr(default, name)
        ):
            settings[name] = value
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(getattr(default, name, None), (list, tuple)):
            settings[name] = list(getattr(default, name))[-DEEP:]
    for name in getattr(kind, "sub_configs", {}):
        part = getattr(default, name, None)
        if part is not None:
            settings[name] = small_config(type(part), **changes.pop(name, {})).to_dict()
    return kind(**(settings | changes))


def small(model_type: str, **changes: Any) -> Callable[[], Any]:
    """Makes the base model of `model_type`, its configuration changed by `changes`."""

    def make() -> Any:
        return hf.AutoModel.from_config(small_config(CONFIG_MAPPING[model_type], **changes))

    return make
