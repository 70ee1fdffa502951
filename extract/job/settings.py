"""One job of stage one: its settings, and the plan of each modality made from a catalogue and a model's files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...data.dataset.catalog import Catalog
from ...data.embeddings.format.header import STORAGE_DTYPES
from ...data.embeddings.status import Reason, Status
from ...data.mini import MINI
from ...data.runtime.errors import BadInput, UsageError
from ...data.runtime.progress import Progress
from ..inputs.batching import cut_posters, cut_text, join_batches
from ..inputs.plan import ModalityPlan
from ..inputs.poster_files import PosterLimits
from ..inputs.posters import Probed, plan_posters, probing
from ..inputs.processor_pixels import Pixels, ProcessorPixels, choose_pixels
from ..inputs.texts import plan_text
from ..models.pooling import Pooling
from ..models.sizes import max_positions
from ..models.source import ModelSource

if TYPE_CHECKING:
    from ..models.structure import Structure

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
    text_pooling: str | None = None
    image_pooling: str | None = None
    prompt: str | None = None
    template: str = "{text}"
    max_length: int | None = None
    level: str = "tokens"
    dtype: str = "float16"
    precision: str = "auto"
    device: str = "auto"
    compile: bool = False
    decoders: int | None = None
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
        for name, least in (("max_length", 3), ("batch_tokens", 1), ("batch_posters", 1), ("decoders", 0)):
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
    recipe: Pixels | None = None
    structure: Structure | None = None
    prompt_length: int = 0

    @property
    def name(self) -> str:
        """ "text" or "image"."""
        return self.plan.name

    def cut(self, plan: ModalityPlan) -> ModalityPlan:
        """`plan` with batches of this job's size."""
        return (cut_text if self.name == "text" else cut_posters)(plan, self.batch_size)

    def joined(self, plan: ModalityPlan) -> ModalityPlan:
        """`plan` with batches joined up to this job's size, where they were cut for a device with smaller ones."""
        positions = 1 if self.name == "text" else int(plan.positions_of.max(initial=1))
        return join_batches(plan, self.batch_size * positions)


def prepare(catalog: Catalog, settings: Settings, progress: Progress, *, weights: bool) -> list[ModalityJob]:
    """Plan both modalities. Without `weights` nothing but configurations and tokenizer files is fetched or read.

    With `strict`, an input that cannot be used is refused here, before any encoder runs.
    """
    from ...device import resolve_device

    device = resolve_device(settings.device)
    sizes = DEFAULT_BATCH.get(device.type, DEFAULT_BATCH["other"])
    jobs = []
    shared = settings.text_model is not None and settings.text_model == settings.image_model != MINI
    # posters are probed while models are fetched and texts tokenised, which leaves Python to other threads
    posters = catalog.posters() if settings.image_model is not None else []
    with probing(posters, catalog.poster_root, settings.limits) as probed:
        if settings.text_model is not None:
            source = ModelSource.resolve(settings.text_model, settings.text_revision, weights, "text")
            jobs.append(_prepare_text(catalog, source, settings, settings.batch_tokens or sizes["text"], progress))
        if settings.image_model is not None:
            source = ModelSource.resolve(settings.image_model, settings.image_revision, weights, "image")
            size = settings.batch_posters or sizes["image"]
            jobs.append(_prepare_posters(catalog, probed, source, settings, size, progress, shared=shared))
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
    from ..models.structure import text_structure

    tokenizer = source.tokenizer()
    pooling = source.pooling
    if settings.prompt is not None:
        pooling = replace(pooling, prompt=settings.prompt)
    if settings.text_pooling is not None:
        pooling = pooling.with_mode(settings.text_pooling, "pooling")
    layer = _layer(settings.text_layer, source, "text-layer")
    structure = text_structure(source, tokenizer, pooling, layer)
    longest = min(max_positions(source), max(int(tokenizer.model_max_length), pooling.max_length or 0))
    if settings.max_length is not None and settings.max_length > longest:
        raise UsageError(f"--max-length: {source.name} reads at most {longest} tokens, found {settings.max_length}")
    max_length = settings.max_length or min(longest, pooling.max_length or int(tokenizer.model_max_length))
    if structure.pooling.prompt:
        progress.message(f"{source.name}: {structure.pooling.prompt!r} goes in front of every text, as its files say")
    with progress.phase("tokenising plots", len(catalog)) as phase:
        plan = plan_text(
            catalog.texts(settings.template), tokenizer,
            width=structure.vector_width, max_length=max_length, progress=phase.advance,
            prompt=structure.pooling.prompt, has_cls=structure.has_cls, token_width=structure.token_width,
        )  # fmt: skip
    budget = max(budget, int(plan.positions_of.max(initial=0)))
    plan = cut_text(replace(plan, keeps_tokens=settings.level == "tokens"), budget)
    prompt_length = 0
    if structure.pooling.prompt and not structure.pooling.pools_prompt:
        ids = tokenizer(structure.pooling.prompt)["input_ids"]
        prompt_length = len(ids) - (ids[-1] in set(tokenizer.all_special_ids))
    return ModalityJob(
        plan, source, layer, budget, max_length=max_length, structure=structure, prompt_length=prompt_length
    )  # fmt: skip


def _prepare_posters(
    catalog: Catalog,
    probed: Iterable[Probed],
    source: ModelSource,
    settings: Settings,
    size: int,
    progress: Progress,
    *,
    shared: bool,
) -> ModalityJob:
    from ..models.structure import shares_space

    layer = _layer(settings.image_layer, source, "image-layer")
    recipe = choose_pixels(source)
    pooling = source.pooling
    if settings.image_pooling is not None:
        pooling = pooling.with_mode(settings.image_pooling, "image-pooling")
    elif shared and layer is None and shares_space(source):
        pooling = replace(pooling, mode="projection")  # the space of its texts
    structure = image_structure_of(source, recipe, pooling, layer)
    if structure.pooling.is_cls and shares_space(source):
        progress.message(
            f"{source.name}: posters get the CLS of its vision tower; for the space that it shares with texts, give it "
            "for both models, or --image-pooling projection"
        )
    with progress.phase("probing posters", len(catalog)) as phase:
        plan = plan_posters(
            probed, width=structure.vector_width, patches=structure.tokens, progress=phase.advance,
            has_cls=structure.has_cls, token_width=structure.token_width,
        )  # fmt: skip
    _refuse_lost_posters(catalog, plan)
    plan = replace(plan, keeps_tokens=settings.level == "tokens")
    return ModalityJob(cut_posters(plan, size), source, layer, size, recipe=recipe, structure=structure)


def image_structure_of(source: ModelSource, recipe: Pixels, pooling: Pooling, layer: int | None) -> Structure:
    """What an image model gives for the pixels that `recipe` makes."""
    import torch

    from ..models.structure import image_structure

    if isinstance(recipe, ProcessorPixels):
        sample = {key: torch.from_numpy(value) for key, value in recipe.sample().items()}
    else:
        sample = {"pixel_values": torch.zeros(1, 3, *recipe.output)}
    return image_structure(source, sample, pooling, layer)


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
