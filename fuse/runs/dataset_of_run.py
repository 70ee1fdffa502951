"""The dataset a run was trained on, found again: where it was, or where the user says it is now."""

from __future__ import annotations

from pathlib import Path

from ...data.runtime.disk import sha256_of
from ...data.runtime.errors import BadInput, FingerprintMismatch
from .run import Run


def dataset_of(run: Run, given: Path | None = None) -> Path:
    """The dataset folder of a run: ``given``, else where it lay in training; its tables are those of the training.

    BadInput where no dataset is there; FingerprintMismatch where one of its tables is another than the run's.
    """
    folder = given or run.record.dataset
    if not (folder / "dataset.json").is_file():
        if given:
            raise BadInput(f"--dataset {folder} is no dataset folder (no dataset.json): name the one of {run.folder}")
        raise BadInput(
            f"{run.folder} was trained on the dataset {folder}, which isn't there any more: "
            "say where it is now with --dataset DIR"
        )
    for name, expected in run.record.dataset_sha256.items():
        table = folder / f"{name}.parquet"
        if not table.is_file():
            raise BadInput(f"{table} is missing: name the dataset of {run.folder} with --dataset DIR")
        if (found := sha256_of(table)) != expected:
            raise FingerprintMismatch(
                f"{table} is not the one {run.folder} was trained on (SHA-256 {expected[:12]}..., found "
                f"{found[:12]}...): name the dataset of the run with --dataset DIR, or train again"
            )
    return folder
