"""The settings of a run: one flat, typed config, its presets, and `--set name=value`."""

from __future__ import annotations

import difflib
import math
import typing
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from ...data.runtime.errors import UsageError

Modalities = Literal["auto", "none", "text", "image", "both"]
Level = Literal["cls", "tokens"]
Head = Literal["squared", "ordinal", "auto"]
Precision = Literal["auto", "bf16", "fp32"]
Objective = Literal["auto", "rating", "ranking", "both"]


@dataclass(frozen=True)
class Config:
    """Every choice of a run. The defaults are those of the preset `paper`; `MEANINGS` says what each field means."""

    preset: str = "paper"
    seed: int = 0
    objective: Objective = "auto"
    adapt: bool = False

    # what the model may look at
    user_ids: bool = True
    item_ids: bool = True
    demographics: bool = True
    genres: bool = True
    tags: bool = False
    histories: bool = False
    text_components: int = 0
    image_components: int = 0
    modalities: Modalities = "both"
    level: Level = "tokens"

    # the model
    dim: int = 32
    head: Head = "squared"
    members: int = 1
    item_dropout: float = 0.0
    cold_start_weights: bool = False
    covariance: bool = False

    # the fusion Transformer
    width: int = 128
    layers: int = 2
    attention_heads: int = 4
    dropout: float = 0.2
    token_drop: float = 0.0
    pool_patches: int = 1

    # training
    epochs: int = 12
    batch_items: int = 128
    transformer_learning_rate: float = 5e-4
    weight_decay: float = 0.05
    factor_steps: int = 240
    factor_learning_rate: float = 0.02
    precision: Precision = "auto"
    compile: bool = False
    validation: float = 0.1
    patience: int = 0
    refit: bool = True
    warm_start_share: float = 0.25

    # L2 strengths: half of each times the squared weights stands beside half the squared error of all ratings
    l2: float = 0.7
    l2_user: float = 14.0
    l2_item: float = 14.0
    l2_user_features: float = 790.0
    l2_item_features: float = 644.0
    l2_item_tags: float = 644.0
    l2_implicit_items: float = 55.0
    l2_explicit_items: float = 85.4
    l2_implicit_users: float = 61.9
    l2_explicit_users: float = 144.0
    l2_user_bias: float = 7.0
    l2_item_bias: float = 7.0
    l2_user_features_bias: float = 439.0
    l2_item_features_bias: float = 228.0
    l2_item_tags_bias: float = 228.0
    l2_implicit_items_bias: float = 1490.0
    l2_explicit_items_bias: float = 379.0
    l2_implicit_users_bias: float = 85.5
    l2_explicit_users_bias: float = 400.0
    l2_content: float = 5.0
    l2_user_power: float = 0.5
    l2_item_power: float = 0.5
    l2_levels: float = 1.0
    l2_cold_side: float = 300.0
    l2_cold_components: float = 10000.0
    l2_cold_tags: float = 600.0

    # the ranking model; its own strengths stand in fuse/training/ranking_member.py
    ranking_l2: float = 0.25
    ranking_others: float = 0.3
    ranking_item_item: int = 256

    @property
    def rates(self) -> bool:
        """Whether a rating model is trained."""
        return self.objective in ("auto", "rating", "both")

    @property
    def ranks(self) -> bool:
        """Whether a ranking model is trained."""
        return self.objective in ("ranking", "both")

    def with_objective(self, *, implicit: bool) -> Config:
        """``auto`` resolved: ``ranking`` where data are ``implicit``, else ``both``.

        It is ``rating`` where items are known by a Transformer alone, which the ranking model doesn't have. UsageError
        where ratings are wanted of data without any.
        """
        if implicit and self.objective in ("rating", "both"):
            raise UsageError(
                f"--objective {self.objective}: the dataset has interactions without ratings; use --objective ranking"
            )
        if self.objective != "auto":
            return self
        return replace(self, objective="ranking" if implicit else "both" if self.item_ids else "rating")

    @property
    def reads_embeddings(self) -> bool:
        """Whether the run reads an embedding file; with modalities "auto", whether it would read one."""
        return self.modalities != "none"

    @property
    def read_modalities(self) -> tuple[str, ...]:
        """The embeddings it reads: "text", "image", both or none."""
        whole: dict[str, tuple[str, ...]] = {"none": (), "both": ("text", "image"), "auto": ("text", "image")}
        return whole.get(self.modalities, (self.modalities,))

    @property
    def takes_covariance(self) -> bool:
        """Whether a covariance model may be averaged in: it knows users and items by their ids alone."""
        return self.covariance and self.user_ids and self.item_ids

    @property
    def fuses(self) -> bool:
        """Whether a fusion Transformer is part of the model."""
        return self.modalities != "none" and self.layers > 0

    def with_epochs(self, epochs: int) -> Config:
        """With so many epochs, and light steps in proportion: the rates run down over these."""
        return replace(self, epochs=epochs, factor_steps=math.ceil(self.factor_steps * epochs / self.epochs))

    def for_warm_start(self) -> Config:
        """As a warm start trains: ``warm_start_share`` of the light steps and, with a Transformer, of its epochs."""
        epochs = math.ceil(self.warm_start_share * self.epochs) if self.fuses else self.epochs
        return replace(self, epochs=epochs, factor_steps=math.ceil(self.warm_start_share * self.factor_steps))

    def strengths(self) -> dict[str, float]:
        """The L2 strengths by the names that `Factors.penalty` knows: ``user``, ``user.bias``, ..."""
        names = (
            "user",
            "item",
            "user_features",
            "item_features",
            "item_tags",
            "implicit_items",
            "explicit_items",
            "implicit_users",
            "explicit_users",
        )
        factors = {name: self.l2 * getattr(self, f"l2_{name}") for name in names}
        return factors | {f"{name}.bias": self.l2 * getattr(self, f"l2_{name}_bias") for name in names}

    def with_settings(self, settings: list[str]) -> Config:
        """Apply ``name=value`` pairs. UsageError for an unknown name (with the nearest), or a value of another type."""
        changes: dict[str, Any] = {}
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals:
                raise UsageError(f"--set {setting}: expected name=value, as in --set epochs=20")
            changes[name.strip()] = _parsed(name.strip(), value.strip())
        return replace(self, **changes).checked()

    def checked(self) -> Config:
        """This config; UsageError where a value is out of its range."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} must lie from {low:.12g} to {high:.12g}, found {value:.12g}")
        for name in (f.name for f in fields(self) if f.name.startswith("l2")):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative, found {getattr(self, name):g}")
        if self.patience and not self.validation:
            raise UsageError("patience needs validation ratings to judge by: --set validation=0.1, or patience=0")
        if self.width % self.attention_heads:
            raise UsageError(
                f"width must be a multiple of attention_heads ({self.attention_heads}), found {self.width}"
            )
        return self

    def changes_from(self, other: Config) -> dict[str, Any]:
        """The fields whose values are not those of ``other``, in their order."""
        theirs = other.as_dict()
        return {name: value for name, value in self.as_dict().items() if value != theirs[name]}

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Config:
        """The reverse of `as_dict`. UsageError for a field this version doesn't know."""
        if unknown := sorted(set(content) - set(_TYPES)):
            raise UsageError(
                f"the config holds {unknown[0]!r}, which this version doesn't know; use the one that wrote it"
            )
        return cls(**content)


_TYPES = typing.get_type_hints(Config)
_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "ranking_l2": (0, 1e6),
    "ranking_others": (1e-6, 1),
    "ranking_item_item": (0, 4096),
    "text_components": (0, 512),
    "image_components": (0, 512),
    "dim": (0, 4096),
    "members": (1, 64),
    "item_dropout": (0, 0.9),
    "width": (8, 8192),
    "layers": (0, 64),
    "attention_heads": (1, 256),
    "dropout": (0, 0.9),
    "token_drop": (0, 0.95),
    "pool_patches": (1, 64),
    "epochs": (1, 100_000),
    "batch_items": (1, 1_000_000),
    "transformer_learning_rate": (1e-9, 10),
    "weight_decay": (0, 10),
    "factor_steps": (1, 10_000_000),
    "factor_learning_rate": (1e-9, 10),
    "validation": (0, 0.9),
    "patience": (0, 100_000),
    "warm_start_share": (1e-3, 1),
}

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
    covariance=True,
    layers=0,
    dim=64,
    members=2,
    epochs=4,
    factor_steps=240,
    l2=0.65,
    l2_user=38.3,
    l2_item=219.0,
    l2_user_bias=7.0,
    l2_item_bias=51.8,
    l2_item_tags=2600.0,
    l2_item_tags_bias=900.0,
    l2_user_power=0.425,
    l2_item_power=0.175,
    l2_content=100.0,
)
# where a film is known by its plot or poster alone the Transformer has to learn films by heart, for which it needs its
# freedom and time; films that nobody has rated suffer from that, and patience then ends it early
_CONTENT_ALONE = replace(
    _PAPER, item_ids=False, genres=False, level="cls", dropout=0.0, epochs=48, l2_content=3.0, patience=8
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
        raise UsageError(f"no preset {name!r}{_nearest(name, list(PRESETS))}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def _parsed(name: str, value: str) -> Any:
    if name not in _TYPES or name == "preset":
        raise UsageError(f"--set {name}: no such setting{_nearest(name, list(_TYPES))}")
    kind = _TYPES[name]
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise UsageError(f"--set {name}: expected {' or '.join(typing.get_args(kind))}, found {value!r}")
        return value
    try:
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        parsed = kind(value)
    except (ValueError, KeyError):
        parsed = math.nan
    if not math.isfinite(parsed):
        expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise UsageError(f"--set {name}: expected {expected}, found {value!r}")
    return parsed


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f" (did you mean {close[0]!r}?)" if close else ""


MEANINGS: dict[str, str] = {
    "preset": "the preset these settings started from",
    "seed": "draws the split where it is random, the first weights and every batch",
    "objective": "rating: predict ratings; ranking: order what comes next; both; auto: both, ranking without ratings",
    "adapt": "sizes, head, members and L2 are chosen by the training ratings; what is set by hand stays",
    "user_ids": "a vector for each user",
    "item_ids": "a vector for each film",
    "demographics": "occupation, gender and age of users, where the dataset has them",
    "genres": "genres and year of films",
    "tags": "tags of films: who made them, who plays in them, where they are from",
    "histories": "films that a user saw and rated, users who saw and rated a film",
    "text_components": "principal components of the plots' mean tokens as side information of films; 0: none",
    "image_components": "the same of the posters' mean patches",
    "modalities": "embeddings that are read; auto: those that the embedding file has, none without a file",
    "level": "what the Transformer reads: CLS embeddings alone, or every plot token and poster patch too",
    "dim": "length of the vectors of users and films; 0: biases alone",
    "head": "squared: a rating as it is; ordinal: a probability for each; auto: ordinal up to 20 levels",
    "members": "models trained with seeds of their own, whose predictions are averaged",
    "item_dropout": "share of films that a step treats as never rated, so that cold ones are predicted well",
    "cold_start_weights": "films without a rating are told by side information with weights of their own",
    "covariance": "a covariance model of the items averaged in, where adapt finds that it predicts better so",
    "width": "width of the Transformer, a multiple of attention_heads",
    "layers": "layers of the Transformer; 0: no Transformer",
    "attention_heads": "heads of the attention of the Transformer",
    "dropout": "dropout of the Transformer",
    "token_drop": "share of plot tokens and poster patches that a training step hides from the Transformer",
    "pool_patches": "side of the squares of poster patches that are averaged into one token; 1: none",
    "epochs": "passes of the Transformer over all films, at most",
    "batch_items": "films in a batch, each with all its training ratings",
    "transformer_learning_rate": "learning rate of the Transformer (AdamW)",
    "weight_decay": "weight decay of the Transformer",
    "factor_steps": "full-batch steps of vectors and biases, spread over the epochs",
    "factor_learning_rate": "learning rate of vectors and biases (Adam)",
    "precision": "auto: bf16 where the hardware has it",
    "compile": "compile the Transformer (needs a C++ compiler)",
    "validation": "share of the training part held out of a first fit, to tell its RMSE and for patience; 0: none",
    "patience": "epochs without a better validation RMSE before training stops and the best one counts; 0: train all",
    "refit": "train afresh on training and validation part together after the fit that holds the latter out",
    "warm_start_share": "share of epochs and factor_steps that --warm-start trains for",
    "l2": "multiplies every strength named l2_user to l2_explicit_users_bias",
    "l2_user": "L2 strength of users' vectors",
    "l2_item": "L2 strength of films' vectors",
    "l2_user_features": "L2 strength of vectors of demographics",
    "l2_item_tags": "L2 strength of vectors of tags",
    "l2_item_features": "L2 strength of vectors of genres, years and components",
    "l2_implicit_items": "L2 strength of vectors of films a user saw",
    "l2_explicit_items": "L2 strength of vectors of films a user rated, weighted by the ratings",
    "l2_implicit_users": "L2 strength of vectors of users who saw a film",
    "l2_explicit_users": "L2 strength of vectors of users who rated a film, weighted by the ratings",
    "l2_user_bias": "L2 strength of users' biases",
    "l2_item_bias": "L2 strength of films' biases",
    "l2_user_features_bias": "L2 strength of biases of demographics",
    "l2_item_tags_bias": "L2 strength of biases of tags",
    "l2_item_features_bias": "L2 strength of biases of genres, years and components",
    "l2_implicit_items_bias": "L2 strength of biases of films a user saw",
    "l2_explicit_items_bias": "L2 strength of biases of films a user rated",
    "l2_implicit_users_bias": "L2 strength of biases of users who saw a film",
    "l2_explicit_users_bias": "L2 strength of biases of users who rated a film",
    "l2_content": "L2 strength of what the Transformer says of a film",
    "l2_user_power": "how the strength of a user's own row grows with their ratings: (count / mean count) ** power",
    "l2_item_power": "the same of a film's own row",
    "l2_cold_side": "L2 strength of the weights of genres and years for films without a rating",
    "l2_cold_components": "L2 strength of the weights of components for films without a rating",
    "l2_cold_tags": "L2 strength of the weights of tags for films without a rating",
    "ranking_l2": "multiplies the L2 strengths of the ranking model",
    "ranking_others": "weight of a pair that is no liked one in the ranking loss, where a liked one weighs 1",
    "ranking_item_item": "singular vectors of the interactions in the item-item part of the ranking model; 0: no such",
    "l2_levels": "multiplies the L2 of users' level logits in the ordinal head, which is estimated from the ratings",
}
"""What each field of `Config` means, in a line."""
