"""More families, each the way most of its models come: what `encoder_families` has not by a layout of its own."""

from __future__ import annotations

from typing import Any

import transformers as hf

from cinefuse.tests.support.encoder_families import (
    BERT_LIKE,
    CROP,
    EOS,
    SIDE,
    Family,
    build_llava,
    image,
    text,
)
from cinefuse.tests.support.small_models import small, small_config

_BOTH: dict[str, Any] = {"template": "[CLS] $A [SEP]", "names": {"bos_token": "[CLS]", **EOS}}
_XLM = {"template": "[SEP] $A [SEP]", "names": {"cls_token": "[SEP]", "sep_token": "[SEP]", "bos_token": "[CLS]"}}
_ONE_LENGTH = "one length a batch"


def _bert_like(name: str, model_type: str, example: str = "", **rest: Any) -> Family:
    changes = rest.pop("changes", {})
    return text(name, small(model_type, **changes), example=example, **rest)


def _encoder(name: str, model_type: str, example: str = "", **changes: Any) -> Family:
    """The encoder of a model that also has a decoder."""
    return text(name, small(model_type, **changes), "mean", cls=False, example=example)


def _decoder(name: str, model_type: str, example: str = "", **changes: Any) -> Family:
    return text(name, small(model_type, **changes), "last", cls=False, example=example)


def _shared(name: str, model_type: str, example: str = "", **rest: Any) -> Family:
    """The text tower of a model that projects texts and something else into one space."""
    changes = rest.pop("changes", {})
    return text(
        f"{name}, text tower", small(model_type, **changes), "projection", cls=False, example=example, **_BOTH | rest
    )


def _context_encoder() -> Any:
    return hf.DPRContextEncoder(small_config(hf.DPRConfig))


FURTHER_TEXTS = [
    _bert_like("GTE", "gte"),
    _bert_like("Jina embeddings v3", "jina_embeddings_v3", "jinaai/jina-embeddings-v3-hf"),
    _bert_like("MarkupLM", "markuplm", "microsoft/markuplm-base"),
    _bert_like("MRA", "mra", "uw-madison/mra-base-512-4"),
    _bert_like("YOSO", "yoso", "uw-madison/yoso-4096", path=_ONE_LENGTH),
    _bert_like("XLM-RoBERTa-XL", "xlm-roberta-xl", "facebook/xlm-roberta-xl"),
    _bert_like("XLM", "xlm", "FacebookAI/xlm-mlm-en-2048", **_XLM),
    _bert_like("FlauBERT", "flaubert", "flaubert/flaubert_base_cased", **_XLM),
    text("DPR", _context_encoder, "pooler", cls=False, example="facebook/dpr-ctx_encoder-single-nq-base", **_BOTH),
    _encoder("LongT5", "longt5", "google/long-t5-local-base"),
    _encoder("Switch Transformers", "switch_transformers", "google/switch-base-8"),
    _encoder("T5Gemma", "t5gemma", "google/t5gemma-b-b-ul2"),
    _encoder("Pegasus", "pegasus", "google/pegasus-xsum"),
    _encoder("BigBird-Pegasus", "bigbird_pegasus", "google/bigbird-pegasus-large-arxiv"),
    _encoder("mBART", "mbart", "facebook/mbart-large-50"),
    _encoder("Marian", "marian", "Helsinki-NLP/opus-mt-en-de"),
    _encoder("M2M-100, NLLB", "m2m_100", "facebook/nllb-200-distilled-600M"),
    _encoder("LED", "led", "allenai/led-base-16384"),
    _decoder("Gemma", "gemma", "google/gemma-2b"),
    _decoder("Gemma 2", "gemma2", "google/gemma-2-2b"),
    _decoder("Phi-3", "phi3", "microsoft/Phi-3-mini-4k-instruct"),
    _decoder("OPT", "opt", "facebook/opt-125m"),
    _decoder("BLOOM", "bloom", "bigscience/bloom-560m"),
    _decoder("GPT-NeoX, Pythia", "gpt_neox", "EleutherAI/pythia-160m"),
    _decoder("OLMo 2", "olmo2", "allenai/OLMo-2-0425-1B"),
    _decoder("SmolLM3", "smollm3", "HuggingFaceTB/SmolLM3-3B"),
    _decoder("Qwen3 MoE", "qwen3_moe", "Qwen/Qwen3-30B-A3B"),
    _decoder("ModernBERT decoder", "modernbert-decoder", "jhu-clsp/ettin-decoder-17m"),
    _shared("BLIP", "blip", "Salesforce/blip-image-captioning-base"),
    _shared("AltCLIP", "altclip", "BAAI/AltCLIP"),
    _shared("Chinese-CLIP", "chinese_clip", "OFA-Sys/chinese-clip-vit-base-patch16"),
    _shared("MetaCLIP 2", "metaclip_2", "facebook/metaclip-2-worldwide-s16"),
    _shared("AIMv2", "aimv2", "apple/aimv2-large-patch14-224-lit", path=_ONE_LENGTH),
    _shared("GroupViT", "groupvit", "nvidia/groupvit-gcc-yfcc"),
    _shared("OWL-ViT", "owlvit", "google/owlvit-base-patch32", path=_ONE_LENGTH),
    _shared("TIPS v2", "tipsv2"),
    _shared("CLAP", "clap", "laion/clap-htsat-unfused"),
    text(
        "FLAVA, text tower",
        small("flava"),
        "cls",
        cls=False,
        template="[CLS] $A [SEP]",
        names=dict(BERT_LIKE),
        example="facebook/flava-full",
    ),
    Family(
        "LLaVA, language model",
        "text",
        build_llava,
        "last",
        False,
        "llava-hf/llava-1.5-7b-hf",
        path="padded",
        part="language_model",
    ),
    text(
        "Qwen3-VL, language model",
        small("qwen3_vl"),
        "last",
        cls=False,
        part="language_model",
        example="Qwen/Qwen3-VL-Embedding-2B",
    ),
]


def _map(name: str, model_type: str, pooling: str, example: str = "", **rest: Any) -> Family:
    """A family without a CLS token."""
    changes, kind = rest.pop("changes", {}), rest.pop("kind", "ViTImageProcessor")
    return image(name, small(model_type, **changes), kind, pooling, False, example=example, **rest)


def _tower(name: str, model_type: str, pooling: str, cls: bool, example: str = "", **rest: Any) -> Family:
    """The vision tower of a larger model."""
    changes, part = rest.pop("changes", {}), rest.pop("part", "vision_model")
    make = small(model_type, **changes)
    name = f"{name}, vision tower"
    return image(name, make, "CLIPImageProcessor", pooling, cls, example=example, pixels=CROP, part=part, **rest)


_VIT = "ViTImageProcessor"
_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
_SAM = {"output_channels": 16, "window_size": 2, "global_attn_indexes": [1]}
_HG = {
    "embedding_size": 16, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "stem_channels": [3, 8, 16],
    "stage_in_channels": [16, 16, 24, 32], "stage_mid_channels": [8, 8, 8, 8], "stage_out_channels": [16, 24, 32, 40],
    "stage_num_blocks": [1, 1, 1, 1],
}  # fmt: skip
_THREE = {
    "patch_sizes": [7, 3, 3], "patch_stride": [4, 2, 2], "patch_padding": [2, 1, 1], "embed_dim": [16, 24, 32],
    "num_heads": [1, 2, 2], "depth": [1, 2, 3], "cls_token": [False, False, True],
}  # fmt: skip
FURTHER_IMAGES = [
    image(
        "Pixio", small("pixio"), "ViTImageProcessor", "pooler", True, dropped=(7, 0), example="facebook/pixio-vitb16"
    ),
    image("Sapiens 2", small("sapiens2"), _VIT, "cls", True, dropped=(8, 0)),
    image("TIPS v2, vision model", small("tipsv2_vision_model"), _VIT, "cls", True, dropped=(1, 0)),
    image(
        "DPT",
        small(
            "dpt", is_hybrid=False, backbone_out_indices=[0, 1, 1, 1], neck_hidden_sizes=[8] * 4, fusion_hidden_size=8
        ),
        "ViTImageProcessor",
        "cls",
        True,
        example="Intel/dpt-large",
    ),
    image(
        "PVT",
        small("pvt", **_STAGES, num_attention_heads=[1, 1, 2, 2], patch_sizes=[4, 2, 2, 2]),
        "ViTImageProcessor",
        "cls",
        True,
        example="Zetatech/pvt-tiny-224",
    ),
    image("InternViT", small("internvl_vision"), "CLIPImageProcessor", "cls", True, pixels=CROP),
    _map("CvT", "cvt", "pooler", "microsoft/cvt-13", changes=_THREE),
    _map("RADIO", "radio", "mean", "nvidia/C-RADIOv2-B"),
    _map("Donut", "donut-swin", "pooler", "naver-clova-ix/donut-base", changes={**_SWIN, "patch_size": 4}),
    _map("Swin2SR", "swin2sr", "mean", changes={**_SWIN, "patch_size": 1}),
    _map(
        "GLPN",
        "glpn",
        "mean",
        "vinvino02/glpn-nyu",
        changes={**_STAGES, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16},
    ),
    _map(
        "SwiftFormer",
        "swiftformer",
        "mean",
        "MBZUAI/swiftformer-xs",
        changes={"embed_dims": [16, 24, 32, 40], "depths": [1, 1, 1, 1]},
    ),
    _map("MobileNet V1", "mobilenet_v1", "pooler", "google/mobilenet_v1_1.0_224", changes={"depth_multiplier": 0.25}),
    _map("HGNet V2", "hgnet_v2", "mean", changes=_HG),
    _map("ViTDet", "vitdet", "mean", changes={"pretrain_image_size": SIDE}),
    _map("SAM, image encoder", "sam_vision_model", "mean", changes=_SAM),
    _map("SAM-HQ, image encoder", "sam_hq_vision_model", "mean", changes=_SAM),
    _map("Pixtral", "pixtral", "mean"),
    _map("Idefics3, SmolVLM vision model", "idefics3_vision", "mean"),
    _tower("LLaVA", "llava", "cls", True, "llava-hf/llava-1.5-7b-hf", part="vision_tower"),
    _tower("BLIP", "blip", "cls", True, "Salesforce/blip-image-captioning-base"),
    _tower("BLIP-2", "blip-2", "cls", True, "Salesforce/blip2-opt-2.7b"),
    _tower("AltCLIP", "altclip", "cls", True, "BAAI/AltCLIP"),
    _tower("Chinese-CLIP", "chinese_clip", "cls", True, "OFA-Sys/chinese-clip-vit-base-patch16"),
    _tower("MetaCLIP 2", "metaclip_2", "cls", True, "facebook/metaclip-2-worldwide-s16"),
    _tower("AIMv2", "aimv2", "pooler", False, "apple/aimv2-large-patch14-224-lit"),
    _tower("OWL-ViT", "owlv2", "cls", True, "google/owlv2-base-patch16"),
    _tower("FLAVA", "flava", "cls", True, "facebook/flava-full", part="image_model"),
    _tower("Vision-text dual encoder", "vision-text-dual-encoder", "cls", True),
]
