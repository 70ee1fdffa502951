"""HDF5 files of other programs, one dataset or group for each id: UniProt's per-protein and per-residue, TRIDENT's.

Such a file is a stranger's: links that lead elsewhere, datasets stored elsewhere or made up of others, and anything
that is not an array of floating-point numbers are refused before a value is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..embeddings.ids import IdArray
from ..runtime.errors import BadInput, UsageError
from .imports import checked_width, float_dtype

_USUAL = ("features", "embeddings", "embedding")
_MOST_VALUES = 2**28  # of one item: a gigabyte of float32


@contextmanager
def opened_hdf5(source: Path, dataset: str | None) -> Iterator[Hdf5Vectors]:
    """Open a file, or a folder of files that each hold one item, whose name without suffix is its id."""
    import h5py

    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix.lower() in (".h5", ".hdf5"))
        if not files:
            raise BadInput(f"{source}: expected .h5 files in this folder, found none")
        places = [(path.stem, path, "/") for path in files]
    else:
        with _open(h5py, source) as file:
            places = [(name, source, name) for name in file]
    yield Hdf5Vectors(source, h5py, places, dataset)


def _open(h5py: Any, path: Path) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as fault:
        raise BadInput(f"{path}: cannot be read as HDF5 ({str(fault).splitlines()[0]})") from None


class Hdf5Vectors:
    """The items of one file or folder, in the order of their names; see `foreign.Vectors`."""

    def __init__(self, source: Path, h5py: Any, places: list[tuple[str, Path, str]], dataset: str | None) -> None:
        self._h5py, self._dataset, self._places = h5py, dataset, places
        if not places:
            raise BadInput(f"{source}: expected a dataset or group for each id, found none")
        shapes: list[tuple[int, ...]] = []
        for _, found in self._arrays():
            if not shapes:
                self.dtype = float_dtype(found.dtype.name, found.file.filename)
                self.width = checked_width(found.shape[-1], found.file.filename)
            shapes.append(found.shape)
        self.single = all(len(shape) == 1 for shape in shapes)
        self.lengths = np.array([1 if len(shape) == 1 else shape[0] for shape in shapes], np.int64)
        self.ids: IdArray = np.array([name for name, _, _ in places])

    def matrices(self) -> Iterator[npt.NDArray[Any]]:
        """Each item's vectors, (length, width)."""
        for name, found in self._arrays():
            try:
                yield np.asarray(found[()]).reshape(-1, self.width)
            except (OSError, ValueError, RuntimeError) as fault:
                raise BadInput(
                    f"{found.file.filename}: item {name} cannot be read ({str(fault).splitlines()[0]})"
                ) from None

    def _arrays(self) -> Iterator[tuple[str, Any]]:
        """Each item's dataset, checked; a file stays open only as long as its items are read."""
        opened: Path | None = None
        with ExitStack() as stack:
            for name, path, place in self._places:
                if path != opened:
                    stack.close()
                    file = stack.enter_context(_open(self._h5py, path))
                    opened = path
                yield name, self._checked(self._find(file, place, path), name, path)

    def _find(self, file: Any, place: str, path: Path) -> Any:
        thing = file if place == "/" else self._member(file, place, path)
        if not isinstance(thing, self._h5py.Group):
            return thing
        names = list(thing)
        wanted = self._dataset or next((name for name in _USUAL if name in names), None)
        if wanted is None and len(names) == 1:
            wanted = names[0]
        if wanted is None or wanted not in names:
            raise UsageError(f"{path}: {place}: name the dataset of vectors with --dataset: {', '.join(names[:10])}")
        return self._member(thing, wanted, path)

    def _member(self, group: Any, name: str, path: Path) -> Any:
        if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):
            raise BadInput(f"{path}: {name}: expected a dataset of this file, found a link to elsewhere; not followed")
        return group[name]

    def _checked(self, found: Any, name: str, path: Path) -> Any:
        if not isinstance(found, self._h5py.Dataset):
            raise BadInput(f"{path}: item {name}: expected a dataset, found a {type(found).__name__.lower()}")
        if found.is_virtual or found.external:
            raise BadInput(f"{path}: item {name}: its values lie in other files; not followed")
        width = getattr(self, "width", found.shape[-1] if found.shape else 0)
        if (
            found.ndim not in (1, 2)
            or found.shape[-1] != width
            or found.dtype.name not in ("float16", "float32", "float64")
        ):
            raise BadInput(
                f"{path}: item {name}: expected floating-point (D,) or (T, D) with D = {width}, "
                f"found {list(found.shape)} of {found.dtype}"
            )
        if found.size > _MOST_VALUES:
            raise BadInput(f"{path}: item {name}: expected at most {_MOST_VALUES:,} values, found {found.size:,}")
        return found
