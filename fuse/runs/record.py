"""What a run is asked and trained on: written as it begins, compared as it is resumed."""

from __future__ import annotations

import json
import platform
import shutil
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.modality import Modality
from ...data.runtime.disk import sha256_of, write_json
from ...data.runtime.errors import BadInput, CinefuseError, FingerprintMismatch, UsageError
from ..inputs.side_information import side_columns
from ..settings.config import Config
from ..settings.declaration import has_type
from .run_folder import RunFolder

FORMAT = "cinefuse-run"
VERSION = 2


@dataclass(frozen=True)
class RunRecord:
    """What a run was asked, and what it was trained on.

    dataset, embeddings: where they were. side: what the columns of users' and items' side information mean.
    encoders: what made the embeddings, by modality. absent: inputs that were wanted and that the data lack.
    implicit: interactions without ratings. warm_start: the run folder that it started from.
    """

    config: Config
    dataset: Path
    dataset_sha256: dict[str, str]
    side: dict[str, list[str]]
    split: str
    missing: str = "mask"
    duplicates: str = "last"
    embeddings: Path | None = None
    embeddings_digest: str | None = None
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    implicit: bool = False
    warm_start: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Path, file: EmbeddingFile | None, config: Config, **asked: Any) -> RunRecord:
        """The record of a run that begins now; ``asked`` are fields from ``split`` on."""
        tables = [name for name in ("items", "ratings", "users") if (dataset / f"{name}.parquet").is_file()]
        return cls(
            config,
            dataset.resolve(),
            {name: sha256_of(dataset / f"{name}.parquet") for name in tables},
            side_columns(dataset),
            embeddings=None if file is None else file.path.resolve(),
            embeddings_digest=None if file is None else file.content_digest,
            encoders={} if file is None else {name: _encoder(file[name]) for name in file.modalities},
            versions={"python": platform.python_version()}
            | {name: version(name) for name in ("cinefuse", "torch", "polars", "numpy")},
            **asked,
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        paths = {name: str(value) for name, value in plain.items() if isinstance(value, Path)}
        lists = {"config": self.config.as_dict(), "absent": list(self.absent)}
        return {"format": FORMAT, "version": VERSION} | plain | paths | lists

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunRecord:
        """The reverse of `as_dict`. UsageError for a field that is missing, unknown or of another type."""
        given = {name: value for name, value in content.items() if name not in ("format", "version")}
        kinds = typing.get_type_hints(cls)
        wrong = {*given} ^ {*kinds}
        wrong |= {
            name for name in given.keys() & kinds.keys() if name != "config" and not has_type(given[name], kinds[name])
        }
        if wrong or not isinstance(given["config"], dict):
            raise UsageError(f"{min(wrong, default='config')!r} is missing, unknown or of another type")
        paths = {name: Path(given[name]) for name in ("dataset", "embeddings") if given[name] is not None}
        return cls(**given | paths | {"config": Config.from_dict(given["config"]), "absent": tuple(given["absent"])})

    def difference(self, other: RunRecord) -> tuple[str, str] | None:
        """The first field in which two records differ, and how in words; None where they are of the same run.

        What may move, or grow newer, between two sittings does not count: the digests show whether data are the same.
        """
        for name in (each.name for each in fields(self) if each.name not in _MAY_CHANGE):
            mine, its = getattr(self, name), getattr(other, name)
            if mine != its:
                return name, _in_words(mine, its)
        return None


_MAY_CHANGE = {"dataset", "embeddings", "encoders", "versions", "side", "absent"}


def _encoder(modality: Modality) -> dict[str, Any]:
    """What embeddings were made of, by whatever arithmetic and however they are stored."""
    made: dict[str, Any] = modality.record["fingerprint"]
    return {name: value for name, value in made.items() if name not in ("precision", "dtype", "rounded")}


def begin(out: Path, record: RunRecord, *, resume: bool) -> None:
    """Write the record, or find that the run in the folder ``out`` was begun with the same.

    UsageError where ``out`` holds a run and ``resume`` isn't asked; FingerprintMismatch where it is another.
    """
    files = RunFolder(out)
    if not files.holds_work():  # what was refused before its first checkpoint may be corrected and run again
        for stale in (files.split, files.metrics, files.choices):
            stale.unlink(missing_ok=True)
        write_json(files.record, record.as_dict())
        return
    if not resume:
        raise UsageError(f"{out} holds a run already: go on with --resume, or choose another folder")
    if (difference := read_record(out).difference(record)) is not None:
        name, how = difference
        raise FingerprintMismatch(
            f"{out} was begun with another {name} ({how}); resume with what it was begun with, or choose another folder"
        )


@contextmanager
def removed_if_refused(new: Sequence[Path]) -> Iterator[Callable[[], None]]:
    """Remove the folders ``new``, innermost first, where a refusal ends the block before it calls what it is given."""
    begun = []
    try:
        yield lambda: begun.append(True)
    except CinefuseError:
        if new and not begun:
            shutil.rmtree(new[0], ignore_errors=True)
            for parent in new[1:]:
                with suppress(OSError):  # another run may have come into it
                    parent.rmdir()
        raise


def _in_words(old: Any, new: Any) -> str:
    if isinstance(old, Config) and isinstance(new, Config):
        name = next(iter(old.changes_from(new)))
        return f"{name} was {old.value(name)!r}, is {new.value(name)!r}"
    if isinstance(old, dict) and isinstance(new, dict):
        name = next(key for key in {*old, *new} if old.get(key) != new.get(key))
        return f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
    return f"was {old!r}, is {new!r}"


def read_record(folder: Path) -> RunRecord:
    """The record of a run folder. BadInput where it is no run folder, or one of another version."""
    file = RunFolder(folder).record
    try:
        content: Any = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{folder} is no run folder (no {file.name}): {_runs_inside(folder)}") from None
    except (ValueError, OSError) as fault:
        raise BadInput(f"{file} cannot be read ({fault}): train the run again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadInput(f"{file} describes no run: expected the format {FORMAT!r}; name a run folder")
    if content.get("version") != VERSION:
        raise BadInput(
            f"{folder} is a run of record version {content.get('version')}, this version of cinefuse reads {VERSION}: "
            "train it again, into another folder"
        )
    try:
        return RunRecord.from_dict(content)
    except UsageError as fault:
        raise BadInput(f"{file}: {fault}; train the run again") from None


def _runs_inside(folder: Path) -> str:
    """What to do about a folder that is no run itself: name one of the runs that it holds, or make one."""
    if not (runs := RunFolder(folder).runs_inside()):
        return "make one with `cinefuse fuse`"
    more = f" and {len(runs) - 3:,} more" if len(runs) > 3 else ""
    return f"it holds {', '.join(map(str, runs[:3]))}{more}; name one of them"
