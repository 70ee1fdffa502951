"""Open, check, decode and resize one poster.

Posters come from strangers. Pillow's decoders read the pixels, but which bytes reach them, how many pixels they may
take and which file may be opened at all is decided here, from the bytes alone and without touching any state that
threads share: no global pixel limit, no warning filters.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ..data.errors import BadInput
from ..data.status import Reason


class PosterProblem(Exception):  # noqa: N818 - not a defect: the item's status row carries the reason
    """One poster cannot be used. Never shown to a user as it is: the run records the reason and goes on."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


@dataclass(frozen=True)
class PosterLimits:
    """The most one poster may take: pixels (decoded, and after resizing) and bytes in its file."""

    max_pixels: int = 32_000_000
    max_bytes: int = 64 * 2**20


# --- what an image processor does ------------------------------------------------------------------------------------

_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SQUARE = {"height": 224, "width": 224}
_STEPS = {"do_resize": True, "do_center_crop": False, "do_rescale": True, "rescale_factor": 1 / 255}
_STEPS |= {"do_normalize": True, "image_mean": _HALF, "image_std": _HALF}
_BICUBIC = int(Image.Resampling.BICUBIC)
_CLIP: dict[str, object] = {
    **_STEPS,
    "size": {"shortest_edge": 224},
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
        mean, std = np.float32(self.mean), np.float32(self.std)
        out = np.empty((*pixels.shape[:-3], 3, *pixels.shape[-3:-1]), dtype=np.float32)
        for channel in range(3):
            out[..., channel, :, :] = ((values - mean[channel]) / std[channel])[pixels[..., channel]]
        return out


class _Settings:
    """One preprocessor_config.json, read strictly: what is not understood is refused, never ignored."""

    def __init__(self, config: Mapping[str, object], name: str, model_type: str | None) -> None:
        self._name = name
        self._given = {key: value for key, value in config.items() if value is not None}
        self._kind = self._processor_kind(model_type)

    def recipe(self) -> PixelRecipe:
        self._refuse_the_unknown()
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if self._flag("do_normalize"):
            mean, std = self._channels("image_mean"), self._channels("image_std")
            if 0.0 in std:
                self._refuse("image_std", "numbers other than 0")
        size = self._size() if self._flag("do_resize") else None
        crop = self._crop() if self._flag("do_center_crop") else None
        if crop is None and not isinstance(size, tuple):
            self._refuse("size", "a height and a width, or a centre crop: otherwise posters differ in size")
        factor = self._number("rescale_factor") if self._flag("do_rescale") else 1.0
        return PixelRecipe(size, crop, self._resample(), factor, mean, std)

    def _processor_kind(self, model_type: str | None) -> str:
        setting = "image_processor_type" if "image_processor_type" in self._given else "feature_extractor_type"
        if setting not in self._given:
            if model_type in _PROCESSOR_OF_MODEL:
                return _PROCESSOR_OF_MODEL[model_type]
            expected = f"the name of an image processor (the model type, {model_type!r}, does not tell)"
            self._refuse("image_processor_type", expected)
        match = re.fullmatch(r"(\w+?)(?:ImageProcessor(?:Fast|Pil)?|FeatureExtractor)", str(self._given[setting]))
        if match is None or match[1] not in _DEFAULTS:
            self._refuse(setting, "one of " + ", ".join(f"{kind}ImageProcessor" for kind in _DEFAULTS))
        return match[1]

    def _refuse_the_unknown(self) -> None:
        for key, value in self._given.items():
            if key not in _NO_EFFECT | _TAKES_EFFECT and value is not False:
                self._refuse(key, "no such setting")

    def _refuse(self, setting: str, expected: str) -> None:
        raise NotImplementedError


def read_poster(path: str, root: Path, limits: PosterLimits) -> bytes:
    """The raw bytes of one poster; ``path`` is relative to ``root``, as the catalogue gives it.

    Raises PosterProblem. Nothing outside the real path of ``root`` is ever opened, and nothing but a regular file read.
    """
    raise NotImplementedError


def probe_poster(raw: bytes, limits: PosterLimits) -> None:
    """Check format and pixel count from the header alone; raises PosterProblem. No pixel is decoded."""
    raise NotImplementedError


def decode_poster(raw: bytes, limits: PosterLimits) -> Image.Image:
    """The poster as an upright RGB image on white; raises PosterProblem."""
    raise NotImplementedError


def poster_pixels(raw: bytes, recipe: PixelRecipe, limits: PosterLimits) -> np.ndarray:
    """(H, W, 3) uint8, C-contiguous: decoded, resized and cropped; raises PosterProblem."""
    raise NotImplementedError
