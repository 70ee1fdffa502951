"""Write explanations as a picture or a page, by the suffix of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...data.runtime.errors import UsageError
from ..runs.run import Run
from .explanation import Explanation

_SUFFIXES = (".png", ".html", ".htm")


def refuse_unknown_picture(file: Path) -> None:
    """UsageError where the file's suffix is neither .png nor .html."""
    if file.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--out {file}: expected a name that ends in .png or .html")


def write_explanation(file: Path, explanations: Sequence[Explanation], run: Run) -> None:
    """Write a card or contact sheet (.png) or a page (.html). NoSpace or BadInput where the disk refuses."""
    from .html import write_explanations
    from .png import write_png

    refuse_unknown_picture(file)
    about = f"run {run.folder.resolve().name}, preset {run.config.preset}, split {run.record.split}"
    (write_png if file.suffix.lower() == ".png" else write_explanations)(file, explanations, about)
