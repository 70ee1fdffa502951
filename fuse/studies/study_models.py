"""The models of a study: the rows of its table, each a preset with settings of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...data.runtime.errors import UsageError
from ..settings.config import Config
from ..settings.presets import preset


@dataclass(frozen=True)
class StudyModel:
    """A row of the table: its name on the command line, its title, and the settings that make it of a preset.

    It trains on all ratings outside the test part, since a study has no column for a validation RMSE. A validation part
    is held out only where something is chosen by it: how long to train, with patience, and the blend of a ranking model
    of interactions without ratings.
    """

    name: str
    title: str
    preset: str
    settings: tuple[str, ...] = ()

    def config(self, settings: Sequence[str], *, implicit: bool = False) -> Config:
        """Its config with further settings, of which its own have the last word."""
        chosen = preset(self.preset)
        held_out = [] if chosen.patience or implicit else ["validation=0"]
        return chosen.with_settings([*held_out, *settings, *self.settings])


_NO_COMPONENTS = ("text_components=0", "image_components=0")
MODELS: tuple[StudyModel, ...] = (
    StudyModel("bias", "user and film biases", "bias", ("modalities=none", "dim=0")),
    StudyModel("mf", "biased matrix factorisation", "mf", ("modalities=none",)),
    StudyModel("text", "text only, CLS", "text", ("modalities=text", "level=cls")),
    StudyModel("poster", "poster only, CLS", "poster", ("modalities=image", "level=cls")),
    StudyModel("both-cls", "text + poster, CLS", "paper", ("modalities=both", "level=cls")),
    StudyModel("both-tokens", "text + poster, tokens", "paper", ("modalities=both", "level=tokens")),
    StudyModel("best-none", "best without plots and posters", "best", ("modalities=none", "layers=0", *_NO_COMPONENTS)),
    StudyModel("best-transformer", "best, Transformer as content", "best", ("layers=2", *_NO_COMPONENTS)),
    StudyModel("best-fused", "best, Transformer besides linear content", "best", ("layers=2",)),
    StudyModel("best", "best (linear content)", "best", ("layers=0",)),
)


def models_named(names: Sequence[str]) -> list[StudyModel]:
    """The models of these names, in the order of the table; all for none. UsageError for an unknown one."""
    known = {model.name: model for model in MODELS}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--models: no model {unknown[0]!r}; there are {', '.join(known)}")
    return [model for model in MODELS if not names or model.name in names]
