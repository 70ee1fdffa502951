"""Items that nobody has taken get the vectors that a ridge regression on content predicts."""

from __future__ import annotations

import torch

from cinefuse.fuse.inputs.sparse import SparseProduct
from cinefuse.fuse.models.unrated_items import L2, vectors_of_content


def test_the_vectors_are_those_of_the_closed_form() -> None:
    chance = torch.Generator().manual_seed(0)
    side, vectors = torch.randn(40, 5, generator=chance), torch.randn(40, 4, generator=chance)
    has_tag = torch.rand(40, 6, generator=chance) < 0.3
    item, tag = has_tag.nonzero(as_tuple=True)
    tags = SparseProduct.sorted(item, tag, torch.ones(len(item)), rows=40, columns=6)
    rated = torch.arange(40) < 30
    columns = torch.cat([side, torch.full((40, 1), 3.0), has_tag.float()], 1).double()
    known = columns[rated]
    weights = torch.linalg.solve(known.T @ known + L2 * torch.eye(12), known.T @ vectors[rated].double())
    found = vectors_of_content(side, tags, vectors, rated)
    torch.testing.assert_close(found, (columns @ weights).float(), rtol=0, atol=1e-4)


def test_what_unrated_items_had_before_changes_nothing() -> None:
    side, vectors, rated = torch.randn(9, 3), torch.randn(9, 2), torch.arange(9) % 3 > 0
    other = torch.where(rated[:, None], vectors, torch.full_like(vectors, 1e6))
    torch.testing.assert_close(
        vectors_of_content(side, None, vectors, rated), vectors_of_content(side, None, other, rated)
    )
