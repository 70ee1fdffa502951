"""Searching settings for a dataset: Optuna proposes, validation ratings within the training part judge.

The search starts at what a run would choose by itself (`choosing.search`, which is shorter and coarser). Every trial is
trained on the same few draws of validation ratings and ends early where it falls behind the others. What was best is
compared with the start once more, on draws that the search has not used: of many trials the best looks better than it
is, and where the start holds up it is kept.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from ...data.dataset.folder import Description
from ...data.dataset.splits import Split, split_ratings
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.disk import writing
from ...data.runtime.errors import BadInput, FingerprintMismatch, UsageError
from ...data.runtime.lock import sole_writer
from ...data.runtime.progress import NoProgress, Progress
from ...device import resolve_device, resolve_precision
from ..choosing.groups import GROUPS
from ..choosing.search import Search
from ..inputs.available import with_available_inputs
from ..inputs.join import Joined, join
from ..inputs.training_data import TrainingData, load_training_data, places_of
from ..settings.choices import Choices
from ..settings.config import Config
from ..settings.presets import preset
from ..training.loop import Training
from .tuned_settings import TunedSettings, tuned_on

SETTINGS_FILE = "settings.json"
CHOICES_FILE = "choices.json"
TRIALS_FILE = "trials.jsonl"
_CONFIRMING_DRAWS = 2
_TRIALS_AT_RANDOM = 10  # before the sampler trusts its model of them


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


class _Draws:
    """Trains a config on one draw of validation ratings after another, and knows no test rating."""

    def __init__(
        self, dataset: Path, joined: Joined, data: TrainingData, config: Config, split: str, draws: int
    ) -> None:
        self._data = data
        kept = np.zeros(joined.coverage.ratings, bool)
        kept[joined.row] = True
        share = config.validation or 0.1
        parts: list[Split] = []
        for draw in range(draws + _CONFIRMING_DRAWS):
            drawn = split_ratings(dataset, split, seed=config.seed, validation=share, draw=draw).within(kept)
            if not any(np.array_equal(drawn.validation, other.validation) for other in parts):
                parts.append(drawn)
        self._places = [
            tuple(torch.from_numpy(places_of(joined, rows)).to(data.device) for rows in (part.train, part.validation))
            for part in parts
        ]
        # the latest ratings are the same in every draw, and so are a file's own: then one draw has to do for both
        self.searched = list(range(max(1, min(draws, len(parts) - _CONFIRMING_DRAWS))))
        self.fresh = list(range(len(self.searched), len(parts))) or self.searched

    def rmse(self, members: Members, draw: int) -> float:
        """Validation RMSE of the members' mean prediction, each trained once."""
        train, validation = self._places[draw]
        data = replace(self._data, train=train, validation=validation)
        once = tuple(replace(each, refit=False, patience=0, seed=each.seed + draw) for each in members)
        fitted = Training(once[0], data, members=once).run()
        user, item = data.user[validation], data.item[validation]
        with torch.no_grad():
            each = [one.head.ratings(one.vectors.pair_scores(user, item), user) for one in fitted]
            return float((torch.stack(each).mean(0) - data.rating[validation]).square().mean().sqrt())


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
        study = _study(storage, out, about | {"config": config.as_dict(), "draws": draws}, config.seed)
        joined = join(dataset, file, missing=missing, duplicates=duplicates)
        data = load_training_data(dataset, joined, file, parts, config, place)
        judged = _Draws(dataset, joined, data, config, split, draws)
        choices = Choices.read(out / CHOICES_FILE) or _choices(config, data, progress)
        choices.save(out / CHOICES_FILE)
        members = choices.configs(config)
        file_of_settings = out / SETTINGS_FILE
        kept = {"settings": _by_hand(asked), "covariance_share": choices.covariance_share}
        write = partial(_write, file_of_settings, config, about | kept)
        interrupted = _search(study, members, judged, minutes, trials, progress, write)
        if not interrupted:
            found, validation = _confirmed(members, _best(study), judged, progress)
            write(found, validation, confirmed=True)
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        return Tuned(
            file_of_settings,
            TunedSettings.load(file_of_settings),
            states.count(TrialState.COMPLETE),
            states.count(TrialState.PRUNED),
            _importance(study),
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


def _study(storage: JournalStorage, out: Path, about: dict[str, object], seed: int) -> optuna.Study:
    """The study in ``out``, begun or gone on with; what a run chooses by itself is its first trial."""
    study = optuna.create_study(
        storage=storage,
        study_name="tune",
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    earlier = study.user_attrs.get("about")
    if earlier is None:
        study.set_user_attr("about", about)
        study.enqueue_trial(dict.fromkeys(SPACE, 1.0))
    elif different := [name for name in about if earlier.get(name) != about[name]]:
        name = different[0]
        raise FingerprintMismatch(
            f"{out} holds a search with another {name} ({earlier.get(name)!r}, now {about[name]!r}); choose another "
            "folder"
        )
    # a seed of its own for each sitting, or a resumed search would propose what it has tried
    study.sampler = optuna.samplers.TPESampler(
        seed=seed + len(study.get_trials(deepcopy=False)), multivariate=True, n_startup_trials=_TRIALS_AT_RANDOM
    )
    return study


def _search(
    study: optuna.Study,
    members: Members,
    judged: _Draws,
    minutes: float,
    trials: int | None,
    progress: Progress,
    write: Callable[..., None],
) -> bool:
    """Run trials until time or number is used up, each new best one written; True where Ctrl-C ended it."""
    began = time.monotonic()
    searched = {name: span for name, span in SPACE.items() if all(members[0].value(each) for each in span.settings)}

    def trial_rmse(trial: Trial) -> float:
        factors = {name: trial.suggest_float(name, span.low, span.high, log=True) for name, span in searched.items()}
        found: list[float] = []
        try:
            tried = tuple(with_factors(each, factors) for each in members)
            for step, draw in enumerate(judged.searched):
                found.append(judged.rmse(tried, draw))
                trial.report(statistics.fmean(found), step)
                if step + 1 < len(judged.searched) and trial.should_prune():
                    raise optuna.TrialPruned
        except (UsageError, BadInput):  # out of a setting's range, or a loss that is no number: a trial to avoid
            raise optuna.TrialPruned from None
        return statistics.fmean(found)

    with progress.phase("tuning", trials) as phase:

        def after_trial(study: optuna.Study, trial: FrozenTrial) -> None:
            phase.advance(1)
            seconds = time.monotonic() - began
            if trial.value is not None and trial.number == _best(study).number:
                as_is = next(one.value for one in _finished(study))
                validation = {"start": as_is, "tuned": trial.value}
                write(tuple(with_factors(each, trial.params) for each in members), validation, confirmed=False)
                changed = ", ".join(f"{name} x {value:.2f}" for name, value in trial.params.items() if value != 1.0)
                progress.message(
                    f"trial {trial.number + 1}: validation RMSE {trial.value:.4f}, the best so far "
                    f"({changed or 'what a run chooses by itself'}); {max(0, minutes - seconds / 60):.1f} min left"
                )
            # the last comparison, on fresh draws, takes about as long as two trials
            if seconds * (1 + 2 / phase.done) > 60 * minutes:
                study.stop()

        try:
            study.optimize(trial_rmse, n_trials=trials, timeout=60 * minutes, callbacks=[after_trial])
        except KeyboardInterrupt:
            if not _finished(study):
                raise
            return True
    if not _finished(study):
        raise BadInput("no trial came to an end: give it more --minutes, or a smaller --preset")
    return False


def _finished(study: optuna.Study) -> Sequence[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _best(study: optuna.Study) -> FrozenTrial:
    return min(_finished(study), key=lambda trial: (trial.value, trial.number))


def _confirmed(
    members: Members, best: FrozenTrial, judged: _Draws, progress: Progress
) -> tuple[Members, dict[str, float]]:
    """The better of the start and the best trial on fresh draws, and the mean validation RMSE of both there."""
    found = tuple(with_factors(each, best.params) for each in members)

    def rmse(tried: Members) -> float:
        return statistics.fmean(judged.rmse(tried, draw) for draw in judged.fresh)

    as_is = rmse(members)
    tuned = as_is if found == members else rmse(found)
    if tuned >= as_is and found != members:
        progress.message(
            f"on fresh validation ratings the best trial gives {tuned:.4f} where what a run chooses by itself gives "
            f"{as_is:.4f}: that is kept"
        )
        found = members
    return found, {"start": as_is, "tuned": min(tuned, as_is)}


def _importance(study: optuna.Study) -> dict[str, float]:
    if len(_finished(study)) < _TRIALS_AT_RANDOM:
        return {}
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
