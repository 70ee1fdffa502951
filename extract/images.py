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
from typing import TypeGuard

import numpy as np
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ..data.errors import BadInput
from ..data.status import Reason


class PosterProblem(Exception):
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
            expected = f"the name of an image processor (the model type, {model_type!r}, does not tell)"
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


# --- one file of the poster folder -----------------------------------------------------------------------------------

# Without O_NONBLOCK opening a FIFO waits for its writer; without O_NOFOLLOW a link swapped in late leads outside.
_OPEN_POSTER = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
_OPEN_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_FOLDER = _OPEN_ROOT | os.O_NOFOLLOW

_REASON_OF_ERRNO = {
    errno.ENOENT: Reason.NOT_FOUND,
    errno.ENOTDIR: Reason.NOT_FOUND,
    errno.ENAMETOOLONG: Reason.NOT_FOUND,
    errno.ENXIO: Reason.NOT_A_FILE,
    errno.ENODEV: Reason.NOT_A_FILE,
    errno.EOPNOTSUPP: Reason.NOT_A_FILE,
}


def read_poster(path: str, root: Path, limits: PosterLimits) -> bytes:
    """The raw bytes of one poster; ``path`` is relative to ``root``, as the catalogue gives it.

    Raises PosterProblem. Nothing outside the real path of ``root`` is ever opened, and only regular files are read.
    Symbolic links are followed as long as they stay inside.
    """
    try:
        descriptor = _open_inside(path, root)
        try:
            return _read_all(descriptor, limits.max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PosterProblem(_REASON_OF_ERRNO.get(error.errno or 0, Reason.UNREADABLE)) from error
    except ValueError as error:  # a NUL or a lone surrogate: no file can have that name
        raise PosterProblem(Reason.NOT_FOUND) from error


def _open_inside(path: str, root: Path) -> int:
    """Open a poster by walking down from the folder, each step relative to the one before and never through a link.

    Where links or ".." are in the way, they are first resolved by reading them, which opens nothing. The walk that
    follows refuses links again, so one put in place meanwhile cannot lead out.
    """
    if Path(path).is_absolute():
        raise PosterProblem(Reason.OUTSIDE_FOLDER)
    steps = Path(path).parts
    if os.pardir not in steps:
        try:
            return _walk_down(root, steps)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
    real_root = os.path.realpath(root)
    steps = Path(os.path.relpath(os.path.realpath(Path(real_root, path)), real_root)).parts
    if os.pardir in steps:
        raise PosterProblem(Reason.OUTSIDE_FOLDER)
    return _walk_down(root, steps)


def _walk_down(root: Path, steps: tuple[str, ...]) -> int:
    *folders, name = steps or (os.curdir,)
    here = os.open(root, _OPEN_ROOT)
    try:
        for folder in folders:
            above, here = here, os.open(folder, _OPEN_FOLDER, dir_fd=here)
            os.close(above)
        return os.open(name, _OPEN_POSTER, dir_fd=here)
    finally:
        os.close(here)


def _read_all(descriptor: int, max_bytes: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise PosterProblem(Reason.NOT_A_FILE)
    pieces: list[bytes] = []
    length = 0
    # The size is a hint: a file still being copied may hold more or less by the time it is read.
    while length <= max_bytes >= found.st_size and (piece := os.read(descriptor, found.st_size + 1)):
        pieces.append(piece)
        length += len(piece)
    if max(length, found.st_size) > max_bytes:
        raise PosterProblem(Reason.FILE_TOO_LARGE)
    if length == 0:
        raise PosterProblem(Reason.EMPTY)
    return b"".join(pieces)


# --- what the header says --------------------------------------------------------------------------------------------


def probe_poster(raw: bytes, limits: PosterLimits) -> None:
    """Check format and pixel count from the header alone; raises PosterProblem. No pixel is decoded."""
    _check_header(raw, limits)


def _check_header(raw: bytes, limits: PosterLimits) -> str:
    """The format ("JPEG", "PNG", "WEBP" or "GIF") of a poster that claims no more pixels than allowed."""
    kind = _format_of(raw)
    try:
        width, height = _SIZE_OF[kind](raw)
    except (struct.error, IndexError, ValueError, StopIteration) as error:
        raise PosterProblem(Reason.BROKEN_IMAGE) from error
    if width <= 0 or height <= 0:
        raise PosterProblem(Reason.BROKEN_IMAGE)
    if width * height > limits.max_pixels:
        raise PosterProblem(Reason.TOO_MANY_PIXELS)
    return kind


def _format_of(raw: bytes) -> str:
    if not raw:
        raise PosterProblem(Reason.EMPTY)
    for kind, start in _STARTS.items():
        if start.match(raw):
            return kind
    if _OTHER_IMAGES.match(raw) or _SVG.search(raw, 0, 4096):
        raise PosterProblem(Reason.FORMAT_NOT_ALLOWED)
    raise PosterProblem(Reason.NOT_AN_IMAGE)


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STARTS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(re.escape(_PNG_SIGNATURE)),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
}
_OTHER_IMAGES = re.compile(
    rb"II[*+]\0|MM\0[*+]"  # TIFF
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0"  # BMP, by the lengths its second header can have
    rb"|8BPS"  # Photoshop
    rb"|\0\0[\x01\x02]\0"  # icon, cursor
    rb"|....ftyp(?:avi[fs]|hei[cfmsx]|hev[cx]|mif1|msf1)"  # AVIF, HEIF
    rb"|\0\0\0\x0c(?:jP  |JXL )|\xff\x4f\xff\x51|\xff\x0a"  # JPEG 2000, JPEG XL
    rb"|P[1-7]\s|qoif|DDS |icns|\x76\x2f\x31\x01|\x8a[MJ]NG|%!PS-Adobe",
    re.DOTALL,
)
_SVG = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<(?:svg\b|(?:\?xml\b|!DOCTYPE\s+svg\b|!--).*?<svg\b)", re.DOTALL)

_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1


def _jpeg_segments(raw: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each header segment up to the first scan; the payload lies at start + 4."""
    at = 2
    while True:
        start = raw.index(b"\xff", at) if raw[at] != 0xFF else at
        marker = raw[start + 1]
        if marker in (0x00, 0xFF) or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at = start + (1 if marker == 0xFF else 2)
            continue
        (length,) = struct.unpack_from(">H", raw, start + 2)
        at = start + 2 + length
        yield marker, start, at
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return


def _jpeg_size(raw: bytes) -> tuple[int, int]:
    frame = next(start for marker, start, _ in _jpeg_segments(raw) if marker in _START_OF_FRAME)
    height, width = struct.unpack_from(">HH", raw, frame + 5)
    return width, height


def _png_size(raw: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", raw, 16)
    return width, height


def _webp_size(raw: bytes) -> tuple[int, int]:
    # https://developers.google.com/speed/webp/docs/riff_container
    chunk = raw[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(raw[24:27], "little"), 1 + int.from_bytes(raw[27:30], "little")
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", raw, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", raw, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _gif_size(raw: bytes) -> tuple[int, int]:
    """The logical screen, or more where the first frame reaches beyond it: Pillow widens the image then."""
    width, height, flags = struct.unpack_from("<HHB", raw, 6)
    at = 13 + _gif_palette_bytes(flags)
    while raw[at] == 0x21:  # an extension: its label, then blocks up to an empty one
        at += 2
        while raw[at]:
            at += 1 + raw[at]
        at += 1
    if raw[at] != 0x2C:
        return 0, 0
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", raw, at + 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def _gif_palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_SIZE_OF: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _jpeg_size,
    "PNG": _png_size,
    "WEBP": _webp_size,
    "GIF": _gif_size,
}

# --- pixels ----------------------------------------------------------------------------------------------------------

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_poster(raw: bytes, limits: PosterLimits) -> Image.Image:
    """The poster as an upright RGB image, transparency on white; of an animation the first frame.

    Colour profiles are not applied, as Hugging Face's image processors do not. Raises PosterProblem.
    """
    kind = _check_header(raw, limits)
    try:
        # The formats' own classes, not Image.open: that warns (through state all threads share) about pixel counts.
        image, exif = _OPEN[kind](raw)
        if image.width * image.height > limits.max_pixels:
            raise PosterProblem(Reason.TOO_MANY_PIXELS)
        image.load()
        rgb = _on_white(image)
        turn = _UPRIGHT.get(_orientation(exif))
        return rgb if turn is None else rgb.transpose(turn)
    except PosterProblem:
        raise
    except Exception as error:  # hostile bytes make Pillow raise almost anything
        raise PosterProblem(Reason.BROKEN_IMAGE) from error


_MOST_SCANS = 500


def _open_jpeg(raw: bytes) -> tuple[ImageFile.ImageFile, bytes]:
    # Every scan of a progressive JPEG passes over all pixels, and an empty one takes a few bytes of file.
    if raw.count(b"\xff\xda") > _MOST_SCANS:
        raise PosterProblem(Reason.BROKEN_IMAGE)
    exif = [(start, end) for marker, start, end in _jpeg_segments(raw) if marker == _APP1]
    exif = [(start, end) for start, end in exif if raw.startswith(b"Exif\0\0", start + 4)]
    if not exif:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(raw)), b""
    # Pillow would parse the EXIF data for its resolution, and warns where that is broken.
    pieces, at = [], 0
    for start, end in exif:
        pieces.append(raw[at:start])
        at = end
    body = b"".join((*pieces, raw[at:]))
    first_start, first_end = exif[0]
    return JpegImagePlugin.JpegImageFile(io.BytesIO(body)), raw[first_start + 4 : first_end]


_PNG_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def _open_png(raw: bytes) -> tuple[ImageFile.ImageFile, bytes]:
    """Only the chunks that hold pixels reach Pillow: no compressed text or profile is ever inflated, and without
    animation chunks the image is the default one, the first frame. Pillow does not check the sums of pixel data."""
    body, pixels, exif, chunk, at = [_PNG_SIGNATURE], [], b"", b"", len(_PNG_SIGNATURE)
    while chunk != b"IEND":
        length, chunk = struct.unpack_from(">I4s", raw, at)
        end = at + 12 + length
        if chunk in _PNG_PIXEL_CHUNKS:
            if zlib.crc32(raw[at + 4 : end - 4]) != struct.unpack_from(">I", raw, end - 4)[0]:
                raise PosterProblem(Reason.BROKEN_IMAGE)
            body.append(raw[at:end])
            if chunk == b"IDAT":
                pixels.append(raw[at + 8 : end - 4])
        elif chunk == b"eXIf":
            exif = raw[at + 8 : end - 4]
        at = end
    depth, colours, _, _, interlaced = struct.unpack_from("5B", raw, 24)
    _check_png_is_whole(b"".join(pixels), *_png_size(raw), depth * _PNG_SAMPLES.get(colours, 0), bool(interlaced))
    image = PngImagePlugin.PngImageFile(io.BytesIO(b"".join(body)))
    _scale_transparent_colour(image, depth)
    return image, exif


_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _check_png_is_whole(pixels: bytes, width: int, height: int, bits: int, interlaced: bool) -> None:
    """Refuse compressed data that ends well before the last row does: Pillow leaves the rest black, silently."""
    expected = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * bits + 7) // 8)
    inflate, inflated = zlib.decompressobj(), 0
    while inflated < expected and (piece := inflate.decompress(pixels, 2**23)):
        inflated += len(piece)
        pixels = inflate.unconsumed_tail
    if inflated < expected:
        raise PosterProblem(Reason.BROKEN_IMAGE)


def _scale_transparent_colour(image: ImageFile.ImageFile, depth: int) -> None:
    """Pillow scales grey of 2 and 4 bits up to 8, and colours of 16 down, but not the colour that is transparent."""
    colour = image.info.get("transparency")
    if image.mode == "L" and isinstance(colour, int):
        most = 2**depth - 1
        image.info["transparency"] = (colour & most) * 255 // most
    elif image.mode == "RGB" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(part >> 8 if depth == 16 else part & 0xFF for part in colour)


def _open_webp(raw: bytes) -> tuple[ImageFile.ImageFile, bytes]:
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(raw))
    return image, image.info.get("exif", b"")


def _open_gif(raw: bytes) -> tuple[ImageFile.ImageFile, bytes]:
    return GifImagePlugin.GifImageFile(io.BytesIO(raw)), b""


_OPEN: dict[str, Callable[[bytes], tuple[ImageFile.ImageFile, bytes]]] = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "WEBP": _open_webp,
    "GIF": _open_gif,
}

_ORIENTATION_TAG = 0x0112
_INTEGERS_OF_TIFF = {1: "B", 3: "H", 4: "I"}


def _orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in the first directory of an EXIF block; 1 where it is absent or unreadable.

    Read here because Pillow's EXIF parser warns about broken blocks. TIFF 6.0, section 2.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == _ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + _INTEGERS_OF_TIFF.get(kind, "H"), block, entry + 8)
                return int(value)
    except struct.error:
        pass
    return 1


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_sixteen_bits(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits to 8 by its high byte, as Pillow does for colour of 16 bits; converting would clip at 255."""
    grey = np.asarray(image)
    eight = (np.clip(grey, 0, 0xFFFF) >> 8).astype(np.uint8)
    if "transparency" in image.info:
        eight[grey == image.info["transparency"]] = 255
    return Image.fromarray(eight).convert("RGB")


def poster_pixels(raw: bytes, recipe: PixelRecipe, limits: PosterLimits) -> np.ndarray:
    """(H, W, 3) uint8, C-contiguous and writable: decoded, resized and cropped.

    Raises PosterProblem, also where the aspect ratio is so extreme that the *resized* image would have more pixels
    than allowed: a poster of 1 by 10000 with its shorter edge brought to 224 has half a gigapixel.
    """
    image = decode_poster(raw, limits)
    height, width = recipe.resized(image.height, image.width)
    if height * width > limits.max_pixels:
        raise PosterProblem(Reason.TOO_MANY_PIXELS)
    if recipe.size is not None:
        image = image.resize((width, height), recipe.resample)
    pixels = np.array(image)
    return pixels if recipe.crop is None else _centre(pixels, *recipe.crop)


def _centre(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle (height, width) of an image; odd differences leave the extra pixel after a cut and before a margin."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    part = pixels[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    if part.shape[:2] == (height, width):
        return np.ascontiguousarray(part)
    centred = np.zeros((height, width, 3), dtype=np.uint8)
    centred[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]] = part
    return centred
