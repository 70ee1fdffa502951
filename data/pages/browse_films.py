"""Which films of an embedding file a page shows, and what their dataset says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..dataset.folder import Description
from ..embeddings.status import Status
from ..runtime.errors import BadInput
from ..runtime.parquet import scan_parquet

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..embeddings.file import EmbeddingFile

_PLOT_CHARACTERS = 320


@dataclass(frozen=True)
class Films:
    """What is known of the films on the page, in their order; `dataset` is None where only ids are known."""

    rows: npt.NDArray[np.int64]
    ids: list[str]
    table: pl.DataFrame | None
    poster_root: Path | None
    dataset: str | None

    @property
    def posters(self) -> list[str | None]:
        """The poster path of each film, None where it has none."""
        return [None] * len(self.ids) if self.table is None else self.table["poster"].to_list()


def chosen_rows(embedded: npt.NDArray[np.bool_], limit: int) -> npt.NDArray[np.int64]:
    """All rows, or `limit` of them drawn at random with a fixed seed: those `embedded` (N,) first; ascending, int64."""
    if len(embedded) <= limit:
        return np.arange(len(embedded))
    draw = np.random.default_rng(0)
    first, rest = np.flatnonzero(embedded), np.flatnonzero(~embedded)
    drawn = draw.choice(first, min(limit, len(first)), replace=False, shuffle=False)
    if len(drawn) < limit:
        drawn = np.concatenate((drawn, draw.choice(rest, limit - len(drawn), replace=False, shuffle=False)))
    return np.sort(drawn).astype(np.int64)


def embedded_items(file: EmbeddingFile) -> npt.NDArray[np.bool_]:
    """(N,) True where an item has an embedding of any modality."""
    found = np.zeros(len(file), np.bool_)
    for name in file.modalities:
        modality = file[name]
        found |= np.isin(modality.status, [status for status in Status if status.has_embedding]) & ~modality.pending
    return found


def films_of(file: EmbeddingFile, rows: npt.NDArray[np.int64], dataset: Path | None) -> Films:
    """The films in `rows` with their columns in `dataset`; films that it does not have keep their id alone.

    Reads no other films' plots. Raises BadInput where it is no dataset, or has none of these films.
    """
    stored = file.raw_array("items/id")[rows]
    integers = stored.dtype.kind == "i"
    ids = [value if integers else value.decode("utf-8", "replace") for value in stored.tolist()]
    names = [str(value) for value in ids]
    if dataset is None:
        return Films(rows, names, None, None, None)
    description = Description.read(dataset)
    wanted = pl.DataFrame({"item_id": ids}, schema={"item_id": pl.Int64 if integers else pl.String})
    items = dataset / "items.parquet"
    try:
        found = (
            scan_parquet(items)
            .select("item_id", "title", "year", "genres", "text", "poster")
            .with_columns(pl.col("text").str.slice(0, 4 * _PLOT_CHARACTERS))
            .join(wanted.lazy(), on="item_id", how="semi")
            .unique("item_id", keep="first", maintain_order=True)
            .collect(engine="streaming")
        )
    except (pl.exceptions.PolarsError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise BadInput(
            f"{items} does not fit {file.path} ({reason}): give the dataset that the file was made from"
        ) from None
    if found.is_empty():
        raise BadInput(
            f"{dataset}: expected the dataset of {file.path}, found none of its films (id {names[0]!r}, for one); "
            "give the dataset that the file was made from"
        )
    table = wanted.join(found, on="item_id", how="left", maintain_order="left")
    return Films(rows, names, table, dataset / description.posters, description.name)


def film_columns(films: Films) -> dict[str, Any]:
    if films.table is None:
        return {"id": films.ids}
    table = films.table
    genres: dict[str, int] = {}
    kinds = [[genres.setdefault(one, len(genres)) for one in some or [] if one] for some in table["genres"].to_list()]
    return {
        "id": films.ids,
        "title": table["title"].to_list(),
        "year": table["year"].to_list(),
        "genres": kinds,
        "genre": list(genres),
        "plot": [_beginning(text) for text in table["text"].to_list()],
    }


def _beginning(text: str | None) -> str | None:
    words = " ".join((text or "").split())
    if len(words) <= _PLOT_CHARACTERS:
        return words or None
    return words[:_PLOT_CHARACTERS].rsplit(" ", 1)[0].rstrip(",;:.-") + " …"
