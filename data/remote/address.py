"""Addresses of remote files: what kind they are, and how they are shown without passwords, tokens or signatures."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from ..runtime.errors import UsageError

HIDDEN: Final = "[hidden]"

_ADDRESS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s'\"<>]*)")
# the login in front of a host: up to the last @ of the authority; a password with a slash in it is no authority any
# more, yet must not be shown either, so a colon that no port follows counts as the sign of one
_LOGIN = re.compile(r"\A(?:[^/?#]*@|[^/?#@]*:(?!\d*(?:[/?#]|$))[^?#]*@)")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_TOKEN = re.compile(
    r"\bhf_[A-Za-z0-9]{8,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|(?<=\b[Bb]earer )\S+|(?<=\b[Bb]asic )\S+"
    r"|(?<=[?&])(?:X-Amz-|X-Goog-|Expires|Signature|Key-Pair-Id|Policy|sig|token)[^\s&'\"<>]*"
)
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|ACCESS_KEY|API_KEY|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 6

_HUB = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<path>.*))?", re.DOTALL)
_HUB_SHORT = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def redacted(text: object) -> str:
    """`text` without logins, queries (a signature stands there) and fragments of addresses, tokens, and the values of
    secrets that this process has in its environment.

    >>> redacted("https://me:pass@example.org/f.h5?X-Amz-Signature=00: 403")
    'https://example.org/f.h5?[hidden] 403'
    """

    def without_secrets(match: re.Match[str]) -> str:
        rest = _LOGIN.sub("", match[2], count=1) if match[1].lower() != "hf" else match[2]
        return f"{match[1]}://" + _QUERY.sub(f"?{HIDDEN}", rest)

    shown = _TOKEN.sub(HIDDEN, _ADDRESS.sub(without_secrets, str(text)))
    for secret in _own_secrets():
        shown = shown.replace(secret, HIDDEN)
    return shown


def without_query(address: str) -> str:
    """An address as it may be recorded: redacted, and nothing in place of its query."""
    return redacted(address).partition(f"?{HIDDEN}")[0]


def holds_credentials(text: str) -> bool:
    """Whether `text`, which is about to be published, has a token, a login in an address, or a secret of ours in it."""
    logins = any(_LOGIN.match(found[2]) for found in _ADDRESS.finditer(text) if found[1].lower() != "hf")
    return logins or _TOKEN.search(text) is not None or any(secret in text for secret in _own_secrets())


def _own_secrets() -> list[str]:
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name) and not Path(value).exists()
    ]


@dataclass(frozen=True)
class HubPlace:
    """A file of a dataset repository on the Hugging Face Hub; `path` is "" where the address names none."""

    repo: str
    revision: str | None
    path: str

    @property
    def shown(self) -> str:
        """The address as a person writes it."""
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"hf://datasets/{self.repo}{revision}" + (f"/{self.path}" if self.path else "")


def hub_place(address: str) -> HubPlace | None:
    """What a Hub address means; None for other addresses.

    ``owner/name`` is one too, unless it ends in .h5 or a folder lies there. Raises UsageError for hf:// addresses of
    anything but a file of a dataset.
    """
    if address.startswith("hf://"):
        found = _HUB.fullmatch(address)
        if found is None or ".." in (found["path"] or "").split("/"):
            raise UsageError(f"{redacted(address)}: expected hf://datasets/OWNER/NAME[@REVISION][/FILE.h5]")
        revision = unquote(found["revision"]) if found["revision"] else None
        return HubPlace(found["repo"], revision, (found["path"] or "").strip("/"))
    if _HUB_SHORT.fullmatch(address) and not address.endswith((".h5", "/.", "/..")) and not _is_here(address):
        return HubPlace(address, None, "")
    return None


def _is_here(address: str) -> bool:
    return Path(address).exists() or Path(address).parent.is_dir()


def is_web(address: str) -> bool:
    """Whether the address is one of a web server."""
    return address.lower().startswith(("http://", "https://"))
