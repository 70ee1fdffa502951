"""Keys of the services: read from the environment or a file, and never shown, written or passed on a command line."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..runtime.errors import BadInput, UsageError

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = "[hidden]"
_LARGEST_FILE = 1 << 16
_LOGGERS = ("httpx2", "httpcore2", "httpx", "httpcore", "asyncio")


@dataclass(frozen=True)
class Key:
    """A service's key: ``name`` is the environment variable it goes by, ``value`` is never part of a repr."""

    name: str
    value: str = field(repr=False)

    def hidden_in(self, text: object) -> str:
        """``text`` without the key."""
        return str(text).replace(self.value, HIDDEN)


def find_key(names: tuple[str, ...], file: Path | None, service: str) -> Key:
    """The key of a service: the first of ``names`` that ``file``, or else the environment, has.

    A file holds lines such as ``TMDB_TOKEN=...``, or the bare key alone, which is then taken for the first of
    ``names`` it can be. UsageError where there is no key; BadInput for a file that cannot be read or a value that is
    no key. No message ever holds the value.
    """
    given = _keys_in(file, names) if file is not None else dict(os.environ)
    for name in names:
        if value := given.get(name, "").strip():
            if not (value.isascii() and value.isprintable()) or " " in value or len(value) < 8:
                where = file if file is not None else "the environment"
                raise BadInput(f"{name} of {where}: this is no key (spaces, strange characters, or too short)")
            return Key(name, value)
    where = f"{file} has none" if file is not None else "it is not set"
    raise UsageError(
        f"{service} needs a key, {' or '.join(names)}: {where}; set it in the environment, or name a --key-file"
    )


def _keys_in(file: Path, names: tuple[str, ...]) -> dict[str, str]:
    try:
        with file.open("rb") as stream:
            lines = stream.read(_LARGEST_FILE).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8 text"
        raise BadInput(f"--key-file {file}: cannot be read ({reason})") from None
    found: dict[str, str] = {}
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        if equals and name.strip().isidentifier():
            found[name.strip()] = value.strip().strip("\"'")
        elif len(names) > 1 and len(line) == 32:  # TMDB's v3 keys are 32 digits, its v4 tokens far longer
            found.setdefault(names[1], line)
        else:
            found.setdefault(names[0], line)
    return found


def keep_out_of_logs(key: Key) -> None:
    """Hide the key in what HTTP libraries log: at level INFO they log whole addresses, and some keys stand in those."""

    def hide(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if key.value in message:
            record.msg, record.args = key.hidden_in(message), ()
        return True

    for name in _LOGGERS:
        logging.getLogger(name).addFilter(hide)
        # filters of a logger do not see what its children log
        for child in list(logging.root.manager.loggerDict):
            if child.startswith(f"{name}."):
                logging.getLogger(child).addFilter(hide)
