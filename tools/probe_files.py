"""What a linear probe reads from embedding files about genres: `python -m tools.probe_files FILE.h5 ... --data DATA`.

For files over the films of MovieLens 1M, whatever encoders made them. Films are divided as for the encoders that ship
with cinefuse (`films.Films`), so that those are measured on films they were not trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.modality import Modality

from .films import Films
from .probe import Matrix, Probed, probes


def main() -> None:
    """Prints a row for each file, modality and kind of vector: macro mAP on validation and held-out films."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+", help="embedding files over the films of MovieLens 1M")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of items-ml-1m.parquet and items-ml-100k.parquet"
    )
    given = parser.parse_args()
    films = Films.read(given.data)
    print("| file | of | width | vector | validation | held out |\n|---|---|---:|---|---:|---:|")
    for path in given.files:
        with EmbeddingFile.open(path) as file:
            for name in file.header.modalities:
                for kind, width, found in probed(films, np.asarray(file.ids), file[name]):
                    print(
                        f"| {path.name} | {name} | {width} | {kind} | {found.validation:.3f} | {found.held_out:.3f} |",
                        flush=True,
                    )


def probed(films: Films, ids: np.ndarray, modality: Modality) -> Iterator[tuple[str, int, Probed]]:
    """Probes of the item's vector, of the mean of its tokens, and of both side by side; with their widths."""
    row_of = {int(item): row for row, item in enumerate(ids) if modality.has_embedding[row]}
    places = np.array([place for place, film in enumerate(films.ids) if film in row_of])
    rows = [row_of[films.ids[place]] for place in places]
    masks = [films.among(part)[places] for part in ("train", "validation", "held-out")]
    vector: Matrix = np.stack([modality.read_cls(row) for row in rows])
    mean: Matrix = np.stack([modality.read_tokens(row).mean(0) for row in rows])
    yield from probes(vector, mean, films.genres[places], *masks)


if __name__ == "__main__":
    main()
