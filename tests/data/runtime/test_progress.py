"""Laws of progress in a log, where there is no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cinefuse.data.runtime.progress import TerminalProgress, Unit


@pytest.mark.parametrize(("unit", "left"), [("items", 1), ("steps", 0), ("bytes", 0)])
def test_in_a_log_only_a_phase_of_items_leaves_its_last_line(unit: Unit, left: int) -> None:
    written = io.StringIO()
    progress = TerminalProgress(Console(file=written, width=80))
    with progress.phase("epoch 1", 3, unit) as phase:
        for _ in range(3):
            phase.advance(1)
    progress.message("epoch 1  train 0.9")
    lines = written.getvalue().splitlines()
    assert len(lines) == left + 1
    assert lines[-1] == "epoch 1  train 0.9"
