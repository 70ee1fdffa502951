"""What a poster's first bytes say: its format and its size in pixels, before any decoder sees it.

The headers of JPEG, PNG, WebP, GIF and AVIF are read here, as far as sizes go: a claim of a hundred megapixels is
refused before it can cost memory. AVIF is taken where Pillow was built with it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from PIL import features

from ...data.embeddings.status import Reason
from .poster_files import PosterLimits, PosterProblem


def checked_format(raw: bytes, limits: PosterLimits) -> str:
    """The format ("JPEG", "PNG", "WEBP", "GIF" or "AVIF") of a poster that claims no more pixels than allowed.

    Raises PosterProblem. No pixel is decoded.
    """
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


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STARTS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(re.escape(PNG_SIGNATURE)),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
}
if features.check("avif"):
    _STARTS["AVIF"] = re.compile(rb"....ftypavi[fs]", re.DOTALL)
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
_START_OF_SCAN, _END_OF_IMAGE, APP1 = 0xDA, 0xD9, 0xE1


def jpeg_segments(raw: bytes) -> Iterator[tuple[int, int, int]]:
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
    frame = next(start for marker, start, _ in jpeg_segments(raw) if marker in _START_OF_FRAME)
    height, width = struct.unpack_from(">HH", raw, frame + 5)
    return width, height


def png_size(raw: bytes) -> tuple[int, int]:
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


_AVIF_HEADER = 1 << 16


def _avif_size(raw: bytes) -> tuple[int, int]:
    """The largest of all sizes in the header ("ispe" of ISO/IEC 23008-12): an image of tiles has one for each tile."""
    sizes = [
        struct.unpack_from(">II", raw, found.end() + 4) for found in re.finditer(rb"\0\0\0\x14ispe", raw[:_AVIF_HEADER])
    ]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


_SIZE_OF: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": _jpeg_size,
    "PNG": png_size,
    "WEBP": _webp_size,
    "GIF": _gif_size,
    "AVIF": _avif_size,
}
