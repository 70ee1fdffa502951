"""Untrusted text made safe to show: one line, without anything that steers a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """`text` with every character that does not print written as its escape: newlines, ESC, right-to-left marks.

    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shown(value: object) -> str:
    """An id as a message shows it: 1 or 'tt1', of Python's and of NumPy's kinds and of stored bytes alike."""
    plain = value.item() if hasattr(value, "item") else value
    return repr(plain.decode("utf-8", "backslashreplace") if isinstance(plain, bytes) else plain)
