"""Tags of items as side information: who made them, who plays in them, where they are from (data/dataset/tags.py).

A catalogue has thousands of tags and an item a dozen, so they are a sparse matrix of ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch

from ...data.dataset.catalog import Catalog
from .sparse import SparseProduct

_LEAST_ITEMS = 2  # a tag of one item says no more than the item's id


@dataclass(frozen=True, eq=False)
class ItemTags:
    """T tags, in the order of their names, that at least two of I items share; ``of_items`` is (I, T), ones."""

    names: list[str]
    of_items: SparseProduct

    @classmethod
    def of(cls, dataset: Path) -> ItemTags:
        """The tags of a dataset folder's items."""
        return cls.read(Catalog.open(dataset).items)

    @classmethod
    def read(cls, items: pl.DataFrame) -> ItemTags:
        """The tags of ``items``, which has a column tags (List[String], may be null)."""
        given = items.select("tags").with_row_index("item").explode("tags").drop_nulls().unique()
        shared = given.filter(pl.len().over("tags") >= _LEAST_ITEMS)
        names = shared["tags"].unique().sort()
        numbered = shared.join(names.to_frame().with_row_index("tag"), on="tags").sort("item", "tag")
        item, tag = (torch.tensor(numbered[name].to_list(), dtype=torch.long) for name in ("item", "tag"))
        ones = torch.ones(numbered.height)
        return cls(names.to_list(), SparseProduct.sorted(item, tag, ones, rows=items.height, columns=len(names)))
