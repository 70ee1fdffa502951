"""What was trained on what: the facts of a run that decide its figures, each as a line a person reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ...data.dataset.folder import Description
from ...data.dataset.splits import PARTS
from ...data.embeddings.file import EmbeddingFile
from ...data.runtime.errors import CinefuseError
from ..runs.run import Run
from ..serving.run_tables import read_run_table
from ..settings.config import PRESETS, Config


@dataclass(frozen=True)
class Fact:
    """A heading and its text for each run; ``is_code`` where it is a digest, to be set in a fixed width."""

    name: str
    values: tuple[str, ...]
    is_code: bool = False


def provenance(runs: Sequence[Run], cache: Path | None = None) -> list[Fact]:
    """The facts of each run, in an order from the data to the machine.

    ``cache`` says where the first run's embedding file is now. Folders are named, not their paths: a page is shown to
    strangers.
    """
    told = [_facts(run, cache if number == 0 else None) for number, run in enumerate(runs)]
    names = list(dict.fromkeys(name for facts in told for name in facts))
    codes = {name for name in names if "SHA-256" in name or "digest" in name}
    return [Fact(name, tuple(facts.get(name, "–") for facts in told), name in codes) for name in names]


def _facts(run: Run, cache: Path | None) -> dict[str, str]:
    about, summary = run.about, run.summary
    parts = (f"{rows:,} {part}" for part, rows in _parts(run).items())
    facts = {
        "Dataset": dataset_name(run),
        "Ratings, SHA-256": about["dataset_sha256"].get("ratings", "unknown"),
        "Items, SHA-256": about["dataset_sha256"].get("items", "unknown"),
        "Split": f"{about['split']}: {', '.join(parts)}",
    }
    facts |= _coverage(run) | _embeddings(run, cache)
    if about.get("absent"):
        facts["Not there, so not used"] = ", ".join(about["absent"])
    chosen = f"{summary['chosen_epochs']} of {run.config.epochs}"
    facts |= {
        "Model": model_in_words(replace(run.members[0], members=len(run.members))),
        "Preset": run.config.preset,
        "Differs from its preset": "; ".join(changed_settings(run.config)) or "in nothing",
        "Seed": str(run.config.seed),
        "Epochs": f"{chosen}, by validation" if run.config.patience else chosen,
        "Training time": duration(summary["seconds"]),
        "Arithmetic": run.config.precision,
        "Versions": ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    }
    if run.choices is not None:
        facts["Settings by the ratings"] = "; ".join(line.strip() for line in run.choices.lines())
    if "warm_start" in about:
        facts["Started from"] = Path(about["warm_start"]).name
    return facts


def dataset_name(run: Run) -> str:
    """The name the dataset gives itself, or its folder's where the dataset is no longer there."""
    folder = Path(run.about["dataset"])
    try:
        return Description.read(folder).name
    except CinefuseError:
        return folder.name


def _parts(run: Run) -> dict[str, int]:
    """How many ratings each part has, without reading which."""
    counts = read_run_table(run.files.split, ("part",))["part"].cast(pl.String).value_counts()
    found = dict(counts.iter_rows())
    return {part: found[part] for part in PARTS if part in found}


def _coverage(run: Run) -> dict[str, str]:
    file = run.files.coverage
    try:
        found = json.loads(file.read_text("utf-8"))
        films, kept, read = found["items"], found["kept"], found["ratings"]
        with_ = found["items_with"]
        covered = {
            "Films": f"{films:,}, {found['rated_items']:,} of them rated",
            "Users": f"{found['users']:,}",
            "Ratings": f"{kept:,}" if kept == read else f"{kept:,} kept of {read:,}",
        }
        if found["modalities"]:
            covered["Films with a plot, with a poster"] = f"{with_['text']:,}, {with_['image']:,}"
        return covered
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _embeddings(run: Run, cache: Path | None) -> dict[str, str]:
    digest = run.about["embeddings_digest"]
    if digest is None:
        return {"Embedding file": "none read"}
    path = cache or Path(run.about["embeddings"])
    told = {"Embedding file": path.name, "Embeddings, content digest": digest}
    try:
        file = EmbeddingFile.open(path)
    except (CinefuseError, OSError):
        return told | {"Encoders": f"unknown here: {path.name} is no longer where it was"}
    if file.content_digest != digest:
        return told | {"Encoders": f"unknown here: {path.name} holds other embeddings by now"}
    for modality, name in (("text", "Text encoder"), ("image", "Image encoder")):
        if modality in file.modalities:
            record = file[modality].record
            fingerprint = file[modality].fingerprint
            revision = f" at {record['revision']}" if record.get("revision") else ""
            told[name] = f"{record.get('model', 'unknown')}{revision}, layer {fingerprint.get('layer', 'unknown')}"
            told[f"{name}, SHA-256 of weights"] = str(fingerprint.get("weights", "unknown"))
    return told


def model_in_words(config: Config) -> str:
    """What the model is made of, in a sentence."""
    parts = []
    if config.dim:
        sides = " and ".join(name for name, has in (("users", config.user_ids), ("films", config.item_ids)) if has)
        parts.append(f"vectors of {config.dim} for {sides}" if sides else f"vectors of {config.dim}")
    else:
        parts.append("biases of users and films alone")
    said = [
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
    if said:
        parts.append("side information from " + ", ".join(said))
    if config.fuses:
        read = {"both": "plots and posters", "text": "plots", "image": "posters"}[config.modalities]
        how = "the tokens of" if config.level == "tokens" else "one embedding each of"
        layers = "1 layer" if config.layers == 1 else f"{config.layers} layers"
        parts.append(f"a Transformer of {layers}, {config.width} wide, over {how} {read}")
    else:
        parts.append("no Transformer")
    head = "an ordinal head (a probability for each rating)" if config.head == "ordinal" else "a squared error"
    members = f"; mean of {config.members} members" if config.members > 1 else ""
    return f"{'; '.join(parts)}; {head}{members}"


def _reads(config: Config, modality: str) -> bool:
    return config.modalities in ("both", modality)


def changed_settings(config: Config) -> list[str]:
    """Settings that differ from those of the run's preset, as ``name value (preset value)``.

    Seed and arithmetic, which have lines of their own, are left out, and so is what "auto" came to.
    """
    base = PRESETS.get(config.preset)
    if base is None:
        return [f"preset {config.preset!r} is not one of this version"]
    return [
        f"{name} {_plain(value)} ({_plain(getattr(base, name))})"
        for name, value in config.changes_from(base).items()
        if name not in ("preset", "seed", "precision") and getattr(base, name) != "auto"
    ]


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
