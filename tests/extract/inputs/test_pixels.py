"""One poster: which file may be read, what every bad poster comes to, and equality with the image processors."""

from __future__ import annotations

import ast
import io
import os
import socket
import stat
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cinefuse.data.embeddings.status import Reason
from cinefuse.data.runtime.errors import BadInput
from cinefuse.extract.inputs import pixel_recipe, pixels, poster_files, poster_header
from cinefuse.extract.inputs.pixel_recipe import PixelRecipe
from cinefuse.extract.inputs.pixels import decode_poster, poster_pixels
from cinefuse.extract.inputs.poster_files import PosterLimits, PosterProblem, read_poster
from cinefuse.extract.inputs.poster_header import checked_format
from cinefuse.tests.support.pictures import chunk, picture, saved

LIMITS = PosterLimits()
SQUARE = PixelRecipe(size=(12, 8))
SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


# --- making posters --------------------------------------------------------------------------------------------------


def png(width: int, height: int, depth: int, colours: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows)) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data + chunk(b"IEND", b"")


def with_chunk(raw: bytes, name: bytes, content: bytes) -> bytes:
    return raw[:33] + chunk(name, content) + raw[33:]


def exif_block(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    value = struct.pack(order + {3: "HH", 4: "I"}[kind], *([orientation, 0] if kind == 3 else [orientation]))
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4)


def jpeg_with_exif(block: bytes, image: Image.Image | None = None) -> bytes:
    raw = saved(image or picture(), "JPEG", quality=95)
    segment = b"Exif\0\0" + block
    return raw[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + raw[2:]


def frames(kind: str, **options: object) -> bytes:
    red, blue = Image.new("RGB", (20, 30), "red"), Image.new("RGB", (20, 30), "blue")
    return saved(red, kind, save_all=True, append_images=[blue], duration=100, **options)


def grey16() -> bytes:
    ramp = np.arange(0, 65536, 64, dtype=">u2").reshape(32, 32)
    return png(32, 32, 16, 0, b"".join(b"\0" + row.tobytes() for row in ramp))


def rgb16() -> bytes:
    ramp = np.arange(0, 65536, 64, dtype=">u2").reshape(32, 32)
    return png(32, 32, 16, 2, b"".join(b"\0" + np.repeat(row, 3).tobytes() for row in ramp))


def half_a_png() -> bytes:
    return png(40, 60, 8, 2, (b"\0" + b"\xff" * 120) * 30)


def corrupt_checksum() -> bytes:
    raw = bytearray(saved(picture(), "PNG"))
    raw[raw.index(b"IEND") - 5] ^= 1  # the last byte of the pixel data's own checksum
    return bytes(raw)


def jpeg_of_many_scans() -> bytes:
    raw = saved(picture(), "JPEG", progressive=True)
    return raw[:-2] + raw[raw.rindex(b"\xff\xda") : -2] * 600 + raw[-2:]


GREY_JPEG = saved(picture(mode="L"), "JPEG")
JPEG, PNG, GIF = saved(picture(), "JPEG"), saved(picture(), "PNG"), saved(picture().convert("P"), "GIF")
WEBP, LOSSLESS = saved(picture(), "WEBP"), saved(picture(), "WEBP", lossless=True)
PALETTE = picture().quantize(16)
SVG = b'<?xml version="1.0"?>\n<!-- a drawing -->\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
OK = Reason.NONE

ZOO: dict[str, tuple[Callable[[], bytes], Reason]] = {
    "plain JPEG": (lambda: JPEG, OK),
    "progressive JPEG": (lambda: saved(picture(), "JPEG", progressive=True), OK),
    "grey JPEG": (lambda: saved(picture(mode="L"), "JPEG"), OK),
    "CMYK JPEG": (lambda: saved(picture(mode="CMYK"), "JPEG"), OK),
    "JPEG cut in its header": (lambda: JPEG[:100], Reason.BROKEN_IMAGE),
    "JPEG of three bytes": (lambda: JPEG[:3], Reason.BROKEN_IMAGE),
    "JPEG cut in half": (lambda: JPEG[: len(JPEG) // 2], Reason.BROKEN_IMAGE),
    "JPEG cut in half with an end marker": (lambda: JPEG[: len(JPEG) // 2] + b"\xff\xd9", Reason.BROKEN_IMAGE),
    "grey JPEG cut with an end marker": (lambda: GREY_JPEG[: -len(GREY_JPEG) // 3] + b"\xff\xd9", Reason.BROKEN_IMAGE),
    "turned JPEG cut with an end marker": (
        lambda: jpeg_with_exif(exif_block(6))[:-400] + b"\xff\xd9",
        Reason.BROKEN_IMAGE,
    ),
    "JPEG with fill bytes before its end": (lambda: JPEG[:-2] + b"\xff\xff\xff\xd9", OK),
    "JPEG with restart markers": (lambda: saved(picture(), "JPEG", restart_marker_blocks=1), OK),
    "JPEG cut near its end": (lambda: JPEG[:-20], Reason.BROKEN_IMAGE),
    "JPEG with bytes after its end": (lambda: JPEG + b"\0garbage" * 99, OK),
    "JPEG with hundreds of scans": (jpeg_of_many_scans, Reason.BROKEN_IMAGE),
    "JPEG with broken EXIF": (lambda: jpeg_with_exif(b"II*\0\xff\xff\xff\xff"), OK),
    "JPEG with EXIF cut short": (lambda: jpeg_with_exif(exif_block(6)[:14]), OK),
    "JPEG with a senseless orientation": (lambda: jpeg_with_exif(exif_block(77)), OK),
    "plain PNG": (lambda: PNG, OK),
    "PNG cut in its header": (lambda: PNG[:20], Reason.BROKEN_IMAGE),
    "PNG cut in half": (lambda: PNG[: len(PNG) // 2], Reason.BROKEN_IMAGE),
    "PNG cut near its end": (lambda: PNG[:-13], Reason.BROKEN_IMAGE),
    "PNG with bytes after its end": (lambda: PNG + b"garbage", OK),
    "PNG with a wrong checksum": (corrupt_checksum, Reason.BROKEN_IMAGE),
    "PNG with half of its rows": (half_a_png, Reason.BROKEN_IMAGE),
    "PNG without pixels": (lambda: png(4, 4, 8, 2, b""), Reason.BROKEN_IMAGE),
    "PNG of no width": (lambda: png(0, 4, 8, 2, b"\0" * 4), Reason.BROKEN_IMAGE),
    "PNG with a text bomb": (lambda: with_chunk(PNG, b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9)), OK),
    "PNG with a profile bomb": (lambda: with_chunk(PNG, b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8), 9)), OK),
    "PNG with a broken profile": (lambda: with_chunk(PNG, b"iCCP", b"a\0\0xx"), OK),
    "PNG of an impossible animation": (lambda: with_chunk(PNG, b"acTL", bytes(8)), OK),
    "interlaced PNG": (lambda: interlaced(), OK),
    "16-bit grey PNG": (grey16, OK),
    "16-bit RGB PNG": (rgb16, OK),
    "palette PNG": (lambda: saved(PALETTE, "PNG"), OK),
    "palette PNG with a transparent colour": (lambda: saved(PALETTE, "PNG", transparency=3), OK),
    "palette PNG with alpha": (lambda: saved(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))), OK),
    "LA PNG": (lambda: saved(picture(mode="LA"), "PNG"), OK),
    "RGBA PNG": (lambda: saved(picture(mode="RGBA"), "PNG"), OK),
    "1-bit PNG": (lambda: saved(picture(mode="L").convert("1"), "PNG"), OK),
    "animated PNG": (lambda: frames("PNG"), OK),
    "plain WebP": (lambda: WEBP, OK),
    "lossless WebP": (lambda: LOSSLESS, OK),
    "WebP with alpha": (lambda: saved(picture(mode="RGBA"), "WEBP"), OK),
    "animated WebP": (lambda: frames("WEBP"), OK),
    "WebP cut in its header": (lambda: WEBP[:25], Reason.BROKEN_IMAGE),
    "WebP cut in half": (lambda: WEBP[: len(WEBP) // 2], Reason.BROKEN_IMAGE),
    "WebP cut near its end": (lambda: WEBP[:-20], Reason.BROKEN_IMAGE),
    "lossless WebP cut": (lambda: LOSSLESS[:-20], Reason.BROKEN_IMAGE),
    "plain GIF": (lambda: GIF, OK),
    "animated GIF": (lambda: frames("GIF"), OK),
    "GIF cut in half": (lambda: GIF[: len(GIF) // 2], Reason.BROKEN_IMAGE),
    "GIF without frames": (lambda: b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";", Reason.BROKEN_IMAGE),
    "GIF of a header only": (lambda: GIF[:13], Reason.BROKEN_IMAGE),
    "GIF with a frame beyond its screen": (lambda: gif_of_frame(20_000, 20_000), Reason.TOO_MANY_PIXELS),
    "1 by 1": (lambda: saved(picture(1, 1), "PNG"), OK),
    "1 by 10000": (lambda: saved(picture(1, 10_000), "PNG"), OK),
    "10000 by 1": (lambda: saved(picture(10_000, 1), "JPEG"), OK),
    "header claiming 100 megapixels": (lambda: png(10_000, 10_000, 8, 2, b""), Reason.TOO_MANY_PIXELS),
    "100 white megapixels": (lambda: saved(Image.new("1", (10_000, 10_000)), "PNG"), Reason.TOO_MANY_PIXELS),
    "WebP claiming 16383 by 16383": (lambda: huge_webp(), Reason.TOO_MANY_PIXELS),
    "no bytes": (lambda: b"", Reason.EMPTY),
    "HTML": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", Reason.NOT_AN_IMAGE),
    "text": (lambda: b"BM is not what makes a bitmap", Reason.NOT_AN_IMAGE),
    "zeros": (lambda: bytes(5000), Reason.NOT_AN_IMAGE),
    "a RIFF sound": (lambda: b"RIFF\0\0\0\0WAVEfmt ", Reason.NOT_AN_IMAGE),
    "TIFF": (lambda: saved(picture(), "TIFF"), Reason.FORMAT_NOT_ALLOWED),
    "BMP": (lambda: saved(picture(), "BMP"), Reason.FORMAT_NOT_ALLOWED),
    "SVG": (lambda: SVG, Reason.FORMAT_NOT_ALLOWED),
    "ICO": (lambda: saved(picture(32, 32), "ICO"), Reason.FORMAT_NOT_ALLOWED),
    "PSD": (lambda: b"8BPS\0\x01" + bytes(40), Reason.FORMAT_NOT_ALLOWED),
    "AVIF": (lambda: b"\0\0\0\x20ftypavif" + bytes(40), Reason.BROKEN_IMAGE),
    "HEIC": (lambda: b"\0\0\0\x20ftypheic" + bytes(40), Reason.FORMAT_NOT_ALLOWED),
    "JPEG 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n", Reason.FORMAT_NOT_ALLOWED),
    "PNM": (lambda: saved(picture(), "PPM"), Reason.FORMAT_NOT_ALLOWED),
}


def interlaced() -> bytes:
    """A 1 by 1 interlaced PNG: only the first of the seven passes has a pixel."""
    raw = png(1, 1, 8, 0, b"\0\x80")
    return raw[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1)) + raw[33:]


def gif_of_frame(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", 9, 9, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0;"


def huge_webp() -> bytes:
    vp8x = b"VP8X\x0a\0\0\0" + bytes(4) + (16382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x


@pytest.fixture
def pillows_warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Under pytest a warning becomes an error, which inside a decoder reads as a broken image: listen instead."""
    heard: list[str] = []
    monkeypatch.setattr(warnings, "warn", lambda message, *_, **__: heard.append(str(message)))
    return heard


def probing(raw: bytes) -> Reason:
    try:
        checked_format(raw, LIMITS)
    except PosterProblem as problem:
        return problem.reason
    return Reason.NONE


def outcome(raw: bytes, recipe: PixelRecipe = SQUARE, limits: PosterLimits = LIMITS) -> Reason:
    try:
        pixels = poster_pixels(raw, recipe, limits)
    except PosterProblem as problem:
        return problem.reason
    assert pixels.shape == (*recipe.output, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    return Reason.NONE


@pytest.mark.parametrize("name", ZOO)
def test_every_poster_of_the_zoo_comes_to_its_defined_outcome(name: str, pillows_warnings: list[str]) -> None:
    make, expected = ZOO[name]
    assert outcome(make()) is expected
    assert pillows_warnings == []


@pytest.mark.parametrize("name", ZOO)
def test_probing_agrees_with_decoding_on_everything_a_header_tells(name: str) -> None:
    make, expected = ZOO[name]
    assert probing(make()) in ({expected} if expected not in (OK, Reason.BROKEN_IMAGE) else {OK, expected})


def test_a_problem_carries_its_reason_as_a_sentence() -> None:
    assert str(PosterProblem(Reason.NOT_AN_IMAGE)) == Reason.NOT_AN_IMAGE.sentence


# --- what the pixels are ---------------------------------------------------------------------------------------------


def decoded(raw: bytes) -> np.ndarray:
    image = decode_poster(raw, LIMITS)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (decoded(frames(kind, **options)) == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_is_applied(kind: str, order: str, orientation: int) -> None:
    block = exif_block(orientation, order)
    if kind == "JPEG":
        raw = jpeg_with_exif(block)
    elif kind == "PNG":
        raw = with_chunk(PNG, b"eXIf", block)
    else:
        raw = saved(picture(), "WEBP", lossless=True, exif=block)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    assert upright.size == ((60, 40) if orientation >= 5 else (40, 60))
    assert np.array_equal(decoded(raw), np.asarray(upright.convert("RGB")))


def test_an_orientation_written_as_a_long_integer_is_applied() -> None:
    assert decoded(jpeg_with_exif(exif_block(6, ">", kind=4))).shape == (40, 60, 3)


def test_transparency_shows_white_never_what_hides_under_it() -> None:
    hidden = Image.new("RGBA", (5, 5), (200, 30, 30, 0))
    hidden.putpixel((2, 2), (10, 20, 30, 255))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        pixels = decoded(saved(hidden, kind, **options))
        assert tuple(pixels[2, 2]) == (10, 20, 30)
        assert (np.delete(pixels.reshape(25, 3), 12, axis=0) == 255).all()
    grey = Image.new("LA", (5, 5), (40, 0))
    assert (decoded(saved(grey, "PNG")) == 255).all()
    palette = Image.new("P", (5, 5), 1)
    palette.putpalette([0, 0, 0, 200, 30, 30])
    for kind in ("PNG", "GIF"):
        assert (decoded(saved(palette, kind, transparency=1)) == 255).all()


@pytest.mark.parametrize(
    ("depth", "colours", "row", "transparent"),
    [
        (1, 0, b"\x00", b"\0\0"),
        (2, 0, b"\x80", b"\0\x02"),
        (4, 0, b"\x30", b"\0\x03"),
        (8, 0, b"\x09", b"\0\x09"),
        (16, 0, b"\x12\x34", b"\x12\x34"),
        (8, 2, b"\x01\x02\x03", b"\0\x01\0\x02\0\x03"),
        (16, 2, b"\x12\x34" * 3, b"\x12\x34" * 3),
    ],
)
def test_the_transparent_colour_of_a_png_is_white_at_every_depth(
    depth: int, colours: int, row: bytes, transparent: bytes
) -> None:
    assert (decoded(png(1, 1, depth, colours, b"\0" + row, chunk(b"tRNS", transparent))) == 255).all()
    other = bytes(len(transparent) - 1) + b"\x01"
    assert (decoded(png(1, 1, depth, colours, b"\0" + row, chunk(b"tRNS", other))) < 255).all()


def test_sixteen_bits_are_scaled_never_clipped_in_grey_as_in_colour() -> None:
    exact = np.arange(0, 65536, 64).reshape(32, 32) / 257
    grey, colour = decoded(grey16()), decoded(rgb16())
    assert np.abs(grey - exact[..., None]).max() < 1
    assert np.array_equal(grey, colour)


@pytest.mark.parametrize("quality", [95, 100])
def test_cmyk_has_the_colours_it_was_made_from(quality: int) -> None:
    flat = Image.new("RGB", (16, 16), (200, 120, 40))
    raw = saved(flat.convert("CMYK"), "JPEG", quality=quality)
    assert b"Adobe" in raw  # which stores it inverted
    assert np.abs(decoded(raw) - (200, 120, 40)).max() <= 3


def test_one_bit_posters_are_black_and_white() -> None:
    assert set(np.unique(decoded(ZOO["1-bit PNG"][0]()))) == {0, 255}


# --- limits ----------------------------------------------------------------------------------------------------------


def test_too_many_pixels_are_refused_before_a_decoder_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: bytes) -> None:
        raise AssertionError("a decoder was called")

    monkeypatch.setattr(pixels, "_OPEN", dict.fromkeys(("JPEG", "PNG", "WEBP", "GIF"), never))
    small = PosterLimits(max_pixels=40 * 60 - 1)
    for raw in (JPEG, PNG, WEBP, LOSSLESS, GIF, saved(picture(mode="RGBA"), "WEBP")):
        assert outcome(raw, limits=small) is Reason.TOO_MANY_PIXELS


def test_a_header_that_tells_the_decoder_another_size_is_refused() -> None:
    frame = JPEG.index(b"\xff\xc0")
    small = bytearray(JPEG[frame : frame + 19])
    small[5:9] = struct.pack(">HH", 1, 1)
    two_sizes = JPEG[:frame] + bytes(small) + JPEG[frame:]
    assert outcome(two_sizes, limits=PosterLimits(max_pixels=100)) is Reason.TOO_MANY_PIXELS


def test_probing_finds_that_there_are_no_pixels() -> None:
    for name in ("PNG of no width", "GIF without frames", "JPEG cut in its header"):
        assert probing(ZOO[name][0]()) is Reason.BROKEN_IMAGE


def test_a_poster_of_exactly_the_allowed_pixels_is_decoded() -> None:
    for raw in (JPEG, PNG, WEBP, GIF):
        assert outcome(raw, limits=PosterLimits(max_pixels=40 * 60)) is Reason.NONE


def test_a_ribbon_whose_resized_image_would_be_gigantic_is_refused() -> None:
    shortest_edge = PixelRecipe(size=224, crop=(224, 224))
    for width, height in ((1, 10_000), (10_000, 1)):
        assert outcome(saved(picture(width, height), "PNG"), shortest_edge) is Reason.TOO_MANY_PIXELS


@pytest.mark.slow
def test_a_cap_above_pillows_own_needs_no_global_setting(pillows_warnings: list[str]) -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert before is not None
    raw = saved(Image.new("1", (10_000, 9_000)), "PNG")
    assert outcome(raw, limits=PosterLimits(max_pixels=100_000_000)) is Reason.NONE
    assert before == Image.MAX_IMAGE_PIXELS
    assert pillows_warnings == []


@pytest.mark.slow
def test_threads_decode_without_sharing_state() -> None:
    makers = [make for make, _ in ZOO.values()]
    raws = [raw for raw in (make() for make in makers) if len(raw) < 10_000]
    alone = [outcome(raw) for raw in raws]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(outcome, raws * 4))
    assert together == alone * 4
    assert warnings.filters == filters


# --- fuzzing ---------------------------------------------------------------------------------------------------------


def small_posters() -> list[bytes]:
    small = picture(23, 17)
    return [
        saved(small, "JPEG"),
        saved(small, "JPEG", progressive=True),
        jpeg_with_exif(exif_block(6), small),
        saved(picture(23, 17, "CMYK"), "JPEG"),
        saved(small, "PNG"),
        saved(small.quantize(8), "PNG", transparency=bytes(8)),
        with_chunk(saved(small, "PNG"), b"eXIf", exif_block(5)),
        frames("PNG"),
        saved(small, "WEBP"),
        saved(small, "WEBP", lossless=True, exif=exif_block(3)),
        frames("WEBP"),
        saved(small.convert("P"), "GIF"),
        frames("GIF"),
    ]


def with_right_checksums(raw: bytes) -> bytes:
    """A mutated PNG whose chunk checksums are true again, so that the mutation reaches the decoder."""
    out, at = raw[:8], 8
    while at + 12 <= len(raw):
        length, name = struct.unpack_from(">I4s", raw, at)
        out += chunk(name, raw[at + 8 : at + 8 + length])
        at += 12 + length
    return out


def test_random_damage_gives_an_array_or_a_problem_and_nothing_else(pillows_warnings: list[str]) -> None:
    random = np.random.default_rng(7)
    limits = PosterLimits(max_pixels=1_000_000)
    seen = set()
    for original in small_posters():
        for _ in range(300):
            raw = bytearray(original)
            for _ in range(random.integers(1, 6)):
                raw[random.integers(len(raw) if random.random() < 0.5 else min(len(raw), 64))] = random.integers(256)
            if random.random() < 0.3:
                del raw[random.integers(len(raw)) :]
            if original.startswith(b"\x89PNG") and random.random() < 0.5:
                raw[:8] = original[:8]
                raw = bytearray(with_right_checksums(bytes(raw)))
            seen.add(outcome(bytes(raw), limits=limits))
    assert {Reason.NONE, Reason.BROKEN_IMAGE, Reason.NOT_AN_IMAGE, Reason.TOO_MANY_PIXELS} <= seen
    assert pillows_warnings == []


@pytest.mark.parametrize("original", [JPEG, PNG, WEBP, LOSSLESS], ids=["JPEG", "PNG", "WebP", "lossless WebP"])
def test_a_truncated_poster_is_never_half_a_poster(original: bytes) -> None:
    whole = poster_pixels(original, SQUARE, LIMITS)
    for length in range(0, len(original), max(1, len(original) // 300)):
        try:
            cut = poster_pixels(original[:length], SQUARE, LIMITS)
        except PosterProblem:
            continue
        assert np.array_equal(cut, whole)


@pytest.mark.parametrize("error", [SyntaxError, struct.error, OverflowError, MemoryError, ZeroDivisionError, KeyError])
def test_whatever_a_decoder_raises_is_a_broken_image(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: bytes) -> None:
        raise error("hostile bytes")

    monkeypatch.setitem(pixels._OPEN, "JPEG", fails)
    assert outcome(JPEG) is Reason.BROKEN_IMAGE


# --- which file may be read ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A poster folder with its neighbour: a secret that no path may reach."""
    root = tmp_path / "posters"
    (root / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "1.jpg").write_bytes(b"secret")
    for name in ("1.jpg", "sub/2.jpg", "sub/deep/3.jpg"):
        (root / name).write_bytes(JPEG)
    (root / "empty.jpg").touch()
    (root / "large.jpg").write_bytes(bytes(len(JPEG) + 1))
    with (root / "sparse.jpg").open("wb") as sparse:
        sparse.truncate(2**40)
    os.mkfifo(root / "fifo.jpg")
    os.mknod(root / "socket.jpg", stat.S_IFSOCK | 0o600)
    for link, target in {
        "in.jpg": "sub/deep/3.jpg",
        "sub/up.jpg": "../1.jpg",
        "absolute.jpg": str(root / "1.jpg"),
        "folder-in": "sub",
        "chain.jpg": "in.jpg",
        "out.jpg": "../secret.jpg",
        "absolute-out.jpg": str(tmp_path / "secret.jpg"),
        "folder-out": "../outside",
        "there-and-back": "../posters",
        "loop.jpg": "loop.jpg",
        "dangling.jpg": "nowhere.jpg",
        "dangling-out.jpg": "../nowhere.jpg",
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "posters-link").symlink_to("posters")
    return root


PATHS: dict[str, Reason] = {
    "1.jpg": OK,
    "sub/deep/3.jpg": OK,
    "./sub//2.jpg": OK,
    "sub/../1.jpg": OK,
    "in.jpg": OK,
    "sub/up.jpg": OK,
    "absolute.jpg": OK,
    "folder-in/2.jpg": OK,
    "chain.jpg": OK,
    "there-and-back/1.jpg": OK,
    "../posters/1.jpg": OK,
    "../secret.jpg": Reason.OUTSIDE_FOLDER,
    "sub/../../secret.jpg": Reason.OUTSIDE_FOLDER,
    "../nothing.jpg": Reason.OUTSIDE_FOLDER,
    "..": Reason.OUTSIDE_FOLDER,
    "/etc/passwd": Reason.OUTSIDE_FOLDER,
    "/": Reason.OUTSIDE_FOLDER,
    "out.jpg": Reason.OUTSIDE_FOLDER,
    "absolute-out.jpg": Reason.OUTSIDE_FOLDER,
    "folder-out/1.jpg": Reason.OUTSIDE_FOLDER,
    "dangling-out.jpg": Reason.OUTSIDE_FOLDER,
    "": Reason.NOT_A_FILE,
    ".": Reason.NOT_A_FILE,
    "sub": Reason.NOT_A_FILE,
    "fifo.jpg": Reason.NOT_A_FILE,
    "socket.jpg": Reason.NOT_A_FILE,
    "missing.jpg": Reason.NOT_FOUND,
    "missing/1.jpg": Reason.NOT_FOUND,
    "1.jpg/1.jpg": Reason.NOT_FOUND,
    "dangling.jpg": Reason.NOT_FOUND,
    "nul\0.jpg": Reason.NOT_FOUND,
    "surrogate\ud800.jpg": Reason.NOT_FOUND,
    "x" * 300: Reason.NOT_FOUND,
    "x/" * 5000: Reason.NOT_FOUND,
    "loop.jpg": Reason.UNREADABLE,
    "empty.jpg": Reason.EMPTY,
    "large.jpg": Reason.FILE_TOO_LARGE,
    "sparse.jpg": Reason.FILE_TOO_LARGE,
}


def reading(path: str, root: Path, limits: PosterLimits) -> Reason:
    try:
        read_poster(path, root, limits)
    except PosterProblem as problem:
        return problem.reason
    return Reason.NONE


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path)[:40])
@pytest.mark.parametrize("through", ["posters", "posters-link", "posters/sub/.."])
def test_every_path_comes_to_its_defined_outcome(path: str, through: str, folder: Path) -> None:
    root = folder.parent / through
    assert reading(path, root, PosterLimits(max_bytes=len(JPEG))) is PATHS[path]


def test_the_bytes_read_are_the_bytes_of_the_file(folder: Path) -> None:
    for path in (path for path, reason in PATHS.items() if reason is OK):
        assert read_poster(path, folder, LIMITS) == JPEG


def test_a_poster_outside_the_folder_is_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = {(folder.parent / name).stat().st_ino for name in ("secret.jpg", "outside", "outside/1.jpg")}
    opened = []
    really_open = os.open

    def watched_open(*arguments: object, **options: object) -> int:
        descriptor = really_open(*arguments, **options)
        opened.append(os.fstat(descriptor).st_ino)
        return descriptor

    monkeypatch.setattr(os, "open", watched_open)
    for path in PATHS:
        reading(path, folder, LIMITS)
    assert opened
    assert not forbidden & set(opened)


def test_a_link_swapped_in_after_the_check_does_not_lead_outside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = os.path.realpath

    def resolve_then_swap(path: object, **options: object) -> str:
        resolved = resolve(path, **options)
        if str(path).endswith("in.jpg"):
            (folder / "sub/deep/3.jpg").unlink()
            (folder / "sub/deep/3.jpg").symlink_to(folder.parent / "secret.jpg")
        if str(path).endswith("folder-in/2.jpg"):
            (folder / "sub").rename(folder / "sub-before")
            (folder.parent / "outside/2.jpg").write_bytes(b"secret")
            (folder / "sub").symlink_to(folder.parent / "outside")
        return resolved

    monkeypatch.setattr(os.path, "realpath", resolve_then_swap)
    assert reading("in.jpg", folder, LIMITS) is Reason.UNREADABLE
    assert reading("folder-in/2.jpg", folder, LIMITS) is not Reason.NONE


def test_a_real_socket_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.jpg")
        assert reading("s.jpg", tmp_path, LIMITS) is Reason.NOT_A_FILE


@pytest.mark.parametrize("call", ["open", "read"])
def test_a_file_the_system_refuses_is_unreadable(call: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, call, refused)
    assert reading("1.jpg", folder, LIMITS) is Reason.UNREADABLE


@pytest.mark.parametrize("error_by", [-10, 10])
def test_a_file_that_changes_size_while_read_is_read_to_its_end(
    error_by: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_fstat = os.fstat

    def stale_fstat(descriptor: int) -> os.stat_result:
        fields = list(really_fstat(descriptor))
        fields[stat.ST_SIZE] += error_by
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", stale_fstat)
    assert read_poster("1.jpg", folder, LIMITS) == JPEG
    assert reading("1.jpg", folder, PosterLimits(max_bytes=len(JPEG) - 5)) is Reason.FILE_TOO_LARGE


def test_reading_leaves_no_descriptor_open(folder: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in PATHS:
        reading(path, folder, PosterLimits(max_bytes=len(JPEG)))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- equality with the image processors ------------------------------------------------------------------------------

KINDS = ["ViT", "DeiT", "Beit", "CLIP", "Bit"]


def processor(kind: str, **given: object) -> Any:
    import transformers

    return getattr(transformers, f"{kind}ImageProcessorPil")(**given)


def assert_equal_to_the_processor(config: dict[str, object], raw: bytes, image: Image.Image) -> None:
    kind = str(config["image_processor_type"]).removesuffix("ImageProcessor")
    given = {key: value for key, value in config.items() if key != "image_processor_type"}
    recipe = PixelRecipe.from_processor_config(config, "model")
    theirs = processor(kind, **given)(image, do_convert_rgb=True, return_tensors="np")["pixel_values"]
    assert outcome(raw, recipe) is Reason.NONE
    ours = recipe.normalise(poster_pixels(raw, recipe, LIMITS)[None])
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == (1, 3, *recipe.output)
    assert np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@example(width=1, height=1, mode="RGB")
@example(width=1, height=400, mode="RGB")
@example(width=399, height=1, mode="L")
@example(width=224, height=224, mode="RGB")
@example(width=224, height=301, mode="RGBA")
@example(width=333, height=225, mode="RGB")
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    mode=st.sampled_from(["RGB", "L", "RGBA", "LA", "P", "1", "P+t"]),
)
def test_pixels_equal_the_image_processors_own(kind: str, width: int, height: int, mode: str) -> None:
    options = {}
    if mode.startswith("P"):
        image = picture(width, height).quantize(16)
        options = {"transparency": 0} if mode == "P+t" else {}
    elif mode == "1":
        image = picture(width, height, "L").convert("1")
    else:
        image = picture(width, height, mode)
    raw = saved(image, "PNG", **options)
    assert_equal_to_the_processor({"image_processor_type": f"{kind}ImageProcessor"}, raw, Image.open(io.BytesIO(raw)))


@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Beit"])
@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2, 2999)])
def test_ribbons_equal_the_image_processors_own(kind: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    assert_equal_to_the_processor({"image_processor_type": f"{kind}ImageProcessor"}, saved(image, "PNG"), image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "given_settings",
    [
        {"size": 96},
        {"size": [64, 80], "do_center_crop": False},
        {"size": {"height": 50, "width": 31}, "do_center_crop": False},
        {"size": {"shortest_edge": 37}, "do_center_crop": True, "crop_size": 32},
        {"size": {"shortest_edge": 37}, "do_center_crop": True, "crop_size": {"height": 51, "width": 33}},
        {"size": {"height": 9, "width": 90}, "do_center_crop": True, "crop_size": {"height": 32, "width": 31}},
        {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 99, "width": 21}},
        {"resample": 0},
        {"resample": 1},
        {"resample": 3, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0},
        {"size": {"height": 50, "width": 31}, "do_center_crop": None, "crop_size": None},
        {"do_resize": None, "size": None, "do_center_crop": True, "crop_size": [40, 30], "resample": None},
        {"do_normalize": None, "image_mean": None, "do_rescale": None, "do_convert_rgb": None},
        {"size": 96, "default_to_square": True, "do_center_crop": False},
        {"size": 96, "default_to_square": False, "do_center_crop": True, "crop_size": 60},
    ],
    ids=str,
)
def test_every_supported_setting_means_what_it_means_to_the_processor(
    kind: str, given_settings: dict[str, object]
) -> None:
    image = picture(53, 79)
    config = {"image_processor_type": f"{kind}ImageProcessor", **given_settings}
    assert_equal_to_the_processor(config, saved(image, "PNG"), image)


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_the_processor_itself_wrote_gives_its_recipe(kind: str, tmp_path: Path) -> None:
    import json

    processor(kind).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())
    recipe = PixelRecipe.from_processor_config(config, "model")
    assert recipe == PixelRecipe.from_processor_config({"image_processor_type": f"{kind}ImageProcessor"}, "model")


@pytest.mark.parametrize("name", ["ViTFeatureExtractor", "ViTImageProcessorFast", "ViTImageProcessorPil"])
def test_older_and_newer_names_of_a_processor_mean_the_same(name: str) -> None:
    old = PixelRecipe.from_processor_config({"feature_extractor_type": name, "size": 96}, "model")
    assert old == PixelRecipe(size=(96, 96))


def test_a_configuration_without_a_name_is_read_as_its_model_type_has_it() -> None:
    config = {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 224}
    assert PixelRecipe.from_processor_config(config, "model", model_type="vit") == PixelRecipe()
    with pytest.raises(BadInput, match=r"^model: .*image_processor_type"):
        PixelRecipe.from_processor_config(config, "model")
    with pytest.raises(BadInput, match=r"^model: .*image_processor_type.*'sam'"):
        PixelRecipe.from_processor_config(config, "model", model_type="sam")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("do_pad", True),
        ("do_reduce_labels", True),
        ("do_flip_channel_order", True),
        ("use_square_size", True),
        ("crop_pct", 0.875),
        ("size_divisor", 32),
        ("size", {"longest_edge": 224}),
        ("size", {"shortest_edge": 224, "longest_edge": 300}),
        ("size", {"shortest_edge": 224}),
        ("size", {"height": 224}),
        ("size", {"height": 224, "width": 0}),
        ("size", {"height": 224, "width": 224.5}),
        ("size", [224]),
        ("size", "224"),
        ("size", 10**6),
        ("do_resize", "yes"),
        ("do_resize", False),
        ("do_resize", None),
        ("size", None),
        ("image_mean", None),
        ("resample", 9),
        ("resample", "bicubic"),
        ("resample", True),
        ("resample", None),
        ("rescale_factor", float("nan")),
        ("image_mean", [0.5, 0.5]),
        ("image_mean", ["a", "b", "c"]),
        ("image_std", [0.5, 0.0, 0.5]),
        ("do_center_crop", True),
        ("image_processor_type", "SamImageProcessor"),
        ("image_processor_type", "VideoMAEFeatureExtractor"),
        ("image_processor_type", 7),
    ],
    ids=str,
)
def test_a_setting_not_understood_is_refused_by_name(setting: str, value: object) -> None:
    config = {"image_processor_type": "ViTImageProcessor", setting: value}
    with pytest.raises(BadInput) as refusal:
        PixelRecipe.from_processor_config(config, "models/mine")
    found = str(refusal.value)
    assert found.startswith("models/mine: ")
    assert "\n" not in found
    named = {"do_center_crop": "crop_size", "do_resize": "do_resize" if value == "yes" else "size"}
    assert named.get(setting, setting) in found


def test_normalising_keeps_any_leading_shape() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4, 3), dtype=np.uint8)
    whole = PixelRecipe().normalise(pixels)
    assert whole.shape == (2, 3, 3, 5, 4)
    assert np.array_equal(whole[1, 2], PixelRecipe().normalise(pixels[1, 2]))


def test_a_recipe_whose_posters_differ_in_size_has_no_output_size() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        _ = PixelRecipe(size=224).output


def test_images_are_read_without_torch_or_transformers() -> None:
    modules = (pixels, poster_files, poster_header, pixel_recipe)
    trees = [ast.parse(Path(str(module.__file__)).read_text()) for module in modules]
    tree = ast.Module([node for tree in trees for node in tree.body], [])
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.split(".")[0] in ("torch", "transformers", "torchvision")]


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data folder beside the checkout")
def test_every_real_poster_equals_plain_pillow() -> None:
    for folder in ("posters", "posters-full"):
        for path in sorted((SHARED / folder).iterdir())[:200]:
            plain = np.asarray(Image.open(path).convert("RGB").resize((224, 224), 2))
            raw = read_poster(path.name, path.parent, LIMITS)
            assert np.array_equal(poster_pixels(raw, PixelRecipe(), LIMITS), plain)


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data folder beside the checkout")
def test_a_real_poster_cut_anywhere_and_given_an_end_marker_is_told() -> None:
    for path in sorted((SHARED / "posters").iterdir())[::100]:
        raw = path.read_bytes()
        for share in (0.3, 0.6, 0.9):
            assert outcome(raw[: int(len(raw) * share)] + b"\xff\xd9") is Reason.BROKEN_IMAGE
