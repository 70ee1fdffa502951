"""Pixels by the model's own image processor, as transformers runs it, where our own recipe does not cover it.

Slower than `pixels.poster_pixels`, and never another result. The processor's Pillow implementation is taken wherever it
has one, so that embeddings do not depend on whether torchvision is installed.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...data.embeddings.status import Reason
from ...data.runtime.errors import BadInput
from ..models.failures import first_line
from .pixel_recipe import PixelRecipe
from .pixels import decode_poster, resized_pixels
from .poster_files import PosterLimits, PosterProblem

if TYPE_CHECKING:
    from ..models.source import ModelSource

Inputs = dict[str, npt.NDArray[Any]]  # an encoder's inputs for one image, each (1, ...)
_SAMPLES = ((90, 130), (131, 88))  # width, height
_EQUAL = 1e-5
_IMAGENET_MEAN, _IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class ProcessorPixels:
    """The image processor that lies in ``folder``; an image is made ``square`` x ``square`` first where that is given.

    (A processor that keeps the aspect ratio would give every poster another number of positions.)
    """

    folder: Path
    name: str
    square: int | None = None

    def at(self, source: ModelSource) -> ProcessorPixels:
        """The same with the model's files as they lie on this machine."""
        return replace(self, folder=source.folder)

    def load(self, raw: bytes, limits: PosterLimits) -> Inputs:
        """The inputs of one poster. Raises PosterProblem where it cannot be used."""
        image = decode_poster(raw, limits)
        try:
            return self.inputs(image)
        except Exception as error:  # an aspect ratio that its steps do not survive
            raise PosterProblem(Reason.BROKEN_IMAGE) from error

    def inputs(self, image: Image.Image) -> Inputs:
        """What the processor makes of one RGB image."""
        if self.square is not None:
            image = image.resize((self.square, self.square), Image.Resampling.BICUBIC)
        found = _processor(self.folder, self.name)(images=image, return_tensors="np")
        return {key: np.asarray(value) for key, value in found.items() if np.asarray(value).ndim > 1}

    def sample(self) -> Inputs:
        """The inputs of an image of noise: their shapes are those of every image."""
        return self.inputs(_noise(*_SAMPLES[0]))


Pixels = PixelRecipe | ProcessorPixels


def choose_pixels(source: ModelSource) -> Pixels:
    """How the pixels of an image are made for this model: by our own recipe where it gives the same, else by its own.

    Raises BadInput where the model has no image processor, or one that does not give all images one size.
    """
    config = source.processor_config()
    try:
        return PixelRecipe.from_processor_config(config, source.name, source.model_type)
    except BadInput as refusal:
        why = refusal
    processor = ProcessorPixels(source.folder, source.name)
    try:
        _processor(source.folder, source.name)
    except BadInput as refusal:
        # where transformers reads it no better, what is wrong with a setting says more
        raise (why if _is_known(config) else refusal) from None
    recipe = _same_recipe(processor)
    if recipe is not None:
        return recipe
    if not _one_size(processor):
        processor = replace(processor, square=_square(source, config))
        if processor.square is None or not _one_size(processor):
            from ..models.towers import model_class

            model_class(source, "image", source.pooling)  # whose refusal comes first: another size would not help it
            raise BadInput(
                f"{source.name}: its image processor gives images of different shapes different numbers of pixels; "
                "set a height and width, or a centre crop, in its preprocessor_config.json"
            )
    return processor


def _is_known(config: dict[str, Any]) -> bool:
    named = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    return named.startswith(("ViT", "DeiT", "Beit", "CLIP", "Bit"))


@cache
def _processor(folder: Path, name: str) -> Any:
    import transformers

    from ..models.failures import quiet_transformers

    auto: Any = transformers.AutoImageProcessor
    own = _FloatResizing.read(folder)
    if own is not None:
        return own
    try:
        with quiet_transformers():
            return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False, backend="pil")
    except Exception as error:
        lacking = re.search(r"Missing optional dependencies: ([\w, ]+)|requires the (\w+) library", str(error))
        if lacking is not None:
            package = lacking[1] or lacking[2]
            raise BadInput(
                f"{name}: its image processor needs {package}; install it (pip install {package})"
            ) from error
        raise BadInput(
            f"{name}: its image processor cannot be read: {first_line(error)}; choose another model"
        ) from error


@dataclass(frozen=True)
class _FloatResizing:
    """DINOv3's steps, which transformers has for torchvision alone: rescaled first, then resized in float32.

    torchvision resizes float tensors by `torch.nn.functional.interpolate` with antialiasing, which is taken here.
    """

    size: tuple[int, int]
    mode: str
    factor: float
    mean: list[float]
    std: list[float]

    @classmethod
    def read(cls, folder: Path) -> _FloatResizing | None:
        """None where the folder's processor is another, or is given settings that DINOv3's checkpoints do not have."""
        for file in ("processor_config.json", "preprocessor_config.json"):
            try:
                settings = json.loads((folder / file).read_text(encoding="utf-8"))
                settings = settings.get("image_processor", settings)
                if not str(settings.get("image_processor_type", "")).startswith("DINOv3ViTImageProcessor"):
                    continue
                size = settings["size"]
                steps = [settings.get(f"do_{step}", True) for step in ("resize", "rescale", "normalize")]
                mode = {2: "bilinear", 3: "bicubic"}[settings.get("resample", 2)]
                if not all(steps) or settings.get("do_center_crop"):
                    return None
                mean, std = settings.get("image_mean", _IMAGENET_MEAN), settings.get("image_std", _IMAGENET_STD)
                factor = float(settings.get("rescale_factor", 1 / 255))
                return cls((int(size["height"]), int(size["width"])), mode, factor, list(mean), list(std))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        return None

    def __call__(self, images: Image.Image, return_tensors: str) -> Inputs:
        import torch

        pixels = torch.from_numpy(np.array(images)).permute(2, 0, 1)[None].float() * self.factor  # (1, 3, H, W)
        resized = torch.nn.functional.interpolate(pixels, self.size, mode=self.mode, antialias=True)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return {"pixel_values": ((resized - mean) / std).numpy()}


def _noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _one_size(processor: ProcessorPixels) -> bool:
    try:
        found = [processor.inputs(_noise(*size)) for size in (*_SAMPLES, (64, 64))]
    except Exception as error:
        raise BadInput(
            f"{processor.name}: its image processor fails on an image: {first_line(error)}; choose another model"
        ) from error
    shapes = [{key: value.shape for key, value in inputs.items()} for inputs in found]
    masks = [inputs.get("pixel_attention_mask") for inputs in found[: len(_SAMPLES)]]
    whole = all(mask is None or bool(np.all(mask)) for mask in masks)
    return whole and shapes[0] == shapes[1] == shapes[2] and "pixel_values" in shapes[0]


def _square(source: ModelSource, config: dict[str, Any]) -> int | None:
    """The side of the square that has as many patches as a processor of any aspect ratio takes (NaFlex)."""
    if "max_num_patches" not in config and not str(config.get("image_processor_type")).startswith("Siglip2"):
        return None
    patches, patch = config.get("max_num_patches", 256), config.get("patch_size", 16)
    patch = getattr(source.settings, "patch_size", patch)
    if isinstance(patches, int) and isinstance(patch, int) and patches > 0 and patch > 0:
        return math.isqrt(patches) * patch
    return None


def _same_recipe(processor: ProcessorPixels) -> PixelRecipe | None:
    """Our recipe with the processor's own settings, where it gives the same pixels; None where it does not."""
    loaded = _processor(processor.folder, processor.name)
    wanted = [
        "size", "crop_size", "do_center_crop", "do_resize", "do_rescale", "rescale_factor", "do_normalize",
        "image_mean", "image_std", "resample",
    ]  # fmt: skip
    settings = {key: _plain(getattr(loaded, key, None)) for key in wanted}
    settings = {key: value for key, value in settings.items() if value is not None}
    try:
        config = {"image_processor_type": "ViTImageProcessor", "do_center_crop": False, **settings}
        recipe = PixelRecipe.from_processor_config(config, processor.name)
        for size in _SAMPLES:
            image = _noise(*size)
            theirs = processor.inputs(image)
            ours = recipe.normalise(resized_pixels(image, recipe))
            if set(theirs) != {"pixel_values"} or theirs["pixel_values"].shape != (1, *ours.shape):
                return None
            if not np.allclose(theirs["pixel_values"][0], ours, rtol=0, atol=_EQUAL):
                return None
    except Exception:
        return None
    return recipe


def _plain(value: Any) -> Any:
    """A setting as JSON has it: sizes are objects of their own in transformers, filters are enumerations."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(value, (list, tuple)):
        return list(value)
    return {key: part for key, part in dict(value).items() if part is not None}
