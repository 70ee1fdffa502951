"""`enrich` against loopback imitations of the services, with their faults."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from cinefuse.data.dataset.assembly import Choices
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.folder import Description
from cinefuse.data.enrichment.job import EnrichReport, enrich
from cinefuse.data.enrichment.options import EnrichOptions
from cinefuse.data.enrichment.plan import plan_enrichment
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.runtime.progress import NoProgress, Phase, Unit
from cinefuse.data.sources.own_tables import import_table
from cinefuse.tests.support.film_services import (
    API_KEY,
    OMDB_KEY,
    TOKEN,
    Film,
    FilmServices,
    film_dataset,
    film_services,
    picture,
)

FILMS = [
    Film(100 + n, f"Harbour Story {word}", 1990 + n) for n, word in enumerate(("Amber", "Basalt", "Cobalt", "Delta"))
]
DETAILS = "?append_to_response=credits,keywords&language=en-US"


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[FilmServices]:
    monkeypatch.setenv("TMDB_TOKEN", TOKEN)
    monkeypatch.setenv("OMDB_API_KEY", OMDB_KEY)
    with film_services(list(FILMS)) as running:
        yield running


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four films with TMDB's ids, and nothing else."""
    return film_dataset(tmp_path, [(one.title, one.year, one.tmdb_id, None) for one in FILMS])


def run(dataset: Path, services: FilmServices, source: str = "tmdb", **more: object) -> EnrichReport:
    base = {"tmdb": "/3", "omdb": "/omdb", "wikidata": ""}[source]
    fixed = {"source": source, "base_url": services.url + base, "cache": dataset.parent / "cache", "pause": 0.01}
    return enrich(dataset, EnrichOptions(**(fixed | {"rate": 500.0, "patience": 2.0} | more)))  # type: ignore[arg-type]


def missing(dataset: Path, source: str = "tmdb") -> dict[tuple[int, str], str]:
    table = pl.read_csv(dataset / "enrichment" / f"{source}-missing.csv", schema_overrides={"item_id": pl.Int64})
    return {(row[0], row[2]): row[3] for row in table.iter_rows()}


def test_plots_posters_and_tags_come_into_the_dataset_with_their_terms(dataset: Path, services: FilmServices) -> None:
    report = run(dataset, services)
    catalog = Catalog.open(dataset)
    assert catalog.items["text"].to_list() == [one.overview for one in FILMS]
    posters = [(catalog.poster_root / str(poster)).read_bytes() for poster in catalog.posters()]
    assert posters == [picture(one.tmdb_id) for one in FILMS]
    assert catalog.items["genres"][0].to_list() == ["Drama", "Comedy"]
    tags = catalog.items["tags"][0].to_list()
    assert {"director: Ada Quill", "writer: Ben Reed", "keywords: lighthouse", "language: en"} <= set(tags)
    assert "actors: Actor 4" in tags
    assert "actors: Actor 5" not in tags
    assert report.taken == {"text": 4, "poster": 4, "year": 0, "genres": 4, "tags": 4}
    described = Description.read(dataset)
    assert described.counts["texts"] == described.counts["posters"] == 4
    assert "not endorsed or certified by TMDB" in described.sources[-1]["notice"]
    assert "not endorsed or certified by TMDB" in (dataset / "ATTRIBUTION.txt").read_text()


def test_a_film_costs_one_request_and_one_poster_and_a_second_run_none(dataset: Path, services: FilmServices) -> None:
    run(dataset, services)
    assert services.counts()[f"/3/movie/100{DETAILS}"] == 1
    assert len(services.requests) == 1 + 4 + 4
    assert run(dataset, services).wanted == 0
    import_table(dataset, dataset.parent / "films.parquet", choices=Choices(overwrite=True))
    report = run(dataset, services)
    assert report.taken["poster"] == 4
    assert len(services.requests) == 9
    assert report.traffic.requests == 0


def test_what_the_dataset_has_stays_unless_overwrite_is_said(tmp_path: Path, services: FilmServices) -> None:
    (tmp_path / "own.png").write_bytes(picture(7, kind="PNG"))
    films = [(one.title, one.year + (one.tmdb_id == 100), one.tmdb_id, None) for one in FILMS]
    given = {
        "text": ["Mine.", None, "", None],
        "poster": ["own.png", "gone.png", None, None],
        "director": ["Me", None, None, None],
    }
    dataset = film_dataset(tmp_path, films, **given)
    run(dataset, services)
    catalog = Catalog.open(dataset)
    assert catalog.items["text"].to_list() == ["Mine.", *(one.overview for one in FILMS[1:])]
    assert catalog.items["year"][0] == 1991
    assert (catalog.poster_root / catalog.posters()[0]).read_bytes() == picture(7, kind="PNG")  # type: ignore[operator]
    assert (catalog.poster_root / catalog.posters()[1]).read_bytes() == picture(101)  # type: ignore[operator]
    tags = catalog.items["tags"][0].to_list()
    assert "director: Me" in tags
    assert "director: Ada Quill" not in tags
    assert "keywords: sea" in tags
    assert (tmp_path / "own.png").exists()
    run(dataset, services, overwrite=True)
    catalog = Catalog.open(dataset)
    assert catalog.items["text"][0] == FILMS[0].overview
    assert catalog.items["year"][0] == 1990
    assert (catalog.poster_root / catalog.posters()[0]).read_bytes() == picture(100)  # type: ignore[operator]
    assert "director: Ada Quill" in catalog.items["tags"][0].to_list()


def test_imdb_numbers_lead_to_films_and_to_series(tmp_path: Path, services: FilmServices) -> None:
    services.films.append(Film(100, "Nine Lamps", 2001, imdb_id="tt7654321", kind="tv"))
    dataset = film_dataset(
        tmp_path, [("Harbour Story Amber", 1990, None, "tt0000100"), ("Nine Lamps", 2001, None, "tt7654321")]
    )
    run(dataset, services)
    catalog = Catalog.open(dataset)
    assert catalog.items["text"].to_list() == [FILMS[0].overview, services.films[-1].overview]


def test_without_ids_title_and_year_find_a_film_and_doubtful_ones_are_listed_not_taken(
    tmp_path: Path, services: FilmServices
) -> None:
    services.films += [
        Film(1, "The Salt Road", 1962),
        Film(2, "Twin Rivers", 1980),
        Film(3, "Twin Rivers", 1980),
        Film(4, "Northern Pier 2", 1971),
    ]
    films = [
        ("Salt Road, The (1962)", 1962),
        ("Twin Rivers (1980)", 1980),
        ("Northern Pier (1971)", 1971),
        ("Nowhere", None),
    ]
    dataset = film_dataset(tmp_path, [(title, year, None, None) for title, year in films])
    report = run(dataset, services)
    assert Catalog.open(dataset).items["text"].to_list() == [services.films[4].overview, None, None, None]
    assert report.doubtful == 2
    doubtful = pl.read_csv(dataset / "enrichment" / "tmdb-doubtful.csv")
    assert set(doubtful["tmdb_id"]) == {2, 3, 4}
    assert doubtful["confidence"].max() < 0.8  # type: ignore[operator]
    assert "doubtful" in missing(dataset)[2, "text"]
    assert missing(dataset)[4, "poster"] == "TMDB has no film of that title"
    doubtful.filter(pl.col("tmdb_id").is_in([3, 4])).write_csv(tmp_path / "vouched.csv")
    run(dataset, services, matches=tmp_path / "vouched.csv")
    texts = Catalog.open(dataset).items["text"].to_list()
    assert texts[1:3] == [services.films[6].overview, services.films[7].overview]


def test_items_of_one_film_cost_one_request_together(tmp_path: Path, services: FilmServices) -> None:
    services.delay = 0.02
    dataset = film_dataset(tmp_path, [("Harbour Story Amber", 1990, 100, None)] * 8)
    assert run(dataset, services).taken["poster"] == 8
    assert len(services.requests) == 3


def test_bytes_shown_are_bytes_that_arrived_however_many_are_fetched_at_once(
    dataset: Path, services: FilmServices
) -> None:
    phases: list[Phase] = []

    class Recorded(NoProgress):
        @contextmanager
        def phase(self, name: str, total: int | None = None, unit: Unit = "items", *, work: int = 0) -> Iterator[Phase]:
            with super().phase(name, total, unit, work=work) as phase:
                phases.append(phase)
                yield phase

    services.delay = 0.02
    options = EnrichOptions(base_url=f"{services.url}/3", cache=dataset.parent / "cache", connections=4, posters=False)
    report = enrich(dataset, options, Recorded())
    assert 0 < sum(phase.size_done for phase in phases) <= report.traffic.received


def test_a_damaged_cache_is_named(tmp_path: Path, dataset: Path, services: FilmServices) -> None:
    run(dataset, services)
    file = tmp_path / "cache" / "tmdb" / "responses.sqlite"
    for beside in file.parent.glob("responses.sqlite-*"):
        beside.unlink()
    file.write_bytes(file.read_bytes()[:200] + b"spoiled" * 4000)
    with pytest.raises(BadInput, match="--cache"):
        run(dataset, services, overwrite=True)


def test_an_id_of_another_film_is_not_taken_but_its_title_is_tried(tmp_path: Path, services: FilmServices) -> None:
    services.films.append(Film(55, "Completely Other", 1931))
    dataset = film_dataset(tmp_path, [("Harbour Story Amber", 1990, 55, None), ("Gone from TMDB", 2004, 55, None)])
    report = run(dataset, services)
    assert Catalog.open(dataset).items["text"].to_list() == [FILMS[0].overview, None]
    assert report.doubtful == 1
    assert "'Completely Other', 1931" in missing(dataset)[2, "text"]


def test_an_id_that_is_gone_is_listed_and_not_requested_again(tmp_path: Path, services: FilmServices) -> None:
    dataset = film_dataset(tmp_path, [("Unheard Of", 1990, 999, None)])
    run(dataset, services)
    assert missing(dataset)[1, "text"] == "TMDB has no film of that title"
    before = len(services.requests)
    run(dataset, services)
    assert len(services.requests) == before


def test_a_film_without_a_poster_or_a_plot_is_listed(tmp_path: Path, services: FilmServices) -> None:
    services.films.append(Film(7, "Bare", 1990, overview=" ", has_poster=False))
    dataset = film_dataset(tmp_path, [("Bare", 1990, 7, None)])
    run(dataset, services)
    assert missing(dataset) == {(1, "text"): "TMDB has no text of it", (1, "poster"): "TMDB has no poster of it"}


@pytest.mark.parametrize("fault", [500, 503, 429, "reset", "cut", "html", ("limited", 0), ("slow", 2.5)])
def test_what_passes_is_tried_again(dataset: Path, services: FilmServices, fault: object) -> None:
    services.meet("/3/movie/101", fault)  # type: ignore[arg-type]
    services.meet("/t/p/w342/poster102.jpg", fault if fault != "html" else 500)  # type: ignore[arg-type]
    report = run(dataset, services)
    assert report.taken["text"] == report.taken["poster"] == 4
    assert report.traffic.repeated == 2
    assert services.counts()[f"/3/movie/101{DETAILS}"] == 2
    assert services.counts()[f"/3/movie/100{DETAILS}"] == 1


def test_what_does_not_pass_is_listed_and_tried_by_the_next_run_alone(dataset: Path, services: FilmServices) -> None:
    services.meet("/3/movie/101", *[500] * 5)
    services.meet("/t/p/w342/poster102.jpg", *["cut"] * 5)
    report = run(dataset, services)
    assert report.taken["text"] == 3
    assert report.taken["poster"] == 2
    assert "500" in missing(dataset)[2, "text"]
    assert "again" in missing(dataset)[3, "poster"]
    before = len(services.requests)
    run(dataset, services)
    assert services.requests[before:].count("/t/p/w342/poster102.jpg") == 1
    assert len(services.requests) == before + 3
    assert missing(dataset) == {}


HUGE = b"\xff\xd8\xff" + bytes(21 * 2**20)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (404, "404"),
        (("body", b"GIF89a but not really"), "picture"),
        (("body", picture(3)[:-200]), "damaged"),
        (
            lambda: ("body", picture(1, (8000, 8000), "PNG")),
            "8,000 x 8,000 pixels",
        ),  # a second's work, done when it is run
    ],
)
def test_a_poster_that_is_none_is_refused_listed_and_never_requested_again(
    dataset: Path, services: FilmServices, fault: object, why: str
) -> None:
    services.always("/t/p/w342/poster102.jpg", fault() if callable(fault) else fault)  # type: ignore[arg-type]
    report = run(dataset, services)
    assert report.taken["poster"] == 3
    assert report.taken["text"] == 4
    assert why in missing(dataset)[3, "poster"]
    assert services.counts()["/t/p/w342/poster102.jpg"] == 1
    run(dataset, services)
    assert services.counts()["/t/p/w342/poster102.jpg"] == 1


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (403, "403"),
        ("html", "web page"),  # of a captive portal, say
        (("body", b""), "empty"),
        (("body", HUGE), "larger than 20 MB"),
        (("claims", 10**12), "larger than 20 MB"),
        (("redirect", "file:///etc/passwd"), "file://"),
        (("redirect", "ftp://127.0.0.1/x.jpg"), "ftp://"),
    ],
)
def test_a_poster_that_another_day_may_bring_is_listed_and_requested_by_the_next_run(
    dataset: Path, services: FilmServices, fault: object, why: str
) -> None:
    services.meet("/t/p/w342/poster102.jpg", fault)  # type: ignore[arg-type]
    run(dataset, services)
    assert why in missing(dataset)[3, "poster"]
    assert services.counts()["/t/p/w342/poster102.jpg"] == 1
    assert run(dataset, services).taken["poster"] == 1


def test_redirects_within_the_web_are_followed_and_the_key_stays_behind(dataset: Path, services: FilmServices) -> None:
    elsewhere = services.url.replace("127.0.0.1", "localhost")
    services.meet("/t/p/w342/poster101.jpg", ("redirect", f"{elsewhere}/omdb-posters/poster101.jpg"))
    services.meet("/3/movie/102", ("redirect", f"{elsewhere}/3/movie/102"))
    report = run(dataset, services)
    assert report.taken["poster"] == 4 or report.stopped
    arrived = [h for path, h in zip(services.requests, services.headers, strict=True) if path == "/3/movie/102"]
    assert arrived
    assert all("Authorization" not in headers for headers in arrived)


def test_redirects_in_a_circle_end(dataset: Path, services: FilmServices) -> None:
    services.always("/t/p/w342/poster101.jpg", ("redirect", "/t/p/w342/poster101.jpg"))
    run(dataset, services)
    assert "redirects more than 5 times" in missing(dataset)[2, "poster"]


def test_all_connections_wait_where_the_service_says_for_how_long(dataset: Path, services: FilmServices) -> None:
    services.meet("/3/movie/100", ("limited", 2))
    report = run(dataset, services)
    assert report.taken["text"] == 4
    assert report.traffic.seconds_quiet == 2


def test_a_service_that_wants_hours_of_rest_ends_the_run_and_what_arrived_is_in_the_dataset(
    dataset: Path, services: FilmServices
) -> None:
    services.always("/3/movie/102", ("limited", 86400))
    report = run(dataset, services, connections=1)
    assert "86,400 s" in report.stopped
    assert Catalog.open(dataset).items["text"].null_count() == 2


def test_a_service_that_is_down_ends_the_run_early(tmp_path: Path, services: FilmServices) -> None:
    dataset = film_dataset(tmp_path, [(f"Film {n}", 1990, n, None) for n in range(1, 101)])
    for n in range(1, 101):
        services.always(f"/3/movie/{n}", "html")
    report = run(dataset, services, connections=2, tries=2)
    assert "20 items in a row" in report.stopped
    assert "web page came in place of JSON" in report.stopped
    assert len(services.requests) < 50


def test_a_wrong_key_ends_the_run_before_it_begins(
    dataset: Path, services: FilmServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMDB_TOKEN", "eyJ.wrong.key")
    with pytest.raises(BadInput, match=r"TMDB does not accept the key \(401: Invalid API key\)") as refusal:
        run(dataset, services)
    assert "eyJ.wrong.key" not in str(refusal.value)
    assert len(services.requests) == 1


def test_a_missing_key_says_how_it_is_given(
    dataset: Path, services: FilmServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMDB_TOKEN")
    with pytest.raises(UsageError, match=r"TMDB_TOKEN or TMDB_API_KEY.*--key-file"):
        run(dataset, services)


def test_keys_come_from_a_file_too_and_stand_nowhere_afterwards(
    dataset: Path, services: FilmServices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TMDB_TOKEN")
    file = dataset.parent / "key.txt"
    file.write_text(f"# mine\n{API_KEY}\n")
    services.meet("/3/movie/101", *[500] * 5)
    with caplog.at_level(logging.DEBUG):
        report = run(dataset, services, key_file=file)
    assert report.taken["text"] == 3
    assert any("/3/movie/" in record.getMessage() for record in caplog.records)
    assert API_KEY not in caplog.text
    assert API_KEY not in repr(report)
    for path in [*dataset.rglob("*"), *(dataset.parent / "cache").rglob("*")]:
        assert path.is_dir() or API_KEY.encode() not in path.read_bytes(), path


def test_a_key_does_not_travel_in_the_clear(dataset: Path, services: FilmServices) -> None:
    with pytest.raises(UsageError, match="anyone on the way could read the key"):
        run(dataset, services, base_url="http://mirror.example.org/3")
    with pytest.raises(UsageError, match="without a login or a key") as refusal:
        run(dataset, services, base_url=f"https://mirror.example.org/3?api_key={API_KEY}")
    assert API_KEY not in str(refusal.value)


def test_a_size_of_posters_that_there_is_not_is_refused(dataset: Path, services: FilmServices) -> None:
    with pytest.raises(UsageError, match="--poster-size w333: TMDB has w92, w154"):
        run(dataset, services, poster_size="w333")


def test_a_plan_counts_what_is_not_kept_and_sends_nothing(tmp_path: Path, services: FilmServices) -> None:
    dataset = film_dataset(
        tmp_path,
        [
            ("Harbour Story Amber", 1990, 100, None),
            ("Harbour Story Basalt", 1991, None, "tt0000101"),
            ("Harbour Story Cobalt", 1992, None, None),
        ],
    )
    options = EnrichOptions(base_url=services.url + "/3", cache=tmp_path / "cache")
    plan = plan_enrichment(dataset, options)
    assert (plan.items, plan.requests, plan.posters) == (3, 1 + 2 + 2, 3)
    assert plan.ways == {"TMDB id": 1, "IMDb id": 1, "title and year": 1}
    assert services.requests == []
    run(dataset, services)
    assert len(services.requests) == 1 + plan.requests + plan.posters
    assert (
        plan_enrichment(
            dataset, EnrichOptions(base_url=services.url + "/3", cache=tmp_path / "cache", overwrite=True)
        ).requests
        == 0
    )


def test_omdb_gives_the_same_and_its_words_for_nothing_are_nothing(tmp_path: Path, services: FilmServices) -> None:
    services.films.append(Film(8, "Plotless", 1999, overview="N/A", has_poster=False))
    films = [
        ("Harbour Story Amber", 1990, None, "tt0000100"),
        ("Harbour Story Basalt", 1991, None, None),
        ("Plotless", 1999, None, "tt0000008"),
    ]
    dataset = film_dataset(tmp_path, films)
    report = run(dataset, services, "omdb")
    catalog = Catalog.open(dataset)
    assert catalog.items["text"].to_list() == [FILMS[0].overview, FILMS[1].overview, None]
    assert (catalog.poster_root / str(catalog.posters()[0])).read_bytes() == picture(100)
    assert catalog.items["genres"][0].to_list() == ["Drama", "Comedy"]
    assert not any("N/A" in tag for tag in catalog.items["tags"].explode())
    assert report.taken["poster"] == 2
    assert "CC BY-NC" in Description.read(dataset).sources[-1]["notice"]


def test_omdbs_daily_limit_ends_the_run_and_the_next_one_continues(tmp_path: Path, services: FilmServices) -> None:
    dataset = film_dataset(tmp_path, [(one.title, one.year, None, one.imdb_id) for one in FILMS])
    services.omdb_quota = 2
    report = run(dataset, services, "omdb", connections=1)
    assert "tomorrow" in report.stopped
    assert Catalog.open(dataset).items["text"].null_count() == 2
    services.omdb_quota = 1000
    assert run(dataset, services, "omdb").stopped == ""
    assert Catalog.open(dataset).items["text"].null_count() == 0
    assert services.counts()["/omdb/?i=tt0000100&plot=full"] == 1


def test_wikipedias_plots_come_without_a_key_by_ids_and_by_title(
    tmp_path: Path, services: FilmServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMDB_TOKEN")
    films = [
        ("Harbour Story Amber", 1990, None, "tt0000100"),
        ("Harbour Story Basalt", 1991, 101, None),
        ("Harbour Story Cobalt", 1992, None, None),
    ]
    dataset = film_dataset(tmp_path, films)
    run(dataset, services, "wikidata")
    assert Catalog.open(dataset).items["text"].to_list() == [f"{one.overview}\nThe lamp goes out." for one in FILMS[:3]]
    assert services.counts().total() == 2 + 3 + 1
    table = pl.read_csv(dataset / "enrichment" / "wikidata.csv")
    assert table["page"][0].endswith("/wiki/Harbour_Story_Amber_%281990_film%29")
    assert "CC BY-SA 4.0" in (dataset / "ATTRIBUTION.txt").read_text()
    assert all("cinefuse/" in headers["User-Agent"] for headers in services.headers)


def test_two_sources_complete_each_other_and_both_are_named(tmp_path: Path, services: FilmServices) -> None:
    services.films[0] = Film(100, "Harbour Story Amber", 1990, overview=" ")
    dataset = film_dataset(tmp_path, [("Harbour Story Amber", 1990, 100, "tt0000100")])
    run(dataset, services)
    services.films[0] = FILMS[0]
    run(dataset, services, "omdb")
    assert Catalog.open(dataset).items["text"].to_list() == [FILMS[0].overview]
    assert [one["name"] for one in Description.read(dataset).sources][1:] == ["TMDB", "OMDb"]
