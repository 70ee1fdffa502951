"""Stage one, whole: a catalogue and two models in, one complete embedding file out, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...data.dataset.catalog import Catalog
from ...data.embeddings.file import EmbeddingFile
from ...data.embeddings.rows import RowWriter
from ...data.embeddings.status import Reason, Status
from ...data.runtime.disk import put_in_place, writing
from ...data.runtime.errors import BadInput, Interrupted
from ...data.runtime.lock import sole_writer
from ...data.runtime.progress import NoProgress, Progress
from ...data.runtime.termination import Sigterm
from ..inputs.plan import ModalityPlan
from .resume import Ground, open_or_lay_out, without_needless_images
from .reuse import copy_rows
from .settings import ModalityJob, Settings, prepare
from .slices import Slice


@dataclass(frozen=True)
class Outcome:
    """What a job did for one modality: items by status and reason, how many it encoded and copied, in how long."""

    name: str
    counts: dict[tuple[Status, Reason], int]
    encoded: int
    copied: int
    seconds: float

    @property
    def record(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        statuses: dict[str, int] = {}
        for (status, _), count in self.counts.items():
            statuses[status.name.lower()] = statuses.get(status.name.lower(), 0) + count
        return {
            "modality": self.name,
            "status": statuses,
            "encoded": self.encoded,
            "copied": self.copied,
            "seconds": round(self.seconds, 3),
        }


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


class Engine(Protocol):
    """What runs an encoder over batches: this process by itself, or others for it."""

    def settled(self, settings: Settings) -> Settings:
        """`settings` with what depends on the devices that will encode."""

    def encode(self, work: Work, progress: Progress) -> None:
        """Write all rows that `work` wants into its file."""


@dataclass(frozen=True)
class Work:
    """The rows of one modality that an engine has to encode, `wanted` (N,), and all that this takes."""

    file: EmbeddingFile
    job: ModalityJob
    plan: ModalityPlan
    wanted: npt.NDArray[np.bool_]
    catalog: Catalog
    settings: Settings

    @property
    def precision(self) -> str:
        """bf16 or fp32, as the file says."""
        return str(self.file[self.job.name].fingerprint["precision"])

    def batches(self) -> Iterator[npt.NDArray[np.int64]]:
        """The rows of each batch that has a wanted row, ascending, batch after batch."""
        order = np.argsort(self.plan.batch, kind="stable")
        numbers = self.plan.batch[order]
        wanted = np.unique(self.plan.batch[self.wanted])
        bounds = (np.searchsorted(numbers, wanted, side).tolist() for side in ("left", "right"))
        for start, stop in zip(*bounds, strict=True):
            yield order[start:stop]

    @property
    def positions(self) -> int:
        """Positions that the encoder reads of all these batches, each distinct input once."""
        numbers, batched = np.unique(self.plan.batch[self.wanted]), self.plan.batched
        read = batched[np.isin(self.plan.batch[batched], numbers)]
        return int(self.plan.positions_of[read].sum())


def extract(
    dataset: Path,
    out: Path,
    settings: Settings,
    progress: Progress | None = None,
    *,
    share: Slice | None = None,
    engine: Engine | None = None,
) -> Summary:
    """Fill the embedding file `out` for the catalogue in the folder `dataset`, or finish or mend it.

    The file grows as ``out.partial`` and gets its name when every row is there. Whatever stops the job, calling this
    again goes on where it stopped; a finished file is checked, and exactly its damaged rows are computed again.
    With a `share`, `out` is a part file: it has its name when the rows of that slice are there, and all others stay
    pending. Raises the kinds of `data.errors`, Interrupted on Ctrl-C.
    """
    progress = progress or NoProgress()
    if out.is_dir():
        raise BadInput(f"{out}: expected the path of a file to write, found a folder")
    if not out.parent.is_dir():
        raise BadInput(f"{out}: its folder does not exist; make it first")
    catalog = Catalog.open(dataset)
    settings = without_needless_images(catalog, out, settings, progress)
    jobs = prepare(catalog, settings, progress, weights=True)
    with sole_writer(out), _kept_on_interrupt(out):
        ground = open_or_lay_out(catalog, dataset, out, jobs, settings, progress, share)
        with ground.file as file:
            shares = [Work(file, job, job.plan, _rows_of(share, job.plan), catalog, settings) for job in ground.jobs]
            if share is not None:
                _reserve(file, shares)
            _report_plan(shares, progress)
            outcomes = tuple(_fill(work, ground, engine or ThisProcess(), progress) for work in shares)
            if file.path != out:
                with writing(out):
                    put_in_place(file.path, out)
            return Summary(out, file.header.file_length, file.content_digest, outcomes)


def _rows_of(share: Slice | None, plan: ModalityPlan) -> npt.NDArray[np.bool_]:
    return np.ones(len(plan.status), np.bool_) if share is None else share.rows(plan.batch)


def _reserve(file: EmbeddingFile, shares: list[Work]) -> None:
    with RowWriter(file) as writer:
        for share in shares:
            writer.reserve(share.job.name, np.flatnonzero(share.wanted))


def _report_plan(shares: list[Work], progress: Progress) -> None:
    for share in shares:
        plan, dtype = share.plan, share.file[share.job.name].dtype
        encodable = share.wanted & plan.encodable
        progress.event(
            "plan",
            modality=plan.name,
            model=share.job.source.name,
            precision=share.precision,
            items=int(share.wanted.sum()),
            to_embed=int(encodable.sum()),
            batches=len(np.unique(plan.batch[share.wanted & (plan.batch >= 0)])),
            bytes=plan.stored_bytes(dtype, share.wanted),
        )


def _fill(share: Work, ground: Ground, engine: Engine, progress: Progress) -> Outcome:
    """Write every row of one modality that is wanted and not there yet: absent ones, copied ones, encoded ones."""
    started = time.monotonic()
    file, job, mine = share.file, share.job, share.wanted
    wanted = mine & ~ground.intact[job.name]
    _write_absent(file, job.plan, wanted)
    wanted &= job.plan.encodable
    copied = 0
    for source in ground.sources[job.name]:
        with progress.phase(f"copying {job.name}", int((wanted & source.found).sum())) as phase:
            copied += copy_rows(source, file, job.plan, wanted, lambda _: phase.advance(1))
        wanted &= ~source.found
    encoded = int(wanted.sum())
    if encoded:
        plan = _with_batches_for(wanted, job)
        # batches of other shares are left out: one joined with them would be encoded for a few of its rows
        plan = replace(plan, batch=np.where(mine, plan.batch, np.int32(-1)))
        work = replace(share, plan=plan, wanted=wanted)
        engine.encode(work, progress)
    _report_failures(file, job.name, mine, progress)
    return Outcome(job.name, _counts(file, job.name, mine), encoded, copied, time.monotonic() - started)


def _write_absent(file: EmbeddingFile, plan: ModalityPlan, wanted: npt.NDArray[np.bool_]) -> None:
    with RowWriter(file) as writer:
        for row in np.flatnonzero(wanted & ~plan.encodable).tolist():
            writer.write_absent(plan.name, row, Status(plan.status[row]), Reason(plan.reason[row]))


class ThisProcess:
    """Encodes here, on one device."""

    def settled(self, settings: Settings) -> Settings:
        """The settings as they are: whoever plans encodes."""
        return settings

    def encode(self, work: Work, progress: Progress) -> None:
        """Load the encoder and run it over all batches."""
        from ...device import resolve_device
        from .decoding import decoded_by_processes, decoder_count
        from .feeds import feed_for, load_encoder
        from .loop import encode_rows

        job, settings, device = work.job, work.settings, resolve_device(work.settings.device)
        progress.message(f"{job.name}: {job.source.name}, {work.precision} on {device}")
        if wants_large_batches(device.type):
            work = replace(work, plan=job.joined(work.plan))
        encoder = load_encoder(
            job.source, job.recipe, job.layer, settings.device, work.precision, settings.compile,
            job.structure, job.prompt_length,
        )  # fmt: skip
        for line in encoder.notes(job.source):
            progress.message(line)
        posters = work.catalog.posters() if job.recipe is not None else []
        feed = feed_for(work.plan, encoder, job.recipe, posters, work.catalog.poster_root, settings.limits)
        batches = list(work.batches())
        count = decoder_count(settings.decoders, device.type, int(work.wanted.sum())) if posters else 0
        largest = max(map(len, batches))
        with (
            decoded_by_processes(
                feed, count, largest, work.catalog.poster_root, job.recipe, settings.limits, progress
            ) as feed,
            progress.phase(f"encoding {job.name}", int(work.wanted.sum()), work=work.positions) as phase,
        ):
            encode_rows(work.file, work.plan, batches, feed, work.wanted, strict=settings.strict, advance=phase.advance)


def wants_large_batches(kind: str) -> bool:
    """Whether the small batches of a file begun on a processor are joined on this kind of device.

    A processor takes the batches of the file as they are, so that the same command goes on to the same bytes.
    """
    return kind != "cpu"


def _with_batches_for(wanted: npt.NDArray[np.bool_], job: ModalityJob) -> ModalityPlan:
    """The plan, with batches also for rows that were to be copied from a file that is no longer at hand."""
    orphans = wanted & (job.plan.batch < 0)
    if not orphans.any():
        return job.plan
    extra = job.plan.without(~orphans, job.cut).batch
    numbers = np.where(orphans, extra + job.plan.batch.max() + 1, job.plan.batch).astype(np.int32)
    return replace(job.plan, batch=numbers)


def _counts(file: EmbeddingFile, name: str, rows: npt.NDArray[np.bool_]) -> dict[tuple[Status, Reason], int]:
    modality = file[name]
    outcomes = np.stack([modality.status[rows], modality.reason[rows]])
    pairs, counts = np.unique(outcomes, axis=1, return_counts=True)
    return {
        (Status(status), Reason(reason)): int(count)
        for status, reason, count in zip(*pairs.tolist(), counts.tolist(), strict=True)
    }


def _report_failures(file: EmbeddingFile, name: str, rows: npt.NDArray[np.bool_], progress: Progress) -> None:
    modality = file[name]
    for row in np.flatnonzero(rows & (modality.status == Status.FAILED)).tolist():
        reason = Reason(modality.reason[row]).sentence
        progress.event("failure", modality=name, item=file.ids[row].item(), reason=reason)


@contextmanager
def _kept_on_interrupt(out: Path) -> Iterator[None]:
    try:
        yield
    except Sigterm:
        raise
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; everything finished is kept in {out}.partial: run the same command again to go on"
        ) from None
