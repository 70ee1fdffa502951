"""How fast `cinefuse data enrich` is against an imitation of TMDB on loopback that allows 40 requests a second.

    python -m benchmarks.enrich --films 800 --limit 40

One request and one poster a film; posters are pictures of 342 x 513 pixels. The service runs in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from cinefuse.data.enrichment.job import enrich
from cinefuse.data.enrichment.options import EnrichOptions
from cinefuse.data.sources.own_tables import import_table
from cinefuse.tests.support.film_services import TOKEN, Film, film_services, picture


def serve(films: int, limit: int, delay: float) -> None:
    """Serve until standard input ends, then print how many requests went over the limit."""
    with film_services(_films(films)) as services:
        services.limit, services.delay = limit, delay
        services.posters = {f"poster{one.tmdb_id}.jpg": picture(one.tmdb_id, (342, 513)) for one in services.films}
        print(services.url, flush=True)
        sys.stdin.read()
        print(services.limited, max(services.counts().values()), flush=True)


def _films(count: int) -> list[Film]:
    return [Film(1000 + n, f"Quay Number {n}", 1950 + n % 60) for n in range(count)]


def measure(films: int, limit: int, delay: float) -> None:
    """Enrich an invented dataset once and print the figures."""
    words = [sys.executable, "-m", "benchmarks.enrich", "--serve", "--films", str(films), "--limit", str(limit)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ids = {"item_id": range(1, films + 1), "tmdb_id": [one.tmdb_id for one in _films(films)]}
        titles = {"title": [one.title for one in _films(films)], "year": [one.year for one in _films(films)]}
        pl.DataFrame(ids | titles).write_parquet(folder / "films.parquet")
        import_table(folder / "ml", folder / "films.parquet")
        server = subprocess.Popen(
            [*words, "--delay", str(delay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        os.environ["TMDB_TOKEN"] = TOKEN
        started = time.monotonic()
        report = enrich(folder / "ml", EnrichOptions(base_url=f"{url}/3", cache=folder / "cache"))
        seconds = time.monotonic() - started
        limited, most = map(int, server.communicate("")[0].split())
    assert report.taken["text"] == report.taken["poster"] == films, report
    print(f"{films:,} films in {seconds:.1f} s: {films / seconds:.1f} films/s at a limit of {limit} requests/s")
    print(f"{limited} requests over the limit; no address was requested more than {most} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=800)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds that each answer takes")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    (serve if given.serve else measure)(given.films, given.limit, given.delay)
