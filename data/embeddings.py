"""The embedding file: BERT and ViT embeddings of a whole catalogue, laid out once, read without copying.

One ordinary HDF5 file whose arrays are contiguous, so that reading is `mmap` and writing is `pwrite`; docs/format.md is
the specification. bfloat16 has no numpy dtype: such arrays are seen as their uint16 bits, and `as_float32` reads them.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .disk import put_in_place, reserve, write_all, writing
from .errors import BadInput, DamagedFile
from .hdf5_metadata import Array, build, check_agreement
from .header import ALIGNMENT, FIRST_LINE_LENGTH, MODALITIES, VERSION, Dataset, Header, item_size, user_block_size
from .ids import IdArray, as_stored, stored_ids
from .status import Status

ATTRIBUTES = {"encoding-type": "cinefuse-embeddings", "encoding-version": str(VERSION)}


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The little-endian numpy dtype that holds `dtype` (a header's spelling); bfloat16 as its uint16 bits."""
    if dtype.startswith("S"):
        return np.dtype(dtype)
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")


def as_float32(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """`values` as read from an array stored as `dtype`, converted to float32 (exact for all three storage dtypes)."""
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


@dataclass(frozen=True)
class ModalityLayout:
    """Everything about one modality that is known before the first embedding.

    `record` goes into the header as it is and must hold a "fingerprint". `lengths` (N,) counts the rows of tokens of
    each item, `digest` (N, 32) uint8 is the SHA-256 of its input, `batch` (N,) int32 the batch that encodes it (-1:
    none), `input_ids` (sum of lengths,) int32 the token ids of text.
    """

    record: Mapping[str, Any]
    width: int
    dtype: str
    lengths: npt.NDArray[np.int64]
    digest: npt.NDArray[np.uint8]
    batch: npt.NDArray[np.int32]
    input_ids: npt.NDArray[np.int32] | None = None

    def arrays(self, name: str) -> dict[Array, npt.NDArray[Any] | None]:
        """Each dataset of the modality in the format's order, with its content where that is known by now."""
        if (self.lengths < 0).any():
            raise ValueError(f"{name}: expected lengths of at least 0, received {self.lengths.min()}")
        rows, tokens = len(self.lengths), int(self.lengths.sum())
        offsets = np.concatenate(([0], np.cumsum(self.lengths))).astype("<i8")
        arrays: dict[Array, npt.NDArray[Any] | None] = {
            Array(f"{name}/cls", self.dtype, (rows, self.width)): None,
            Array(f"{name}/tokens", self.dtype, (tokens, self.width)): None,
            Array(f"{name}/offsets", "int64", (rows + 1,)): offsets,
            Array(f"{name}/status", "uint8", (rows,)): None,
            Array(f"{name}/reason", "uint8", (rows,)): None,
            Array(f"{name}/digest", "uint8", (rows, 32)): np.ascontiguousarray(self.digest, np.uint8),
            Array(f"{name}/batch", "int32", (rows,)): np.ascontiguousarray(self.batch, "<i4"),
            Array(f"{name}/checksum", "uint64", (rows,)): None,
        }
        if self.input_ids is not None:
            arrays[Array(f"{name}/input_ids", "int32", (tokens,))] = np.ascontiguousarray(self.input_ids, "<i4")
        return arrays


@dataclass(frozen=True)
class Modality:
    """The arrays of one modality, as zero-copy views into the mapped file."""

    name: str
    record: Mapping[str, Any]
    dtype: str
    cls: npt.NDArray[Any] = field(repr=False)  # (N, D)
    tokens: npt.NDArray[Any] = field(repr=False)  # (T, D)
    offsets: npt.NDArray[np.int64] = field(repr=False)  # (N + 1,)
    status: npt.NDArray[np.uint8] = field(repr=False)  # (N,)
    reason: npt.NDArray[np.uint8] = field(repr=False)  # (N,)
    digest: npt.NDArray[np.uint8] = field(repr=False)  # (N, 32)
    batch: npt.NDArray[np.int32] = field(repr=False)  # (N,)
    checksum: npt.NDArray[np.uint64] = field(repr=False)  # (N,)
    input_ids: npt.NDArray[np.int32] | None = field(default=None, repr=False)  # (T,)

    @property
    def width(self) -> int:
        """D, the number of values in one embedding."""
        return int(self.cls.shape[1])

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What decides the embeddings: weights, preprocessing, layer, precision. Equal fingerprints, equal meaning."""
        fingerprint: Mapping[str, Any] = self.record["fingerprint"]
        return fingerprint

    @property
    def pending(self) -> npt.NDArray[np.bool_]:
        """(N,) True where the row is not written yet, or only half: its checksum, which comes last, is still 0."""
        waiting: npt.NDArray[np.bool_] = (self.status == Status.PENDING) | (self.checksum == 0)
        return waiting

    @property
    def has_embedding(self) -> npt.NDArray[np.bool_]:
        """(N,) True where the item has a real embedding; elsewhere its cls and tokens are NaN (or not written yet)."""
        embedded: npt.NDArray[np.bool_] = (self.status == Status.OK) | (self.status == Status.TRUNCATED)
        return embedded & ~self.pending

    def tokens_of(self, row: int) -> npt.NDArray[Any]:
        """The item's token embeddings, (T_i, D), a view. Raises IndexError where there is no such row."""
        if not 0 <= row < len(self.status):
            raise IndexError(f"expected a row from 0 to {len(self.status) - 1}, received {row}")
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    def gather(
        self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The tokens of `rows` one after another, (sum T_i, D), and their offsets, (len(rows) + 1,).

        With `out` (at least that many rows of width D, same dtype) its front part is filled and returned: no memory is
        taken. What an earlier call returned is the fastest `out`, for it is aligned as the file is. Raises ValueError
        where it does not fit, or where a row does not exist (-1 as `find` says it).
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(self.status):
            raise ValueError(f"expected rows from 0 to {len(self.status) - 1}, received {rows.min()} to {rows.max()}")
        starts, stops = self.offsets[rows], self.offsets[rows + 1]
        offsets = np.concatenate(([0], np.cumsum(stops - starts)))
        total = int(offsets[-1])
        if out is None:
            out = _aligned((total, self.width), self.tokens.dtype)
        if len(out) < total or out.shape[1:] != (self.width,) or out.dtype != self.tokens.dtype:
            expected = f"at least ({total}, {self.width}) {self.tokens.dtype}"
            raise ValueError(f"expected a buffer of {expected}, received {out.shape} {out.dtype}")
        for start, stop, at in zip(starts.tolist(), stops.tolist(), offsets[:-1].tolist(), strict=True):
            out[at : at + stop - start] = self.tokens[start:stop]
        return out[:total], offsets


class EmbeddingFile:
    """An embedding file, open for reading. Safe to fork and to send to worker processes (it is mapped again there)."""

    def __init__(self, path: Path, header: Header, content: mmap.mmap) -> None:
        self.path = path
        self.header = header
        self._content = content

    @classmethod
    def create(
        cls, path: Path, ids: IdArray, modalities: Mapping[str, ModalityLayout], about: Mapping[str, Any]
    ) -> EmbeddingFile:
        """Lay out a whole file at `path` with every row pending, its place on the disk reserved.

        `ids` (N,) are int64, or strings that become UTF-8 of fixed length. The file appears under its name only when it
        is complete in this sense. Raises NoSpace before anything is computed if the disk cannot hold it, BadInput for
        ids that the format cannot hold, ValueError for a layout or record that it cannot.
        """
        header, contents = _lay_out(ids, modalities, about)
        # whoever may write `path` may write this too: the lock on the final name covers both
        laid = path.with_name(path.name + ".layout")
        try:
            with writing(path), _descriptor(laid, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as descriptor:
                reserve(descriptor, header.file_length)
                for offset, content in contents:
                    write_all(descriptor, content, offset)
                write_all(descriptor, header.encode(), 0)
            with writing(path):
                put_in_place(laid, path)
        except BaseException:
            with suppress(OSError):
                laid.unlink(missing_ok=True)
            raise
        return cls.open(path, pending=True)

    @classmethod
    def open(cls, path: str | Path, *, pending: bool = False) -> EmbeddingFile:
        """Map the file at `path`. Costs milliseconds and no memory, whatever its size.

        The header, the HDF5 metadata and the offsets are checked; rows are not (`verify` does). With `pending`, a file
        that still waits for embeddings is opened too. Raises DamagedFile, or BadInput where there is no such file or
        it may not be read.
        """
        path = Path(path)
        try:
            with _descriptor(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
                header = _read_header(descriptor, path)
                content = mmap.mmap(descriptor, header.file_length, prot=mmap.PROT_READ)
        except FileNotFoundError:
            raise BadInput(f"{path}: no such embedding file; `cinefuse extract` makes one") from None
        except PermissionError:
            raise BadInput(f"{path}: you may not read this file; change its permissions, or copy it") from None
        except (OSError, ValueError) as error:  # ValueError: it became shorter before it could be mapped
            reason = error.strerror if isinstance(error, OSError) else error
            raise DamagedFile(f"{path}: cannot be read ({reason})") from None
        file = cls(path, header, content)
        file._check_offsets()
        if not pending:
            file._refuse_pending()
        return file

    def close(self) -> None:
        """Unmap the file. Views handed out before keep it mapped for as long as they live."""
        with suppress(BufferError):  # raised while views are alive: the mapping goes with the last of them
            self._content.close()

    def __enter__(self) -> EmbeddingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self.path, self.header)

    def __len__(self) -> int:
        return self.header.rows

    def __repr__(self) -> str:
        return f"EmbeddingFile({str(self.path)!r}, {len(self)} items, {' + '.join(self.modalities)})"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of "text" and "image" the file holds."""
        return tuple(name for name in MODALITIES if name in self.header.modalities)

    def __getitem__(self, modality: str) -> Modality:
        """The arrays of "text" or "image". Raises BadInput where the file has none."""
        if modality not in self.header.modalities:
            raise BadInput(f"{self.path}: expected {modality} embeddings, found only {', '.join(self.modalities)}")
        views = {name: self.array(f"{modality}/{name}") for name in _VIEWS}
        if modality == "text":
            views["input_ids"] = self.array("text/input_ids")
        cls_dtype = self.header.datasets[f"{modality}/cls"].dtype
        return Modality(modality, self.header.modalities[modality], cls_dtype, **views)

    @cached_property
    def text(self) -> Modality:
        """The plots' arrays. Raises BadInput where the file has none."""
        return self["text"]

    @cached_property
    def image(self) -> Modality:
        """The posters' arrays. Raises BadInput where the file has none."""
        return self["image"]

    def array(self, name: str) -> npt.NDArray[Any]:
        """The dataset called `name` (as in ``text/cls``) as a read-only view into the mapped file."""
        dataset = self.header.datasets[name]
        dtype = numpy_dtype(dataset.dtype)
        if dataset.length == 0:
            nothing = np.empty(dataset.shape, dtype)
            nothing.flags.writeable = False
            return nothing
        count = dataset.length // dtype.itemsize
        return np.frombuffer(self._content, dtype, count, dataset.offset).reshape(dataset.shape)

    @cached_property
    def ids(self) -> IdArray:
        """The items' ids, (N,): int64, or str where the source's ids are text. Raises DamagedFile if not UTF-8."""
        stored = self.array("items/id")
        if stored.dtype.kind == "i":
            return stored
        try:
            return np.char.decode(stored, "utf-8")
        except UnicodeDecodeError as error:
            raise DamagedFile(f"{self.path}: expected items/id as UTF-8, found {error.object[:60]!r}") from None

    @cached_property
    def _order(self) -> npt.NDArray[np.intp]:
        return np.argsort(self.array("items/id"), kind="stable")

    def find(self, ids: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The row number of each id, (K,) int64; -1 where the file has no such item.

        A number is never an id of text, nor a text one of a number.
        """
        stored = self.array("items/id")
        wanted, possible = as_stored(ids, stored.dtype)
        if wanted.size == 0:
            return np.empty(0, np.int64)
        place = np.searchsorted(stored, wanted, sorter=self._order)
        rows = self._order[np.minimum(place, len(self) - 1)]
        return np.where((stored[rows] == wanted) & possible, rows, -1).astype(np.int64)

    def rows(self, ids: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The row number of each id, (K,) int64. Raises BadInput naming ids that the file does not have."""
        rows = self.find(ids)
        absent = np.asarray(ids)[rows < 0]
        if absent.size:
            shown = ", ".join(map(str, absent[:5].tolist())) + (", ..." if absent.size > 5 else "")
            raise BadInput(f"{self.path}: {absent.size:,} of {rows.size:,} ids are not in the file: {shown}")
        return rows

    @property
    def pending(self) -> dict[str, int]:
        """How many rows of each modality wait for their embedding."""
        return {name: int(self[name].pending.sum()) for name in self.modalities}

    @property
    def content_digest(self) -> str:
        """SHA-256 over what the file says, not how it lies: fingerprints, ids, offsets, inputs, statuses, checksums.

        Equal digests mean equal embeddings. It reads about ten bytes a row; it vouches for the embeddings themselves as
        far as the row checksums do, so run `verify` once on a file you did not make.
        """
        digest = hashlib.sha256()
        told = {name: record["fingerprint"] for name, record in self.header.modalities.items()}
        digest.update(json.dumps([VERSION, told], sort_keys=True).encode())
        for name, dataset in self.header.datasets.items():
            part = name.split("/")[1]
            if part in ("id", "offsets", "digest", "input_ids"):
                digest.update(f"{name} {dataset.dtype} {dataset.sha256}\n".encode())
            elif part in ("cls", "tokens"):
                digest.update(f"{name} {dataset.dtype} {list(dataset.shape)}\n".encode())
            elif part in ("status", "reason", "checksum"):
                digest.update(self.array(name).tobytes())
        return digest.hexdigest()

    def _check_offsets(self) -> None:
        for name in self.modalities:
            offsets = self.array(f"{name}/offsets")
            tokens = self.header.datasets[f"{name}/tokens"].shape[0]
            if offsets[0] != 0 or offsets[-1] != tokens or (offsets[1:] < offsets[:-1]).any():
                raise DamagedFile(
                    f"{self.path}: expected {name}/offsets to rise from 0 to {tokens}, found otherwise: "
                    "the file is damaged; fetch or extract it again"
                )

    def _refuse_pending(self) -> None:
        waiting = {name: count for name, count in self.pending.items() if count}
        if waiting:
            told = " and ".join(f"{count:,} {name}" for name, count in waiting.items())
            raise DamagedFile(
                f"{self.path}: expected a finished file, found {told} rows still pending; "
                "run the same `cinefuse extract` again to finish it"
            )


_VIEWS = ("cls", "tokens", "offsets", "status", "reason", "digest", "batch", "checksum")


def _aligned(shape: tuple[int, int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An empty array aligned as datasets are: from where `np.empty` puts one, copies took a fifth longer."""
    length = shape[0] * shape[1] * dtype.itemsize
    place = np.empty(length + ALIGNMENT, np.uint8)
    start = -place.ctypes.data % ALIGNMENT
    return place[start : start + length].view(dtype).reshape(shape)


def _open_again(path: Path, header: Header) -> EmbeddingFile:
    file = EmbeddingFile.open(path, pending=True)
    if file.header != header:
        raise DamagedFile(f"{path}: expected the file that was opened first, found another under its name; start again")
    return file


@contextmanager
def _descriptor(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_header(descriptor: int, path: Path) -> Header:
    status = os.fstat(descriptor)
    name = str(path)
    size = user_block_size(os.pread(descriptor, FIRST_LINE_LENGTH, 0), name)
    header = Header.parse(os.pread(descriptor, size, 0), status.st_size, name)
    metadata = os.pread(descriptor, header.metadata_length, header.user_block)
    if hashlib.sha256(metadata).hexdigest() != header.metadata_sha256:
        raise DamagedFile(f"{path}: its HDF5 metadata is damaged (SHA-256 differs from the header's); fetch it again")
    check_agreement(path, metadata, header, ATTRIBUTES)
    return header


def _lay_out(
    ids: IdArray, modalities: Mapping[str, ModalityLayout], about: Mapping[str, Any]
) -> tuple[Header, list[tuple[int, bytes | memoryview]]]:
    """The header of a new file, and the bytes known by now with their offsets."""
    if unknown := set(modalities) - set(MODALITIES):
        raise ValueError(f"expected modalities among {', '.join(MODALITIES)}, received {', '.join(sorted(unknown))}")
    arrays: dict[Array, npt.NDArray[Any] | None] = {}
    stored = stored_ids(ids)
    arrays[Array("items/id", "int64" if stored.dtype.kind == "i" else f"S{stored.itemsize}", stored.shape)] = stored
    for name in MODALITIES:
        if name in modalities:
            arrays |= modalities[name].arrays(name)
    for array, content in arrays.items():
        if content is not None and content.shape != array.shape:
            raise ValueError(f"{array.name}: expected {array.shape} as the lengths say, received {content.shape}")

    def header(user_block: int, metadata: bytes, offsets: Mapping[str, int]) -> Header:
        datasets = {}
        for array, content in arrays.items():
            length = int(np.prod(array.shape, dtype=np.int64)) * item_size(array.dtype)
            digest = None if content is None else hashlib.sha256(content.tobytes()).hexdigest()
            place = offsets[array.name] if length else 0
            datasets[array.name] = Dataset(array.name, array.dtype, array.shape, place, length, digest)
        return Header(
            about=about,
            modalities={name: modalities[name].record for name in MODALITIES if name in modalities},
            datasets=datasets,
            user_block=user_block,
            metadata_length=len(metadata),
            metadata_sha256=hashlib.sha256(metadata).hexdigest(),
            file_length=max(dataset.offset + dataset.length for dataset in datasets.values()),
        )

    # the offsets depend on the user block, whose size depends on how many digits the offsets have: two passes settle it
    metadata, offsets = build(arrays, ATTRIBUTES, 8192)
    user_block = Header.smallest_user_block(header(8192, metadata, offsets))
    metadata, offsets = build(arrays, ATTRIBUTES, user_block)
    final = header(user_block, metadata, offsets)
    _check_legible(final)
    contents: list[tuple[int, bytes | memoryview]] = [(user_block, metadata)]
    for array, content in arrays.items():
        if content is not None and content.size:
            contents.append((offsets[array.name], content.tobytes()))
    return final, contents


def _check_legible(header: Header) -> None:
    """A header must be readable to whoever writes it: a record outside the format is the caller's mistake."""
    try:
        Header.parse(header.encode(), header.file_length, "this layout")
    except DamagedFile as refusal:
        raise ValueError(str(refusal)) from None
