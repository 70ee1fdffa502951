"""A poster's bytes become pixels: decoded, turned upright, laid on white, resized, cropped.

Posters are untrusted. Pillow's decoders read the pixels, but which bytes reach them is decided here, without
touching any state that threads share: no global pixel limit, no warning filters.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import AvifImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ...data.embeddings.status import Reason
from .pixel_recipe import PixelRecipe
from .poster_files import PosterLimits, PosterProblem
from .poster_header import APP1, PNG_SIGNATURE, checked_format, jpeg_segments, png_size

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
    kind = checked_format(raw, limits)
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
    segments = list(jpeg_segments(raw))
    whole = _open_ended(raw, segments)
    exif = [(start, end) for marker, start, end in segments if marker == APP1]
    exif = [(start, end) for start, end in exif if raw.startswith(b"Exif\0\0", start + 4)]
    if not exif:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(whole)), b""
    # Pillow would parse the EXIF data for its resolution, and warns where that is broken.
    pieces, at = [], 0
    for start, end in exif:
        pieces.append(raw[at:start])
        at = end
    body = b"".join((*pieces, whole[at:]))
    first_start, first_end = exif[0]
    return JpegImagePlugin.JpegImageFile(io.BytesIO(body)), raw[first_start + 4 : first_end]


_SEQUENTIAL = {0xC0, 0xC1}
_END_OF_SCAN = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
_READ_AHEAD = 8  # bytes that libjpeg looks at beyond the last block of an image


def _open_ended(raw: bytes, segments: list[tuple[int, int, int]]) -> bytes:
    """The file without its end marker, where one scan holds the whole image.

    At an end marker that comes too early libjpeg fills up with grey, and Pillow does not notice. Where the data
    just stop, Pillow reports a truncated file. (Of an image in several scans each is a whole, coarser picture.)
    """
    frame = next((start for marker, start, _ in segments if marker in _SEQUENTIAL), None)
    _, scan, pixels = segments[-1]
    end = _END_OF_SCAN.search(raw, pixels)
    if frame is None or end is None or end[1] != b"\xd9" or raw[scan + 4] != raw[frame + 9]:
        return raw
    return raw[: end.start()] + bytes(_READ_AHEAD)


_PNG_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def _open_png(raw: bytes) -> tuple[ImageFile.ImageFile, bytes]:
    """Only the chunks that hold pixels reach Pillow: no compressed text or profile is ever inflated, and without
    animation chunks the image is the default one, the first frame. Pillow does not check the sums of pixel data."""
    body, pixels, exif, chunk, at = [PNG_SIGNATURE], [], b"", b"", len(PNG_SIGNATURE)
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
    _check_png_is_whole(b"".join(pixels), *png_size(raw), depth * _PNG_SAMPLES.get(colours, 0), bool(interlaced))
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


def _open_avif(raw: bytes) -> tuple[ImageFile.ImageFile, bytes]:
    image = AvifImagePlugin.AvifImageFile(io.BytesIO(raw))
    return image, image.info.get("exif", b"")  # its turns and mirrors, which Pillow writes as EXIF has them


_OPEN: dict[str, Callable[[bytes], tuple[ImageFile.ImageFile, bytes]]] = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "WEBP": _open_webp,
    "GIF": _open_gif,
    "AVIF": _open_avif,
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
    return resized_pixels(image, recipe)


def resized_pixels(image: Image.Image, recipe: PixelRecipe) -> np.ndarray:
    """(H, W, 3) uint8 of an RGB image, resized and cropped."""
    height, width = recipe.resized(image.height, image.width)
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
