"""One vector for each item of an embedding file, and what stands where there is none: nothing, the mean, zeros."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.format.header import MODALITIES
from ..embeddings.ids import IdArray
from ..embeddings.status import Reason, Status
from ..pages.item_vectors import VectorKind, film_vectors, has_vector
from ..runtime.errors import BadInput, UsageError

Missing = Literal["drop", "mean", "zero"]
_VALUES: Final = 2**22  # at a time
_LINE_BREAKS: Final = ("\n", "\r", "\t")


@dataclass(frozen=True)
class Wanted:
    """What an export is to hold: which modalities (none: all), which vector of an item, what instead of one.

    `dataset`, `split` and `seed` say which ratings go along, for programs that read features and ratings together.
    """

    modalities: tuple[str, ...] = ()
    vector: VectorKind | None = None
    missing: Missing | None = None
    dataset: Path | None = None
    split: str | None = None
    seed: int = 0

    @classmethod
    def from_options(
        cls,
        modality: Sequence[str] = (),
        vector: str | None = None,
        missing: str | None = None,
        dataset: Path | None = None,
        split: str | None = None,
        seed: int | None = None,
    ) -> Wanted:
        """The same from what a person typed. Raises UsageError."""
        for name in modality:
            if name not in MODALITIES:
                raise UsageError(f"--modality: expected {' or '.join(MODALITIES)}, found {name}")
        if vector not in (None, *get_args(VectorKind)):
            raise UsageError(f"--vector: expected {' or '.join(get_args(VectorKind))}, found {vector}")
        if missing not in (None, *get_args(Missing)):
            raise UsageError(f"--missing: expected {', '.join(get_args(Missing))}, found {missing}")
        if (split is not None or seed is not None) and dataset is None:
            raise UsageError("--split and --seed cut the ratings of --dataset, which is not given")
        return cls(tuple(dict.fromkeys(modality)), cast(Any, vector), cast(Any, missing), dataset, split, seed or 0)

    def __bool__(self) -> bool:
        return self != Wanted()

    def names(self, file: EmbeddingFile) -> list[str]:
        """The modalities wanted, in the file's order. Raises BadInput for one that the file lacks."""
        for name in self.modalities:
            _ = file[name]
        return [name for name in file.modalities if not self.modalities or name in self.modalities]


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """The vectors of one modality: (N, D) float32 on the disk, of which `present` (N,) are the items' own."""

    name: str
    values: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]

    @property
    def width(self) -> int:
        """D, the number of values of a vector."""
        return int(self.values.shape[1])

    def rows(self, missing: Missing) -> npt.NDArray[np.intp]:
        """The rows of an export: all, or with "drop" those of the items that have a vector."""
        return np.flatnonzero(self.present) if missing == "drop" else np.arange(len(self.present))

    def substitute(self, missing: Missing, among: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float32]:
        """(D,) what stands for an item without a vector: zeros, or the mean of those present (of `among` (N,))."""
        if missing != "mean":
            return np.zeros(self.width, np.float32)
        chosen = self.present if among is None else self.present & among
        total = np.zeros(self.width, np.float64)
        for start, stop in blocks(len(self.present), self.width):
            total += self.values[start:stop][chosen[start:stop]].sum(axis=0, dtype=np.float64)
        return (total / max(int(chosen.sum()), 1)).astype(np.float32)


def read_item_vectors(
    file: EmbeddingFile, name: str, kind: VectorKind, scratch: Path, progress: Callable[[int], None]
) -> ItemVectors:
    """Read the vectors of all items of a modality into a file in the folder `scratch`, as much as memory need not hold.

    Raises BadInput where no item has a vector.
    """
    modality = file[name]
    if kind == "mean" and not modality.offsets[-1]:
        raise BadInput(f"{file.path}: {name} has no tokens to take the mean of; say --vector cls")
    width = modality.width if kind == "cls" else modality.token_width
    values = np.lib.format.open_memmap(scratch / f"{name}.npy", "w+", np.dtype("<f4"), (len(file), width))
    present = np.zeros(len(file), np.bool_)
    for start, stop in blocks(len(file), width):
        vectors = film_vectors(modality, np.arange(start, stop), kind)
        present[start:stop] = has_vector(vectors)
        values[start:stop] = np.where(present[start:stop, None], vectors, np.float32(0))
        progress(vectors.nbytes)
        file.forget()
    if not present.any():
        raise BadInput(f"{file.path}: no item has a vector of its {name}")
    return ItemVectors(name, values, present)


def blocks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Stretches of rows whose values fit memory easily."""
    size = max(1, _VALUES // width)
    return ((start, min(start + size, rows)) for start in range(0, rows, size))


def write_matrix(path: Path, vectors: ItemVectors, rows: npt.NDArray[np.int64], substitute: npt.NDArray[Any]) -> None:
    """Write an .npy (K, D) float32 of the items at `rows`; -1 and items without a vector are `substitute`."""
    with path.open("wb") as out:
        shape = (len(rows), vectors.width)
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for start, stop in blocks(len(rows), vectors.width):
            part = rows[start:stop]
            own = (part >= 0) & vectors.present[part]
            out.write(np.where(own[:, None], vectors.values[part], substitute).astype("<f4").tobytes())


def write_missing(path: Path, file: EmbeddingFile, vectors: Sequence[ItemVectors]) -> dict[str, int]:
    """Write a CSV of the items without a vector, and why: modality, item_id, status, reason. Returns their counts."""
    import polars as pl

    counts, rows = {}, []
    for each in vectors:
        modality, absent = file[each.name], np.flatnonzero(~each.present).tolist()
        counts[each.name] = len(absent)
        for row in absent:
            status, reason = Status(modality.status[row]), Reason(modality.reason[row])
            why = reason.sentence if not status.has_embedding else "no tokens, or values that are not finite"
            rows.append((each.name, str(file.ids[row]), status.name.lower(), why))
    schema = dict.fromkeys(("modality", "item_id", "status", "reason"), pl.String)
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(path)
    return counts


def text_ids(ids: IdArray, file: EmbeddingFile) -> list[str]:
    """Ids as lines of text. Raises BadInput for one that would be two lines or two columns."""
    texts = [str(item) for item in ids.tolist()]
    for text in texts:
        if any(sign in text for sign in _LINE_BREAKS) or text != text.strip():
            raise BadInput(f"{file.path}: the id {text!r} cannot stand on a line of text; use --to datasets or parquet")
    return texts
