"""What an embedding file is, counted: the numbers behind `cinefuse cache info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .file import EmbeddingFile
from .modality import Modality
from .status import Reason, Status


@dataclass(frozen=True)
class Failure:
    """One item without an embedding, or with one of a shortened text, and why."""

    item: int | str
    modality: str
    status: Status
    reason: Reason


def overview(file: EmbeddingFile) -> dict[str, Any]:
    """Everything `cache info` shows, ready for JSON.

    path, bytes, items, complete, content_digest, about (as the header has it), modalities: for each its record from the
    header plus dtype, width, tokens (in all), bytes, status (name -> items) and tokens_per_item (5 %, 50 %, 95 %).
    """
    return {
        "path": str(file.path),
        "bytes": file.header.file_length,
        "items": len(file),
        "complete": not any(file.pending.values()),
        "content_digest": file.content_digest,
        "about": dict(file.header.about),
        "modalities": {name: _modality(file, name) for name in file.modalities},
    }


def pooling_of(fingerprint: Mapping[str, Any]) -> str:
    """How an input became one vector, in words: the pooling that the fingerprint names; CLS where it names none."""
    words = [str(fingerprint.get("pooling", "CLS"))]
    if fingerprint.get("dense"):
        words.append("dense")
    if fingerprint.get("normalized"):
        words.append("scaled to length 1")
    if fingerprint.get("prompt"):
        words.append(f"prompt {fingerprint['prompt']!r}")
    return ", ".join(words)


def _modality(file: EmbeddingFile, name: str) -> dict[str, Any]:
    modality, datasets = file[name], file.header.datasets
    lengths = np.diff(modality.offsets)[modality.has_embedding]
    return dict(modality.record) | {
        "dtype": modality.dtype,
        "width": modality.width,
        **({"token_width": modality.token_width} if modality.token_width != modality.width else {}),
        "tokens": len(modality.tokens),
        "tokens_per_item": [int(q) for q in np.quantile(lengths, (0.05, 0.5, 0.95))] if lengths.size else [],
        "bytes": datasets[f"{name}/cls"].length + datasets[f"{name}/tokens"].length,
        "status": {status.name.lower(): int((modality.status == status).sum()) for status in Status},
    }


def failures(file: EmbeddingFile, *, missing: bool = False, truncated: bool = False) -> Iterator[Failure]:
    """Every item whose text or image was given and could not be embedded.

    With `missing` also those that have none in the catalogue, with `truncated` those whose text was cut.
    """
    shown = (Status.MISSING, Status.FAILED) + ((Status.TRUNCATED,) if truncated else ())
    ids = file.ids
    for name in file.modalities:
        modality = file[name]
        wanted = np.isin(modality.status, shown)
        if not missing:
            wanted &= ~_absent(modality)
        for row in np.flatnonzero(wanted).tolist():
            yield Failure(
                item=ids[row].item(),
                modality=name,
                status=Status(modality.status[row]),
                reason=Reason(modality.reason[row]),
            )


def absences(file: EmbeddingFile) -> dict[str, int]:
    """Of each modality, how many items have none in the catalogue: nothing was given, so nothing failed."""
    return {name: int(_absent(file[name]).sum()) for name in file.modalities}


def _absent(modality: Modality) -> npt.NDArray[np.bool_]:
    none_given = np.isin(modality.reason, (Reason.NOT_GIVEN, Reason.EMPTY))
    absent: npt.NDArray[np.bool_] = (modality.status == Status.MISSING) & none_given
    return absent
