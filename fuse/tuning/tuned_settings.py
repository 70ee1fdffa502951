"""The file of settings that a search writes: what it chose, from which ratings, and which test rows it has not seen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.dataset.splits import Split, split_ratings
from ...data.runtime.disk import sha256_of, write_json
from ...data.runtime.errors import BadInput, CinefuseError, UsageError
from ..settings.choices import Choices
from ..settings.config import Config
from ..settings.presets import preset

FORMAT = "cinefuse-settings"
VERSION = 3


@dataclass(frozen=True)
class TunedSettings:
    """Settings on top of a preset, and the split within whose training part they were chosen.

    settings: what the user set by hand. members: what was found beyond that, one dictionary a member of the model.
    ratings_sha256: of the dataset's `ratings.parquet`. test_sha256: of the row numbers of the split's test part.
    validation: mean validation RMSE of what a run chooses by itself ("start") and of these settings ("tuned").
    confirmed: whether both were measured on draws of validation ratings that the search did not use.
    bayesian_share: as in `Choices`; the search keeps what a run chooses by itself.
    """

    preset: str
    settings: dict[str, Any]
    members: list[dict[str, Any]]
    split: str
    seed: int
    ratings_sha256: str
    test_sha256: str
    validation: dict[str, float]
    confirmed: bool
    bayesian_share: float = 0.0

    def save(self, file: Path) -> None:
        """Write JSON, all or nothing."""
        write_json(file, {"format": FORMAT, "version": VERSION, **asdict(self)})

    @classmethod
    def load(cls, file: Path) -> TunedSettings:
        """Read what `save` wrote. BadInput where the file is missing or is something else."""
        try:
            content: Any = json.loads(file.read_text("utf-8"))
        except OSError as fault:
            raise BadInput(
                f"--settings {file}: cannot be read ({fault.strerror}); `cinefuse tune` writes one"
            ) from None
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
            raise BadInput(f"--settings {file}: expected settings of version {VERSION}; run `cinefuse tune` again")
        try:
            return cls(**{name: value for name, value in content.items() if name not in ("format", "version")})
        except TypeError:
            raise BadInput(f"--settings {file} lacks a part of what `cinefuse tune` writes; run it again") from None

    def config(self) -> Config:
        """The preset with what the user set by hand."""
        return preset(self.preset).with_settings([f"{name}={value}" for name, value in self.settings.items()])

    def choices(self) -> Choices:
        """What was found, for a run to train with in place of choices of its own."""
        return Choices(tuple(self.members), "those of `cinefuse tune`", bayesian_share=self.bayesian_share)

    def refuse_if_seen(self, dataset: Path, split: str, seed: int) -> None:
        """UsageError where the search has seen test ratings of ``split``. Other ratings than the search's pass."""
        if sha256_of(dataset / "ratings.parquet") != self.ratings_sha256:
            return
        test = split_ratings(dataset, split, seed=seed).test
        if not test.size or rows_sha256(test) == self.test_sha256:
            return
        try:
            own = split_ratings(dataset, self.split, seed=self.seed)
        except CinefuseError:
            seen, of = test.size, "may have"
        else:
            seen, of = int(np.isin(test, np.concatenate([own.train, own.validation])).sum()), "has"
        if seen:
            raise UsageError(
                f"--settings: the search {of} seen {seen:,} of the {test.size:,} test ratings of split {split}, seed "
                f"{seed}; it was made within the training part of {self.split}, seed {self.seed}: use that split, or "
                "tune within this one"
            )


def rows_sha256(rows: npt.NDArray[np.int64]) -> str:
    """SHA-256 of ascending row numbers."""
    return hashlib.sha256(np.ascontiguousarray(rows, "<i8").tobytes()).hexdigest()


def tuned_on(dataset: Path, parts: Split) -> dict[str, Any]:
    """What `TunedSettings` keeps of the ratings and the split."""
    return {
        "split": parts.name,
        "seed": parts.seed,
        "ratings_sha256": sha256_of(dataset / "ratings.parquet"),
        "test_sha256": rows_sha256(parts.test),
    }
