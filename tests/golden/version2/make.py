"""Makes the golden file of format version 2: `python tests/golden/version2/make.py FOLDER`.

As those of version 1 it was made once and must never change.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.tests.golden.make import STATES
from cinefuse.tests.golden.make import values as float_values
from cinefuse.tests.support.embedding_files import make_layout


def steps(rows: int, width: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, width) int8 from -127 to 127 and (rows,) float32 scales, powers of two."""
    values = (np.arange(rows * width).reshape(rows, width) * 37 + start) % 255 - 127
    scales = 2.0 ** (np.arange(rows) % 5 - 3)
    return values.astype(np.int8), scales.astype(np.float32)


def make(folder: Path) -> None:
    """Write the golden file into `folder`: int8 plots beside float16 posters."""
    about = {"format": "cinefuse embeddings, an HDF5 file behind this header", "licence": "CC0-1.0"}
    ids = np.array([1, -5, 2**62, 31])
    text = make_layout("toy-bert", "int8", 4, [3, 2, 0, 1], STATES, text=True)
    image = make_layout("toy-vit", "float16", 3, [4, 4, 4, 4], STATES, text=False)
    file = EmbeddingFile.create(folder / "text_int8.h5", ids, {"text": text, "image": image}, about)
    with file, RowWriter(file) as writer:
        for row, (status, reason) in enumerate(STATES):
            if not status.has_embedding:
                writer.write_absent("text", row, status, reason)
                writer.write_absent("image", row, status, reason)
                continue
            values, scales = steps(1 + len(file.text.tokens_of(row)), 4, row)
            writer.write("text", row, values[0], values[1:], status, reason, scales)
            content = float_values(5, 3, "float16", 10 * row)
            writer.write("image", row, content[0], content[1:], status, reason)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
