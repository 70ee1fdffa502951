"""The Hugging Face Hub: addresses, rights and uploads by huggingface_hub, bytes by ranges like any other web file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..runtime.errors import BadInput, CinefuseError, UsageError
from .address import HubPlace, redacted
from .hub_faults import never_waiting_for_ever, passing_fault
from .retry import Retry, with_retries
from .web_file import WebFile


def open_hub_file(place: HubPlace, retry: Retry) -> WebFile:
    """A file of a dataset repository, pinned to the commit that its revision names now: it cannot change underway.

    Where `place` names no file, the repository's one .h5 file. Raises BadInput, UsageError.
    """
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    info = _answer(place.shown, retry, lambda: _api().dataset_info(place.repo, revision=place.revision))
    path = place.path or _only_file(place, [sibling.rfilename for sibling in info.siblings or []])
    pinned = HubPlace(place.repo, info.sha, path)
    found = _described(pinned, retry)
    if found is None:
        raise BadInput(f"{HubPlace(place.repo, place.revision, path).shown}: there is no such file; check the address")
    address = f"{_api().endpoint}/datasets/{place.repo}/resolve/{info.sha}/{quote(path)}"
    sha256 = found.lfs.sha256 if found.lfs else None
    return WebFile(address, retry, build_hf_headers(), pinned.shown, sha256)


def find_hub_file(place: HubPlace, retry: Retry) -> WebFile | None:
    """The same where the repository and the file exist, else None."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        if _described(place, retry) is None:
            return None
    except RepositoryNotFoundError:
        return None
    return open_hub_file(place, retry)


def has_card(place: HubPlace) -> bool:
    """Whether the repository is there and has a README.md."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return _described(HubPlace(place.repo, place.revision, "README.md"), Retry()) is not None
    except RepositoryNotFoundError:
        return False


def push_to_hub(place: HubPlace, contents: dict[str, Path | bytes], *, public: bool) -> str:
    """Add the files in one commit (all of them appear, or none); the commit's hash.

    A repository that does not exist is made, private unless `public`. huggingface_hub retries, and never sends bytes
    that the Hub has already.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = _api()
    with _refusals(place.shown):
        if not api.repo_exists(place.repo, repo_type="dataset"):
            api.create_repo(place.repo, repo_type="dataset", private=not public, exist_ok=True)
        operations = [
            CommitOperationAdd(path, str(content) if isinstance(content, Path) else content)
            for path, content in contents.items()
        ]
        names = ", ".join(contents)
        commit = api.create_commit(
            place.repo,
            operations,
            repo_type="dataset",
            revision=place.revision,
            commit_message=f"Add {names} with cinefuse",
        )
    return str(commit.oid)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(library_name="cinefuse")


def _answer(shown: str, retry: Retry, question: Callable[[], Any], *through: type[Exception]) -> Any:
    """The Hub's answer to a question that changes nothing, repeated where what went wrong may pass."""

    def once() -> Any:
        with _refusals(shown, *through, repeated=True), never_waiting_for_ever():
            return question()

    return with_retries(retry, shown, once)


def _described(place: HubPlace, retry: Retry) -> Any:
    """The Hub's record of one file; None where there is none. Raises RepositoryNotFoundError."""
    from huggingface_hub.errors import RepositoryNotFoundError

    def question() -> Any:
        return _api().get_paths_info(place.repo, [place.path], repo_type="dataset", revision=place.revision)

    found = _answer(place.shown, retry, question, RepositoryNotFoundError)
    return found[0] if found else None


def _only_file(place: HubPlace, names: list[str]) -> str:
    files = [name for name in names if name.endswith(".h5")]
    if len(files) != 1:
        shown = ", ".join(files[:5]) if files else "none"
        raise UsageError(f"{place.shown}: which file? It has {len(files):,} that end in .h5: {shown}")
    return files[0]


@contextmanager
def _refusals(shown: str, *through: type[Exception], repeated: bool = False) -> Iterator[None]:
    """Turn any exception of huggingface_hub, but those in `through`, into one line without tokens.

    Where the request is `repeated`, what may pass becomes TransientTransferError.
    """
    try:
        yield
    except CinefuseError:
        raise
    except Exception as fault:
        if isinstance(fault, through):
            raise
        if repeated and (passing := passing_fault(fault)):
            raise passing from None
        kind = type(fault).__name__
        accepted = f"accept its terms at {_page(shown)}, then set HF_TOKEN (or `hf auth login`)"
        advice = {
            "RepositoryNotFoundError": "there is no such dataset, or your token may not see it (`hf auth login`)",
            "GatedRepoError": f"it is gated: {accepted}",
            "RevisionNotFoundError": "there is no such revision",
            "OfflineModeIsEnabled": "HF_HUB_OFFLINE forbids the Hub: unset it",
            "BadRequestError": "the Hub did not accept it",
            "JSONDecodeError": "a web page came, not the Hub; log in to this network, or check HF_ENDPOINT",
        }.get(kind)
        reason = next((line for line in redacted(fault.__cause__ or fault).splitlines() if line.strip()), kind)[:300]
        raise BadInput(f"{shown}: {advice or 'the Hub could not be used'} ({reason})") from None


def _page(shown: str) -> str:
    """The page of a dataset, from its address as shown."""
    return f"{_api().endpoint}/" + "/".join(shown.removeprefix("hf://").partition("@")[0].split("/")[:3])
