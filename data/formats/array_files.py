"""Arrays on the disk, read a block of rows at a time: .npy, .npz, safetensors, and PyTorch's .pt without pickle."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..embeddings.number_formats import as_float32
from ..runtime.errors import BadInput
from ..runtime.zip_archives import ZIP_FAULTS
from .id_tables import load_array

_FLOAT_TENSORS: Final = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}
_OTHER_TENSORS: Final = {"I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1", "I16": "<i2", "BOOL": "?"}


@dataclass(frozen=True)
class Block:
    """An array that may lie on the disk still: its shape and dtype are known, `read(start, stop)` gives rows."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[int, int], npt.NDArray[Any]]

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Block:
        """An array in memory, or mapped."""
        return cls(array.shape, array.dtype.name, lambda start, stop: array[start:stop])


def npy_block(file: Path) -> Block:
    """An .npy whose header alone is read now, so that a folder of a million keeps none of them open."""
    array = load_array(file)
    return Block(array.shape, array.dtype.name, lambda start, stop: _read_npy(file, start, stop))


def _read_npy(file: Path, start: int, stop: int) -> npt.NDArray[Any]:
    array = load_array(file)
    return np.array(array) if array.ndim < 2 else np.array(array[start:stop])


def arrays_of_npz(file: Path) -> dict[str, Block]:
    """The arrays of an .npz, none of them read yet. Raises BadInput, for arrays of Python objects too."""
    found = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    major, _ = np.lib.format.read_magic(stream)
                    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(stream)
                if dtype.hasobject:
                    raise BadInput(
                        f"{file}: {member} holds Python objects, which are not loaded; save text as astype(str)"
                    )
                name = member.removesuffix(".npy")
                found[name] = Block(shape, dtype.name, _npz_reader(file, name))
    except (OSError, ValueError, *ZIP_FAULTS) as fault:
        raise BadInput(f"{file}: cannot be read as .npz ({(str(fault).splitlines() or ['cut short'])[0]})") from None
    if not found:
        raise BadInput(f"{file}: expected arrays in it, found none")
    return found


def _npz_reader(file: Path, name: str) -> Callable[[int, int], npt.NDArray[Any]]:
    kept: list[npt.NDArray[Any]] = []  # a compressed array can only be read whole

    def read(start: int, stop: int) -> npt.NDArray[Any]:
        if not kept:
            try:
                with np.load(file, allow_pickle=False) as archive:
                    kept.append(archive[name])
            except (OSError, ValueError, *ZIP_FAULTS) as fault:
                reason = (str(fault).splitlines() or ["cut short"])[0]
                raise BadInput(f"{file}: {name} cannot be read ({reason})") from None
        whole = kept[0]
        if start == 0 and (whole.ndim < 2 or stop >= len(whole)):
            kept.clear()
        return whole if whole.ndim < 2 else whole[start:stop]

    return read


def tensors(file: Path, source: Path) -> dict[str, Block]:
    """The tensors of a safetensors file, mapped; bfloat16 reads as float32. `source` is its name for messages."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), "np"):
            pass  # checks the header, the places and the length
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
        content = np.memmap(file, np.uint8, "r")
    except (SafetensorError, OSError, ValueError) as fault:
        raise BadInput(f"{source}: cannot be read as safetensors ({str(fault).splitlines()[0]})") from None
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            found[name] = _tensor(content, 8 + length, entry, source)
    for name, values in json.loads(header.get("__metadata__", {}).get("cinefuse_lists", "{}")).items():
        found[name] = Block.of(np.array(values, object if isinstance(values[0], str) else np.int64))
    return found


def _tensor(content: npt.NDArray[np.uint8], start: int, entry: Mapping[str, Any], source: Path) -> Block:
    kind, shape = entry["dtype"], tuple(entry["shape"])
    dtype = np.dtype(_FLOAT_TENSORS.get(kind) or _OTHER_TENSORS.get(kind) or "u1")
    if kind not in _FLOAT_TENSORS and kind not in _OTHER_TENSORS:
        raise BadInput(f"{source}: a tensor of {kind} cannot be read here")
    offset = start + entry["data_offsets"][0]
    raw = content[offset : offset + math.prod(shape) * dtype.itemsize]
    values = np.frombuffer(raw, dtype).reshape(shape)
    if kind != "BF16":
        return Block(shape, values.dtype.name, lambda first, stop: values[first:stop] if values.ndim > 1 else values)
    return Block(
        shape, "bfloat16", lambda first, stop: as_float32(values[first:stop] if values.ndim > 1 else values, "bfloat16")
    )


def without_pickle(files: Sequence[Path], folder: Path) -> list[Path]:
    """Each .pt as a safetensors file in `folder`, made by a process that loads weights alone. Raises BadInput."""
    search = os.pathsep.join(entry for entry in sys.path if entry)
    job = json.dumps({"files": [str(file.resolve()) for file in files], "folder": str(folder)})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cinefuse.torch_files"],
        input=job.encode(),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": search},
        check=False,
    )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise BadInput(last if last.startswith(str(files[0].parent.resolve())) else f"{files[0]}: {last}")
    return [folder / f"{number}.safetensors" for number in range(len(files))]
