"""How a test runs `cinefuse` as a shell does, in its own process, and what it expects of a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def assert_refused_in_one_line(ended: Ended, code: int, *says: str) -> None:
    """Check the exit code, that the refusal is the last line of standard error and the only one, and what it says."""
    lines = ended.err.splitlines()
    assert ended.code == code, ended.err
    assert lines[-1].startswith("cinefuse: ")
    assert [line for line in lines if line.startswith("cinefuse: ")] == lines[-1:]
    assert "Traceback" not in ended.err
    for word in says:
        assert word in lines[-1]
