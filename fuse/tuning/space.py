"""What a search moves: settings by a factor each on what a run chooses by itself, and how far."""

from __future__ import annotations

from dataclasses import dataclass

from ..choosing.groups import GROUPS
from ..settings.config import Config

Members = tuple[Config, ...]
"""The config of each member of a model."""


@dataclass(frozen=True)
class Range:
    """Settings that are multiplied by one factor, from ``low`` to ``high`` (searched on a logarithmic scale)."""

    settings: tuple[str, ...]
    low: float
    high: float


SPACE: dict[str, Range] = {
    "l2": Range(("l2.scale",), 0.2, 5.0),
    "l2 of histories": Range(GROUPS["l2 of histories"], 0.2, 5.0),
    "l2 of own vectors": Range(GROUPS["l2 of vectors"], 0.2, 5.0),
    "l2 of biases": Range(GROUPS["l2 of biases"], 0.2, 5.0),
    "l2 of side information": Range(("l2.user_features", "l2.item_features", "l2.item_tags"), 0.2, 5.0),
    "l2 of levels": Range(("l2.levels",), 0.3, 3.0),
    "dim": Range(("dim",), 0.25, 4.0),
    "factor_steps": Range(("factor_steps",), 0.5, 2.0),
    "factor_learning_rate": Range(("factor_learning_rate",), 0.5, 2.0),
}
"""What is searched: factors on the values that a run chooses by itself."""


def with_factors(config: Config, factors: dict[str, float]) -> Config:
    """``config`` with the settings of `SPACE` multiplied by ``factors``. UsageError where one leaves its range."""
    changes: dict[str, int | float] = {}
    for name, factor in factors.items():
        for setting in SPACE[name].settings if factor != 1 else ():
            value = config.value(setting)
            changes[setting] = (
                max(1, round(value * factor)) if isinstance(value, int) else float(f"{value * factor:.4g}")
            )
    return config.with_values(changes).checked()
