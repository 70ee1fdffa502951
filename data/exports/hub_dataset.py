"""A dataset for `datasets.load_dataset`: Parquet shards with fixed-size lists, and the card that the Hub shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..embeddings.file import EmbeddingFile
from ..runtime.errors import BadInput
from ..runtime.untrusted_text import printable
from ..sharing.data_card import licence_id, size_category
from .item_vectors import ItemVectors, Wanted

_SHARD_BYTES: Final = 400 * 2**20  # the Hub's own size of a shard is 500 MB
_GROUP_VALUES: Final = 2**21


def write_hub_dataset(file: EmbeddingFile, vectors: Sequence[ItemVectors], folder: Path, wanted: Wanted) -> None:
    """Write data/train-NNNNN-of-MMMMM.parquet and README.md: item_id, and MODALITY_embedding as float32 lists of D.

    By default the items that lack a vector of any modality are left out; filled in, MODALITY_present says whose vector
    is its own.
    """
    missing = wanted.missing or "drop"
    rows = np.arange(len(file))
    if missing == "drop":
        rows = np.flatnonzero(np.logical_and.reduce([each.present for each in vectors]))
        if not rows.size:
            names = " and ".join(each.name for each in vectors)
            raise BadInput(
                f"{file.path}: no item has a vector of its {names}; name one with --modality, or --missing mean"
            )
    width = sum(each.width for each in vectors)
    in_shard = max(1, _SHARD_BYTES // (4 * width))
    shards = -(-len(rows) // in_shard)
    (folder / "data").mkdir()
    for shard in range(shards):
        path = folder / "data" / f"train-{shard:05}-of-{shards:05}.parquet"
        _write_shard(path, file, vectors, rows[shard * in_shard : (shard + 1) * in_shard], missing)
    (folder / "README.md").write_text(_card(file, vectors, len(rows), wanted), "utf-8")


def _write_shard(path: Path, file: EmbeddingFile, vectors: Sequence[ItemVectors], rows: Any, missing: Any) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    numbers = file.ids.dtype.kind == "i"
    fields = [pa.field("item_id", pa.int64() if numbers else pa.string())]
    for each in vectors:
        fields.append(pa.field(f"{each.name}_embedding", pa.list_(pa.float32(), each.width)))
        fields += [pa.field(f"{each.name}_present", pa.bool_())] if missing != "drop" else []
    substitutes = [each.substitute(missing) for each in vectors]
    at_once = max(1, _GROUP_VALUES // sum(each.width for each in vectors))
    with parquet.ParquetWriter(path, pa.schema(fields)) as writer:
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            columns: list[Any] = [pa.array(file.ids[part].tolist(), fields[0].type)]
            for each, substitute in zip(vectors, substitutes, strict=True):
                present = each.present[part]
                values = np.where(present[:, None], each.values[part], substitute).astype(np.float32)
                columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), each.width))
                columns += [pa.array(present)] if missing != "drop" else []
            writer.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)))


def _card(file: EmbeddingFile, vectors: Sequence[ItemVectors], rows: int, wanted: Wanted) -> str:
    about = file.header.about
    licence = str(about.get("licence") or "")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # Markdown and YAML; what comes from the file is escaped below
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["yaml"] = lambda value: json.dumps(printable(value), ensure_ascii=False)
    environment.filters["text"] = lambda value: printable(value).replace("|", "\\|").replace("<", "&lt;")
    template = environment.get_template("dataset_card.md")
    return template.render(
        name=printable(about.get("catalogue") or file.path.stem).rsplit("/", 1)[-1],
        licence_id=licence_id(licence),
        licence=licence,
        size=size_category(rows),
        rows=f"{rows:,}",
        items=f"{len(file):,}",
        dropped=(wanted.missing or "drop") == "drop",
        missing=wanted.missing,
        columns=[
            {
                "name": f"{each.name}_embedding",
                "width": each.width,
                "what": {"text": "the text", "image": "the image"}[each.name],
                "model": str(file[each.name].record.get("model")),
                "vector": wanted.vector or "cls",
                "present": f"{int(each.present.sum()):,}",
            }
            for each in vectors
        ],
        digest=file.content_digest,
    )
