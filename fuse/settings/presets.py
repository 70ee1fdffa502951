"""The presets: configs to start from, by name."""

from __future__ import annotations

from dataclasses import replace

from ...data.runtime.errors import UsageError
from .config import Config
from .declaration import nearest

_PAPER = Config()
# strengths by coordinate search on validation ratings of u1's training part (docs/experiments.md)
_BEST = replace(
    _PAPER,
    preset="best",
    modalities="auto",
    adapt=True,
    head="auto",
    tags=True,
    histories=True,
    text_components=32,
    image_components=8,
    cold_start_weights=True,
    bayesian=True,
    layers=0,
    dim=64,
    members=2,
    epochs=4,
    factor_steps=240,
    l2=replace(
        _PAPER.l2,
        scale=0.65,
        user=38.3,
        item=219.0,
        user_bias=7.0,
        item_bias=51.8,
        item_tags=2600.0,
        item_tags_bias=900.0,
        user_power=0.425,
        item_power=0.175,
        content=100.0,
    ),
)
# where an item is known by its text or image alone the Transformer has to memorise items, for which it needs little
# regularization and many epochs; items that nobody has rated suffer from that, and patience then ends it early
_CONTENT_ALONE = replace(
    _PAPER,
    item_ids=False,
    genres=False,
    level="cls",
    dropout=0.0,
    epochs=48,
    l2=replace(_PAPER.l2, content=3.0),
    patience=8,
)
PRESETS: dict[str, Config] = {
    "paper": _PAPER,
    "best": _BEST,
    "bias": replace(
        _PAPER,
        preset="bias",
        dim=0,
        modalities="none",
        demographics=False,
        genres=False,
        epochs=3,
        factor_steps=600,
        factor_learning_rate=0.05,
    ),
    "mf": replace(_PAPER, preset="mf", modalities="none", demographics=False, genres=False, epochs=4, factor_steps=400),
    "text": replace(_CONTENT_ALONE, preset="text", modalities="text"),
    "poster": replace(_CONTENT_ALONE, preset="poster", modalities="image"),
}


def preset(name: str) -> Config:
    """The preset called ``name``; UsageError with the nearest name."""
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}{nearest(name, PRESETS)}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
