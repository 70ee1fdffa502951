"""Vectors in Parquet or Arrow tables: one file, shards, or the tables that this program itself writes.

A batch of rows is in memory at a time. A column of lists has a vector for each row, one of lists of lists a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..embeddings.ids import IdArray
from ..embeddings.status import Reason, Status
from ..runtime.errors import BadInput, UsageError
from .vectors import NONE_AT_ALL, WIDTHS_DIFFER, Vectors, Where, checked_width, float_dtype, known_column, value_columns

_ROWS: Final = 1024  # in memory at a time
_OURS: Final = ("_cls", "_tokens", "_status", "_reason")


def table_vectors(files: Sequence[Path], where: Where, modality: str) -> Vectors:
    """The vectors in one table that lies in one file or several, each with the same columns.

    Raises UsageError where the column of ids or vectors must be named, BadInput for a table that is not as expected.
    """
    table = Table(files)
    ids = table.ids(where.id_column or known_column(table.names, files[0]))
    if where.column is None and f"{modality}_cls" in table.names and table.kind(f"{modality}_cls")[0] == 1:
        return _ours(table, ids, modality)
    if where.column is None and not any(table.kind(name)[0] for name in table.names):
        return _wide(table, ids)
    column = where.column or _the_column(table, modality)
    if column not in table.names:
        raise UsageError(f"{table}: --column: expected one of {', '.join(table.names)}, found {column}")
    depth, leaf = table.kind(column)
    if depth not in (1, 2):
        raise UsageError(f"{table}: column {column}: expected lists of numbers, found {leaf}")
    lengths = np.concatenate([_lengths(array) for array in table.batches(column)])
    first = next((matrix for matrix in _matrices(table, column) if matrix is not None), None)
    if first is None:
        raise BadInput(f"{table}: column {column} holds no vector at all")
    width = checked_width(first.shape[1], table)

    def matrices() -> Iterator[npt.NDArray[Any]]:
        for number, matrix in enumerate(_matrices(table, column, ids)):
            yield _of_width(matrix, width, ids, number, table)

    return Vectors(
        ids=ids,
        lengths=np.where(lengths < 0, NONE_AT_ALL, 1) if depth == 1 else lengths,
        width=width,
        dtype=float_dtype(leaf, f"{table}, column {column}"),
        single=depth == 1,
        matrices=matrices,
    )


def _wide(table: Table, ids: IdArray) -> Vectors:
    """A table with a column of floating-point numbers for each value of a vector, as a data frame is written."""
    columns = [name for name in table.names if table.kind(name)[1] in ("float", "double", "halffloat")]
    if len(columns) < 2:
        raise UsageError(f"{table}: expected a column of lists, or one of numbers for each value, found {table.names}")
    columns, notes = value_columns(columns, table)

    def matrices() -> Iterator[npt.NDArray[Any]]:
        for batch in table.record_batches(columns):
            values = np.column_stack([array.to_numpy(zero_copy_only=False) for array in batch.columns])
            yield from (row.reshape(1, -1) for row in values)

    dtype = float_dtype(table.kind(columns[0])[1], table)
    return Vectors(
        ids, np.ones(len(ids), np.int64), checked_width(len(columns), table), dtype, True, matrices, notes=notes
    )


def _the_column(table: Table, modality: str) -> str:
    nested = [name for name in table.names if table.kind(name)[0]]
    usual = [name for name in (f"{modality}_embedding", modality) if name in nested]
    if usual or len(nested) == 1:
        return (usual or nested)[0]
    raise UsageError(f"{table}: name the column of vectors with --column: {', '.join(nested) or 'it has none'}")


class Table:
    """Parquet or Arrow files with the same columns, read in their order."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        with _readable(files[0]):
            self._schema = self._opened(files[0])[0]
        for file in files[1:]:
            with _readable(file):
                if self._opened(file)[0].names != self._schema.names:
                    raise BadInput(f"{file}: expected the columns of {files[0]}: {', '.join(self._schema.names)}")

    def __str__(self) -> str:
        return str(self._files[0])

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self._schema.names)

    def kind(self, column: str) -> tuple[int, str]:
        """How many lists lie in one another in a column, and the type within."""
        import pyarrow.types as types

        kind, depth = self._schema.field(column).type, 0
        while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            kind, depth = kind.value_type, depth + 1
        return depth, str(kind)

    def batches(self, column: str) -> Iterator[Any]:
        """The column as Arrow arrays, at most `_ROWS` rows each."""
        return (batch.column(0) for batch in self.record_batches([column]))

    def record_batches(self, columns: list[str]) -> Iterator[Any]:
        """The columns as Arrow record batches, at most `_ROWS` rows each."""
        for file in self._files:
            with _readable(file):
                yield from self._opened(file)[1](columns)

    def ids(self, column: str) -> IdArray:
        """The column as ids, (N,). Raises BadInput where one is empty, UsageError where there is no such column."""
        import pyarrow as pa

        if column not in self.names:
            raise UsageError(f"{self}: --id-column: expected one of {', '.join(self.names)}, found {column}")
        arrays = list(self.batches(column))
        empty = sum(array.null_count for array in arrays)
        if empty:
            raise BadInput(f"{self}: column {column}: expected an id in every row, found {empty:,} empty")
        values = pa.chunked_array(arrays, type=self._schema.field(column).type)
        plain = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        if plain != values.type or pa.types.is_string_view(plain):  # as Polars writes Arrow; Arrow casts neither
            text = pa.large_string() if pa.types.is_string_view(plain) else plain
            values = pa.chunked_array([pa.array(values.to_pylist(), text)])
        if pa.types.is_integer(values.type):
            numbers: IdArray = values.to_numpy()
            return numbers
        if pa.types.is_floating(values.type):
            floats = values.to_numpy()
            if np.array_equal(floats, np.trunc(floats)) and np.abs(floats).max(initial=0) < 2**53:
                whole: IdArray = floats.astype(np.int64)
                return whole
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            raise BadInput(f"{self}: column {column}: expected ids that are whole numbers or text, found {values.type}")
        return np.array(values.to_pylist(), object)

    def _opened(self, file: Path) -> tuple[Any, Any]:
        """The schema, and a function that yields columns batch by batch."""
        if file.suffix.lower() in (".arrow", ".feather", ".ipc"):
            from pyarrow import ipc, memory_map

            reader = ipc.open_file(memory_map(str(file)))

            def arrow(columns: list[str]) -> Iterator[Any]:
                for number in range(reader.num_record_batches):
                    whole = reader.get_batch(number).select(columns)
                    yield from (whole.slice(start, _ROWS) for start in range(0, len(whole), _ROWS))

            return reader.schema, arrow
        from pyarrow import parquet

        table = parquet.ParquetFile(file, memory_map=True)

        def rows(columns: list[str]) -> Iterator[Any]:
            for batch in table.iter_batches(_ROWS, columns=columns):
                yield batch.select(columns)

        return table.schema_arrow, rows


def _lengths(array: Any) -> npt.NDArray[np.int64]:
    import pyarrow.compute as pc

    found: npt.NDArray[np.int64] = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
    return found.astype(np.int64)


def _matrices(table: Table, column: str, ids: IdArray | None = None) -> Iterator[npt.NDArray[Any] | None]:
    """Each row's vectors, (T, D); None where the row is null."""
    number = 0
    for array in table.batches(column):
        depth = table.kind(column)[0]
        lengths = _lengths(array)
        inner = array.flatten()
        widths = _lengths(inner) if depth == 2 else None
        values = inner.flatten() if depth == 2 else inner
        flat = values.to_numpy(zero_copy_only=False)
        at = place = 0
        for length in lengths.tolist():
            if length < 0:
                yield None
            else:
                own = np.array([length]) if widths is None else widths[at : at + length]
                if own.size and (own != own[0]).any():
                    item = number if ids is None else ids[number]
                    raise BadInput(f"{table}: item {item}: expected vectors of one length, found others")
                size = int(np.maximum(own, 0).sum())
                yield flat[place : place + size].reshape(len(own), -1 if size else 0)
                at, place = at + length, place + size
            number += 1


def _of_width(matrix: npt.NDArray[Any] | None, width: int, ids: IdArray, number: int, table: Table) -> npt.NDArray[Any]:
    if matrix is None or (not matrix.size and not len(matrix)):
        return np.empty((0, width), np.float32)
    if matrix.shape[1] != width:
        raise BadInput(
            f"{table}: item {ids[number]}: expected vectors of {width} values as the first, found {matrix.shape[1]}"
        )
    return matrix


def _ours(table: Table, ids: IdArray, modality: str) -> Vectors:
    """The table that `cache convert --to parquet` or `arrow` wrote: CLS, tokens, and why an item has none."""
    cls, tokens, status, reason = (f"{modality}{end}" for end in _OURS)
    there = np.concatenate([_lengths(array) >= 0 for array in table.batches(cls)])
    has_tokens = tokens in table.names
    first = next((matrix for matrix in _matrices(table, cls) if matrix is not None), None)
    if first is None:
        raise BadInput(f"{table}: column {cls} holds no vector at all")
    width = checked_width(first.shape[1], table)
    notes: tuple[str, ...] = ()
    if has_tokens:
        token = next((m for m in _matrices(table, tokens) if m is not None and len(m)), None)
        if token is not None and token.shape[1] != width:
            has_tokens, notes = False, (WIDTHS_DIFFER,)
    counts = np.zeros(len(ids), np.int64)
    if has_tokens:
        counts = np.maximum(np.concatenate([_lengths(array) for array in table.batches(tokens)]), 0)

    def matrices() -> Iterator[npt.NDArray[Any]]:
        theirs = _matrices(table, tokens, ids) if has_tokens else iter([None] * len(ids))
        for number, (one, rest) in enumerate(zip(_matrices(table, cls, ids), theirs, strict=True)):
            head = _of_width(one, width, ids, number, table)
            yield np.concatenate((head, _of_width(rest, width, ids, number, table))) if rest is not None else head

    states = {}
    if status in table.names and reason in table.names:
        outcomes = zip(_words(table, status), _words(table, reason), strict=True)
        for number, (state, why) in enumerate(outcomes):
            if not there[number] and state in ("missing", "failed") and why.upper() in Reason.__members__:
                states[number] = Status[state.upper()], Reason[why.upper()]
    return Vectors(
        ids=ids,
        lengths=np.where(there, 1 + counts, NONE_AT_ALL),
        width=width,
        dtype=float_dtype(table.kind(cls)[1], table),
        single=not counts.any(),
        matrices=matrices,
        cls="first",
        states=states,
        notes=notes,
    )


def _words(table: Table, column: str) -> list[str]:
    return [str(value) for array in table.batches(column) for value in array.to_pylist()]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as fault:
        reason = (str(fault).splitlines() or ["unknown"])[0]
        raise BadInput(f"{path}: cannot be read as {path.suffix.lstrip('.') or 'Parquet'} ({reason})") from None
