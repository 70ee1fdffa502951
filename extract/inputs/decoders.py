"""Posters decoded in processes of their own, into one ring of memory that they share with this one.

What Python does for a poster beside decoding (opening, hashing, reading headers) holds the interpreter, so that threads
of one process stop at a few thousand posters a second however many cores there are. Each process here is driven by a
thread that waits for it; where a process ends, its thread decodes by itself. The ring has no name that could be left
behind: it goes when the last process that holds it goes, however that ends.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ...data.embeddings.status import Reason
from .pixel_recipe import PixelRecipe
from .pixels import poster_pixels
from .poster_files import PosterLimits, PosterProblem, read_poster

Pixels = npt.NDArray[np.uint8]

_MOST_AT_A_TIME = 32
_SECONDS_TO_END = 10
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from cinefuse.extract.inputs.decoders import serve
serve()
"""


def planned_poster(path: str, digest: bytes, root: Path, recipe: PixelRecipe, limits: PosterLimits) -> Pixels:
    """(H, W, 3) pixels of the file that the plan saw. Raises PosterProblem, also where the file is another by now."""
    raw = read_poster(path, root, limits)
    if sha256(raw).digest() != digest:
        raise PosterProblem(Reason.CHANGED)
    return poster_pixels(raw, recipe, limits)


@dataclass(frozen=True)
class Poster:
    """A poster of the plan: its path below the posters' folder and the SHA-256 of its bytes."""

    path: str
    digest: bytes


def _pixels_or_reason(poster: Poster, root: Path, recipe: PixelRecipe, limits: PosterLimits) -> Pixels | Reason:
    try:
        return planned_poster(poster.path, poster.digest, root, recipe, limits)
    except PosterProblem as problem:
        return problem.reason


@dataclass(frozen=True)
class Decoded:
    """One poster of several that are decoded together."""

    together: Future[list[Pixels | Reason]]
    place: int

    def result(self) -> Pixels:
        """(H, W, 3) pixels in the ring, once they are there. Raises PosterProblem."""
        found = self.together.result()[self.place]
        if isinstance(found, Reason):
            raise PosterProblem(found)
        return found


class Decoders:
    """``count`` processes that decode posters of one folder by one recipe.

    The pixels of a batch stay where they are until ``batches`` more have been begun; a batch has at most ``largest``
    posters. Enter it to start the processes; leaving it ends them. ``say`` gets one line where a process ended early.
    """

    def __init__(
        self,
        count: int,
        root: Path,
        recipe: PixelRecipe,
        limits: PosterLimits,
        *,
        largest: int,
        batches: int,
        say: Callable[[str], None],
    ) -> None:
        self._root, self._recipe, self._limits, self._say = root, recipe, limits, say
        self._largest, self._batches, self._begun = largest, batches, 0
        self._shape = (*recipe.output, 3)
        self._descriptor = _unnamed_memory(largest * batches * int(np.prod(self._shape)))
        self._ring = _mapped(self._descriptor, largest * batches, self._shape)
        self._children: list[_Child] = []
        self._free: list[_Child] = []  # not yet driven by a thread
        self._mine = threading.local()
        self._count, self._ended_early, self._said, self._ending = count, 0, False, False
        self._pool = ThreadPoolExecutor(count, "decode")

    def __enter__(self) -> Decoders:
        settings = {
            "root": str(self._root),
            "recipe": asdict(self._recipe),
            "limits": asdict(self._limits),
            "slots": len(self._ring),
            "descriptor": self._descriptor,
        }
        try:
            for _ in range(self._count):
                self._children.append(_Child(settings))
        except OSError:  # no more processes to be had: the other threads decode by themselves
            self._ended_early += self._count - len(self._children)
        except BaseException:
            self.__exit__()
            raise
        self._free += self._children
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.end()
        self._pool.shutdown()
        os.close(self._descriptor)

    def begin(self, posters: Sequence[Poster]) -> list[Decoded]:
        """Begin to decode the posters of the next batch."""
        if self._ended_early and not self._said:
            self._said = True
            self._say(f"{self._ended_early} of {self._count} decoders ended early: threads decode in their place")
        first = self._begun % self._batches * self._largest
        self._begun += 1
        decoded: list[Decoded] = []
        some = min(_MOST_AT_A_TIME, -(-len(posters) // self._count))
        for start in range(0, len(posters), max(1, some)):
            part = posters[start : start + some]
            together = self._pool.submit(self._decode, part, first + start)
            decoded += [Decoded(together, place) for place in range(len(part))]
        return decoded

    def _decode(self, posters: Sequence[Poster], slot: int) -> list[Pixels | Reason]:
        """In a thread of the pool: by its process where that lives, else here."""
        if not hasattr(self._mine, "child"):
            try:  # not first looked at and then taken: other threads take from it too
                self._mine.child = self._free.pop()
            except IndexError:
                self._mine.child = None
        child: _Child | None = self._mine.child
        if child is not None:
            try:
                reasons = child.decode(posters, slot)
                return [self._ring[slot + n] if reason == Reason.NONE else reason for n, reason in enumerate(reasons)]
            except (OSError, ValueError):  # it is gone, in the middle of a line perhaps
                self._mine.child = None
                if self._ending:
                    return []
                self._ended_early += 1
        return [_pixels_or_reason(poster, self._root, self._recipe, self._limits) for poster in posters]


class _Child:
    """A process that decodes; it ends when its standard input does."""

    def __init__(self, settings: dict[str, Any]) -> None:
        # no fork, and nothing of __main__: as well from a notebook or a test. A session of its own: Ctrl-C is for this
        # process, which then decides what is finished first.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[settings["descriptor"]],
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both are pipes")
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._settings: dict[str, Any] | None = settings

    def decode(self, posters: Sequence[Poster], slot: int) -> list[Reason]:
        """Have posters decoded into slots from ``slot`` on. Raises OSError or ValueError where the process is gone."""
        if self._settings is not None:
            _write_line(self._requests, self._settings)
            self._settings = None
        _write_line(self._requests, {"slot": slot, "posters": [(one.path, one.digest.hex()) for one in posters]})
        reasons = [Reason(code) for code in json.loads(self._answers.readline())]
        if len(reasons) != len(posters):
            raise ValueError(f"expected {len(posters)} answers, received {len(reasons)}")
        return reasons

    def end(self) -> None:
        """Let the process end, and make sure that it does."""
        with suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()


def serve() -> None:
    """What a process does: settings first, then posters, a line each, until standard input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    settings = json.loads(requests.readline() or "null")
    if settings is None:
        return
    recipe = PixelRecipe(**{name: _tupled(value) for name, value in settings["recipe"].items()})
    limits, root = PosterLimits(**settings["limits"]), Path(settings["root"])
    ring = _mapped(settings["descriptor"], settings["slots"], (*recipe.output, 3))
    for line in requests:
        request = json.loads(line)
        reasons: list[Reason] = []
        for slot, (path, digest) in enumerate(request["posters"], request["slot"]):
            found = _pixels_or_reason(Poster(path, bytes.fromhex(digest)), root, recipe, limits)
            if not isinstance(found, Reason):
                ring[slot], found = found, Reason.NONE
            reasons.append(found)
        _write_line(answers, [int(reason) for reason in reasons])


def side_by_side(images: list[Pixels]) -> Pixels:
    """(B, H, W, 3) of images (H, W, 3): a view where they lie one behind another in a ring, else a copy."""
    first = images[0]
    ring = first.base
    if isinstance(ring, np.ndarray) and ring.ndim == 1 and all(image.base is ring for image in images):
        begin, start = (array.__array_interface__["data"][0] for array in (first, ring))
        places = [image.__array_interface__["data"][0] for image in images]
        if places == [begin + number * first.nbytes for number in range(len(images))]:
            return ring[begin - start :][: len(images) * first.nbytes].reshape(len(images), *first.shape)
    return np.stack(images)


def _write_line(stream: IO[bytes], value: Any) -> None:
    stream.write(json.dumps(value).encode() + b"\n")
    stream.flush()


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _unnamed_memory(length: int) -> int:
    """A descriptor of so many bytes of memory without a name, or of an unlinked file where the system has none."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("cinefuse posters")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, length)
    return descriptor


def _mapped(descriptor: int, slots: int, shape: tuple[int, ...]) -> Pixels:
    """(slots, H, W, 3) uint8 over the memory behind a descriptor."""
    memory = mmap.mmap(descriptor, slots * int(np.prod(shape)))
    return np.frombuffer(memory, np.uint8).reshape(slots, *shape)
