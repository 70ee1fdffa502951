"""A smaller embedding file out of a large one: some items, some modalities, the CLS alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .copying import begin, copy_locally, finish, new_file, refuse_damaged
from .disk import writing
from .embeddings import EmbeddingFile
from .lineage import descended
from .selection import Index, LocalBytes, Plan, Selection, select


def subset(
    source: Path,
    out: Path,
    selection: Selection,
    *,
    overwrite: bool = False,
    told: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Write to `out` what `selection` wants of the file `source`; rows that are pending there stay so.

    Every row is checked on the way, with level "cls" before its tokens are left behind. `told` is the number of bytes
    copied or checked each time. Raises BadInput for ids or modalities that `source` lacks, DamagedFile naming damaged
    rows, and what `new_file` raises.
    """
    with EmbeddingFile.open(source, pending=True) as file, LocalBytes(source) as content:
        index = Index.read(content, str(source), selection.modalities)
        asked = _asked(selection, len(index))
        plan = select(index, selection, descended([index.header.about], [file.content_digest], "subset", asked))
        with new_file(out, overwrite=overwrite) as working:
            make(plan, working, [source], told, lambda: _check_before(file, index, selection, plan))
        return plan


def make(
    plan: Plan,
    working: Path,
    sources: list[Path],
    told: Callable[[int], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Carry out `plan` from local `sources` under the name `working`; `check` runs once there is room on the disk."""
    with writing(working):
        descriptor = os.open(working, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            begin(plan, descriptor)
            check()
            copy_locally(plan, descriptor, sources, told)
        finally:
            os.close(descriptor)
        finish(plan, working, told=told)


def _check_before(file: EmbeddingFile, index: Index, selection: Selection, plan: Plan) -> None:
    """Rows of which only a part is taken get new checksums: the old ones are asked first."""
    for name, renewed in plan.renewed.items():
        if renewed.any():
            rows = index.rows(selection.ids) if selection.ids is not None else renewed.nonzero()[0]
            refuse_damaged(file, name, rows[renewed] if selection.ids is not None else rows)


def _asked(selection: Selection, items: int) -> dict[str, object]:
    asked: dict[str, object] = {}
    if selection.modalities is not None:
        asked["modalities"] = list(selection.modalities)
    if selection.level == "cls":
        asked["level"] = "cls"
    asked["items"] = items if selection.ids is None else len(selection.ids)
    return asked
