"""The summary of a run: how its training went and its errors. Written last, it marks the run as finished."""

from __future__ import annotations

import json
import typing
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from ...data.runtime.disk import write_json
from ...data.runtime.errors import BadInput
from ..settings.declaration import has_type


@dataclass(frozen=True)
class RunSummary:
    """How a run went; a figure that it does not have is None.

    chosen_epochs, fits: epochs of the model that serves, and fits that were trained. averaged: models, Bayesian
    factors among them, whose mean is a predicted rating. ranking: what the ranking model
    was chosen to be. choices: what a run chose by its ratings, as lines. validation_rmse: of the first member after the
    chosen epoch, on ratings that it was not trained on. bias_validation_rmse, bias_rmse: of biases alone on the same
    validation and test ratings. only_rating: the rating, where all but the test part are one. warnings: a line for each
    thing that a user has to know before trusting the run.
    """

    chosen_epochs: int
    fits: int
    seconds: float
    averaged: int = 1
    ranking: dict[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    only_rating: float | None = None
    validation_rmse: float | None = None
    validation_ratings: int | None = None
    bias_validation_rmse: float | None = None
    bias_rmse: float | None = None
    warnings: tuple[str, ...] = ()
    test_ratings: int | None = None
    rmse: float | None = None
    mae: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """What there is, ready for JSON."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in plain.items() if value is not None}

    def save(self, file: Path) -> None:
        """Write JSON, all or nothing."""
        write_json(file, self.as_dict())

    @classmethod
    def read(cls, file: Path) -> RunSummary:
        """The summary in ``file``. BadInput where it is missing, damaged, or of another version."""
        try:
            content: Any = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as fault:
            raise BadInput(f"{file} cannot be read ({fault}): train the run again") from None
        kinds = typing.get_type_hints(cls)
        given = content if isinstance(content, dict) else {}
        wrong = {
            each.name for each in fields(cls) if each.default is MISSING
        } - given.keys() | given.keys() - kinds.keys()
        wrong |= {name for name in given.keys() & kinds.keys() if not has_type(given[name], kinds[name])}
        if wrong:
            raise BadInput(f"{file}: {min(wrong)!r} is missing, unknown or of another type; train the run again")
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**given | lists)
