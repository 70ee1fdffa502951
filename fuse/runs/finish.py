"""The end of a training: the model that serves is put together and written, tested once, and summarised."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import save

from ...data.dataset.catalog import Catalog
from ...data.dataset.splits import Split
from ...data.runtime.disk import write_atomically
from ..evaluation.metrics import mae, rmse
from ..inputs.join import Joined
from ..inputs.training_data import places_of
from ..models.bayesian_factors import SWEEPS, affordable, fit_bayesian_factors
from ..models.factors import Vectors
from ..models.heads import Scale
from ..models.ranking_model import RankingModel
from ..models.recommender import Recommender
from ..settings.choices import Choices
from ..training.full_batch import standardised_pairs
from ..training.loop import FittedModel, Training
from .baseline import epochs_logged, with_baseline
from .run_folder import RunFolder
from .summary import RunSummary


def conclude(
    training: Training,
    fitted: list[FittedModel],
    ranked: RankingModel | None,
    files: RunFolder,
    dataset: Path,
    joined: Joined,
    parts: Split,
    *,
    seconds: float,
) -> None:
    """Write the model, test it once, and last the summary, which marks the run as finished."""
    config, choices = training.config, Choices.read(files.choices)
    recommender = _served(fitted, joined, parts)
    if choices is not None and choices.bayesian_share and config.takes_bayesian:
        whole = training.fits()[-1].whole
        recommender = _with_bayesian(recommender, choices.bayesian_share, training, whole=whole)
    recommender.save(files.model)
    if ranked is not None:
        ranked.save(files.ranking_model)
    write_table(files.items, _items(dataset, joined, recommender))
    content = training.training_data.side.item.half().cpu().contiguous()
    if content.shape[1]:
        write_atomically(files.content, save({"content": content}))
    chosen, epochs = training.state.chosen_epochs or training.state.best_epoch, epochs_logged(files.metrics)
    summary = RunSummary(
        chosen,
        len(training.fits()),
        seconds,
        averaged=len(recommender.vectors) + (recommender.bayesian is not None),
        ranking=None if ranked is None else ranked.settings,
        choices=None if choices is None else tuple(choices.lines()),
    )
    if recommender.predicts:
        summary = with_baseline(summary, training.config, joined, parts, epochs)
    if len(parts.test) and recommender.predicts:
        summary = _tested(summary, files.predictions, recommender, joined, parts)
    summary.save(files.summary)
    for fits in (files.fits, files.ranking_fits):
        fits.in_progress.unlink(missing_ok=True)


def _tested(
    summary: RunSummary, predictions: Path, recommender: Recommender, joined: Joined, parts: Split
) -> RunSummary:
    """The summary with the errors on the test part, whose predictions are written to a file."""
    places = places_of(joined, parts.test)
    user, item, rating = joined.user[places], joined.item[places], joined.rating[places]
    prediction = recommender.pair_ratings(user, item)
    table = pl.DataFrame(
        {
            "user_id": pl.Series(joined.user_ids[user].tolist()),
            "item_id": pl.Series(joined.item_ids[item].tolist()),
            "rating": rating,
            "prediction": prediction,
        }
    )
    write_table(predictions, table)
    return replace(summary, test_ratings=len(rating), rmse=rmse(rating, prediction), mae=mae(rating, prediction))


def _items(dataset: Path, joined: Joined, recommender: Recommender) -> pl.DataFrame:
    counts = np.bincount(recommender.rated_items, minlength=len(joined.item_ids))
    items = Catalog.open(dataset).items.select("item_id", "title", "year", "genres")
    return items.with_columns(train_ratings=pl.Series(counts, dtype=pl.Int64))


def write_table(file: Path, table: pl.DataFrame) -> None:
    """Write Parquet, all or nothing."""
    content = io.BytesIO()
    table.write_parquet(content, compression="zstd")
    write_atomically(file, content.getvalue())


def _served(fitted: list[FittedModel], joined: Joined, parts: Split) -> Recommender:
    places = places_of(joined, np.sort(np.concatenate([parts.train, parts.validation])))
    user, item = joined.user[places], joined.item[places]
    order = np.lexsort((item, user))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(joined.user_ids)))])
    vectors = tuple(type(f.vectors)(*(v.detach().cpu() for v in f.vectors)) for f in fitted)
    return Recommender(
        user_ids=np.array(joined.user_ids),
        item_ids=np.array(joined.item_ids),
        scale=fitted[0].head.scale if fitted else Scale.of(torch.from_numpy(joined.rating[places])),
        vectors=vectors,
        heads=tuple(f.head.cpu() for f in fitted),
        rated_offsets=offsets.astype(np.int64),
        rated_items=item[order].astype(np.int64),
    )


def _with_bayesian(recommender: Recommender, share: float, training: Training, *, whole: bool) -> Recommender:
    """The same with Bayesian factors of the ratings that its members were fitted to, unless these are too many."""
    data = training.training_data
    rows = data.fitted(whole=whole)
    if not affordable(len(rows), data.users, data.items):
        training.progress.message("Bayesian factors are left out: these ratings are too many for them")
        return recommender
    _, pairs = standardised_pairs(data, rows)
    with training.progress.phase("Bayesian factors", SWEEPS, "steps") as phase:
        model = fit_bayesian_factors(pairs, seed=training.config.seed, advance=lambda: phase.advance(1))
    return replace(recommender, bayesian=Vectors(model.user.cpu(), model.item.cpu()), bayesian_share=share)
