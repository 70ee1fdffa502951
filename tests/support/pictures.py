"""Pictures made of noise, as files; and the chunks that a PNG consists of."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def picture(width: int = 40, height: int = 60, mode: str = "RGB") -> Image.Image:
    """Noise; every size and mode another."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    chance = np.random.default_rng(width * 7919 + height + bands)
    noise = chance.integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(np.ascontiguousarray(noise[..., band])) for band in range(bands)])


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file of that kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
