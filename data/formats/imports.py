"""Embeddings of other programs made an embedding file: arrays, tables, lines of JSON, HDF5, folders of them.

What made them is known only by what the importer says: the fingerprint holds that name, inputs have no digest (zeros),
and the token ids of text are -1. Each item has one vector (its CLS), or a matrix whose first row is the CLS
("first"), or whose mean stands for it ("mean": then the CLS is that mean, and all rows are tokens).
"""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.format.header import MAGIC, MODALITIES, STORAGE_DTYPES
from ..embeddings.format.layout import ModalityLayout
from ..embeddings.ids import IdArray
from ..embeddings.number_formats import infinite, rounded
from ..embeddings.rows import RowWriter
from ..embeddings.status import Reason, Status
from ..runtime.errors import BadInput, UsageError
from ..runtime.untrusted_text import shown
from ..sharing.copying import new_file
from .array_imports import array_file_vectors, clip_retrieval_vectors, folder_vectors
from .hdf5_imports import opened_hdf5
from .line_imports import DELIMITED, JSON_LINES, delimited_vectors, json_line_vectors, json_vectors
from .table_imports import table_vectors
from .vectors import Vectors, Where

CLS: tuple[str, ...] = ("first", "mean")
_EACH_ITEM: Final = ((".npy",), (".npz",), (".pt", ".pth"), (".h5", ".hdf5"))  # in a folder: a file for each item
_HDF5: Final = (".h5", ".hdf5", ".he5")
_TABLES: Final = (".parquet", ".arrow", ".feather", ".ipc")
_ARRAYS: Final = (".npy", ".npz", ".safetensors", ".pt", ".pth")


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
class Imported:
    """What an import found: items with a vector, without one, with one that is not finite; and what to know of it."""

    embedded: int
    missing: int
    failed: int
    notes: tuple[str, ...]


def import_embeddings(
    source: Path | Sequence[Path],
    out: Path,
    claim: Claim,
    where: Where | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Write the embeddings of `source` to the embedding file `out`; docs/sharing.md lists what a source may be.

    Several sources are the shards of one table. Items without a vector are missing, those with NaN or Inf failed.
    `progress` receives the number of bytes read each time. Raises BadInput or UsageError for what is not as expected,
    and what `new_file` raises.
    """
    sources = _named([source] if isinstance(source, Path) else list(source))
    source = sources[0]
    with _opened(sources, where or Where(), claim.modality, out) as vectors:
        _refuse_repeats(vectors.ids, source)
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
            _fill(file, vectors, claim.modality, mode, progress)
            status = file[claim.modality].status
            embedded, missing, failed = (
                int((status == each).sum()) for each in (Status.OK, Status.MISSING, Status.FAILED)
            )
        return Imported(embedded, missing, failed, vectors.notes)


def _refuse_repeats(ids: IdArray, source: Path) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if twice := int((counts > 1).sum()):
        first = values[counts > 1][0]
        raise BadInput(
            f"{source}: expected each id once, found {shown(first)} {counts[counts > 1][0]} times ({twice:,} such ids "
            "in all): name another column with --id-column, or keep one row of each"
        )


def _mode(vectors: Vectors, claim: Claim, source: Path) -> str:
    if vectors.single:
        if claim.cls is not None:
            raise UsageError(f"--cls: {source} has one vector for each item, which is its CLS")
        return "vector"
    if claim.cls is None and vectors.cls is not None:
        return vectors.cls
    if claim.cls is None and len(vectors.ids) == 1:
        raise UsageError(
            f"{source} holds one array of {vectors.lengths[0]:,} rows: if each is an item's, import the array with "
            "--ids FILE; if they are all of one item, say --cls first or --cls mean"
        )
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


def _fill(file: EmbeddingFile, vectors: Vectors, name: str, mode: str, progress: Callable[[int], None]) -> None:
    dtype = file[name].dtype
    with RowWriter(file) as writer:
        for row, matrix in enumerate(vectors.matrices()):
            progress(matrix.nbytes)
            if vectors.lengths[row] < 0:
                writer.write_absent(name, row, *vectors.states.get(row, (Status.MISSING, Reason.NOT_GIVEN)))
                continue
            with np.errstate(over="ignore"):  # a float64 beyond float32 is counted as not finite
                exact = np.ascontiguousarray(matrix, np.float32)
            if mode == "mean":
                exact = np.concatenate((exact.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32), exact))
            stored = rounded(exact, dtype)
            if np.isnan(exact).any() or infinite(stored, dtype).any():
                writer.write_absent(name, row, Status.FAILED, Reason.NOT_FINITE)
            else:
                writer.write(name, row, stored[0], stored[1:], Status.OK)


def _named(sources: list[Path]) -> list[Path]:
    """The files that were meant: a name with * or ? that the shell left alone stands for those it matches."""
    found: list[Path] = []
    for source in sources:
        if not source.exists() and any(sign in str(source) for sign in "*?["):
            matches = sorted(Path(name) for name in glob.glob(str(source), recursive=True))  # noqa: PTH207 - may be absolute
            if not matches:
                raise BadInput(f"{source}: matches no file")
            found += matches
        elif not source.exists():
            raise BadInput(f"{source}: no such file or folder")
        else:
            found.append(source)
    return found


@contextmanager
def _opened(sources: list[Path], where: Where, modality: str, out: Path) -> Iterator[Vectors]:
    with tempfile.TemporaryDirectory(
        prefix=f".{out.name}.", dir=out.parent if out.parent.is_dir() else None
    ) as scratch:
        if len(sources) == 1 and sources[0].is_dir():
            yield _folder(sources[0], where, modality, Path(scratch))
        else:
            yield _files(sources, where, modality, Path(scratch))


def _files(files: list[Path], where: Where, modality: str, scratch: Path) -> Vectors:
    suffixes = {_suffix(file) for file in files}
    source, suffix = files[0], _suffix(files[0])
    if len(suffixes) > 1:
        raise BadInput(f"expected files of one kind, found {' and '.join(sorted(suffixes))}")
    if suffix in _TABLES:
        return table_vectors(files, where, modality)
    if suffix in JSON_LINES:
        return json_line_vectors(files, where)
    if len(files) > 1:
        each = next((kinds for kinds in _EACH_ITEM if suffix in kinds), None)
        if each is None:
            raise BadInput(
                f"{files[1]}: expected one file of {suffix}; only Parquet, Arrow and JSON lines come in shards"
            )
        return _each_item(files, where, scratch)
    if suffix in _HDF5:
        _refuse_ours(source)
        return opened_hdf5(source, where)
    if suffix in _ARRAYS:
        return array_file_vectors(source, where, modality, scratch)
    if suffix == ".json":
        return json_vectors(source, where)
    if suffix in DELIMITED:
        return delimited_vectors(source, where)
    if suffix in (".pkl", ".pickle", ".joblib"):
        raise BadInput(f"{source}: a pickle runs whatever is in it, so it is never opened; save arrays as .npz or .npy")
    raise BadInput(
        f"{source}: expected .npy, .npz, .parquet, .arrow, .jsonl, .csv, .h5, .safetensors, .pt or a folder of them, "
        f"found {suffix or 'no suffix'!r}"
    )


def _folder(folder: Path, where: Where, modality: str, scratch: Path) -> Vectors:
    if folder.name in ("img_emb", "text_emb") and (folder.parent / "metadata").is_dir():
        folder = folder.parent
    if any((folder / name).is_dir() for name in ("img_emb", "text_emb")):
        return clip_retrieval_vectors(folder, where, modality)
    parts = [folder / name for name in ("slide_embeddings", "tile_embeddings") if (folder / name).is_dir()]
    if parts:  # slide2vec's root
        folder = _only(parts, folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    _refuse_one_array(folder, files, modality)
    kinds = [kinds for kinds in (*_EACH_ITEM, _TABLES, JSON_LINES) if any(_suffix(f) in kinds for f in files)]
    if not kinds:
        return table_vectors(_shards_below(folder), where, modality)
    if len(kinds) > 1:
        found = " and ".join(kind[0] for kind in kinds)
        raise UsageError(f"{folder}: holds {found} files; name those that are meant, as in '{folder}/*{kinds[0][0]}'")
    return _each_or_shards([file for file in files if _suffix(file) in kinds[0]], where, modality, scratch)


def _refuse_one_array(folder: Path, files: list[Path], modality: str) -> None:
    """UsageError, with the command that works, for a folder of one array beside its ids: no file is an item there."""
    names = {file.name for file in files}
    array = next((name for stem in ("", "_cls", "_feat") if (name := f"{modality}{stem}.npy") in names), None)
    beside = (f"{modality}_ids.txt", "ids.txt", "ids.npy", "ids.csv", "ids.json", "items.parquet", "i_id_mapping.csv")
    ids = next((name for name in beside if name in names), None)
    if array is not None and ids is not None:
        raise UsageError(f"{folder}: holds an array beside its ids: import {folder / array} with --ids {folder / ids}")


def _each_or_shards(files: list[Path], where: Where, modality: str, scratch: Path) -> Vectors:
    if any(_suffix(files[0]) in kinds for kinds in _EACH_ITEM):
        return _each_item(files, where, scratch)
    return _files(files, where, modality, scratch)


def _each_item(files: list[Path], where: Where, scratch: Path) -> Vectors:
    if _suffix(files[0]) in _HDF5:
        return opened_hdf5(files, where)
    return folder_vectors(files, where, scratch)


def _only(parts: list[Path], folder: Path) -> Path:
    if len(parts) > 1:
        raise UsageError(f"{folder}: holds {' and '.join(part.name for part in parts)}; name one of these folders")
    return parts[0]


def _shards_below(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _TABLES and path.is_file())
    if not found:
        suffixes = {suffix for kinds in (*_EACH_ITEM, JSON_LINES) for suffix in kinds}
        below = sorted({path.parent for path in folder.rglob("*") if path.is_file() and _suffix(path) in suffixes})[:1]
        hint = f"; name one of its folders, such as {below[0]}" if below else ""
        raise BadInput(
            f"{folder}: expected .npy, .npz, .h5, .pt, .parquet or .jsonl files in this folder, found none{hint}"
        )
    return found


def _suffix(file: Path) -> str:
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _refuse_ours(file: Path) -> None:
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) == MAGIC:
            raise BadInput(f"{file}: is an embedding file already; every command reads it as it is")
