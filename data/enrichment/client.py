"""The HTTP client of the services: many requests at once, at the pace the service allows, retried where that may help.

Connections, TLS, proxies and compression are httpx2's, the pace is aiolimiter's, the retries tenacity's. Ours are the
limits on what is read and where a redirect may lead.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx2
from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from ..remote.address import without_query
from ..remote.retry import LONGEST_RETRY_AFTER, PASSING_STATUS, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

_REDIRECTS: Final = 5
_TRIES_WHEN_LIMITED: Final = 20
_LONGEST_WAIT: Final = 30.0  # seconds


class Refused(Exception):
    """What came cannot be used: the reason is part of a sentence. ``final``: it would be so again at any time."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Unreachable(Exception):
    """This request failed as often as it was tried, and may work later: the reason is part of a sentence."""


class Stop(Exception):
    """No further request makes sense now: the key is not accepted, or today's limit is reached."""


class _Transient(Exception):
    def __init__(self, reason: str, *, limited: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.limited, self.retry_after = limited, retry_after


@dataclass(frozen=True)
class Response:
    """What a server answered: status and body, whatever they are."""

    status: int
    body: bytes


class Lane:
    """The pace towards one service: at most ``rate`` requests a second, none while it wants to be left alone."""

    def __init__(self, rate: float) -> None:
        burst = max(1.0, rate / 20)  # what may go out at once; the rate holds over any longer time
        self._limiter = AsyncLimiter(burst, burst / rate)
        self._quiet_until = 0.0
        self.closed = False

    async def turn(self) -> None:
        """Wait for the right to send one request. Raises Stop once the lane is closed."""
        while True:
            if self.closed:
                raise Stop("stopped")
            await self._limiter.acquire()
            quiet = self._quiet_until - time.monotonic()
            if quiet <= 0:
                return
            await asyncio.sleep(quiet)

    def be_quiet(self, seconds: float) -> None:
        """Send nothing for so long, on any connection."""
        self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)


@dataclass
class Traffic:
    """What went over the wire: requests sent, those repeated, bytes of bodies."""

    requests: int = 0
    repeated: int = 0
    received: int = 0
    seconds_quiet: float = 0.0


class Client:
    """Gets addresses over a few connections. Use it as an async context."""

    def __init__(
        self, agent: str, connections: int, *, tries: int = 5, pause: float = 0.5, patience: float = 60.0
    ) -> None:
        self.traffic = Traffic()
        self._tries, self._pause, self._patience = tries, pause, patience
        self._http = httpx2.AsyncClient(
            headers={"User-Agent": agent},
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            timeout=httpx2.Timeout(min(30.0, patience), pool=None),
        )

    async def __aenter__(self) -> Client:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, fault, trace)

    async def get(
        self,
        address: str,
        lane: Lane,
        limit: int,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        doubt: Callable[[Response], str] | None = None,
    ) -> Response:
        """The server's response, at most ``limit`` bytes long, after retries of what may pass.

        ``headers`` (a key) go to that server alone, never where it redirects to. ``doubt`` says why a response is
        unusable and the request is to be repeated, "" where it is usable. Raises Refused, Unreachable, Stop.
        """
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(_Transient), wait=self._wait, stop=self._used_up, reraise=True
            ):
                with attempt:
                    await lane.turn()
                    self.traffic.requests += 1
                    self.traffic.repeated += attempt.retry_state.attempt_number > 1
                    response = await self._in_time(address, lane, limit, params or {}, headers or {})
                    if doubt is not None and (reason := doubt(response)):
                        raise _Transient(reason)
                    return response
        except _Transient as fault:
            raise Unreachable(str(fault)) from None
        raise AssertionError("unreachable: tenacity returns or raises")

    def _wait(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        growing = min(_LONGEST_WAIT, self._pause * 2.0 ** (state.attempt_number - 1))
        return max(growing, fault.retry_after if isinstance(fault, _Transient) else 0.0)

    def _used_up(self, state: RetryCallState) -> bool:
        fault = state.outcome.exception() if state.outcome else None
        limited = isinstance(fault, _Transient) and fault.limited
        return state.attempt_number >= (max(self._tries, _TRIES_WHEN_LIMITED) if limited else self._tries)

    async def _in_time(
        self, address: str, lane: Lane, limit: int, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> Response:
        try:
            async with asyncio.timeout(self._patience):
                return await self._follow(address, lane, limit, params, headers)
        except TimeoutError:
            raise _Transient(f"no whole answer within {self._patience:g} s") from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, ValueError):
            raise Refused("this is no address of the web") from None
        except httpx2.RequestError as fault:
            raise _Transient(_words_of(fault)) from None

    async def _follow(
        self, address: str, lane: Lane, limit: int, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> Response:
        url = httpx2.URL(address, params=params) if params else httpx2.URL(address)
        for _ in range(_REDIRECTS + 1):
            async with self._http.stream("GET", url, headers=headers) as response:
                if not response.has_redirect_location:
                    return await self._read(response, lane, limit)
                after = url.join(response.headers["Location"])
            if after.scheme not in ("http", "https") or (url.scheme, after.scheme) == ("https", "http"):
                raise Refused(f"redirects to {after.scheme}://, which is not followed")
            if (after.scheme, after.host, after.port) != (url.scheme, url.host, url.port):
                headers = {}
            url = after
        raise Refused(f"redirects more than {_REDIRECTS} times")

    async def _read(self, response: httpx2.Response, lane: Lane, limit: int) -> Response:
        status = response.status_code
        if status in PASSING_STATUS or status >= 500:
            self._make_way(response, lane)
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > limit:
            raise Refused(f"larger than {limit // 2**20} MB")
        body = bytearray()
        async for block in response.aiter_bytes(1 << 16):
            body += block
            if len(body) > limit:
                raise Refused(f"larger than {limit // 2**20} MB")
        self.traffic.received += len(body)
        return Response(status, bytes(body))

    def _make_way(self, response: httpx2.Response, lane: Lane) -> None:
        """Raise what a busy server's answer means; all connections wait where it says for how long."""
        status, seconds = response.status_code, retry_after(response.headers.get("Retry-After", ""))
        server = without_query(f"{response.url.scheme}://{response.url.host}")
        if seconds > LONGEST_RETRY_AFTER:
            raise Stop(f"{server} answers {status} and wants to be left alone for {seconds:,.0f} s")
        limited = status == 429
        if seconds or limited:
            lane.be_quiet(seconds or 1.0)
            self.traffic.seconds_quiet += seconds or 1.0
        raise _Transient(f"the server answers {status}", limited=limited, retry_after=seconds)


def _words_of(fault: httpx2.RequestError) -> str:
    """What went wrong on the way, without any address: keys stand in some."""
    kinds = {
        httpx2.ConnectTimeout: "the server does not answer",
        httpx2.ReadTimeout: "the server stopped sending",
        httpx2.ConnectError: "no connection",
        httpx2.ReadError: "the connection broke",
        httpx2.RemoteProtocolError: "the connection closed before the end",
        httpx2.DecodingError: "the body is damaged",
    }
    return next((words for kind, words in kinds.items() if isinstance(fault, kind)), type(fault).__name__)


def is_loopback(address: str) -> bool:
    """Whether an address is one of this machine, where a key may travel without TLS."""
    return (urlsplit(address).hostname or "") in ("localhost", "127.0.0.1", "::1")
