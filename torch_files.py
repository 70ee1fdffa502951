"""PyTorch's .pt files as safetensors: run as a process of its own, so that what only reads arrays needs no PyTorch.

A .pt is a pickle. It is loaded with `weights_only`, which builds tensors and plain containers and runs nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def convert(file: Path, out: Path) -> None:
    """Write the tensors of `file` to `out`: one as "embeddings", those of a dict under their names, a list's numbered.

    Lists of text or numbers in a dict (ids, as a rule) go into the metadata. Raises ValueError for what is no tensor.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251 - nothing of the pickle is run
    except Exception as fault:  # whatever the unpickler raises on a damaged or hostile file
        reason = str(fault).split(".")[0].splitlines()[0][:120]
        raise ValueError(
            f"{file}: cannot be loaded as weights alone ({reason}); save its tensors without objects"
        ) from None
    if isinstance(found, torch.Tensor):
        found = {"embeddings": found}
    elif isinstance(found, list | tuple) and all(isinstance(each, torch.Tensor) for each in found):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        raise ValueError(f"{file}: expected a tensor, or tensors under names, found {type(found).__name__}")
    tensors, lists = {}, {}
    for name, value in found.items():
        if isinstance(value, torch.Tensor):
            tensors[str(name)] = value.detach().contiguous().clone()
        elif _is_list_of_ids(value):
            lists[str(name)] = list(value)
    if not tensors:
        raise ValueError(f"{file}: expected tensors under names, found none")
    save_file(tensors, str(out), metadata={"cinefuse_lists": json.dumps(lists)})


def _is_list_of_ids(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and len({type(each) for each in value}) == 1
        and isinstance(value[0], str | int)
    )


def main() -> None:
    """Convert the files that standard input names; the last line of standard error says what is wrong."""
    job = json.load(sys.stdin)
    for number, file in enumerate(job["files"]):
        try:
            convert(Path(file), Path(job["folder"]) / f"{number}.safetensors")
        except (ValueError, OSError) as fault:
            sys.stderr.write(f"{fault}\n")
            sys.exit(1)


if __name__ == "__main__":
    main()
