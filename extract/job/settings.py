"""One job of stage one: its settings, and the plan of each modality made from a catalogue and a model's files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...data.dataset.catalog import Catalog
from ...data.embeddings.header import STORAGE_DTYPES
from ...data.embeddings.status import Reason, Status
from ...data.runtime.errors import BadInput, UsageError
from ...data.runtime.progress import Progress
from ..inputs.plan import ModalityPlan, cut_posters, cut_text, plan_posters, plan_text
from ..inputs.poster_files import PosterLimits
from ..models.preprocessing import PixelRecipe
from ..models.source import ModelSource

# positions, or posters, in one batch: beyond these the encoders gain no more speed, only memory
DEFAULT_BATCH = {"cpu": {"text": 2048, "image": 8}, "other": {"text": 32768, "image": 128}}

LEVELS = ("tokens", "cls")
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True)
class Settings:
    """What the embeddings depend on, and how the job runs. None for a model leaves that modality out."""

    text_model: str | None = "google-bert/bert-base-uncased"
    image_model: str | None = "google/vit-base-patch16-224-in21k"
    text_revision: str | None = None
    image_revision: str | None = None
    text_layer: int | None = None
    image_layer: int | None = None
    template: str = "{text}"
    max_length: int | None = None
    level: str = "tokens"
    dtype: str = "float16"
    precision: str = "auto"
    device: str = "auto"
    compile: bool = False
    batch_tokens: int | None = None
    batch_posters: int | None = None
    limits: PosterLimits = field(default_factory=PosterLimits)
    reuse: tuple[Path, ...] = ()
    strict: bool = False
    restart: bool = False
    licence: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.text_model is None and self.image_model is None:
            raise UsageError("nothing to encode: expected a text model, an image model, or both")
        if self.dtype not in STORAGE_DTYPES:
            raise UsageError(f"--dtype: expected one of {', '.join(STORAGE_DTYPES)}, found {self.dtype}")
        if self.level not in LEVELS:
            raise UsageError(f"--level: expected one of {', '.join(LEVELS)}, found {self.level}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision: expected one of {', '.join(PRECISIONS)}, found {self.precision}")
        for name, least in (("max_length", 3), ("batch_tokens", 1), ("batch_posters", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name.replace('_', '-')}: expected at least {least}, found {value}")


@dataclass(frozen=True)
class ModalityJob:
    """One modality of a job: its model's files and the plan, and what else an encoder needs for posters."""

    plan: ModalityPlan
    source: ModelSource
    layer: int | None
    batch_size: int
    max_length: int | None = None
    recipe: PixelRecipe | None = None

    @property
    def name(self) -> str:
        """ "text" or "image"."""
        return self.plan.name

    def cut(self, plan: ModalityPlan) -> ModalityPlan:
        """`plan` with batches of this job's size."""
        return (cut_text if self.name == "text" else cut_posters)(plan, self.batch_size)


def prepare(catalog: Catalog, settings: Settings, progress: Progress, *, weights: bool) -> list[ModalityJob]:
    """Plan both modalities. Without `weights` nothing but configurations and tokenizer files is fetched or read.

    With `strict`, an input that cannot be used is refused here, before any encoder runs.
    """
    from ...device import resolve_device

    device = resolve_device(settings.device)
    sizes = DEFAULT_BATCH.get(device.type, DEFAULT_BATCH["other"])
    jobs = []
    if settings.text_model is not None:
        source = ModelSource.resolve(settings.text_model, settings.text_revision, weights, "text")
        jobs.append(_prepare_text(catalog, source, settings, settings.batch_tokens or sizes["text"], progress))
    if settings.image_model is not None:
        source = ModelSource.resolve(settings.image_model, settings.image_revision, weights, "image")
        jobs.append(_prepare_posters(catalog, source, settings, settings.batch_posters or sizes["image"], progress))
    if settings.strict:
        for job in jobs:
            _refuse_failures(catalog, job.plan)
    return jobs


def _layer(layer: int | None, source: ModelSource, option: str) -> int | None:
    """The layer counted from 1, however it was given."""
    if layer is None:
        return None
    number = layer if layer > 0 else source.num_layers + 1 + layer
    if not 1 <= number <= source.num_layers or layer == 0:
        depth = source.num_layers
        raise UsageError(f"--{option}: {source.name} has layers 1 to {depth} (or -{depth} to -1), found {layer}")
    return number


def _prepare_text(
    catalog: Catalog, source: ModelSource, settings: Settings, budget: int, progress: Progress
) -> ModalityJob:
    tokenizer = source.tokenizer()
    longest = min(source.max_positions, int(tokenizer.model_max_length))
    if settings.max_length is not None and settings.max_length > longest:
        raise UsageError(f"--max-length: {source.name} reads at most {longest} tokens, found {settings.max_length}")
    max_length = settings.max_length or longest
    with progress.phase("tokenising plots", len(catalog)) as phase:
        plan = plan_text(
            catalog.texts(settings.template), tokenizer,
            width=source.width, max_length=max_length, progress=phase.advance,
        )  # fmt: skip
    plan = cut_text(replace(plan, keeps_tokens=settings.level == "tokens"), max(budget, max_length))
    return ModalityJob(
        plan, source, _layer(settings.text_layer, source, "text-layer"), max(budget, max_length), max_length=max_length
    )


def _prepare_posters(
    catalog: Catalog, source: ModelSource, settings: Settings, size: int, progress: Progress
) -> ModalityJob:
    recipe = PixelRecipe.from_processor_config(source.processor_config(), source.name, source.model_type)
    with progress.phase("probing posters", len(catalog)) as phase:
        plan = plan_posters(
            catalog.posters(), catalog.poster_root, settings.limits,
            width=source.width, patches=source.patches(recipe.output), progress=phase.advance,
        )  # fmt: skip
    _refuse_lost_posters(catalog, plan)
    plan = replace(plan, keeps_tokens=settings.level == "tokens")
    return ModalityJob(
        cut_posters(plan, size), source, _layer(settings.image_layer, source, "image-layer"), size, recipe=recipe
    )


_LOST = (Reason.NOT_FOUND, Reason.OUTSIDE_FOLDER, Reason.NOT_A_FILE)


def _refuse_lost_posters(catalog: Catalog, plan: ModalityPlan) -> None:
    """A folder that was moved must not make a file of a thousand absent posters, hours later and with exit code 0."""
    given = plan.reason != Reason.NOT_GIVEN
    if not given.any() or not np.isin(plan.reason[given], _LOST).all():
        return
    root, count = catalog.poster_root.resolve(), int(given.sum())
    first = next(poster for poster in catalog.posters() if poster is not None)
    gone = f"the posters' folder {root} is gone" if not root.is_dir() else f"none of them is in {root}"
    raise BadInput(
        f"the dataset names {count:,} posters ({first!r} first), but {gone}: move it back, import the dataset again "
        "with --posters FOLDER, or leave posters out with --no-image"
    )


def _refuse_failures(catalog: Catalog, plan: ModalityPlan) -> None:
    failed = np.flatnonzero(plan.status == Status.FAILED)
    if failed.size:
        row = int(failed[0])
        raise BadInput(
            f"{plan.name} of item {catalog.ids[row]}: {Reason(plan.reason[row]).sentence} "
            f"({failed.size:,} such items in all; --strict allows none)"
        )
