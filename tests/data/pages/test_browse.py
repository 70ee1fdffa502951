"""The page that walks an embedding file: neighbours are true, posters the right ones, text only ever text."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.dataset.folder import ITEM_COLUMNS, Description
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.pages.browse import both_vectors, browse_page
from cinefuse.data.pages.browse_films import chosen_rows
from cinefuse.data.pages.item_vectors import film_vectors, has_vector
from cinefuse.data.pages.neighbours import nearest
from cinefuse.data.pages.pictures import open_poster
from cinefuse.data.pages.poster_sheets import SHEET, TILE
from cinefuse.data.pages.projection import affinities, attraction, neighbour_map, principal_plane, repulsion
from cinefuse.data.runtime.errors import BadInput, UsageError

FILMS = 70
NO_PLOT, NO_POSTER, CUT, HOSTILE = 5, 9, 11, 13
SCRIPT = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def written(path: Path, ids: Any, states: dict[str, list[tuple[Status, Reason]]], seed: int = 0) -> Path:
    """A finished embedding file of width 8 with three tokens a film, its values drawn at random."""
    chance = np.random.default_rng(seed)
    layouts = {
        name: ModalityLayout(
            record={"model": f"toy-{name}", "fingerprint": {"weights": "0" * 64, "dtype": "float32"}},
            width=8,
            dtype="float32",
            lengths=np.array([3 if status.has_embedding else 0 for status, _ in rows]),
            digest=np.zeros((len(rows), 32), np.uint8),
            batch=np.zeros(len(rows), np.int32),
            input_ids=np.zeros(3 * sum(s.has_embedding for s, _ in rows), np.int32) if name == "text" else None,
        )
        for name, rows in states.items()
    }
    with EmbeddingFile.create(path, np.array(ids), layouts, {}) as file, RowWriter(file) as writer:
        for name, rows in states.items():
            for row, (status, reason) in enumerate(rows):
                values = chance.standard_normal((4, 8)).astype("<f4")
                if status.has_embedding:
                    writer.write(name, row, values[0], values[1:], status, reason)
                else:
                    writer.write_absent(name, row, status, reason)
    return path


def colour(film: int) -> tuple[int, int, int]:
    return (film * 3, 255 - film * 3, 128)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with films.h5 (ids 100, 101, ... in the order of a shuffle) and its dataset, posters one colour each."""
    folder = tmp_path_factory.mktemp("browse")
    films = np.random.default_rng(1).permutation(FILMS).tolist()
    ok = (Status.OK, Reason.NONE)
    text = {NO_PLOT: (Status.MISSING, Reason.NOT_GIVEN), CUT: (Status.TRUNCATED, Reason.TOO_LONG)}
    image = {NO_POSTER: (Status.FAILED, Reason.NOT_AN_IMAGE)}
    states = {"text": [text.get(film, ok) for film in films], "image": [image.get(film, ok) for film in films]}
    written(folder / "films.h5", [100 + film for film in films], states)
    dataset = folder / "dataset"
    (dataset / "posters").mkdir(parents=True)
    for film in range(FILMS):
        Image.new("RGB", (90, 140), colour(film)).save(dataset / "posters" / f"{100 + film}.png")
    (dataset / "posters" / f"{100 + NO_POSTER}.png").write_bytes(b"no image")
    pl.DataFrame(
        {
            "item_id": [100 + film for film in range(FILMS)],
            "title": [SCRIPT if film == HOSTILE else f"Film number {film} é" for film in range(FILMS)],
            "year": [1950 + film for film in range(FILMS)],
            "genres": [["Drama"] if film % 2 else ["Comedy", "War"] for film in range(FILMS)],
            "text": [
                None if film == NO_PLOT else f"{SCRIPT if film == HOSTILE else ''} A plot. " * 30
                for film in range(FILMS)
            ],
            "poster": [f"posters/{100 + film}.png" for film in range(FILMS)],
        },
        # no tags: a folder from before there were any can be walked too
        schema={name: kind for name, kind in ITEM_COLUMNS.items() if name != "tags"} | {"item_id": pl.Int64()},
    ).write_parquet(dataset / "items.parquet")
    Description("toys").write(dataset)
    return folder


@pytest.fixture(scope="module")
def html(place: Path) -> str:
    with EmbeddingFile.open(place / "films.h5") as file:
        return browse_page(file, place / "dataset")


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.found.append(dict(attrs))
            self.within.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.within:
            self.within[-1] += data


def parts(html: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """The page's JSON, its sheets and its pictures (a base64 each), read as a browser would find them."""
    scripts = _Scripts()
    scripts.feed(html)
    kinds = [
        (script.get("id") or script.get("class"), text.strip())
        for script, text in zip(scripts.found, scripts.within, strict=True)
    ]
    (content,) = (text for kind, text in kinds if kind == "page")
    pictures = [picture for kind, text in kinds if kind == "pictures" for picture in text.split("\n")]
    return json.loads(content), [text for kind, text in kinds if kind == "sheet"], pictures


def picture(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")


# --- neighbours


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 6), st.integers(1, 15), st.integers(0, 2**32), st.floats(0, 0.5))
def test_neighbours_are_those_of_all_pairs(films: int, width: int, count: int, seed: int, absent: float) -> None:
    chance = np.random.default_rng(seed)
    vectors = chance.integers(-2, 3, (films, width)).astype(np.float32) * chance.choice([1e-20, 1, 1e20])
    vectors[chance.random(films) < absent] = np.nan
    found = nearest(vectors, count)
    exact = vectors.astype(np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    unit = np.divide(exact, length, out=np.zeros_like(exact), where=length > 0)
    for film in range(films):
        others = [o for o in range(films) if o != film and not np.isnan(vectors[[film, o]]).any()]
        best = sorted((float(unit[film] @ unit[o]) for o in others), reverse=True)[:count]
        shown = found.place[film][found.place[film] >= 0].tolist()
        assert len(set(shown)) == len(shown) == len(best)
        assert set(shown) <= set(others)
        np.testing.assert_allclose(found.cosine[film][: len(best)], best, atol=1e-5)
        np.testing.assert_allclose([unit[film] @ unit[o] for o in shown], best, atol=1e-5)


def test_neighbours_do_not_depend_on_how_many_are_compared_at_once() -> None:
    vectors = np.random.default_rng(0).standard_normal((1300, 5)).astype(np.float32)
    exact = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = exact @ exact.T
    np.fill_diagonal(alike, -2)
    assert (nearest(vectors, 7).place == np.argsort(-alike, axis=1, kind="stable")[:, :7]).mean() > 0.999


def test_equal_films_are_neighbours_in_the_order_of_their_rows() -> None:
    assert nearest(np.ones((6, 3), np.float32), 3).place.tolist() == [
        [1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2],
    ]  # fmt: skip


# --- maps


def test_repulsion_is_that_of_all_pairs_within_five_per_cent() -> None:
    chance = np.random.default_rng(0)
    for places in (
        chance.normal(size=(600, 2)) * 1e-4,
        chance.normal(size=(600, 2)) * 4,
        chance.normal(size=(600, 2)) * 1e4,
        chance.normal(size=(30, 2)) * 4,
        chance.uniform(-30, 30, (900, 2)),
    ):
        apart = places[:, None] - places
        near = 1 / (1 + (apart**2).sum(axis=2))
        np.fill_diagonal(near, 0)
        exact = (near[:, :, None] ** 2 * apart).sum(axis=1) / near.sum()
        assert np.linalg.norm(repulsion(places) - exact) <= 0.05 * np.linalg.norm(exact)


def test_affinities_are_symmetric_sum_to_one_and_attract_as_their_formula_says() -> None:
    chance = np.random.default_rng(0)
    near = nearest(chance.standard_normal((60, 4)).astype(np.float32), 45)
    ends, weights = affinities(near, 15.0)
    full = np.zeros((60, 60))
    full[ends[:, 0], ends[:, 1]] = weights
    np.testing.assert_allclose(full, full.T)
    assert full.sum() == pytest.approx(1)
    places = chance.normal(size=(60, 2))
    apart = places[:, None] - places
    exact = ((full / (1 + (apart**2).sum(axis=2)))[:, :, None] * apart).sum(axis=1)
    np.testing.assert_allclose(attraction(places, ends, weights), exact, atol=1e-12)


def test_films_that_are_alike_lie_together_on_the_map() -> None:
    chance = np.random.default_rng(0)
    group = np.arange(120) % 3
    vectors = (np.eye(3)[group] * 4 + chance.normal(size=(120, 3)) * 0.1).astype(np.float32)
    places = neighbour_map(nearest(vectors, 30), principal_plane(vectors))
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (group[apart.argmin(axis=1)] == group).all()
    assert (places == neighbour_map(nearest(vectors, 30), principal_plane(vectors))).all()


@pytest.mark.parametrize("films", [1, 2, 7, 8, 9, 40])
def test_a_map_of_few_or_of_equal_films_is_a_map(films: int) -> None:
    for vectors in (np.ones((films, 4), np.float32), np.eye(films, 4, dtype=np.float32)):
        places = neighbour_map(nearest(vectors, 45), principal_plane(vectors))
        assert places.shape == (films, 2)
        assert np.isfinite(places).all()


def test_the_principal_plane_holds_the_most_variance() -> None:
    vectors = (np.random.default_rng(0).standard_normal((50, 6)) * [9, 5, 1, 1, 1, 1]).astype(np.float32)
    plane = principal_plane(vectors)
    largest = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)[:2]
    np.testing.assert_allclose(np.sqrt((plane**2).sum(axis=0)), largest, rtol=1e-5)
    np.testing.assert_allclose(principal_plane(-vectors), plane, atol=1e-5)


def test_both_gives_plot_and_poster_an_equal_say() -> None:
    chance = np.random.default_rng(0)
    plot, poster = chance.standard_normal((40, 3)), chance.standard_normal((40, 50)) * 0.01 + 1
    both = both_vectors(plot.astype(np.float32), poster.astype(np.float32))
    assert (both[:, :3] ** 2).sum() == pytest.approx((both[:, 3:] ** 2).sum(), rel=1e-3)


# --- what the page holds


def test_a_film_is_its_cls_or_the_mean_of_its_tokens_and_nan_without_embedding(place: Path) -> None:
    with EmbeddingFile.open(place / "films.h5") as file:
        rows = np.arange(FILMS)[::3]
        cls, mean = film_vectors(file.text, rows, "cls"), film_vectors(file.text, rows, "mean")
        for at, row in enumerate(rows.tolist()):
            if file.text.has_embedding[row]:
                np.testing.assert_array_equal(cls[at], file.text.cls[row])
                np.testing.assert_allclose(mean[at], file.text.tokens_of(row).mean(axis=0), rtol=1e-5)
        assert (has_vector(mean) == file.text.has_embedding[rows]).all()


def test_neighbours_on_the_page_are_the_files_own_by_id(place: Path, html: str) -> None:
    page, _, _ = parts(html)
    with EmbeddingFile.open(place / "films.h5") as file:
        for name in ("text", "image"):
            found = page["near"][name]
            places = np.frombuffer(base64.b64decode(found["place"]), "<u2").reshape(FILMS, found["count"])
            cosines = np.frombuffer(base64.b64decode(found["cosine"]), "<i2").reshape(FILMS, found["count"]) / 1e4
            assert found["count"] == 12
            for film in range(0, FILMS, 7):
                row = int(file.rows([int(page["films"]["id"][film])])[0])
                if not file[name].has_embedding[row]:
                    assert (places[film] == 0xFFFF).all()
                    continue
                here = file[name].tokens_of(row).mean(axis=0)
                cosine = {}
                for other in range(FILMS):
                    if other != film and file[name].has_embedding[other]:
                        there = file[name].tokens_of(other).mean(axis=0)
                        cosine[other] = here @ there / np.linalg.norm(here) / np.linalg.norm(there)
                best = sorted(cosine, key=lambda other: -cosine[other])[:12]
                assert places[film].tolist() == best
                np.testing.assert_allclose(cosines[film], [cosine[o] for o in best], atol=1e-4)


def test_a_film_without_an_embedding_is_nobodys_neighbour_and_on_no_map(html: str) -> None:
    page, _, _ = parts(html)
    for name, number in (("text", NO_PLOT), ("image", NO_POSTER)):
        film = page["films"]["id"].index(str(100 + number))
        assert film not in np.frombuffer(base64.b64decode(page["near"][name]["place"]), "<u2")
        for map_ in page["maps"]:
            at = np.frombuffer(base64.b64decode(map_["at"]), "<u2").reshape(FILMS, 2)
            absent = map_["space"] in (name, "both")
            assert (at[film] == 0xFFFF).all() == absent
            assert map_["placed"] == (at[:, 0] != 0xFFFF).sum()


def test_each_id_has_its_own_poster_and_its_own_tile(html: str) -> None:
    page, sheets, pictures = parts(html)
    assert len(pictures) == FILMS
    sheet = picture(sheets[0])
    for film, name in enumerate(page["films"]["id"]):
        number = int(name) - 100
        if number == NO_POSTER:
            assert pictures[film] == ""
            assert page["pictured"][film] == "0"
            continue
        middle = picture(pictures[film]).getpixel((60, 90))
        tile = sheet.getpixel((film % SHEET[0] * TILE[0] + TILE[0] // 2, film // SHEET[0] * TILE[1] + TILE[1] // 2))
        for seen in (middle, tile):
            assert np.abs(np.subtract(seen, colour(number))).max() < 12, (name, seen)


def test_titles_and_plots_are_never_markup(html: str) -> None:
    scripts = _Scripts()
    scripts.feed(html)
    held = [script.get("class") or script.get("id") for script in scripts.found if "type" in script]
    assert held == ["page", "sheet", "pictures", "pictures"]
    assert [text for script, text in zip(scripts.found, scripts.within, strict=True) if "taken" in text] == [
        scripts.within[scripts.found.index({"type": "application/json", "id": "page"})]
    ]
    assert "<img" not in html
    page, _, _ = parts(html)
    film = page["films"]["id"].index(str(100 + HOSTILE))
    assert page["films"]["title"][film] == SCRIPT
    assert page["films"]["plot"][film].startswith(SCRIPT)


def test_equal_input_makes_equal_pages(place: Path, html: str) -> None:
    with EmbeddingFile.open(place / "films.h5") as file:
        assert browse_page(file, place / "dataset") == html


def test_a_poster_outside_the_folder_is_never_opened(place: Path, tmp_path: Path) -> None:
    inside = tmp_path / "posters"
    inside.mkdir()
    shutil.copy(place / "dataset" / "posters" / "100.png", tmp_path / "outside.png")
    (inside / "link.png").symlink_to(tmp_path / "outside.png")
    shutil.copy(tmp_path / "outside.png", inside / "inside.png")
    assert open_poster(inside, "inside.png") is not None
    for path in ("../outside.png", "link.png", str(tmp_path / "outside.png"), "\0", "", "inside.png/x"):
        assert open_poster(inside, path) is None


def test_the_films_drawn_of_a_large_file_are_distinct_ascending_and_always_the_same() -> None:
    rows = chosen_rows(np.ones(1_000_000, np.bool_), 500)
    assert len(rows) == 500
    assert (np.diff(rows) > 0).all()
    assert 0 <= rows[0] <= rows[-1] < 1_000_000
    assert (rows == chosen_rows(np.ones(1_000_000, np.bool_), 500)).all()
    assert chosen_rows(np.zeros(5, np.bool_), 500).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("embedded", "expected"), [(30, 20), (12, 12), (0, 0)])
def test_of_a_large_file_films_with_embeddings_are_drawn_first(embedded: int, expected: int) -> None:
    known = np.zeros(100, np.bool_)
    known[np.random.default_rng(0).choice(100, embedded, replace=False)] = True
    rows = chosen_rows(known, 20)
    assert len(np.unique(rows)) == 20
    assert int(known[rows].sum()) == expected


def test_a_page_of_a_file_that_is_half_missing_shows_films_that_have_a_vector(tmp_path: Path) -> None:
    absent = [(Status.MISSING, Reason.NOT_GIVEN)] * 30
    states = {"text": [*absent, *[(Status.OK, Reason.NONE)] * 8], "image": [*absent[8:], *absent[:16]]}
    with EmbeddingFile.open(written(tmp_path / "half.h5", list(range(38)), states)) as file:
        page = browse_page(file, limit=8)
    assert parts(page)[0]["films"]["id"] == [str(number) for number in range(30, 38)]
    assert "drawn at random, those with embeddings first" in page


def test_a_page_of_some_films_says_how_many_there_are(place: Path) -> None:
    with EmbeddingFile.open(place / "films.h5") as file:
        page = browse_page(file, place / "dataset", limit=20)
        ids = file.raw_array("items/id")[chosen_rows(np.ones(FILMS, np.bool_), 20)]
    assert parts(page)[0]["films"]["id"] == [str(number) for number in ids.tolist()]
    assert f"20 of {FILMS} films, drawn at random" in page


def test_without_a_dataset_films_are_told_by_their_ids_whatever_kind(tmp_path: Path) -> None:
    names = ["tt001", "é/<b>", "数字"]
    file = written(tmp_path / "names.h5", names, {"image": [(Status.OK, Reason.NONE)] * 3})
    with EmbeddingFile.open(file) as opened:
        page, sheets, pictures = parts(browse_page(opened))
    assert page["films"] == {"id": names}
    assert (sheets, pictures) == ([], [])
    assert {map_["space"] for map_ in page["maps"]} == {"image"}


def test_an_unfinished_file_shows_what_is_pending(tmp_path: Path) -> None:
    file = written(tmp_path / "half.h5", [1, 2], {"image": [(Status.OK, Reason.NONE)] * 2})
    with EmbeddingFile.open(file) as opened:
        offset = opened.header.datasets["image/checksum"].offset
    with file.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes(8))
    with EmbeddingFile.open(file, pending=True) as opened:
        page, _, _ = parts(browse_page(opened))
    states = page["states"]["image"]
    assert [states["kinds"][number][0] for number in states["of"]] == ["pending", "ok"]


def test_what_is_not_finite_is_called_damaged_and_has_no_neighbours(tmp_path: Path) -> None:
    file = written(tmp_path / "odd.h5", [1, 2, 3], {"image": [(Status.OK, Reason.NONE)] * 3})
    with EmbeddingFile.open(file) as opened:
        dataset = opened.header.datasets["image/tokens"]
    with file.open("r+b") as raw:
        raw.seek(dataset.offset)
        raw.write(np.array([np.inf, np.nan], "<f4").tobytes())
    with EmbeddingFile.open(file) as opened:
        page, _, _ = parts(browse_page(opened))
    states = page["states"]["image"]
    assert [states["kinds"][number][0] for number in states["of"]] == ["damaged", "ok", "ok"]
    places = np.frombuffer(base64.b64decode(page["near"]["image"]["place"]), "<u2").reshape(3, -1)
    assert places[:, 0].tolist() == [0xFFFF, 2, 1]


def test_a_dataset_of_other_films_or_of_other_ids_is_refused(place: Path, tmp_path: Path) -> None:
    ok = [(Status.OK, Reason.NONE)] * 2
    for name, ids in (("other.h5", [7, 8]), ("text.h5", ["a", "b"])):
        with EmbeddingFile.open(written(tmp_path / name, ids, {"image": ok})) as file:
            with pytest.raises(BadInput, match="the dataset that the file was made from"):
                browse_page(file, place / "dataset")
            with pytest.raises(BadInput, match="not a dataset folder"):
                browse_page(file, tmp_path)


def test_limits_and_vectors_that_make_no_sense_are_refused(place: Path) -> None:
    with EmbeddingFile.open(place / "films.h5") as file:
        for limit in (0, 20_001):
            with pytest.raises(UsageError, match="--limit"):
                browse_page(file, limit=limit)
    answer = CliRunner().invoke(app, ["cache", "browse", str(place / "films.h5"), "--vector", "max"])
    assert isinstance(answer.exception, UsageError)


def test_the_command_writes_the_page_and_says_how_large_it_is(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    answer = CliRunner().invoke(app, ["cache", "browse", str(place / "films.h5"), "--limit", "10", "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    assert re.search(r"page\.html: [\d.]+ kB", answer.output)
    assert out.read_text("utf-8").startswith("<!doctype html>")
    assert f"{FILMS} films, of which 10 drawn at random" in answer.output


# --- in a browser


@pytest.fixture(scope="module")
def page(place: Path, html: str) -> Path:
    path = place / "page.html"
    path.write_text(html, "utf-8")
    return path


def opened(browser: Any, page: Path, hash_: str = "", width: int = 1280, height: int = 860) -> None:
    """Open the page and wait until its map is drawn."""
    browser.open(page, hash_, width, height)
    browser.until("document.documentElement.dataset.map === 'drawn'")


PANEL = "document.querySelector('#film h2')?.textContent"
NEAR = "[...document.querySelectorAll('#film ol.near')].map(list => list.children.length)"


def test_the_page_asks_nothing_of_any_network_and_nothing_goes_wrong(browser: Any, page: Path) -> None:
    opened(browser, page, f"#film={100 + HOSTILE}")
    assert browser.evaluate(PANEL).startswith(SCRIPT)
    assert browser.evaluate("document.title") == "films.h5 · films"
    assert browser.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.requests == {page.as_uri()}
    assert browser.errors == []


def test_search_finds_a_title_and_its_link_shows_the_film(browser: Any, page: Path) -> None:
    opened(browser, page)
    browser.evaluate("document.getElementById('words').focus()")
    browser.press(*"number 42 e")
    titles = "[...document.querySelectorAll('#found b')].map(one => one.textContent)"
    assert browser.until(f"({titles}).length === 1 && {titles}") == ["Film number 42 é"]
    browser.press("ArrowDown", "Enter")
    assert browser.until(PANEL) == "Film number 42 é (1992)"
    assert browser.evaluate(NEAR) == [12, 12]
    assert browser.evaluate("location.hash") == "#film=142"
    assert browser.evaluate("document.activeElement.tagName") == "H2"
    browser.evaluate("history.back()")
    browser.until("document.getElementById('film').hidden && !location.hash")


def test_a_click_on_the_map_shows_the_film_that_lies_there(browser: Any, page: Path, html: str) -> None:
    found = parts(html)[0]
    at = np.frombuffer(base64.b64decode(found["maps"][0]["at"]), "<u2").reshape(FILMS, 2)
    film = int(np.where(at[:, 0] == 0xFFFF, 0, at[:, 0]).argmax())  # the rightmost has nobody beside it
    opened(browser, page)
    box = browser.evaluate(
        "(r => [r.x, r.y, r.width, r.height])(document.getElementById('map').getBoundingClientRect())"
    )
    side = 0.92 * min(box[2], box[3])
    browser.click(*(box[axis] + box[axis + 2] / 2 + (at[film, axis] / 65534 - 0.5) * side for axis in (0, 1)))
    assert browser.until("location.hash") == "#film=" + found["films"]["id"][film]
    assert browser.evaluate(NEAR) == [12, 12]


def test_the_map_is_walked_by_keyboard(browser: Any, page: Path) -> None:
    opened(browser, page)
    browser.evaluate("document.getElementById('map').focus()")
    browser.press("+", "+", "ArrowDown", "Enter")
    assert browser.until(PANEL).startswith("Film number")
    browser.press("Escape")
    browser.until("document.getElementById('film').hidden && !document.getElementById('list').hidden")
    assert browser.evaluate("document.activeElement.id") == "words"


def test_a_film_without_an_embedding_says_so(browser: Any, page: Path) -> None:
    opened(browser, page, f"#film={100 + NO_PLOT}")
    says = browser.evaluate("document.getElementById('film').textContent")
    assert "Plot missing: the catalogue gives none" in says
    assert "No neighbours by plot: this film's plot has no embedding." in says
    assert browser.evaluate(NEAR) == [12]
    opened(browser, page, f"#film={100 + NO_POSTER}")
    says = browser.evaluate("document.getElementById('film').textContent")
    assert "Poster failed: not an image" in says
    opened(browser, page, f"#film={100 + CUT}")
    assert "Plot embedded in part: longer than the model reads" in browser.evaluate(
        "document.getElementById('film').textContent"
    )


def test_every_map_can_be_chosen_and_is_in_the_address(browser: Any, page: Path) -> None:
    opened(browser, page, "#film=100&map=image-main")
    label = "document.getElementById('map').getAttribute('aria-label')"
    assert f"{FILMS - 1} films by poster, two principal components; 1 without" in browser.evaluate(label)
    browser.evaluate("document.querySelector('input[value=both]').click()")
    assert f"{FILMS - 2} films by plot and poster" in browser.evaluate(label)
    assert browser.evaluate("location.hash") == "#film=100&map=both-main"


def test_a_poster_that_is_absent_looks_so_on_the_map(browser: Any, page: Path, html: str) -> None:
    content = parts(html)[0]
    at = np.frombuffer(base64.b64decode(content["maps"][0]["at"]), "<u2").reshape(FILMS, 2)
    for film, expected in ((NO_POSTER, "sunk"), (NO_POSTER + 1, None)):
        opened(browser, page)
        browser.evaluate("document.getElementById('words').focus()")
        browser.press(*f"{100 + film}")  # found films are drawn last, so that nobody covers them
        browser.until("document.querySelectorAll('#found b').length === 1")
        place = (at[content["films"]["id"].index(str(100 + film))] / 65534 - 0.5).tolist()
        browser.until("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
        inside = browser.evaluate(
            "(() => { const map = document.getElementById('map'), side = 0.92 * Math.min(map.width, map.height);"
            f"const x = map.width / 2 + {place[0]} * side, y = map.height / 2 + {place[1]} * side;"
            "return [...map.getContext('2d').getImageData(x + 15, y + 25, 1, 1).data].slice(0, 3); })()"
        )
        if expected:
            style = "getComputedStyle(document.documentElement)"
            tint = browser.evaluate(f"{style}.getPropertyValue('--{expected}')").strip()
            assert inside == [int(tint[digit : digit + 2], 16) for digit in (1, 3, 5)]
        else:
            assert np.abs(np.array(inside) - colour(film)).max() < 25


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways(browser: Any, page: Path, width: int) -> None:
    for hash_ in ("", f"#film={100 + HOSTILE}"):
        opened(browser, page, hash_, width, 844)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
