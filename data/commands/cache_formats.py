"""The commands that carry embeddings between formats: `cinefuse cache convert` and `cinefuse cache import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cache_convert(
    file: Annotated[Path, typer.Argument(help="embedding file, flat or compressed")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="where the converted file or folder goes")],
    dtype: Annotated[str | None, typer.Option(help="float32, float16, bfloat16, or int8 (a scale each)")] = None,
    compression: Annotated[str | None, typer.Option(help="gzip or zstd for the way; none: back to flat")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="vectors, datasets, mmrec, recbole, elliot: a vector for each item; "
            "parquet, arrow, safetensors, npy, hdf5-chunked: all of it"
        ),
    ] = None,
    modality: Annotated[list[str] | None, typer.Option(help="with --to: text or image [default: all]")] = None,
    vector: Annotated[
        str | None, typer.Option(help="with --to: an item's cls, or the mean of its tokens [default: cls]")
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="with --to: drop items without a vector, or give them the mean, or zero [default: as each does]"
        ),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="with --to mmrec, recbole, elliot: whose ratings go along")
    ] = None,
    split: Annotated[str | None, typer.Option(help="of --dataset, as `fuse` takes it [default: random:0.1]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of --split [default: 0]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace OUT")] = False,
) -> None:
    """Write the same embeddings in another number format, compressed for the way, or for another program.

    One of --dtype, --compression and --to at a time. docs/other-tools.md says which program reads which, and how.
    """
    from ..exports.item_vectors import Wanted
    from ..formats.convert import perform
    from ..runtime.terminal import size
    from ..runtime.untrusted_text import printable
    from .cache_screen import bytes_bar, show_made, show_without_vector

    wanted = Wanted.from_options(modality or [], vector, missing, dataset, split, seed)
    total = file.stat().st_size if file.is_file() else None
    with bytes_bar("converting", total) as progress:
        made = perform(
            file,
            out,
            dtype=dtype,
            compression=compression,
            to=to,
            wanted=wanted,
            overwrite=overwrite,
            progress=progress,
        )
    if made.embedding_file:
        show_made(out)
    show_without_vector(made, out)
    typer.echo(f"{printable(out)}: {made.bytes / max(total or 1, 1):.3f} times the bytes, {size(made.bytes)}")


def cache_import(
    files: Annotated[
        list[Path], typer.Argument(metavar="SRC... OUT.h5", help="a file, a folder, shards; then where to")
    ],
    modality: Annotated[str, typer.Option(help="text or image")],
    model: Annotated[str, typer.Option(help="what made the embeddings, as others shall know it")],
    ids: Annotated[
        Path | None, typer.Option(help="of an array: its ids (.txt one a line, .csv, .npy, .parquet, .json)")
    ] = None,
    offsets: Annotated[Path | None, typer.Option(help="of an .npy of all tokens: where each item starts")] = None,
    id_column: Annotated[
        str | None, typer.Option(help="the column, key or dataset of ids; a table without header: its number")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="the column, key or array of vectors, such as data.0.embedding")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="of .h5 and .npz: the dataset of vectors in it")] = None,
    cls: Annotated[str | None, typer.Option(help="of a matrix: its CLS is the first row, or the mean")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16 [default: as it is]")] = None,
    licence: Annotated[str | None, typer.Option(help="the licence, kept in the header")] = None,
    origin: Annotated[str | None, typer.Option("--source", help="where they come from, kept in the header")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace OUT.h5")] = False,
) -> None:
    """Make an embedding file of what another program wrote; it is known by its suffixes and names.

    One file: .npy with --ids, .npz, .safetensors, .pt (weights alone), .parquet, .arrow, JSON lines (plain, or the
    batch output of OpenAI), .csv, .h5 (a dataset for each id, or a matrix beside ids). A folder: shards of a table, a
    file for each id (.npy, .npz, .pt, .h5), or what clip-retrieval writes. Shards may also be named one by one.
    """
    from ..formats.imports import Claim, import_embeddings
    from ..formats.vectors import Where
    from ..runtime.errors import UsageError
    from .cache_screen import bytes_bar, show_imported, show_made

    *sources, out = files
    if not sources:
        raise UsageError("expected SRC and OUT.h5, found one name")
    claim = Claim(modality, model, cls=cls, dtype=dtype, licence=licence, source=origin)
    where = Where(ids=ids, offsets=offsets, id_column=id_column, column=column, dataset=dataset)
    with bytes_bar("importing", None) as progress:
        imported = import_embeddings(sources, out, claim, where, overwrite=overwrite, progress=progress)
    show_made(out)
    show_imported(imported)
