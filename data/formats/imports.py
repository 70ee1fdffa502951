"""Embeddings of other programs made an embedding file: NumPy arrays, Parquet, HDF5 with a dataset for each id.

What made them is known only by what the importer says: the fingerprint holds that name, inputs have no digest (zeros),
and the token ids of text are -1. Each item has one vector (its CLS), or a matrix whose first row is the CLS
("first"), or whose mean stands for it ("mean": then the CLS is that mean, and all rows are tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.header import MODALITIES, STORAGE_DTYPES
from ..embeddings.ids import IdArray
from ..embeddings.layout import ModalityLayout
from ..embeddings.number_formats import infinite, rounded
from ..embeddings.rows import RowWriter
from ..embeddings.status import Reason, Status
from ..runtime.errors import BadInput, UsageError
from ..sharing.copying import new_file
from ..sharing.selection import ids_of

CLS: tuple[str, ...] = ("first", "mean")
_FLOATS = {"float16": "float16", "float32": "float32", "float64": "float32"}
_WIDEST = 2**20


@dataclass(frozen=True)
class Claim:
    """What an importer says of embeddings: whose they are, and how to read them. See `docs/sharing.md`."""

    modality: str
    model: str
    cls: str | None = None
    dtype: str | None = None
    licence: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise UsageError(f"--modality: expected {' or '.join(MODALITIES)}, found {self.modality}")
        if self.cls not in (None, *CLS):
            raise UsageError(f"--cls: expected {' or '.join(CLS)}, found {self.cls}")
        if self.dtype not in (None, *STORAGE_DTYPES):
            raise UsageError(f"--dtype: expected one of {', '.join(STORAGE_DTYPES)}, found {self.dtype}")


@dataclass(frozen=True)
class Where:
    """Where ids and vectors lie in a source; None: where that kind of source usually has them."""

    ids: Path | None = None
    offsets: Path | None = None
    id_column: str | None = None
    column: str | None = None
    dataset: str | None = None


class Vectors(Protocol):
    """A source opened: N items, each with `lengths[i]` vectors of `width` values; -1 vectors: none at all."""

    ids: IdArray
    lengths: npt.NDArray[np.int64]
    width: int
    dtype: str
    single: bool  # every item is one vector, not a matrix of one row

    def matrices(self) -> Iterator[npt.NDArray[Any]]:
        """The vectors of each item, (length, width), in order; (0, width) where there is none."""


def import_embeddings(
    source: Path,
    out: Path,
    claim: Claim,
    where: Where | None = None,
    *,
    overwrite: bool = False,
    told: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the embeddings of `source` to the embedding file `out`.

    `source` is an .npy (N, D), (N, T, D), or (T, D) with offsets, with ids beside it; a .parquet with a column of
    lists; an .h5 with a dataset or group for each id; or a folder of .h5 files, one for each id. Items without a vector
    are missing, those with NaN or Inf failed. `told` is the number of bytes read each time. Raises BadInput or
    UsageError for what is not as expected, and what `new_file` raises.
    """
    with _opened(source, where or Where()) as vectors:
        mode = _mode(vectors, claim, source)
        given = vectors.lengths >= 0
        if (vectors.lengths[given] == 0).any():
            raise BadInput(f"{source}: item {vectors.ids[vectors.lengths == 0][0]}: expected vectors, found none")
        lengths = np.where(given, vectors.lengths - (mode != "mean"), 0).astype(np.int64)
        dtype = claim.dtype or vectors.dtype
        layout = _layout(vectors, claim, mode, lengths, dtype)
        about = {
            "format": "cinefuse embeddings, an HDF5 file behind this header",
            "made_by": f"cinefuse {version('cinefuse')}, imported",
            "source": claim.source,
            "licence": claim.licence,
            "lineage": [
                {"operation": "import", "with": {"from": source.name, "cls": mode, "dtype": dtype}, "from": []}
            ],
        }
        about = {key: value for key, value in about.items() if value is not None}
        with (
            new_file(out, overwrite=overwrite) as working,
            EmbeddingFile.create(working, vectors.ids, {claim.modality: layout}, about) as file,
        ):
            _fill(file, vectors, claim.modality, mode, told)


def _mode(vectors: Vectors, claim: Claim, source: Path) -> str:
    if vectors.single:
        if claim.cls is not None:
            raise UsageError(f"--cls: {source} has one vector for each item, which is its CLS")
        return "vector"
    if claim.cls is None:
        raise UsageError(
            f"{source} has a matrix for each item: say --cls first (its first row is the CLS) or --cls mean"
        )
    return claim.cls


def _layout(vectors: Vectors, claim: Claim, mode: str, lengths: npt.NDArray[np.int64], dtype: str) -> ModalityLayout:
    count = len(lengths)
    tokens = {"vector": "none", "first": "all rows but the first", "mean": "all rows; the CLS is their mean"}[mode]
    return ModalityLayout(
        record={
            "model": claim.model,
            "revision": None,
            "level": "cls" if mode == "vector" else "tokens",
            "tokens": tokens,
            "imported": True,
            "fingerprint": {"model": claim.model, "imported_as": mode, "dtype": dtype},
        },
        width=vectors.width,
        dtype=dtype,
        lengths=lengths,
        digest=np.zeros((count, 32), np.uint8),
        batch=np.full(count, -1, np.int32),
        input_ids=np.full(int(lengths.sum()), -1, np.int32) if claim.modality == "text" else None,
    )


def _fill(file: EmbeddingFile, vectors: Vectors, name: str, mode: str, told: Callable[[int], None]) -> None:
    dtype = file[name].dtype
    with RowWriter(file) as writer:
        for row, matrix in enumerate(vectors.matrices()):
            told(matrix.nbytes)
            if vectors.lengths[row] < 0:
                writer.write_absent(name, row, Status.MISSING, Reason.NOT_GIVEN)
                continue
            exact = np.ascontiguousarray(matrix, np.float32)
            if mode == "mean":
                exact = np.concatenate((exact.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32), exact))
            stored = rounded(exact, dtype)
            if np.isnan(exact).any() or infinite(stored, dtype).any():
                writer.write_absent(name, row, Status.FAILED, Reason.NOT_FINITE)
            else:
                writer.write(name, row, stored[0], stored[1:], Status.OK)


@contextmanager
def _opened(source: Path, where: Where) -> Iterator[Vectors]:
    suffix = source.suffix.lower()
    if not source.exists():
        raise BadInput(f"{source}: no such file or folder")
    if source.is_dir() or suffix in (".h5", ".hdf5"):
        from .hdf5_imports import opened_hdf5

        with opened_hdf5(source, where.dataset) as vectors:
            yield vectors
    elif suffix == ".npy":
        yield _ArrayVectors(source, where)
    elif suffix == ".parquet":
        yield _TableVectors(source, where)
    else:
        raise BadInput(
            f"{source}: expected .npy, .parquet, .h5 or a folder of .h5 files, found {suffix or 'no suffix'!r}"
        )


def float_dtype(name: str, source: object) -> str:
    """The storage dtype for values of the dtype `name`; float64 becomes float32. Raises BadInput for no floats."""
    if name not in _FLOATS:
        raise BadInput(f"{source}: expected floating-point numbers, found {name}")
    return _FLOATS[name]


def checked_width(width: int, source: object) -> int:
    """`width` where it can be that of an embedding. Raises BadInput."""
    if not 1 <= width <= _WIDEST:
        raise BadInput(f"{source}: expected embeddings of 1 to {_WIDEST:,} values, found {width:,}")
    return width


class _ArrayVectors:
    """An .npy: (N, D), (N, T, D), or (T, D) cut by offsets."""

    def __init__(self, source: Path, where: Where) -> None:
        self._array = _numpy(source)
        if where.ids is None:
            raise UsageError(
                f"{source}: an array has no ids; name a file of them with --ids (.txt one a line, .npy, .parquet)"
            )
        self.ids = _ids(where.ids, where.id_column)
        shape = self._array.shape
        self.single = len(shape) == 2 and where.offsets is None
        self.dtype = float_dtype(self._array.dtype.name, source)
        if len(shape) not in (2, 3) or (len(shape) == 3 and where.offsets is not None):
            raise BadInput(f"{source}: expected (N, D), (N, T, D), or (T, D) with --offsets, found {list(shape)}")
        self.width = checked_width(shape[-1], source)
        offsets = np.arange(shape[0] + 1) if where.offsets is None else _numpy(where.offsets)
        if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) != len(self.ids) + 1:
            expected = f"{len(offsets) - 1:,} items" if offsets.ndim == 1 else "offsets of one dimension"
            raise BadInput(f"{source}: expected as many ids as items, found {expected} and {len(self.ids):,} ids")
        self._offsets = offsets.astype(np.int64)
        per_row = shape[1] if len(shape) == 3 else 1
        if self._offsets[0] != 0 or self._offsets[-1] != shape[0] or (np.diff(self._offsets) < 0).any():
            raise BadInput(f"{where.offsets}: expected offsets that rise from 0 to {shape[0]:,}, found otherwise")
        self.lengths = np.diff(self._offsets) * per_row

    def matrices(self) -> Iterator[npt.NDArray[Any]]:
        for start, stop in zip(self._offsets[:-1].tolist(), self._offsets[1:].tolist(), strict=True):
            yield np.asarray(self._array[start:stop]).reshape(-1, self.width)


class _TableVectors:
    """A .parquet whose column holds a list (one vector) or a list of lists (a matrix) for each id."""

    _ROWS = 512

    def __init__(self, source: Path, where: Where) -> None:
        import polars as pl

        self._source = source
        with _readable(source):
            self._frame = pl.scan_parquet(source)
            schema = self._frame.collect_schema()
        nested = [name for name, dtype in schema.items() if isinstance(dtype, pl.List | pl.Array)]
        self._column = where.column or (nested[0] if len(nested) == 1 else None)
        if self._column not in nested:
            raise UsageError(
                f"{source}: name the column of vectors with --column: {', '.join(nested) or 'it has none'}"
            )
        self.ids = _ids(source, where.id_column)
        inner = schema[self._column].inner  # type: ignore[attr-defined]
        self.single = not isinstance(inner, pl.List | pl.Array)
        leaf = inner if self.single else inner.inner
        self.dtype = float_dtype(str(leaf).lower(), f"{source}, column {self._column}")
        column = pl.col(self._column)
        count = column.arr.len() if isinstance(schema[self._column], pl.Array) else column.list.len()
        with _readable(source):
            counted = self._frame.select(count.alias("n")).collect()["n"]
        lengths = counted.cast(pl.Int64).fill_null(-1).to_numpy()
        first = next((m for m in self._pieces() if m is not None), None)
        if first is None:
            raise BadInput(f"{source}: column {self._column} holds no vector at all")
        self.width = checked_width(first.shape[1], source)
        self.lengths = np.where(lengths < 0, -1, 1) if self.single else lengths

    def matrices(self) -> Iterator[npt.NDArray[Any]]:
        for number, matrix in enumerate(self._pieces()):
            if matrix is None:
                yield np.empty((0, self.width), np.float32)
            elif matrix.shape[1] != self.width:
                raise BadInput(
                    f"{self._source}: item {self.ids[number]}: expected vectors of {self.width} values as the first, "
                    f"found {matrix.shape[1]}"
                )
            else:
                yield matrix

    def _pieces(self) -> Iterator[npt.NDArray[Any] | None]:
        start = 0
        while start < len(self.ids):
            with _readable(self._source):
                values = self._frame.select(self._column).slice(start, self._ROWS).collect().to_series().to_list()
            start += self._ROWS
            for number, value in enumerate(values):
                try:
                    yield None if value is None else np.array([value] if self.single else value, np.float32, ndmin=2)
                except (ValueError, TypeError):
                    item = self.ids[start - self._ROWS + number]
                    raise BadInput(
                        f"{self._source}: item {item}: expected vectors of one length, found others"
                    ) from None


def _numpy(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise BadInput(f"{path}: cannot be read as .npy ({str(fault).splitlines()[0]})") from None
    return array


def _ids(path: Path, column: str | None) -> IdArray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _numpy(path)
    if suffix != ".parquet":
        return _numbers_if_all(ids_of(path))
    import polars as pl

    with _readable(path):
        frame = pl.scan_parquet(path)
        names = frame.collect_schema().names()
        name = column or next((known for known in ("item_id", "id") if known in names), None)
        if name not in names:
            raise UsageError(f"{path}: name the column of ids with --id-column: {', '.join(names)}")
        values = frame.select(name).collect().to_series()
    if values.null_count():
        raise BadInput(f"{path}: column {name}: expected an id in every row, found {values.null_count():,} empty")
    return values.to_numpy() if values.dtype.is_integer() else np.array(values.to_list(), object)


def _numbers_if_all(ids: list[str]) -> IdArray:
    try:
        numbers = np.array([int(value) for value in ids], np.int64)
    except (ValueError, OverflowError):
        return np.array(ids)
    return numbers if [str(number) for number in numbers.tolist()] == ids else np.array(ids)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise BadInput(f"{path}: cannot be read as Parquet ({str(fault).splitlines()[0]})") from None
