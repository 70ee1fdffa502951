"""Which of the conversions a person asks for: another number format, compressed or flat again, another program's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..exports.export import write_as
from ..exports.item_vectors import Wanted
from ..runtime.errors import UsageError
from .compression import compress, compression_of, decompress
from .number_format import convert


@dataclass(frozen=True)
class Made:
    """What a conversion wrote: bytes in all, and whether that is an embedding file as every command reads it."""

    bytes: int
    embedding_file: bool
    items: int = 0
    missing: dict[str, int] = field(default_factory=dict)


def perform(
    source: Path,
    out: Path,
    *,
    dtype: str | None,
    compression: str | None,
    to: str | None,
    wanted: Wanted | None = None,
    overwrite: bool,
    progress: Callable[[int], None],
) -> Made:
    """Write to `out` what the options --dtype, --compression and --to ask for; a compressed `source` goes flat.

    `wanted` are the options of --to.
    Raises UsageError where none or more than one is given, and what the conversions raise.
    """
    packed = compression_of(source)
    options = [option for option, value in (("--dtype", dtype), ("--compression", compression), ("--to", to)) if value]
    if wanted and not to:
        raise UsageError("--modality, --vector, --missing, --dataset, --split and --seed are options of --to")
    if len(options) > 1 or (packed is None and not options):
        found = " and ".join(options) or "none"
        raise UsageError(f"expected one of --dtype, --compression and --to, found {found}")
    if packed is not None:
        if dtype or to or compression not in (None, "none"):
            raise UsageError(f"{source}: compressed with {packed}; first make it flat: --compression none")
        decompress(source, out, overwrite=overwrite, progress=progress)
        return Made(out.stat().st_size, True)
    if dtype:
        convert(source, out, dtype, overwrite=overwrite, progress=progress)
        return Made(out.stat().st_size, True)
    if compression:
        if compression == "none":
            raise UsageError(f"{source}: flat already; --compression takes gzip or zstd")
        return Made(compress(source, out, compression, overwrite=overwrite, progress=progress), False)
    exported = write_as(source, out, str(to), wanted or Wanted(), overwrite=overwrite, progress=progress)
    return Made(exported.bytes, False, exported.items, exported.missing)
