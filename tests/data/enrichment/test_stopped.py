"""An enrichment that is killed or stopped: nothing that arrived is fetched again, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote_plus, urlsplit

import pytest

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.enrichment.responses import Responses
from cinefuse.tests.data.enrichment.test_enrich import made
from cinefuse.tests.support.film_services import TOKEN, Film, FilmServices, film_services, picture

FILMS = [Film(1000 + n, f"Quay Number {n}", 1950 + n % 60) for n in range(240)]
_RUN = """
import sys
from pathlib import Path
from cinefuse.data.enrichment.job import EnrichOptions, enrich
from cinefuse.data.runtime.errors import CinefuseError
dataset, url, cache = sys.argv[1:]
options = EnrichOptions(base_url=url + "/3", cache=Path(cache), rate=400.0, connections=6, pause=0.02)
try:
    enrich(Path(dataset), options)
except CinefuseError as refusal:
    print(refusal)
    sys.exit(refusal.exit_code)
"""


def _start(dataset: Path, services: FilmServices) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _RUN, str(dataset), services.url, str(dataset.parent / "cache")]
    return subprocess.Popen(words, env=os.environ | {"TMDB_TOKEN": TOKEN}, stdout=subprocess.PIPE, text=True)


def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    words, _ = process.communicate(timeout=120)
    return process.returncode, words


def _kept(dataset: Path, services: FilmServices) -> set[str]:
    """What is in the cache, as the server logs requests."""
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


def _wait_for(count: int, services: FilmServices, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while len(services.requests) < count and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_fifty_times_nothing_kept_is_fetched_again_and_nothing_is_lost(tmp_path: Path) -> None:
    dataset = made(tmp_path, [(one.title, one.year, one.tmdb_id, None) for one in FILMS])
    chance = random.Random(7)
    with film_services(list(FILMS)) as services:
        services.delay = 0.004
        seen: set[str] = set()
        for _ in range(50):
            before = len(services.requests)
            process = _start(dataset, services)
            _wait_for(before + chance.randint(1, 14), services, process)
            time.sleep(chance.random() * 0.01)
            process.kill()
            process.communicate()
            assert not seen & set(services.requests[before:])
            now = _kept(dataset, services)
            assert seen <= now
            seen = now
        assert 0 < len(seen) < 481
        before = len(services.requests)
        last = _start(dataset, services)
        assert _ended(last)[0] == 0
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
def test_what_is_in_flight_at_a_polite_stop_is_kept_too(tmp_path: Path, number: signal.Signals, code: int) -> None:
    films = FILMS[:60]
    dataset = made(tmp_path, [(one.title, one.year, one.tmdb_id, None) for one in films])
    with film_services(films) as services:
        services.delay = 0.05
        for _ in range(3):
            process = _start(dataset, services)
            _wait_for(len(services.requests) + 12, services, process)
            process.send_signal(number)
            found, words = _ended(process)
            assert found == code, words
            assert "what arrived is kept, the same command continues" in words
        assert _ended(_start(dataset, services))[0] == 0
        assert set(services.counts().values()) == {1}
    assert Catalog.open(dataset).items["text"].null_count() == 0


def test_two_at_once_do_not_fetch_the_same_twice(tmp_path: Path) -> None:
    films = FILMS[:40]
    dataset = made(tmp_path, [(one.title, one.year, one.tmdb_id, None) for one in films])
    with film_services(films) as services:
        services.delay = 0.1
        first = _start(dataset, services)
        _wait_for(1, services, first)
        second = _start(dataset, services)
        code, words = _ended(second)
        assert code == 6, words
        assert "is writing it" in words
        assert _ended(first)[0] == 0
        assert set(services.counts().values()) == {1}
