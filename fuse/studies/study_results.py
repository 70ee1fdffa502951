"""What a study measured: each model over the cases of a group, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import BadInput
from ..evaluation.metrics import Interval, bootstrap_interval, paired_difference, rmse
from ..runs.repeat import Case, Spread
from ..runs.run import Run


@dataclass(frozen=True, eq=False)
class Tested:
    """What one model predicted for one test part, and what that took; no ``seconds`` where nothing was trained."""

    case: Case
    user: pl.Series
    item: pl.Series
    rating: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    seconds: float | None = None
    epochs: int | None = None

    @classmethod
    def of(cls, case: Case, run: Run) -> Tested:
        """Read a finished run."""
        table, summary = run.predictions(), run.summary
        rating, prediction = table["rating"].to_numpy(), table["prediction"].to_numpy()
        seconds, epochs = summary.seconds, summary.chosen_epochs
        return cls(case, table["user_id"], table["item_id"], rating, prediction, seconds, epochs)

    @property
    def rmse(self) -> float:
        """Of this test part."""
        return rmse(self.rating, self.prediction)


@dataclass(frozen=True, eq=False)
class Row:
    """One model over all cases of a group."""

    name: str
    title: str
    tested: tuple[Tested, ...]

    def per_split(self) -> dict[str, float]:
        """RMSE of each split, the mean over its seeds."""
        splits = dict.fromkeys(tested.case.split for tested in self.tested)
        return {s: float(np.mean([tested.rmse for tested in self.tested if tested.case.split == s])) for s in splits}

    def spread(self) -> Spread:
        """RMSE over all splits and seeds."""
        values = [tested.rmse for tested in self.tested]
        return Spread.of(values) or Spread(float("nan"), None)

    def interval(self) -> Interval:
        """RMSE of the test ratings of all cases together, whole users drawn."""
        return bootstrap_interval(self._rating, self._prediction, self._user).rmse

    def minus(self, other: Row) -> Interval:
        """RMSE of all cases together minus another row's, whole users drawn. BadInput for other test ratings."""
        for mine, its in zip(self.tested, other.tested, strict=True):
            if not (mine.user.equals(its.user) and mine.item.equals(its.item)):
                raise BadInput(f"{self.name} and {other.name} were tested on other ratings ({mine.case}): study anew")
        return paired_difference(self._rating, self._prediction, other._prediction, self._user)

    def seconds(self) -> float | None:
        """Mean seconds of a run; None where nothing was trained."""
        seconds = [tested.seconds for tested in self.tested if tested.seconds is not None]
        return float(np.mean(seconds)) if seconds else None

    @property
    def _rating(self) -> npt.NDArray[Any]:
        return np.concatenate([tested.rating for tested in self.tested])

    @property
    def _prediction(self) -> npt.NDArray[Any]:
        return np.concatenate([tested.prediction for tested in self.tested])

    @property
    def _user(self) -> npt.NDArray[Any]:
        return pl.concat([tested.user for tested in self.tested]).to_numpy()


@dataclass(frozen=True, eq=False)
class Group:
    """Splits of one table: the folds of one cross-validation, or a single split.

    ``rows`` is empty for interactions without ratings. ``lists`` is `pooled_lists` of all trained models and the
    baselines, by the protocol that ``lists_protocol`` names.
    """

    splits: tuple[str, ...]
    rows: tuple[Row, ...]
    lists: pl.DataFrame
    lists_protocol: str
    titles: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Study:
    """A finished study. ``provenance`` says what its figures came from, ``skipped`` what was left out, and why."""

    folder: Path
    groups: tuple[Group, ...]
    provenance: Mapping[str, str]
    skipped: tuple[str, ...] = field(default=())

    @property
    def rates(self) -> bool:
        """Whether its models predict ratings."""
        return bool(self.groups[0].rows)
