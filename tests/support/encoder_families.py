"""Tiny models of every family that users bring, with random weights, saved as the hub has them, and how each is read.

Everything about them is real but what they have learned. `FAMILIES` is what `docs/encoders.md` says in its table: the
test that holds each against plain transformers writes the table too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers as hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from cinefuse.extract.models.failures import quiet_transformers

WORDS = [
    "a",
    "the",
    "ferry",
    "boat",
    "at",
    "dawn",
    "night",
    "in",
    "old",
    "town",
    "two",
    "friends",
    "rob",
    "bank",
    "and",
    "love",
    "war",
    "film",
    "of",
    "on",
    "road",
    "lost",
    "dog",
    "king",
    "sea",
    "her",
    "his",
    "letters",
    "train",
    "home",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = len(SPECIAL) + len(WORDS)
WIDE, HEADS, DEEP, INNER, SIDE, PATCH = 32, 4, 2, 48, 64, 16
SIZE = {
    "hidden_size": WIDE, "num_attention_heads": HEADS, "num_hidden_layers": DEEP, "intermediate_size": INNER,
}  # fmt: skip
TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": 80, "pad_token_id": 0, "initializer_range": 0.2}
IMAGE = {"image_size": SIDE, "patch_size": PATCH, "initializer_range": 0.2}


@dataclass(frozen=True)
class Family:
    """One layout: ``build`` saves it into a folder.

    ``pooling`` is what its vector is (None where it is refused, by a line with ``refusal`` in it), ``cls`` whether the
    first position is a CLS. ``path``: our own pixels or the library's; for texts whether the batch is padded.
    ``dropped`` (front, end) positions are no tokens. ``part`` is the attribute of the plain model that is meant.
    """

    name: str
    modality: str
    build: Callable[[Path], None]
    pooling: str | None
    cls: bool
    example: str = ""
    refusal: str = ""
    path: str = ""
    dropped: tuple[int, int] = (0, 0)
    part: str = ""


def tokenizer(template: str = "[CLS] $A [SEP]", **names: str) -> Any:
    """A tokenizer of the WORDS whose texts are framed by ``template``; ``names`` are its special tokens."""
    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    own = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    own.normalizer = normalizers.Lowercase()
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(word, words[word]) for word in SPECIAL]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", **names}
    return hf.PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=64, **names)


BERT_LIKE = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


def save(model: Any, folder: Path, **files: Any) -> None:
    """The model, and what else makes its folder: `tokenizer`, or JSON files by their name before `.json`."""
    with quiet_transformers():
        model.save_pretrained(folder)
        for name, content in files.items():
            if name == "tokenizer":
                content.save_pretrained(folder)
            else:
                write_json(folder / f"{name}.json", content)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def text(name: str, make: Callable[[], Any], pooling: str | None = "cls", cls: bool = True, **rest: Any) -> Family:
    """A text family with the tokenizer that its ``pooling`` needs."""
    template, names = "[CLS] $A [SEP]", dict(BERT_LIKE)
    if not cls:
        template, names = "$A [SEP]", {"eos_token": "[SEP]"}
    template, names = rest.pop("template", template), rest.pop("names", names)

    def build(folder: Path) -> None:
        save(make(), folder, tokenizer=tokenizer(template, **names))

    return Family(name, "text", build, pooling, cls, path=rest.pop("path", "padded"), **rest)


PIXELS = {
    "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "resample": 2, "do_rescale": True, "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
}  # fmt: skip
CROP = {"do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}, "size": {"shortest_edge": SIDE + 8}}


def image(name: str, make: Callable[[], Any], kind: str, pooling: str | None, cls: bool, **rest: Any) -> Family:
    """An image family whose pixels are made by ``kind``, the name of an image processor."""
    settings = {"image_processor_type": kind, **PIXELS, **rest.pop("pixels", {})}

    def build(folder: Path) -> None:
        save(make(), folder, preprocessor_config=settings)

    return Family(name, "image", build, pooling, cls, path=rest.pop("path", "own"), **rest)


def clip(**options: Any) -> Any:
    texts = {**SIZE, "vocab_size": VOCABULARY, "max_position_embeddings": 64, "bos_token_id": 2, "eos_token_id": 3,
             "pad_token_id": 0}  # fmt: skip
    config = hf.CLIPConfig(text_config=texts, vision_config={**SIZE, **IMAGE}, projection_dim=24, **options)
    return hf.CLIPModel(config)


def build_clip(folder: Path, *, transformers: int) -> None:
    names = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    own = {"image_processor_type": "CLIPImageProcessor", **PIXELS, **CROP, "resample": 3}
    save(clip(), folder, tokenizer=tokenizer("[CLS] $A [SEP]", **names))
    if transformers == 4:
        write_json(folder / "preprocessor_config.json", own)
    else:
        write_json(folder / "processor_config.json", {"processor_class": "CLIPProcessor", "image_processor": own})


def build_llava(folder: Path) -> None:
    """A vision-language model: CLIP's vision tower and Llama, each within the weights of the whole."""
    text = {"model_type": "llama", **SIZE, **TEXT, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
    vision = {"model_type": "clip_vision_model", **SIZE, **IMAGE}
    model = hf.LlavaForConditionalGeneration(hf.LlavaConfig(text_config=text, vision_config=vision))
    processor = {"image_processor_type": "CLIPImageProcessor", **PIXELS, **CROP}
    save(model, folder, tokenizer=tokenizer("$A [SEP]", **EOS), preprocessor_config=processor)


def build_siglip(folder: Path) -> None:
    """SigLIP, and SigLIP 2 in a fixed size, which is saved as SigLIP."""
    texts = {**SIZE, "vocab_size": VOCABULARY, "max_position_embeddings": 16, "projection_size": WIDE}
    texts |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    save(
        hf.SiglipModel(hf.SiglipConfig(text_config=texts, vision_config={**SIZE, **IMAGE})),
        folder,
        tokenizer=tokenizer("$A [SEP]", eos_token="[SEP]"),
        preprocessor_config={"image_processor_type": "SiglipImageProcessor", **PIXELS, "resample": 3},
    )


def build_naflex(folder: Path) -> None:
    vision = {**SIZE, "patch_size": PATCH, "num_patches": 16}
    processor = {"image_processor_type": "Siglip2ImageProcessor", **PIXELS, "patch_size": PATCH, "max_num_patches": 16}
    processor.pop("size")
    save(hf.Siglip2VisionModel(hf.Siglip2VisionConfig(**vision)), folder, preprocessor_config=processor)


def build_sentence_model(
    folder: Path, make: Callable[[], Any], pooling: dict[str, Any], steps: tuple[str, ...] = (), **rest: Any
) -> None:
    """A sentence-transformers folder: the Transformer in the root, then Pooling and ``steps``."""
    frame = rest.get("frame", ("[CLS] $A [SEP]", BERT_LIKE))
    save(make(), folder, tokenizer=tokenizer(frame[0], **frame[1]))
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, step in enumerate(("Pooling", *steps), 1):
        path = f"{number}_{step}"
        modules.append(
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{step}"}
        )
        (folder / path).mkdir()
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDE, **pooling})
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": rest.get("longest", 24), "do_lower_case": False}
    )
    if "prompts" in rest:
        write_json(
            folder / "config_sentence_transformers.json",
            {"prompts": rest["prompts"], "default_prompt_name": None, "similarity_fn_name": "cosine"},
        )
    if "Dense" in steps:
        import torch
        from safetensors.torch import save_file

        dense = folder / f"{1 + steps.index('Dense') + 1}_Dense"
        config = {"in_features": WIDE, "out_features": 20, "bias": True,
                  "activation_function": "torch.nn.modules.linear.Identity"}  # fmt: skip
        write_json(dense / "config.json", config)
        save_file({"linear.weight": torch.randn(20, WIDE), "linear.bias": torch.randn(20)}, dense / "model.safetensors")


def sentence(name: str, make: Callable[[], Any], pooling: str, cls: bool = True, **rest: Any) -> Family:
    """A family that sentence-transformers reads, by the files that it has itself."""
    keys = {
        "mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken",
    }  # fmt: skip
    steps, example = rest.pop("steps", ("Normalize",)), rest.pop("example", "")

    def build(folder: Path) -> None:
        build_sentence_model(folder, make, {keys[pooling]: True}, steps, **rest)

    return Family(name, "text", build, pooling, cls, example, path="padded")


def bert(**options: Any) -> Any:
    return hf.BertModel(hf.BertConfig(**SIZE, **TEXT, **options))


def qwen3() -> Any:
    heads = {"num_key_value_heads": 2, "head_dim": 8}
    return hf.Qwen3Model(hf.Qwen3Config(**SIZE, **TEXT, **heads))


def gemma3() -> Any:
    config = hf.Gemma3TextConfig(
        **SIZE, **TEXT, num_key_value_heads=1, head_dim=8, use_bidirectional_attention=True, sliding_window=8
    )
    return hf.Gemma3TextModel(config)


def t5(kind: str = "T5") -> Any:
    config = getattr(hf, f"{kind}Config")(
        vocab_size=VOCABULARY, d_model=WIDE, d_kv=8, d_ff=INNER, num_layers=DEEP, num_heads=HEADS, pad_token_id=0
    )
    return getattr(hf, f"{kind}EncoderModel")(config)


def bart() -> Any:
    return hf.BartModel(
        hf.BartConfig(
            vocab_size=VOCABULARY, d_model=WIDE, encoder_layers=DEEP, decoder_layers=DEEP, encoder_ffn_dim=INNER,
            decoder_ffn_dim=INNER, encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, pad_token_id=0,
            max_position_embeddings=80, init_std=0.2,
        )
    )  # fmt: skip


def of(model: str, **options: Any) -> Callable[[], Any]:
    """A model of the family ``model`` in the tiny size, its configuration changed by ``options``."""
    return lambda: getattr(hf, f"{model}Model")(getattr(hf, f"{model}Config")(**options))


_ROBERTA = {**SIZE, **TEXT, "pad_token_id": 0}
EOS = {"eos_token": "[SEP]"}
TEXTS = [
    text("BERT", bert, example="google-bert/bert-base-uncased"),
    text("BERT with relative positions", lambda: bert(position_embedding_type="relative_key")),
    text(
        "BERT as a decoder",
        lambda: bert(is_decoder=True),
        "last",
        cls=False,
        template="[CLS] $A [SEP]",
        names=dict(BERT_LIKE),
    ),
    text("ALBERT", of("Albert", **SIZE, **TEXT, embedding_size=16), example="albert/albert-base-v2"),
    text(
        "BigBird",
        of("BigBird", **SIZE, **TEXT, block_size=8, num_random_blocks=1),
        example="google/bigbird-roberta-base",
    ),
    text("CamemBERT", of("Camembert", **_ROBERTA), example="almanach/camembert-base"),
    text(
        "ConvBERT",
        of("ConvBert", **SIZE, **TEXT, embedding_size=WIDE),
        example="YituTech/conv-bert-base",
        path="one length a batch",
    ),
    text("data2vec (text)", of("Data2VecText", **_ROBERTA), example="facebook/data2vec-text-base"),
    text("DeBERTa", of("Deberta", **SIZE, **TEXT), example="microsoft/deberta-base"),
    text("DeBERTa v2, v3", of("DebertaV2", **SIZE, **TEXT), example="microsoft/deberta-v3-base"),
    text(
        "DistilBERT",
        of("DistilBert", dim=WIDE, n_heads=HEADS, n_layers=DEEP, hidden_dim=INNER, **TEXT),
        example="distilbert/distilbert-base-uncased",
    ),
    text("ELECTRA", of("Electra", **SIZE, **TEXT, embedding_size=16), example="google/electra-base-discriminator"),
    text("ERNIE", of("Ernie", **SIZE, **TEXT), example="nghuyong/ernie-3.0-base-zh"),
    text(
        "FNet",
        of("FNet", **{k: v for k, v in SIZE.items() if k != "num_attention_heads"}, **TEXT),
        example="google/fnet-base",
        path="one length a batch",
    ),
    text(
        "Funnel",
        of(
            "Funnel",
            vocab_size=VOCABULARY,
            block_sizes=[1, 1],
            d_model=WIDE,
            n_head=HEADS,
            d_head=8,
            d_inner=INNER,
            pad_token_id=0,
        ),
        example="funnel-transformer/small",
    ),
    text("I-BERT", of("IBert", **_ROBERTA)),
    text("LayoutLM", of("LayoutLM", **SIZE, **TEXT)),
    text("Longformer", of("Longformer", **_ROBERTA, attention_window=8), example="allenai/longformer-base-4096"),
    text("LUKE", of("Luke", **_ROBERTA, entity_vocab_size=8, entity_emb_size=8)),
    text("Megatron-BERT", of("MegatronBert", **SIZE, **TEXT)),
    text(
        "MobileBERT",
        of("MobileBert", **SIZE, **TEXT, embedding_size=16, true_hidden_size=16, intra_bottleneck_size=16),
        example="google/mobilebert-uncased",
        path="one length a batch",
    ),
    text(
        "ModernBERT",
        of("ModernBert", **SIZE, **{**TEXT, "initializer_range": 0.02}),
        example="answerdotai/ModernBERT-base",
    ),
    text("MPNet", of("MPNet", **_ROBERTA), example="microsoft/mpnet-base"),
    text("Nomic BERT", of("NomicBert", **SIZE, **TEXT), example="nomic-ai/nomic-embed-text-v1.5"),
    text(
        "Nystromformer",
        of("Nystromformer", **SIZE, **TEXT, num_landmarks=16, segment_means_seq_len=16),
        example="uw-madison/nystromformer-512",
        path="one length a batch",
    ),
    text("RemBERT", of("RemBert", **SIZE, **TEXT, input_embedding_size=16), example="google/rembert"),
    text("RoBERTa", of("Roberta", **_ROBERTA), example="FacebookAI/roberta-base"),
    text("RoBERTa-PreLayerNorm", of("RobertaPreLayerNorm", **_ROBERTA), example="andreasmadsen/efficient_mlm_m0.40"),
    text("RoCBert", of("RoCBert", **SIZE, **TEXT, pronunciation_vocab_size=8, shape_vocab_size=8)),
    text("RoFormer", of("RoFormer", **SIZE, **TEXT, embedding_size=16), example="junnyu/roformer_chinese_base"),
    text("Splinter", of("Splinter", **SIZE, **TEXT)),
    text(
        "SqueezeBERT", of("SqueezeBert", **SIZE, **TEXT, embedding_size=WIDE), example="squeezebert/squeezebert-uncased"
    ),
    text("XLM-RoBERTa", of("XLMRoberta", **_ROBERTA), example="FacebookAI/xlm-roberta-base"),
    text(
        "XLNet",
        of("XLNet", vocab_size=VOCABULARY, d_model=WIDE, n_layer=DEEP, n_head=HEADS, d_inner=INNER, pad_token_id=0),
        "last",
        cls=False,
        template="$A [SEP] [CLS]",
        names=dict(BERT_LIKE),
        example="xlnet/xlnet-base-cased",
    ),
    text(
        "EuroBERT",
        of("EuroBert", **SIZE, **TEXT, num_key_value_heads=2, bos_token_id=2, eos_token_id=3),
        "mean",
        cls=False,
        example="EuroBERT/EuroBERT-210m",
    ),
    text("T5 encoder", t5, "mean", cls=False, example="google-t5/t5-base"),
    text("mT5 encoder", lambda: t5("MT5"), "mean", cls=False, example="google/mt5-base"),
    text("UMT5 encoder", lambda: t5("UMT5"), "mean", cls=False),
    text(
        "BART's encoder",
        bart,
        "mean",
        cls=False,
        template="[CLS] $A [SEP]",
        names=dict(BERT_LIKE),
        example="facebook/bart-base",
    ),
    text(
        "GPT-2",
        of(
            "GPT2",
            vocab_size=VOCABULARY,
            n_embd=WIDE,
            n_layer=DEEP,
            n_head=HEADS,
            n_positions=80,
            bos_token_id=3,
            eos_token_id=3,
        ),
        "last",
        cls=False,
        template="$A",
        names=EOS,
        example="openai-community/gpt2",
    ),
    text(
        "Llama", of("Llama", **SIZE, **TEXT, num_key_value_heads=2, bos_token_id=2, eos_token_id=3), "last", cls=False
    ),
    text(
        "Mistral",
        of("Mistral", **SIZE, **TEXT, num_key_value_heads=2, bos_token_id=2, eos_token_id=3),
        "last",
        cls=False,
        example="intfloat/e5-mistral-7b-instruct",
    ),
    text("Qwen3", qwen3, "last", cls=False, example="Qwen/Qwen3-Embedding-0.6B"),
    Family(
        "CLIP, text tower",
        "text",
        lambda folder: build_clip(folder, transformers=4),
        "projection",
        False,
        "openai/clip-vit-base-patch32",
        path="padded",
    ),
    Family(
        "CLIP, text tower, saved by transformers 5",
        "text",
        lambda folder: build_clip(folder, transformers=5),
        "projection",
        False,
        path="padded",
    ),
    text(
        "CLIP text model",
        lambda: hf.CLIPTextModel(clip().config.text_config),
        "pooler",
        cls=False,
        template="[CLS] $A [SEP]",
        names={"bos_token": "[CLS]", **EOS},
    ),
    text(
        "CLIP text model with projection",
        lambda: hf.CLIPTextModelWithProjection(clip().config.text_config),
        "projection",
        cls=False,
        template="[CLS] $A [SEP]",
        names={"bos_token": "[CLS]", **EOS},
    ),
    Family(
        "SigLIP, text tower",
        "text",
        build_siglip,
        "projection",
        False,
        "google/siglip-base-patch16-224",
        path="padded to 64",
    ),
    Family(
        "SigLIP 2, text tower",
        "text",
        build_siglip,
        "projection",
        False,
        "google/siglip2-base-patch16-224",
        path="padded to 64",
    ),
]
SENTENCES = [
    sentence("MiniLM", bert, "mean", example="sentence-transformers/all-MiniLM-L6-v2"),
    sentence("MPNet (sentence)", of("MPNet", **_ROBERTA), "mean", example="sentence-transformers/all-mpnet-base-v2"),
    sentence("E5", bert, "mean", prompts={"query": "king ", "passage": "film of "}, example="intfloat/e5-base-v2"),
    sentence("multilingual E5", of("XLMRoberta", **_ROBERTA), "mean", example="intfloat/multilingual-e5-small"),
    sentence("BGE", bert, "cls", example="BAAI/bge-base-en-v1.5"),
    sentence(
        "GTE (ModernBERT)",
        of("ModernBert", **SIZE, **{**TEXT, "initializer_range": 0.02}),
        "cls",
        steps=(),
        example="Alibaba-NLP/gte-modernbert-base",
    ),
    sentence(
        "Qwen3-Embedding",
        qwen3,
        "last",
        cls=False,
        prompts={"query": "king ", "document": ""},
        frame=("$A [SEP]", EOS),
        example="Qwen/Qwen3-Embedding-0.6B",
    ),
    sentence(
        "EmbeddingGemma",
        gemma3,
        "mean",
        cls=False,
        prompts={"query": "king ", "document": "film of "},
        steps=("Dense", "Normalize"),
        frame=("[CLS] $A [SEP]", {"bos_token": "[CLS]", **EOS}),
        example="google/embeddinggemma-300m",
    ),
    sentence(
        "T5 (sentence)",
        t5,
        "mean",
        cls=False,
        steps=("Dense", "Normalize"),
        frame=("$A [SEP]", EOS),
        example="sentence-transformers/sentence-t5-base",
    ),
    sentence(
        "Nomic",
        of("NomicBert", **SIZE, **TEXT),
        "mean",
        prompts={"document": "film of "},
        example="nomic-ai/nomic-embed-text-v1.5",
    ),
]

_VIT = {**SIZE, **IMAGE}
_SWIN = {"image_size": SIDE, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
_MAPS = {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1]}
IMAGES = [
    image("ViT", of("ViT", **_VIT), "ViTImageProcessor", "cls", True, example="google/vit-base-patch16-224-in21k"),
    image("ViT-MSN", of("ViTMSN", **_VIT), "ViTImageProcessor", "cls", True, example="facebook/vit-msn-base"),
    image("ViT-MAE", of("ViTMAE", **_VIT), "ViTImageProcessor", None, True, refusal="masks patches at random"),
    image(
        "DeiT",
        of("DeiT", **_VIT),
        "DeiTImageProcessor",
        "cls",
        True,
        pixels=CROP,
        dropped=(1, 0),
        example="facebook/deit-base-distilled-patch16-224",
    ),
    image(
        "BEiT",
        of("Beit", **_VIT, use_relative_position_bias=True),
        "BeitImageProcessor",
        "cls",
        True,
        example="microsoft/beit-base-patch16-224",
    ),
    image(
        "data2vec (image)",
        of("Data2VecVision", **_VIT, use_relative_position_bias=True),
        "BeitImageProcessor",
        "cls",
        True,
        example="facebook/data2vec-vision-base",
    ),
    image(
        "DINOv2", of("Dinov2", **_VIT), "BitImageProcessor", "cls", True, pixels=CROP, example="facebook/dinov2-small"
    ),
    image(
        "DINOv2 with registers",
        of("Dinov2WithRegisters", **_VIT, num_register_tokens=3),
        "BitImageProcessor",
        "cls",
        True,
        pixels=CROP,
        dropped=(3, 0),
        example="facebook/dinov2-with-registers-small",
    ),
    image(
        "DINOv3",
        of("DINOv3ViT", **_VIT, num_register_tokens=4),
        "DINOv3ViTImageProcessor",
        "cls",
        True,
        dropped=(4, 0),
        path="library or own",
        example="facebook/dinov3-vits16-pretrain-lvd1689m",
    ),
    image(
        "DINOv3 ConvNeXt",
        of("DINOv3ConvNext", image_size=SIDE, **_MAPS),
        "DINOv3ViTImageProcessor",
        "pooler",
        False,
        dropped=(1, 0),
        path="library or own",
        example="facebook/dinov3-convnext-tiny-pretrain-lvd1689m",
    ),
    image(
        "YOLOS",
        of("Yolos", **{**_VIT, "image_size": [SIDE, SIDE]}, num_detection_tokens=5),
        "ViTImageProcessor",
        "cls",
        True,
        dropped=(0, 5),
        example="hustvl/yolos-small",
    ),
    image(
        "CLIP vision model",
        lambda: hf.CLIPVisionModel(clip().config.vision_config),
        "CLIPImageProcessor",
        "cls",
        True,
        pixels=CROP,
    ),
    image(
        "MLCD",
        of("MLCDVision", **_VIT),
        "CLIPImageProcessor",
        "cls",
        True,
        pixels=CROP,
        example="DeepGlint-AI/mlcd-vit-bigG-patch14-448",
    ),
    Family(
        "CLIP, vision tower",
        "image",
        lambda folder: build_clip(folder, transformers=4),
        "cls",
        True,
        "openai/clip-vit-base-patch32",
        path="own",
    ),
    Family(
        "CLIP, vision tower, saved by transformers 5",
        "image",
        lambda folder: build_clip(folder, transformers=5),
        "cls",
        True,
        path="own",
    ),
    Family(
        "SigLIP, vision tower", "image", build_siglip, "pooler", False, "google/siglip-base-patch16-224", path="own"
    ),
    Family(
        "SigLIP 2, vision tower",
        "image",
        build_siglip,
        "pooler",
        False,
        "google/siglip2-base-patch16-224",
        path="own",
    ),
    Family(
        "SigLIP 2 NaFlex", "image", build_naflex, "pooler", False, "google/siglip2-base-patch16-naflex", path="library"
    ),
    image("I-JEPA", of("IJepa", **_VIT), "ViTImageProcessor", "mean", False, example="facebook/ijepa_vith14_1k"),
    image(
        "AIMv2",
        of("Aimv2Vision", **_VIT, use_head=False),
        "CLIPImageProcessor",
        "mean",
        False,
        pixels=CROP,
        example="apple/aimv2-large-patch14-224",
    ),
    image(
        "AIMv2 with its head",
        of("Aimv2Vision", **_VIT, use_head=True),
        "CLIPImageProcessor",
        "pooler",
        False,
        pixels=CROP,
    ),
    image(
        "ConvNeXt",
        of("ConvNext", image_size=SIDE, **_MAPS),
        "ConvNextImageProcessor",
        "pooler",
        False,
        path="library",
        pixels={"size": {"shortest_edge": SIDE}, "crop_pct": 0.875},
        example="facebook/convnext-tiny-224",
    ),
    image(
        "ConvNeXt V2",
        of("ConvNextV2", image_size=SIDE, **_MAPS),
        "ConvNextImageProcessor",
        "pooler",
        False,
        path="library",
        pixels={"size": {"shortest_edge": SIDE}, "crop_pct": 0.875},
        example="facebook/convnextv2-tiny-22k-224",
    ),
    image(
        "ResNet",
        of("ResNet", embedding_size=16, **_MAPS),
        "ConvNextImageProcessor",
        "pooler",
        False,
        path="library",
        pixels={"size": {"shortest_edge": SIDE}, "crop_pct": 0.875},
        example="microsoft/resnet-50",
    ),
    image(
        "RegNet",
        of("RegNet", embedding_size=16, groups_width=8, **_MAPS),
        "ConvNextImageProcessor",
        "pooler",
        False,
        path="library",
        pixels={"size": {"shortest_edge": SIDE}, "crop_pct": 0.875},
        example="facebook/regnet-y-040",
    ),
    image(
        "BiT",
        of("Bit", embedding_size=16, num_groups=4, **_MAPS),
        "BitImageProcessor",
        "pooler",
        False,
        pixels=CROP,
        example="google/bit-50",
    ),
    image(
        "Swin",
        of("Swin", **_SWIN),
        "ViTImageProcessor",
        "pooler",
        False,
        example="microsoft/swin-tiny-patch4-window7-224",
    ),
    image(
        "Swin V2",
        of("Swinv2", **_SWIN),
        "ViTImageProcessor",
        "pooler",
        False,
        example="microsoft/swinv2-tiny-patch4-window8-256",
    ),
    image(
        "FocalNet",
        of("FocalNet", image_size=SIDE, embed_dim=16, depths=[1, 1], focal_levels=[1, 1], focal_windows=[3, 3]),
        "BitImageProcessor",
        "pooler",
        False,
        pixels=CROP,
        example="microsoft/focalnet-tiny",
    ),
    image(
        "EfficientNet",
        of("EfficientNet", image_size=SIDE, hidden_dim=640, width_coefficient=0.5, depth_coefficient=0.2),
        "EfficientNetImageProcessor",
        "pooler",
        False,
        path="library or own",
        example="google/efficientnet-b0",
    ),
    image(
        "MobileNet V2",
        of("MobileNetV2", image_size=SIDE, depth_multiplier=0.25),
        "MobileNetV2ImageProcessor",
        "pooler",
        False,
        pixels=CROP,
        path="library or own",
        example="google/mobilenet_v2_1.0_224",
    ),
    image(
        "MobileViT",
        of(
            "MobileViT",
            image_size=SIDE,
            patch_size=2,
            hidden_sizes=[16, 24, 32],
            neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 40],
            num_attention_heads=4,
        ),
        "MobileViTImageProcessor",
        "pooler",
        False,
        path="library",
        pixels={"do_flip_channel_order": True, "do_normalize": False, **CROP},
        example="apple/mobilevit-small",
    ),
    image(
        "LeViT",
        of(
            "Levit",
            image_size=128,
            hidden_sizes=[16, 24, 32],
            num_attention_heads=[2, 2, 2],
            depths=[1, 1, 1],
            key_dim=[8, 8, 8],
            attention_ratio=[2, 2, 2],
            mlp_ratio=[2, 2, 2],
        ),
        "LevitImageProcessor",
        "pooler",
        False,
        path="library",
        pixels={"size": {"shortest_edge": 128}, "do_center_crop": True, "crop_size": {"height": 128, "width": 128}},
        example="facebook/levit-128S",
    ),
    image(
        "PoolFormer",
        of("PoolFormer", hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1]),
        "PoolFormerImageProcessor",
        "mean",
        False,
        path="library or own",
        pixels={"crop_pct": 0.9, **CROP},
        example="sail/poolformer_s12",
    ),
    image(
        "SegFormer",
        of("Segformer", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2]),
        "SegformerImageProcessor",
        "mean",
        False,
        path="library or own",
        example="nvidia/mit-b0",
    ),
    image(
        "PVT v2",
        of(
            "PvtV2",
            image_size=SIDE,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
        ),
        "ViTImageProcessor",
        "mean",
        False,
        example="OpenGVLab/pvt_v2_b0",
    ),
    image(
        "Hiera",
        of(
            "Hiera",
            image_size=[SIDE, SIDE],
            embed_dim=16,
            depths=[1, 1],
            num_heads=[1, 2],
            num_query_pool=1,
            masked_unit_size=[4, 4],
        ),
        "BitImageProcessor",
        "pooler",
        False,
        pixels=CROP,
        example="facebook/hiera-tiny-224-hf",
    ),
]
FAMILIES = [*TEXTS, *SENTENCES, *IMAGES]
