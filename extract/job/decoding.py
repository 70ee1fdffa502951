"""Whether threads or processes decode posters, and how many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...data.runtime.processor import usable_cores
from ...data.runtime.progress import Progress
from ..inputs.decoders import Decoders
from ..inputs.poster_files import PosterLimits
from ..inputs.processor_pixels import Pixels, ProcessorPixels
from .feeds import Feed, PosterFeed
from .loop import BATCHES_AHEAD

_FEW_CORES = 8
_MOST_DECODERS = 16
_FEW_POSTERS = 1000  # starting a process takes about as long as decoding some hundred


def decoder_count(wanted: int | None, kind: str, posters: int) -> int:
    """How many processes decode ``posters`` for an encoder on that kind of device; 0: threads do it.

    Left open (None), as many as there are cores but for one, where an accelerator encodes or cores are many: with few
    cores, an encoder on the processor is the slowest part by far.
    """
    if wanted is not None:
        return min(wanted, posters)
    cores = usable_cores()
    if posters < _FEW_POSTERS or cores < 3 or (kind == "cpu" and cores < _FEW_CORES):
        return 0
    return min(cores - 1, _MOST_DECODERS)


@contextmanager
def decoded_by_processes(
    feed: Feed,
    count: int,
    largest: int,
    root: Path,
    recipe: Pixels | None,
    limits: PosterLimits,
    progress: Progress,
) -> Iterator[Feed]:
    """The feed, with processes that decode its posters where ``count`` is not 0; a batch has at most ``largest``."""
    if not count or not isinstance(feed, PosterFeed) or recipe is None or isinstance(recipe, ProcessorPixels):
        yield feed
        return
    try:
        decoders = Decoders(
            count, root, recipe, limits, largest=largest, batches=BATCHES_AHEAD + 1, say=progress.message
        )
    except OSError as error:
        progress.message(f"posters are decoded in threads: no memory to share with processes ({error.strerror})")
        yield feed
        return
    with decoders:
        yield feed.decoding(decoders)
