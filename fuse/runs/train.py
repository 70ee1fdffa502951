"""Stage two, whole: a dataset folder and an embedding file become a run folder, trained and tested once at the end."""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.dataset.folder import Description
from ...data.dataset.splits import Split, split_ratings
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.disk import write_json, writing
from ...data.runtime.lock import sole_writer
from ...data.runtime.progress import NoProgress, Progress
from ...device import resolve_device, resolve_precision
from ..choosing.search import Search
from ..inputs.available import with_available_inputs
from ..inputs.components import Components, load_components, save_components
from ..inputs.join import Joined, join
from ..inputs.rating_table import refuse_counts
from ..inputs.tags import ItemTags
from ..inputs.training_data import TrainingData, load_training_data, places_of
from ..settings.choices import Choices, members_of
from ..settings.config import Config
from ..training.loop import Training
from ..training.processes import ranks_of_launcher
from ..training.ranking import RankingTraining
from .epoch_log import epoch_log, events
from .finish import conclude, write_table
from .record import RunRecord, begin, removed_if_refused
from .run import Run
from .run_folder import RunFolder
from .warm_start import (
    known_before,
    refuse_other_inputs,
    warm_ranking_weights,
    warm_weights,
    with_inputs_of,
)


def train(
    dataset: Path | str,
    embeddings: Path | str | None,
    out: Path | str,
    config: Config,
    *,
    split: str = "random:0.1",
    missing: str = "mask",
    duplicates: str = "last",
    device: str = "auto",
    resume: bool = False,
    warm_start: Path | str | None = None,
    choices: Choices | None = None,
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> Run:
    """Train a run into the folder ``out`` and test it once, at the end.

    With ``choices`` the settings of its members are these, and none are searched for.
    UsageError where ``out`` holds a run and ``resume`` isn't asked; FingerprintMismatch where ``resume`` finds another
    config, dataset, split or embedding file than the run was begun with; Busy where another process trains it.
    """
    ranks, device = ranks_of_launcher(device)
    progress = progress if progress and ranks.first else NoProgress()
    place = resolve_device(device)
    config = replace(config, precision=resolve_precision(config.precision, place)).checked()
    dataset, out = Path(dataset), Path(out)
    files = RunFolder(out)
    implicit = Description.read(dataset).implicit
    config = config.with_objective(implicit=implicit)
    file = EmbeddingFile.open(embeddings) if embeddings is not None and config.reads_embeddings else None
    earlier = None if warm_start is None else Run.open(warm_start)
    if earlier is None:
        config, absent = with_available_inputs(config, dataset, file)
    else:
        config, absent = with_inputs_of(earlier, config), list[str]()
    record = RunRecord.of(
        dataset,
        file,
        config,
        split=split,
        missing=missing,
        duplicates=duplicates,
        absent=tuple(absent),
        implicit=implicit,
        warm_start=None if warm_start is None else str(warm_start),
    )
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with sole_writer(files.lock) if ranks.first else nullcontext(), removed_if_refused(new) as begun:
        if ranks.first:
            begin(out, record, resume=resume)
        ranks.wait()  # the first has seen what is there, and written what it begins with
        if resume and files.is_finished():
            progress.message(f"{out} is finished already")
            ranks.wait()
            return Run.open(out)
        joined = join(dataset, file, missing=missing, duplicates=duplicates)
        if config.rates and config.head == "auto":
            refuse_counts(dataset, joined.rating)
        if ranks.first:
            _split(dataset, joined, files.split, split, config)
            write_json(files.coverage, joined.coverage.as_dict())
            if config.tags:
                write_table(files.tags, pl.DataFrame({"tag": ItemTags.of(dataset).names}, {"tag": pl.String}))
        ranks.wait()
        parts = Split.load(files.split)
        if absent:
            progress.message(f"not there, so not used: {', '.join(absent)}")
        for line in joined.coverage.lines("interactions" if implicit else "ratings"):
            progress.message(line)
        kept: dict[str, Components] = {}
        if earlier is not None:
            refuse_other_inputs(earlier, record)
            kept = load_components(earlier.files.components, earlier.config)
        training_data = load_training_data(
            dataset, joined, file, parts, config, place, sharing=ranks.on_this_machine, kept=kept
        )
        if ranks.first and training_data.components:
            save_components(files.components, training_data.components)
        if ranks.first and config.rates:
            _choose(config, training_data, files, earlier, choices, progress)
        ranks.wait()
        members = members_of(files.choices, config)
        shorter = config
        if earlier is not None:
            shorter = config.for_warm_start()
            members = tuple(_for_warm_start(member, shorter.factor_steps) for member in members)
        training = Training(shorter, training_data, files.fits, progress, ranks=ranks, members=members)
        ranking = RankingTraining(config, training_data, files.ranking_fits, progress, ranks=ranks)
        if earlier is not None and earlier.ranking is not None and config.ranks:
            ranking.config, ranking.warm = shorter, warm_ranking_weights(earlier, config, joined, dataset)
            ranking.state.take_choice(earlier.ranking.settings)
        begun()
        _train(training, ranking, files, dataset, joined, parts, earlier, tensorboard=tensorboard)
        ranks.wait()
        return Run.open(out)


def _for_warm_start(member: Config, least: int) -> Config:
    """As a warm start trains a member: its share of the steps, but ``least`` or all where a search left it few."""
    shorter = member.for_warm_start()
    return replace(shorter, factor_steps=max(shorter.factor_steps, min(member.factor_steps, least)))


def _choose(
    config: Config,
    data: TrainingData,
    files: RunFolder,
    earlier: Run | None,
    given: Choices | None,
    progress: Progress,
) -> None:
    """Write the settings of the members, unless an earlier sitting did; a warm start keeps those of its run."""
    choices = Choices.read(files.choices) or given
    if choices is None and earlier is not None:
        choices = Choices.read(earlier.files.choices)
    elif choices is None and config.adapt:
        choices = Search(config, data, progress).choose()
    if choices is not None:
        choices.save(files.choices)
        for line in choices.lines():
            progress.message(f"settings: {line.strip()}")


def _train(
    training: Training,
    ranking: RankingTraining,
    files: RunFolder,
    dataset: Path,
    joined: Joined,
    parts: Split,
    earlier: Run | None,
    *,
    tensorboard: bool,
) -> None:
    began, first, config = time.perf_counter(), training.ranks.first, training.config
    with ExitStack() as logs:
        if first:
            event = logs.enter_context(events(files.events)) if tensorboard else None
            training.report = logs.enter_context(epoch_log(files.metrics, event))
        if earlier is not None:
            _start_from(earlier, training, dataset, joined, parts)
        fitted = ranking.rating = training.run() if config.rates else []
        ranking.rating_held_out = training.held_out
        ranked = ranking.run() if config.ranks else None
    if first:
        conclude(training, fitted, ranked, files, dataset, joined, parts, seconds=time.perf_counter() - began)


def _start_from(earlier: Run, training: Training, dataset: Path, joined: Joined, parts: Split) -> None:
    training.warm = warm_weights(earlier, training.config, joined, dataset)
    training.progress.message(
        f"starting from {earlier.folder}: {training.config.epochs} epochs and {training.config.factor_steps} "
        "factor steps, on training and validation part together"
    )
    if known := known_before(earlier, joined, places_of(joined, parts.test)):
        training.progress.message(
            f"warning: {known:,} of {len(parts.test):,} test ratings were training ratings of "
            f"{earlier.folder}; the test RMSE flatters. Use --split temporal:0.1, all, or a file of rows that "
            "it didn't train on"
        )


def _split(dataset: Path, joined: Joined, file: Path, spec: str, config: Config) -> Split:
    if file.exists():
        return Split.load(file)
    kept: npt.NDArray[np.bool_] = np.zeros(joined.coverage.ratings, bool)
    kept[joined.row] = True
    parts = split_ratings(dataset, spec, seed=config.seed, validation=config.validation).within(kept)
    parts.save(file)
    return parts
