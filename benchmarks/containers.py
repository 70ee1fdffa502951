"""Posters read and decoded out of a tar, a zip or a Parquet file, beside the same posters as files of their own.

    python benchmarks/containers.py [--quick] [--posters 1024]

CPU seconds of one thread, so that other programs matter little. Needs MovieLens films with posters (--data).
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from inputs import DATA, films
from measure import arguments, describe_machine, goal, heading, interleaved, table

from cinefuse.data.dataset.posters.members import Member, archive_members
from cinefuse.extract.inputs.pixels import decode_poster
from cinefuse.extract.inputs.poster_files import PosterLimits, read_poster

FILES = "files"
_ROWS_IN_GROUP = 100
_LIMITS = PosterLimits()


def containers(posters: list[Path], folder: Path) -> dict[str, list[str]]:
    """The same posters as files, in a tar, in a zip and in Parquet: how `read_poster` names each, in one order."""
    names = [f"{number:05}{poster.suffix}" for number, poster in enumerate(posters)]
    (folder / "files").mkdir()
    with tarfile.open(folder / "posters.tar", "w") as tar, zipfile.ZipFile(folder / "posters.zip", "w") as archive:
        for name, poster in zip(names, posters, strict=True):
            shutil.copyfile(poster, folder / "files" / name)
            tar.add(poster, name)
            archive.write(poster, name)
    images = pa.array([{"bytes": poster.read_bytes()} for poster in posters])
    pq.write_table(pa.table({"image": images}), folder / "posters.parquet", row_group_size=_ROWS_IN_GROUP)
    found = {FILES: [f"files/{name}" for name in names]}
    for file in ("posters.tar", "posters.zip"):
        found[file[8:]] = [str(member) for _, member in archive_members(folder / file)]
    cells = (divmod(number, _ROWS_IN_GROUP) for number in range(len(posters)))
    found["parquet"] = [str(Member("posters.parquet", column="image.bytes", group=g, row=r)) for g, r in cells]
    return found


def main() -> None:
    """Print posters per CPU second of each way, without decoding and with it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of items-ml-1m.parquet and its posters")
    parser.add_argument("--posters", type=int, help="how many posters")
    options = parser.parse_args()
    describe_machine(["pillow", "pyarrow"])
    count = options.posters or (200 if options.quick else 2000)
    chosen = films(options.data).drop_nulls("poster").head(count)["poster"].to_list()
    folder = Path(tempfile.mkdtemp(prefix="cinefuse-benchmark-", dir=options.folder))
    try:
        references = containers([options.data / poster for poster in chosen], folder)

        def blocks(way: str, decoding: bool) -> Callable[[], None]:
            """Reads the next row group's posters each time: ways take turns often, so that all are disturbed alike."""
            starts = cycle(range(0, len(chosen), _ROWS_IN_GROUP))

            def block() -> None:
                start = next(starts)
                for reference in references[way][start : start + _ROWS_IN_GROUP]:
                    content = read_poster(reference, folder, _LIMITS)
                    if decoding:
                        decode_poster(content, _LIMITS)

            return block

        heading(f"Reading {len(chosen)} posters out of containers, CPU seconds of one thread")
        passes = options.rounds or (2 if options.quick else 15)
        rounds = passes * -(-len(chosen) // _ROWS_IN_GROUP)
        read_only, whole = (
            interleaved({way: blocks(way, decoding) for way in references}, rounds, clock=time.process_time)
            for decoding in (False, True)
        )
        table(
            ["", "reading 100, ms", "reading and decoding 100, ms", "against files"],
            (
                [
                    way,
                    f"{1000 * read_only.median(way):.2f}",
                    f"{1000 * whole.median(way):.1f}",
                    goal(whole.times_faster(way, FILES), 1.0),
                ]
                for way in references
            ),
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
