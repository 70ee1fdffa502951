"""A smaller embedding file out of a large one: some items, some modalities, the CLS alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..embeddings.file import EmbeddingFile
from ..embeddings.header import MODALITIES
from ..runtime.disk import writing
from ..runtime.errors import BadInput, UsageError
from .copying import begin, copy_locally, created, finish, new_file, refuse_damaged
from .index import Index, LocalBytes
from .lineage import descended
from .selection import LEVELS, Plan, Selection, select


def wanted(ids: str | None, items: Path | None, modalities: list[str], level: str) -> Selection:
    """What the options --ids, --items, --modality and --level ask for. Raises UsageError, or BadInput for the file."""
    if ids is not None and items is not None:
        raise UsageError("--ids and --items: expected one of them, found both")
    for modality in modalities:
        if modality not in MODALITIES:
            raise UsageError(f"--modality: expected {' or '.join(MODALITIES)}, found {modality}")
    if level not in ("tokens", "cls"):
        raise UsageError(f"--level: expected {' or '.join(LEVELS)}, found {level}")
    chosen = [part.strip() for part in ids.split(",") if part.strip()] if ids is not None else None
    if items is not None:
        chosen = ids_of(items)
    if chosen is not None and not chosen:
        raise UsageError("--ids: expected at least one id, found none")
    return Selection(tuple(modalities) or None, "cls" if level == "cls" else "tokens", chosen)


def ids_of(file: Path) -> list[str]:
    """The ids in a text file, one a line; empty lines are left out. Raises BadInput."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise BadInput(f"{file}: expected a text file with one id a line ({fault})") from None
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise BadInput(f"{file}: expected one id a line, found none")
    return ids


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
        asked = selection.asked(len(index))
        plan = select(index, selection, descended([index.header.about], [file.content_digest], "subset", asked))
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
    """Rows of which only a part is taken get new checksums: the old ones are asked first."""
    for name, renewed in plan.renewed.items():
        if renewed.any():
            rows = index.rows(selection.ids) if selection.ids is not None else renewed.nonzero()[0]
            refuse_damaged(file, name, rows[renewed] if selection.ids is not None else rows)
