"""Stage one, whole: a catalogue and two models in, one complete embedding file out, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.catalog import Catalog
from ..data.disk import put_in_place, writing
from ..data.embeddings import EmbeddingFile
from ..data.errors import BadInput, Interrupted
from ..data.lock import sole_writer
from ..data.progress import Silent, Watcher
from ..data.rows import RowWriter
from ..data.status import Reason, Status
from ..data.verify import intact_rows
from .job import ModalityJob, Settings, prepare
from .plan import ModalityPlan
from .resume import open_or_lay_out
from .reuse import Reusable, copy_rows


@dataclass(frozen=True)
class Outcome:
    """What a job did for one modality: items by status and reason, how many it encoded and copied, in how long."""

    name: str
    counts: dict[tuple[Status, Reason], int]
    encoded: int
    copied: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """What a job did."""

    path: Path
    bytes: int
    content_digest: str
    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> int:
        """Inputs that were given and could not be used."""
        return sum(n for o in self.outcomes for (status, _), n in o.counts.items() if status == Status.FAILED)


def extract(dataset: Path, out: Path, settings: Settings, watcher: Watcher | None = None) -> Summary:
    """Fill the embedding file `out` for the catalogue in the folder `dataset`, or finish or mend it.

    The file grows as ``out.partial`` and gets its name when every row is there. Whatever stops the job, calling this
    again goes on where it stopped; a finished file is checked, and exactly its damaged rows are computed again.
    Raises the kinds of `data.errors`, Interrupted on Ctrl-C.
    """
    watcher = watcher or Silent()
    if out.is_dir():
        raise BadInput(f"{out}: expected the path of a file to write, found a folder")
    if not out.parent.is_dir():
        raise BadInput(f"{out}: its folder does not exist; make it first")
    catalog = Catalog.open(dataset)
    jobs = prepare(catalog, settings, watcher, weights=True)
    with sole_writer(out), _kept_on_interrupt(out):
        file, jobs, sources = open_or_lay_out(catalog, dataset, out, jobs, settings, watcher)
        with file:
            outcomes = tuple(_fill(file, job, sources[job.name], catalog, settings, watcher) for job in jobs)
            if file.path != out:
                with writing(out):
                    put_in_place(file.path, out)
            return Summary(out, file.header.file_length, file.content_digest, outcomes)


def _fill(
    file: EmbeddingFile,
    job: ModalityJob,
    sources: list[Reusable],
    catalog: Catalog,
    settings: Settings,
    watcher: Watcher,
) -> Outcome:
    """Write every row of one modality that is not there yet: the absent ones, the copied ones, the encoded ones."""
    started = time.monotonic()
    wanted = ~intact_rows(file, job.name)
    _write_absent(file, job.plan, wanted)
    wanted &= job.plan.encodable
    copied = 0
    for source in sources:
        with watcher.phase(f"copying {job.name}", int((wanted & source.found).sum())) as phase:
            copied += copy_rows(source, file, job.plan, wanted, lambda _: phase.advance(1))
        wanted &= ~source.found
    encoded = int(wanted.sum())
    if encoded:
        _encode(file, job, wanted, catalog, settings, watcher)
    return Outcome(job.name, _counts(file, job.name), encoded, copied, time.monotonic() - started)


def _write_absent(file: EmbeddingFile, plan: ModalityPlan, wanted: npt.NDArray[np.bool_]) -> None:
    with RowWriter(file) as writer:
        for row in np.flatnonzero(wanted & ~plan.encodable).tolist():
            writer.write_absent(plan.name, row, Status(plan.status[row]), Reason(plan.reason[row]))


def _encode(
    file: EmbeddingFile,
    job: ModalityJob,
    wanted: npt.NDArray[np.bool_],
    catalog: Catalog,
    settings: Settings,
    watcher: Watcher,
) -> None:
    from .encoders import ImageEncoder, TextEncoder, resolve_device
    from .stream import Feed, PosterFeed, TextFeed, encode_rows

    plan = _with_batches_for(wanted, job)
    precision = file[job.name].fingerprint["precision"]
    how = {"device": settings.device, "precision": precision, "layer": job.layer, "compile": settings.compile}
    watcher.say(f"{job.name}: {job.source.name}, {precision} on {resolve_device(settings.device)}")
    feed: Feed
    if job.recipe is None:
        feed = TextFeed(plan, TextEncoder.load(job.source, **how))
    else:
        recipe = job.recipe
        encoder = ImageEncoder.load(
            job.source,
            mean=recipe.mean,
            std=recipe.std,
            rescale_factor=recipe.rescale_factor,
            pixels=recipe.output,
            **how,
        )
        feed = PosterFeed(plan, encoder, catalog.posters(), catalog.poster_root, recipe, settings.limits)
    batches = list(_batches(plan, wanted))
    distinct = np.isin(np.arange(len(plan.status)), plan.distinct)
    positions = sum(int((plan.lengths[rows[distinct[rows]]] + 1).sum()) for rows in batches)
    with watcher.phase(f"encoding {job.name}", int(wanted.sum()), positions) as phase:
        encode_rows(file, plan, batches, feed, wanted, strict=settings.strict, advance=phase.advance)


def _with_batches_for(wanted: npt.NDArray[np.bool_], job: ModalityJob) -> ModalityPlan:
    """The plan, with batches also for rows that were to be copied from a file that is no longer at hand."""
    orphans = wanted & (job.plan.batch < 0)
    if not orphans.any():
        return job.plan
    extra = job.plan.without(~orphans, job.cut).batch
    numbers = np.where(orphans, extra + job.plan.batch.max() + 1, job.plan.batch).astype(np.int32)
    return replace(job.plan, batch=numbers)


def _batches(plan: ModalityPlan, wanted: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of each batch that has a wanted row, ascending, batch after batch."""
    order = np.argsort(plan.batch, kind="stable")
    numbers = plan.batch[order]
    for number in np.unique(plan.batch[wanted]).tolist():
        yield order[np.searchsorted(numbers, number) : np.searchsorted(numbers, number, "right")]


def _counts(file: EmbeddingFile, name: str) -> dict[tuple[Status, Reason], int]:
    modality = file[name]
    pairs, counts = np.unique(np.stack([modality.status, modality.reason]), axis=1, return_counts=True)
    return {
        (Status(status), Reason(reason)): int(count)
        for status, reason, count in zip(*pairs.tolist(), counts.tolist(), strict=True)
    }


@contextmanager
def _kept_on_interrupt(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; everything finished is kept in {out}.partial: run the same command again to go on"
        ) from None
