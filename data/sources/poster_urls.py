"""Posters from a column of addresses, brought into the dataset by the one client that all downloads of posters use."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections import Counter, deque
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from ..enrichment.client import Client, Lane, Refused, Stop, Unreachable
from ..enrichment.fetcher import fetch_poster
from ..enrichment.responses import Responses, default_cache
from ..runtime.errors import BadInput
from ..runtime.lock import sole_writer
from ..runtime.progress import NoProgress, Progress

if TYPE_CHECKING:
    from ..tables.table import Table

_IN_A_ROW: Final = 20  # posters that no server answers for: then the network is down, not a poster
_A_YEAR: Final = 365 * 86_400.0
_ADDRESS = re.compile(r"(?:https?:)?//[^\s\"'<>\]\[}{]+", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")


@dataclass(frozen=True)
class PosterUrls:
    """A ``column`` of addresses, and how they are fetched: at most ``rate`` requests a second over ``connections``.

    What was fetched once is kept in ``cache`` (None: the user's) and never fetched again, so a stopped import goes on.
    """

    column: str
    cache: Path | None = None
    rate: float = 40.0
    connections: int = 8
    tries: int = 5
    pause: float = 0.5
    progress: Progress | None = None


def addresses_of(films: Table, column: str) -> pl.DataFrame:
    """``row`` and ``address``: the first address in each cell, also of a list; null where there is none."""
    cells = films.renamed({"cell": films.column_for("poster_urls", column)}).collect(engine="streaming")
    values = [None if cell is None else _ADDRESS.search(str(cell)) for cell in cells["cell"].to_list()]
    found = [None if one is None else _with_scheme(one[0]) for one in values]
    if not any(found):
        first = next((str(cell) for cell in cells["cell"].to_list() if cell), "")
        raise BadInput(
            f"--poster-urls {column}: no cell of {films.name} has an address (https://...), found {first[:60]!r}; "
            "TMDB's paths are what `cinefuse data enrich --source tmdb` downloads"
        )
    return cells.select("row", address=pl.Series(found, dtype=pl.String))


def _with_scheme(address: str) -> str:
    return "https:" + address if address.startswith("//") else address


def download_posters(
    items: pl.DataFrame, addresses: pl.DataFrame, folder: Path, urls: PosterUrls
) -> tuple[pl.DataFrame, list[str]]:
    """Bring each item's poster into ``folder`` and its name into ``poster``; failures are counted by reason.

    BadInput where so many servers in a row do not answer that going on makes no sense: what arrived is kept.
    """
    wanted = items.select("item_id", "row").join(addresses, on="row", how="left", maintain_order="left")
    unique = list(dict.fromkeys(address for address in wanted["address"].to_list() if address is not None))
    cache = (urls.cache or default_cache()) / "posters"
    with Responses(cache, _A_YEAR) as responses, sole_writer(responses.file):
        found = asyncio.run(_fetch_all(unique, responses, urls))
        folder.mkdir(parents=True, exist_ok=True)
        names: list[str | None] = []
        for item, _, address in wanted.iter_rows():
            outcome = found.get(address) if address is not None else None
            names.append(_placed(outcome, item, folder) if isinstance(outcome, Path) else None)
    reasons = Counter(outcome for outcome in found.values() if isinstance(outcome, str))
    notes = [f"{count:,} posters could not be had: {reason}" for reason, count in reasons.most_common(5)]
    if lacking := wanted["address"].null_count():
        notes.append(f"{lacking:,} films have no address of a poster in column {urls.column}")
    return items.with_columns(pl.Series("poster", names, dtype=pl.String)), notes


async def _fetch_all(addresses: list[str], responses: Responses, urls: PosterUrls) -> dict[str, Path | str]:
    """Each address's file, or the reason why there is none."""
    found: dict[str, Path | str] = {}
    queue, lane, failures = deque(addresses), Lane(urls.rate), 0
    agent = f"cinefuse/{version('cinefuse')} (posters of a film dataset)"
    progress = urls.progress or NoProgress()
    async with Client(agent, urls.connections, tries=urls.tries, pause=urls.pause) as client:
        with progress.phase("posters", len(addresses)) as phase:

            async def work() -> None:
                nonlocal failures
                while queue and failures < _IN_A_ROW:
                    address = queue.popleft()
                    try:
                        found[address] = await fetch_poster(responses, client, lane, address)
                        failures = 0
                    except Refused as refusal:
                        found[address] = str(refusal)
                        failures = 0
                    except (Stop, Unreachable) as fault:
                        found[address] = str(fault)
                        failures = _IN_A_ROW if isinstance(fault, Stop) else failures + 1
                    phase.advance(1)

            await asyncio.gather(*(work() for _ in range(min(urls.connections, len(addresses)))))
    if failures >= _IN_A_ROW and len(found) < len(addresses):
        arrived = sum(isinstance(outcome, Path) for outcome in found.values())
        last = next(reason for reason in reversed(found.values()) if isinstance(reason, str))
        raise BadInput(
            f"--poster-urls {urls.column}: {arrived:,} of {len(addresses):,} posters arrived, then no server answered "
            f"({last}); what arrived is kept: the same command continues"
        )
    return found


def _placed(file: Path, item: str, folder: Path) -> str:
    """The name under which a kept poster lies in the dataset: linked there, or copied."""
    stem = item if _PLAIN.fullmatch(item) else hashlib.sha256(item.encode()).hexdigest()[:32]
    place = folder / f"{stem}{file.suffix}"
    if not place.exists():
        try:
            os.link(file, place)
        except OSError:  # another disk, or one without links
            shutil.copyfile(file, place)
    return place.name
