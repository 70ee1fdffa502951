"""Going on where an earlier run stopped: which file to fill, whether it is the same job's, what it still lacks."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.dataset.catalog import Catalog
from ...data.dataset.folder import Description
from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.verification import damaged_constants, intact_rows
from ...data.runtime.disk import writing
from ...data.runtime.errors import DamagedFile, FingerprintMismatch
from ...data.runtime.progress import Progress
from ..inputs.pixel_recipe import PixelRecipe
from ..inputs.plan import ModalityPlan
from .reuse import Reusable, differences, find_reusable
from .settings import ModalityJob, Settings
from .slices import Slice
from .trial import precisions


@dataclass(frozen=True)
class Ground:
    """The file to fill, the jobs with the batches it was laid out for, what can be copied into it, what is there.

    `intact` says of each modality which rows (N,) need nothing any more: written, and their checksums agree.
    """

    file: EmbeddingFile
    jobs: list[ModalityJob]
    sources: dict[str, list[Reusable]]
    intact: dict[str, npt.NDArray[np.bool_]]


def without_needless_images(catalog: Catalog, out: Path, settings: Settings, progress: Progress) -> Settings:
    """`settings` without the default image model where no item has a poster: it would be fetched for nothing.

    A model that was named stays, and so does the default one where the file to continue has images.
    """
    if settings.text_model is None or settings.image_model != Settings.image_model or any(catalog.posters()):
        return settings
    found = file_to_continue(out, settings)
    if found is not None:
        with EmbeddingFile.open(found, pending=True) as file:
            if "image" in file.modalities:
                return settings
    progress.message(
        "no item has a poster: images are left out of the file; another --image-model (such as mini) keeps their rows"
    )
    return replace(settings, image_model=None)


def file_to_continue(out: Path, settings: Settings) -> Path | None:
    """The unfinished or finished file of an earlier run that this one fills; None where it begins a new one."""
    growing = out.with_name(out.name + ".partial")
    return None if settings.restart else next((path for path in (growing, out) if path.is_file()), None)


def open_or_lay_out(
    catalog: Catalog,
    dataset: Path,
    out: Path,
    jobs: list[ModalityJob],
    settings: Settings,
    progress: Progress,
    share: Slice | None = None,
) -> Ground:
    """What there is to fill: the file that an earlier run began or finished, or one laid out anew."""
    growing = out.with_name(out.name + ".partial")
    if settings.restart:
        growing.unlink(missing_ok=True)
    found = file_to_continue(out, settings)
    # the weights are hashed for them, so they are made once, and get their precision when it is known
    records = {job.name: _record(job, settings) for job in jobs}
    if found is None and share is None and settings.precision == "auto":
        _refuse_without_room(growing, catalog, jobs, records, settings, _about(dataset, settings))
    for name, precision in precisions(catalog, jobs, settings, found, progress).items():
        records[name]["fingerprint"]["precision"] = precision
    sources = {job.name: _reusable(job, records[job.name], settings, progress) for job in jobs}
    if found is not None:
        file = EmbeddingFile.open(found, pending=True)
        _check_same(file, catalog, jobs, records)
        jobs = [replace(job, plan=replace(job.plan, batch=file[job.name].batch)) for job in jobs]
        intact = {job.name: intact_rows(file, job.name) for job in jobs}
        if found == out and not all(_has_all_rows(intact[job.name], job, share) for job in jobs):
            # a file under its final name is whole: while it is mended, it goes back to being a partial one
            with writing(out):
                out.rename(growing)
            file = EmbeddingFile.open(growing, pending=True)
        return Ground(file, jobs, sources, intact)
    jobs = [replace(job, plan=_without_copies(job, sources[job.name])) for job in jobs]
    layouts = {job.name: job.plan.layout(records[job.name], settings.dtype) for job in jobs}
    about = _about(dataset, settings)
    file = EmbeddingFile.create(growing, catalog.ids, layouts, about, sparse=share is not None)
    return Ground(file, jobs, sources, {job.name: np.zeros(len(catalog), np.bool_) for job in jobs})


def _refuse_without_room(
    growing: Path,
    catalog: Catalog,
    jobs: list[ModalityJob],
    records: Mapping[str, Mapping[str, Any]],
    settings: Settings,
    about: dict[str, Any],
) -> None:
    """NoSpace where the disk cannot hold the file, before encoders are loaded to try their precision.

    Nothing is laid out yet: a stop during the trial leaves no file that names an untried precision.
    """
    layouts = {job.name: job.plan.layout(records[job.name], settings.dtype) for job in jobs}
    EmbeddingFile.check_room(growing, catalog.ids, layouts, about)


def _has_all_rows(intact: npt.NDArray[np.bool_], job: ModalityJob, share: Slice | None) -> bool:
    return bool((intact if share is None else intact | ~share.rows(job.plan.batch)).all())


def _without_copies(job: ModalityJob, sources: list[Reusable]) -> ModalityPlan:
    copied = np.zeros(len(job.plan.status), np.bool_)
    for source in sources:
        copied |= source.found
    return job.plan.without(copied, job.cut) if copied.any() else job.plan


def _record(job: ModalityJob, settings: Settings) -> dict[str, Any]:
    """What the header says of a modality, here of fp32. Equal fingerprints promise equal embeddings of equal inputs."""
    source = job.source
    fingerprint: dict[str, Any] = {
        "weights": source.weights_sha256(),
        "preprocessing": source.preprocessing_sha256("text" if job.name == "text" else "image"),
        "layer": "last" if job.layer is None else job.layer,
        "precision": "fp32",
        "dtype": settings.dtype,
    }
    structure = job.structure
    if structure is not None:
        fingerprint |= structure.pooling.fingerprint()
    record: dict[str, Any] = {
        "model": source.name,
        "revision": source.revision,
        "architecture": source.model_type,
        "level": settings.level,
        "fingerprint": fingerprint,
    }
    if job.name == "text":
        fingerprint |= {"max_length": job.max_length, "template": settings.template}
        if job.plan.has_cls:
            record |= {"tokens": "all positions but the CLS", "cls_token_id": job.plan.cls_id}
        else:
            record |= {"tokens": "all positions"} | (structure.record if structure is not None else {})
    elif structure is not None:
        record |= {"tokens": "patches, row by row"} | structure.record
        if structure.grid is not None:
            record["grid"] = list(structure.grid)
        if isinstance(job.recipe, PixelRecipe):
            # where on the poster a patch lies: `explain` lays attention over it
            record["pixels"] = {"size": job.recipe.size, "crop": job.recipe.crop}
    return record


def _about(dataset: Path, settings: Settings) -> dict[str, Any]:
    about = {
        "format": "cinefuse embeddings, an HDF5 file behind this header",
        "made_by": f"cinefuse {version('cinefuse')}",
        "catalogue": dataset.resolve().name,
        "source": settings.source,
        "licence": settings.licence,
        "attribution": " ".join(Description.read(dataset).notices) or None,
        "libraries": {name: version(name) for name in ("torch", "transformers", "tokenizers", "pillow", "numpy")}
        | {"python": platform.python_version()},
    }
    return {key: value for key, value in about.items() if value is not None}


def _check_same(
    file: EmbeddingFile, catalog: Catalog, jobs: list[ModalityJob], records: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse to go on with a file of other models or settings (exit code 5), of another catalogue, or a damaged one."""
    expected = [job.name for job in jobs]
    if list(file.modalities) != expected:
        raise FingerprintMismatch(
            f"{file.path}: expected {' and '.join(expected)}, found {' and '.join(file.modalities)}; "
            "choose the same modalities, another file name, or --restart"
        )
    for name, record in records.items():
        found = file.header.modalities[name]
        different = differences(*(dict(of["fingerprint"]) | {"level": of.get("level")} for of in (record, found)))
        if different:
            origin = differences(*({key: of.get(key) for key in ("model", "revision")} for of in (record, found)))
            raise FingerprintMismatch(
                f"{file.path}: its {name} embeddings were made differently ({'; '.join(origin + different)}); "
                "use the same settings, another file name, or --restart"
            )
    damaged = damaged_constants(file)
    if damaged:
        raise DamagedFile(
            f"{file.path}: {damaged[0]} is damaged, which every row depends on; "
            f"extract into a new file with --reuse {file.path}"
        )
    changed = _changed_items(file, catalog, jobs)
    if changed:
        raise FingerprintMismatch(
            f"{file.path}: it was laid out for another state of the catalogue: {changed}; "
            f"extract into a new file with --reuse {file.path}, or start over with --restart"
        )


def _changed_items(file: EmbeddingFile, catalog: Catalog, jobs: list[ModalityJob]) -> str:
    rows = file.find(catalog.ids)
    added, kept = int((rows < 0).sum()), rows[rows >= 0]
    removed = len(file) - len(kept)
    if added or removed:
        return f"{added:,} items added, {removed:,} removed"
    if not np.array_equal(kept, np.arange(len(file))):
        return "items in another order"
    for job in jobs:
        modality = file[job.name]
        same = (modality.digest == job.plan.digest).all(1) & (np.diff(modality.offsets) == job.plan.stored_lengths)
        if not same.all():
            return f"{int((~same).sum()):,} items with another {'text' if job.name == 'text' else 'poster'}"
    return ""


def _reusable(job: ModalityJob, record: Mapping[str, Any], settings: Settings, progress: Progress) -> list[Reusable]:
    sources = []
    for path in settings.reuse:
        old = EmbeddingFile.open(path, pending=True)
        if job.name not in old.modalities:
            continue
        different = differences(record["fingerprint"], old[job.name].fingerprint)
        if different:
            progress.message(
                f"{path}: its {job.name} rows are not reused, they were made differently ({'; '.join(different)})"
            )
            continue
        source = find_reusable(old, job.plan)
        progress.message(f"{path}: {int(source.found.sum()):,} {job.name} rows can be copied")
        sources.append(source)
    return sources
