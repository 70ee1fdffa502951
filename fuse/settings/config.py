"""The settings of a run: one typed config, each setting declared once, and `--set name=value`."""

# ruff: noqa: RUF009  (`setting` makes a dataclass field)

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import Any, Literal

from ...data.runtime.errors import UsageError
from .declaration import has_type, nearest, setting, settings_of
from .regularization import Regularization

Modalities = Literal["auto", "none", "text", "image", "both"]
Level = Literal["cls", "tokens"]
Head = Literal["squared", "ordinal", "auto"]
Precision = Literal["auto", "bf16", "fp32"]
Objective = Literal["auto", "rating", "ranking", "both"]


@dataclass(frozen=True)
class Config:
    """Every choice of a run. The defaults are those of the preset `paper`; `SETTINGS` has their meanings."""

    preset: str = setting("run", "paper", "the preset these settings started from")
    seed: int = setting("run", 0, "draws the split where it is random, the first weights and every batch", 0, 2**31 - 1)
    objective: Objective = setting(
        "run",
        "auto",
        "rating: predict ratings; ranking: order what comes next; both; auto: both, ranking without ratings",
    )
    adapt: bool = setting(
        "run", False, "sizes, head, members and L2 are chosen by the training ratings; what is set by hand stays"
    )

    user_ids: bool = setting("inputs", True, "a vector for each user")
    item_ids: bool = setting("inputs", True, "a vector for each item")
    demographics: bool = setting("inputs", True, "occupation, gender and age of users, where the dataset has them")
    genres: bool = setting("inputs", True, "genres and year of items")
    tags: bool = setting("inputs", False, "tags of items: who made them, who plays in them, where they are from")
    histories: bool = setting("inputs", False, "items that a user saw and rated, users who saw and rated an item")
    text_components: int = setting(
        "inputs", 0, "principal components of the texts' mean tokens as side information of items; 0: none", 0, 512
    )
    image_components: int = setting("inputs", 0, "the same of the images' mean patches", 0, 512)
    modalities: Modalities = setting(
        "inputs", "both", "embeddings that are read; auto: those that the embedding file has, none without a file"
    )
    level: Level = setting(
        "inputs", "tokens", "what the Transformer reads: CLS embeddings alone, or every text token and image patch too"
    )

    dim: int = setting("model", 32, "length of the vectors of users and items; 0: biases alone", 0, 4096)
    head: Head = setting(
        "model", "squared", "squared: a rating as it is; ordinal: a probability for each; auto: ordinal up to 20 levels"
    )
    members: int = setting("model", 1, "models trained with seeds of their own, whose predictions are averaged", 1, 64)
    item_dropout: float = setting(
        "model", 0.0, "share of items that a step treats as never rated, so that cold ones are predicted well", 0, 0.9
    )
    cold_start_weights: bool = setting(
        "model", False, "items without a rating are predicted from side information with weights of their own"
    )
    bayesian: bool = setting(
        "model",
        False,
        "Bayesian factors averaged in, where adapt finds that ratings are predicted better so",
    )

    width: int = setting("Transformer", 128, "width of the Transformer, a multiple of attention_heads", 8, 8192)
    layers: int = setting("Transformer", 2, "layers of the Transformer; 0: no Transformer", 0, 64)
    attention_heads: int = setting("Transformer", 4, "heads of the attention of the Transformer", 1, 256)
    dropout: float = setting("Transformer", 0.2, "dropout of the Transformer", 0, 0.9)
    token_drop: float = setting(
        "Transformer",
        0.0,
        "share of text tokens and image patches that a training step hides from the Transformer",
        0,
        0.95,
    )
    pool_patches: int = setting(
        "Transformer", 1, "side of the squares of image patches that are averaged into one token; 1: none", 1, 64
    )

    epochs: int = setting("training", 12, "passes of the Transformer over all items, at most", 1, 100_000)
    batch_items: int = setting("training", 128, "items in a batch, each with all its training ratings", 1, 1_000_000)
    transformer_learning_rate: float = setting("training", 5e-4, "learning rate of the Transformer (AdamW)", 1e-9, 10)
    weight_decay: float = setting("training", 0.05, "weight decay of the Transformer", 0, 10)
    factor_steps: int = setting(
        "training", 240, "full-batch steps of vectors and biases, spread over the epochs", 1, 10_000_000
    )
    factor_learning_rate: float = setting("training", 0.02, "learning rate of vectors and biases (Adam)", 1e-9, 10)
    precision: Precision = setting("training", "auto", "auto: bf16 where the hardware has it")
    compile: bool = setting("training", False, "compile the Transformer (needs a C++ compiler)")
    validation: float = setting(
        "training",
        0.1,
        "share of the training part held out of a first fit, to measure its RMSE and for patience; 0: none",
        0,
        0.9,
    )
    patience: int = setting(
        "training",
        0,
        "epochs without a better validation RMSE before training stops and the best one counts; 0: train all",
        0,
        100_000,
    )
    refit: bool = setting(
        "training",
        True,
        "train afresh on training and validation part together after the fit that holds the latter out",
    )
    warm_start_share: float = setting(
        "training", 0.25, "share of epochs and factor_steps that --warm-start trains for", 1e-3, 1
    )

    l2: Regularization = Regularization()

    ranking_l2: float = setting("ranking model", 0.25, "multiplies the L2 strengths of the ranking model", 0, 1e6)
    ranking_others: float = setting(
        "ranking model",
        0.3,
        "weight of a pair that is no liked one in the ranking loss, where a liked one weighs 1",
        1e-6,
        1,
    )
    ranking_item_item: int = setting(
        "ranking model",
        256,
        "singular vectors of the interactions in the item-item part of the ranking model; 0: no such",
        0,
        4096,
    )

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
    def takes_bayesian(self) -> bool:
        """Whether Bayesian factors may be averaged in: they know users and items by their ids alone."""
        return self.bayesian and self.user_ids and self.item_ids

    @property
    def fuses(self) -> bool:
        """Whether a fusion Transformer is part of the model."""
        return self.modalities != "none" and self.layers > 0

    def with_epochs(self, epochs: int) -> Config:
        """With so many epochs, and factor steps in proportion: the rates run down over these."""
        return replace(self, epochs=epochs, factor_steps=math.ceil(self.factor_steps * epochs / self.epochs))

    def for_warm_start(self) -> Config:
        """As a warm start trains: ``warm_start_share`` of the factor steps and, with a Transformer, of its epochs."""
        epochs = math.ceil(self.warm_start_share * self.epochs) if self.fuses else self.epochs
        return replace(self, epochs=epochs, factor_steps=math.ceil(self.warm_start_share * self.factor_steps))

    def value(self, name: str) -> Any:
        """The value of a setting by its name in `SETTINGS`."""
        return attrgetter(name)(self)

    def values(self) -> dict[str, Any]:
        """Every setting's value by its name, in the order of `SETTINGS`."""
        return {name: self.value(name) for name in SETTINGS}

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """With these values, by their names in `SETTINGS`. UsageError for an unknown name."""
        for name in values:
            if name not in SETTINGS:
                raise UsageError(f"no setting {name!r}{nearest(name, SETTINGS)}")
        own = {name: value for name, value in values.items() if "." not in name}
        l2 = {name.removeprefix("l2."): value for name, value in values.items() if "." in name}
        return replace(self, **own, l2=replace(self.l2, **l2))

    def with_settings(self, settings: Iterable[str]) -> Config:
        """Apply ``name=value`` pairs. UsageError for an unknown name (with the nearest), or a value of another type."""
        changes: dict[str, Any] = {}
        for pair in settings:
            name, equals, text = (part.strip() for part in pair.partition("="))
            if not equals:
                raise UsageError(f"--set {pair}: expected name=value, as in --set epochs=20")
            if name not in SETTINGS or name == "preset":
                raise UsageError(
                    f"--set {name}: no such setting{nearest(name, SETTINGS)}; `cinefuse fuse --list-settings` shows all"
                )
            changes[name] = SETTINGS[name].parsed(text)
        return self.with_values(changes).checked()

    def checked(self) -> Config:
        """This config; UsageError where a value is out of its range."""
        for name, declared in SETTINGS.items():
            declared.refuse_outside_range(self.value(name))
        if self.patience and not self.validation:
            raise UsageError("patience needs validation ratings to judge by: --set validation=0.1, or patience=0")
        if self.width % self.attention_heads:
            raise UsageError(
                f"width must be a multiple of attention_heads ({self.attention_heads}), found {self.width}"
            )
        return self

    def changes_from(self, other: Config) -> dict[str, Any]:
        """The settings whose values are not those of ``other``, by name."""
        return {name: value for name, value in self.values().items() if value != other.value(name)}

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; the L2 strengths are a dictionary of their own."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Config:
        """The reverse of `as_dict`. UsageError for a setting this version doesn't know, or a value of another type."""
        own = {name: value for name, value in content.items() if name != "l2"}
        l2 = content.get("l2", {})
        if not isinstance(l2, Mapping):
            raise UsageError(f"the config has {l2!r} as 'l2', expected its L2 strengths by name")
        values = own | {f"l2.{name}": value for name, value in l2.items()}
        for name in sorted(values):
            if name not in SETTINGS:
                raise UsageError(
                    f"the config holds {name!r}, which this version doesn't know; use the one that wrote it"
                )
            if not has_type(values[name], SETTINGS[name].kind):
                raise UsageError(f"the config has {values[name]!r} as {name!r}, which is of another type")
        return cls().with_values(values)


SETTINGS = settings_of(Config)
"""What is declared of each setting, by its name: ``epochs``, ``l2.user``, ..."""
