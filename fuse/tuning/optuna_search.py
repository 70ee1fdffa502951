"""The search itself: Optuna proposes factors, validation ratings judge them, and the best trial is confirmed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from ...data.runtime.errors import BadInput, FingerprintMismatch, UsageError
from ...data.runtime.progress import Progress
from .space import SPACE, Members, with_factors
from .validation_draws import ValidationDraws

_TRIALS_AT_RANDOM = 10  # before the sampler trusts its model of them


def opened_study(storage: JournalStorage, out: Path, about: dict[str, object], seed: int) -> optuna.Study:
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


def search(
    study: optuna.Study,
    members: Members,
    judged: ValidationDraws,
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

    with progress.phase("tuning", trials, "trials") as phase:

        def after_trial(study: optuna.Study, trial: FrozenTrial) -> None:
            phase.advance(1)
            seconds = time.monotonic() - began
            if trial.value is not None and trial.number == best_trial(study).number:
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


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The finished trial with the lowest RMSE, the first of equal ones."""
    return min(_finished(study), key=lambda trial: (trial.value, trial.number))


def confirmed(
    members: Members, best: FrozenTrial, judged: ValidationDraws, progress: Progress
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


def importance(study: optuna.Study) -> dict[str, float]:
    """The share of each of `SPACE` in how good a trial is, the largest first; empty with too few trials."""
    if len(_finished(study)) < _TRIALS_AT_RANDOM:
        return {}
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
