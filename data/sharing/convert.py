"""The same embeddings in another number format: a file of its own, checked row by row on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..disk import write_all, writing
from ..embeddings import EmbeddingFile, Modality
from ..errors import BadInput, UsageError
from ..header import QUANTISED, Header
from ..precision import DTYPES, converted_fingerprint, infinite, quantised, rounded
from .copying import begin, copy_locally, created, damage_refused, finish, new_file
from .index import Index, LocalBytes, some_of
from .lineage import descended
from .selection import Origin, Plan, assemble
from .side_by_side import blocks_of_rows, side_by_side

_VALUES = 2**19  # converted at once by a thread
_MOST_NAMED = 5  # by `some_of`
_ROWS_REMEMBERED = 64


def convert(
    source: Path,
    out: Path,
    dtype: str,
    *,
    overwrite: bool = False,
    told: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Write to `out` the embeddings of `source` as `dtype`: float32, float16, bfloat16 or int8; pending rows stay so.

    `told` is the number of bytes of `source` converted each time. Raises BadInput naming items with a value that
    `dtype` cannot hold, UsageError where nothing would change, DamagedFile naming damaged rows, and what `new_file`
    raises.
    """
    if dtype not in DTYPES:
        raise UsageError(f"--dtype: expected one of {', '.join(DTYPES)}, found {dtype}")
    with EmbeddingFile.open(source, pending=True) as file, LocalBytes(source) as content:
        if all(file[name].dtype == dtype for name in file.modalities):
            raise UsageError(f"{source}: its embeddings are {dtype} already")
        index = Index.read(content, str(source))
        about = descended([index.header.about], [file.content_digest], "convert", {"dtype": dtype})
        rows = np.arange(len(index))
        origin = Origin(np.zeros(len(rows), np.int64), rows)
        records = {
            name: {**record, "fingerprint": converted_fingerprint(record["fingerprint"], dtype)}
            for name, record in index.header.modalities.items()
        }
        plan = assemble(
            [index], index.ids, dict.fromkeys(file.modalities, origin), "tokens", about, dtype=dtype, records=records
        )
        with new_file(out, overwrite=overwrite) as working, writing(out):
            with created(working) as descriptor:
                begin(plan, descriptor)
                copy_locally(plan, descriptor, [source], lambda _: None)
                for name in file.modalities:
                    if file[name].dtype != dtype:
                        _convert_modality(file, name, plan.header, descriptor, told)
            finish(plan, working)
        return plan


def _convert_modality(
    file: EmbeddingFile, name: str, header: Header, descriptor: int, told: Callable[[int], None]
) -> None:
    modality, refuse = file[name], damage_refused(file, name)
    written, embedded = ~modality.pending, modality.has_embedding

    def convert_rows(rows: tuple[int, int]) -> npt.NDArray[np.intp]:
        """Check a block of rows and convert it; (K,) the rows with a value that the new format cannot hold."""
        start, stop = rows
        refuse(start + np.flatnonzero(written[start:stop]))
        too_large = np.zeros(stop - start, np.bool_)
        for part, first, end in (("cls", start, stop), ("tokens", *modality.offsets[[start, stop]].tolist())):
            for at in range(first, end, _at_once(modality)):
                until = min(at + _at_once(modality), end)
                bad = at + np.flatnonzero(_convert_run(modality, f"{name}/{part}", at, until, header, descriptor))
                found = bad if part == "cls" else np.searchsorted(modality.offsets, bad, "right") - 1
                too_large[found - start] = True
        return start + np.flatnonzero(too_large & embedded[start:stop])

    overflow: list[str] = []
    read = 0
    ends = modality.offsets[1:] + np.arange(1, len(written) + 1)  # embeddings up to and with each row
    blocks = list(blocks_of_rows(ends, _at_once(modality)))
    with side_by_side(convert_rows, blocks) as results:
        for (start, stop), too_large in zip(blocks, results, strict=True):
            overflow += [f"{name} of item {file.ids[row]}" for row in too_large.tolist()]
            if len(overflow) > _MOST_NAMED:
                break
            embeddings = stop - start + int(modality.offsets[stop] - modality.offsets[start])
            told(embeddings * modality.width * modality.cls.itemsize)
            read += stop - start
            if read >= _ROWS_REMEMBERED:
                read = 0
                file.forget()
    if overflow:
        dtype = header.datasets[f"{name}/cls"].dtype
        raise BadInput(
            f"{file.path}: {some_of(overflow)}: a value is too large for {dtype}; convert to bfloat16, or keep float32"
        )


def _at_once(modality: Modality) -> int:
    return max(1, _VALUES // modality.width)


def _convert_run(
    modality: Modality, dataset: str, start: int, stop: int, header: Header, descriptor: int
) -> npt.NDArray[np.bool_]:
    """Convert embeddings `start` to `stop` of one dataset; (K,) True where one was finite and is no more."""
    part = dataset.split("/")[1]
    # float32 is taken from the mapped file as it is: `read` would copy it first
    exact = getattr(modality, part)[start:stop] if modality.dtype == "float32" else modality.read(part, start, stop)
    target = header.datasets[dataset]
    if target.dtype == QUANTISED:
        steps, scales = quantised(exact)
        write_all(descriptor, scales.tobytes(), header.datasets[f"{dataset}_scale"].offset + 4 * start)
        bad = infinite(scales, "float32")
        stored: npt.NDArray[np.generic] = steps
    else:
        stored = rounded(exact, target.dtype)
        widened = target.dtype == "float32"  # holds whatever the others hold
        bad = np.zeros(len(stored), np.bool_) if widened else np.asarray(infinite(stored, target.dtype).any(axis=1))
    write_all(descriptor, stored.data.cast("B"), target.offset + start * modality.width * stored.itemsize)
    return bad
