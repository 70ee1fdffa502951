"""Small BERT and ViT encoders with random weights, as ordinary Hugging Face folders.

For the demo and the tests, where no model hub can be asked: everything about them is real but what they have learned,
which is nothing. Their embeddings tell inputs apart and mean nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cinefuse.extract.models.failures import quiet_transformers

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_untrained_text_encoder(folder: Path, texts: Iterable[str], *, width: int = 64, layers: int = 2) -> None:
    """Save a BertModel of `width` x `layers` and a tokenizer that knows the words of `texts`, and every character."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = {token: index for index, token in enumerate(_vocabulary(texts))}
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        intermediate_size=4 * width,
        max_position_embeddings=128,
    )
    with quiet_transformers():
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        BertTokenizer(vocab=vocabulary, model_max_length=128).save_pretrained(folder)


def write_untrained_image_encoder(
    folder: Path, *, width: int = 64, layers: int = 2, size: int = 64, patch: int = 16
) -> None:
    """Save a ViTModel of `width` x `layers` for `size` x `size` pixels in patches of `patch`, and its processor."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        intermediate_size=4 * width,
        image_size=size,
        patch_size=patch,
    )
    with quiet_transformers():
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
        ViTImageProcessorPil(size={"height": size, "width": size}).save_pretrained(folder)


def _vocabulary(texts: Iterable[str]) -> list[str]:
    words = Counter(word for text in texts for word in re.findall(r"\w+", text.lower()))
    characters = sorted(
        {character for word in words for character in word} | set("abcdefghijklmnopqrstuvwxyz0123456789")
    )
    pieces = [*characters, *(f"##{character}" for character in characters), *".,;:!?'\"-()"]
    frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    return list(dict.fromkeys([*_SPECIAL, *pieces, *frequent]))
