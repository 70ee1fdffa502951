"""One config over several splits and seeds: a run folder for each, and their figures together."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...data.dataset.splits import split_ratings
from ...data.runtime.disk import write_json
from ...data.runtime.errors import UsageError
from ...data.runtime.progress import NoProgress, Progress
from ..settings.config import Config
from ..training.processes import ranks_of_launcher
from .run_folder import RunFolder
from .summary import RunSummary
from .train import train


@dataclass(frozen=True)
class Case:
    """One split and one seed, and the run folder of both, relative to the folder of them all."""

    split: str
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f"split {self.split}, seed {self.seed}"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of a sample: divided by n - 1; None for one value) of a figure over runs."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None without values."""
        if not values:
            return None
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.deviation is None else f"{self.mean:.4f} ± {self.deviation:.4f}"


@dataclass(frozen=True)
class Repeated:
    """Several finished runs of one config: each case with its summary."""

    folder: Path
    runs: tuple[tuple[Case, RunSummary], ...]

    def spread(self, figure: str) -> Spread | None:
        """``rmse`` or another figure of `summary.json` over all runs; None where they have no such figure."""
        values = (getattr(summary, figure) for _, summary in self.runs)
        return Spread.of([value for value in values if value is not None])

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        spreads = {name: self.spread(name) for name in ("validation_rmse", "rmse", "bias_rmse", "mae", "seconds")}
        return {
            "runs": [
                {"run": str(self.folder / case.folder), "split": case.split, "seed": case.seed} | summary.as_dict()
                for case, summary in self.runs
            ],
        } | {name: spread and {"mean": spread.mean, "deviation": spread.deviation} for name, spread in spreads.items()}


def folds_named(text: str) -> list[str]:
    """The splits that ``--folds`` names: ``u1,u2``, ``u1..u5``, or ``kfold:5``, which stands for all five of its folds.

    UsageError for anything else, or for a fold named twice.
    """
    if folds := re.fullmatch("kfold:([0-9]{1,3})", text):
        if int(folds[1]) < 2:
            raise UsageError(f"--folds {text}: expected at least 2 folds, as in kfold:5, found {folds[1]}")
        return [f"{text}/{fold}" for fold in range(1, int(folds[1]) + 1)]
    names: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if span := re.fullmatch(r"(.*?)([0-9]{1,6})\.\.(.*?)([0-9]{1,6})", part):
            stem, first, again, last = span.groups()
            if again not in ("", stem) or int(first) > int(last):
                raise UsageError(f"--folds {text}: expected a span such as u1..u5, found {part!r}")
            names += [f"{stem}{number}" for number in range(int(first), int(last) + 1)]
        else:
            names.append(part)
    if twice := [name for name in names if names.count(name) > 1 or not name]:
        raise UsageError(f"--folds {text}: expected each fold once, as in u1,u2 or u1..u5, found {twice[0]!r}")
    return names


def cases_of(splits: Iterable[str], seeds: Iterable[int]) -> list[Case]:
    """Every split with every seed; a folder level for whichever there are several of. UsageError for a split twice."""
    splits, seeds = list(splits), list(seeds)
    names = [folder_name(split) for split in splits]
    if len(set(names)) < len(names):
        raise UsageError(f"expected unlike splits, found {', '.join(splits)}")
    return [
        Case(split, seed, Path(*[name] * (len(splits) > 1), *[f"seed-{seed}"] * (len(seeds) > 1)))
        for split, name in zip(splits, names, strict=True)
        for seed in seeds
    ]


def folder_name(split: str) -> str:
    """The split's name as a folder may have it: ``kfold:5/1`` becomes kfold-5-1."""
    return re.sub("[^A-Za-z0-9._-]+", "-", split)


def refuse_unknown_splits(dataset: Path, cases: Iterable[Case], validation: float) -> None:
    """Cut each case once, so that the last of them is not refused after hours of training."""
    for case in cases:
        split_ratings(dataset, case.split, seed=case.seed, validation=validation)


def repeat(
    dataset: Path,
    embeddings: Path | None,
    out: Path,
    config: Config,
    cases: Sequence[Case],
    *,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Repeated:
    """Train and test ``config`` once a case, each in its folder below ``out``; ``options`` are those of `train`.

    Writes `repeats.json` at the end. With ``resume`` finished runs are kept, and a begun one is resumed. Raises what
    `train` and `split_ratings` raise, and UsageError, before anything is trained, where ``out`` holds runs already.
    """
    ranks, _ = ranks_of_launcher(options.get("device", "auto"))
    progress = progress if progress and ranks.first else NoProgress()
    refuse_unknown_splits(dataset, cases, config.validation)
    begun = [out / case.folder for case in cases if RunFolder(out / case.folder).is_begun()]
    if begun and not resume:
        raise UsageError(f"{begun[0]} holds a run already: go on with --resume, or choose another folder")
    ranks.wait()  # all have looked before the first begins
    runs: list[tuple[Case, RunSummary]] = []
    for number, case in enumerate(cases):
        progress.message(f"run {number + 1} of {len(cases)}: {case}")
        seeded = replace(config, seed=case.seed)
        run = train(
            dataset,
            embeddings,
            out / case.folder,
            seeded,
            split=case.split,
            resume=resume,
            progress=progress,
            **options,
        )
        runs.append((case, run.summary))
    repeated = Repeated(out, tuple(runs))
    if ranks.first:
        write_json(out / "repeats.json", repeated.as_dict())
    return repeated
