"""A smaller embedding file out of a large one: some items, some modalities, the CLS alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..embeddings.file import EmbeddingFile
from ..runtime.disk import writing
from .copy_plan import Plan, select
from .copying import begin, copy_locally, created, finish, new_file, refuse_damaged
from .index import Index, LocalBytes
from .lineage import descended
from .selection import Selection


def subset(
    source: Path,
    out: Path,
    selection: Selection,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Write to `out` what `selection` wants of the file `source`; rows that are pending there stay so.

    Every row is checked on the way, with level "cls" before its tokens are left behind. `progress` gets the number of
    bytes copied or checked each time. Raises BadInput for ids or modalities that `source` lacks, DamagedFile naming
    damaged rows, and what `new_file` raises.
    """
    with EmbeddingFile.open(source, pending=True) as file, LocalBytes(source) as content:
        index = Index.read(content, str(source), selection.modalities)
        selection = selection.of_kind(index)
        options = selection.options(len(index))
        plan = select(index, selection, descended([index.header.about], [file.content_digest], "subset", options))
        with new_file(out, overwrite=overwrite) as working:
            make(plan, working, [source], progress, lambda: _check_before(file, index, selection, plan))
        return plan


def make(
    plan: Plan,
    working: Path,
    sources: list[Path],
    progress: Callable[[int], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Carry out `plan` from local `sources` under the name `working`; `check` runs once there is room on the disk."""
    with writing(working):
        with created(working) as descriptor:
            begin(plan, descriptor)
            check()
            copy_locally(plan, descriptor, sources, progress)
        finish(plan, working, progress=progress)


def _check_before(file: EmbeddingFile, index: Index, selection: Selection, plan: Plan) -> None:
    """Verify rows of which only a part is taken, by their old checksums: their new ones cover the part alone."""
    for name, renewed in plan.renewed.items():
        if renewed.any():
            rows = index.rows(selection.ids) if selection.ids is not None else renewed.nonzero()[0]
            refuse_damaged(file, name, rows[renewed] if selection.ids is not None else rows)
