"""Vectors in arrays: .npy, .npz and safetensors, a folder with a file for each item, clip-retrieval's and our folders.

PyTorch's .pt is turned into safetensors by a process of its own, which loads weights alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..embeddings.ids import IdArray
from ..embeddings.number_formats import dequantised
from ..runtime.errors import BadInput, UsageError
from .array_files import Block, arrays_of_npz, npy_block, tensors, without_pickle
from .id_tables import array_ids, load_array, read_ids
from .table_imports import Table
from .vectors import (
    NONE_AT_ALL,
    WIDTHS_DIFFER,
    Vectors,
    Where,
    checked_width,
    float_dtype,
    in_order,
    is_known,
    known_column,
    numbers_if_all,
)

_AT_ONCE: Final = 1024  # rows of a part
_IMAGES: Final = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_USUAL: Final = ("embeddings", "embedding", "features", "vectors", "latents")
_FLOATS: Final = ("float16", "float32", "float64", "bfloat16")


def array_file_vectors(source: Path, where: Where, modality: str, scratch: Path) -> Vectors:
    """The vectors of an .npy, .npz, .safetensors or .pt: one matrix with ids beside it, or an array for each id.

    What a .pt holds is kept in the folder `scratch` as long as it is read.
    """
    suffix = source.suffix.lower()
    if suffix == ".npy":
        return _matrix(Block.of(load_array(source)), _ids_beside(source, where), source, where.offsets)
    if suffix in (".pt", ".pth"):
        (made,) = without_pickle([source], scratch)
        return _keyed(tensors(made, source), source, where, modality)
    members = arrays_of_npz(source) if suffix == ".npz" else tensors(source, source)
    return _keyed(members, source, where, modality)


def folder_vectors(files: Sequence[Path], where: Where, scratch: Path) -> Vectors:
    """A folder with a file for each item, named after its id: .npy as Ducho's, .npz as slide2vec's, or .pt.

    (1, D) is one vector, as (D,) is. In an .npz the array is `where.dataset`, or the one that is called as usual.
    """
    by_name = {file.name.removesuffix(file.suffix): file for file in files}
    notes: tuple[str, ...] = ()
    bare = {Path(name).stem: file for name, file in by_name.items() if Path(name).suffix.lower() in _IMAGES}
    if len(bare) == len(by_name):
        by_name, notes = bare, ("the ids are the files' names without the suffix of an image in front of their own",)
    names = in_order(list(by_name))
    files = [by_name[name] for name in names]
    if files[0].suffix.lower() in (".pt", ".pth"):
        made = without_pickle(files, scratch)
        blocks = [_the_block(tensors(each, file), file, where.dataset) for each, file in zip(made, files, strict=True)]
    elif files[0].suffix.lower() == ".npz":
        blocks = [_the_block(arrays_of_npz(file), file, where.dataset) for file in files]
    else:
        blocks = [npy_block(file) for file in files]
    found = each_item(numbers_if_all(names), blocks, [str(file) for file in files])
    found.notes = notes
    return found


def clip_retrieval_vectors(source: Path, where: Where, modality: str) -> Vectors:
    """The folder that `clip-retrieval inference` writes: parts of vectors, and a table of metadata for each part.

    The id is the column `where.id_column`, else `key`, else the name of the image's file without its suffix.
    """
    name = {"text": "text_emb", "image": "img_emb"}[modality]
    parts = {_number(file): file for file in (source / name).glob(f"{name}_*.npy")}
    tables = {_number(file): file for file in (source / "metadata").glob("metadata_*.parquet")}
    if not parts:
        raise BadInput(f"{source}: expected {name}/{name}_0.npy, ... in it, found none")
    if set(parts) != set(tables):
        raise BadInput(f"{source}: expected metadata/metadata_N.parquet for each {name}_N.npy, found others")
    ids: list[Any] = []
    blocks = []
    notes: tuple[str, ...] = ()
    for number in sorted(parts):
        table = Table([tables[number]])
        column = where.id_column or next((c for c in ("key", "image_path") if c in table.names), None)
        column = column or known_column(table.names, tables[number])
        own = table.ids(column).tolist()
        if column == "image_path" and where.id_column is None:
            own = [Path(path).stem for path in own]
            notes = ("the id of an item is the name of its image's file; --id-column names another column",)
        block = npy_block(parts[number])
        if len(block.shape) != 2 or block.shape[0] != len(own):
            raise BadInput(f"{parts[number]}: expected ({len(own)}, D) as its metadata has rows, found {block.shape}")
        ids += own
        blocks.append(block)
    made = _joined(blocks, source)
    kept = numbers_if_all(ids) if all(isinstance(value, str) for value in ids) else np.array(ids, np.int64)
    return Vectors(kept, made.lengths, made.width, made.dtype, True, made.matrices, notes=notes)


def _joined(blocks: list[Block], source: Path) -> Vectors:
    width = checked_width(blocks[0].shape[1], source)
    for block in blocks:
        if block.shape[1] != width:
            raise BadInput(f"{source}: expected parts of one width, found {width} and {block.shape[1]}")

    def matrices() -> Iterator[npt.NDArray[Any]]:
        for block in blocks:
            for start in range(0, block.shape[0], _AT_ONCE):  # each read opens the file
                rows = block.read(start, start + _AT_ONCE)
                yield from (row.reshape(1, width) for row in rows)

    count = sum(block.shape[0] for block in blocks)
    dtype = float_dtype(blocks[0].dtype, source)
    return Vectors(np.arange(count), np.ones(count, np.int64), width, dtype, True, matrices)


def _number(file: Path) -> int:
    digits = file.stem.rpartition("_")[2]
    return int(digits) if digits.isdigit() else -1


def each_item(ids: IdArray, blocks: Sequence[Block], names: Sequence[str]) -> Vectors:
    """An array for each item: (D,), (T, D) or (1, T, D). Raises BadInput for other shapes, widths and dtypes."""
    width = 0
    shapes = []
    for block, name in zip(blocks, names, strict=True):
        shape = block.shape[1:] if len(block.shape) == 3 and block.shape[0] == 1 else block.shape
        width = width or checked_width(shape[-1] if shape else 0, name)
        if len(shape) not in (1, 2) or shape[-1] != width or block.dtype not in _FLOATS:
            raise BadInput(
                f"{name}: expected floating-point (D,) or (T, D) with D = {width}, "
                f"found {list(block.shape)} of {block.dtype}"
            )
        shapes.append(shape)

    def matrices() -> Iterator[npt.NDArray[Any]]:
        for block in blocks:
            yield block.read(0, block.shape[0]).reshape(-1, width)

    lengths = np.array([1 if len(shape) == 1 else shape[0] or NONE_AT_ALL for shape in shapes], np.int64)
    single = bool((np.abs(lengths) == 1).all())
    return Vectors(ids, lengths, width, float_dtype(blocks[0].dtype, names[0]), single, matrices)


def _matrix(block: Block, ids: IdArray, source: Path, offsets_file: Path | None = None) -> Vectors:
    """(N, D), (N, T, D), or (T, D) cut by offsets, and as many ids."""
    shape = block.shape
    dtype = float_dtype(block.dtype, source)
    if len(shape) not in (2, 3) or (len(shape) == 3 and offsets_file is not None):
        raise BadInput(f"{source}: expected (N, D), (N, T, D), or (T, D) with --offsets, found {list(shape)}")
    width = checked_width(shape[-1], source)
    offsets = np.arange(shape[0] + 1) if offsets_file is None else load_array(offsets_file)
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) != len(ids) + 1:
        expected = f"{len(offsets) - 1:,} items" if offsets.ndim == 1 else "offsets of one dimension"
        raise BadInput(f"{source}: expected as many ids as items, found {expected} and {len(ids):,} ids")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != shape[0] or (np.diff(offsets) < 0).any():
        raise BadInput(f"{offsets_file}: expected offsets that rise from 0 to {shape[0]:,}, found otherwise")

    def matrices() -> Iterator[npt.NDArray[Any]]:
        for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            yield block.read(start, stop).reshape(-1, width)

    lengths = np.diff(offsets) * (shape[1] if len(shape) == 3 else 1)
    return Vectors(ids, lengths, width, dtype, len(shape) == 2 and offsets_file is None, matrices)


def _ids_beside(source: Path, where: Where) -> IdArray:
    names = (f"{source.stem}_ids.txt", f"{source.stem}.ids.txt", "ids.txt", "ids.npy", "ids.csv")
    beside = [path for path in (source.with_name(name) for name in names) if path.is_file()]
    if where.ids is None and not beside:
        raise UsageError(
            f"{source}: an array has no ids; name a file of them with --ids (.txt one a line, .csv, .npy, .parquet)"
        )
    if where.ids is None:
        raise UsageError(f"{source}: an array has no ids; {beside[0]} lies beside it: --ids {beside[0]} if it is they")
    items = None
    if where.offsets is not None:
        items = len(load_array(where.offsets)) - 1
    elif load_array(source).ndim:
        items = load_array(source).shape[0]
    return read_ids(where.ids, where.id_column, items)


def _keyed(members: Mapping[str, Block], source: Path, where: Where, modality: str) -> Vectors:
    """Arrays under names: ids and a matrix, our own export's datasets, or an array for each id."""
    if "items/id" in members and f"{modality}/cls" in members:
        return _our_tensors(members, source, modality)
    floats = {name: block for name, block in members.items() if block.dtype in _FLOATS}
    named = where.dataset or where.column
    if named is not None and named not in members:
        raise UsageError(f"{source}: expected one of {', '.join([*members][:10])}, found {named}")
    ids = where.id_column or _ids_among(members, floats)
    if ids is not None and ids not in members:
        raise UsageError(f"{source}: --id-column: expected one of {', '.join([*members][:10])}, found {ids}")
    if ids is not None or where.ids is not None or named is not None:
        block = members[named] if named else _one_of(floats, source)
        if where.ids is not None:
            found = read_ids(where.ids, where.id_column, block.shape[0] if block.shape else None)
        elif ids is not None:
            found = array_ids(members[ids].read(0, members[ids].shape[0]), f"{source}, {ids}")
        else:
            raise UsageError(f"{source}: {named} has no ids; name a file of them with --ids")
        return _matrix(block, found, source, where.offsets)
    names = in_order(list(members))
    single_matrix = len(names) == 1 and len(members[names[0]].shape) == 2
    if single_matrix and members[names[0]].shape[0] > 1:
        raise UsageError(f"{source}: {names[0]} has no ids; name a file of them with --ids")
    return each_item(numbers_if_all(names), [members[name] for name in names], [f"{source}, {n}" for n in names])


def _ids_among(members: Mapping[str, Block], floats: Mapping[str, Block]) -> str | None:
    """The array that is called as ids are, else the only one that has an entry for each row of the only matrix."""
    others = [name for name in members if name not in floats]
    known = [name for name in others if is_known(name)]
    matrices = [block for block in floats.values() if len(block.shape) >= 2]
    if known or len(matrices) != 1:
        return known[0] if known else None
    fitting = [name for name in others if members[name].shape == matrices[0].shape[:1]]
    return fitting[0] if len(fitting) == 1 else None


def _one_of(floats: Mapping[str, Block], source: Path) -> Block:
    matrices = {name: block for name, block in floats.items() if len(block.shape) >= 2}
    usual = [name for name in _USUAL if name in matrices]
    if len(matrices) != 1 and not usual:
        raise UsageError(f"{source}: name the array of vectors with --column: {', '.join(matrices) or 'it has none'}")
    return matrices[usual[0] if usual else next(iter(matrices))]


def _our_tensors(members: Mapping[str, Block], source: Path, modality: str) -> Vectors:
    """What `cache convert --to safetensors` wrote: CLS, then the tokens that the offsets cut."""
    cls, tokens = (_scaled(members, f"{modality}/{part}") for part in ("cls", "tokens"))
    stored = members["items/id"].read(0, members["items/id"].shape[0])
    if stored.ndim == 2:  # text as bytes padded with NUL
        ids: IdArray = np.array([bytes(row).rstrip(b"\0").decode() for row in stored], object)
    else:
        ids = stored
    offsets = members[f"{modality}/offsets"].read(0, len(ids) + 1).astype(np.int64)
    alike = tokens.shape[1] == cls.shape[1]
    if not alike:
        offsets = np.zeros_like(offsets)
    status = members[f"{modality}/status"].read(0, len(ids))
    there = np.isin(status, (1, 2))
    width = checked_width(cls.shape[1], source)

    def matrices() -> Iterator[npt.NDArray[Any]]:
        for row in range(len(ids)):
            own = tokens.read(int(offsets[row]), int(offsets[row + 1]))
            vector = cls.read(row, row + 1) if there[row] else np.empty((0, width), np.float32)
            yield np.concatenate((vector, own)) if there[row] and alike else vector

    counts = np.diff(offsets)
    lengths = np.where(there, 1 + counts, NONE_AT_ALL)
    notes = () if alike else (WIDTHS_DIFFER,)
    dtype = float_dtype(cls.dtype, source)
    return Vectors(ids, lengths, width, dtype, not counts.any(), matrices, cls="first", notes=notes)


def _scaled(members: Mapping[str, Block], name: str) -> Block:
    """Embeddings as they are meant: int8 times its scales."""
    block, scale = members[name], members.get(f"{name}_scale")
    if scale is None:
        return block
    return Block(
        block.shape,
        "float32",
        lambda start, stop: dequantised(block.read(start, stop), scale.read(0, scale.shape[0])[start:stop]),
    )


def _the_block(members: Mapping[str, Block], file: Path, wanted: str | None) -> Block:
    name = wanted or next((known for known in _USUAL if known in members), None)
    if name is None and len(members) == 1:
        name = next(iter(members))
    if name is None or name not in members:
        raise UsageError(f"{file}: name the array of vectors with --dataset: {', '.join([*members][:10])}")
    return members[name]
