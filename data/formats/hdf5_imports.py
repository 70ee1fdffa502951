"""HDF5 of other programs: a dataset or group for each id, a file for each item, or one matrix beside its ids.

Such a file is untrusted: links that lead elsewhere, datasets stored elsewhere or made up of others, and anything that
is not an array of floating-point numbers are refused before a value is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..embeddings.ids import IdArray
from ..runtime.errors import BadInput, UsageError
from .id_tables import array_ids, read_ids
from .vectors import NONE_AT_ALL, Vectors, Where, checked_width, float_dtype, in_order, is_known, numbers_if_all

_USUAL: Final = ("features", "embeddings", "embedding", "vectors")
_MOST_VALUES: Final = 2**28  # of one item: a gigabyte of float32
_AT_ONCE: Final = 1024  # rows of a matrix
_MOST_BESIDE_A_MATRIX: Final = 20
_FLOATS: Final = ("float16", "float32", "float64")


def opened_hdf5(source: Path | Sequence[Path], where: Where) -> Vectors:
    """The vectors of one file, or of files that each hold one item, whose name without suffix is its id.

    In one file, a dataset of ids (or `where.ids`) makes it a matrix with a row for each; else every dataset or group
    is an item, called by its attribute `original_id` where all have one. Raises BadInput and UsageError.
    """
    if not isinstance(source, Path):
        by_name = {path.stem: path for path in source}
        names = in_order(list(by_name))
        return _Items([_Place(name, by_name[name], "/") for name in names], where.dataset).vectors(
            numbers_if_all(names)
        )
    with _open(source) as file:
        ids = where.id_column or next(iter(_id_names(file)), None)
        if where.ids is not None or ids is not None:
            return _matrix(source, file, where, ids)
        names = in_order(list(file))
        if not names:
            raise BadInput(f"{source}: expected a dataset or group for each id, found none")
        if "coords" in names and any(name in names for name in _USUAL):
            raise UsageError(f"{source}: holds one item; name its folder, whose files are called by their ids")
        labels, notes = _labels(file, names, source)
    items = _Items([_Place(name, source, name) for name in names], where.dataset)
    vectors = items.vectors(numbers_if_all(labels))
    vectors.notes = notes
    return vectors


def _open(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r", locking=False)
    except OSError as fault:
        raise BadInput(f"{path}: cannot be read as HDF5 ({str(fault).splitlines()[0]})") from None


def _id_names(file: Any) -> list[str]:
    """The names of datasets in the root that are ids: text or whole numbers in one dimension, by name or by length."""
    import h5py

    few = len(file) <= _MOST_BESIDE_A_MATRIX  # with more, each is an item
    own = [name for name in file if few or is_known(name)]
    own = [name for name in own if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    arrays = {name: file[name] for name in own if isinstance(file[name], h5py.Dataset)}
    # ids that a program made floats are known by their name alone
    lists = {
        name: found
        for name, found in arrays.items()
        if found.ndim == 1 and (found.dtype.kind in "iuSO" or (found.dtype.kind == "f" and is_known(name)))
    }
    names = [name for name in lists if is_known(name)]
    matrices = [found for found in arrays.values() if found.ndim >= 2 and found.dtype.name in _FLOATS]
    if not names and len(matrices) == 1:  # the only list with an entry for each row of the only matrix
        fitting = [name for name, found in lists.items() if found.shape == matrices[0].shape[:1]]
        names = fitting if len(fitting) == 1 else []
    return names


def _labels(file: Any, names: list[str], source: Path) -> tuple[list[str], tuple[str, ...]]:
    """What the items are called: bio_embeddings numbers its datasets and keeps the ids in an attribute."""
    given = [_own(file, name, source).attrs.get("original_id") for name in names]
    count = sum(value is not None for value in given)
    if count == 0:
        return names, ()
    if count < len(names):
        return names, (f"{count:,} of {len(names):,} datasets have the attribute original_id: their names are the ids",)
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in given]
    return texts, ("the ids are the attribute original_id of each dataset, not its name",)


def _own(group: Any, name: str, path: Path) -> Any:
    """A member of a group, at a path such as `image/features`, if no link leads elsewhere on the way."""
    import h5py

    for part in name.strip("/").split("/"):
        if not isinstance(group, h5py.Group) or part not in group:
            raise UsageError(
                f"{path}: holds no {name}; it has {', '.join([*group][:10]) if hasattr(group, 'keys') else ''}"
            )
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise BadInput(f"{path}: {name}: expected a dataset of this file, found a link to elsewhere; not followed")
        group = group[part]
    return group


def _plain(found: Any, name: str, path: Path) -> Any:
    import h5py

    if not isinstance(found, h5py.Dataset):
        raise BadInput(f"{path}: item {name}: expected a dataset, found a {type(found).__name__.lower()}")
    if found.is_virtual or found.external:
        raise BadInput(f"{path}: item {name}: its values lie in other files; not followed")
    return found


def _matrix(source: Path, file: Any, where: Where, ids_name: str | None) -> Vectors:
    """One matrix, (N, D) or (N, T, D), a row for each id."""
    name = where.dataset or where.column or _vectors_name(file, source)
    found = _plain(_own(file, name, source), name, source)
    if found.ndim not in (2, 3) or found.dtype.name not in _FLOATS:
        raise BadInput(
            f"{source}: {name}: expected floating-point (N, D) or (N, T, D), found {found.shape} {found.dtype}"
        )
    shape, dtype = found.shape, float_dtype(found.dtype.name, source)
    if where.ids is not None:
        ids = read_ids(where.ids, where.id_column, shape[0])
    else:
        ids = _stored_ids(_plain(_own(file, str(ids_name), source), str(ids_name), source), source)
    if len(ids) != shape[0]:
        raise BadInput(f"{source}: expected as many ids as items, found {shape[0]:,} items and {len(ids):,} ids")
    width = checked_width(shape[-1], source)

    def matrices() -> Iterator[npt.NDArray[Any]]:
        with _open(source) as again:
            rows = again[name]
            for start in range(0, shape[0], _AT_ONCE):
                for row in _read(rows, slice(start, start + _AT_ONCE), name):
                    yield row.reshape(-1, width)

    lengths = np.full(shape[0], shape[1] if len(shape) == 3 else 1, np.int64)
    return Vectors(ids, lengths, width, dtype, len(shape) == 2, matrices)


def _stored_ids(found: Any, source: Path) -> IdArray:
    import h5py

    if found.ndim != 1:
        raise BadInput(f"{source}: {found.name}: expected ids in one dimension, found {list(found.shape)}")
    text = h5py.check_string_dtype(found.dtype) is not None
    return array_ids(found.asstr("utf-8", "replace")[()] if text else found[()], f"{source}, {found.name}")


def _vectors_name(file: Any, source: Path) -> str:
    import h5py

    found = []
    for name in file:
        if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset):
            found += [name] if file[name].ndim >= 2 and file[name].dtype.name in _FLOATS else []
    usual = [name for name in _USUAL if name in found]
    if len(found) != 1 and not usual:
        raise UsageError(f"{source}: name the dataset of vectors with --dataset: {', '.join([*file][:10])}")
    return usual[0] if usual else str(found[0])


def _read(found: Any, rows: Any, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(found[rows])
    except (OSError, ValueError, RuntimeError) as fault:
        raise BadInput(f"{found.file.filename}: item {name} cannot be read ({str(fault).splitlines()[0]})") from None


@dataclass(frozen=True)
class _Place:
    """Where an item lies: `inside` is the path in its file, "/" for the whole file."""

    name: str
    path: Path
    inside: str


class _Items:
    """A dataset or group for each item, read one after another."""

    def __init__(self, places: Sequence[_Place], dataset: str | None) -> None:
        self._places, self._dataset = places, dataset
        self._width = 0

    def vectors(self, ids: IdArray) -> Vectors:
        """All items, checked: shapes and dtypes now, values when they are read."""
        shapes: list[tuple[int, ...]] = []
        dtype = ""
        for _, found in self._arrays():
            dtype = dtype or float_dtype(found.dtype.name, found.file.filename)
            shape = found.shape[1:] if found.ndim == 3 else found.shape
            shapes.append(shape)
        lengths = np.array([1 if len(shape) == 1 else shape[0] or NONE_AT_ALL for shape in shapes], np.int64)
        single = all(len(shape) == 1 for shape in shapes)
        return Vectors(ids, lengths, self._width, dtype, single, self._matrices)

    def _matrices(self) -> Iterator[npt.NDArray[Any]]:
        for name, found in self._arrays():
            yield _read(found, (), name).reshape(-1, self._width)

    def _arrays(self) -> Iterator[tuple[str, Any]]:
        """Each item's dataset, checked; a file stays open only as long as its items are read."""
        opened: Path | None = None
        with ExitStack() as stack:
            for place in self._places:
                if place.path != opened:
                    stack.close()
                    file = stack.enter_context(_open(place.path))
                    opened = place.path
                yield place.name, self._checked(self._find(file, place), place)

    def _find(self, file: Any, place: _Place) -> Any:
        import h5py

        thing = file if place.inside == "/" else _own(file, place.inside, place.path)
        if not isinstance(thing, h5py.Group):
            return thing
        names = list(thing)
        wanted = self._dataset or next((name for name in _USUAL if name in names), None)
        if wanted is None and len(names) == 1:
            wanted = names[0]
        if wanted is None or wanted.strip("/").split("/")[0] not in names:
            raise UsageError(
                f"{place.path}: {place.inside}: name the dataset of vectors with --dataset: {', '.join(names[:10])}"
            )
        return _own(thing, wanted, place.path)

    def _checked(self, found: Any, place: _Place) -> Any:
        found = _plain(found, place.name, place.path)
        width = found.shape[-1] if found.ndim else 0
        usual = found.ndim in (1, 2) or (found.ndim == 3 and found.shape[0] == 1)  # TRIDENT's (1, T, D)
        if usual and found.dtype.name in _FLOATS and not self._width:
            self._width = checked_width(width, found.file.filename)
        if not usual or width != self._width or found.dtype.name not in _FLOATS:
            raise BadInput(
                f"{place.path}: item {place.name}: expected floating-point (D,) or (T, D) with D = "
                f"{self._width or width}, found {list(found.shape)} of {found.dtype}"
            )
        if found.size > _MOST_VALUES:
            raise BadInput(
                f"{place.path}: item {place.name}: expected at most {_MOST_VALUES:,} values, found {found.size:,}"
            )
        return found
