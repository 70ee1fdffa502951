"""The ratings of a dataset folder cut by a split, as recommenders read them beside features."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..embeddings.file import EmbeddingFile
from ..runtime.errors import BadInput
from ..runtime.parquet import read_parquet

PARTS = ("train", "validation", "test")
DEFAULT_SPLIT = "random:0.1"


@dataclass(frozen=True, eq=False)
class Interactions:
    """R ratings: users and items (their ids), rating, timestamp (None: none), and which of `PARTS` each is in.

    Users and items are numbered without gaps in the order of their ids: `user_numbers`, `item_numbers` (R,),
    `user_names`, `item_names`. `item_rows` has the row in the embedding file of each of `item_names`, -1 where it has
    none.
    """

    name: str
    users: npt.NDArray[Any]
    items: npt.NDArray[Any]
    rating: npt.NDArray[np.float64]
    timestamp: npt.NDArray[np.int64] | None
    part: npt.NDArray[np.int8]
    user_numbers: npt.NDArray[np.int64]
    item_numbers: npt.NDArray[np.int64]
    user_names: list[Any]
    item_names: list[Any]
    item_rows: npt.NDArray[np.int64]

    @classmethod
    def read(cls, dataset: Path, split: str | None, seed: int, file: EmbeddingFile) -> Interactions:
        """The ratings of a dataset folder. Raises BadInput where none of its items is in the embedding file."""
        import polars as pl

        from ..dataset.splits import split_ratings

        cut = split_ratings(dataset, split or DEFAULT_SPLIT, seed=seed)
        table = read_parquet(dataset / "ratings.parquet")
        part = np.full(table.height, -1, np.int8)
        for number, name in enumerate(PARTS):
            part[getattr(cut, name)] = number
        table, part = table.filter(part >= 0), part[part >= 0]
        users, items = (_ids(table[column]) for column in ("user_id", "item_id"))
        user_names, user_numbers = np.unique(users, return_inverse=True)
        item_names, item_numbers = np.unique(items, return_inverse=True)
        item_rows = file.find(item_names)
        if (item_rows < 0).all():
            kind = "numbers" if file.ids.dtype.kind == "i" else "text"
            raise BadInput(
                f"{dataset}: none of its {len(item_names):,} items (such as {item_names[0]!s}) is in {file.path}, "
                f"whose ids are {kind} (such as {file.ids[0]!s}); is it the file of this dataset?"
            )
        times = table["timestamp"] if "timestamp" in table.columns else None
        return cls(
            name=re.sub(r"[^A-Za-z0-9_-]", "-", dataset.resolve().name) or "dataset",
            users=users,
            items=items,
            rating=table["rating"].cast(pl.Float64).to_numpy(),
            timestamp=None if times is None or times.null_count() else times.cast(pl.Int64).to_numpy(),
            part=part,
            user_numbers=user_numbers.astype(np.int64),
            item_numbers=item_numbers.astype(np.int64),
            user_names=user_names.tolist(),
            item_names=item_names.tolist(),
            item_rows=item_rows,
        )

    @property
    def users_are_text(self) -> bool:
        """Whether ids of users are text and not whole numbers."""
        return self.users.dtype.kind not in "iu"

    def write(
        self,
        path: Path,
        chosen: npt.NDArray[np.bool_],
        users: npt.NDArray[Any],
        items: npt.NDArray[Any],
        *,
        header: list[str] | None,
        label: bool = False,
    ) -> None:
        """Write the `chosen` (R,) ratings as TSV: user, item, rating, timestamp if there is one, part as a number."""
        import polars as pl

        columns: dict[str, Any] = {"user": users[chosen], "item": items[chosen], "rating": self.rating[chosen]}
        if self.timestamp is not None:
            columns["timestamp"] = self.timestamp[chosen]
        if label:
            columns["label"] = self.part[chosen]
        table = pl.DataFrame({name: values.tolist() for name, values in columns.items()})
        if header is not None:
            table.columns = [name for name in header if self.timestamp is not None or not name.startswith("timestamp")]
        table.write_csv(path, separator="\t", include_header=header is not None, quote_style="never")


def _ids(column: Any) -> npt.NDArray[Any]:
    values = column.to_numpy() if column.dtype.is_integer() else np.array(column.to_list(), object)
    if values.dtype.kind == "O":
        for value in values.tolist():
            if any(sign in value for sign in "\t\r\n"):
                raise BadInput(f"the id {value!r} cannot stand in a table with tabs between its columns")
        return values.astype(str)
    return values
