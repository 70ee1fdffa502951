"""Checking every byte of an embedding file, and naming each row that is damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.errors import DamagedFile
from ..runtime.untrusted_text import shown
from .file import EmbeddingFile
from .modality import Modality
from .row_reader import _BLOCK, RowReader, StoredRow
from .rows import row_checksum
from .status import Reason, Status


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file: `where` is a dataset or region, `row` and `item` say whose it is, if one row's."""

    where: str
    what: str
    row: int | None = None
    item: int | str | None = None

    def __str__(self) -> str:
        whose = "" if self.row is None else f" row {self.row} (item {self.item})"
        return f"{self.where}{whose}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What `verify` found: no problems, or all of them. `pending` counts the rows of each modality not yet written."""

    path: Path
    rows: int
    bytes: int
    pending: dict[str, int]
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong; a file that merely waits for more rows is sound but not complete."""
        return not self.problems

    @property
    def complete(self) -> bool:
        """Whether every row is written and nothing is wrong."""
        return self.sound and not any(self.pending.values())

    def damaged_rows(self, modality: str) -> list[int]:
        """The rows of `modality` that `extract` has to compute again."""
        prefix = f"{modality}/"
        return sorted({p.row for p in self.problems if p.row is not None and p.where.startswith(prefix)})


def verify(path: str | Path, progress: Callable[[int], None] = lambda _: None) -> Report:
    """Read the whole file once and check everything the format promises.

    `progress` receives the number of bytes read since its last call. Memory stays at a few megabytes. Raises
    DamagedFile where the file cannot even be opened.
    """
    with EmbeddingFile.open(path, pending=True) as file, RowReader(file) as reader:
        problems = _between(file, reader) + _constants(file, reader, progress) + _ids(file)
        for name in file.modalities:
            problems += _batches(file[name], file) + _rows(file, name, reader, progress)
        return Report(file.path, len(file), file.header.file_length, file.pending, tuple(problems))


def damaged_constants(file: EmbeddingFile) -> list[str]:
    """The datasets laid out once (ids, offsets, digests, batches, token ids) whose bytes are no longer the header's."""
    with RowReader(file) as reader:
        return [problem.where for problem in _constants(file, reader, lambda _: None)]


def intact_rows(
    file: EmbeddingFile, modality: str, among: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """(N,) True where the row is written and its checksum agrees with its bytes; False where not `among` (N,)."""
    intact = ~file[modality].pending
    if among is not None:
        intact &= among
    stored = file[modality].checksum
    for row, checksum in checksums_now(file, modality, np.flatnonzero(intact)):
        intact[row] = checksum == int(stored[row])
    return intact


def checksums_now(
    file: EmbeddingFile, modality: str, rows: npt.NDArray[np.intp], progress: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[int, int]]:
    """Each of `rows` with the checksum that its bytes have now; `progress` receives the number of bytes read for it."""
    with RowReader(file) as reader:
        for row, found in reader.rows(modality, rows):
            yield row, found.checksum_now
            progress(len(found.cls) + len(found.tokens))


def row_checker(file: EmbeddingFile, modality: str) -> Callable[[int], int]:
    """The checksum that a row's bytes have now, asked row by row; the mapped file is read, not the disk's own way."""
    arrays = file[modality]

    def check(row: int) -> int:
        scales = arrays.scales_of(row)
        return row_checksum(
            arrays.raw_cls[row],
            arrays.raw_tokens_of(row),
            int(arrays.status[row]),
            int(arrays.reason[row]),
            b"" if scales is None else scales,
        )

    return check


def _between(file: EmbeddingFile, reader: RowReader) -> list[Problem]:
    """The few bytes that align the datasets must be zero, or a flipped bit could hide there."""
    header, problems = file.header, []
    end = header.user_block + header.metadata_length
    for dataset in header.datasets.values():
        if dataset.length:
            if any(reader.block(end, dataset.offset - end)):
                problems.append(Problem(dataset.name, f"bytes {end} to {dataset.offset} in front of it are not zero"))
            end = dataset.offset + dataset.length
    return problems


def _constants(file: EmbeddingFile, reader: RowReader, progress: Callable[[int], None]) -> list[Problem]:
    problems = []
    for dataset in file.header.datasets.values():
        if dataset.sha256 is None:
            continue
        digest = hashlib.sha256()
        for offset in range(0, dataset.length, _BLOCK):
            block = reader.block(dataset.offset + offset, min(_BLOCK, dataset.length - offset))
            digest.update(block)
            progress(len(block))
        if digest.hexdigest() != dataset.sha256:
            problems.append(Problem(dataset.name, "damaged: its SHA-256 is not the header's"))
    return problems


def _ids(file: EmbeddingFile) -> list[Problem]:
    stored = file.raw_array("items/id")
    if stored.dtype.kind == "S":
        for row, value in enumerate(stored.tolist()):
            if not value or b"\0" in value or not _is_utf8(value):
                return [Problem("items/id", "not UTF-8 of at least one byte, padded with NUL", row, repr(value))]
    order = np.sort(stored)
    twice = order[:-1][order[1:] == order[:-1]]
    return [Problem("items/id", f"id {shown(twice[0])} stands twice")] if twice.size else []


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _batches(modality: Modality, file: EmbeddingFile) -> list[Problem]:
    numbers = modality.batch
    if numbers.min() < -1 or numbers.max() >= len(file):
        return [Problem(f"{modality.name}/batch", "expected numbers from -1 to below the number of items")]
    return []


def _rows(file: EmbeddingFile, name: str, reader: RowReader, progress: Callable[[int], None]) -> list[Problem]:
    modality, problems, ids = file[name], [], _item_names(file)
    embedded = modality.has_embedding
    for row, found in reader.rows(name, np.flatnonzero(~modality.pending)):
        for where, what in _row_problems(found, name, modality.dtype, bool(embedded[row])):
            problems.append(Problem(where, what, row, ids[row]))
        progress(len(found.cls) + len(found.tokens))
    for row in np.flatnonzero((modality.status == Status.PENDING) & (modality.checksum != 0)).tolist():
        problems.append(Problem(f"{name}/status", "pending, yet it has a checksum", row, ids[row]))
    return problems


def _row_problems(row: StoredRow, name: str, dtype: str, embedded: bool) -> list[tuple[str, str]]:
    if not row.checksum_agrees:
        return [(f"{name}/checksum", "damaged or half-written: its checksum disagrees with its bytes")]
    if row.status > max(Status) or row.reason > max(Reason):
        return [(f"{name}/status", f"unknown status {row.status} or reason {row.reason}")]
    if row.scales is not None:
        return _int8_problems(row, row.scales, name, embedded)
    if embedded and not (_all_finite(row.cls, dtype) and _all_finite(row.tokens, dtype)):
        return [(f"{name}/tokens", "NaN or Inf in an embedding")]
    if not embedded and not (_all_nan(row.cls, dtype) and _all_nan(row.tokens, dtype)):
        return [(f"{name}/tokens", f"expected NaN throughout for status {Status(row.status).name}")]
    return []


def _int8_problems(row: StoredRow, scales: npt.NDArray[np.float32], name: str, embedded: bool) -> list[tuple[str, str]]:
    values = [np.frombuffer(data, np.int8) for data in (row.cls, row.tokens)]
    if embedded and not (np.isfinite(scales) & (scales >= 0)).all():
        return [(f"{name}/tokens_scale", "a scale that is NaN, Inf or negative in an embedding")]
    if embedded and any((data == -128).any() for data in values):
        return [(f"{name}/tokens", "-128 in an embedding; int8 goes from -127 to 127")]
    if not embedded and not (np.isnan(scales).all() and not any(data.any() for data in values)):
        return [(f"{name}/tokens_scale", f"expected 0 and scales of NaN for status {Status(row.status).name}")]
    return []


# per dtype: integers of its size, the bits of +infinity, and all bits but the sign. Finite values lie below infinity,
# NaNs above it; integers compare several times faster than numpy's half-precision floats
_BITS: dict[str, tuple[str, int, int]] = {
    "float16": ("<u2", 0x7C00, 0x7FFF),
    "bfloat16": ("<u2", 0x7F80, 0x7FFF),
    "float32": ("<u4", 0x7F800000, 0x7FFFFFFF),
}


def _all_finite(data: memoryview, dtype: str) -> bool:
    integers, infinity, magnitude = _BITS[dtype]
    values = np.frombuffer(data, integers)
    return values.size == 0 or int((values & magnitude).max()) < infinity


def _all_nan(data: memoryview, dtype: str) -> bool:
    integers, infinity, magnitude = _BITS[dtype]
    values = np.frombuffer(data, integers)
    return values.size == 0 or int((values & magnitude).min()) > infinity


def _item_names(file: EmbeddingFile) -> list[Any]:
    try:
        names: list[Any] = file.ids.tolist()
    except DamagedFile:
        names = [repr(value) for value in file.raw_array("items/id").tolist()]
    return names
