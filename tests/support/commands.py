"""How a test runs `cinefuse` as a shell does, in its own process, and what it expects of a refusal."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer.main

_make_command = typer.main.get_command

# what steers a terminal: everything below the space but tab and newline, DEL, and the C1 controls
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def assert_refused_in_one_line(ended: Ended, code: int, *says: str) -> str:
    """Check the exit code, that the refusal is the last line of standard error and the only one, and what it says.

    Nothing on standard error may steer a terminal. Returns that line.
    """
    lines = ended.err.splitlines()
    assert ended.code == code, ended.err
    assert lines[-1].startswith("cinefuse: ")
    assert [line for line in lines if line.startswith("cinefuse: ")] == lines[-1:]
    assert "Traceback" not in ended.err
    assert not CONTROL.search(ended.err)
    for word in says:
        assert word in lines[-1]
    return lines[-1]


@functools.cache
def command_of(app: typer.Typer) -> Any:
    """What typer makes of all our commands: it does so at each call, which costs more than most of the calls."""
    return _make_command(app)


HEAVY = {"torch", "transformers", "tokenizers", "polars", "h5py", "numpy", "PIL", "safetensors"}
"""What a command that only prints must not wait for."""

_LIST_IMPORTS = """
import sys
from cinefuse import cli
sys.argv = ["cinefuse", *sys.argv[1:]]
try:
    cli.main()
finally:
    print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported_by(*words: object) -> set[str]:
    """The packages that `cinefuse` with these words imports in a process of its own."""
    command = [sys.executable, "-c", _LIST_IMPORTS, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(ended.stdout.splitlines()[-1].split()[1:])
