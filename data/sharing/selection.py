"""What is wanted of an embedding file (modalities, level, ids), and how the commands' options say it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ..embeddings.format.header import MODALITIES
from ..runtime.errors import BadInput, UsageError
from .index import Index

Level = Literal["tokens", "cls"]
LEVELS: Final = ("tokens", "cls")
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")


@dataclass(frozen=True)
class Selection:
    """What is wanted of a file: modalities (None: all), level, ids in the order wanted (None: all, as they lie)."""

    modalities: tuple[str, ...] | None = None
    level: Level = "tokens"
    ids: Sequence[Any] | npt.NDArray[Any] | None = None

    def of_kind(self, index: Index) -> Selection:
        """The same with ids that were read as text made numbers, where those of `index` are. Raises BadInput."""
        if self.ids is None or index.stored.dtype.kind != "i":
            return self
        given = np.asarray(self.ids, dtype=object).tolist()
        wrong = [value for value in given if isinstance(value, str) and not _NUMBER.fullmatch(value)]
        if wrong:
            raise BadInput(f"{index.name}: its ids are numbers, wanted is {wrong[0]!r}")
        return replace(self, ids=[int(value) if isinstance(value, str) else value for value in given])

    def options(self, items: int) -> dict[str, object]:
        """What the lineage records of it; `items` are those of the source."""
        options: dict[str, object] = {}
        if self.modalities is not None:
            options["modalities"] = list(self.modalities)
        if self.level == "cls":
            options["level"] = "cls"
        return options | {"items": items if self.ids is None else len(self.ids)}


def selection_from_options(ids: str | None, items: Path | None, modalities: list[str], level: str) -> Selection:
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
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise BadInput(f"{file}: expected a text file with one id a line ({fault})") from None
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise BadInput(f"{file}: expected one id a line, found none")
    return ids


def selection_from_only(only: Sequence[str], ids: Sequence[str] | None) -> Selection | None:
    """What `--only` and `--items` ask for; None where they ask for all. Raises UsageError.

    >>> selection_from_only(["text/cls"], None)
    Selection(modalities=('text',), level='cls', ids=None)
    """
    if not only and ids is None:
        return None
    modalities: list[str] = []
    levels: set[Level] = set()
    for word in only:
        if word not in ("text", "image", "text/cls", "image/cls", "cls"):
            raise UsageError(f"--only {word}: expected text, image, text/cls, image/cls or cls")
        modality, _, level = ("", "", "cls") if word == "cls" else word.partition("/")
        modalities += [modality] if modality else []
        levels.add("cls" if level else "tokens")
    if len(levels) > 1:
        raise UsageError(f"--only {' --only '.join(only)}: expected one level: the CLS of all of them, or of none")
    return Selection(tuple(dict.fromkeys(modalities)) or None, levels.pop() if levels else "tokens", ids)
