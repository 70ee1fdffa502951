"""Makes the golden files of format version 3: `python tests/golden/version3/make.py FOLDER`.

As those of versions 1 and 2 they were made once and must never change.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.tests.golden.make import STATES, values
from cinefuse.tests.golden.version2.make import steps
from cinefuse.tests.support.embedding_files import make_layout

ABOUT = {"format": "cinefuse embeddings, an HDF5 file behind this header", "licence": "CC0-1.0"}
IDS = np.array([1, -5, 2**62, 31])


def pooled(layout: ModalityLayout, pooling: str, token_width: int, *, cls_position: bool) -> ModalityLayout:
    """`layout` whose vectors come by `pooling`, beside tokens that are `token_width` wide."""
    fingerprint = layout.record["fingerprint"] | {"pooling": pooling}
    record = {**layout.record, "fingerprint": fingerprint} | ({} if cls_position else {"cls_position": False})
    return replace(layout, record=record, token_width=token_width)


def make(folder: Path) -> None:
    """Write the golden files into `folder`: a text decoder beside a projected image tower, and posters in int8."""
    decoder = make_layout("toy-decoder", "float16", 4, [3, 2, 0, 1], STATES, text=True)
    tower = make_layout("toy-clip", "float16", 3, [4, 4, 4, 4], STATES, text=False)
    layouts = {
        "text": pooled(decoder, "last", 4, cls_position=False),
        "image": pooled(tower, "projection", 5, cls_position=True),
    }
    file = EmbeddingFile.create(folder / "text_image_float16.h5", IDS, layouts, ABOUT)
    with file, RowWriter(file) as writer:
        for row, (status, reason) in enumerate(STATES):
            for name in file.modalities:
                modality = file[name]
                if not status.has_embedding:
                    writer.write_absent(name, row, status, reason)
                    continue
                cls = values(1, modality.width, "float16", 10 * row)[0]
                tokens = values(len(modality.tokens_of(row)), modality.token_width, "float16", 10 * row + 5)
                writer.write(name, row, cls, tokens, status, reason)

    convnet = make_layout("toy-convnet", "int8", 2, [4, 4, 4, 4], STATES, text=False)
    layouts = {"image": pooled(convnet, "pooler", 3, cls_position=False)}
    file = EmbeddingFile.create(folder / "image_int8.h5", IDS, layouts, ABOUT)
    with file, RowWriter(file) as writer:
        for row, (status, reason) in enumerate(STATES):
            if not status.has_embedding:
                writer.write_absent("image", row, status, reason)
                continue
            (cls, cls_scale), (tokens, token_scales) = steps(1, 2, row), steps(4, 3, row)
            scales = np.concatenate((cls_scale, token_scales))
            writer.write("image", row, cls[0], tokens, status, reason, scales)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
