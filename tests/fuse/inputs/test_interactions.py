"""Laws of the sorted training pairs: nothing is lost in sorting, and the sparse products are what dense ones are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cinefuse.fuse.inputs import interactions
from cinefuse.fuse.inputs.interactions import PairTerm, TrainingPairs, chunks
from cinefuse.fuse.inputs.sparse import SparseProduct


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int]]]:
    """Numbers of users and films, and some distinct pairs of them in any order."""
    users, items = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    all_pairs = [(u, f) for u in range(users) for f in range(items)]
    return users, items, draw(st.lists(st.sampled_from(all_pairs), min_size=1, unique=True))


def pairs_of(users: int, items: int, listed: list[tuple[int, int]], seed: int = 0) -> TrainingPairs:
    user, item = torch.tensor(listed).T
    rating = torch.randn(len(listed), generator=torch.Generator().manual_seed(seed))
    return TrainingPairs.sorted(user, item, rating, users=users, items=items)


def some_pairs() -> TrainingPairs:
    return pairs_of(4, 5, [(3, 1), (0, 4), (0, 0), (1, 1), (3, 0), (1, 4), (0, 2)])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None)
@given(tables())
def test_sorting_loses_and_invents_no_rating(table: tuple[int, int, list[tuple[int, int]]]) -> None:
    users, items, listed = table
    rating = torch.arange(len(listed), dtype=torch.float32)
    user, item = torch.tensor(listed).T
    pairs = TrainingPairs.sorted(user, item, rating, users=users, items=items)
    given_ratings = {pair: float(value) for pair, value in zip(listed, rating, strict=True)}
    assert list(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)) == sorted(listed)
    assert pairs.rating.tolist() == [given_ratings[pair] for pair in sorted(listed)]
    for number in range(users):
        own = slice(pairs.user_offsets[number], pairs.user_offsets[number + 1])
        assert set(pairs.user[own].tolist()) <= {number}
    for number in range(items):
        of_item = pairs.by_item[pairs.item_offsets[number] : pairs.item_offsets[number + 1]]
        assert set(pairs.item[of_item].tolist()) <= {number}
    assert sorted(pairs.by_item.tolist()) == list(range(len(listed)))
    assert pairs.user_counts.sum() == pairs.item_counts.sum() == len(pairs) == len(listed)


def test_a_pair_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each \\(user, item\\) once"):
        pairs_of(3, 3, [(0, 1), (2, 2), (0, 1)])


def test_pairs_that_share_a_user_or_a_item_are_not_taken_for_doubles() -> None:
    assert len(pairs_of(2, 2, [(0, 0), (0, 1), (1, 0), (1, 1)])) == 4


@settings(deadline=None)
@given(tables())
def test_both_matrices_hold_the_values_at_the_pairs(table: tuple[int, int, list[tuple[int, int]]]) -> None:
    users, items, listed = table
    pairs = pairs_of(users, items, listed)
    values = torch.arange(1.0, len(pairs) + 1)
    expected = torch.zeros(users, items)
    expected[pairs.user, pairs.item] = values
    assert torch.equal(pairs.by_user_matrix(values).to_dense(), expected)
    assert torch.equal(pairs.by_item_matrix(values).to_dense(), expected.T)


@settings(deadline=None, max_examples=30)
@given(tables(), st.integers(0, 4))
def test_pair_dots_are_the_rows_dot_products(table: tuple[int, int, list[tuple[int, int]]], width: int) -> None:
    users, items, listed = table
    pairs = pairs_of(users, items, listed)
    user, item = normal(users, width), normal(items, width, seed=1)
    torch.testing.assert_close(pairs.dots(user, item), (user @ item.T)[pairs.user, pairs.item])


def test_gradients_of_pair_dots_equal_autograds() -> None:
    pairs = some_pairs()
    user, item = normal(4, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, f: pairs.dots(u, f), (user, item))


def test_a_weighted_sum_of_pair_dots_is_the_terms_one_by_one_and_so_are_its_gradients() -> None:
    pairs, weight = some_pairs(), normal(7, seed=4)
    vectors = [normal(rows, 3, seed=seed).requires_grad_() for seed, rows in enumerate((4, 5, 4, 5))]

    def summed(*sides: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pairs.sum_of_dots(PairTerm(sides[0], sides[1]), PairTerm(sides[2], sides[3], pairs.weights(weight)))

    first, total = summed(*vectors)
    one, two = ((user @ item.T)[pairs.user, pairs.item] for user, item in (vectors[:2], vectors[2:]))
    torch.testing.assert_close(first, one)
    torch.testing.assert_close(total, one + weight * two)
    assert torch.autograd.gradcheck(summed, tuple(vectors))


def test_gradients_of_a_sparse_product_equal_autograds() -> None:
    pairs, values = some_pairs(), normal(7, seed=2)
    product = SparseProduct(pairs.by_user_matrix(values), pairs.by_item_matrix(values))
    assert torch.autograd.gradcheck(lambda dense: product @ dense, (normal(5, 3).requires_grad_(),))
    torch.testing.assert_close(product @ normal(5, 3), pairs.by_user_matrix(values).to_dense() @ normal(5, 3))


def test_a_gradient_that_arrives_expanded_is_taken_as_it_is() -> None:
    pairs = some_pairs()
    user, item = normal(4, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    pairs.dots(user, item).sum().backward()  # the gradient of a sum is one number, expanded
    dense_user, dense_item = normal(4, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    (dense_user @ dense_item.T)[pairs.user, pairs.item].sum().backward()
    torch.testing.assert_close(user.grad, dense_user.grad)
    torch.testing.assert_close(item.grad, dense_item.grad)


def test_means_are_drawn_to_nothing_by_imagined_ratings() -> None:
    pairs = pairs_of(3, 2, [(0, 0), (0, 1), (1, 0)])
    by_user, by_item = pairs.means(prior=5.0)
    first, second, third = pairs.rating.tolist()
    torch.testing.assert_close(by_user, torch.tensor([(first + second) / 7, third / 6, 0.0]))
    torch.testing.assert_close(by_item, torch.tensor([(first + third) / 7, second / 6]))


def test_pairs_moved_to_a_device_are_the_same_pairs() -> None:
    pairs = some_pairs()
    moved = pairs.to(torch.device("cpu"))
    assert (moved.users, moved.items) == (pairs.users, pairs.items)
    for name in ("user", "item", "rating", "user_offsets", "item_offsets", "by_item"):
        assert torch.equal(getattr(moved, name), getattr(pairs, name))


def test_more_pairs_than_32_bits_can_count_have_the_same_products(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide, vectors = some_pairs(), some_pairs(), normal(5, 3, seed=1).float()
    monkeypatch.setattr("cinefuse.fuse.inputs.interactions._MOST_IN_32_BITS", len(narrow))
    few = narrow.by_user_matrix(narrow.rating)
    monkeypatch.setattr("cinefuse.fuse.inputs.interactions._MOST_IN_32_BITS", len(narrow) - 1)
    many = wide.by_user_matrix(wide.rating)
    assert few.col_indices().dtype == few.crow_indices().dtype == torch.int32
    assert many.col_indices().dtype == many.crow_indices().dtype == torch.int64
    torch.testing.assert_close(many @ vectors, few @ vectors)
    torch.testing.assert_close(wide.dots(normal(4, 3).float(), vectors), narrow.dots(normal(4, 3).float(), vectors))


class LargestTensor(TorchDispatchMode):
    """The most bytes that one tensor made inside it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.layout == torch.strided:
            self.bytes = max(self.bytes, made.numel() * made.element_size())
        return made


@pytest.mark.parametrize("row_bytes", [1, 7, 20, 10**6])
def test_chunks_cover_all_rows_in_order_within_their_bytes(row_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactions, "CHUNK_BYTES", 20)
    parts = list(chunks(33, row_bytes))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(33))
    assert all((part.stop - part.start) * row_bytes <= 20 or part.stop - part.start == 1 for part in parts)


def drawn_pairs() -> TrainingPairs:
    everyone = torch.randperm(40 * 30, generator=torch.Generator().manual_seed(3))[:600].tolist()
    return pairs_of(40, 30, [(number // 30, number % 30) for number in everyone])


def test_on_a_gpu_dot_products_of_many_ratings_never_gather_more_rows_than_a_chunk_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs, width = drawn_pairs(), 64
    made = []
    for sampled_on in (("cpu",), ()):  # as on a CPU, then as on a GPU, in chunks of 8 ratings
        monkeypatch.setattr(interactions, "_SAMPLED_ON", sampled_on)
        monkeypatch.setattr(interactions, "CHUNK_BYTES", 8 * 2 * 8 * width)
        user, item = normal(40, width).requires_grad_(), normal(30, width, seed=1).requires_grad_()
        items = torch.tensor([7, 3, 29])
        rater = torch.cat([pairs.user[pairs.item == number] for number in items.tolist()])
        with LargestTensor() as largest:
            dots = pairs.dots(user, item)
            of_items = pairs.dots_of_items(items, rater, item[items], user.detach())
            (dots.square().sum() + of_items.square().sum()).backward()
        assert largest.bytes <= 40 * width * 8  # all users' vectors; the rows of 600 ratings are 15 times that
        made.append((dots, of_items, user.grad, item.grad))
    for on_cpu, on_gpu in zip(*made, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu)
