"""The page that walks an embedding file: films on a map, their neighbours by plot and by poster, and what is missing.

Everything the page shows is computed here and lies inside it. Of a file too large for a page films are drawn at
random with a fixed seed, those with embeddings first; only their rows are ever read.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..embeddings.status import Reason, Status
from ..runtime.errors import UsageError
from ..runtime.progress import NoProgress, Progress
from .browse_films import Films, chosen_rows, embedded_items, film_columns, films_of
from .item_vectors import VectorKind, film_vectors, has_vector
from .neighbours import Neighbours, nearest, unit_length
from .page import render
from .poster_sheets import POSTER, SHEET, TILE, Posters, small_posters
from .projection import NEIGHBOURS_FOR_MAP, neighbour_map, principal_plane

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..embeddings.file import EmbeddingFile
    from ..embeddings.modality import Modality

_TEMPLATE = Path(__file__).parent / "templates" / "browse.html"

NEIGHBOURS_SHOWN = 12
FILMS_SHOWN = 5_000
MOST_FILMS = 20_000  # beyond, the page would be some 120 MB and its map no longer smooth
_NOBODY = 0xFFFF
_POSTERS_TOGETHER = 64
NAMES = {"text": "plot", "image": "poster", "both": "both"}


def browse_page(
    file: EmbeddingFile,
    dataset: Path | None = None,
    *,
    limit: int = FILMS_SHOWN,
    vector: VectorKind | None = None,
    progress: Progress | None = None,
) -> str:
    """The whole page as HTML, self-contained; equal input gives equal pages.

    `vector` is what stands for a film: the CLS or the mean of its tokens; None takes the mean where the file has
    tokens. Of more films than `limit` that many are drawn at random. Raises UsageError for a limit beyond 20,000 or a
    mean where there are no tokens, BadInput where the dataset is none or has not one of the file's films.
    """
    progress = progress or NoProgress()
    if not 1 <= limit <= MOST_FILMS:
        raise UsageError(f"--limit {limit}: expected 1 to {MOST_FILMS:,} films; a page of more would not open well")
    embedded = embedded_items(file)
    rows = chosen_rows(embedded, limit)
    if len(rows) < len(file):
        progress.message(
            f"{file.path}: {len(file):,} films, of which {len(rows):,} drawn at random are shown"
            f"{_first(embedded)} (see --limit)"
        )
    films = films_of(file, rows, dataset)
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    kinds: dict[str, VectorKind] = {}
    for name in file.modalities:
        kinds[name] = _kind(file, name, vector)
        with progress.phase(f"reading {NAMES[name]}s", len(rows)) as phase:
            vectors[name] = film_vectors(file[name], rows, kinds[name])
            phase.advance(len(rows))
    with progress.phase("neighbours, maps", 3 * len(vectors) - (len(vectors) == 1)) as phase:
        near = {}
        for name, values in vectors.items():
            near[name] = nearest(values, NEIGHBOURS_FOR_MAP)
            phase.advance(1)
        maps = []
        for name, values, close in _spaces(vectors, near):
            maps += film_maps(name, values, close)
            phase.advance(1)
    with progress.phase("posters", len(rows)) as phase:
        paths, root = films.posters, films.poster_root
        posters = Posters([], [])
        if root is not None:
            posters = small_posters(root, paths, phase.advance)
    states = {name: _states(file[name], rows, vectors[name]) for name in file.modalities}
    page = {
        "films": film_columns(films),
        "pictured": "".join("1" if picture else "0" for picture in posters.pictures),
        "sheet": {"tile": TILE, "across": SHEET[0], "down": SHEET[1], "poster": POSTER, "together": _POSTERS_TOGETHER},
        "maps": maps,
        "states": states,
        "near": {name: _encoded_neighbours(found.first(NEIGHBOURS_SHOWN)) for name, found in near.items()},
        "names": NAMES,
    }
    return render(
        _TEMPLATE,
        page=page,
        about=_about(file, films, kinds, states) | {"absent": not embedded.all()},
        sheets=posters.sheets,
        pictures=_together(posters.pictures),
    )


def vector_kind(name: str | None) -> VectorKind | None:
    """The kind of vector of that name, None for None. Raises UsageError for any other name."""
    kinds: dict[str | None, VectorKind | None] = {None: None, "cls": "cls", "mean": "mean"}
    if name not in kinds:
        raise UsageError(f"--vector {name}: expected cls or mean")
    return kinds[name]


def _first(embedded: npt.NDArray[np.bool_]) -> str:
    return "" if embedded.all() else ", those with embeddings first"


def film_maps(name: str, vectors: npt.NDArray[np.float32], near: Neighbours) -> list[dict[str, Any]]:
    """The maps of one space: "near" (t-SNE of the neighbours) and "main" (principal components), ready for the page."""
    there = np.flatnonzero(has_vector(vectors))
    plane = principal_plane(unit_length(vectors[there]))
    row_of = np.full(len(vectors) + 1, -1)
    row_of[there] = np.arange(len(there))
    among = Neighbours(row_of[near.place[there]], near.cosine[there])
    layouts = {"near": neighbour_map(among, plane), "main": plane}
    return [
        {"space": name, "layout": layout, "placed": len(there), "at": _encoded_places(places, there, len(vectors))}
        for layout, places in layouts.items()
    ]


def _together(pictures: list[str]) -> list[str]:
    """Pictures joined a line each, so many in a part that a browser takes one apart in no time."""
    return ["\n".join(pictures[at : at + _POSTERS_TOGETHER]) for at in range(0, len(pictures), _POSTERS_TOGETHER)]


def _spaces(
    vectors: dict[str, npt.NDArray[np.float32]], near: dict[str, Neighbours]
) -> list[tuple[str, npt.NDArray[np.float32], Neighbours]]:
    spaces = [(name, values, near[name]) for name, values in vectors.items()]
    if len(vectors) == 2:
        both = both_vectors(*vectors.values())
        spaces.append(("both", both, nearest(both, NEIGHBOURS_FOR_MAP)))
    return spaces


def both_vectors(*parts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Parts side by side with equal weight: each of length 1, centred, brought to variance 1. NaN where one is."""
    there = np.logical_and.reduce([has_vector(part) for part in parts])
    both = np.full((len(there), sum(part.shape[1] for part in parts)), np.nan, np.float32)
    if there.any():
        both[there] = np.concatenate([_standard(unit_length(part[there])) for part in parts], axis=1)
    return both


def _standard(unit: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    centred = unit - unit.mean(axis=0)
    spread = float(np.sqrt((centred**2).sum(axis=1).mean()))
    standard: npt.NDArray[np.float32] = centred / np.float32(spread if spread > 0 else 1)
    return standard


def _kind(file: EmbeddingFile, name: str, wanted: VectorKind | None) -> VectorKind:
    has_tokens = file.header.datasets[f"{name}/tokens"].shape[0] > 0
    if wanted == "mean" and not has_tokens:
        raise UsageError(f"--vector mean: {file.path} holds no tokens of {NAMES[name]}s; use --vector cls")
    return wanted or ("mean" if has_tokens else "cls")


def _states(modality: Modality, rows: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Each film's state as a number into `kinds`, which are (status, sentence) pairs."""
    kinds: dict[tuple[str, str], int] = {}
    numbers = []
    pending, there = modality.pending[rows], has_vector(vectors)
    for status, reason, waits, has in zip(
        modality.status[rows].tolist(), modality.reason[rows].tolist(), pending.tolist(), there.tolist(), strict=True
    ):
        numbers.append(kinds.setdefault(_state(status, reason, waits, has), len(kinds)))
    return {"of": numbers, "kinds": list(kinds)}


def _state(status: int, reason: int, waits: bool, has_vector: bool) -> tuple[str, str]:
    if waits:
        return "pending", "not computed yet; run the same extract again"
    try:
        kind, why = Status(status), Reason(reason).sentence
    except ValueError:
        return "damaged", "its status is unknown; run cinefuse cache verify"
    if kind.has_embedding and not has_vector:
        return "damaged", "its embedding holds NaN or Inf; run cinefuse cache verify"
    return kind.name.lower(), why


def _encoded_places(places: npt.NDArray[np.float64], there: npt.NDArray[np.int64], count: int) -> str:
    """Base64 of (count, 2) uint16: places scaled alike in both directions to 0 ... 65,534 about the middle."""
    grid = np.full((count, 2), _NOBODY, "<u2")
    if len(there):
        low, high = places.min(axis=0), places.max(axis=0)
        reach = float((high - low).max()) or 1.0
        grid[there] = np.rint(((places - (low + high) / 2) / reach + 0.5) * (_NOBODY - 1))
    return base64.b64encode(grid.tobytes()).decode("ascii")


def _encoded_neighbours(near: Neighbours) -> dict[str, Any]:
    """Base64 of (N, K) uint16 places (65,535: nobody) and of (N, K) int16 cosines in ten thousandths."""
    place = np.where(near.place < 0, _NOBODY, near.place).astype("<u2")
    cosine = np.rint(near.cosine * 10_000).astype("<i2")
    return {
        "count": place.shape[1],
        "place": base64.b64encode(place.tobytes()).decode("ascii"),
        "cosine": base64.b64encode(cosine.tobytes()).decode("ascii"),
    }


def _about(
    file: EmbeddingFile, films: Films, kinds: dict[str, VectorKind], states: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What the page says about the file."""
    modalities = []
    for name in file.modalities:
        modality = file[name]
        counted: dict[str, int] = {}
        for number in states[name]["of"]:
            status = states[name]["kinds"][number][0]
            counted[status] = counted.get(status, 0) + 1
        modalities.append(
            {
                "name": NAMES[name],
                "model": str(modality.record.get("model")),
                "revision": str(modality.record.get("revision") or ""),
                "weights": str(modality.fingerprint.get("weights"))[:16],
                "width": modality.width,
                "vector": {"cls": "its CLS embedding", "mean": "the mean of its token embeddings"}[kinds[name]],
                "counted": sorted(counted.items()),
            }
        )
    return {
        "name": file.path.name,
        "dataset": films.dataset,
        "films": len(file),
        "shown": len(films.rows),
        "unknown": 0 if films.table is None else int(films.table["title"].null_count()),
        "modalities": modalities,
    }
