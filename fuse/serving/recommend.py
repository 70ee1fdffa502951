"""Recommended items for one user, for a new user given the items they like, or for all users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from ...data.runtime.errors import BadInput, UsageError
from ..evaluation.item_lists import USERS_AT_ONCE, ItemLists, best_open
from ..evaluation.measured_lists import BlockScores
from ..models.ranking_model import unrated_last
from ..runs.run import Run
from .diversity import diversified, pool_size
from .filters import Filters
from .known_ids import id_column, item_numbers_of, known_user
from .run_tables import item_content, run_items
from .scoring import chosen_model, expected_ratings, item_counts, list_scores, ranking_of

_Numbers = npt.NDArray[np.int64]
_Scores = npt.NDArray[np.float32]
_NO_FILTERS = Filters()
_NO_ITEMS = np.zeros(0, np.int64)


class ListOptions(TypedDict, total=False):
    """The options of `recommend` that are those of `recommend_for_likes` and `recommend_all` too."""

    filters: Filters
    diversity: float
    new: int
    only_new: bool


def recommend(
    run: Run,
    user_id: int | str,
    k: int = 10,
    *,
    by: str = "auto",
    filters: Filters = _NO_FILTERS,
    diversity: float = 0.0,
    new: int = 0,
    only_new: bool = False,
) -> pl.DataFrame:
    """The k items that a user would take next, best first; fewer where few are left.

    None has a training rating of the user. ``by`` "ranking" orders them by the ranking model, "rating" by the expected
    rating, "auto" by the first where the run has it. Items without any training rating come last in such a list;
    ``new`` of its places, the last ones, are kept for the best of them, or all with ``only_new``. ``diversity`` from 0
    to 1 trades score for unlike content (`diversity`).

    Columns: rank (Int64, from 1), item_id, title, score (Float32, comparable within one user alone), prediction
    (Float32, the expected rating; null where the run predicts none), train_ratings (Int64: of the item),
    because_item_id, because_title and because_score (Float32): the user's item that adds most to the score, and how
    much; null where none does, or by rating. Among equal ones the earlier of the catalogue comes first. BadInput where
    the run knows no such user, with the nearest ids; UsageError for a number out of range.
    """
    lists = _Lists(run, k, by, filters, diversity, new, only_new)
    number = known_user(run.recommender, user_id)
    block = number // USERS_AT_ONCE
    scores = lists.scores(block)[[number - block * USERS_AT_ONCE]]
    top = lists.best(scores, lists.seen.of_users(number, number + 1))
    mine, added = _NO_ITEMS, None
    if lists.by == "ranking":
        model = ranking_of(run)  # without a refit it was trained on fewer items than the user has rated
        mine, added = model.items_of(number).numpy(), model.shares(number, torch.from_numpy(top[0][top[0] >= 0]))
    return _one_list(lists, np.array([number]), top, scores, mine, added)


def recommend_for_likes(
    run: Run,
    likes: Sequence[int | str],
    k: int = 10,
    **options: Unpack[ListOptions],
) -> pl.DataFrame:
    """`recommend` for a user who is not in the run and likes these items; prediction is null.

    Their vector minimises the ranking model's loss with all other parameters fixed, in closed form
    (`RankingModel.user_of_likes`). BadInput where the run has no ranking model or doesn't know an item.
    """
    model = ranking_of(run)
    lists = _Lists(run, k, "ranking", **options)
    if not likes:
        raise UsageError("--likes: expected ids of films, as in --likes 1,50,260")
    liked = np.unique(item_numbers_of(run.recommender, likes, "--likes"))
    on_torch = torch.from_numpy(liked)
    user, item = model.user_of_likes(on_torch), model.vectors.item
    each = (item[:, :-1] @ user[:-1] + item[:, -1] + user[-1])[None]  # (1, I)
    scores = unrated_last(each, model.counts == 0).numpy()
    top = lists.best(scores, ItemLists(np.array([0, len(liked)]), liked))
    added = model.shares_of_likes(on_torch, torch.from_numpy(top[0][top[0] >= 0]))
    return _one_list(lists, np.array([-1]), top, scores, liked, added)


def recommend_all(
    run: Run,
    k: int = 10,
    *,
    by: str = "auto",
    **options: Unpack[ListOptions],
) -> pl.DataFrame:
    """`recommend` for every user of the run: user_id, rank (Int64), item_id, score, prediction, by user and rank.

    Raises as `recommend` does.
    """
    lists = _Lists(run, k, by, **options)
    users = len(run.recommender.user_ids)
    tops, found = [], []
    for block, start in enumerate(range(0, users, USERS_AT_ONCE)):
        scores = lists.scores(block)
        top = lists.best(scores, lists.seen.of_users(start, min(start + USERS_AT_ONCE, users)))
        tops.append(top)
        found.append(np.take_along_axis(scores, np.maximum(top, 0), axis=1))
    table = _as_table(run, np.arange(users), np.concatenate(tops), np.concatenate(found))
    return table.select("user_id", "rank", "item_id", "score", "prediction")


@dataclass(eq=False)
class _Lists:
    """The data and options of lists: the arguments of `recommend`."""

    run: Run
    k: int
    by: str
    filters: Filters = _NO_FILTERS
    diversity: float = 0.0
    new: int = 0
    only_new: bool = False
    kept: npt.NDArray[np.bool_] = field(init=False)
    unrated: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        recommender = self.run.recommender
        if self.k < 1:
            raise UsageError(f"k must be at least 1, found {self.k}")
        if not 0 <= self.diversity <= 1:
            raise UsageError(f"--diversity must lie from 0 to 1, found {self.diversity:g}")
        if not 0 <= self.new <= self.k:
            raise UsageError(f"--new must lie from 0 to the length of the list, {self.k}, found {self.new}")
        self.by = chosen_model(self.run, self.by)
        self.kept = self.filters.mask(self.run)
        self.unrated = _counts(self.run, self.by) == 0
        if (self.new or self.only_new) and not (self.unrated & self.kept).any():
            there = "passes the filters" if self.unrated.any() else "is in the catalogue: every film has ratings"
            raise BadInput(f"--{'only-new' if self.only_new else 'new'}: no film without a training rating {there}")
        self.seen = ItemLists(recommender.rated_offsets, recommender.rated_items)
        self.content = item_content(self.run) if self.diversity else None
        self.scores: BlockScores = list_scores(self.run, self.by)

    def best(self, scores: _Scores, seen: ItemLists) -> _Numbers:
        """(B, k) the chosen items of B users, best first, -1 where none is left."""
        closed = seen.mask(scores.shape[1]) | ~self.kept
        if self.only_new:
            return self._top(scores, closed | ~self.unrated, self.k)
        if not self.new:
            return self._top(scores, closed, self.k)
        rated = self._top(scores, closed | self.unrated, self.k - self.new) if self.k > self.new else None
        fresh = self._top(scores, closed | ~self.unrated, self.new)
        both = fresh if rated is None else np.concatenate([rated, fresh], 1)
        order = np.argsort(both < 0, axis=1, kind="stable")  # places without an item go to the end
        joined: _Numbers = np.take_along_axis(both, order, axis=1)
        return joined

    def _top(self, scores: _Scores, closed: npt.NDArray[np.bool_], k: int) -> _Numbers:
        open_scores = np.where(closed, -np.inf, scores)
        if self.content is None:
            return best_open(open_scores, k)
        pool = best_open(open_scores, pool_size(k))
        return diversified(pool, scores, self.content, k, self.diversity)


def _counts(run: Run, by: str) -> _Numbers:
    """(I,) training ratings of each item of the model that makes the lists."""
    counts: _Numbers = ranking_of(run).counts.numpy() if by == "ranking" else item_counts(run.recommender)
    return counts


def _one_list(
    lists: _Lists, user: _Numbers, top: _Numbers, scores: _Scores, mine: _Numbers, added: torch.Tensor | None
) -> pl.DataFrame:
    run = lists.run
    table = _as_table(run, user, top, np.take_along_axis(scores, np.maximum(top, 0), axis=1))
    items = run_items(run).rename({"item_id": "known_id"})
    reasons = _reasons(run, items["title"], len(table), mine, added)
    table = table.hstack(items[table["item"]]).hstack(reasons)
    details = ["title", "score", "prediction", "train_ratings"]
    return table.select("rank", "item_id", *details, *reasons.columns)


def _reasons(run: Run, titles: pl.Series, rows: int, mine: _Numbers, added: torch.Tensor | None) -> pl.DataFrame:
    """because_item_id, because_title and because_score of ``rows`` items, ``added`` (n, rows) by the user's own."""
    item, score = np.zeros(rows, np.int64), np.full(rows, -1, np.float32)
    if added is not None and len(mine) and rows:
        most = added.max(0)
        item, score = mine[most.indices.numpy()], most.values.numpy()
    ids = run.recommender.item_ids
    found = pl.DataFrame(
        {
            "because_item_id": id_column(ids[item], ids),
            "because_title": titles.gather(item),
            "because_score": pl.Series(score, dtype=pl.Float32),
        }
    )
    return found.select(pl.when(pl.col("because_score") > 0).then(pl.all()))


def _as_table(run: Run, user: _Numbers, top: _Numbers, scores: _Scores) -> pl.DataFrame:
    """user_id, rank, item (its number), item_id, score, prediction: the places of ``top`` (B, k) that hold an item."""
    recommender = run.recommender
    row, place = np.nonzero(top >= 0)
    item = top[row, place]
    columns: dict[str, Any] = {
        "rank": place.astype(np.int64) + 1,
        "item": item,
        "item_id": id_column(recommender.item_ids[item], recommender.item_ids),
        "score": scores[row, place],
        "prediction": pl.Series(expected_ratings(recommender, user[row], item)).fill_nan(None),
    }
    if (user >= 0).all():
        columns = {"user_id": id_column(recommender.user_ids[user[row]], recommender.user_ids)} | columns
    return pl.DataFrame(columns)
