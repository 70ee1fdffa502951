"""The part of a remote file that has arrived: its spans one after another in OUT.part, which grows in order.

So the part file's length is how far the transfer got, whenever it was killed; OUT.part.json names its source.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runtime.disk import read_all, write_all, write_atomically, writing
from ..runtime.errors import DamagedFile, NoSpace
from .remote_file import RemoteFile, Span, TransferProgress, read_in_order
from .retry import Retry, TransientTransferError


class PartialDownload:
    """The part file of one download. `wanted` describes what is downloaded: another download never continues its bytes.

    `resumed` counts the bytes that an earlier call left here. Hold `sole_writer` of the final name.
    """

    def __init__(
        self,
        path: Path,
        remote: RemoteFile,
        wanted: object,
        retry: Retry,
        progress: TransferProgress,
    ) -> None:
        self.path = path
        self._remote, self._retry, self._progress = remote, retry, progress
        retry.part = path
        self._label = path.with_name(path.name + ".json")
        label = {"source": remote.shown, "size": remote.size, "version": dict(remote.identity), "wanted": wanted}
        if not self._continues(label):
            self.discard()
            write_atomically(self._label, json.dumps(label, indent=1).encode())
        with writing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.length = self.resumed = os.fstat(self._descriptor).st_size
        self._starts: list[int] = []
        self._spans: list[tuple[Span, int]] = []
        self._end = 0

    def __enter__(self) -> PartialDownload:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def size(self) -> int:
        """Bytes of the whole remote file."""
        return self._remote.size if self._remote.size is not None else self._end

    @property
    def received(self) -> int:
        """Bytes that arrived since the download was opened or emptied."""
        return self.length - self.resumed

    def expect(self, coming: int) -> None:
        """Announce bytes still to be fetched beyond those requested so far."""
        self._progress.expect(self._end + coming)

    def fetch(self, spans: Sequence[Span]) -> None:
        """Append these spans to the part file; what an earlier call brought is not fetched again.

        The same remote file and the same calls in the same order give the same part file.
        """
        spans = self._without_fetched(spans)
        self._refuse_small_disk(sum(map(len, spans)))
        missing = []
        for span in spans:
            behind = min(max(self.length - self._end, 0), len(span))
            self._progress.advance(behind)
            if behind < len(span):
                missing.append(Span(span.start + behind, span.stop))
            self._note(span)
        read_in_order(self._remote, missing, self._retry, self._append)

    def fetch_whole(self, *, parallel: bool = True) -> None:
        """Make the part file the whole remote file, with ranges or without.

        With `parallel` several large ranges are read at once, and a killed call loses those in flight; else one
        connection brings the rest, and every block of it is kept.
        """
        size = self._remote.size
        if parallel and self._remote.ranges and size is not None:
            self.fetch([Span(0, size)])
            return
        if self._remote.ranges:
            self._progress.advance(self.length)
        if size is not None:
            self._refuse_small_disk(size)
        retry = self._retry.renewed()
        while True:
            if not self._remote.ranges:
                self.truncate()  # without ranges the transfer starts over
            before = self.length
            fault: Exception = TransientTransferError("the connection closed before the end")
            try:
                if size is None or self.length < size:
                    for block in self._remote.stream(self.length, None):
                        self._append(block)
                if size is None or self.length >= size:
                    self._note(Span(0, self.length))
                    return
            except TransientTransferError as transient:
                fault = transient
            if self._remote.ranges and self.length > before:
                retry.reset()
            elif not self._remote.ranges:
                self._progress.advance(-self.length)
            retry.wait_after(self._remote.shown, fault)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the remote file, out of what was fetched. Raises DamagedFile where they are not among it."""
        content = bytearray(length)
        done = 0
        while done < length:
            span, place = self._holding(offset + done)
            count = min(span.stop, offset + length) - offset - done
            read_all(self._descriptor, memoryview(content)[done : done + count], place + offset + done - span.start)
            done += count
        return bytes(content)

    def _without_fetched(self, spans: Sequence[Span]) -> list[Span]:
        """The spans without what lies in the file's head, which is read first and reaches into other spans."""
        head = 0
        for span, _ in self._spans:
            if span.start > head:
                break
            head = max(head, span.stop)
        return [Span(max(span.start, head), span.stop) for span in spans if span.stop > head]

    def _refuse_small_disk(self, needed: int) -> None:
        free = os.fstatvfs(self._descriptor)
        missing = self._end + needed - self.length
        if missing > free.f_bavail * free.f_frsize:
            raise NoSpace(f"{self.path}: expected {missing:,} bytes of free disk, found too few; free some space")

    def _holding(self, offset: int) -> tuple[Span, int]:
        """The fetched span that holds the byte at `offset`, and where the span lies in the part file."""
        for index in range(bisect_right(self._starts, offset) - 1, -1, -1):
            if offset < self._spans[index][0].stop:
                return self._spans[index]
        raise DamagedFile(f"{self._remote.shown}: expected byte {offset:,} among those fetched")

    def truncate(self) -> None:
        """Drop everything that arrived: an empty part file."""
        with writing(self.path):
            os.ftruncate(self._descriptor, 0)
        self.length = self.resumed = self._end = 0
        self._starts.clear()
        self._spans.clear()

    def discard(self) -> None:
        """Remove the part file and its description."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)
            self._label.unlink(missing_ok=True)

    def discard_label(self) -> None:
        """Remove the description alone: the part file has got its final name."""
        self._label.unlink(missing_ok=True)

    def _continues(self, label: dict[str, Any]) -> bool:
        try:
            return bool(json.loads(self._label.read_bytes()) == label)
        except (OSError, ValueError):
            return False

    def _note(self, span: Span) -> None:
        index = bisect_right(self._starts, span.start)
        self._starts.insert(index, span.start)
        self._spans.insert(index, (span, self._end))
        self._end += len(span)

    def _append(self, content: bytes) -> None:
        with writing(self.path):
            write_all(self._descriptor, content, self.length)
        self.length += len(content)
        self._progress.advance(len(content))
