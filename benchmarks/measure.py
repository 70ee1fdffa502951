"""What both benchmarks share: interleaved rounds and their medians, memory, the machine in words, Markdown tables."""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

QUIET = 0.05  # the share of the processors that others may take while something is timed


@dataclass(frozen=True)
class Rounds:
    """Seconds of several ways of doing the same work; each round ran all of them, one after another.

    `others` is the largest share of the processors that other programs took during any of these timings.
    """

    seconds: Mapping[str, Sequence[float]]
    others: float

    def median(self, way: str) -> float:
        """Seconds, the median over the rounds."""
        return median(self.seconds[way])

    def times_faster(self, way: str, than: str) -> float:
        """How many times faster `way` is, the median over the rounds: what slows one round slows both in it."""
        return median(b / a for a, b in zip(self.seconds[way], self.seconds[than], strict=True))

    def warn(self) -> None:
        """Say so where other programs were in the way."""
        if self.others > QUIET:
            print(f"DISTURBED: other programs took up to {100 * self.others:.0f} % of the processors meanwhile.\n")


def interleaved(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
    patience: int = 0,
) -> Rounds:
    """Time every way once a round by `clock`; a way that returns a float has timed itself.

    Each round begins with another way, so that none always runs in another's wake. A timing during which other
    programs were busy is repeated up to `patience` times, and the least disturbed one counts.
    """
    if warm_up:
        for way in ways.values():
            way()
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    most_disturbed = 0.0
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            others, took = min(_attempts(ways[name], clock, patience))
            seconds[name].append(took)
            most_disturbed = max(most_disturbed, others)
    return Rounds(seconds, most_disturbed)


def _attempts(way: Callable[[], object], clock: Callable[[], float], patience: int) -> Iterator[tuple[float, float]]:
    """The share that others took and the seconds of each timing, until one is undisturbed."""
    for _ in range(1 + patience):
        if patience:
            _wait_for_quiet(20)
        busy, wall, started = _busy_elsewhere(), time.perf_counter(), clock()
        found = way()
        took = found if isinstance(found, float) else clock() - started
        wall = time.perf_counter() - wall
        others = (_busy_elsewhere() - busy) / (wall * (os.cpu_count() or 1)) if wall > 0.2 else 0.0
        yield others, took
        if others <= QUIET:
            return


def _wait_for_quiet(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        busy = _busy_elsewhere()
        time.sleep(0.5)
        if (_busy_elsewhere() - busy) / (0.5 * (os.cpu_count() or 1)) <= QUIET:
            return


def _busy_elsewhere() -> float:
    """Processor seconds that programs other than this one have taken since the machine started."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:2])


def resident() -> float:
    """Bytes of this process in memory now, mapped file pages included."""
    return _status("VmRSS")


def most_resident() -> float:
    """The most bytes this process ever had in memory.

    Not `ru_maxrss`: a child process begins with its parent's there.
    """
    return _status("VmHWM")


def _status(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return float(found[1]) * 1024 if found else float("nan")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table: the first column left-aligned, the others right-aligned."""
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def heading(words: str) -> None:
    """Print a Markdown heading."""
    print(f"\n### {words}\n", flush=True)


def goal(reached: float, least: float) -> str:
    """A ratio beside the one to reach."""
    return f"**{reached:.2f}** (goal {least:g}{'' if reached >= least else ', missed'})"


def describe_machine(packages: Iterable[str]) -> None:
    """Print when, on what and with what these figures were made."""
    versions = [f"{name} {_version(name)}" for name in packages]
    load = " ".join(f"{value:.1f}" for value in os.getloadavg()[:2])
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · {_processor()} · {_memory()} · load before the run {load}")
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    print(f"`{' '.join(['python', *sys.argv])}`", flush=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.+)", text)
    native = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in text]
    return f"{os.cpu_count()} x {name[1] if name else platform.processor()} ({', '.join(native) or 'no native bf16'})"


def _memory() -> str:
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"


def start_of_command(times: int) -> float:
    """Seconds until `cinefuse --help` has answered, median of so many starts."""
    command = Path(sys.executable).with_name("cinefuse")
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run([command, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options of both benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="less of everything: a minute or two")
    parser.add_argument("--rounds", type=int, help="how often each way runs")
    parser.add_argument("--patience", type=int, default=0, help="how often a timing is repeated if others were busy")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the files are written")
    return parser
