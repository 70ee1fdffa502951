"""What a Hugging Face image processor does to the pixels of one poster, reduced to numbers.

A setting that would change pixels in a way not reproduced here is refused, never ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from PIL import Image

from ...data.runtime.errors import BadInput

_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SQUARE = {"height": 224, "width": 224}
_STEPS: dict[str, object] = {
    "default_to_square": True,
    "do_resize": True,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
}
_STEPS |= {"do_normalize": True, "image_mean": _HALF, "image_std": _HALF}
_BICUBIC = int(Image.Resampling.BICUBIC)
_CLIP: dict[str, object] = {
    **_STEPS,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": _SQUARE,
    "resample": _BICUBIC,
    "image_mean": _CLIP_MEAN,
    "image_std": _CLIP_STD,
}

# What each processor does where its configuration is silent (Hugging Face's published class defaults).
_DEFAULTS: dict[str, dict[str, object]] = {
    "ViT": {**_STEPS, "size": _SQUARE, "resample": int(Image.Resampling.BILINEAR)},
    "DeiT": {
        **_STEPS,
        "size": {"height": 256, "width": 256},
        "do_center_crop": True,
        "crop_size": _SQUARE,
        "resample": _BICUBIC,
    },
    "Beit": {**_STEPS, "size": _SQUARE, "crop_size": _SQUARE, "resample": _BICUBIC},
    "CLIP": _CLIP,
    "Bit": _CLIP,
}

# Which processor a model has whose preprocessor_config.json, written years ago, does not name one.
_PROCESSOR_OF_MODEL = {
    "vit": "ViT",
    "vit_mae": "ViT",
    "vit_msn": "ViT",
    "ijepa": "ViT",
    "deit": "DeiT",
    "beit": "Beit",
    "data2vec-vision": "Beit",
    "clip": "CLIP",
    "clip_vision_model": "CLIP",
    "bit": "Bit",
    "dinov2": "Bit",
    "dinov2_with_registers": "Bit",
}

# Settings without effect on the pixels of one RGB poster.
_NO_EFFECT = {
    "_valid_processor_keys",
    "auto_map",
    "data_format",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "feature_extractor_type",
    "image_processor_type",
    "input_data_format",
    "pad_size",
    "processor_class",
    "return_tensors",
}
_TAKES_EFFECT = {
    "crop_size",
    "default_to_square",
    "do_center_crop",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
}


@dataclass(frozen=True)
class PixelRecipe:
    """What a Hugging Face image processor does to one RGB image, reduced to numbers.

    ``size`` is the (height, width) to resize to, or the length of the shorter edge after resizing (the aspect ratio
    kept), or None for no resizing. ``crop`` is the (height, width) cut from the middle, filled up with black where the
    image is smaller. ``resample`` is Pillow's number of the filter. Then, per channel,
    ``(value * rescale_factor - mean) / std``.
    """

    size: tuple[int, int] | int | None = (224, 224)
    crop: tuple[int, int] | None = None
    resample: int = int(Image.Resampling.BILINEAR)
    rescale_factor: float = 1 / 255
    mean: tuple[float, float, float] = _HALF
    std: tuple[float, float, float] = _HALF

    @property
    def output(self) -> tuple[int, int]:
        """(height, width) of every poster after resizing and cropping."""
        if self.crop is not None:
            return self.crop
        if isinstance(self.size, tuple):
            return self.size
        raise ValueError("a recipe without crop needs a fixed (height, width), or posters differ in size")

    @classmethod
    def from_processor_config(
        cls, config: Mapping[str, object], name: str, model_type: str | None = None
    ) -> PixelRecipe:
        """The recipe in a ``preprocessor_config.json`` read as a dict.

        ``name`` is the model folder, for error messages. ``model_type`` is the one in the model's ``config.json``: old
        configurations do not name their processor, and then the model decides, as it does in transformers.
        Raises BadInput for any setting that would change pixels in a way not reproduced here.
        """
        return _Settings(config, name, model_type).recipe()

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of that height and width has after resizing and before cropping."""
        if self.size is None:
            return height, width
        if isinstance(self.size, tuple):
            return self.size
        if width <= height:
            return int(self.size * height / width), self.size
        return self.size, int(self.size * width / height)

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """(..., H, W, 3) uint8 to (..., 3, H, W) float32, as the image processor rescales and normalises."""
        # Only 256 values exist per channel, so a table gives the processor's own roundings at a gather's cost.
        values = (np.arange(256, dtype=np.float64) * self.rescale_factor).astype(np.float32)
        mean, std = np.array(self.mean, dtype=np.float32), np.array(self.std, dtype=np.float32)
        out = np.empty((*pixels.shape[:-3], 3, *pixels.shape[-3:-1]), dtype=np.float32)
        for channel in range(3):
            out[..., channel, :, :] = ((values - mean[channel]) / std[channel])[pixels[..., channel]]
        return out


class _Settings:
    """One preprocessor_config.json, read strictly: what is not understood is refused, never ignored."""

    def __init__(self, config: Mapping[str, object], name: str, model_type: str | None) -> None:
        self._name = name
        self._given = config
        self._kind = self._processor_kind(model_type)

    def recipe(self) -> PixelRecipe:
        self._refuse_the_unknown()
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if self._flag("do_normalize"):
            mean, std = self._channels("image_mean"), self._channels("image_std")
            if 0.0 in std:
                raise self._refusal("image_std", "numbers other than 0")
        size, resample = None, PixelRecipe.resample
        if self._flag("do_resize"):
            size, resample = self._size(), self._resample()
        crop = self._crop() if self._flag("do_center_crop") else None
        if crop is None and not isinstance(size, tuple):
            raise self._refusal("size", "a height and a width, or a centre crop: otherwise posters differ in size")
        factor = self._number("rescale_factor") if self._flag("do_rescale") else 1.0
        return PixelRecipe(size, crop, resample, factor, mean, std)

    def _processor_kind(self, model_type: str | None) -> str:
        setting = "image_processor_type" if self._given.get("image_processor_type") else "feature_extractor_type"
        if not self._given.get(setting):
            if model_type in _PROCESSOR_OF_MODEL:
                return _PROCESSOR_OF_MODEL[model_type]
            expected = f"the name of an image processor (the model type, {model_type!r}, does not imply one)"
            raise self._refusal("image_processor_type", expected)
        match = re.fullmatch(r"(\w+?)(?:ImageProcessor(?:Fast|Pil)?|FeatureExtractor)", str(self._given[setting]))
        if match is None or match[1] not in _DEFAULTS:
            raise self._refusal(setting, "one of " + ", ".join(f"{kind}ImageProcessor" for kind in _DEFAULTS))
        return match[1]

    def _refuse_the_unknown(self) -> None:
        for key, value in self._given.items():
            if key not in _NO_EFFECT | _TAKES_EFFECT and value is not False and value is not None:
                raise self._refusal(key, "no such setting")

    def _value(self, setting: str) -> object:
        # A null is not silence: the processors take it for "off", or for a setting that was taken away.
        return self._given[setting] if setting in self._given else _DEFAULTS[self._kind].get(setting)

    def _flag(self, setting: str) -> bool:
        value = self._value(setting)
        if value is not None and not isinstance(value, bool):
            raise self._refusal(setting, "true or false")
        return bool(value)

    def _number(self, setting: str) -> float:
        value = self._value(setting)
        if not _is_number(value):
            raise self._refusal(setting, "a number")
        return float(value)

    def _channels(self, setting: str) -> tuple[float, float, float]:
        value = self._value(setting)
        if _is_number(value):
            return float(value), float(value), float(value)
        if isinstance(value, (list, tuple)) and len(value) == 3 and all(_is_number(part) for part in value):
            return float(value[0]), float(value[1]), float(value[2])
        raise self._refusal(setting, "three numbers, one per channel")

    def _resample(self) -> int:
        value = self._value("resample")
        if isinstance(value, bool) or value not in set(Image.Resampling):
            raise self._refusal("resample", "the number of a Pillow filter, 0 to 5")
        return int(str(value))

    def _size(self) -> tuple[int, int] | int:
        value = self._value("size")
        if _is_length(value):
            # A bare number is an edge of a square for some processors and the shorter edge for others.
            return (value, value) if self._flag("default_to_square") else value
        match value:
            case {"shortest_edge": edge} if _without_nulls(value) == {"shortest_edge"} and _is_length(edge):
                return int(edge)
        return self._height_and_width("size", "a height and width, or shortest_edge")

    def _crop(self) -> tuple[int, int]:
        value = self._value("crop_size")
        if _is_length(value):
            return value, value
        return self._height_and_width("crop_size", "a height and width")

    def _height_and_width(self, setting: str, expected: str) -> tuple[int, int]:
        value = self._value(setting)
        match value:
            case [height, width] if _is_length(height) and _is_length(width):
                return int(height), int(width)
            case {"height": height, "width": width} if _is_length(height) and _is_length(width):
                if _without_nulls(value) == {"height", "width"}:
                    return int(height), int(width)
        raise self._refusal(setting, f"{expected}, each a whole number of pixels up to {_LONGEST_EDGE}")

    def _refusal(self, setting: str, expected: str) -> BadInput:
        found = self._value(setting) if setting in _TAKES_EFFECT else self._given.get(setting)
        return BadInput(
            f"{self._name}: preprocessor_config.json: {setting}: expected {expected}; found {found!r}; "
            "choose a model whose image processor is one of ViT, DeiT, BEiT, CLIP or BiT (DINOv2)"
        )


_LONGEST_EDGE = 4096


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_length(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LONGEST_EDGE


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _without_nulls(value: object) -> set[str]:
    return {key for key, part in _mapping(value).items() if part is not None}
