"""Warm start: the weights of an earlier run, moved to the users and items of the ratings as they have grown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor

from ...data.embeddings.fingerprints import differences
from ...data.runtime.errors import BadInput, FingerprintMismatch
from ..inputs.join import Joined
from ..inputs.tags import ItemTags
from ..serving.run_tables import read_run_table
from ..settings.config import SETTINGS, Config
from ..settings.declaration import Group
from .record import RunRecord
from .run import Run

_OF_USERS = (
    "factors.tables.user",
    "factors.tables.implicit_users",
    "factors.tables.explicit_users",
    "head.user_level_logits",
)
_OF_ITEMS = ("factors.tables.item", "factors.tables.implicit_items", "factors.tables.explicit_items", "content")
_OF_TAGS = ("factors.tables.item_tags", "factors.cold_tags")
# settings of how weights are trained, not of what they are: a warm start may have others than its run
_HOW_TRAINED: set[Group] = {"training", "L2", "ranking model"}
_ALSO_HOW_TRAINED = {"preset", "seed", "objective", "members", "bayesian", "item_dropout", "dropout", "token_drop"}


def warm_weights(run: Run, config: Config, joined: Joined, dataset: Path) -> tuple[Mapping[str, Tensor], ...]:
    """The weights of each served fit of ``run``, a row for each user and item of ``joined`` and tag of ``dataset``.

    New ones start at zero.

    FingerprintMismatch where the run's model is of another make; BadInput where its weights are missing.
    """
    moves = _moves(run, config, joined, dataset)
    return tuple(_moved(load_file(file), moves) for file in run.served_fits()) if config.rates else ()


def warm_ranking_weights(run: Run, config: Config, joined: Joined, dataset: Path) -> Mapping[str, Tensor]:
    """The same of the ranking model of ``run``. BadInput where its weights are missing."""
    if not (files := run.files.ranking_fits.all_finished()):
        raise BadInput(f"--warm-start {run.folder}: it holds no finished fit (ranking-fit-N.safetensors)")
    return _moved(load_file(files[-1]), _moves(run, config, joined, dataset))


def with_inputs_of(run: Run, config: Config) -> Config:
    """``config`` reading what ``run`` read: what was absent then has no weights, what is gone keeps its own."""
    read = {name: getattr(config, name) and getattr(run.config, name) for name in ("genres", "tags", "demographics")}
    modalities = run.config.modalities if config.modalities == "auto" else config.modalities
    return replace(config, modalities=modalities, **read)


def _moves(run: Run, config: Config, joined: Joined, dataset: Path) -> dict[tuple[str, ...], npt.NDArray[np.int64]]:
    for name, value in config.changes_from(run.config).items():
        if SETTINGS[name].group not in _HOW_TRAINED and name not in _ALSO_HOW_TRAINED:
            raise FingerprintMismatch(
                f"--warm-start {run.folder}: its {name} is {run.config.value(name)!r}, here {value!r}; "
                "use the same, or train anew"
            )
    users = run.recommender.user_numbers(joined.user_ids.tolist())
    items = run.recommender.item_numbers(joined.item_ids.tolist())
    moves: dict[tuple[str, ...], npt.NDArray[np.int64]] = {_OF_USERS: users, _OF_ITEMS: items}
    if config.tags:
        moves[_OF_TAGS] = _places(read_run_table(run.files.tags, ("tag",))["tag"], ItemTags.of(dataset).names)
    return moves


def _places(old: pl.Series, new: list[str]) -> npt.NDArray[np.int64]:
    """Where each new name stands among the old ones; -1 for none."""
    known = {name: row for row, name in enumerate(old)}
    return np.array([known.get(name, -1) for name in new], np.int64)


def refuse_other_inputs(run: Run, record: RunRecord) -> None:
    """FingerprintMismatch where a new run of this ``record`` reads what ``run`` has no weights for.

    That is genres, occupations or age bands, or embeddings of another encoder.
    """
    where = f"--warm-start {run.folder}"
    earlier, here = run.record.side, record.side
    for whose, setting in (("item", "genres"), ("user", "demographics")):
        if not record.config.value(setting):
            continue
        if other := sorted({*earlier[whose]} ^ {*here[whose]}):
            known = "known here alone" if other[0] in here[whose] else "known there alone"
            raise FingerprintMismatch(
                f"{where}: its {setting} are not this dataset's ({other[0]!r} is {known}); "
                f"train anew, or both with --set {setting}=false"
            )
    encoders = run.record.encoders
    for name in sorted(encoders.keys() & record.encoders.keys()):
        if differing := differences(encoders[name], record.encoders[name]):
            raise FingerprintMismatch(
                f"{where}: its {name} embeddings were made otherwise than these ({'; '.join(differing)}); train anew"
            )


def known_before(run: Run, joined: Joined, places: npt.NDArray[np.int64]) -> int:
    """How many of the ratings at ``places`` (n,) of ``joined`` were training ratings of ``run``: tests of memory."""
    old = run.recommender
    items = len(old.item_ids)
    seen_by = np.repeat(np.arange(len(old.user_ids)), np.diff(old.rated_offsets))
    known = np.unique(seen_by * items + old.rated_items)
    user = old.user_numbers(joined.user_ids.tolist())[joined.user[places]]
    item = old.item_numbers(joined.item_ids.tolist())[joined.item[places]]
    asked = (user * items + item)[(user >= 0) & (item >= 0)]
    return int(np.isin(asked, known).sum())


def _moved(tensors: Mapping[str, Tensor], moves: Mapping[tuple[str, ...], npt.NDArray[np.int64]]) -> dict[str, Tensor]:
    weights = {name.removeprefix("now."): value for name, value in tensors.items() if name.startswith("now.")}
    for names, places in moves.items():
        for name in names:
            if name in weights:
                rows = torch.from_numpy(places)
                moved = weights[name].new_zeros(len(rows), *weights[name].shape[1:])
                moved[rows >= 0] = weights[name][rows[rows >= 0]]
                weights[name] = moved
    return weights
