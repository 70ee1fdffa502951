"""The data card of a shared embedding file: a README.md that people read, with the metadata that the Hub reads."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..embeddings.file import EmbeddingFile
from ..embeddings.status import Reason
from ..embeddings.summary import overview, pooling_of
from ..runtime.disk import write_atomically
from ..runtime.errors import BadInput, UsageError
from ..runtime.terminal import size
from ..runtime.untrusted_text import printable
from .lineage import lineage_lines

_SIZES: Final = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6, "1M<n<10M": 10**7,
                 "10M<n<100M": 10**8, "100M<n<1B": 10**9}  # fmt: skip
_TASKS: Final = {"text": "feature-extraction", "image": "image-feature-extraction"}
_LICENCE_ID: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{1,40}")
_REPO: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FOLDERS: Final = re.compile(r"(?<![\w:/.])(?:file://)?[/~](?:[^\s/]+/)+|\b[A-Za-z]:\\(?:[^\s\\]+\\)+")
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>|#!])")
_LABELS: Final = (
    "model",
    "revision",
    "weights (SHA-256)",
    "layer",
    "pooling",
    "computed in",
    "stored as",
    "tokens of an item",
)


def write_card(
    path: Path,
    out: Path,
    *,
    name: str | None = None,
    repo: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write to `out` the card of the finished embedding file at `path`.

    Raises BadInput where `out` is there already, UsageError for a `repo` that is no OWNER/NAME, DamagedFile for a file
    that is unfinished or damaged.
    """
    if out.exists() and not overwrite:
        raise BadInput(f"{out}: is there already; choose another name with --out, or say --overwrite")
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"{out}: expected the path of a file to write in a folder that exists")
    write_atomically(out, card(path, name=name, repo=repo, licence=licence).encode())


def card(path: Path, *, name: str | None = None, repo: str | None = None, licence: str | None = None) -> str:
    """The card of the finished embedding file at `path`, as Markdown with YAML in front."""
    if repo is not None and not _REPO.fullmatch(repo):
        raise UsageError(f"--repo: expected OWNER/NAME, found {repo}")
    with EmbeddingFile.open(path) as file:
        figures = overview(file)
        about = figures["about"]
        columns = [_column(file, modality, facts) for modality, facts in figures["modalities"].items()]
        first = file.modalities[0]
        licence_text = licence or _text_of(about.get("licence"))
        known_licence = licence_text.lower() if _LICENCE_ID.fullmatch(licence_text.lower()) else ""
        values = {
            "name": name or _plain(_text_of(about.get("catalogue")) or path.stem) + " film embeddings",
            "licence_id": licence_id(licence_text),
            "licence_name": licence_text if licence_text and not known_licence else "",
            "licence_text": licence_text,
            "task_categories": [_TASKS[modality] for modality in file.modalities],
            "tags": ["embeddings", "movies", "recommender-systems", *_multimodal(file), "hdf5", "cinefuse"],
            "size_category": size_category(len(file)),
            "kinds": " and ".join({"text": "plot", "image": "poster"}[modality] for modality in file.modalities),
            "items": len(file),
            "level": "CLS and tokens" if _has_tokens(file) else "CLS alone",
            "has_tokens": _has_tokens(file),
            "size": size(file.header.file_length),
            "bytes": f"{file.header.file_length:,}",
            "columns": columns,
            "labels": [label for label in _LABELS if any(column[label] for column in columns)],
            "coverage": list(columns[0]["coverage"]),
            "repo": repo,
            "file": path.name,
            "first_id": file.ids[int(np.argmax(file[first].has_embedding))].item(),
            "first": first,
            "width": file[first].width,
            "token_width": file[first].token_width,
            "scaled": file[first].cls_scale is not None,
            "source": _text_of(about.get("source")),
            "attribution": _text_of(about.get("attribution")),
            "digest": figures["content_digest"],
            "sha256": _sha256(path),
            "lineage": lineage_lines(about),
        }
    return _environment().get_template("card.md").render(values).rstrip() + "\n"


def licence_id(text: str) -> str:
    """A licence as the Hub's metadata names it: its SPDX name in small letters, "other" or "unknown"."""
    return text.lower() if _LICENCE_ID.fullmatch(text.lower()) else "other" if text else "unknown"


def size_category(items: int) -> str:
    """The size of a dataset as the Hub's metadata names it."""
    return next((label for label, most in _SIZES.items() if items < most), "n>1T")


def _column(file: EmbeddingFile, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    fingerprint, status = facts["fingerprint"], facts["status"]
    spread = facts["tokens_per_item"]
    tokens = f"{spread[0]} to {spread[2]}, half have {spread[1]} or more" if spread and spread[2] else ""
    tokens = str(spread[0]) if tokens and spread[0] == spread[2] else tokens
    rounded = fingerprint.get("rounded")
    through = f", rounded to {', '.join(map(str, rounded))} before" if isinstance(rounded, list) and rounded else ""
    tokens_of = f", tokens {facts['token_width']}" if "token_width" in facts else ""
    reasons, counts = np.unique(file[name].reason[~file[name].has_embedding], return_counts=True)
    return {
        "modality": {"text": "plots", "image": "posters"}[name],
        "model": _text_of(facts.get("model")),
        "revision": _text_of(facts.get("revision")) or "local folder",
        "weights (SHA-256)": _text_of(fingerprint.get("weights")),
        "layer": _text_of(fingerprint.get("layer")),
        "pooling": pooling_of(fingerprint),
        "computed in": _text_of(fingerprint.get("precision")),
        "stored as": f"{facts['dtype']} x {facts['width']}{tokens_of}{through}",
        "tokens of an item": tokens,
        "coverage": {
            "with embedding": f"{status['ok'] + status['truncated']:,}",
            "of those, text cut": f"{status['truncated']:,}",
            "missing": f"{status['missing']:,}",
            "failed": f"{status['failed']:,}",
        },
        "reasons": ", ".join(
            f"{count:,} {Reason(reason).sentence if reason <= max(Reason) else reason}"
            for reason, count in zip(reasons.tolist(), counts.tolist(), strict=True)
        ),
    }


def _has_tokens(file: EmbeddingFile) -> bool:
    return any(len(file[modality].tokens) for modality in file.modalities)


def _multimodal(file: EmbeddingFile) -> list[str]:
    return ["multimodal"] if len(file.modalities) > 1 else []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_of(value: object) -> str:
    return "" if value is None else str(value)


def _plain(text: object) -> str:
    """Untrusted text on one line, without the paths of local folders."""
    return printable(_FOLDERS.sub("", str(text)))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # Markdown and YAML, each with its own escape below
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "text": lambda value: _MARKDOWN.sub(r"\\\1", _plain(value)),
        "yaml": lambda value: json.dumps(_plain(value), ensure_ascii=False),
        "tojson": lambda value: json.dumps(value, ensure_ascii=False),
        "grouped": lambda number: f"{number:,}",
    }
    return environment
