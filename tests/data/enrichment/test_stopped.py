"""An enrichment that is killed or stopped: nothing that arrived is fetched again, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from pathlib import Path
from urllib.parse import unquote_plus, urlsplit

import pytest

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.enrichment.job import enrich
from cinefuse.data.enrichment.options import EnrichOptions
from cinefuse.data.enrichment.responses import Responses
from cinefuse.data.runtime.errors import Busy
from cinefuse.tests.support.film_services import TOKEN, Film, FilmServices, film_dataset, film_services, picture
from cinefuse.tests.support.forked import ForkServer

FILMS = [Film(1000 + n, f"Quay Number {n}", 1950 + n % 60) for n in range(240)]


def _start(fork_server: ForkServer, dataset: Path, services: FilmServices) -> int:
    """The id of a process that enriches; what it refuses stands in `_refusal`."""
    places = {"dataset": str(dataset), "url": services.url, "cache": str(dataset.parent / "cache")}
    return fork_server.start(
        "cinefuse.tests.support.jobs:enrich_from", err=_refusal(dataset), environment={"TMDB_TOKEN": TOKEN}, **places
    )


def _refusal(dataset: Path) -> Path:
    return dataset.parent / "err"


def _kept(dataset: Path, services: FilmServices) -> set[str]:
    """What is in the cache, as the fork_server logs requests."""
    folder = dataset.parent / "cache" / "tmdb"
    if not (folder / "responses.sqlite").exists():
        return set()
    database = sqlite3.connect(folder / "responses.sqlite")
    try:
        found = {
            unquote_plus(row[0].removeprefix(services.url)) for row in database.execute("select request from responses")
        }
    except sqlite3.OperationalError:  # killed before there was a table
        found = set()
    finally:
        database.close()
    with Responses(folder, 1e9) as responses:
        paths = (f"/t/p/w342{film.poster_path}" for film in FILMS)
        return found | {path for path in paths if responses.poster(f"{services.url}{path}")}


def _wait_for(count: int, services: FilmServices) -> None:
    until = time.monotonic() + 60
    while len(services.requests) < count and time.monotonic() < until:
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_fifty_times_nothing_kept_is_fetched_again_and_nothing_is_lost(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    dataset = film_dataset(tmp_path, [(one.title, one.year, one.tmdb_id, None) for one in FILMS])
    chance = random.Random(7)
    with film_services(list(FILMS)) as services:
        services.delay = 0.004
        seen: set[str] = set()
        for _ in range(50):
            before = len(services.requests)
            _start(fork_server, dataset, services)
            _wait_for(before + chance.randint(1, 14), services)
            time.sleep(chance.random() * 0.01)
            assert fork_server.kill(), "it was over before it was killed"
            assert not seen & set(services.requests[before:])
            now = _kept(dataset, services)
            assert seen <= now
            seen = now
        assert 0 < len(seen) < 481
        before = len(services.requests)
        _start(fork_server, dataset, services)
        assert fork_server.wait() == 0
        assert not seen & set(services.requests[before:])
        assert set(services.requests) == {
            urlsplit(key).path + ("?" + urlsplit(key).query if urlsplit(key).query else "")
            for key in _kept(dataset, services)
        }
    catalog = Catalog.open(dataset)
    assert catalog.items["text"].to_list() == [one.overview for one in FILMS]
    posters = [(catalog.poster_root / str(poster)).read_bytes() for poster in catalog.posters()]
    assert posters == [picture(one.tmdb_id) for one in FILMS]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_is_in_flight_at_a_polite_stop_is_kept_too(
    fork_server: ForkServer, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    films = FILMS[:60]
    dataset = film_dataset(tmp_path, [(one.title, one.year, one.tmdb_id, None) for one in films])
    with film_services(films) as services:
        services.delay = 0.05
        for _ in range(3):
            process = _start(fork_server, dataset, services)
            _wait_for(len(services.requests) + 12, services)
            os.kill(process, number)
            found, words = fork_server.wait(), _refusal(dataset).read_text()
            assert found == code, words
            assert "what arrived is kept, the same command continues" in words
        _start(fork_server, dataset, services)
        assert fork_server.wait() == 0
        assert set(services.counts().values()) == {1}
    assert Catalog.open(dataset).items["text"].null_count() == 0


@pytest.mark.slow
def test_two_at_once_do_not_fetch_the_same_twice(
    fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMDB_TOKEN", TOKEN)
    films = FILMS[:40]
    dataset = film_dataset(tmp_path, [(one.title, one.year, one.tmdb_id, None) for one in films])
    with film_services(films) as services:
        services.delay = 0.1
        _start(fork_server, dataset, services)
        _wait_for(1, services)
        with pytest.raises(Busy, match="is writing it"):
            enrich(dataset, EnrichOptions(base_url=services.url + "/3", cache=dataset.parent / "cache"))
        assert fork_server.wait() == 0
        assert set(services.counts().values()) == {1}
