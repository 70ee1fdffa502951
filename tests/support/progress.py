"""A progress that keeps what a user would read."""

from __future__ import annotations

from cinefuse.data.runtime.progress import NoProgress


class Lines(NoProgress):
    """Keeps its messages, a line each."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)
