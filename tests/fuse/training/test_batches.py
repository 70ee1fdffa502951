"""Laws of item-major batches: an epoch is every rated film once with all its ratings, the same whenever it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cinefuse.fuse.inputs.interactions import TrainingPairs
from cinefuse.fuse.inputs.tokens import TokenBatch
from cinefuse.fuse.training.batches import ItemBatch, ItemBatches, Waiting

CPU = torch.device("cpu")
ITEMS, USERS = 23, 9


class Lengths:
    """A token table whose film f has ``lengths[f]`` tokens, each of them f; reading film ``broken`` fails."""

    def __init__(self, lengths: npt.NDArray[np.int64], broken: int = -1) -> None:
        self.lengths, self.broken = lengths, broken
        self.read: list[list[int]] = []

    def batch(self, items: npt.NDArray[np.int64]) -> TokenBatch:
        if self.broken in items:
            raise OSError("the disk is gone")
        self.read.append(items.tolist())
        longest = int(self.lengths[items].max(initial=0))
        present = torch.from_numpy(np.arange(longest) < self.lengths[items][:, None])
        return TokenBatch(
            torch.from_numpy(items).float()[:, None, None].expand(-1, longest, 2) * present[..., None], present
        )


def batches_of(size: int, *, broken: int = -1, items: int = ITEMS) -> ItemBatches:
    lengths = np.random.default_rng(0).integers(0, 9, items)
    tables: Any = {"text": Lengths(lengths, broken)}
    return ItemBatches(tables, items, size, CPU)


def pairs_of(seed: int = 0, ratings: int = 60) -> TrainingPairs:
    """Some films of these have no rating."""
    chosen = np.random.default_rng(seed).choice(USERS * ITEMS, ratings, replace=False)
    user, item = torch.from_numpy(chosen // ITEMS), torch.from_numpy(chosen % ITEMS)
    return TrainingPairs.sorted(user, item, torch.zeros(ratings), users=USERS, items=ITEMS)


def listed(batches: list[ItemBatch]) -> list[tuple[list[int], list[int], list[int]]]:
    return [(batch.items.tolist(), batch.pair.tolist(), batch.place.tolist()) for batch in batches]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(0, 3), st.integers(0, 3), st.integers(1, 60))
def test_each_rated_item_comes_once_an_epoch_and_its_ratings_with_it(
    size: int, seed: int, epoch: int, ratings: int
) -> None:
    pairs, batches = pairs_of(seed, ratings), batches_of(size)
    made = list(batches.epoch(pairs, seed=seed, epoch=epoch))
    assert len(made) == batches.count(pairs)
    items = torch.cat([batch.items for batch in made])
    assert sorted(items.tolist()) == sorted(set(pairs.item.tolist()))
    assert sorted(torch.cat([batch.pair for batch in made]).tolist()) == list(range(len(pairs)))
    for batch in made:
        assert 1 <= len(batch.items) <= size
        assert torch.equal(pairs.item[pairs.by_item][batch.pair], batch.items[batch.place])


def test_a_batch_carries_the_tokens_of_its_own_items() -> None:
    for batch in batches_of(4).epoch(pairs_of(), seed=0, epoch=0):
        tokens = batch.tokens["text"]
        for item, embeddings, present in zip(batch.items.tolist(), tokens.embeddings, tokens.present, strict=True):
            assert set(embeddings[present].flatten().tolist()) <= {item}


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_give_others() -> None:
    pairs = pairs_of()

    def told(seed: int, epoch: int) -> Any:
        return listed(list(batches_of(4).epoch(pairs, seed=seed, epoch=epoch)))

    assert told(1, 2) == told(1, 2)
    assert told(1, 2) != told(1, 3)
    assert told(1, 2) != told(2, 2)


@pytest.mark.parametrize("size", [1, 4, 50])
def test_an_epoch_begun_at_a_later_batch_goes_on_as_the_whole_one_does(size: int) -> None:
    pairs, batches = pairs_of(), batches_of(size)
    whole = listed(list(batches.epoch(pairs, seed=3, epoch=5)))
    for start in range(len(whole) + 1):
        assert listed(list(batches.epoch(pairs, seed=3, epoch=5, start=start))) == whole[start:]


def test_the_ratings_do_not_change_who_comes_with_whom() -> None:
    pairs = pairs_of()
    more = TrainingPairs.sorted(
        torch.cat([pairs.user, torch.full((1,), USERS)]),
        torch.cat([pairs.item, pairs.item[:1]]),
        torch.zeros(len(pairs) + 1),
        users=USERS + 1,
        items=ITEMS,
    )
    ours = [batch.items.tolist() for batch in batches_of(4).epoch(pairs, seed=0, epoch=0)]
    assert [batch.items.tolist() for batch in batches_of(4).epoch(more, seed=0, epoch=0)] == ours


def test_everything_is_every_item_once_also_those_nobody_rated() -> None:
    items = torch.cat([items for items, _ in batches_of(5).everything()])
    assert sorted(items.tolist()) == list(range(ITEMS))


def test_items_of_like_length_come_together() -> None:
    batches = batches_of(8, items=500)
    lengths = batches.tables["text"].lengths
    sizes = [lengths[items.numpy()] for items, _ in batches.everything()]
    assert sum(len(size) * size.max() for size in sizes) <= 1.05 * lengths.sum()


def test_an_epoch_pads_less_than_chance_would() -> None:
    items, size = 500, 8
    batches = batches_of(size, items=items)
    lengths = batches.tables["text"].lengths
    pairs = TrainingPairs.sorted(
        torch.zeros(items, dtype=torch.long), torch.arange(items), torch.zeros(items), users=1, items=items
    )
    made = [lengths[batch.items.numpy()] for batch in batches.epoch(pairs, seed=0, epoch=0)]
    order = np.random.default_rng(0).permutation(items)
    chance = [lengths[order[start : start + size]] for start in range(0, items, size)]
    padding = [sum(len(part) * part.max() for part in parts) - lengths.sum() for parts in (made, chance)]
    assert padding[0] < 0.4 * padding[1]


def test_items_meet_others_in_the_next_epoch() -> None:
    items, size = 200, 4
    pairs = TrainingPairs.sorted(
        torch.zeros(items, dtype=torch.long), torch.arange(items), torch.zeros(items), users=1, items=items
    )
    batches = batches_of(size, items=items)
    first, second = (
        {frozenset(batch.items.tolist()) for batch in batches.epoch(pairs, seed=0, epoch=epoch)} for epoch in (0, 1)
    )
    assert len(first & second) < len(first) / 10


@pytest.mark.parametrize("broken", [0, 7])
def test_what_fails_while_reading_ahead_is_raised_where_the_batch_is_asked_for(broken: int) -> None:
    batches = batches_of(4, broken=broken)
    with pytest.raises(OSError, match="the disk is gone"):
        list(batches.everything())


def test_the_next_batch_is_read_while_the_present_one_is_in_use_and_no_more_than_that() -> None:
    batches = batches_of(4)
    table: Any = batches.tables["text"]
    coming: Any = batches.everything()  # a generator
    next(coming)
    next(coming)
    coming.close()
    assert len(table.read) in (2, 3)  # the third may not have begun


def test_the_share_of_waiting_lies_between_nothing_and_everything() -> None:
    batches = batches_of(4)
    list(batches.everything())
    assert 0 <= batches.waiting.share <= 1
    assert batches.waiting.total > 0
    assert Waiting().share == 0
