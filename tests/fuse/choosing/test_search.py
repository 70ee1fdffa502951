"""Laws of an adaptive run: training ratings alone decide, biases never win, what is set stays, it resumes."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cinefuse.fuse.choosing import trials
from cinefuse.fuse.choosing.ensemble import TRIALS_OF_MEMBERS, Ensemble
from cinefuse.fuse.choosing.search import Search
from cinefuse.fuse.choosing.trials import Trials
from cinefuse.fuse.inputs.side_information import SideInformation
from cinefuse.fuse.inputs.training_data import TrainingData
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.choices import Choices
from cinefuse.fuse.settings.config import Config
from cinefuse.fuse.settings.presets import preset
from cinefuse.tests.support.runs import L2_BY_HAND

pytestmark = [pytest.mark.usefixtures("one_thread", "few_sweeps"), pytest.mark.slow]  # whole searches

USERS, ITEMS = 60, 50
QUICK: dict[str, Any] = {"factor_steps": 6, "modalities": "none", "text_components": 0, "image_components": 0}


def config(**changes: Any) -> Config:
    return preset("best").with_values(QUICK | {"precision": "fp32"} | changes)


def ratings_of(taste: float, *, levels: int = 5, seed: int = 0) -> TrainingData:
    """Ratings of users with biases and, ``taste`` strong, tastes: 0 leaves biases and noise alone."""
    random = np.random.default_rng(seed)
    user, item = (places.ravel() for places in np.meshgrid(np.arange(USERS), np.arange(ITEMS), indexing="ij"))
    kept = random.random(USERS * ITEMS) < 0.5
    user, item = user[kept], item[kept]
    score = random.normal(size=USERS)[user] + random.normal(size=ITEMS)[item] + random.normal(size=len(user))
    score += taste * (random.normal(size=(USERS, 2))[user] * random.normal(size=(ITEMS, 2))[item]).sum(1)
    rating = np.clip(np.round((score + 4) / 8 * (levels - 1)), 0, levels - 1)
    rows = torch.from_numpy(random.permutation(len(user)))
    side = SideInformation(torch.zeros(USERS, 0), torch.zeros(ITEMS, 0), torch.zeros(ITEMS, 0))
    return TrainingData(
        USERS,
        ITEMS,
        torch.from_numpy(user),
        torch.from_numpy(item),
        torch.from_numpy(rating).float(),
        rows[200:].sort().values,
        rows[:100].sort().values,
        side,
        {},
        {},
        torch.device("cpu"),
    )


@functools.cache
def chosen_of(taste: float) -> Choices:
    """What is chosen for such ratings with nothing set by hand."""
    return Search(config(), ratings_of(taste)).choose()


def without_seconds(choices: Choices) -> Choices:
    return replace(choices, seconds=0.0, trials=tuple(replace(trial, seconds=0.0) for trial in choices.trials))


def test_choices_depend_on_training_ratings_and_seed_alone() -> None:
    data, chosen = ratings_of(1.0), chosen_of(1.0)
    other = data.rating.clone()
    outside = torch.ones(len(other), dtype=torch.bool)
    outside[data.train] = False
    other[outside] = 4 - other[outside]
    assert without_seconds(Search(config(), replace(data, rating=other)).choose()) == without_seconds(chosen)
    assert len(chosen.trials) <= trials._MOST_TRIALS + TRIALS_OF_MEMBERS
    assert chosen.held_out > 0


@pytest.mark.parametrize("taste", [0.0, 1.0])
def test_what_is_chosen_is_no_worse_than_biases_and_the_preset_on_the_ratings_held_out(taste: float) -> None:
    chosen = chosen_of(taste)
    assert chosen.chosen_rmse is not None
    assert chosen.bias_rmse is not None
    assert chosen.preset_rmse is not None
    assert chosen.chosen_rmse <= chosen.bias_rmse
    if chosen.members[0].get("dim") != 0:  # biases alone are served where nothing beats them by more than chance
        assert chosen.chosen_rmse <= chosen.preset_rmse


def test_where_biases_are_best_biases_alone_are_served_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = Trials.of_biases
    monkeypatch.setattr(Trials, "of_biases", lambda self: truth(self) * 0 + self.truth)  # as if they knew all
    chosen = Search(config(), ratings_of(1.0)).choose()
    (member,) = chosen.configs(config())
    assert (member.dim, member.histories) == (0, False)
    assert "biases alone" in chosen.lines()[0]


def test_settings_by_hand_stay() -> None:
    by_hand = config(dim=3, head="squared", members=4, **{"l2.scale": 2.0, "l2.user_bias": 1.0})
    chosen = Search(by_hand, ratings_of(1.0)).choose().configs(by_hand)
    assert len(chosen) == 4
    assert {member.factor_steps for member in chosen} == {QUICK["factor_steps"]}
    assert {(member.dim, member.head, member.l2.scale, member.l2.user_bias) for member in chosen} == {
        (3, "squared", 2.0, 1.0)
    }


def test_few_noisy_ratings_are_trained_for_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_STEPS", 20)
    monkeypatch.setattr(trials, "_MOST_TRIALS", 8)
    steps = preset("best").factor_steps
    own = config(factor_steps=steps, bayesian=False, head="squared")
    chosen = Search(own, ratings_of(1.0)).choose()
    tried = [trial for trial in chosen.trials if "factor_steps" in trial.settings]
    assert {trial.settings["factor_steps"] for trial in tried} >= {steps, steps // 2, steps // 4}
    assert chosen.chosen_rmse is not None
    assert chosen.chosen_rmse <= min(trial.rmse for trial in tried) + 1e-6
    assert all(member.factor_steps < steps for member in chosen.configs(own))


def test_bayesian_factors_join_where_they_help_and_never_against_the_users_will() -> None:
    chosen = chosen_of(1.0)
    assert chosen.bayesian_share > 0
    assert any("Bayesian" in line for line in chosen.lines())
    without = Search(config(bayesian=False), ratings_of(1.0)).choose()
    assert without.bayesian_share == 0
    assert without.members == chosen.members


@pytest.mark.parametrize(
    ("members", "deviation", "lowest", "highest"),
    [
        *((1, 1.06, 0.5, 0.5), (1, 0.94, 0.5, 0.5), (1, 2.0, 0.15, 0.35), (1, 0.3, 0.8, 0.95), (1, 30, 0, 0)),
        *((3, 1.7, 0.25, 0.25), (3, 0.3, 0.75, 0.95)),
    ],
)
def test_bayesian_factors_weigh_as_much_as_a_member_unless_ratings_say_otherwise(
    monkeypatch: pytest.MonkeyPatch, members: int, deviation: float, lowest: float, highest: float
) -> None:
    tried = Trials(config(), ratings_of(1.0))
    drawn = torch.Generator().manual_seed(0)
    # of the same length and uncorrelated, so that the best weight is 1 / (1 + deviation ** 2)
    theirs, bayesian = torch.linalg.qr(torch.randn(len(tried.truth), 2, generator=drawn)).Q.T * len(tried.truth) ** 0.5
    monkeypatch.setattr(tried, "of_bayesian", lambda: tried.truth + deviation * bayesian)
    share, blend = Ensemble(config(), tried).bayesian_share(tried.truth + theirs, members)
    assert lowest <= share <= highest
    torch.testing.assert_close(blend - tried.truth, (1 - share) * theirs + share * deviation * bayesian)


@pytest.mark.parametrize("levels", [2, 11, 60])
def test_any_scale_is_searched(levels: int) -> None:
    chosen = Search(config().with_settings(L2_BY_HAND), ratings_of(1.0, levels=levels)).choose()
    assert chosen.trials
    assert all(np.isfinite(trial.rmse) for trial in chosen.trials)


def test_too_few_ratings_or_only_one_level_leave_the_preset_as_it_is() -> None:
    data = ratings_of(1.0)
    few = Search(config(), replace(data, train=data.train[:99])).choose()
    same = Search(config(), replace(data, rating=torch.full_like(data.rating, 3.0))).choose()
    for chosen in (few, same):
        assert chosen.configs(config()) == (config(),) * 2
        assert chosen.trials == ()


def test_a_run_says_what_it_chose_and_does_not_search_again_when_it_goes_on(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = config(epochs=1, dim=4)
    whole = train(sample, None, tmp_path / "whole", quick, device="cpu")
    choices = whole.choices
    assert choices is not None
    assert whole.summary.choices == tuple(choices.lines())
    assert (whole.recommender.bayesian is not None) == (choices.bayesian_share > 0)
    assert len(whole.members) == len(whole.recommender.vectors) == len(choices.members)

    class Stopped(Exception):
        """Stands for whatever ends a process."""

    with monkeypatch.context() as patched:
        patched.setattr("cinefuse.fuse.training.loop.Training.run", lambda self: (_ for _ in ()).throw(Stopped()))
        with pytest.raises(Stopped):
            train(sample, None, tmp_path / "stopped", quick, device="cpu")
    with monkeypatch.context() as patched:
        patched.setattr(Search, "choose", lambda self: pytest.fail("searched again"))
        train(sample, None, tmp_path / "stopped", quick, device="cpu", resume=True)
    stopped = Run.open(tmp_path / "stopped")
    assert stopped.choices is not None
    assert without_seconds(stopped.choices) == without_seconds(choices)
    assert stopped.summary.rmse == pytest.approx(whole.summary.rmse, abs=0)
