"""How embeddings of every token are made without cinefuse: each way takes the inputs and keeps what it makes in memory.

Models are loaded before the clock starts. Weights, truncation length and device are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, pipeline

Way = Callable[[], object]


def ways_with_plots(texts: list[str], model: Path, device: str) -> dict[str, Way]:
    """Each usual way of encoding `texts`, ready to run."""
    features = pipeline("feature-extraction", model=str(model), tokenizer=str(model), device=device)
    tokenizer = AutoTokenizer.from_pretrained(model)
    longest = tokenizer.model_max_length
    sentences = SentenceTransformer(str(model), device=device)
    sentences.max_seq_length = longest
    plain = AutoModel.from_pretrained(model).eval().to(device)

    @torch.inference_mode()
    def loop() -> list[torch.Tensor]:
        kept = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(texts[start : start + 32], padding=True, truncation=True, return_tensors="pt").to(device)
            kept.append(plain(**batch).last_hidden_state.cpu())
        return kept

    return {
        "transformers `pipeline`, default": lambda: features(texts, truncation=True),
        "transformers `pipeline`, tensors returned": lambda: features(texts, truncation=True, return_tensors=True),
        "transformers `pipeline`, batch 32": lambda: features(texts, truncation=True, batch_size=32),
        "sentence-transformers, token embeddings": lambda: sentences.encode(
            texts, output_value="token_embeddings", show_progress_bar=False
        ),
        "plain loop, batch 32": loop,
    }


def ways_with_posters(posters: list[Path], model: Path, device: str) -> dict[str, Way]:
    """Each usual way of encoding the files `posters`, ready to run."""
    names = [str(poster) for poster in posters]
    features = pipeline("image-feature-extraction", model=str(model), device=device)
    processor = AutoImageProcessor.from_pretrained(model)
    plain = AutoModel.from_pretrained(model).eval().to(device)

    @torch.inference_mode()
    def loop() -> list[torch.Tensor]:
        kept = []
        for start in range(0, len(names), 16):
            images = [Image.open(name).convert("RGB") for name in names[start : start + 16]]
            batch = processor(images, return_tensors="pt").to(device)
            kept.append(plain(**batch).last_hidden_state.cpu())
        return kept

    return {
        "transformers `pipeline`, default": lambda: features(names),
        "transformers `pipeline`, batch 16": lambda: features(names, batch_size=16),
        "plain loop, batch 16": loop,
    }
