"""A file on a web server, read by ranges. No response is trusted: each must be the range that was requested.

http.client and urllib alone: https, redirects and proxies are theirs, the checks are ours.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from typing import IO, Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ..runtime.errors import BadInput, DamagedFile
from .address import redacted, without_query
from .retry import PASSING_STATUS, Retry, TransientTransferError, retry_after

_BLOCK: Final = 2**18
_TIMEOUT: Final = 30.0
_LARGEST_SIDECAR: Final = 2**20
_FAULTS: Final = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class WebFile:
    """One file behind one address. `headers` (a token) go to that server alone, never where it redirects to."""

    def __init__(
        self,
        address: str,
        retry: Retry,
        headers: Mapping[str, str] | None = None,
        shown: str | None = None,
        sha256: str | None = None,
    ) -> None:
        self.shown = shown or without_query(address)
        self.sha256 = sha256
        self._retry = retry
        self._address, login = _without_login(address)
        self._headers = {"User-Agent": "cinefuse", **login, **(headers or {})}
        self._opener = urllib.request.build_opener(Redirects)
        self.size: int | None = None
        self.ranges = False
        self.identity: Mapping[str, str] = {}
        self._probe()

    def stream(self, start: int, stop: int | None) -> Generator[bytes, None, None]:
        """The bytes from `start` to `stop`; without ranges only all of them."""
        with self._request(self._range(start, stop)) as response:
            left = self._checked(response, start, stop)
            while block := _read(response, _BLOCK if left is None else min(_BLOCK, left)):
                left = None if left is None else left - len(block)
                yield block
            if left:
                raise TransientTransferError("the connection closed before the end")

    def check_unchanged(self) -> None:
        """Nothing to do: every response was compared with the first."""

    def sidecar(self, suffix: str) -> bytes | None:
        """The file beside it; None where there is none, or where the address is signed for this one alone."""
        parts = urlsplit(self._address)
        if parts.query:
            return None
        address = urlunsplit(parts._replace(path=parts.path + suffix))
        retry = self._retry.renewed()
        while True:
            try:
                with self._open(address, {}) as response:
                    content = _read(response, _LARGEST_SIDECAR + 1)
                return content if len(content) <= _LARGEST_SIDECAR else None
            except urllib.error.HTTPError as refusal:
                refusal.close()
                if refusal.code not in PASSING_STATUS:
                    return None
                retry.wait_after(self.shown + suffix, _transient(refusal))
            except (*_FAULTS, TransientTransferError) as fault:
                retry.wait_after(self.shown + suffix, fault)

    def _probe(self) -> None:
        """Get size, identity and whether the server sends ranges, by one small request."""
        retry = self._retry.renewed()
        while True:
            try:
                with self._request({"Range": "bytes=0-0"}) as response:
                    self.ranges = response.status == 206
                    if self.ranges:
                        _, _, total = self._content_range(response, 0, 1)
                        self.size = total
                    else:
                        length = response.headers.get("Content-Length", "")
                        self.size = int(length) if length.isdecimal() else None
                    self.identity = _identity(response)
                    self._refuse_encoded(response)
                    return
            except TransientTransferError as fault:
                retry.wait_after(self.shown, fault)

    def _range(self, start: int, stop: int | None) -> dict[str, str]:
        if not self.ranges:
            return {}
        return {"Range": f"bytes={start}-" + ("" if stop is None else str(stop - 1))}

    def _request(self, headers: Mapping[str, str]) -> Any:
        try:
            return self._open(self._address, headers)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            if refusal.code in PASSING_STATUS:
                raise _transient(refusal) from None
            if refusal.code == 416 and self.identity:
                raise self._changed("a file that is shorter") from None
            raise BadInput(f"{self.shown}: the server answers {_explained(refusal)}") from None
        except ValueError as fault:
            raise BadInput(f"{self.shown}: expected the address of a file ({redacted(fault)})") from None
        except _FAULTS as fault:
            raise TransientTransferError(redacted(fault)) from None

    def _open(self, address: str, headers: Mapping[str, str]) -> Any:
        # compressed on the way, a range would count other bytes
        request = urllib.request.Request(address, headers={"Accept-Encoding": "identity", **headers})
        for name, value in self._headers.items():
            request.add_unredirected_header(name, value)
        return self._opener.open(request, timeout=_TIMEOUT)

    def _checked(self, response: Any, start: int, stop: int | None) -> int | None:
        """The length of the response's body, None if unknown; refuses what was not requested."""
        self._refuse_encoded(response)
        if _identity(response) != self.identity:
            raise self._changed("another version of it")
        if not self.ranges:
            if response.status == 206:
                raise self._wrong_response("a part", "the whole")
            return self.size
        if response.status != 206:
            raise self._wrong_response("the whole file", f"bytes {start}-{'' if stop is None else stop - 1}")
        first, last, total = self._content_range(response, start, stop)
        if total is not None and total != self.size:
            raise self._changed(f"a file of {total:,} bytes, not {self.size:,}")
        length = response.headers.get("Content-Length")
        if length is not None and length != str(last + 1 - first):
            raise self._wrong_response(f"{length[:20]} bytes", f"bytes {first}-{last}")
        return last + 1 - first

    def _content_range(self, response: Any, start: int, stop: int | None) -> tuple[int, int, int | None]:
        """First and last byte and total from Content-Range; a server may send less than requested, never other."""
        header = response.headers.get("Content-Range", "")
        found = _RANGE.fullmatch(header)
        if found is None:
            raise self._wrong_response(
                f"Content-Range {header[:60]!r}", f"bytes {start}-{'' if stop is None else stop - 1}"
            )
        first, last, total = int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])
        beyond = stop is not None and last >= stop
        if first != start or last < first or beyond or (total is not None and last >= total):
            raise self._wrong_response(f"bytes {first}-{last}", f"bytes {start}-{'' if stop is None else stop - 1}")
        if total is None and self.size is None:
            raise DamagedFile(f"{self.shown}: expected the server to give the file's size, found '*'; try another one")
        return first, last, total

    def _refuse_encoded(self, response: Any) -> None:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() not in ("identity", ""):
            raise DamagedFile(f"{self.shown}: expected the file's own bytes, found them packed as {encoding[:20]!r}")

    def _wrong_response(self, found: str, expected: str) -> DamagedFile:
        return DamagedFile(f"{self.shown}: expected {expected}, the server sent {found}; do not trust it, try another")

    def _changed(self, found: str) -> DamagedFile:
        return DamagedFile(f"{self.shown}: the file changed while it was read: now it is {found}; pull it again")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the web, never from https to http; a token goes along on the same server alone."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            fp.close()
            raise BadInput(f"{without_query(req.full_url)}: redirects to {without_query(newurl)}: not followed")
        again = super().redirect_request(req, fp, code, msg, headers, newurl)
        if again is not None and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            for name, value in req.unredirected_hdrs.items():
                again.add_unredirected_header(name, value)
        return again


def _transient(refusal: urllib.error.HTTPError) -> TransientTransferError:
    """The error for a status that may pass, with the seconds of its Retry-After (a number, or a date)."""
    seconds = retry_after(refusal.headers.get("Retry-After", ""))
    return TransientTransferError(f"the server answers {refusal.code} {redacted(refusal.reason)}", seconds)


def _read(response: Any, count: int) -> bytes:
    try:
        content: bytes = response.read(count)
    except http.client.IncompleteRead as cut:
        return cut.partial
    except _FAULTS as fault:
        raise TransientTransferError(redacted(fault)) from None
    return content


def _identity(response: Any) -> dict[str, str]:
    """The headers that identify the file's version."""
    names = ("ETag", "Last-Modified", "x-amz-version-id")
    return {"server": "web"} | {name: value[:200] for name in names if (value := response.headers.get(name))}


def _without_login(address: str) -> tuple[str, dict[str, str]]:
    """The address ready for a request, and the header that a login in it stands for."""
    parts = urlsplit(address)
    login, _, host = parts.netloc.rpartition("@")
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    clean = urlunsplit(parts._replace(netloc=host, path=path, fragment=""))
    if not login:
        return clean, {}
    return clean, {"Authorization": "Basic " + base64.b64encode(unquote(login).encode()).decode()}


def _explained(refusal: urllib.error.HTTPError) -> str:
    advice = {
        401: "it wants a login: for the Hub `hf auth login`, or a signed address",
        403: "it may not be read with these rights, or the signed address has expired",
        404: "there is no such file; check the address",
        416: "the file is empty",
    }
    return f"{refusal.code} {redacted(refusal.reason)}: {advice.get(refusal.code, 'check the address')}"
