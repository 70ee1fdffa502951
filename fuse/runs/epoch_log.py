"""The log of a run: a line of JSON for each epoch, however often training was stopped and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...data.runtime.disk import write_atomically, writing
from ...data.runtime.errors import BadInput, UsageError

Report = Callable[[dict[str, Any]], None]

_SHOWN = ("train_rmse", "validation_rmse", "transformer_loss")


@contextmanager
def epoch_log(file: Path, event: Report | None = None) -> Iterator[Report]:
    """Gives what takes the figures of an epoch, to a new line of ``file`` and to ``event``.

    An epoch that was logged, but in no checkpoint when its process was killed, is trained again and not logged again.
    BadInput where ``file`` holds something else.
    """
    logged = _logged_epochs(file)
    with file.open("a", encoding="utf-8") as log:

        def report(figures: dict[str, Any]) -> None:
            if (figures["fit"], figures["epoch"]) in logged:
                return
            with writing(file):
                log.write(json.dumps(figures) + "\n")
                log.flush()
            if event is not None:
                event(figures)

        yield report


def _logged_epochs(file: Path) -> set[tuple[int, int]]:
    """(fit, epoch) of each line, without what a full disk may have left of a last one."""
    if not file.exists():
        return set()
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(file, whole)
    try:
        return {(figures["fit"], figures["epoch"]) for figures in map(json.loads, whole.splitlines())}
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{file} has lines that are no figures of an epoch: delete the file, and resume") from None


@contextmanager
def events(folder: Path) -> Iterator[Report]:
    """Gives what takes the figures of an epoch into events below ``folder``. UsageError without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("--tensorboard needs the package: pip install tensorboard") from None
    writer: Any = SummaryWriter(folder)

    def write(figures: dict[str, Any]) -> None:
        for name in _SHOWN:
            if figures[name] is not None:
                writer.add_scalar(f"fit{figures['fit']}/{name}", figures[name], figures["epoch"])

    try:
        yield write
    finally:
        writer.close()
