"""The paper's table by one command: unlike models on the same splits and seeds, with intervals.

Each model, split and seed has a run folder below the study's; those that are finished are kept, so that a study goes
on where it stopped. `results.md` holds a table for each group of splits, `results.csv` the same as rows, `runs.csv` a
row a run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.dataset.folder import Description
from ...data.dataset.splits import Split
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.errors import UsageError
from ...data.runtime.parquet import read_parquet
from ...data.runtime.progress import NoProgress, Progress
from ..evaluation.list_comparison import measured_case
from ..evaluation.pooled_lists import pooled_lists
from ..runs.repeat import Case, cases_of, folder_name, refuse_unknown_splits
from ..runs.run import Run
from ..runs.train import train
from ..settings.config import Config
from ..training.processes import ranks_of_launcher
from .study_models import MODELS, models_named
from .study_results import Group, Row, Study, Tested
from .study_tables import write_tables

_IMAGINED_RATINGS = 5
_RANKING = {"mf", "best-none", "best"}  # those with a ranking model of their own: it has no Transformer


def study(
    dataset: Path,
    embeddings: Path | None,
    out: Path,
    *,
    groups: Sequence[Sequence[str]] | None = None,
    seeds: int = 1,
    models: Sequence[str] = (),
    settings: Sequence[str] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> Study:
    """Train every model on every split with seeds 0 to ``seeds`` - 1, and write the tables into ``out``.

    A group of splits shares a table; without ``groups`` it is the folds u1 to u5 where the dataset has them, else
    random:0.1. ``models`` names some of `MODELS`, all by default. One whose modality the embedding file lacks is left
    out with a line that says so. Finished runs are kept. UsageError for an unknown model, setting or split;
    FingerprintMismatch where a run in ``out`` was made with other settings, ratings or embeddings.
    """
    progress = progress or NoProgress()
    if ranks_of_launcher(device)[0].count > 1:
        raise UsageError("study: expected one process; torchrun is for `cinefuse fuse`")
    implicit = Description.read(dataset).implicit
    groups = [list(group) for group in groups or [default_splits(dataset)]]
    if any("all" in group for group in groups):
        raise UsageError("split all: a study needs a test part; use random:0.1, kfold:5/1 or an official fold")
    wanted = {model.name: model.config(settings, implicit=implicit) for model in models_named(models)}
    why = {name: _lacking(name, config, embeddings, wanted) for name, config in wanted.items()}
    if implicit:
        why |= dict.fromkeys(wanted.keys() - _RANKING, "it predicts ratings, and the dataset has none")
    skipped = tuple(f"{name} is left out: {reason}" for name, reason in why.items() if reason)
    for line in skipped:
        progress.message(line)
    wanted = {name: config for name, config in wanted.items() if not why[name]}
    if not wanted:
        raise UsageError("nothing to study: no model is left; " + "; ".join(skipped))
    cases = [cases_of(splits, range(seeds)) for splits in groups]
    for group in cases:
        refuse_unknown_splits(dataset, group, 0)
    job = _Job(dataset, embeddings, out, device, progress, sum(map(len, cases)) * len(wanted))
    done = [job.group(splits, group, wanted) for splits, group in zip(groups, cases, strict=True)]
    finished = Study(out, tuple(done), provenance(dataset, embeddings, seeds, settings), skipped)
    write_tables(finished)
    return finished


def default_splits(dataset: Path) -> list[str]:
    """u1 to u5 where the dataset has them all, else one random split."""
    folds = [f"u{number}" for number in range(1, 6)]
    official = all((dataset / "splits" / f"{fold}.parquet").is_file() for fold in folds)
    return folds if official else ["random:0.1"]


def shrunk_user_mean(dataset: Path, split: Split, user: pl.Series) -> npt.NDArray[np.float64]:
    """(R,) for each of ``user`` (R,) the mean of the ratings of training and validation, drawn to the global mean.

    Sum of the user's ratings plus 5 times the global mean, divided by the number of ratings plus 5.
    """
    ratings = read_parquet(dataset / "ratings.parquet", columns=["user_id", "rating"])
    known = ratings[np.concatenate([split.train, split.validation])].with_columns(pl.col("rating").cast(pl.Float64))
    overall = float(known["rating"].to_numpy().mean())
    of_user = known.group_by("user_id").agg(
        mean=(pl.col("rating").sum() + _IMAGINED_RATINGS * overall) / (pl.len() + _IMAGINED_RATINGS)
    )
    asked = pl.DataFrame({"user_id": user}).join(of_user, on="user_id", how="left", maintain_order="left")
    return asked["mean"].fill_null(overall).to_numpy()


def provenance(dataset: Path, embeddings: Path | None, seeds: int, settings: Sequence[str]) -> dict[str, str]:
    """What the figures came from, by names and digests, without paths."""
    facts = {"dataset": dataset.resolve().name}
    if embeddings is not None:
        with EmbeddingFile.open(embeddings) as file:
            facts["embeddings"] = f"{embeddings.name}, digest {file.content_digest[:16]}"
            for name in file.modalities:
                facts[f"{name} encoder"] = str(file[name].record.get("model"))
    facts["seeds"] = ", ".join(map(str, range(seeds)))
    return facts | ({"settings": ", ".join(settings)} if settings else {})


def _lacking(name: str, config: Config, embeddings: Path | None, wanted: Collection[str]) -> str | None:
    """What the embedding file lacks for a model, in words."""
    if not config.reads_embeddings:
        return None
    if embeddings is None:
        if config.modalities == "auto" and not config.layers:
            return "without an embedding file it is best-none" if "best-none" in wanted else None
        return "no embedding file is given"
    if config.modalities == "auto":
        return None
    with EmbeddingFile.open(embeddings) as file:
        absent = [modality for modality in config.read_modalities if modality not in file.modalities]
        if absent:
            return f"{embeddings} has no {absent[0]} embeddings"
        if name == "both-tokens" and not any(len(file[modality].tokens) for modality in config.read_modalities):
            return f"{embeddings} has CLS embeddings alone"
    return None


@dataclass(eq=False)
class _Job:
    dataset: Path
    embeddings: Path | None
    out: Path
    device: str
    progress: Progress
    runs: int
    number: int = 0

    def group(self, splits: Sequence[str], cases: Sequence[Case], wanted: Mapping[str, Config]) -> Group:
        """All models on all cases of a group, and the reference that nobody trains."""
        tested: dict[str, list[Tested]] = {}
        lists = []
        for case in cases:
            runs = [self._run(name, config, case) for name, config in wanted.items()]
            found = {
                name: Tested.of(case, run) for name, run in zip(wanted, runs, strict=True) if run.recommender.predicts
            }
            if found:
                found = {"mean": self._mean(next(iter(found.values())), runs[0]), **found}
            for name, one in found.items():
                tested.setdefault(name, []).append(one)
            lists.append(measured_case(runs, progress=self.progress))
        names = [*wanted, *lists[0].baselines]
        measured = [list(each.measured.values()) for each in lists]
        number = lists[0].task.cutoffs.index(lists[0].protocol.k)
        pooled = pooled_lists(measured, names, number, len(lists[0].task.seen))
        protocol = f"NDCG@{lists[0].protocol.k} and recall. {lists[0].protocol.sentence()}"
        titles = {"mean": "shrunk user mean", **{model.name: model.title for model in MODELS}}
        rows = tuple(Row(name, titles[name], tuple(row)) for name, row in tested.items())
        return Group(tuple(splits), rows, pooled, protocol, titles)

    def _run(self, name: str, config: Config, case: Case) -> Run:
        self.number += 1
        self.progress.message(f"run {self.number} of {self.runs}: {name}, {case}")
        folder = self.out / name / folder_name(case.split) / f"seed-{case.seed}"
        return train(
            self.dataset,
            self.embeddings,
            folder,
            replace(config, seed=case.seed),
            split=case.split,
            device=self.device,
            resume=True,
            progress=self.progress,
        )

    def _mean(self, like: Tested, run: Run) -> Tested:
        prediction = shrunk_user_mean(self.dataset, run.split, like.user)
        return replace(like, prediction=prediction, seconds=None, epochs=None)
