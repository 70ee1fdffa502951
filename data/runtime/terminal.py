"""What every screen of the commands shares: a console that prints text as it is, and bytes as a person says them."""

from __future__ import annotations

from rich.console import Console

_WIDTH_OF_A_FILE = 10_000


def screen() -> Console:
    """Standard output for text that others wrote: nothing in it is taken for markup, a file or pipe never wraps it."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    return console


def size(count: int) -> str:
    """Bytes as a person says them."""
    value, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{count:,} bytes" if unit == "bytes" else f"{value:.2f} {unit}"
