"""What a run chose by its training ratings: the settings of each member, what was tried, and what that gained.

Written before training begins, so that a resumed run does not choose again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data.runtime.disk import write_json
from ...data.runtime.errors import BadInput, UsageError
from .config import Config


@dataclass(frozen=True)
class Trial:
    """One short training: its settings as multiples of the preset's, and its validation RMSE, the lower the better."""

    settings: dict[str, Any]
    rmse: float
    seconds: float


@dataclass(frozen=True)
class Choices:
    """The settings that differ from the run's config, one dictionary a member, and how they were found.

    ``bayesian_share`` is the weight of the Bayesian factors in a prediction, the rest is the members'; 0: none.
    ``reason`` is a sentence for people. ``held_out`` ratings of the training part were held out, in ``draws`` draws;
    ``bias_rmse``, ``preset_rmse`` and ``chosen_rmse`` are of the bias model, of the preset as it is and of what was
    chosen, the first two by short trainings on these; None where nothing was tried.
    """

    members: tuple[dict[str, Any], ...]
    reason: str
    held_out: int = 0
    draws: int = 0
    bias_rmse: float | None = None
    preset_rmse: float | None = None
    chosen_rmse: float | None = None
    trials: tuple[Trial, ...] = ()
    seconds: float = 0.0
    bayesian_share: float = 0.0

    def configs(self, config: Config) -> tuple[Config, ...]:
        """The config of each member. UsageError for a setting that this version does not know."""
        return tuple(config.with_values(settings) for settings in self.members)

    def save(self, file: Path) -> None:
        """Write JSON, all or nothing."""
        write_json(file, asdict(self))

    @classmethod
    def read(cls, file: Path) -> Choices | None:
        """The choices in ``file``, or None where it is not there. BadInput where it is damaged."""
        try:
            content = json.loads(file.read_text("utf-8"))
            trials = tuple(Trial(**trial) for trial in content.pop("trials"))
            return cls(**{**content, "members": tuple(content["members"]), "trials": trials})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as fault:
            raise BadInput(f"{file} cannot be read ({fault}): train the run again") from None

    def lines(self) -> list[str]:
        """What was chosen, from what, and what it gained, for a person."""
        lines = [self.reason]
        for number, settings in enumerate(self.members):
            words = ", ".join(f"{name} {_plain(value)}" for name, value in settings.items())
            lines.append(f"  member {number + 1}: {words or 'as the preset says'}")
        if self.bayesian_share:
            lines.append(f"  averaged with Bayesian factors, which have {self.bayesian_share:.0%} of the weight")
        if self.chosen_rmse is not None and self.preset_rmse is not None and self.bias_rmse is not None:
            lines.append(
                f"  RMSE of {self.held_out:,} ratings held out: {self.chosen_rmse:.4f}; in short trainings "
                f"the preset's settings {self.preset_rmse:.4f}, biases alone {self.bias_rmse:.4f} "
                f"({len(self.trials)} trials, {self.seconds:.0f} s)"
            )
        return lines


def members_of(file: Path, config: Config) -> tuple[Config, ...]:
    """The config of each member of a run of ``config`` whose choices, if any, are in ``file``.

    UsageError where they don't fit this version.
    """
    if (choices := Choices.read(file)) is None:
        return (config,) * config.members
    try:
        return choices.configs(config)
    except UsageError as fault:
        raise UsageError(f"{file} has a setting of another version ({fault}); train the run again") from None


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
