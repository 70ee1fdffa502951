"""Provenance: the data, settings and versions behind the figures of a run, as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ...data.dataset.folder import Description
from ...data.dataset.splits import PARTS
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.errors import CinefuseError
from ..models.heads import OrdinalHead
from ..runs.run import Run
from ..serving.run_tables import read_run_table
from ..settings.config import Config
from ..settings.presets import PRESETS


@dataclass(frozen=True)
class Fact:
    """A heading and its text for each run; ``is_code``: it is a digest, set in a fixed-width font."""

    name: str
    values: tuple[str, ...]
    is_code: bool = False


def provenance(runs: Sequence[Run], cache: Path | None = None) -> list[Fact]:
    """The facts of each run, in an order from the data to the machine.

    ``cache`` says where the first run's embedding file is now. Folders are named without their paths, as a page may be
    published.
    """
    of_runs = [_facts(run, cache if number == 0 else None) for number, run in enumerate(runs)]
    names = list(dict.fromkeys(name for facts in of_runs for name in facts))
    codes = {name for name in names if "SHA-256" in name or "digest" in name}
    return [Fact(name, tuple(facts.get(name, "–") for facts in of_runs), name in codes) for name in names]


def _facts(run: Run, cache: Path | None) -> dict[str, str]:
    record, summary = run.record, run.summary
    parts = (f"{rows:,} {part}" for part, rows in _parts(run).items())
    facts = {
        "Dataset": dataset_name(run),
        "Ratings, SHA-256": record.dataset_sha256.get("ratings", "unknown"),
        "Items, SHA-256": record.dataset_sha256.get("items", "unknown"),
        "Split": f"{record.split}: {', '.join(parts)}",
    }
    facts |= _coverage(run) | _embeddings(run, cache)
    if record.absent:
        facts["Not used, as the data lack it"] = ", ".join(record.absent)
    chosen = f"{summary.chosen_epochs} of {run.config.epochs}"
    facts |= {
        "Model": f"{inputs_in_words(run.members[0])}; {heads_in_words(run)}",
        "Preset": run.config.preset,
        "Changed from the preset": "; ".join(changed_settings(run.config)) or "nothing",
        "Seed": str(run.config.seed),
        **({"Epochs": f"{chosen}, by validation" if run.config.patience else chosen} if run.config.rates else {}),
        "Training time": duration(summary.seconds),
        "Precision": run.config.precision,
        "Versions": ", ".join(f"{name} {number}" for name, number in record.versions.items()),
    }
    if run.choices is not None:
        facts["Settings chosen by validation"] = "; ".join(line.strip() for line in run.choices.lines())
    if record.warm_start is not None:
        facts["Started from"] = Path(record.warm_start).name
    return facts


def dataset_name(run: Run) -> str:
    """The name in the dataset's description, or its folder's where the dataset is missing."""
    folder = run.record.dataset
    try:
        return Description.read(folder).name
    except CinefuseError:
        return folder.name


def _parts(run: Run) -> dict[str, int]:
    """The number of ratings of each part."""
    counts = read_run_table(run.files.split, ("part",))["part"].cast(pl.String).value_counts()
    found = dict(counts.iter_rows())
    return {part: found[part] for part in PARTS if part in found}


def _coverage(run: Run) -> dict[str, str]:
    file = run.files.coverage
    try:
        found = json.loads(file.read_text("utf-8"))
        items, kept, read = found["items"], found["kept"], found["ratings"]
        with_ = found["items_with"]
        covered = {
            "Films": f"{items:,}, {found['rated_items']:,} of them rated",
            "Users": f"{found['users']:,}",
            "Ratings": f"{kept:,}" if kept == read else f"{kept:,} kept of {read:,}",
        }
        if found["modalities"]:
            covered["Films with a plot, with a poster"] = f"{with_['text']:,}, {with_['image']:,}"
        return covered
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _embeddings(run: Run, cache: Path | None) -> dict[str, str]:
    digest, path = run.record.embeddings_digest, cache or run.record.embeddings
    if digest is None or path is None:
        return {"Embedding file": "none read"}
    facts = {"Embedding file": path.name, "Embeddings, content digest": digest}
    try:
        file = EmbeddingFile.open(path)
    except (CinefuseError, OSError):
        return facts | {"Encoders": f"unknown: {path.name} is missing"}
    if file.content_digest != digest:
        return facts | {"Encoders": f"unknown: {path.name} now holds other embeddings"}
    for modality, name in (("text", "Text encoder"), ("image", "Image encoder")):
        if modality in file.modalities:
            record = file[modality].record
            fingerprint = file[modality].fingerprint
            revision = f" at {record['revision']}" if record.get("revision") else ""
            facts[name] = f"{record.get('model', 'unknown')}{revision}, layer {fingerprint.get('layer', 'unknown')}"
            facts[f"{name}, SHA-256 of weights"] = str(fingerprint.get("weights", "unknown"))
    return facts


def inputs_in_words(config: Config) -> str:
    """The vectors, side information and Transformer of a model."""
    parts = []
    if config.dim:
        sides = " and ".join(name for name, has in (("users", config.user_ids), ("films", config.item_ids)) if has)
        parts.append(f"vectors of {config.dim} for {sides}" if sides else f"vectors of {config.dim}")
    else:
        parts.append("biases of users and films alone")
    side = [
        name
        for name, has in (
            ("demographics", config.demographics),
            ("genres and years", config.genres),
            ("tags", config.tags),
            ("rating histories", config.histories),
            (f"{config.text_components} components of plots", config.text_components and _reads(config, "text")),
            (f"{config.image_components} components of posters", config.image_components and _reads(config, "image")),
        )
        if has
    ]
    if side:
        parts.append("side information from " + ", ".join(side))
    if config.fuses:
        read = {"both": "plots and posters", "text": "plots", "image": "posters"}[config.modalities]
        how = "the tokens of" if config.level == "tokens" else "one embedding each of"
        layers = "1 layer" if config.layers == 1 else f"{config.layers} layers"
        parts.append(f"a Transformer of {layers}, {config.width} wide, over {how} {read}")
    else:
        parts.append("no Transformer")
    return "; ".join(parts)


def heads_in_words(run: Run) -> str:
    """The heads of a run's members as they were trained, whatever the setting, which may be "auto"."""
    heads = run.recommender.heads
    if not heads:
        return "a ranking model alone"
    ordinal = sum(isinstance(head, OrdinalHead) for head in heads)
    names = {
        "an ordinal head (a probability for each rating)": ordinal,
        "a squared head (the rating itself)": len(heads) - ordinal,
    }
    if len(heads) == 1:
        return next(name for name, count in names.items() if count)
    return f"mean of {len(heads)} members, " + ", ".join(
        f"{count} with {name}" for name, count in names.items() if count
    )


def _reads(config: Config, modality: str) -> bool:
    return config.modalities in ("both", modality)


def changed_settings(config: Config) -> list[str]:
    """Settings that differ from the run's preset, as "width 16 instead of 128".

    Seed and precision have facts of their own; what "auto" was resolved to is no change.
    """
    base = PRESETS.get(config.preset)
    if base is None:
        return [f"preset {config.preset!r} is not one of this version"]
    return [
        f"{name} {_plain(value)} instead of {_plain(base.value(name))}"
        for name, value in config.changes_from(base).items()
        if name not in ("preset", "seed", "precision") and base.value(name) != "auto"
    ]


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    """Seconds as text for people."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
