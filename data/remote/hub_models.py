"""A model's files from the Hugging Face Hub, in the Hub's own cache: faults that pass are waited for, others named.

The addresses, the cache and the transfer are huggingface_hub's. Ours are the waits between attempts, what is shown
meanwhile, and the line at the end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from ..runtime.errors import BadInput
from ..runtime.progress import Progress, TerminalProgress
from .address import redacted
from .hub_faults import chain, kinds_of, never_waiting_for_ever, passing_fault, status_of
from .retry import LONGEST_RETRY_AFTER, Retry, TransientTransferError

if TYPE_CHECKING:
    from ..runtime.progress import Phase

_PICKLES: Final = ("pytorch_model", "tf_model", "flax_model", "model.ckpt", "model.pt", "model.pth")
_WEIGHTS: Final = ".safetensors"


def fetch_model(
    model: str,
    revision: str | None,
    patterns: Sequence[str],
    *,
    weights: bool,
    progress: Progress | None = None,
    retry: Retry | None = None,
) -> Path:
    """The folder of one revision of ``model`` in the Hub's cache, with the files that match ``patterns``.

    Files that are not there are fetched, those that are there are not. Where the Hub cannot be used but the cache has
    all of them, the cache's are taken, with a message. 429, 5xx, timeouts and broken connections are tried again after
    growing waits, or as long as Retry-After says. Raises BadInput in one line for everything else. ``weights`` says
    whether weights are among the files wanted: a repository that has them as pickle alone is refused.
    """
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    progress, retry = progress or TerminalProgress(), (retry or Retry()).renewed()
    named = f"{model} (revision {revision})" if revision else model
    if _is_offline():
        try:
            folder = _snapshot(model, revision, patterns, cached=True)
        except HFValidationError:
            raise _no_id(model) from None
        except LocalEntryNotFoundError as fault:
            raise BadInput(f"{named}: {_lack(fault)}, and HF_HUB_OFFLINE forbids to fetch it; unset it once") from None
    else:
        folder = _fetched(model, revision, patterns, named, progress, retry)
    if weights:
        _refuse_pickle_alone(model, revision, folder, named)
    return folder


def _fetched(
    model: str, revision: str | None, patterns: Sequence[str], named: str, progress: Progress, retry: Retry
) -> Path:
    from huggingface_hub.errors import HFValidationError

    while True:
        try:
            with _shown(named, progress) as bars, never_waiting_for_ever():
                return _snapshot(model, revision, patterns, bars=bars)
        except HFValidationError:
            raise _no_id(model) from None
        except Exception as fault:
            refusal = _refusal(fault, model, revision, named)
            passing = passing_fault(fault)
            if (folder := _whole_in_cache(model, revision, patterns)) and (refusal or passing):
                progress.message(f"{named}: {passing or 'the hub refuses it now'}; the copy in the cache is taken")
                return folder
            if refusal is not None:
                raise refusal from None
            if passing is None:
                raise BadInput(f"{named}: cannot be fetched from the hub ({_line(fault)}); check the id") from None
        _wait(named, model, passing, retry, progress)


def _wait(named: str, model: str, fault: TransientTransferError, retry: Retry, progress: Progress) -> None:
    retry.failed += 1
    kept = "; files that are complete are in the hub cache, the same command continues" if _any_kept(model) else ""
    if retry.failed >= retry.tries:
        raise BadInput(
            f"{named}: {fault}, {retry.tries} times in a row; try again later, or give a model's folder{kept}"
        ) from None
    if fault.retry_after > LONGEST_RETRY_AFTER:
        raise BadInput(
            f"{named}: {fault} and asks to wait {fault.retry_after:,.0f} s; run the same command again then{kept}"
        ) from None
    pause = max(retry.pause * 2 ** (retry.failed - 1), fault.retry_after)
    progress.message(f"{named}: {fault}; attempt {retry.failed + 1} of {retry.tries} in {pause:g} s")
    time.sleep(pause)


def _snapshot(
    model: str,
    revision: str | None,
    patterns: Sequence[str],
    *,
    cached: bool = False,
    bars: type[Any] | None = None,
) -> Path:
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {"tqdm_class": bars} if bars is not None else {}
    folder = snapshot_download(
        model, revision=revision, allow_patterns=list(patterns), local_files_only=cached, **options
    )
    return Path(str(folder))


def _whole_in_cache(model: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """The cached copy, where the list of its files is cached too and shows that none is missing."""
    if _files_of(model, revision) is None:
        return None
    try:
        return _snapshot(model, revision, patterns, cached=True)
    except (OSError, ValueError):
        return None


def _files_of(model: str, revision: str | None) -> list[str] | None:
    """The names of all files of a revision, from the cache."""
    from huggingface_hub import get_cached_repo_tree

    try:
        return [entry.path for entry in get_cached_repo_tree(model, revision=revision)]
    except Exception:  # not cached, or not in a form that this huggingface_hub reads
        return None


def _refuse_pickle_alone(model: str, revision: str | None, folder: Path, named: str) -> None:
    if any(folder.glob(f"*{_WEIGHTS}")):
        return
    names = _files_of(model, revision) or []
    if any(name.endswith(_WEIGHTS) and "/" not in name for name in names):
        return
    if pickles := [name for name in names if name.startswith(_PICKLES) and "/" not in name]:
        raise BadInput(
            f"{named}: has its weights as pickle alone ({pickles[0]}), which is never read; choose a revision with "
            "model.safetensors (the hub's bot proposes some as refs/pr/NUMBER), or convert it with save_pretrained"
        )


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _any_kept(model: str) -> bool:
    from huggingface_hub import constants

    blobs = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}" / "blobs"
    return blobs.is_dir() and any(not file.name.endswith(".incomplete") for file in blobs.iterdir())


def _no_id(model: str) -> BadInput:
    return BadInput(f"{model}: no such folder, and no hub id; give a folder or an id like org/name")


def _lack(fault: Exception) -> str:
    """What the cache lacks of a model."""
    if type(fault).__name__ == "IncompleteSnapshotError" or getattr(fault, "snapshot_path", None):
        return "no such folder, and the hub cache lacks some of its files (`--plan` fetches no weights)"
    return "no such folder, and not in the hub cache"


def _refusal(fault: Exception, model: str, revision: str | None, named: str) -> BadInput | None:
    """The line for what no further attempt would change; None where one might."""
    from huggingface_hub import constants, get_token

    kinds = set().union(*map(kinds_of, chain(fault)))
    statuses = [status for one in chain(fault) if (status := status_of(one))]
    token = "your token has no access yet" if get_token() else "then set HF_TOKEN (or `hf auth login`)"
    page = f"{constants.ENDPOINT}/{model}"
    if "GatedRepoError" in kinds:
        return BadInput(f"{named}: it is gated: accept its terms at {page}, {token}")
    if "RevisionNotFoundError" in kinds:
        return BadInput(f"{model}: has no revision {revision or 'main'!r}; {page}/tree/main lists those it has")
    if "RepositoryNotFoundError" in kinds or 401 in statuses:
        return BadInput(
            f"{named}: no such folder, and the hub has no such model or does not show it to you; check the id, "
            "or set HF_TOKEN to a token that may see it"
        )
    if 403 in statuses:
        return BadInput(f"{named}: the hub forbids it (403); {page} may say why, or HF_TOKEN is of somebody else")
    if kinds & {"JSONDecodeError", "FileMetadataError"}:
        return BadInput(
            f"{named}: what answers at {constants.ENDPOINT} is not the hub (a web page came); log in to this network, "
            "or check HF_ENDPOINT and proxies"
        )
    return None


def _line(fault: Exception) -> str:
    return next((line for line in redacted(fault).splitlines() if line.strip()), type(fault).__name__)[:300]


@contextmanager
def _shown(named: str, progress: Progress) -> Iterator[type[Any]]:
    """Inside, what is transferred shows on a bar, and what huggingface_hub would log is a message of ours."""
    log = logging.getLogger("huggingface_hub")
    before, spread = list(log.handlers), log.propagate
    log.handlers, log.propagate = [_Messages(named, progress)], False
    try:
        with progress.phase(f"fetching {named}", unit="bytes") as phase:
            yield _bars_of(phase)
    finally:
        log.handlers, log.propagate = before, spread


class _Messages(logging.Handler):
    """huggingface_hub's warnings of attempts that failed, without addresses: those of downloads are signed."""

    def __init__(self, named: str, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._named, self._progress = named, progress

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "Trying to resume" in text:
            self._progress.message(f"{self._named}: the hub has stopped sending; trying again")
        elif text.startswith(("Rate limited", "Retrying in")):
            self._progress.message(f"{self._named}: the hub is busy. {text}")


def _bars_of(phase: Phase) -> type[Any]:
    """A class of progress bars for huggingface_hub, whose bytes count in one phase."""
    from tqdm import tqdm

    lock = Lock()

    class Bars(tqdm):  # type: ignore[misc]  # it has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts = options.get("unit") == "B" and "Reconstruct" in str(options.get("desc"))
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                with lock:
                    phase.advance(int(n or 0))
            return None

        def refresh(self, *args: Any, **options: Any) -> bool:
            if self._counts and self.total:
                phase.expect(int(self.total))
            return True

    return Bars
