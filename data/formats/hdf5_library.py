"""An embedding file as the HDF5 library itself sees it, against its header.

The library runs in a process of its own, for HDF5 may crash on what is damaged: that is then a problem to report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..embeddings.file import EmbeddingFile
from ..embeddings.format.header import Dataset, Header
from ..embeddings.format.layout import attributes
from ..embeddings.verification import Problem, Report, verify
from ..runtime.untrusted_text import printable

_LONGEST: Final = 300  # seconds: it reads a few kilobytes, from a slow network disk perhaps
# bytes, sign bit, exponent's place and length, mantissa's place and length, exponent's bias
_FLOATS: Final = {
    "float16": [2, 15, 10, 5, 0, 10, 15],
    "bfloat16": [2, 15, 7, 8, 0, 7, 127],
    "float32": [4, 31, 23, 8, 0, 23, 127],
}
_INTEGERS: Final = {
    "int8": [1, "signed"], "uint8": [1, "unsigned"], "int32": [4, "signed"], "int64": [8, "signed"],
    "uint64": [8, "unsigned"],
}  # fmt: skip


def verify_by_hdf5_too(path: Path, progress: Callable[[int], None] = lambda _: None) -> Report:
    """What `verify` finds by reading every byte, and what the HDF5 library sees otherwise than the header says."""
    report = verify(path, progress)
    with EmbeddingFile.open(path, pending=True) as file:
        return replace(report, problems=(*report.problems, *hdf5_problems(path, file.header)))


def hdf5_problems(path: Path, header: Header) -> list[Problem]:
    """Everything in which the file at `path` is, to the HDF5 library, not what `header` says: names, shapes, types."""
    search = os.pathsep.join(entry for entry in sys.path if entry)  # the child finds what this process found
    command = [sys.executable, "-P", "-W", "ignore", "-m", __name__, str(path)]
    try:
        found = subprocess.run(
            command, capture_output=True, env=os.environ | {"PYTHONPATH": search}, timeout=_LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return [Problem("HDF5", f"the HDF5 library did not open the file within {_LONGEST} seconds")]
    if found.returncode < 0:
        return [Problem("HDF5", f"the HDF5 library crashed on the file (signal {-found.returncode})")]
    try:
        seen = json.loads(found.stdout)
    except ValueError:
        last = found.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return [Problem("HDF5", f"the HDF5 library cannot read the file: {printable(' '.join(last))[:200]}")]
    return _differences(seen, header)


def _differences(seen: dict[str, Any], header: Header) -> list[Problem]:
    problems = []
    if seen["attributes"] != attributes(header.version):
        problems.append(Problem("HDF5", f"expected the attributes {attributes(header.version)}, HDF5 has others"))
    for name in sorted(set(seen["datasets"]) ^ set(header.datasets)):
        problems.append(Problem(name, "HDF5 sees it and the header does not name it, or the other way round"))
    for name, dataset in header.datasets.items():
        expected = {
            "shape": list(dataset.shape),
            "type": _type_of(dataset),
            "offset": dataset.offset if dataset.length else None,
            "plain": True,
        }
        for aspect, found in seen["datasets"].get(name, {}).items():
            if found != expected[aspect]:
                problems.append(Problem(name, f"HDF5 sees the {aspect} {found}, the header says {expected[aspect]}"))
    return problems


def _type_of(dataset: Dataset) -> list[Any]:
    if dataset.dtype.startswith("S"):
        return ["text", int(dataset.dtype[1:]), "UTF-8"]
    if dataset.dtype in _FLOATS:
        return ["float", "little-endian", *_FLOATS[dataset.dtype]]
    return ["integer", "little-endian", *_INTEGERS[dataset.dtype]]


def seen_by_hdf5(path: Path) -> dict[str, Any]:
    """What h5py finds in a file: the root's attributes; each dataset's shape, type, place and plainness."""
    import h5py

    datasets: dict[str, Any] = {}

    def note(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset):
            plain = not thing.external and not thing.is_virtual and thing.chunks is None
            datasets[name] = {
                "shape": list(thing.shape),
                "type": _seen_type(thing.id.get_type()),
                "offset": thing.id.get_offset() if thing.size else None,
                "plain": plain and thing.id.get_create_plist().get_nfilters() == 0,
            }

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(note)
        return {"attributes": {key: _text(value) for key, value in file.attrs.items()}, "datasets": datasets}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _seen_type(kind: Any) -> list[Any]:
    import h5py

    if kind.get_class() == h5py.h5t.STRING:
        return ["text", kind.get_size(), "UTF-8" if kind.get_cset() == h5py.h5t.CSET_UTF8 else "ASCII"]
    order = "little-endian" if kind.get_order() == h5py.h5t.ORDER_LE or kind.get_size() == 1 else "big-endian"
    if kind.get_class() == h5py.h5t.FLOAT:
        return ["float", order, kind.get_size(), *kind.get_fields(), kind.get_ebias()]
    if kind.get_class() == h5py.h5t.INTEGER:
        return ["integer", order, kind.get_size(), "signed" if kind.get_sign() == h5py.h5t.SGN_2 else "unsigned"]
    return ["another"]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(seen_by_hdf5(Path(sys.argv[1]))))
