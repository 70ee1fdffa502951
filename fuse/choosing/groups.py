"""The settings that the search moves, in groups; the sizes it starts from; and which of them a person left free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..settings.config import Config
from ..settings.presets import PRESETS

A_MILLION = 400_000
"""From so many ratings on, settings are those of MovieLens 1M."""

_HISTORIES = ("implicit_items", "explicit_items", "implicit_users", "explicit_users")
GROUPS: dict[str, tuple[str, ...]] = {
    "l2 of histories": tuple(f"l2.{name}" for name in _HISTORIES),
    "l2": ("l2.scale",),
    "l2 of biases of histories": tuple(f"l2.{name}_bias" for name in _HISTORIES),
    "l2 of biases": ("l2.user_bias", "l2.item_bias"),
    "l2 of vectors": ("l2.user", "l2.item"),
}
"""Groups of settings that are multiplied together; "l2" multiplies the others."""

COARSE = {
    "l2 of histories": 2.5,
    "l2": 2.0,
    "l2 of biases of histories": 2.5,
    "l2 of biases": 2.5,
    "l2 of vectors": 2.5,
}
FINE = {"l2 of histories": 1.5, "l2": 1.4}
BIASES_ALONE = {
    name: PRESETS["bias"].value(name)
    for name in (
        "dim",
        "head",
        "factor_learning_rate",
        "factor_steps",
        "epochs",
        "l2.scale",
        "l2.user_bias",
        "l2.item_bias",
    )
} | {"histories": False}

# of MovieLens 1M (docs/experiments.md); a search starts there where there are as many ratings
_OF_A_MILLION = {
    "dim": 128,
    "factor_learning_rate": 0.01,
    "l2.scale": 1.4,
    "l2.user": 50.0,
    "l2.item": 300.0,
    "l2.implicit_users": 35.0,
    "l2.explicit_items": 47.0,
}


def sizes(config: Config, ratings: int) -> dict[str, Any]:
    """Sizes for this number of training ratings, by measurements from 5,000 to a million (docs/experiments.md)."""
    wanted: dict[str, Any] = dict(_OF_A_MILLION) if ratings >= A_MILLION else {}
    if ratings < 20_000:
        wanted["dim"] = 32
    elif ratings > 5_000_000:
        wanted["dim"] = 64
    return {name: value for name, value in wanted.items() if free(config, [name])}


def free(config: Config, names: Iterable[str]) -> bool:
    """Whether these settings are still the preset's, and so may be chosen."""
    base = PRESETS.get(config.preset)
    return base is not None and all(config.value(name) == base.value(name) for name in names)


def differing(config: Config, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of ``settings`` that ``config`` has otherwise."""
    return {name: value for name, value in settings.items() if config.value(name) != value}
