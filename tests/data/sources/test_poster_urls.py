"""Laws of posters from a column of addresses: each fetched once, into the dataset; what cannot be had is said."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from PIL import Image

from cinefuse.data.dataset.assembly import Choices, ImportReport
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.summary import dataset_info
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sources.own_tables import import_table
from cinefuse.data.sources.poster_urls import PosterUrls
from cinefuse.tests.support.loopback import Quiet, serving


class Posters:
    """A loopback server of posters; ``requests`` counts them by path."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.base = ""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests[self.path] += 1
                status, body = outer.answer(self.path)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/a.jpg")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler

    def answer(self, path: str) -> tuple[int, bytes]:
        if path.startswith("/down"):
            return 500, b""
        if path == "/moved.jpg":
            return 302, b""
        if path == "/page.jpg":
            return 200, b"<html>no</html>"
        if path == "/flaky.jpg" and self.requests[path] == 1:
            return 503, b""
        if path.endswith(("/none.jpg",)):
            return 404, b"no"
        file = io.BytesIO()
        Image.new("RGB", (4, 6), (len(path), 0, 0)).save(file, "JPEG")
        return 200, file.getvalue()


@pytest.fixture
def server() -> Iterator[Posters]:
    posters = Posters()
    with serving(posters.handler()) as port:
        posters.base = f"http://127.0.0.1:{port}"
        yield posters


def imported(folder: Path, films: str, column: str = "Poster", **changes: object) -> ImportReport:
    (folder / "films.csv").write_text(films)
    wish = PosterUrls(column, cache=folder / "cache", pause=0.01, rate=2000, tries=2)
    wish = replace(wish, **changes)  # type: ignore[arg-type]
    return import_table(folder / "out", folder / "films.csv", poster_urls=wish, choices=Choices(overwrite=True))


def test_each_poster_comes_once_into_the_dataset_and_what_does_not_is_said(tmp_path: Path, server: Posters) -> None:
    names = ["a.jpg", "a.jpg", "moved.jpg", "page.jpg", "none.jpg", "flaky.jpg"]
    films = "id,Poster\n" + "".join(f"{key},{server.base}/{name}\n" for key, name in enumerate(names))
    films += f"x/../y,{server.base}/b.jpg\n90,N/A\n91,\n"
    report = imported(tmp_path, films)
    catalog = Catalog.open(report.folder)
    given = dict(zip(catalog.ids.tolist(), catalog.posters(), strict=True))
    assert {key for key, poster in given.items() if poster} == {"0", "1", "2", "5", "x/../y"}
    assert catalog.poster_root == report.folder / "posters"
    assert dataset_info(report.folder)["posters"]["present"] == 5
    assert server.requests["/flaky.jpg"] == 2
    for said in ("1 posters could not be had: the server answers 404", "a web page came", "2 films have no address"):
        assert any(said in warning for warning in report.warnings), said
    before = server.requests.copy()
    imported(tmp_path, films)
    assert server.requests - before == Counter({"/page.jpg": 1}), "only what may be otherwise next time is asked again"


@pytest.mark.parametrize("cell", ['["{}", "http://127.0.0.1:9/no.jpg"]', "[{{'large': '{}'}}]", "  {}  "])
def test_the_first_address_of_a_list_is_the_poster(tmp_path: Path, server: Posters, cell: str) -> None:
    quoted = cell.format(f"{server.base}/a.jpg").replace('"', '""')
    report = imported(tmp_path, f'id,Poster\n1,"{quoted}"\n')
    assert Catalog.open(report.folder).posters() == ["1.jpg"]


def test_a_server_that_is_down_ends_the_import_and_nothing_that_arrived_is_lost(
    tmp_path: Path, server: Posters
) -> None:
    films = "id,Poster\n" + "".join(f"{key},{server.base}/{key}.jpg\n" for key in range(10))
    films += "".join(f"{key},{server.base}/down{key}.jpg\n" for key in range(10, 60))
    with pytest.raises(BadInput, match=r"10 of 60 posters arrived.*what arrived is kept"):
        imported(tmp_path, films, connections=2)
    assert not (tmp_path / "out").exists()
    assert sum(server.requests.values()) < 10 + 2 * 30
    before = server.requests.copy()
    server.answer = lambda path: Posters.answer(server, path.replace("down", ""))  # type: ignore[method-assign]
    assert len(list((imported(tmp_path, films).folder / "posters").iterdir())) == 60
    assert all(f"/{key}.jpg" not in server.requests - before for key in range(10))


def test_a_column_without_addresses_is_refused_and_so_are_options_that_contradict(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no cell of films.csv has an address .*'/abc.jpg'; TMDB's paths"):
        imported(tmp_path, "id,Poster\n1,/abc.jpg\n")
    with pytest.raises(UsageError, match=r"--poster-urls no: films\.csv has no such column"):
        imported(tmp_path, "id,Poster\n1,x\n", column="no")
    with pytest.raises(UsageError, match="--poster-urls p: needs --items"):
        import_table(tmp_path / "o", ratings=tmp_path / "r.csv", poster_urls=PosterUrls("p"))
