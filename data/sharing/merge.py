"""Several embedding files made one: parts of a job, slices of a catalogue, text and posters of the same films."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.fingerprints import differences
from ..embeddings.format.header import MODALITIES
from ..embeddings.ids import IdArray
from ..runtime.errors import BadInput, FingerprintMismatch, UsageError
from .copy_plan import Origin, Plan, assemble
from .copying import new_file
from .index import Index, LocalBytes, some_of
from .lineage import descended
from .subset import make

_MOST_NAMED = 5


@dataclass(frozen=True)
class Conflict:
    """One item whose rows in two files are not the same, and how they differ."""

    item: int | str
    modality: str
    files: tuple[str, str]
    what: str

    def __str__(self) -> str:
        return f"{self.modality} of item {self.item}: {self.what} in {self.files[0]} and {self.files[1]}"


def merge(
    sources: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Write to `out` every item of the files `sources`, in the order in which they first appear.

    A row may be in several files if it is the same in all; one that is written counts before one that is pending, and
    a row pending everywhere stays pending. Files may hold different modalities if each item has a row of every one.
    Raises FingerprintMismatch where a modality was made differently, BadInput naming rows that conflict, items that
    lack a modality, or ids of different kinds, DamagedFile naming damaged rows, and what `new_file` raises.
    """
    if len(sources) < 2:
        raise UsageError(f"expected at least two files to merge, found {len(sources)}")
    with ExitStack() as stack:
        indexes = [Index.read(stack.enter_context(LocalBytes(path)), str(path)) for path in sources]
        _refuse_differences(indexes)
        ids, places = _united(indexes)
        origins = {
            name: _origins(indexes, places, name, ids)
            for name in MODALITIES
            if any(name in index.modalities for index in indexes)
        }
        digests = [stack.enter_context(EmbeddingFile.open(path, pending=True)).content_digest for path in sources]
        about = descended([index.header.about for index in indexes], digests, "merge", {"items": len(ids)})
        if all(index.header == indexes[0].header for index in indexes):
            about = dict(indexes[0].header.about)  # parts of one layout: together they are its file, to the last byte
        plan = assemble(indexes, ids, origins, "tokens", about)
        with new_file(out, overwrite=overwrite) as working:
            make(plan, working, list(sources), progress)
        return plan


def _refuse_differences(indexes: Sequence[Index]) -> None:
    kinds = {index.stored.dtype.kind for index in indexes}
    if len(kinds) > 1:
        numbers = next(index.name for index in indexes if index.stored.dtype.kind == "i")
        texts = next(index.name for index in indexes if index.stored.dtype.kind == "S")
        raise BadInput(f"expected ids of one kind, found numbers in {numbers} and text in {texts}")
    for name in MODALITIES:
        having = [index for index in indexes if name in index.modalities]
        for index in having[1:]:
            first, other = having[0].modalities[name], index.modalities[name]
            fingerprints = [
                {**of.record["fingerprint"], "level": of.level, "dtype": of.dtype}
                | {"width": of.width, "token width": of.token_width}
                for of in (first, other)
            ]
            if different := differences(*fingerprints):
                raise FingerprintMismatch(
                    f"{index.name}: its {name} embeddings were made differently from those of {having[0].name} "
                    f"({'; '.join(different)}); only rows of one making can be merged"
                )


def _united(indexes: Sequence[Index]) -> tuple[IdArray, list[npt.NDArray[np.int64]]]:
    """All ids in the order of their first appearance, and for each file the place of each of its rows among them."""
    widest = max((index.stored.dtype for index in indexes), key=lambda dtype: dtype.itemsize)
    everything = np.concatenate([index.stored.astype(widest) for index in indexes])
    values, first, inverse = np.unique(everything, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    place = np.empty(len(values), np.int64)
    place[order] = np.arange(len(values))
    ends = np.cumsum([len(index) for index in indexes])
    places = np.split(place[inverse], ends[:-1])
    for index, theirs in zip(indexes, places, strict=True):
        if len(np.unique(theirs)) != len(theirs):
            raise BadInput(f"{index.name}: an id stands twice in it; `cinefuse cache verify` names it")
    united = values[order]
    return (united if united.dtype.kind == "i" else np.char.decode(united, "utf-8")), places


def _origins(indexes: Sequence[Index], places: Sequence[npt.NDArray[np.int64]], name: str, ids: IdArray) -> Origin:
    source, row = np.full(len(ids), -1, np.int64), np.zeros(len(ids), np.int64)
    settled = np.zeros(len(ids), np.bool_)  # the row chosen so far is a written one
    conflicts: list[Conflict] = []
    for number, (index, theirs) in enumerate(zip(indexes, places, strict=True)):
        if name not in index.modalities:
            continue
        rows = np.arange(len(theirs))
        written = ~index.modalities[name].pending
        again = source[theirs] >= 0
        for earlier in np.unique(source[theirs[again]]).tolist():
            both = again & (source[theirs] == earlier)
            pair = indexes[earlier], index
            conflicts += _conflicts(pair, (row[theirs[both]], rows[both]), name)
        taken = ~again | (written & ~settled[theirs])
        source[theirs[taken]], row[theirs[taken]] = number, rows[taken]
        settled[theirs[taken]] = written[taken]
    if conflicts:
        shown = "; ".join(map(str, conflicts[:_MOST_NAMED]))
        more = f"; and {len(conflicts) - _MOST_NAMED:,} more" if len(conflicts) > _MOST_NAMED else ""
        raise BadInput(
            f"{len(conflicts):,} rows conflict: {shown}{more}; "
            "leave them out of one file with `cinefuse cache subset`, or look with `cinefuse cache diff`"
        )
    lacking = np.flatnonzero(source < 0)
    if lacking.size:
        some = some_of(ids[lacking].tolist())
        raise BadInput(f"{lacking.size:,} of {len(ids):,} items have no row of {name} in any of the files: {some}")
    return Origin(source, row)


def _conflicts(
    pair: tuple[Index, Index], rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], name: str
) -> list[Conflict]:
    """Where rows of two files that should be the same are not."""
    one, other = pair[0].modalities[name], pair[1].modalities[name]
    a, b = rows
    both_written = ~one.pending[a] & ~other.pending[b]
    differ: dict[str, npt.NDArray[np.bool_]] = {
        "another input": (one.digest[a] != other.digest[b]).any(1),
        "another number of tokens": one.lengths[a] != other.lengths[b],
        "another status": both_written & ((one.status[a] != other.status[b]) | (one.reason[a] != other.reason[b])),
        "other embeddings": both_written & (one.checksum[a] != other.checksum[b]),
    }
    found: list[Conflict] = []
    named: set[int] = set()
    files, ids = (pair[0].name, pair[1].name), pair[0].ids
    for what, where in differ.items():
        for place in np.flatnonzero(where).tolist():
            if place not in named:
                named.add(place)
                found.append(Conflict(_plain(ids[a[place]]), name, files, what))
    return found


def _plain(value: Any) -> int | str:
    item: int | str = value.item()
    return item
