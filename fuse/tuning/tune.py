"""Tuning, whole: Optuna proposes settings, validation ratings within the training part judge them.

The search starts at what a run would choose by itself (`choosing.search`, which is shorter and coarser). Every trial is
trained on the same few draws of validation ratings and ends early where it falls behind the others. What was best is
compared with the start once more, on draws that the search has not used: of many trials the best looks better than it
is, and where the start holds up it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ...data.dataset.folder import Description
from ...data.dataset.splits import split_ratings
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.disk import writing
from ...data.runtime.errors import UsageError
from ...data.runtime.lock import sole_writer
from ...data.runtime.progress import NoProgress, Progress
from ...device import resolve_device, resolve_precision
from ..choosing.search import Search
from ..inputs.available import with_available_inputs
from ..inputs.join import join
from ..inputs.training_data import TrainingData, load_training_data
from ..settings.choices import Choices
from ..settings.config import Config
from ..settings.presets import preset
from .optuna_search import best_trial, confirmed, importance, opened_study, search
from .space import Members
from .tuned_settings import TunedSettings, tuned_on
from .validation_draws import ValidationDraws

SETTINGS_FILE = "settings.json"
CHOICES_FILE = "choices.json"
TRIALS_FILE = "trials.jsonl"


@dataclass(frozen=True)
class Tuned:
    """What a search found and wrote to ``file``.

    importance: share of each of `SPACE` in how good a trial is; empty with too few trials.
    """

    file: Path
    settings: TunedSettings
    trials: int
    pruned: int
    importance: dict[str, float]
    interrupted: bool


def tune(
    dataset: str | Path,
    embeddings: str | Path | None,
    out: str | Path,
    config: Config,
    *,
    split: str = "random:0.1",
    minutes: float = 20.0,
    trials: int | None = None,
    draws: int = 2,
    missing: str = "mask",
    duplicates: str = "last",
    device: str = "auto",
    progress: Progress | None = None,
) -> Tuned:
    """Search settings within the training part of ``split`` and write `settings.json` into the folder ``out``.

    Stops after so many ``minutes`` or ``trials``, or at Ctrl-C, with the best so far; another call continues with
    the trials that are there. FingerprintMismatch where these belong to other ratings, settings or another split.
    """
    dataset, out = Path(dataset), Path(out)
    progress = progress or NoProgress()
    place = resolve_device(device)
    if Description.read(dataset).implicit:
        raise UsageError(f"{dataset} has interactions without ratings: a search needs ratings to judge by")
    config = replace(config, precision=resolve_precision(config.precision, place)).checked()
    file = EmbeddingFile.open(embeddings) if embeddings is not None and config.reads_embeddings else None
    asked = config
    config, absent = with_available_inputs(config, dataset, file)
    if absent:
        progress.message(f"not there, so not used: {', '.join(absent)}")
    parts = split_ratings(dataset, split, seed=config.seed)
    about = tuned_on(dataset, parts) | {"preset": config.preset}
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out / "tune"):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = JournalStorage(JournalFileBackend(str(out / TRIALS_FILE)))
        study = opened_study(storage, out, about | {"config": config.as_dict(), "draws": draws}, config.seed)
        joined = join(dataset, file, missing=missing, duplicates=duplicates)
        data = load_training_data(dataset, joined, file, parts, config, place)
        judged = ValidationDraws(dataset, joined, data, config, split, draws)
        choices = Choices.read(out / CHOICES_FILE) or _choices(config, data, progress)
        choices.save(out / CHOICES_FILE)
        members = choices.configs(config)
        file_of_settings = out / SETTINGS_FILE
        kept = {"settings": _by_hand(asked), "bayesian_share": choices.bayesian_share}
        write = partial(_write, file_of_settings, config, about | kept)
        interrupted = search(study, members, judged, minutes, trials, progress, write)
        if not interrupted:
            found, validation = confirmed(members, best_trial(study), judged, progress)
            write(found, validation, confirmed=True)
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        return Tuned(
            file_of_settings,
            TunedSettings.load(file_of_settings),
            states.count(TrialState.COMPLETE),
            states.count(TrialState.PRUNED),
            importance(study),
            interrupted,
        )


def _choices(config: Config, data: TrainingData, progress: Progress) -> Choices:
    """Where the search starts: at what a run would choose by itself."""
    if not config.adapt:
        return Choices(({},) * config.members, "the preset's")
    return Search(config, data, progress).choose()


def _by_hand(asked: Config) -> dict[str, Any]:
    changed = asked.changes_from(preset(asked.preset))
    return {name: value for name, value in changed.items() if name not in ("precision", "seed")}


def _write(
    file: Path,
    config: Config,
    about: dict[str, Any],
    found: Members,
    validation: dict[str, float],
    *,
    confirmed: bool,
) -> None:
    """Write the settings file: what each member ``found`` has other than ``config``."""
    members = [each.changes_from(config) for each in found]
    TunedSettings(members=members, validation=validation, confirmed=confirmed, **about).save(file)
