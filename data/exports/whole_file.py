"""All of an embedding file in the formats that every program reads: Parquet, Arrow, safetensors, NumPy arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.format.header import QUANTISED
from ..embeddings.ids import IdArray
from ..embeddings.modality import Modality
from ..embeddings.status import Reason, Status
from ..runtime.disk import reserve, write_all
from ..runtime.errors import BadInput
from ..runtime.parallel import blocks_of_rows
from ..sharing.copying import copy_run, created

if TYPE_CHECKING:
    import polars as pl

_VALUES = 2**23  # in one part of a table, in one block of an array
# safetensors' names of dtypes; the order is that of their alignment, largest first, as tensors lie without gaps
_SAFETENSORS: Final = {
    "int64": "I64", "float32": "F32", "int32": "I32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "uint8": "U8",
}  # fmt: skip
_LEFT_OUT: Final = ("checksum", "batch")  # of use to this format's files alone


def write_tables(file: EmbeddingFile, folder: Path, to: str, progress: Callable[[int], None]) -> None:
    """Write a folder of parts, a row for each item: item_id, and of each modality its status, reason, cls and tokens.

    cls is D values and tokens a list of D values each, both null where there is no embedding. float16 stays, bfloat16
    and int8 become float32.
    """
    import polars as pl

    for number, (start, stop) in enumerate(_batches(file)):
        part = folder / f"part-{number:05}.{to}"
        try:
            if to == "parquet":
                _frame(file, start, stop).write_parquet(part)
            else:
                _frame(file, start, stop).write_ipc(part)
        except pl.exceptions.PolarsError as fault:
            raise BadInput(f"{folder}: cannot be written ({str(fault).splitlines()[0]})") from None
        progress(_bytes_of(file, start, stop))
        file.forget()


def _batches(file: EmbeddingFile) -> Iterator[tuple[int, int]]:
    values = np.zeros(len(file), np.int64)
    for name in file.modalities:
        values += file[name].width + np.diff(file[name].offsets) * file[name].token_width
    return blocks_of_rows(np.cumsum(values), _VALUES)


def _bytes_of(file: EmbeddingFile, start: int, stop: int) -> int:
    def of(modality: Modality) -> int:
        tokens = int(modality.offsets[stop] - modality.offsets[start])
        return (tokens * modality.token_width + (stop - start) * modality.width) * modality.raw_cls.itemsize

    return sum(of(file[name]) for name in file.modalities)


def _frame(file: EmbeddingFile, start: int, stop: int) -> pl.DataFrame:
    """Rows `start` to `stop` as a table."""
    import polars as pl

    columns: list[pl.Series] = [_id_series(file.ids[start:stop])]
    for name in file.modalities:
        modality = file[name]
        there = modality.has_embedding[start:stop]
        first, last = int(modality.offsets[start]), int(modality.offsets[stop])
        cls, tokens = _values(modality, "cls", start, stop), _values(modality, "tokens", first, last)
        columns += _state(modality, name, start, stop)
        columns.append(_vectors(f"{name}_cls", cls).set(pl.Series(~there), None) if stop > start else
                       _vectors(f"{name}_cls", cls))  # fmt: skip
        ends = modality.offsets[start + 1 : stop + 1] - first
        columns.append(_lists(f"{name}_tokens", tokens, ends, there))
    return pl.DataFrame(columns)


def _id_series(ids: IdArray) -> pl.Series:
    import polars as pl

    return pl.Series("item_id", ids.tolist(), dtype=pl.Int64 if ids.dtype.kind == "i" else pl.String)


def _state(modality: Modality, name: str, start: int, stop: int) -> list[pl.Series]:
    import polars as pl

    statuses = {status.value: status.name.lower() for status in Status}
    reasons = {reason.value: reason.name.lower() for reason in Reason}
    return [
        pl.Series(
            f"{name}_status", [statuses.get(s, str(s)) for s in modality.status[start:stop].tolist()], dtype=pl.String
        ),
        pl.Series(
            f"{name}_reason", [reasons.get(r, str(r)) for r in modality.reason[start:stop].tolist()], dtype=pl.String
        ),
    ]


def _values(modality: Modality, part: str, start: int, stop: int) -> npt.NDArray[Any]:
    if modality.stored_as_floats:
        values: npt.NDArray[Any] = getattr(modality, f"raw_{part}")[start:stop]
        return values
    return modality.read(part, start, stop)


def _vectors(name: str, values: npt.NDArray[Any]) -> pl.Series:
    import polars as pl

    flat = pl.Series(name, np.ascontiguousarray(values).reshape(-1))
    return flat.reshape((len(values), values.shape[1])) if len(values) else pl.Series(
        name, [], dtype=pl.Array(flat.dtype, values.shape[1])
    )  # fmt: skip


def _lists(name: str, tokens: npt.NDArray[Any], ends: npt.NDArray[np.int64], there: npt.NDArray[np.bool_]) -> pl.Series:
    """Tokens as lists: one for each row that has an embedding, null for the others."""
    import polars as pl

    vectors = _vectors(name, tokens)
    row = np.searchsorted(ends, np.arange(len(tokens)), "right")
    lists = pl.DataFrame({"row": row.astype(np.int64), name: vectors}).group_by("row", maintain_order=True).agg(name)
    rows = pl.DataFrame({"row": np.arange(len(ends)), "there": there})
    nothing = pl.lit([], dtype=pl.List(vectors.dtype))
    joined = rows.join(lists, on="row", how="left", maintain_order="left")
    return joined.select(pl.when("there").then(pl.col(name).fill_null(nothing)).alias(name)).to_series()


def write_safetensors(file: EmbeddingFile, working: Path, progress: Callable[[int], None]) -> None:
    """Write the datasets under their names, without copying through memory; text ids as bytes (N, longest)."""
    chosen = [d for d in file.header.datasets.values() if d.name.split("/")[1] not in _LEFT_OUT]
    kind = {d.name: _SAFETENSORS.get(d.dtype, "U8") for d in chosen}
    chosen.sort(key=lambda d: list(_SAFETENSORS.values()).index(kind[d.name]))
    about = {
        "format": "cinefuse embeddings",
        "modalities": json.dumps(dict(file.header.modalities)),
        "about": json.dumps(dict(file.header.about)),
        "content_digest": file.content_digest,
    }
    header: dict[str, Any] = {"__metadata__": about}
    at = 0
    for dataset in chosen:
        shape = [*dataset.shape, int(dataset.dtype[1:])] if dataset.dtype.startswith("S") else list(dataset.shape)
        header[dataset.name] = {
            "dtype": kind[dataset.name],
            "shape": shape,
            "data_offsets": [at, at + dataset.length],
        }
        at += dataset.length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    place = 8 + len(text)
    with file.path.open("rb") as source, created(working) as target:
        reserve(target, place + at)
        write_all(target, len(text).to_bytes(8, "little") + text, 0)
        for dataset in chosen:
            copy_run(source.fileno(), target, (dataset.offset, dataset.length, place), file.path, progress)
            place += dataset.length


def write_npy(file: EmbeddingFile, folder: Path, progress: Callable[[int], None]) -> None:
    """Write items.parquet (item_id; status, reason, start and stop of tokens), MODALITY_cls.npy, MODALITY_tokens.npy.

    bfloat16 becomes float32, int8 comes with its MODALITY_*_scale.npy.
    """
    import polars as pl

    columns = [_id_series(file.ids)]
    for name in file.modalities:
        modality = file[name]
        columns += _state(modality, name, 0, len(file))
        columns += [pl.Series(f"{name}_start", modality.offsets[:-1]), pl.Series(f"{name}_stop", modality.offsets[1:])]
        for part in ("cls", "tokens"):
            _write_array(modality, part, folder / f"{name}_{part}.npy", progress)
            if modality.dtype == QUANTISED:
                np.save(folder / f"{name}_{part}_scale.npy", getattr(modality, f"{part}_scale"), allow_pickle=False)
        if modality.input_ids is not None:
            np.save(folder / f"{name}_input_ids.npy", modality.input_ids, allow_pickle=False)
    pl.DataFrame(columns).write_parquet(folder / "items.parquet")


def _write_array(modality: Modality, part: str, path: Path, progress: Callable[[int], None]) -> None:
    stored = getattr(modality, f"raw_{part}")
    exact = modality.dtype != "bfloat16"
    descr = stored.dtype.str if exact else "<f4"
    at_once = max(1, _VALUES // stored.shape[1])
    with path.open("wb") as array:
        np.lib.format.write_array_header_1_0(array, {"descr": descr, "fortran_order": False, "shape": stored.shape})
        for start in range(0, len(stored), at_once):
            stop = min(start + at_once, len(stored))
            values = stored[start:stop] if exact else modality.read(part, start, stop)
            array.write(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
            progress(values.size * stored.itemsize)
            del values
