"""Frozen Hugging Face text and image encoders: token ids or pixels in, one vector per token or patch out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch

    from .source import ModelSource

Precision = Literal["bf16", "fp32"]


class TextEncoder:
    width: int

    @classmethod
    def load(
        cls, source: ModelSource, *, device: str, precision: Precision, layer: int | None, compile: bool = False
    ) -> TextEncoder:
        raise NotImplementedError

    def encode(self, input_ids: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
        raise NotImplementedError


class ImageEncoder:
    width: int
    grid: tuple[int, int]
    patches: int

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        rescale_factor: float,
        device: str,
        precision: Precision,
        layer: int | None,
        compile: bool = False,
    ) -> ImageEncoder:
        raise NotImplementedError

    def encode(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def resolve_device(name: str) -> torch.device:
    raise NotImplementedError


def resolve_precision(name: str, device: torch.device) -> Precision:
    raise NotImplementedError


def is_out_of_memory(error: BaseException) -> bool:
    raise NotImplementedError
