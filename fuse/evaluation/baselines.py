"""Baselines of lists: the most popular items, EASE, and iALS where a catalogue is too large for EASE."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .item_lists import ItemLists, users_of_block
from .measured_lists import BlockScores, ListTask, measure

_Ints = npt.NDArray[np.int64]

MOST_ITEMS_OF_EASE = 20_000
_ITEMS_TO_CHOOSE_ON = 5_000
_USERS_TO_CHOOSE_ON = 1_000
_ITEMS_OF_FULL_GRID = 2_000
_GRAM_USERS = 1024
_EASE_L2 = (30.0, 100.0, 300.0, 1000.0)
_IALS = ({"alpha": 3.0, "regularization": 3.0}, {"alpha": 10.0, "regularization": 10.0})
_IALS_FACTORS, _IALS_SWEEPS = 64, 15


@dataclass(frozen=True, eq=False)
class History:
    """The training data of baselines, by number of U users and I items.

    user, item: (R,) training and validation rows. liked: (R,) bool, the row would be relevant in a test part. held:
    (R,) bool, the row belongs to the validation part, by which settings are chosen.
    """

    users: int
    items: int
    user: _Ints
    item: _Ints
    liked: npt.NDArray[np.bool_]
    held: npt.NDArray[np.bool_]

    def lists(self, rows: npt.NDArray[np.bool_] | None = None) -> ItemLists:
        """Each user's items, of some rows (R,) bool or of all."""
        chosen = slice(None) if rows is None else rows
        return ItemLists.of(self.user[chosen], self.item[chosen], self.users)


@dataclass(frozen=True, eq=False)
class Baseline:
    """A method to compare with: its name, how it was set, and its scores; or the ``reason`` why there are none."""

    name: str
    settings: str = ""
    scores: BlockScores | None = None
    reason: str = ""


def baselines(history: History, k: int, report: Callable[[str], None]) -> list[Baseline]:
    """Most popular and EASE, or iALS in its place for more than `MOST_ITEMS_OF_EASE` items.

    Settings are chosen by NDCG at ``k`` on the held-out rows, then all rows are fitted. ``report`` receives a line
    before each long step. A method that can't be run is in the list with the reason.
    """
    popular = most_popular(history)
    if history.items <= MOST_ITEMS_OF_EASE:
        try:
            return [popular, ease(history, k, report)]
        except (MemoryError, RuntimeError) as fault:  # torch reports a lack of memory as RuntimeError
            return [popular, Baseline("EASE", reason=f"{history.items:,} items: {str(fault).splitlines()[0]}")]
    instead = f"{history.items:,} items are more than EASE's {MOST_ITEMS_OF_EASE:,}"
    return [popular, Baseline("EASE", reason=instead), ials(history, k, report)]


def most_popular(history: History) -> Baseline:
    """Items in the order of their training rows, the same for all users."""
    count = np.bincount(history.item, minlength=history.items).astype(np.float32)

    def scores(block: int) -> npt.NDArray[np.float32]:
        some = users_of_block(block, history.users)
        return np.tile(count, (some.stop - some.start, 1))

    return Baseline("most popular", "by training rows", scores)


def ease(history: History, k: int, report: Callable[[str], None]) -> Baseline:
    """EASE (Steck 2019, Embarrassingly shallow autoencoders for sparse data), in closed form.

    L2, and whether all rows or liked ones alone are fitted, are chosen on the held-out rows, among at most 5,000
    items, the most popular ones, and 1,000 users; above 2,000 items liked rows are tried with the best L2 of all rows
    alone.
    """
    l2, liked, how = chosen_for_ease(history, k, report)
    report(f"EASE: {history.items:,} items are fitted in closed form")
    which = "liked rows" if liked else "all rows"
    return Baseline("EASE", f"L2 {l2:g}, {which}, {how}", ease_scores(history, l2, liked=liked))


def chosen_for_ease(history: History, k: int, report: Callable[[str], None]) -> tuple[float, bool, str]:
    """L2, whether liked rows alone are fitted, and how that was chosen."""
    trial = _trial(history, k)
    if trial is None:
        return _EASE_L2[2], False, "not chosen: no row is held out"
    report(f"EASE: its settings are chosen on validation rows ({trial.history.items:,} items)")
    found: dict[tuple[float, bool], float] = {}
    for liked in (False, True) if not history.liked.all() else (False,):
        lists = trial.training_lists(liked)
        counts = _gram(lists, trial.history.items)
        whole = not found or trial.history.items <= _ITEMS_OF_FULL_GRID
        for l2 in _EASE_L2 if whole else (max(found, key=lambda key: found[key])[0],):
            found[l2, liked] = trial.ndcg(_linear_scores(lists, _ease_weights(counts, l2), trial.history.users))
    best = max(found, key=lambda key: found[key])
    return *best, f"chosen by NDCG@{k} on validation rows"


def ease_scores(history: History, l2: float, *, liked: bool) -> BlockScores:
    """The scores of EASE with this L2, fitted to all rows or to ``liked`` ones alone."""
    lists = history.lists(history.liked if liked else None)
    return _linear_scores(lists, _ease_weights(_gram(lists, history.items), l2), history.users)


def _gram(lists: ItemLists, items: int) -> torch.Tensor:
    """(I, I) float32: how many users have both items; exact up to 2^24 users."""
    counts = torch.zeros(items, items)
    for start in range(0, len(lists), _GRAM_USERS):
        part = lists.of_users(start, min(start + _GRAM_USERS, len(lists)))
        rows = torch.from_numpy(part.mask(items)).float()
        user, item = rows.nonzero(as_tuple=True)
        transposed = torch.sparse_coo_tensor(
            torch.stack([item, user]), torch.ones(len(item)), (items, len(part)), check_invariants=False
        )
        counts.add_(torch.sparse.mm(transposed, rows))
    return counts


def _ease_weights(counts: torch.Tensor, l2: float) -> torch.Tensor:
    """(I, I) float32 weights from an item (row) to an item (column), by Cholesky decomposition in float64."""
    regularized = counts.double()
    regularized.diagonal().add_(l2)
    torch.linalg.cholesky(regularized, out=regularized)
    inverse = torch.cholesky_inverse(regularized)
    weights = inverse.div_(-inverse.diagonal().clone())
    weights.fill_diagonal_(0)
    return weights.float()


def _linear_scores(lists: ItemLists, weights: torch.Tensor, users: int) -> BlockScores:
    """Each user's row of ones times the weights (I, I)."""

    def scores(block: int) -> npt.NDArray[np.float32]:
        some = users_of_block(block, users)
        rows = torch.from_numpy(lists.of_users(some.start, some.stop).mask(len(weights))).float()
        # items that no user of the block has add nothing, so their rows are left out of the product
        there = rows.any(0).nonzero().flatten()
        part: npt.NDArray[np.float32] = (rows[:, there] @ weights[there]).numpy()
        return part

    return scores


def ials(history: History, k: int, report: Callable[[str], None]) -> Baseline:
    """Weighted matrix factorisation for implicit feedback (Hu, Koren and Volinsky 2008) by the library `implicit`.

    Its weight of a row and its L2 are chosen between two settings on the held-out rows.
    """
    name = "iALS"
    try:
        import implicit
        import scipy.sparse
    except ImportError:
        return Baseline(name, reason="the library implicit is not installed: pip install 'cinefuse[baselines]'")
    del implicit, scipy

    chosen, trial = _IALS[0], _trial(history, k)
    how = "not chosen: no row is held out"
    if trial is not None:
        report("iALS (implicit): its settings are chosen on validation rows")
        lists = trial.training_lists(liked=False)
        found = [trial.ndcg(_ials_scores(lists, trial.history, setting)) for setting in _IALS]
        chosen, how = _IALS[int(np.argmax(found))], f"chosen by NDCG@{k} on validation rows"
    report(f"iALS (implicit): {len(history.user):,} rows are fitted")
    words = ", ".join(f"{key} {value:g}" for key, value in chosen.items())
    return Baseline(
        name,
        f"library implicit, {_IALS_FACTORS} factors, {words}, {how}",
        _ials_scores(history.lists(), history, chosen),
    )


def _ials_scores(lists: ItemLists, history: History, setting: dict[str, float]) -> BlockScores:
    import scipy.sparse
    from implicit.als import AlternatingLeastSquares

    matrix = scipy.sparse.csr_matrix(
        (np.ones(len(lists.items), np.float32), lists.items.astype(np.int32), lists.offsets),
        (history.users, history.items),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of BLAS threads, which concern its speed
        model = AlternatingLeastSquares(
            factors=_IALS_FACTORS,
            iterations=_IALS_SWEEPS,
            random_state=0,
            num_threads=torch.get_num_threads(),
            **setting,
        )
        model.fit(matrix, show_progress=False)
    user, item = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return lambda block: user[users_of_block(block, history.users)] @ item.T


@dataclass(frozen=True, eq=False)
class _Trial:
    """A smaller history without its held-out rows, and the task of ranking those."""

    history: History
    task: ListTask
    k: int

    def training_lists(self, liked: bool) -> ItemLists:
        rows = ~self.history.held
        return self.history.lists(rows & self.history.liked if liked else rows)

    def ndcg(self, scores: BlockScores) -> float:
        found = measure(self.task, scores)
        return float(found.values[:, 0, 0].mean()) if len(found.users) else 0.0


def _trial(history: History, k: int) -> _Trial | None:
    """The task that settings are chosen on; None where no held-out row could be ranked."""
    popular = np.argsort(-np.bincount(history.item, minlength=history.items), kind="stable")[:_ITEMS_TO_CHOOSE_ON]
    place = np.full(history.items, -1, np.int64)
    place[np.sort(popular)] = np.arange(len(popular))
    kept = place[history.item] >= 0
    small = History(
        history.users,
        len(popular),
        history.user[kept],
        place[history.item[kept]],
        history.liked[kept],
        history.held[kept],
    )
    judged = small.held & small.liked
    who = np.unique(small.user[judged])
    if not len(who):
        return None
    some = np.random.default_rng(0).permutation(who)[:_USERS_TO_CHOOSE_ON]
    judged &= np.isin(small.user, some)
    user, item = small.user[judged], small.item[judged]
    nothing = np.zeros(len(user), np.float32)
    task = ListTask.of(
        small.lists(~small.held), small.items, user, item, nothing, np.ones(len(user), np.bool_), (k,), implicit=True
    )
    return _Trial(small, task, k) if len(task.user) else None
