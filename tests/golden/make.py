"""Makes the golden files of format version 1: `python tests/golden/make.py FOLDER`.

The files beside this script were made by it once and must never change: a release that writes other bytes, or cannot
read these, breaks every file that was ever shared. A new format version gets new golden files, beside these.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.number_formats import numpy_dtype
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.tests.support.embedding_files import make_layout

STATES = [
    (Status.OK, Reason.NONE),
    (Status.TRUNCATED, Reason.TOO_LONG),
    (Status.MISSING, Reason.NOT_GIVEN),
    (Status.FAILED, Reason.BROKEN_IMAGE),
]


def values(rows: int, width: int, dtype: str, start: int) -> np.ndarray:
    """(rows, width) quarters from `start`, exact in every storage dtype (below 64, bfloat16 has 8 bits for them)."""
    exact = (np.arange(rows * width, dtype=np.float32).reshape(rows, width) + start) % 256 / 4 - 16
    if dtype == "bfloat16":
        return (exact.view(np.uint32) >> 16).astype(np.uint16)
    return exact.astype(numpy_dtype(dtype))


def fill(file: EmbeddingFile, states: list, rows: list[int]) -> None:
    """Write `rows` of every modality: quarters where `states` says there is an embedding, NaN elsewhere."""
    with RowWriter(file) as writer:
        for name in file.modalities:
            modality = file[name]
            for row in rows:
                status, reason = states[row]
                if not status.has_embedding:
                    writer.write_absent(name, row, status, reason)
                    continue
                content = values(1 + len(modality.tokens_of(row)), modality.width, modality.dtype, 10 * row)
                writer.write(name, row, content[0], content[1:], status, reason)


def make(folder: Path) -> None:
    """Write all golden files into `folder`."""
    about = {"format": "cinefuse embeddings, an HDF5 file behind this header", "licence": "CC0-1.0"}

    ids = np.array([1, -5, 2**62, 31])
    text = make_layout("toy-bert", "float16", 4, [3, 2, 0, 1], STATES, text=True)
    image = make_layout("toy-vit", "float16", 3, [4, 4, 4, 4], STATES, text=False)
    with EmbeddingFile.create(folder / "text_image_float16.h5", ids, {"text": text, "image": image}, about) as file:
        fill(file, STATES, [3, 0, 2, 1])

    names = np.array(["tt0111161", "größe/1.jpg", "七人の侍", "🎬"])
    image = make_layout("toy-vit", "bfloat16", 8, [4, 4, 4, 4], STATES, text=False)
    with EmbeddingFile.create(folder / "image_bfloat16.h5", names, {"image": image}, about) as file:
        fill(file, STATES, [0, 1, 2, 3])

    text = make_layout("toy-bert", "float32", 5, [2, 1, 0], STATES[:3], text=True)
    with EmbeddingFile.create(folder / "text_float32.h5", ids[:3], {"text": text}, about) as file:
        fill(file, STATES[:3], [0, 1, 2])

    text = make_layout("toy-bert", "float16", 4, [0], [STATES[2]], text=True)
    with EmbeddingFile.create(folder / "text_all_missing.h5", ids[:1], {"text": text}, about) as file:
        fill(file, [STATES[2]], [0])

    unfinished = [STATES[0]] * 3
    image = make_layout("toy-vit", "float16", 4, [2, 2, 2], unfinished, text=False)
    with EmbeddingFile.create(folder / "unfinished.h5", ids[:3], {"image": image}, about) as file:
        fill(file, unfinished, [0, 1])
        path, checksum = file.path, file.header.datasets["image/checksum"]
    with path.open("r+b") as raw:  # row 1: killed in front of its checksum
        raw.seek(checksum.offset + 8)
        raw.write(bytes(8))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
