"""A run folder: what was asked, what it was trained on, how it went, and the model that came of it.

config.json          the config, the dataset, the embedding file with its content digest, the split, versions
split.parquet        which row of ratings.parquet was in which part
coverage.json        what the join found
metrics.jsonl        a line an epoch
state.safetensors    the present fit, while training; fit-N.safetensors, a finished fit
model.safetensors    the served vectors, ids, and who has seen what
components.safetensors   the directions of the principal components, where the model reads some
tags.parquet         tag: what the rows of the weights of tags stand for, where the model reads tags
items.parquet        item_id, title, and how many ratings each film had in training
predictions.parquet  user_id, item_id, rating, prediction of the test part
summary.json         test RMSE and MAE, chosen epochs, seconds; written last: a run that has it is finished
"""

from __future__ import annotations

import io
import json
import platform
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..data.dataset import sha256_of
from ..data.disk import write_atomically, writing
from ..data.embeddings import EmbeddingFile
from ..data.errors import BadInput, FingerprintMismatch, UsageError
from ..data.lock import sole_writer
from ..data.modality import Modality
from ..data.progress import Silent, Watcher
from ..data.splits import Split, split_ratings
from .components import Components, load_components, save_components
from .config import Config
from .device import resolve_device, resolve_precision
from .join import Joined, join
from .material import gather_material, places_of
from .metrics import mae, rmse
from .ranks import ranks_of_launcher
from .recommender import Recommender
from .side import side_columns
from .tags import FilmTags
from .train import Fitted, Training

FORMAT = "cinefuse-run"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, opened: its folder, its config, what `config.json` says, and the model."""

    folder: Path
    config: Config
    about: dict[str, Any]
    recommender: Recommender

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a finished run. BadInput where there is none, or where it is unfinished or damaged."""
        about = read_about(folder)
        if not (folder / "summary.json").exists():
            raise BadInput(f"{folder}: the run is not finished; go on with the same `cinefuse fuse` and --resume")
        config = Config.from_dict(about["config"])
        return cls(folder, config, about, Recommender.load(folder / "model.safetensors"))

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` says."""
        content: dict[str, Any] = json.loads((self.folder / "summary.json").read_text("utf-8"))
        return content

    @property
    def split(self) -> Split:
        """The split the run was trained and tested on."""
        return Split.load(self.folder / "split.parquet")

    def predictions(self) -> pl.DataFrame:
        """user_id, item_id, rating, prediction of the test part; BadInput where the run had none."""
        file = self.folder / "predictions.parquet"
        if not file.exists():
            raise BadInput(f"{self.folder}: the run's split {self.about['split']!r} has no test part to evaluate on")
        return pl.read_parquet(file)


def fuse(
    dataset: Path,
    embeddings: Path | None,
    out: Path,
    config: Config,
    *,
    split: str = "random:0.1",
    missing: str = "mask",
    duplicates: str = "last",
    device: str = "auto",
    resume: bool = False,
    warm_start: Path | None = None,
    watcher: Watcher | None = None,
    tensorboard: bool = False,
) -> Run:
    """Train a run into the folder ``out`` and test it once, at the end.

    UsageError where ``out`` holds a run and ``resume`` isn't asked; FingerprintMismatch where ``resume`` finds another
    config, dataset, split or embedding file than the run was begun with; Busy where another process trains it.
    """
    ranks, device = ranks_of_launcher(device)
    watcher = watcher if watcher and ranks.first else Silent()
    place = resolve_device(device)
    config = replace(config, precision=resolve_precision(config, place)).checked()
    file = EmbeddingFile.open(embeddings) if embeddings is not None and config.reads_embeddings else None
    about = _about(dataset, file, config, split, missing, duplicates)
    if warm_start is not None:
        about["warm_start"] = str(warm_start)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out / "run") if ranks.first else nullcontext():
        if ranks.first:
            _begin(out, about, resume=resume)
        ranks.wait()  # the first has seen what is there, and written what it begins with
        if resume and (out / "summary.json").exists():
            watcher.say(f"{out} is finished already")
            ranks.wait()
            return Run.open(out)
        joined = join(dataset, file, missing=missing, duplicates=duplicates)
        if ranks.first:
            _split(dataset, joined, out, split, config)
            write_atomically(out / "coverage.json", _json(joined.coverage.as_dict()))
            if config.tags:
                _write_table(
                    out / "tags.parquet", pl.DataFrame({"tag": FilmTags.of(dataset).names}, {"tag": pl.String})
                )
        ranks.wait()
        parts = Split.load(out / "split.parquet")
        for line in joined.coverage.lines():
            watcher.say(line)
        earlier, kept = _earlier(warm_start, config, about)
        material = gather_material(
            dataset, joined, file, parts, config, place, sharing=ranks.on_this_machine, kept=kept
        )
        if ranks.first and material.components:
            save_components(out, material.components)
        training = Training(config if earlier is None else config.warmed(), material, out, watcher, ranks=ranks)
        _train(training, dataset, joined, parts, earlier, tensorboard=tensorboard)
        ranks.wait()
        return Run.open(out)


def _earlier(
    warm_start: Path | None, config: Config, about: dict[str, Any]
) -> tuple[Run | None, dict[str, Components]]:
    """The run to start from, and its principal components, where there is one."""
    if warm_start is None:
        return None, {}
    from .warm import refuse_other_inputs

    earlier = Run.open(warm_start)
    refuse_other_inputs(earlier, config, about)
    return earlier, load_components(earlier.folder, earlier.config)


def _train(
    training: Training, dataset: Path, joined: Joined, parts: Split, earlier: Run | None, *, tensorboard: bool
) -> None:
    if training.folder is None:
        raise ValueError("expected a run folder to train into")
    began, out, first = time.perf_counter(), training.folder, training.ranks.first
    told = _epochs_told(out / "metrics.jsonl") if first else set()
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as log, _events(out, tensorboard and first) as event:

        def report(figures: dict[str, Any]) -> None:
            # an epoch that was told, but not in a checkpoint when its process was killed, is trained again
            if (figures["fit"], figures["epoch"]) in told:
                return
            with writing(out / "metrics.jsonl"):
                log.write(json.dumps(figures) + "\n")
                log.flush()
            event(figures)

        training.report = report
        if earlier is not None:
            from .warm import known_before, warm_weights

            training.warm = warm_weights(earlier, training.config, joined, dataset)
            training.watcher.say(
                f"starting from {earlier.folder}: {training.config.epochs} epochs and {training.config.light_steps} "
                "light steps, on training and validation part together"
            )
            if known := known_before(earlier, joined, places_of(joined, parts.test)):
                training.watcher.say(
                    f"warning: {known:,} of {len(parts.test):,} test ratings were training ratings of "
                    f"{earlier.folder}; the test RMSE flatters. Use --split temporal:0.1, all, or a file of rows that "
                    "it didn't train on"
                )
        fitted = training.run()
    if first:
        _conclude(training, fitted, dataset, joined, parts, seconds=time.perf_counter() - began)


def _conclude(
    training: Training, fitted: list[Fitted], dataset: Path, joined: Joined, parts: Split, *, seconds: float
) -> None:
    """Write what serves, test it once, and last say that the run is finished."""
    if training.folder is None:
        raise ValueError("expected a run folder to conclude")
    out = training.folder
    recommender = _served(fitted, joined, parts)
    recommender.save(out / "model.safetensors")
    _write_table(out / "items.parquet", _films(dataset, joined, recommender))
    summary: dict[str, Any] = {
        "chosen_epochs": training.standing.chosen_epochs or training.standing.best_epoch,
        "fits": len(training.fits()),
        "seconds": seconds,
    }
    if len(parts.test):
        summary |= _tested(out, recommender, joined, parts)
    write_atomically(out / "summary.json", _json(summary))
    (out / "state.safetensors").unlink(missing_ok=True)


def _tested(out: Path, recommender: Recommender, joined: Joined, parts: Split) -> dict[str, Any]:
    places = places_of(joined, parts.test)
    user, film, rating = joined.user[places], joined.item[places], joined.rating[places]
    prediction = recommender.pair_ratings(user, film)
    table = pl.DataFrame(
        {
            "user_id": pl.Series(joined.user_ids[user].tolist()),
            "item_id": pl.Series(joined.item_ids[film].tolist()),
            "rating": rating,
            "prediction": prediction,
        }
    )
    _write_table(out / "predictions.parquet", table)
    return {"test_ratings": len(rating), "rmse": rmse(rating, prediction), "mae": mae(rating, prediction)}


def _films(dataset: Path, joined: Joined, recommender: Recommender) -> pl.DataFrame:
    counts = np.bincount(recommender.seen_films, minlength=len(joined.item_ids))
    films = pl.read_parquet(dataset / "items.parquet", columns=["item_id", "title"])
    return films.with_columns(train_ratings=pl.Series(counts, dtype=pl.Int64))


def _write_table(file: Path, table: pl.DataFrame) -> None:
    content = io.BytesIO()
    table.write_parquet(content, compression="zstd")
    write_atomically(file, content.getvalue())


def _served(fitted: list[Fitted], joined: Joined, parts: Split) -> Recommender:
    places = places_of(joined, np.sort(np.concatenate([parts.train, parts.validation])))
    user, film = joined.user[places], joined.item[places]
    order = np.lexsort((film, user))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(joined.user_ids)))])
    vectors = tuple(type(f.vectors)(*(v.detach().cpu() for v in f.vectors)) for f in fitted)
    return Recommender(
        user_ids=np.array(joined.user_ids),
        item_ids=np.array(joined.item_ids),
        scale=fitted[0].head.scale,
        vectors=vectors,
        heads=tuple(f.head.cpu() for f in fitted),
        seen_offsets=offsets.astype(np.int64),
        seen_films=film[order].astype(np.int64),
    )


def _split(dataset: Path, joined: Joined, out: Path, spec: str, config: Config) -> Split:
    file = out / "split.parquet"
    if file.exists():
        return Split.load(file)
    kept: npt.NDArray[np.bool_] = np.zeros(joined.coverage.ratings, bool)
    kept[joined.row] = True
    parts = split_ratings(dataset, spec, seed=config.seed, validation=config.validation).within(kept)
    parts.save(file)
    return parts


def read_about(folder: Path) -> dict[str, Any]:
    """What `config.json` of a run folder says. BadInput where it is no run folder, or one of another version."""
    file = folder / "config.json"
    try:
        about: Any = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{folder} is no run folder (no config.json): {_runs_inside(folder)}") from None
    except (ValueError, OSError) as fault:
        raise BadInput(f"{file} cannot be read ({fault}): train the run again") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("version") != VERSION:
        raise BadInput(f"{file} describes no run of this version: expected {FORMAT!r}, version {VERSION}")
    return about


def _runs_inside(folder: Path) -> str:
    """What to do about a folder that is no run itself: name one of the runs that it holds, or make one."""
    # of --seeds or --folds, of both, of a study: one, two or three folders down
    runs = [file.parent for depth in ("*", "*/*", "*/*/*") for file in sorted(folder.glob(f"{depth}/config.json"))]
    if not runs:
        return "make one with `cinefuse fuse`"
    more = f" and {len(runs) - 3:,} more" if len(runs) > 3 else ""
    return f"it holds {', '.join(map(str, runs[:3]))}{more}; name one of them"


def _epochs_told(metrics: Path) -> set[tuple[int, int]]:
    """(fit, epoch) of each line of `metrics.jsonl`, without what a full disk may have left of a last one."""
    if not metrics.exists():
        return set()
    content = metrics.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(metrics, whole)
    try:
        return {(figures["fit"], figures["epoch"]) for figures in map(json.loads, whole.splitlines())}
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{metrics} has lines that are no figures of an epoch: delete the file, and resume") from None


def _about(
    dataset: Path, file: EmbeddingFile | None, config: Config, split: str, missing: str, duplicates: str
) -> dict[str, Any]:
    tables = [name for name in ("items", "ratings", "users") if (dataset / f"{name}.parquet").is_file()]
    return {
        "format": FORMAT,
        "version": VERSION,
        "config": config.as_dict(),
        "dataset": str(dataset.resolve()),
        "side": side_columns(dataset),
        "dataset_sha256": {name: sha256_of(dataset / f"{name}.parquet") for name in tables},
        "embeddings": None if file is None else str(file.path.resolve()),
        "embeddings_digest": None if file is None else file.content_digest,
        "encoders": {} if file is None else {name: _encoder(file[name]) for name in file.modalities},
        "split": split,
        "missing": missing,
        "duplicates": duplicates,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("cinefuse", "torch", "polars", "numpy")},
    }


def _encoder(modality: Modality) -> dict[str, Any]:
    """What embeddings were made of, by whatever arithmetic and however they are stored."""
    made: dict[str, Any] = modality.record["fingerprint"]
    return {name: value for name, value in made.items() if name not in ("precision", "dtype", "rounded")}


def _begin(out: Path, about: dict[str, Any], *, resume: bool) -> None:
    if not _holds_work(out):  # what was refused before its first checkpoint may be corrected and run again
        for stale in ("split.parquet", "metrics.jsonl"):
            (out / stale).unlink(missing_ok=True)
        write_atomically(out / "config.json", _json(about))
        return
    if not resume:
        raise UsageError(f"{out} holds a run already: go on with --resume, or choose another folder")
    begun = read_about(out)
    # settings that have come since then are what they stand for in a run without them
    begun["config"] = Config.from_dict(begun["config"]).as_dict()
    # may move, or grow newer, between two sittings; what is known besides is told by the dataset's SHA-256
    places = {"dataset", "embeddings", "encoders", "versions", "side"}
    differing = [key for key in {**about, **begun} if key not in places and about.get(key) != begun.get(key)]
    if differing:
        key = differing[0]
        raise FingerprintMismatch(
            f"{out} was begun with another {key} ({_difference(begun.get(key), about.get(key))}); "
            "resume with what it was begun with, or choose another folder"
        )


def _holds_work(out: Path) -> bool:
    kept = ("summary.json", "state.safetensors", "fit-0.safetensors", "fit-1.safetensors")
    return (out / "config.json").exists() and any((out / name).exists() for name in kept)


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        name = next(key for key in {*old, *new} if old.get(key) != new.get(key))
        return f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
    return f"was {old!r}, is {new!r}"


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


class _events:  # noqa: N801
    """TensorBoard's events of a run, where they are wanted."""

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._writer: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UsageError("--tensorboard needs the package: pip install tensorboard") from None
            self._writer = SummaryWriter(folder / "events")

    def __enter__(self) -> Any:
        return self._write

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, figures: dict[str, Any]) -> None:
        if self._writer is not None:
            for name in ("train_rmse", "validation_rmse", "transformer_loss"):
                if figures[name] is not None:
                    self._writer.add_scalar(f"fit{figures['fit']}/{name}", figures[name], figures["epoch"])
