"""The embedding file: BERT and ViT embeddings of a whole catalogue, laid out once, read without copying.

One ordinary HDF5 file whose arrays are contiguous, so that reading is `mmap` and writing is `pwrite`; docs/format.md is
the specification. bfloat16 has no numpy dtype: such arrays are seen as their uint16 bits, and `as_float32` reads them.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .disk import put_in_place, reserve, write_all, writing
from .errors import BadInput, DamagedFile
from .hdf5_metadata import Array, check_agreement
from .header import ALIGNMENT, FIRST_LINE_LENGTH, MODALITIES, QUANTISED, Header, user_block_size
from .ids import IdArray, as_stored, stored_ids
from .layout import attributes, lay_out
from .status import Status


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The little-endian numpy dtype that holds `dtype` (a header's spelling); bfloat16 as its uint16 bits."""
    if dtype.startswith("S"):
        return np.dtype(dtype)
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")


def as_float32(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """`values` as read from an array stored as `dtype`, converted to float32 (exact for all three float dtypes).

    Raises ValueError for int8, which means nothing without its scales: `Modality.read_cls`, `read_tokens`, `gather`.
    """
    if dtype == QUANTISED:
        raise ValueError("int8 embeddings need their scales: read them with read_cls, read_tokens or gather")
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def dequantised(values: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(K, D) int8 times (K,) float32, as float32: what int8 embeddings mean."""
    product: npt.NDArray[np.float32] = np.multiply(values, scale[:, None], dtype=np.float32)
    return product


def embedding_arrays(name: str, dtype: str, rows: int, tokens: int, width: int) -> list[Array]:
    """The datasets that hold the embeddings of a modality; int8 comes with a scale for each embedding."""
    if dtype != QUANTISED:
        return [Array(f"{name}/cls", dtype, (rows, width)), Array(f"{name}/tokens", dtype, (tokens, width))]
    return [
        Array(f"{name}/cls", dtype, (rows, width)),
        Array(f"{name}/cls_scale", "float32", (rows,)),
        Array(f"{name}/tokens", dtype, (tokens, width)),
        Array(f"{name}/tokens_scale", "float32", (tokens,)),
    ]


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
        arrays: dict[Array, npt.NDArray[Any] | None] = dict.fromkeys(
            embedding_arrays(name, self.dtype, rows, tokens, self.width)
        )
        arrays |= {
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
    cls_scale: npt.NDArray[np.float32] | None = field(default=None, repr=False)  # (N,), int8 alone
    tokens_scale: npt.NDArray[np.float32] | None = field(default=None, repr=False)  # (T,), int8 alone

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

    def read_cls(self, row: int) -> npt.NDArray[np.float32]:
        """The item's CLS embedding, (D,) float32, whatever it is stored as."""
        one: npt.NDArray[np.float32] = self.read("cls", row, row + 1)[0]
        return one

    def read_tokens(self, row: int) -> npt.NDArray[np.float32]:
        """The item's token embeddings, (T_i, D) float32, whatever they are stored as."""
        return self.read("tokens", int(self.offsets[row]), int(self.offsets[row + 1]))

    def read(self, part: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Embeddings `start` to `stop` of "cls" or "tokens", (K, D) float32, whatever they are stored as."""
        values, scale = (self.cls, self.cls_scale) if part == "cls" else (self.tokens, self.tokens_scale)
        if scale is None:
            return as_float32(values[start:stop], self.dtype)
        return dequantised(values[start:stop], scale[start:stop])

    def scales_of(self, row: int) -> npt.NDArray[np.float32] | None:
        """The item's scales, CLS first, (1 + T_i,) float32, where embeddings are int8; else None."""
        if self.cls_scale is None or self.tokens_scale is None:
            return None
        tokens = self.tokens_scale[self.offsets[row] : self.offsets[row + 1]]
        return np.concatenate((self.cls_scale[row : row + 1], tokens))

    def gather(
        self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The tokens of `rows` one after another, (sum T_i, D), and their offsets, (len(rows) + 1,).

        They come as they are stored; int8 comes multiplied by its scales, as float32.
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
        dtype = self.tokens.dtype if self.tokens_scale is None else np.dtype(np.float32)
        if out is None:
            out = _aligned((total, self.width), dtype)
        if len(out) < total or out.shape[1:] != (self.width,) or out.dtype != dtype:
            expected = f"at least ({total}, {self.width}) {dtype}"
            raise ValueError(f"expected a buffer of {expected}, received {out.shape} {out.dtype}")
        if self.tokens_scale is not None:
            for start, stop, at in zip(starts.tolist(), stops.tolist(), offsets[:-1].tolist(), strict=True):
                scale = self.tokens_scale[start:stop, None]
                np.multiply(self.tokens[start:stop], scale, out=out[at : at + stop - start], dtype=np.float32)
            return out[:total], offsets
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
        cls,
        path: Path,
        ids: IdArray,
        modalities: Mapping[str, ModalityLayout],
        about: Mapping[str, Any],
        *,
        sparse: bool = False,
    ) -> EmbeddingFile:
        """Lay out a whole file at `path` with every row pending, its place on the disk reserved.

        A `sparse` one reserves nothing and takes only what is written: for a file that will never hold all its rows.

        `ids` (N,) are int64, or strings that become UTF-8 of fixed length. The file appears under its name only when it
        is complete in this sense. Raises NoSpace before anything is computed if the disk cannot hold it, BadInput for
        ids that the format cannot hold, ValueError for a layout or record that it cannot.
        """
        header, contents = _lay_out(ids, modalities, about)
        # whoever may write `path` may write this too: the lock on the final name covers both
        laid = path.with_name(path.name + ".layout")
        try:
            with writing(path), _descriptor(laid, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as descriptor:
                if sparse:
                    os.ftruncate(descriptor, header.file_length)
                else:
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

    def forget(self) -> None:
        """Let go of what was read so far: it stays in the system's cache, and counts as this process's memory no more.

        For those who read a whole file once, a stretch after the other.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            self._content.madvise(mmap.MADV_DONTNEED)

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
        names = [*_VIEWS, *(name for name in _SOME_VIEWS if f"{modality}/{name}" in self.header.datasets)]
        views = {name: self.array(f"{modality}/{name}") for name in names}
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
        return content_digest(self.header, lambda name: self.array(name).tobytes())

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
_SOME_VIEWS = ("input_ids", "cls_scale", "tokens_scale")


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


def content_digest(header: Header, content: Callable[[str], bytes]) -> str:
    """The content digest of a file with this header; `content` gives the bytes of a status, reason or checksum."""
    digest = hashlib.sha256()
    told = {name: record["fingerprint"] for name, record in header.modalities.items()}
    digest.update(json.dumps([header.version, told], sort_keys=True).encode())
    for name, dataset in header.datasets.items():
        part = name.split("/")[1]
        if part in ("id", "offsets", "digest", "input_ids"):
            digest.update(f"{name} {dataset.dtype} {dataset.sha256}\n".encode())
        elif part in ("cls", "tokens"):
            digest.update(f"{name} {dataset.dtype} {list(dataset.shape)}\n".encode())
        elif part in ("status", "reason", "checksum"):
            digest.update(content(name))
    return digest.hexdigest()


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
    check_agreement(path, metadata, header, attributes(header.version))
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

    digests = {
        array: None if content is None else hashlib.sha256(content.tobytes()).hexdigest()
        for array, content in arrays.items()
    }
    records = {name: layout.record for name, layout in modalities.items()}
    header, metadata = lay_out(digests, records, about)
    contents: list[tuple[int, bytes | memoryview]] = [(header.user_block, metadata)]
    for array, content in arrays.items():
        if content is not None and content.size:
            contents.append((header.datasets[array.name].offset, content.tobytes()))
    return header, contents
