"""Real processes that start in milliseconds: a server imports once what they need and forks itself for each of them.

    python -m cinefuse.tests.support.forked MODULE...

imports the modules and reads one job a line from standard input: {"function", "arguments", "stage", "out", "err"}. It
prints the new process's id, "reached" when that process gets to the stage, and at its end the exit code (negative: the
signal).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer.main

from cinefuse.tests.support.commands import Ended

QUICK_STUDY = ("--set", "epochs=1", "--set", "factor_steps=8", "--set", "adapt=false")
COMMAND = "cinefuse.tests.support.forked:command"
_ENVIRONMENT = dict(os.environ)  # as it is before any test changes it


class ForkServer:
    """Starts processes by forking one that has imported `modules` already; one process at a time."""

    def __init__(self, *modules: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *modules],
            env=_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._out = self._err = Path(os.devnull)
        self._child, self._runs = 0, False

    def start(
        self,
        function: str,
        *,
        stage: str = "",
        out: Path = Path(os.devnull),
        err: Path | None = None,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
        **arguments: Any,
    ) -> int:
        """Call `function` (module:name) with these arguments in a new process that ends with what it returns; its id.

        `out` and `err` take its output; without `err` its errors come out of the tests. At `stage`
        (module:attribute, or module:attribute#n for the nth call) it waits for a signal. It works in `folder`, with
        `environment` on top of the one that the tests began in.
        """
        assert self._process.stdin is not None
        if self._runs:  # a test that failed left it
            self.kill()
        files = {"out": str(out), "err": str(err) if err else ""}
        where = {"folder": str(folder or Path.cwd()), "environment": environment or {}}
        job = {"function": function, "arguments": arguments, "stage": stage, **files, **where}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._out, self._err = out, err or Path(os.devnull)
        self._child, self._runs = int(self._line()), True
        return self._child

    def wait_for_stage(self) -> None:
        """Return when the process started last is at its stage."""
        line = self._line()
        self._runs = line == "reached"
        assert self._runs, f"it ended with {line}: {self._err.read_text()}"

    def wait(self) -> int:
        """The exit code of the process started last."""
        while (line := self._line()) == "reached":  # other threads of that stage
            pass
        self._runs = False
        return int(line)

    def kill(self) -> bool:
        """Kill the process started last; whether it still lived."""
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def ended(self) -> Ended:
        """How the process started last ended, with what it wrote into its files."""
        return Ended(self.wait(), self._out.read_text(), self._err.read_text())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class ForkedCommands:
    """Runs `cinefuse` in processes of their own that need not import anything; `folder` keeps their output."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self._start, self._out, self._err = server.start, folder / "out", folder / "err"
        self.wait_for_stage, self.kill, self.ended = server.wait_for_stage, server.kill, server.ended

    def start(self, *words: object, stage: str = "", **where: Any) -> int:
        """Start `cinefuse` with these words, `where` its folder and environment say; its process id."""
        argv = [str(word) for word in words]
        return self._start(COMMAND, stage=stage, out=self._out, err=self._err, argv=argv, **where)

    def run(self, *words: object, **where: Any) -> Ended:
        """Run `cinefuse` with these words to its end."""
        self.start(*words, **where)
        return self.ended()

    def quick_demo(self, folder: Path, *words: object) -> Ended:
        """Run `cinefuse demo` with these words in that folder, its models trained a few steps each."""
        argv = [str(word) for word in words]
        self._start(f"{__name__}:quick_demo", out=self._out, err=self._err, folder=folder, argv=argv)
        return self.ended()

    def interrupt_at(self, stage: str, *words: object) -> Ended:
        """Start `cinefuse` with these words and press Ctrl-C at that stage; how it ended."""
        process = self.start(*words, stage=stage)
        self.wait_for_stage()
        os.kill(process, signal.SIGINT)
        return self.ended()


def quick_demo(argv: list[str]) -> None:
    """`cinefuse demo --out demo`, whose models train a few steps each."""
    from cinefuse import cli

    cli.DEMO_STUDY = [*cli.DEMO_STUDY, *QUICK_STUDY]
    command(["demo", "--out", "demo", *argv])


def command(argv: list[str]) -> None:
    """`cinefuse` as a shell starts it; it leaves by SystemExit, so that what is registered for the exit runs too."""
    from cinefuse import cli

    sys.argv = ["cinefuse", *argv]
    cli.main()


def _wait_at(stage: str, channel: int) -> None:
    """Replace the attribute that `stage` names by one that says so and waits, at its nth call."""
    module, _, path = stage.partition(":")
    path, _, times = path.partition("#")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    real, left = getattr(owner, name), int(times or 1)

    def waiting(*words: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left > 0:
            return real(*words, **options)
        os.write(channel, b"reached\n")
        time.sleep(60)
        return None

    setattr(owner, name, waiting)


def _named(function: str) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def _serve(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    if "cinefuse.cli" in modules:
        from cinefuse import cli

        typer.main.get_command(cli.app)  # imports what commands are made of, once for all of them
    channel = os.dup(1)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(job["out"], flags), 1)
            if job["err"]:
                os.dup2(os.open(job["err"], flags), 2)
            os.chdir(job["folder"])
            os.environ.update(job["environment"])
            if job["stage"]:
                _wait_at(job["stage"], channel)
            os.write(channel, b"%d\n" % os.getpid())
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us behind & ignores it
            os._exit(_named(job["function"])(**job["arguments"]))
        _, status = os.waitpid(child, 0)
        os.write(channel, b"%d\n" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _serve(sys.argv[1:])
