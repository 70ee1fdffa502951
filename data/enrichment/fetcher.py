"""Responses and posters of a service: from what is kept, else over the network, and kept then."""

from __future__ import annotations

import asyncio
import io
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from PIL import Image, UnidentifiedImageError

from .client import Client, Lane, Refused, Response, Stop, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .keys import Key
    from .responses import Responses
    from .services.facts import Service

_LARGEST_ANSWER: Final = 16 * 2**20
LARGEST_POSTER: Final = 20 * 2**20
_MOST_PIXELS: Final = 32_000_000
_SUFFIX: Final = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
_PAGE: Final = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")


class NotThere(Exception):
    """The service has no such thing."""


class WouldFetch(Exception):
    """A dry run came to a request that is not kept: ``calls`` counts it and those that would follow it."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls


@dataclass
class Fetcher:
    """Everything a service needs to look items up. A dry one has no ``client``: it raises WouldFetch instead."""

    service: Service
    responses: Responses
    base: str
    client: Client | None
    lane: Lane | None = None
    poster_lane: Lane | None = None
    key: Key | None = None
    cached: int = 0
    _open: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def json(
        self, path: str, params: Mapping[str, str] | None = None, *, then: int = 0, base: str | None = None
    ) -> dict[str, Any]:
        """The JSON object that answers a request; ``then`` requests would follow it.

        Raises NotThere for 404, Stop where the key is not accepted or a limit is reached, Unreachable, Refused.
        """
        params, address = params or {}, (self.base if base is None else base).rstrip("/") + path
        request = address + ("?" + urlencode(sorted(params.items())) if params else "")
        async with self._alone(request):
            response = self.responses.get(request)
            if response is not None:
                self.cached += 1
            else:
                response = await self._fetch(request, address, params, then, keyed=base is None)
        if response.status == 404:
            raise NotThere
        return _object_in(response.body) or {}

    async def _fetch(
        self, request: str, address: str, params: Mapping[str, str], then: int, *, keyed: bool
    ) -> Response:
        if self.client is None or self.lane is None:
            raise WouldFetch(1 + then)
        more: tuple[dict[str, str], dict[str, str]] = ({}, {})
        if self.key is not None and keyed:
            more = self.service.credentials(self.key)
        headers = {"Accept": "application/json"} | more[1]
        response = await self.client.get(
            address, self.lane, _LARGEST_ANSWER, dict(params) | more[0], headers, self._doubt
        )
        if reason := self.service.refusal(response.status, _object_in(response.body) or {}):
            raise Stop(reason)
        if response.status not in (200, 404):
            raise Unreachable(f"the server answers {response.status}")
        self.responses.put(request, response)
        return response

    def _doubt(self, response: Response) -> str:
        if response.status != 200:
            return ""
        content = _object_in(response.body)
        if content is not None:
            return self.service.fault(content)
        page = response.body[:200].lstrip().lower().startswith(_PAGE)
        return "a web page came in place of JSON" if page else "what came is no JSON object"

    async def poster(self, address: str) -> Path:
        """The file of a poster, checked to be an image. Raises Refused, NotThere, Unreachable, Stop."""
        async with self._alone(address):
            return await self._poster(address)

    def _alone(self, request: str) -> asyncio.Lock:
        """Held while a request is in flight: items of one film, worked on at once, cost one request together."""
        return self._open.setdefault(request, asyncio.Lock())

    async def _poster(self, address: str) -> Path:
        kept = self.responses.poster(address) is not None or self.responses.get(address) is not None
        self.cached += kept
        if not kept and (self.client is None or self.poster_lane is None):
            if urlsplit(address).scheme not in ("http", "https"):
                raise Refused("its address is none of the web")
            raise WouldFetch(1)
        return await fetch_poster(self.responses, self.client, self.poster_lane, address)


async def fetch_poster(responses: Responses, client: Client | None, lane: Lane | None, address: str) -> Path:
    """The file of a poster, checked to be an image: the one that is kept, else fetched.

    What a server says for good (404, no picture, too large) is kept too. Raises Refused, Unreachable, Stop.
    """
    if file := responses.poster(address):
        return file
    if kept := responses.get(address):  # why it could not be had, which will be so again
        raise Refused(kept.body.decode())
    if urlsplit(address).scheme not in ("http", "https") or client is None or lane is None:
        raise Refused("its address is none of the web")
    response = await client.get(address, lane, LARGEST_POSTER)
    try:
        if response.status in (404, 410):
            raise Refused(f"the server answers {response.status}", final=True)
        if response.status != 200:
            raise Refused(f"the server answers {response.status}")
        suffix = await asyncio.to_thread(_checked, response.body)
    except Refused as refusal:
        if refusal.final:
            responses.put(address, Response(0, str(refusal).encode()))
        raise
    return await asyncio.to_thread(responses.put_poster, address, suffix, response.body)


def _object_in(body: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _checked(body: bytes) -> str:
    """The suffix of a picture, decoded once to the end. Raises Refused where it is none, damaged or too large."""
    if not body:
        raise Refused("it is empty")
    if body[:200].lstrip().lower().startswith(_PAGE):
        raise Refused("a web page came in place of a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=tuple(_SUFFIX)) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise Refused(f"it has {picture.width:,} x {picture.height:,} pixels", final=True)
                picture.load()
                return _SUFFIX[str(picture.format)]
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise Refused("it has far too many pixels", final=True) from None
    except UnidentifiedImageError:
        raise Refused("it is no picture that can be used (JPEG, PNG, WebP, GIF)", final=True) from None
    except Exception:  # a decoder meets untrusted bytes: whatever it says, the picture is damaged
        raise Refused("the picture is damaged", final=True) from None
