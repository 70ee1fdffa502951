"""A run's figures as TensorBoard shows them, where that is wanted and installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...data.runtime.errors import UsageError
from .epoch_log import Report

_SHOWN = ("train_rmse", "validation_rmse", "transformer_loss")


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
