"""The embedding file: BERT and ViT embeddings of a whole catalogue, laid out once, read without copying.

One ordinary HDF5 file whose arrays are contiguous, so that reading is `mmap` and writing is `pwrite`; docs/format.md is
the specification.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.disk import put_in_place, reserve, write_all, writing
from ..runtime.errors import BadInput, DamagedFile
from .format.hdf5_metadata import check_agreement
from .format.header import FIRST_LINE_LENGTH, MODALITIES, Header
from .format.header_checks import parse_header, user_block_size
from .format.layout import ModalityLayout, attributes, lay_out_embeddings
from .ids import IdArray, as_stored
from .modality import Modality
from .number_formats import numpy_dtype


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
        header, contents = lay_out_embeddings(ids, modalities, about)
        with writing(path), _reserved(path, header.file_length, sparse=sparse) as (laid, descriptor):
            for offset, content in contents:
                write_all(descriptor, content, offset)
            write_all(descriptor, header.encode(), 0)
            put_in_place(laid, path)
        return cls.open(path, pending=True)

    @staticmethod
    def check_room(
        path: Path, ids: IdArray, modalities: Mapping[str, ModalityLayout], about: Mapping[str, Any]
    ) -> None:
        """Raise what `create` would, NoSpace where the disk cannot hold the file; nothing is written or left behind."""
        header, _ = lay_out_embeddings(ids, modalities, about)
        with writing(path), _reserved(path, header.file_length):
            pass

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
        views = {f"raw_{name}" if name in _EMBEDDINGS else name: self.raw_array(f"{modality}/{name}") for name in names}
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

    def raw_array(self, name: str) -> npt.NDArray[Any]:
        """The dataset called `name` (as in ``text/cls``) as it is stored, a read-only view into the mapped file.

        bfloat16 comes as the uint16 of its bits, int8 without its scales: ``file.text.cls`` has the embeddings.
        """
        dataset = self.header.datasets[name]
        dtype = numpy_dtype(dataset.dtype)
        if dataset.length == 0:
            nothing = np.empty(dataset.shape, dtype)
            nothing.flags.writeable = False
            return nothing
        count = dataset.length // dtype.itemsize
        return np.frombuffer(self._content, dtype, count, dataset.offset).reshape(dataset.shape)

    def h5(self) -> Any:
        """The same file opened by h5py, read-only: an `h5py.File` of the caller's own, to be closed by the caller.

        ``file.h5()["text/cls"]`` is an h5py dataset of what is stored; bfloat16 reads as float32 there, int8 without
        its scales. No lock is taken, so that it opens on network disks too.
        """
        import h5py

        return h5py.File(self.path, "r", locking=False)

    @cached_property
    def ids(self) -> IdArray:
        """The items' ids, (N,): int64, or str where the source's ids are text. Raises DamagedFile if not UTF-8."""
        stored = self.raw_array("items/id")
        if stored.dtype.kind == "i":
            return stored
        try:
            return np.char.decode(stored, "utf-8")
        except UnicodeDecodeError as error:
            raise DamagedFile(f"{self.path}: expected items/id as UTF-8, found {error.object[:60]!r}") from None

    @cached_property
    def _order(self) -> npt.NDArray[np.intp]:
        return np.argsort(self.raw_array("items/id"), kind="stable")

    def find(self, ids: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The row number of each id, (K,) int64; -1 where the file has no such item.

        A number is never an id of text, nor a text one of a number.
        """
        stored = self.raw_array("items/id")
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
        return content_digest(self.header, lambda name: self.raw_array(name).tobytes())

    def _check_offsets(self) -> None:
        for name in self.modalities:
            offsets = self.raw_array(f"{name}/offsets")
            tokens = self.header.datasets[f"{name}/tokens"].shape[0]
            if offsets[0] != 0 or offsets[-1] != tokens or (offsets[1:] < offsets[:-1]).any():
                raise DamagedFile(
                    f"{self.path}: expected {name}/offsets to rise from 0 to {tokens}, found otherwise: "
                    "the file is damaged; fetch or extract it again"
                )

    def _refuse_pending(self) -> None:
        waiting = {name: count for name, count in self.pending.items() if count}
        if waiting:
            pending = " and ".join(f"{count:,} {name}" for name, count in waiting.items())
            raise DamagedFile(
                f"{self.path}: expected a finished file, found {pending} rows still pending; "
                "run the same `cinefuse extract` again to finish it"
            )


_VIEWS = ("cls", "tokens", "offsets", "status", "reason", "digest", "batch", "checksum")
_EMBEDDINGS = ("cls", "tokens")
_SOME_VIEWS = ("input_ids", "cls_scale", "tokens_scale")


def _open_again(path: Path, header: Header) -> EmbeddingFile:
    file = EmbeddingFile.open(path, pending=True)
    if file.header != header:
        raise DamagedFile(f"{path}: expected the file that was opened first, found another under its name; start again")
    return file


def content_digest(header: Header, content: Callable[[str], bytes]) -> str:
    """The content digest of a file with this header; `content` gives the bytes of a status, reason or checksum."""
    digest = hashlib.sha256()
    fingerprints = {name: record["fingerprint"] for name, record in header.modalities.items()}
    digest.update(json.dumps([header.version, fingerprints], sort_keys=True).encode())
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


@contextmanager
def _reserved(path: Path, length: int, *, sparse: bool = False) -> Iterator[tuple[Path, int]]:
    """A file of `length` bytes beside `path`, its name and descriptor; it goes at the end if it was not renamed.

    A `sparse` one takes no place on the disk. Raises OSError (ENOSPC) where there is no room for another.
    """
    # whoever may write `path` may write this too: the lock on the final name covers both
    laid = path.with_name(path.name + ".layout")
    try:
        with _descriptor(laid, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as descriptor:
            if sparse:
                os.ftruncate(descriptor, length)
            else:
                reserve(descriptor, length)
            yield laid, descriptor
    finally:
        with suppress(OSError):
            laid.unlink(missing_ok=True)


def _read_header(descriptor: int, path: Path) -> Header:
    status = os.fstat(descriptor)
    name = str(path)
    size = user_block_size(os.pread(descriptor, FIRST_LINE_LENGTH, 0), name)
    header = parse_header(os.pread(descriptor, size, 0), status.st_size, name)
    metadata = os.pread(descriptor, header.metadata_length, header.user_block)
    if hashlib.sha256(metadata).hexdigest() != header.metadata_sha256:
        raise DamagedFile(f"{path}: its HDF5 metadata is damaged (SHA-256 differs from the header's); fetch it again")
    check_agreement(path, metadata, header, attributes(header.version))
    return header
