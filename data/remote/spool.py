"""What has arrived of a remote file: its spans one after another in OUT.h5.part, which grows in order.

So the part file's length says how far the transfer is, whenever it was killed; OUT.h5.part.json says of what.
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
from .remote_file import RemoteFile, Span, Torn, Watched, read_in_order
from .retry import Patience


class Spool:
    """The part file of one pull. `wanted` says what is pulled, so that another pull never continues this one's bytes.

    `resumed` counts the bytes that an earlier call left here. Hold `sole_writer` of the final name.
    """

    def __init__(
        self,
        path: Path,
        remote: RemoteFile,
        wanted: object,
        patience: Patience,
        watched: Watched,
    ) -> None:
        self.path = path
        self._remote, self._patience, self._watched = remote, patience, watched
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

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def size(self) -> int:
        """Bytes of the whole remote file."""
        return self._remote.size if self._remote.size is not None else self._end

    @property
    def received(self) -> int:
        """Bytes that arrived since the spool was opened or emptied."""
        return self.length - self.resumed

    def watch(self, coming: int) -> None:
        """So many bytes are to be fetched behind those asked for until now."""
        self._watched.expect(self._end + coming)

    def fetch(self, spans: Sequence[Span]) -> None:
        """Let the part file hold these spans behind those fetched before; what an earlier call brought stays.

        The same remote file and the same calls in the same order give the same part file.
        """
        spans = self._without_fetched(spans)
        self._refuse_small_disk(sum(map(len, spans)))
        missing = []
        for span in spans:
            behind = min(max(self.length - self._end, 0), len(span))
            self._watched.advance(behind)
            if behind < len(span):
                missing.append(Span(span.start + behind, span.stop))
            self._note(span)
        read_in_order(self._remote, missing, self._patience, self._append)

    def fetch_whole(self) -> None:
        """Let the part file be the whole remote file, however its server sends it."""
        size = self._remote.size
        if self._remote.ranges and size is not None:
            self.fetch([Span(0, size)])
            return
        patience = self._patience.another()
        while True:
            self.truncate()  # a server that cannot continue begins anew
            fault: Exception = Torn("the connection closed before the end")
            try:
                for block in self._remote.stream(0, None):
                    self._append(block)
                if size is None or self.length == size:
                    self._note(Span(0, self.length))
                    return
            except Torn as torn:
                fault = torn
            self._watched.advance(-self.length)
            patience.wait_after(self._remote.shown, fault)

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
        """Forget everything that arrived, and go on with an empty part file."""
        with writing(self.path):
            os.ftruncate(self._descriptor, 0)
        self.length = self.resumed = self._end = 0
        self._starts.clear()
        self._spans.clear()

    def discard(self) -> None:
        """Remove the part file and what describes it."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)
            self._label.unlink(missing_ok=True)

    def discard_label(self) -> None:
        """The part file became the file itself: nothing is left to describe."""
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
        self._watched.advance(len(content))
