"""The interface of a remote file, and reading byte ranges of one with retries, several requests at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final, Protocol

from .retry import Retry, TransientTransferError

REQUEST: Final = 8 * 2**20  # bytes of one request: large against a round trip, small enough to be lost
IN_FLIGHT: Final = 6
WIDEST_GAP: Final = 2**18  # about what a connection brings during one round trip
WASTE: Final = 0.05  # bytes that may be read for nothing, as a share of those that are needed
LEAST_WASTE: Final = 2**16  # of a small part a little more: fewer round trips


class RemoteFile(Protocol):
    """A remote file. Neither `shown` nor any error message holds credentials."""

    @property
    def shown(self) -> str:
        """Its address as it may be shown and recorded."""

    @property
    def size(self) -> int | None:
        """Its bytes; None where the server does not say."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What identifies this version of the content: ETag, date, version, as far as known."""

    @property
    def ranges(self) -> bool:
        """Whether parts can be read."""

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the whole as its store knows it; None where the store does not."""

    def stream(self, start: int, stop: int | None) -> Generator[bytes, None, None]:
        """Its bytes from `start` to `stop` (None: the end), in blocks, perhaps fewer than requested.

        Raises TransientTransferError where a retry may help, DamagedFile where the server sends anything but the
        requested range or the file has changed, BadInput where it refuses.
        """

    def check_unchanged(self) -> None:
        """Raise DamagedFile unless all that was read since the start belongs to one and the same file."""

    def sidecar(self, suffix: str) -> bytes | None:
        """The small file beside it whose name is this one's and `suffix`; None where there is none."""


class TransferProgress:
    """Receives the progress of a transfer; this one ignores it."""

    def expect(self, total: int) -> None:
        """The total number of bytes."""

    def advance(self, count: int) -> None:
        """Count bytes that arrived; negative where some were thrown away."""


@dataclass(frozen=True, order=True)
class Span:
    """Bytes `start` to `stop` of a file."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def pieces(self, largest: int = REQUEST) -> Generator[Span, None, None]:
        """The span cut into requests."""
        for start in range(self.start, self.stop, largest):
            yield Span(start, min(start + largest, self.stop))


def coalesced(
    spans: Sequence[Span], widest_gap: int = WIDEST_GAP, waste: float = WASTE, least: int = LEAST_WASTE
) -> list[Span]:
    """The spans in order, overlaps joined, and gaps read over where that saves a request for few bytes.

    The narrowest gaps are closed first, as long as the bytes read for nothing stay below `waste` of those needed (or
    `least`, if that is more).
    """
    joined: list[Span] = []
    for span in sorted(span for span in spans if len(span)):
        if joined and span.start <= joined[-1].stop:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    left = max(waste * sum(map(len, joined)), least)
    closed = set()
    for gap, index in sorted((b.start - a.stop, i) for i, (a, b) in enumerate(pairwise(joined))):
        left -= gap
        if gap > widest_gap or left < 0:
            break
        closed.add(index)
    result: list[Span] = []
    for index, span in enumerate(joined):
        if index - 1 in closed:
            result[-1] = Span(result[-1].start, span.stop)
        else:
            result.append(span)
    return result


def read_span(remote: RemoteFile, span: Span, retry: Retry) -> bytes:
    """All bytes of `span`, however often the connection breaks. Raises BadInput, DamagedFile."""
    content, retry = bytearray(), retry.renewed()
    while len(content) < len(span):
        before = len(content)
        fault: Exception = TransientTransferError("the connection closed before the end")
        try:
            for block in remote.stream(span.start + before, span.stop):
                content += block
                if retry.given_up.is_set():
                    break
        except TransientTransferError as torn:
            fault = torn
        if len(content) > before:
            retry.reset()
        if len(content) < len(span):
            retry.wait_after(remote.shown, fault)
    return bytes(content)


def read_in_order(remote: RemoteFile, spans: Sequence[Span], retry: Retry, arrived: Callable[[bytes], None]) -> None:
    """Read `spans`, several requests in flight, and hand over their bytes in order."""
    pieces = (piece for span in spans for piece in span.pieces())
    retry.given_up.clear()
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="transfer") as pool:
        waiting: list[Future[bytes]] = []
        try:
            for piece in islice(pieces, IN_FLIGHT):
                waiting.append(pool.submit(read_span, remote, piece, retry))
            while waiting:
                content = waiting.pop(0).result()
                if following := next(pieces, None):
                    waiting.append(pool.submit(read_span, remote, following, retry))
                arrived(content)
        except BaseException:
            retry.given_up.set()
            raise
        finally:
            for future in waiting:
                future.cancel()
