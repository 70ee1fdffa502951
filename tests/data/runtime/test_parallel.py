"""Work spread over threads: in order, a few ahead, and over when it says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cinefuse.data.formats.compression import compress, decompress
from cinefuse.data.formats.number_format import convert
from cinefuse.data.runtime import parallel as module
from cinefuse.data.runtime.parallel import side_by_side

GOLDEN = Path(__file__).parents[2] / "golden"
several = pytest.mark.parametrize("threads", [1, 2, 4])


@pytest.fixture(autouse=True)
def _some_threads(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    threads = request.node.callspec.params["threads"] if hasattr(request.node, "callspec") else 2
    monkeypatch.setattr(module, "_threads", lambda: threads)


@several
def test_results_come_in_the_order_of_the_pieces(threads: int) -> None:
    def slowest_first(piece: int) -> int:
        time.sleep((40 - piece) * 2e-4)
        return piece * piece

    with side_by_side(slowest_first, range(40)) as results:
        assert list(results) == [piece * piece for piece in range(40)]


@several
def test_only_a_few_pieces_are_drawn_ahead(threads: int) -> None:
    drawn = 0

    def pieces() -> Iterator[int]:
        nonlocal drawn
        for piece in range(100):
            drawn += 1
            yield piece

    with side_by_side(lambda piece: piece, pieces()) as results:
        for taken in results:
            assert drawn <= taken + 2 * threads


@several
def test_an_error_comes_out_where_the_result_would(threads: int) -> None:
    def fails_at_five(piece: int) -> int:
        if piece >= 5:
            raise ValueError(piece)
        return piece

    found: list[int] = []
    with pytest.raises(ValueError, match=r"^5$"), side_by_side(fails_at_five, range(100)) as results:
        found.extend(results)
    assert found == [0, 1, 2, 3, 4]


@several
def test_nothing_is_at_work_once_an_interrupt_has_left_the_block(threads: int) -> None:
    at_work, begun = threading.Semaphore(0), 0

    def slow(piece: int) -> int:
        nonlocal begun
        begun += 1
        time.sleep(0.02)
        at_work.release()
        return piece

    def interrupted() -> None:
        with side_by_side(slow, range(100)) as results:
            next(results)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert at_work._value == begun < 100  # whatever began has ended, and nothing begins any more
    assert not any(thread.name.startswith("side-by-side") for thread in threading.enumerate())


@several
def test_files_are_the_same_to_the_last_byte_however_many_threads_make_them(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cinefuse.data.formats.number_format._VALUES", 64)
    monkeypatch.setattr("cinefuse.data.formats.compression._BLOCK", 1000)
    source = GOLDEN / "text_image_float16.h5"

    def made(folder: Path) -> dict[str, bytes]:
        folder.mkdir()
        for dtype in ("float32", "bfloat16", "int8"):
            convert(source, folder / dtype, dtype)
        for compression in ("gzip", "zstd"):
            compress(source, folder / compression, compression)
            decompress(folder / compression, folder / f"{compression}.h5")
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    here = made(tmp_path / "here")
    monkeypatch.setattr(module, "_threads", lambda: 1)
    assert here == made(tmp_path / "alone")
    assert here["zstd.h5"] == here["gzip.h5"] == source.read_bytes()
