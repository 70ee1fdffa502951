"""The item-item part of the ranking model is EASE, written as inner products."""

from __future__ import annotations

import pytest
import torch

from cinefuse.fuse.inputs.interactions import TrainingPairs
from cinefuse.fuse.models.item_item import Spectrum, interactions


@pytest.fixture(scope="module")
def pairs() -> TrainingPairs:
    chosen = torch.rand(60, 25, generator=torch.Generator().manual_seed(0)) < 0.2
    user, item = chosen.nonzero(as_tuple=True)
    return TrainingPairs.sorted(user, item, torch.zeros(len(user)), users=60, items=25)


def test_with_all_eigenvectors_every_new_item_scores_as_the_closed_form_of_ease_says(pairs: TrainingPairs) -> None:
    dense = torch.zeros(60, 25).index_put((pairs.user, pairs.item), torch.ones(len(pairs)))
    inverse = torch.linalg.inv((dense.T @ dense).double() + 7.0 * torch.eye(25))
    weights = -inverse / inverse.diagonal()
    weights.fill_diagonal_(0)
    part = Spectrum.of(pairs, 25, seed=3).regression(7.0)
    scores = part.users(pairs) @ part.item.T
    new = dense == 0
    torch.testing.assert_close(scores[new], (dense.double() @ weights).float()[new], rtol=0, atol=1e-4)


def test_the_leading_eigenvectors_are_those_of_the_gram_matrix(pairs: TrainingPairs) -> None:
    dense = torch.zeros(60, 25).index_put((pairs.user, pairs.item), torch.ones(len(pairs)))
    found = Spectrum.of(pairs, 6, seed=0)
    expected = torch.linalg.eigvalsh((dense.T @ dense).double()).flip(0)[:6].float()
    torch.testing.assert_close(found.values, expected, rtol=0.02, atol=0)
    assert found.directions.shape == (25, 6)
    torch.testing.assert_close(found.directions.T @ found.directions, torch.eye(6), rtol=0, atol=1e-4)


def test_more_are_asked_than_there_are(pairs: TrainingPairs) -> None:
    assert Spectrum.of(pairs, 4096, seed=0).directions.shape == (25, 25)


def test_interactions_are_ones(pairs: TrainingPairs) -> None:
    assert (interactions(pairs) @ torch.ones(25, 1)).sum() == len(pairs)
