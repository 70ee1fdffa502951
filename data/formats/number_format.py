"""The same embeddings in another number format: a file of its own, checked row by row on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..embeddings.format.header import QUANTISED, Header
from ..embeddings.modality import Modality
from ..embeddings.number_formats import DTYPES, converted_fingerprint, infinite, quantised, rounded
from ..embeddings.rows import row_checksum
from ..runtime.disk import write_all, writing
from ..runtime.errors import BadInput, UsageError
from ..runtime.parallel import blocks_of_rows, side_by_side
from ..sharing.copy_plan import Origin, Plan, assemble
from ..sharing.copying import begin, copy_locally, created, damage_refused, finish, new_file
from ..sharing.index import Index, LocalBytes, some_of
from ..sharing.lineage import descended

_VALUES = 2**19  # converted at once by a thread, unless one row has more
_MOST_NAMED = 5  # by `some_of`
_ROWS_REMEMBERED = 64


def convert(
    source: Path,
    out: Path,
    dtype: str,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Write to `out` the embeddings of `source` as `dtype`: float32, float16, bfloat16 or int8; pending rows stay so.

    `progress` receives the bytes of `source` converted each time. Raises BadInput naming items with a value that
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
                checksums = {
                    name: _convert_modality(file, name, plan.header, descriptor, progress)
                    for name in file.modalities
                    if file[name].dtype != dtype
                }
            finish(plan, working, made=checksums)
        return plan


def _convert_modality(
    file: EmbeddingFile, name: str, header: Header, descriptor: int, progress: Callable[[int], None]
) -> npt.NDArray[np.uint64]:
    """Check the rows of a modality and convert them; (N,) their new checksums, 0 where a row is pending."""
    modality, refuse = file[name], damage_refused(file, name)
    written, embedded = ~modality.pending, modality.has_embedding
    checksums = np.zeros(len(written), np.uint64)

    def convert_rows(rows: tuple[int, int]) -> npt.NDArray[np.intp]:
        """Check a block of rows and convert it; (K,) the rows with a value that the new format cannot hold."""
        start, stop = rows
        first, end = modality.offsets[[start, stop]].tolist()
        refuse(start + np.flatnonzero(written[start:stop]))
        cls = _converted(modality, "cls", start, stop, header)
        tokens = _converted(modality, "tokens", first, end, header)
        cls.write(descriptor, header, f"{name}/cls", start)
        tokens.write(descriptor, header, f"{name}/tokens", first)
        ends = (modality.offsets[start : stop + 1] - first).tolist()
        for place in np.flatnonzero(written[start:stop]).tolist():
            own = slice(ends[place], ends[place + 1])
            outcome = int(modality.status[start + place]), int(modality.reason[start + place])
            scales = np.concatenate([cls.scales[place : place + 1], tokens.scales[own]])
            checksums[start + place] = row_checksum(cls.stored[place], tokens.stored[own], *outcome, scales)
        of_tokens = np.searchsorted(modality.offsets, first + np.flatnonzero(tokens.too_large), "right") - 1
        too_large = cls.too_large
        too_large[of_tokens - start] = True
        return start + np.flatnonzero(too_large & embedded[start:stop])

    overflow: list[str] = []
    read = 0
    ends = modality.offsets[1:] + np.arange(1, len(written) + 1)  # embeddings up to and with each row
    blocks = list(blocks_of_rows(ends, max(1, _VALUES // max(modality.width, modality.token_width))))
    with side_by_side(convert_rows, blocks) as results:
        for (start, stop), too_large in zip(blocks, results, strict=True):
            overflow += [f"{name} of item {file.ids[row]}" for row in too_large.tolist()]
            if len(overflow) > _MOST_NAMED:
                break
            tokens = int(modality.offsets[stop] - modality.offsets[start])
            progress(((stop - start) * modality.width + tokens * modality.token_width) * modality.raw_cls.itemsize)
            read += stop - start
            if read >= _ROWS_REMEMBERED:
                read = 0
                file.forget()
    if overflow:
        dtype = header.datasets[f"{name}/cls"].dtype
        raise BadInput(
            f"{file.path}: {some_of(overflow)}: a value is too large for {dtype}; convert to bfloat16, or keep float32"
        )
    return checksums


@dataclass(frozen=True)
class _Converted:
    """K embeddings as they are to be stored: (K, D), with (K,) scales in int8, and (K,) where one cannot be held."""

    stored: npt.NDArray[Any]
    scales: npt.NDArray[np.float32]
    too_large: npt.NDArray[np.bool_]

    def write(self, descriptor: int, header: Header, dataset: str, start: int) -> None:
        """Write them to a dataset, the first at `start`."""
        at = header.datasets[dataset].offset + start * self.stored.shape[1] * self.stored.itemsize
        write_all(descriptor, self.stored.data.cast("B") if self.stored.size else b"", at)
        if self.scales.size:
            write_all(descriptor, self.scales.tobytes(), header.datasets[f"{dataset}_scale"].offset + 4 * start)


def _converted(modality: Modality, part: str, start: int, stop: int, header: Header) -> _Converted:
    # float32 is taken from the mapped file as it is: `read` would copy it first
    raw = getattr(modality, f"raw_{part}")
    exact = raw[start:stop] if modality.dtype == "float32" else modality.read(part, start, stop)
    dtype = header.datasets[f"{modality.name}/{part}"].dtype
    if dtype == QUANTISED:
        steps, scales = quantised(exact)
        return _Converted(steps, scales, infinite(scales, "float32"))
    stored = rounded(exact, dtype)
    widened = dtype == "float32"  # holds whatever the others hold
    too_large = np.zeros(len(stored), np.bool_) if widened else np.asarray(infinite(stored, dtype).any(axis=1))
    return _Converted(stored, np.zeros(0, np.float32), too_large)
