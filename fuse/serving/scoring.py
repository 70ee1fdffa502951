"""Scores for lists, of the ranking model or of the rating model."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from ...data.runtime.errors import BadInput, UsageError
from ..evaluation.item_lists import users_of_block
from ..evaluation.measured_lists import BlockScores
from ..models.ranking_model import RankingModel, unrated_last
from ..models.recommender import Recommender
from ..runs.run import Run

By = Literal["auto", "ranking", "rating"]


def chosen_model(run: Run, by: str) -> Literal["ranking", "rating"]:
    """The model that makes a list: ``auto`` is the ranking model where the run has one.

    UsageError for another word; BadInput where the run has no such model.
    """
    if by not in get_args(By):
        raise UsageError(f"--by {by}: expected ranking or rating")
    if by == "auto":
        return "ranking" if run.ranking is not None else "rating"
    if by == "ranking":
        ranking_of(run)
        return "ranking"
    if not run.recommender.predicts:
        raise BadInput(f"{run.folder} has no rating model: it was trained for ranking alone; leave --by away")
    return "rating"


def ranking_of(run: Run) -> RankingModel:
    """The run's ranking model. BadInput where it has none."""
    if run.ranking is None:
        raise BadInput(
            f"{run.folder} has no ranking model (objective {run.config.objective}); train one with "
            "`cinefuse fuse ... --objective both`, or use --by rating"
        )
    return run.ranking


def list_scores(run: Run, by: str = "auto") -> BlockScores:
    """A function from the number of a block of `USERS_AT_ONCE` users to their scores (B, I) of all items.

    Scores order one user's items; they are no ratings. Items without a training rating come after all others
    (`unrated_last`), in their own order.
    """
    recommender = run.recommender
    if chosen_model(run, by) == "ranking":
        model, users = ranking_of(run), len(recommender.user_ids)
        return lambda block: model.scores(users_of_block(block, users)).numpy()
    unrated = torch.from_numpy(item_counts(recommender) == 0)
    scores = rating_scores(recommender)
    return lambda block: unrated_last(torch.from_numpy(scores(block)), unrated).numpy()


def item_counts(recommender: Recommender) -> npt.NDArray[np.int64]:
    """(I,) training ratings of each item."""
    return np.bincount(recommender.rated_items, minlength=len(recommender.item_ids))


def ranks_by_product(recommender: Recommender) -> bool:
    """Whether the score of `joint_vectors` orders every user's items as the unclamped expected rating does.

    One ordinal head's expected rating grows with its score. The mean of several does not follow the mean score: each
    member bends it by the user's own level logits. Nor does a mean with Bayesian factors.
    """
    return recommender.is_one_product or (len(recommender.vectors) == 1 and recommender.bayesian is None)


def rating_scores(recommender: Recommender) -> BlockScores:
    """As `list_scores`, by the rating model, with items without ratings in their place among the others.

    Where one product ranks (`ranks_by_product`) they are that product, so that items predicted beyond the top of the
    scale are not all alike; else they are the expected ratings, beyond the scale before they are clamped to it.
    """
    users = len(recommender.user_ids)
    if not ranks_by_product(recommender):
        return lambda block: recommender.ratings_to_rank(np.arange(users)[users_of_block(block, users)])
    vectors = recommender.joint_vectors()
    return lambda block: vectors.scores(users_of_block(block, users)).numpy()


def expected_ratings(
    recommender: Recommender, user: npt.NDArray[np.integer[Any]], item: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.float32]:
    """(R,) expected ratings of pairs; NaN where the run has no rating model, or the user is new (-1)."""
    found = np.full(len(item), np.nan, np.float32)
    if recommender.predicts and (user >= 0).all():
        found = recommender.pair_ratings(user, item)
    return found
