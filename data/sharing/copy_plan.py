"""Which bytes of embedding files make another one: a plan, the same wherever the bytes come from.

A file that is to be cut out of, or put together from, others is known whole before any embedding moves: from each
source only the `Index` is read (header, ids, offsets, statuses: about 60 bytes an item), and the `Plan` says the new
header and which runs of bytes go where. Moving them is left to the caller: `copying` reads local files,
a pull reads byte ranges of a remote one. In four steps:

    index = Index.read(source, name)                 # source: a ByteSource; four reads of any length
    plan = select(index, Selection(modalities=("text",), level="cls", ids=[1, 50, 260]), about)
    begin(plan, descriptor)                          # copying: reserves the place, writes what is known
    for source_offset, length, offset in plan.copies[0].tolist():
        ...                                          # read from the source, write at `offset`; any order, repeatable
    finish(plan, path)                               # copying: checks every row, writes checksums, then the header

`plan.copies[0]` is (K, 3) int64, ascending by source offset, adjacent runs joined; `plan.copied` is their bytes.
Until `finish`, the file has no header: nothing can mistake it for a finished one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..embeddings.format.hdf5_metadata import Array
from ..embeddings.format.header import MODALITIES, Header
from ..embeddings.format.layout import UNKNOWN_SHA256, embedding_arrays, lay_out
from ..embeddings.ids import IdArray, stored_ids
from ..embeddings.status import Status
from ..runtime.errors import BadInput
from .index import PER_ROW, Index, checked_modalities
from .selection import Level, Selection


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the rows of one modality of a new file come from: (K,) which source, and (K,) which row of it."""

    source: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Plan:
    """A new embedding file: its header, the bytes known by now, and the runs of bytes to copy from each source.

    `known` has (offset, bytes) of everything small. `copies` has for each source (K, 3) int64: source offset, length,
    offset in the new file; ascending by source offset. `checksums` (N,) of each modality are the sources' (0: pending);
    where `renewed` (N,), only a part of a row was taken, and its checksum is made from the bytes that arrived.
    `sources` names the sources. The header's SHA-256 of text/input_ids is UNKNOWN_SHA256 until `finish` computes it.
    """

    header: Header
    known: tuple[tuple[int, bytes], ...] = field(repr=False)
    copies: tuple[npt.NDArray[np.int64], ...] = field(repr=False)
    checksums: Mapping[str, npt.NDArray[np.uint64]] = field(repr=False)
    renewed: Mapping[str, npt.NDArray[np.bool_]] = field(repr=False)
    sources: tuple[str, ...] = ()

    @property
    def copied(self) -> int:
        """Bytes to copy from the sources."""
        return sum(int(copies[:, 1].sum()) for copies in self.copies)

    @property
    def pending(self) -> int:
        """Rows, of all modalities, that will wait for their embedding as they do in the sources."""
        return sum(int((checksums == 0).sum()) for checksums in self.checksums.values())


def select(index: Index, selection: Selection, about: Mapping[str, Any]) -> Plan:
    """The plan of the file that holds what `selection` wants of `index`, with `about` in its header.

    Raises BadInput for ids that are absent or wanted twice and for modalities that the file lacks.
    """
    names = checked_modalities(index.header, selection.modalities, index.name)
    rows = np.arange(len(index)) if selection.ids is None else index.rows(selection.ids)
    origin = Origin(np.zeros(len(rows), np.int64), rows)
    return assemble([index], index.ids[rows], dict.fromkeys(names, origin), selection.level, about)


def assemble(
    sources: Sequence[Index],
    ids: IdArray,
    origins: Mapping[str, Origin],
    level: Level,
    about: Mapping[str, Any],
    *,
    dtype: str | None = None,
    records: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """The plan of the file of these `ids` (K,) whose rows of each modality come from where `origins` says.

    The sources agree in dtype, width and record of a modality; the record written is that of the first row's source.
    Pending rows stay pending, and none of their bytes are copied. With level "cls" no tokens are. Where `dtype` is
    another than the sources', embeddings are not copied either: whoever converts them writes them, and their checksums
    are renewed; `records` are written then. Raises BadInput for ids, or a header, that the format cannot hold.
    """
    stored = stored_ids(ids)
    known: dict[Array, npt.NDArray[Any] | None] = {}
    known[Array("items/id", "int64" if stored.dtype.kind == "i" else f"S{stored.itemsize}", stored.shape)] = stored
    parts = {
        name: _Part.of(sources, name, origins[name], level, stored, dtype) for name in MODALITIES if name in origins
    }
    for part in parts.values():
        known |= part.arrays()
    later = {"text/input_ids": UNKNOWN_SHA256}
    digests: dict[Array, str | None] = {
        array: later.get(array.name) if content is None or not _is_constant(array) else _sha256(content)
        for array, content in known.items()
    }
    try:
        header, metadata = lay_out(digests, records or {name: part.record for name, part in parts.items()}, about)
    except ValueError as error:  # what the sources' headers hold does not fit into one
        raise BadInput(f"{', '.join(source.name for source in sources[:5])}: {error}") from None
    contents = [(header.user_block, metadata)]
    for array, content in known.items():
        if content is not None and content.size:
            contents.append((header.datasets[array.name].offset, content.tobytes()))
    copies = [
        _joined(np.concatenate([part.copies(number, source, header) for part in parts.values()]))
        for number, source in enumerate(sources)
    ]
    return Plan(
        header=header,
        known=tuple(contents),
        copies=tuple(copies),
        checksums={name: part.checksum for name, part in parts.items()},
        renewed={name: part.renewed for name, part in parts.items()},
        sources=tuple(source.name for source in sources),
    )


def _is_constant(array: Array) -> bool:
    return array.name.split("/")[1] not in ("status", "reason")


def _sha256(content: npt.NDArray[Any]) -> str:
    return hashlib.sha256(content.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class _Part:
    """One modality of a new file."""

    name: str
    record: Mapping[str, Any]
    dtype: str
    width: int
    token_width: int
    origin: Origin
    lengths: npt.NDArray[np.int64]
    rows: Mapping[str, npt.NDArray[Any]]  # status, reason, digest, batch of each row
    checksum: npt.NDArray[np.uint64]
    renewed: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        sources: Sequence[Index],
        name: str,
        origin: Origin,
        level: Level,
        ids: npt.NDArray[Any],
        dtype: str | None,
    ) -> _Part:
        given = sources[int(origin.source[0])].modalities[name]
        rows = {part: np.empty((len(origin.row), *getattr(given, part).shape[1:]), getattr(given, part).dtype)
                for part in ("lengths", *PER_ROW[1:])}  # fmt: skip
        for number in np.unique(origin.source).tolist():
            here = origin.source == number
            modality = sources[number].modalities[name]
            for part, values in rows.items():
                values[here] = getattr(modality, part)[origin.row[here]]
        pending = (rows["status"] == Status.PENDING) | (rows["checksum"] == 0)
        for part in ("status", "reason", "checksum"):
            rows[part][pending] = 0
        if not _keep_their_batches(sources, name, origin, ids):
            rows["batch"][:] = -1
        lengths = rows.pop("lengths")
        stored_lengths = np.zeros_like(lengths) if level == "cls" else lengths
        checksum = rows.pop("checksum")
        stored_as = dtype or given.dtype
        renewed = ~pending & ((stored_lengths != lengths) | (stored_as != given.dtype))
        record = dict(given.record)
        if level == "cls" and "level" in record:
            record["level"] = "cls"
        return cls(
            name, record, stored_as, given.width, given.token_width, origin, stored_lengths, rows, checksum, renewed
        )

    def arrays(self) -> dict[Array, npt.NDArray[Any] | None]:
        """Each dataset in the format's order, with its content where that is small."""
        count, tokens = len(self.lengths), int(self.lengths.sum())
        offsets = np.concatenate(([0], np.cumsum(self.lengths))).astype("<i8")
        arrays: dict[Array, npt.NDArray[Any] | None] = dict.fromkeys(
            embedding_arrays(self.name, self.dtype, count, tokens, self.width, self.token_width)
        )
        arrays |= {
            Array(f"{self.name}/offsets", "int64", (count + 1,)): offsets,
            Array(f"{self.name}/status", "uint8", (count,)): self.rows["status"],
            Array(f"{self.name}/reason", "uint8", (count,)): self.rows["reason"],
            Array(f"{self.name}/digest", "uint8", (count, 32)): self.rows["digest"],
            Array(f"{self.name}/batch", "int32", (count,)): self.rows["batch"],
            Array(f"{self.name}/checksum", "uint64", (count,)): None,
        }
        if self.name == "text":
            arrays[Array("text/input_ids", "int32", (tokens,))] = None
        return arrays

    def copies(self, number: int, source: Index, header: Header) -> npt.NDArray[np.int64]:
        """(K, 3) runs of bytes that this modality takes from the source of that number."""
        here = np.flatnonzero(self.origin.source == number)
        if not here.size or self.name not in source.modalities:
            return np.empty((0, 3), np.int64)
        rows = self.origin.row[here]
        complete = self.checksum[here] != 0
        starts = np.cumsum(self.lengths) - self.lengths
        theirs, ours = source.modalities[self.name].offsets[rows], starts[here]
        lengths = self.lengths[here]
        runs = []
        for dataset in header.datasets.values():
            modality, part = dataset.name.split("/")
            if modality != self.name or part in PER_ROW or dataset.length == 0:
                continue
            if part != "input_ids" and self.dtype != source.modalities[self.name].dtype:
                continue  # written by whoever converts
            old = source.header.datasets[dataset.name]
            stride = dataset.length // dataset.shape[0]
            # token ids are final once a file is laid out, so those of a pending row count too
            taken = np.ones_like(complete) if part == "input_ids" else complete
            if part in ("cls", "cls_scale"):
                run = (old.offset + rows * stride, np.full(len(rows), stride), dataset.offset + here * stride)
            else:
                run = (old.offset + theirs * stride, lengths * stride, dataset.offset + ours * stride)
            runs.append(np.stack(run, axis=1)[taken])
        return np.concatenate(runs).astype(np.int64) if runs else np.empty((0, 3), np.int64)


def _keep_their_batches(sources: Sequence[Index], name: str, origin: Origin, ids: npt.NDArray[Any]) -> bool:
    """Batch numbers mean something only where every source was laid out for the same items in the same order."""
    used = [sources[number] for number in np.unique(origin.source).tolist()]
    first = used[0].modalities[name].batch
    return np.array_equal(origin.row, np.arange(len(ids))) and all(
        np.array_equal(source.stored, ids) and np.array_equal(source.modalities[name].batch, first) for source in used
    )


def _joined(runs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Runs of bytes ascending by source offset, those adjacent on both sides made one, empty ones left out."""
    runs = runs[runs[:, 1] > 0]
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    if not len(runs):
        return runs
    ends = runs[:, 0] + runs[:, 1], runs[:, 2] + runs[:, 1]
    apart = (runs[1:, 0] != ends[0][:-1]) | (runs[1:, 2] != ends[1][:-1])
    first = np.flatnonzero(np.concatenate(([True], apart)))
    joined = runs[first].copy()
    joined[:, 1] = np.add.reduceat(runs[:, 1], first)
    return joined


def with_input_ids(plan: Plan, sha256: str) -> Header:
    """The plan's header once the SHA-256 of text/input_ids is known."""
    datasets = dict(plan.header.datasets)
    if "text/input_ids" in datasets:
        datasets["text/input_ids"] = replace(datasets["text/input_ids"], sha256=sha256)
    return replace(plan.header, datasets=datasets)
