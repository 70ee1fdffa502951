"""`--log-json`: one JSON object a line and an event, for programs that supervise many jobs.

Every event has "time" (ISO 8601, UTC) and "event"; docs/jobs.md lists the events and their fields.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .disk import write_all_appending, writing
from .errors import CinefuseError
from .progress import Phase, Progress, Unit

_SECONDS_BETWEEN_EVENTS = 1.0
# a user's name and password in an address, and tokens as hubs and clouds hand them out
_SECRETS = re.compile(r"(?<=://)[^/\s@]+@|\bhf_\w{8,}|\bAKIA[0-9A-Z]{12,}|(?i:(token|secret|password|key)=)[^&\s]+")


class EventLog:
    """Writes events to a file (appended, a line at a time) or standard output (``-``), and passes all on to `inner`."""

    def __init__(self, target: str, inner: Progress) -> None:
        self._inner = inner
        self._name = Path("standard output" if target == "-" else target)
        if target == "-":
            sys.stdout.flush()
            self._descriptor = sys.stdout.fileno()
        else:
            with writing(self._name):
                self._descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def event(self, kind: str, /, **fields: Any) -> None:
        """Write one event, with everything that looks like a password or token replaced by ***."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps(_without_secrets({"time": moment, "event": kind} | fields), default=str) + "\n"
        with writing(self._name):
            write_all_appending(self._descriptor, line.encode())

    @contextmanager
    def job(self, command: str, **fields: Any) -> Iterator[None]:
        """The whole of a command: "start" now, "end" with the exit code whatever happens inside."""
        started = time.monotonic()
        self.event("start", command=command, process=os.getpid(), **fields)
        code, why = 1, "a defect: see standard error"
        try:
            yield
            code, why = 0, ""
        except CinefuseError as refusal:
            code, why = refusal.exit_code, str(refusal)
            raise
        except KeyboardInterrupt:
            code, why = 130, "interrupted"
            raise
        finally:
            error = {"error": why} if why else {}
            self.event("end", exit_code=code, seconds=round(time.monotonic() - started, 3), **error)

    def message(self, text: str) -> None:
        """Write one line of information."""
        self.event("message", text=text)
        self._inner.message(text)

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: Unit = "items", *, work: int = 0) -> Iterator[Phase]:
        """Write the "progress" of a phase once a second and at its end."""
        with self._inner.phase(name, total, unit, work=work) as inner:
            phase = _RecordedPhase(name, total, unit, work, log=self, inner=inner)
            self.event("phase", name=name, **{unit: total})
            yield phase
            phase.record()


@dataclass(kw_only=True)
class _RecordedPhase(Phase):
    log: EventLog
    inner: Phase
    recorded: float = field(default_factory=time.monotonic)

    def advance(self, count: int, work: int = 0, size: int = 0) -> None:
        super().advance(count, work, size)
        self.inner.advance(count, work, size)
        if time.monotonic() - self.recorded >= _SECONDS_BETWEEN_EVENTS:
            self.record()

    def expect(self, total: int) -> None:
        super().expect(total)
        self.inner.expect(total)

    def record(self) -> None:
        self.recorded = time.monotonic()
        left = self.seconds_left
        items = {"rows_per_second": round(self.done / self.seconds, 3)} if self.unit == "items" else {}
        self.log.event(
            "progress",
            phase=self.name,
            **{f"{self.unit}_done": self.done, self.unit: self.total},
            **items,
            megabytes_per_second=round(self.megabytes_per_second, 3),
            seconds_left=None if left is None else round(left, 1),
        )


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRETS.sub(_hidden, value)
    if isinstance(value, dict):
        return {key: _without_secrets(inner) for key, inner in value.items()}
    return [_without_secrets(inner) for inner in value] if isinstance(value, list | tuple) else value


def _hidden(found: re.Match[str]) -> str:
    return f"{found[1]}=***" if found[1] else "***@" if found[0].endswith("@") else "***"
