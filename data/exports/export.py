"""Which export a person asks for, and what holds for all: rows are checked first, and nothing is half-written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from ..embeddings.file import EmbeddingFile
from ..runtime.disk import put_in_place, writing
from ..runtime.errors import BadInput, UsageError
from ..runtime.lock import growing
from ..sharing.copying import new_file, refuse_damaged
from .chunked_hdf5 import write_chunked
from .hub_dataset import write_hub_dataset
from .item_vectors import ItemVectors, Wanted, read_item_vectors, write_missing
from .recommenders import write_mmrec, write_recbole
from .vectors import write_elliot, write_vectors
from .whole_file import write_npy, write_safetensors, write_tables

WHOLE: Final = ("parquet", "arrow", "safetensors", "npy", "hdf5-chunked")
_ONE_FILE: Final = {"safetensors": write_safetensors, "hdf5-chunked": write_chunked}
_VECTORS: Final = {
    "vectors": write_vectors,
    "datasets": write_hub_dataset,
    "mmrec": write_mmrec,
    "recbole": write_recbole,
    "elliot": write_elliot,
}
_WITH_RATINGS: Final = ("mmrec", "recbole", "elliot")
FORMATS: Final = (*WHOLE, *_VECTORS)


@dataclass(frozen=True)
class Exported:
    """What was written: bytes, and of each modality how many of `items` had no vector."""

    bytes: int
    items: int
    missing: dict[str, int] = field(default_factory=dict)


def write_as(
    source: Path,
    out: Path,
    to: str,
    wanted: Wanted = Wanted(),  # noqa: B008 - it cannot be changed
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Exported:
    """Write the finished embedding file `source` to `out` as one of `FORMATS`.

    Those of `WHOLE` hold everything; the others a vector for each item, as `wanted` says, and missing.csv with the
    items that have none. Every row is checked first. Raises UsageError for what a format cannot do, DamagedFile where
    the file is unfinished or rows are damaged, and what `new_file` raises.
    """
    if to not in FORMATS:
        raise UsageError(f"--to: expected one of {', '.join(FORMATS)}, found {to}")
    if to in WHOLE and wanted:
        raise UsageError(
            f"--to {to} holds all of the file: --modality, --vector, --missing and --dataset are for others"
        )
    if wanted.dataset is not None and to not in _WITH_RATINGS:
        raise UsageError(f"--dataset: ratings go along to {', '.join(_WITH_RATINGS)}, not to {to}")
    if to == "mmrec" and wanted.dataset is None:
        raise UsageError("--to mmrec: MMRec reads features and ratings together; name the ratings with --dataset")
    with EmbeddingFile.open(source) as file:
        for name in file.modalities if to in WHOLE else wanted.names(file):
            refuse_damaged(file, name, np.arange(len(file)))
        if to in _ONE_FILE:
            with new_file(out, overwrite=overwrite) as working, writing(out):
                _ONE_FILE[to](file, working, progress)
            return Exported(out.stat().st_size, len(file))
        missing: dict[str, int] = {}
        with _new_folder(out) as folder, writing(out):
            if to == "npy":
                write_npy(file, folder, progress)
            elif to in WHOLE:
                write_tables(file, folder, to, progress)
            else:
                with _item_vectors(file, wanted, folder, progress) as vectors:
                    _VECTORS[to](file, vectors, folder, wanted)
                    missing = write_missing(folder / "missing.csv", file, vectors)
        size = sum(part.stat().st_size for part in out.rglob("*") if part.is_file())
        return Exported(size, len(file), missing)


@contextmanager
def _item_vectors(
    file: EmbeddingFile, wanted: Wanted, folder: Path, progress: Callable[[int], None]
) -> Iterator[Sequence[ItemVectors]]:
    with TemporaryDirectory(prefix=".vectors-", dir=folder) as scratch:
        kind = wanted.vector or "cls"
        yield [read_item_vectors(file, name, kind, Path(scratch), progress) for name in wanted.names(file)]


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    if not out.parent.is_dir() or out.exists():
        raise BadInput(f"{out}: expected the path of a new folder in one that exists")
    with growing(out) as working:
        with writing(out):
            working.mkdir()
        yield working
        with writing(out):
            put_in_place(working, out)
