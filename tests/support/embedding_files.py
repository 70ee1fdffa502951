"""Small embedding files for tests: layouts as a real job makes them, a row writer, random catalogues, golden files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter, nan
from cinefuse.data.embeddings.status import Reason, Status

GOLDEN = Path(__file__).parents[1] / "golden"
TEXT_AND_IMAGE = GOLDEN / "text_image_float16.h5"
IMAGE_BFLOAT16 = GOLDEN / "image_bfloat16.h5"
UNFINISHED = GOLDEN / "unfinished.h5"
TEXT_INT8 = GOLDEN / "version2" / "text_int8.h5"

OK = (Status.OK, Reason.NONE)
MISSING = (Status.MISSING, Reason.NOT_GIVEN)

integers = st.integers(-(2**63), 2**63 - 1)
texts = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("./\\ é七🎬\u202eאב")),
    min_size=1,
    max_size=20,
)
id_lists = st.one_of(
    st.lists(integers, min_size=1, max_size=12, unique=True), st.lists(texts, min_size=1, max_size=12, unique=True)
)


def make_layout(
    model: str, dtype: str, width: int, lengths: list[int], states: list[tuple[Status, Reason]], text: bool
) -> ModalityLayout:
    """A layout whose digests and batches look as a real job's do; `lengths` are tokens per row."""
    given = [status is not Status.MISSING for status, _ in states]
    digests = [
        hashlib.sha256(f"{model} {row}".encode()).digest() if has else bytes(32) for row, has in enumerate(given)
    ]
    return ModalityLayout(
        record={"model": model, "fingerprint": {"weights": hashlib.sha256(model.encode()).hexdigest(), "dtype": dtype}},
        width=width,
        dtype=dtype,
        lengths=np.array(lengths, np.int64),
        digest=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        batch=np.array([0 if has else -1 for has in given], np.int32),
        input_ids=np.arange(sum(lengths), dtype=np.int32) + 1000 if text else None,
    )


def write_file(
    path: Path, ids: list[Any], modalities: dict[str, tuple[ModalityLayout, list[Any]]], about: Any = None
) -> EmbeddingFile:
    """An embedding file of these modalities; each row's content is (CLS and tokens below it, status, reason)."""
    layouts = {name: layout for name, (layout, _) in modalities.items()}
    file = EmbeddingFile.create(path, np.array(ids), layouts, about or {})
    with RowWriter(file) as writer:
        for name, (_, rows) in modalities.items():
            for row, (content, status, reason) in enumerate(rows):
                writer.write(name, row, content[0], content[1:], status, reason)
    return file


def digest(path: Path) -> str:
    """The digest over a file's content, finished or not."""
    with EmbeddingFile.open(path, pending=True) as file:
        return file.content_digest


def names(folder: Path) -> list[str]:
    """The names of what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path, offset: int) -> None:
    """Change one bit of the byte at that offset."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[list[Any], dict[str, tuple[ModalityLayout, list[Any]]]]:
    """Ids, and per modality a layout with each row's content: (CLS and tokens as bits, status, reason)."""
    ids = draw(id_lists)
    modalities = {}
    for name in draw(st.sampled_from([("text",), ("image",), ("text", "image")])):
        dtype, width = draw(st.sampled_from(["float16", "bfloat16", "float32"])), draw(st.integers(1, 9))
        everything_missing = draw(st.booleans())
        states = [MISSING if everything_missing else draw(st.sampled_from([OK, MISSING])) for _ in ids]
        lengths = [0 if everything_missing else draw(st.integers(0, 5)) for _ in ids]
        layout = make_layout("toy", dtype, width, lengths, states, text=name == "text")
        chance = np.random.default_rng(draw(st.integers(0, 2**32)))
        rows = []
        for length, (status, reason) in zip(lengths, states, strict=True):
            content = nan((1 + length, width), dtype)
            if status.has_embedding:
                values = chance.standard_normal((1 + length, width), np.float32) * 100
                bits = (values.view(np.uint32) >> 16).astype(np.uint16)
                content = bits if dtype == "bfloat16" else values.astype(dtype)
            rows.append((content, status, reason))
        modalities[name] = (layout, rows)
    return ids, modalities
