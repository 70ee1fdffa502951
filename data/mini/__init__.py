"""The text and image encoders that ship with cinefuse, as ordinary Hugging Face folders, for both stages."""

from __future__ import annotations

from pathlib import Path

MINI = "mini"
"""The name by which a user asks for them."""


def mini_encoder(modality: str) -> Path:
    """The folder of the mini encoder for "text" or "image": its weights, configuration and tokenizer or processor."""
    return Path(__file__).resolve().parent / modality
