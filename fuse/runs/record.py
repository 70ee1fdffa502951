"""What a run is asked and trained on, its `config.json`: written as it begins, compared as it goes on."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.modality import Modality
from ...data.runtime.disk import sha256_of, write_json
from ...data.runtime.errors import BadInput, CinefuseError, FingerprintMismatch, UsageError
from ..inputs.side_information import side_columns
from ..settings.config import Config
from .run_folder import RunFolder

FORMAT = "cinefuse-run"
VERSION = 2


def run_record(
    dataset: Path, file: EmbeddingFile | None, config: Config, split: str, missing: str, duplicates: str
) -> dict[str, Any]:
    """What `config.json` of such a run says."""
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


def begin(out: Path, about: dict[str, Any], *, resume: bool) -> None:
    """Write `config.json`, or find that the run in the folder ``out`` was begun with the same.

    UsageError where ``out`` holds a run and ``resume`` isn't asked; FingerprintMismatch where it is another.
    """
    files = RunFolder(out)
    if not files.holds_work():  # what was refused before its first checkpoint may be corrected and run again
        for stale in (files.split, files.metrics, files.choices):
            stale.unlink(missing_ok=True)
        write_json(files.record, about)
        return
    if not resume:
        raise UsageError(f"{out} holds a run already: go on with --resume, or choose another folder")
    begun = read_record(out)
    # settings that have come since then are what they stand for in a run without them
    begun["config"] = Config.from_dict(begun["config"]).values()
    about = about | {"config": Config.from_dict(about["config"]).values()}
    # may move, or grow newer, between two sittings; what is known besides is told by the dataset's SHA-256
    places = {"dataset", "embeddings", "encoders", "versions", "side", "absent"}
    differing = [key for key in {**about, **begun} if key not in places and about.get(key) != begun.get(key)]
    if differing:
        key = differing[0]
        raise FingerprintMismatch(
            f"{out} was begun with another {key} ({_difference(begun.get(key), about.get(key))}); "
            "resume with what it was begun with, or choose another folder"
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


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        name = next(key for key in {*old, *new} if old.get(key) != new.get(key))
        return f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
    return f"was {old!r}, is {new!r}"


def read_record(folder: Path) -> dict[str, Any]:
    """What `config.json` of a run folder says. BadInput where it is no run folder, or one of another version."""
    file = RunFolder(folder).record
    try:
        about: Any = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{folder} is no run folder (no {file.name}): {_runs_inside(folder)}") from None
    except (ValueError, OSError) as fault:
        raise BadInput(f"{file} cannot be read ({fault}): train the run again") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise BadInput(f"{file} describes no run: expected the format {FORMAT!r}; name a run folder")
    if about.get("version") != VERSION:
        raise BadInput(
            f"{folder} is a run of record version {about.get('version')}, this version of cinefuse reads {VERSION}: "
            "train it again, into another folder"
        )
    return about


def _runs_inside(folder: Path) -> str:
    """What to do about a folder that is no run itself: name one of the runs that it holds, or make one."""
    if not (runs := RunFolder(folder).runs_inside()):
        return "make one with `cinefuse fuse`"
    more = f" and {len(runs) - 3:,} more" if len(runs) > 3 else ""
    return f"it holds {', '.join(map(str, runs[:3]))}{more}; name one of them"
