"""Text of a stranger, made safe to show: one line, without anything that steers a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """`text` with every character that is not to be seen written as its escape: newlines, ESC, right-to-left marks.

    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
