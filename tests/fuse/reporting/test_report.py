"""The report of a run: its figures are those of `evaluate` and `compare`, its page needs no network, and a real
browser shows it whole on a desk and on a phone."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from cinefuse.data.dataset.folder import Description
from cinefuse.data.runtime.errors import BadInput, FingerprintMismatch, UsageError
from cinefuse.fuse.evaluation.comparison import compare
from cinefuse.fuse.evaluation.evaluate import evaluate
from cinefuse.fuse.evaluation.run_rows import Tested as Predicted  # pytest takes what is called Test... for tests
from cinefuse.fuse.models.heads import OrdinalHead, Scale, SquaredHead
from cinefuse.fuse.reporting.calibration import calibration, level_shares, slope
from cinefuse.fuse.reporting.calibration_charts import error_chart
from cinefuse.fuse.reporting.example_users import example_users
from cinefuse.fuse.reporting.item_errors import fair_least, item_errors
from cinefuse.fuse.reporting.learning_curves import Curve, learning_curves
from cinefuse.fuse.reporting.popularity import bands
from cinefuse.fuse.reporting.provenance import changed_settings, heads_in_words, provenance
from cinefuse.fuse.reporting.report import MOST_RUNS, Written, write_report
from cinefuse.fuse.reporting.report_charts import learning_chart
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.serving.recommend import recommend
from cinefuse.fuse.settings.presets import preset

SCALE = Scale((1.0, 2.0, 3.0), 2.0, 1.0)
HOSTILE = '<script>alert("x")</script> & \u202eevil" onload=\'x'
QUICK = ["factor_steps=30", "epochs=2"]


@pytest.fixture(scope="module")
def runs(sample: Path, embeddings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One run with a Transformer over tokens, one without, one that says probabilities; all on one split."""
    folder = tmp_path_factory.mktemp("runs")

    def trained(name: str, kind: str, *settings: str, file: Path | None = None, split: str = "random:0.2") -> Run:
        config = preset(kind).with_settings([*QUICK, *settings])
        return train(sample, file, folder / name, config, split=split, device="cpu")

    small = ("width=16", "layers=1", "attention_heads=2", "precision=fp32")
    return {
        "paper": trained("paper", "paper", *small, file=embeddings),
        "mf": trained("mf", "mf"),
        "ordinal": trained("ordinal", "mf", "head=ordinal"),
        "all": trained("all", "mf", split="all"),
        "other split": trained("other", "mf", split="random:0.3"),
    }


@pytest.fixture(scope="module")
def hostile(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on a dataset whose titles, name and folder would be markup if anybody let them."""
    folder = tmp_path_factory.mktemp("hostile") / "a<b>&'c"
    shutil.copytree(sample, folder)
    items = pl.read_parquet(folder / "items.parquet")
    even = pl.int_range(pl.len()) % 2 == 0
    title = pl.when(even).then(pl.lit(HOSTILE) + pl.col("title")).otherwise(pl.lit("W" * 300))
    items.with_columns(title=title).write_parquet(folder / "items.parquet")
    about = Description.read(folder)
    Description(HOSTILE, about.posters, about.sources, about.counts).write(folder)
    out = folder.parent / ("<i>" + "n" * 150)
    return train(folder, None, out, preset("mf").with_settings(QUICK), split="random:0.2")


@pytest.fixture(scope="module")
def pages(runs: dict[str, Run], hostile: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    folder = tmp_path_factory.mktemp("pages")
    asked = {"one": ["ordinal"], "several": ["paper", "mf", "ordinal"]}
    named = {name: [runs[run] for run in each] for name, each in asked.items()} | {"hostile": [hostile]}
    copies = [folder / f"a-run-of-a-long-name-{number}" for number in range(MOST_RUNS)]
    named["most"] = [Run.open(Path(shutil.copytree(runs["mf"].folder, copy))) for copy in copies]
    return {name: write_report(each, folder / f"{name}.html", draws=50) for name, each in named.items()}


class Page(HTMLParser):
    """The elements of a page, in order, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(written: Written) -> str:
    return written.file.read_text("utf-8")


@pytest.mark.slow
def test_a_page_says_what_evaluate_says(runs: dict[str, Run], pages: dict[str, Written]) -> None:
    found = evaluate(runs["ordinal"], draws=50)
    text = Page(read(pages["one"])).text
    for value in (found.rmse.value, found.rmse.low, found.rmse.high, found.mae.value, found.ndcg, found.recall):
        assert f"{value:.4f}" in text


def test_a_page_shows_both_kinds_of_lists_their_reasons_and_the_baselines_beside_them(
    runs: dict[str, Run], pages: dict[str, Written]
) -> None:
    run, text = runs["ordinal"], Page(read(pages["one"])).text
    found = evaluate(run, draws=50)
    for method in ("this run", "by predicted rating", "most popular", "EASE"):
        assert method in text
    for row in found.lists.filter(k=found.k).to_dicts():
        assert f"{row['ndcg']:.4f}" in text
    users = example_users(run, Predicted.of(run), None)
    assert text.count("by the ranking model") == text.count("By predicted rating") == len(users)
    for user in users:
        for title in user.lists["ranking"]["because_title"].drop_nulls():
            assert f"because of {title}" in text


def test_runs_are_compared_as_compare_does(runs: dict[str, Run], pages: dict[str, Written]) -> None:
    text = Page(read(pages["several"])).text
    for row in compare([runs[name] for name in ("paper", "mf", "ordinal")], draws=50).to_dicts()[1:]:
        assert row["name"] in text
        assert f"{row['difference']:+.4f}".replace("-", "−") in text


def test_a_page_names_nothing_outside_itself_but_its_own_parts(pages: dict[str, Written]) -> None:
    for written in pages.values():
        html = read(written)
        page = Page(html)
        ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
        for _, attributes in page.elements:
            for name in ("src", "href"):
                if (value := attributes.get(name)) is not None:
                    assert value.startswith("data:") or value.removeprefix("#") in ids, value[:80]
        assert "url(" not in html
        assert "@import" not in html


def test_ids_are_given_once(pages: dict[str, Written]) -> None:
    for written in pages.values():
        ids = [attributes["id"] for _, attributes in Page(read(written)).elements if "id" in attributes]
        assert len(ids) == len(set(ids))


def test_a_page_tells_nobody_where_things_lie_on_this_machine(
    runs: dict[str, Run], pages: dict[str, Written], sample: Path
) -> None:
    for written in pages.values():
        html = read(written)
        assert str(sample.parent) not in html
        assert str(runs["paper"].folder.parent) not in html


def test_runs_of_one_name_are_told_apart_without_saying_where_they_lie(runs: dict[str, Run], tmp_path: Path) -> None:
    copies = [Run.open(Path(shutil.copytree(runs["mf"].folder, tmp_path / name / "seed-0"))) for name in ("one", "two")]
    html = read(write_report(copies, tmp_path / "report.html", posters=False, draws=2))
    assert str(tmp_path) not in html
    assert "<h1><bdi>one</bdi></h1>" in html


def test_the_same_runs_give_the_same_page(runs: dict[str, Run], pages: dict[str, Written], tmp_path: Path) -> None:
    again = write_report([runs["ordinal"]], tmp_path / "again.html", draws=50)
    assert read(again) == read(pages["one"])


def test_a_title_is_never_markup(pages: dict[str, Written]) -> None:
    page = Page(read(pages["hostile"]))
    assert HOSTILE in page.text
    scripts = sum(tag == "script" for tag, _ in page.elements)
    assert scripts == 1, "the page has one script of its own"
    assert not any("onload" in attributes for _, attributes in page.elements)
    assert not any(tag == "i" for tag, _ in page.elements)


def test_every_picture_and_drawing_is_told_in_words(pages: dict[str, Written]) -> None:
    for written in pages.values():
        page = Page(read(written))
        ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
        for tag, attributes in page.elements:
            if tag == "img":
                assert attributes["alt"]
            if tag == "svg" and attributes.get("role") == "img":
                named = (attributes.get("aria-labelledby") or "").split()
                assert attributes.get("aria-label") or (named and set(named) <= ids)
            elif tag == "svg":
                assert attributes.get("aria-hidden") == "true"


def test_every_chart_has_its_numbers_in_a_table(pages: dict[str, Written]) -> None:
    for written in pages.values():
        html = read(written)
        assert html.count('<figure class="chart">') == html.count("<details>") > 4
        for part in re.findall(r"<details>.*?</details>", html, re.S):
            assert len(Page(part).elements) > 8
            assert ">nan<" not in part


def test_headings_step_down_one_level_at_a_time(pages: dict[str, Written]) -> None:
    for written in pages.values():
        levels = [int(tag[1]) for tag, _ in Page(read(written)).elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_attention_is_shown_where_a_transformer_reads_patches(pages: dict[str, Written]) -> None:
    assert "Attention over the poster of" in read(pages["several"])
    assert "no Transformer that reads tokens" in Page(read(pages["one"])).text


@pytest.mark.slow
def test_without_its_embedding_file_a_page_is_made_without_attention(runs: dict[str, Run], tmp_path: Path) -> None:
    moved = Path(shutil.copytree(runs["paper"].folder, tmp_path / "moved"))
    about = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(about | {"embeddings": "/nowhere/x.h5"}))
    written = write_report([Run.open(moved)], tmp_path / "page.html", draws=20)
    assert "/nowhere" in str(written.left_out)
    assert "/nowhere" not in read(written)
    assert "Attention over the poster of" not in read(written)
    cache = runs["paper"].record.embeddings
    found = write_report([Run.open(moved)], tmp_path / "found.html", cache=cache, draws=20)
    assert found.left_out is None
    assert "Attention over the poster of" in read(found)


def test_without_posters_no_dataset_is_opened(runs: dict[str, Run], tmp_path: Path) -> None:
    gone = elsewhere(runs["mf"], tmp_path, Path("/nowhere/dataset"))
    written = write_report([gone], tmp_path / "page.html", posters=False, draws=20)
    assert written.posters == 0
    assert "<img" not in read(written)
    assert 'class="missing"' in read(written)


def elsewhere(run: Run, folder: Path, dataset: Path) -> Run:
    copy = Path(shutil.copytree(run.folder, folder / "run"))
    about = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(about | {"dataset": str(dataset)}))
    return Run.open(copy)


def test_a_dataset_that_moved_is_asked_for_and_found_again(runs: dict[str, Run], sample: Path, tmp_path: Path) -> None:
    moved = elsewhere(runs["mf"], tmp_path, tmp_path / "gone")
    with pytest.raises(BadInput, match=r"trained on the dataset .*gone.* --dataset DIR"):
        write_report([moved], tmp_path / "page.html")
    assert write_report([moved], tmp_path / "page.html", dataset=sample, draws=20).posters > 0
    with pytest.raises(BadInput, match="no dataset folder"):
        write_report([moved], tmp_path / "page.html", dataset=tmp_path)


@pytest.mark.slow
def test_the_baselines_of_a_page_do_not_depend_on_where_the_dataset_is(
    runs: dict[str, Run], sample: Path, tmp_path: Path
) -> None:
    def lists(run: Run) -> str:
        write_report([run], tmp_path / "page.html", dataset=sample, draws=20)
        page = (tmp_path / "page.html").read_text("utf-8")
        return page.split('aria-label="Quality of lists"')[1].split("</table>")[0]

    assert lists(elsewhere(runs["mf"], tmp_path, tmp_path / "gone")) == lists(runs["mf"])


def test_a_dataset_that_changed_is_refused(runs: dict[str, Run], own_sample: Path, tmp_path: Path) -> None:
    ratings = pl.read_parquet(own_sample / "ratings.parquet")
    ratings.reverse().write_parquet(own_sample / "ratings.parquet")
    with pytest.raises(FingerprintMismatch, match=r"ratings\.parquet is not the one"):
        write_report([runs["mf"]], tmp_path / "page.html", dataset=own_sample)


def test_what_cannot_be_reported_is_refused_in_one_line(runs: dict[str, Run], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(BadInput, match="no test part"):
        write_report([runs["all"]], page)
    with pytest.raises(BadInput, match="not tested on the same ratings"):
        write_report([runs["mf"], runs["other split"]], page)
    with pytest.raises(BadInput, match=r"no run folder \(no config\.json\)"):
        Run.open(tmp_path)
    for count in (0, MOST_RUNS + 1):
        with pytest.raises(UsageError, match=f"found {count}"):
            write_report([runs["mf"]] * count, page)
    assert not page.exists()


@pytest.mark.slow
def test_the_command_writes_into_the_run_and_says_where(runs: dict[str, Run], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cinefuse.cli import app

    run = Path(shutil.copytree(runs["mf"].folder, tmp_path / "mf"))
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0
    assert (run / "report.html").is_file()
    assert str(run / "report.html") in done.stdout
    refused = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(refused.exception, BadInput)
    assert "\n" not in str(refused.exception)


# the parts that figures come from


def test_bins_hold_every_rating_once_and_their_means_are_plain_ones() -> None:
    chance = np.random.default_rng(0)
    predicted = chance.normal(3.5, 0.8, 1000)
    observed, user = predicted + chance.normal(0, 1, 1000), chance.integers(0, 80, 1000)
    bins = calibration(predicted, observed, user, most_bins=5)
    assert bins.ratings.sum() == 1000
    assert np.average(bins.predicted, weights=bins.ratings) == pytest.approx(predicted.mean())
    assert np.average(bins.observed, weights=bins.ratings) == pytest.approx(observed.mean())
    lowest = predicted <= np.quantile(predicted, 0.2)
    assert bins.predicted[0] == pytest.approx(predicted[lowest].mean())
    assert (np.diff(bins.predicted) > 0).all()


def test_intervals_of_bins_allow_for_users_who_are_alike() -> None:
    # every user gives the same answer to all 20 questions: 20 ratings of one user are worth one
    user = np.repeat(np.arange(60), 20)
    observed = np.random.default_rng(1).normal(3, 1, 60)[user]
    alike = calibration(np.full(1200, 3.0), observed, user)
    apart = calibration(np.full(1200, 3.0), observed, np.arange(1200))
    assert (alike.high - alike.low)[0] == pytest.approx((apart.high - apart.low)[0] * np.sqrt(20), rel=0.02)


def test_intervals_of_bins_cover_the_truth_nineteen_times_of_twenty() -> None:
    chance, hits = np.random.default_rng(2), 0
    for _ in range(300):
        user = chance.integers(0, 40, 200)
        observed = 3 + chance.normal(0, 0.5, 40)[user] + chance.normal(0, 1, 200)
        bins = calibration(np.full(200, 3.0), observed, user)
        hits += bool(bins.low[0] <= 3 <= bins.high[0])
    assert 0.90 <= hits / 300 <= 0.98


def test_equal_predictions_share_a_bin_and_one_user_has_no_interval() -> None:
    bins = calibration(np.full(500, 3.0), np.arange(500.0), np.zeros(500))
    assert len(bins.predicted) == 1
    assert np.isnan(bins.low[0])


def test_the_slope_is_above_one_where_predictions_spread_too_little() -> None:
    rating = np.array([1.0, 2, 3, 4, 5])
    assert slope(rating, rating) == pytest.approx(1)
    assert slope(3 + (rating - 3) / 2, rating) == pytest.approx(2)
    assert slope(3 + (rating - 3) * 2, rating) == pytest.approx(0.5)
    assert slope(np.full(5, 3.0), rating) is None


def test_shares_of_levels_are_whole_and_a_rating_counts_for_the_nearest() -> None:
    predicted, observed = level_shares(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1.0, 4.9]), (1.0, 5.0))
    assert predicted.tolist() == pytest.approx([0.4, 0.6])
    assert observed.tolist() == [0.5, 0.5]


@pytest.fixture(scope="module")
def tested(runs: dict[str, Run]) -> Predicted:
    return Predicted.of(runs["mf"])


def test_films_are_ordered_by_their_own_squared_error(tested: Predicted) -> None:
    table = item_errors(tested, least=3)
    assert table["rmse"].is_sorted()
    assert table["ratings"].min() >= 3
    counts = np.bincount(tested.item)
    assert table.height == (counts >= 3).sum()
    for row in table.to_dicts():
        own = tested.item == row["item"]
        errors = tested.prediction[own].astype(float) - tested.rating[own]
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
        assert row["spread"] == pytest.approx(tested.rating[own].astype(float).std())
        assert row["ratings"] == own.sum()


def test_a_film_needs_as_many_ratings_as_forty_films_have() -> None:
    def of(counts: list[int]) -> int:
        film = np.repeat(np.arange(len(counts)), counts)
        nothing = np.zeros(len(film), np.float32)
        return fair_least(Predicted(film, film, nothing, nothing))

    assert of([100] * 40) == 100
    assert of([100] * 39 + [19]) == 10
    assert of([3] * 12) == 1


@pytest.mark.parametrize(
    ("shift", "said"), [(0.25, "0.250 too high"), (-0.25, "0.250 too low"), (0.0, "neither too high nor low")]
)
def test_to_which_side_predictions_err_is_said_only_where_they_do(tested: Predicted, shift: float, said: str) -> None:
    shifted = dataclasses.replace(tested, prediction=tested.rating + np.float32(shift))
    assert f"on average they are {said}." in error_chart(shifted, 0.25).caption


def test_bands_part_the_test_ratings(runs: dict[str, Run], tested: Predicted) -> None:
    counts = np.array([0, 1, 4, 5, 19, 20, 99, 100, 500] * 50)[: len(tested.rating)]
    tested = Predicted(*(part[: len(counts)] for part in (tested.user, tested.item, tested.rating, tested.prediction)))
    found = bands(tested, counts, draws=20)
    whole = [band for band in found if not band.is_part]
    assert [band.fewest for band in whole] == [0, 1, 5, 20]
    assert sum(band.ratings for band in whole) == len(counts)
    assert sum(band.ratings for band in found if band.is_part) == whole[-1].ratings
    for band in found:
        assert band.errors is not None
        assert band.errors.rmse.low <= band.errors.rmse.value <= band.errors.rmse.high


def test_a_shelf_shows_training_ratings_alone_and_recommends_none_of_them(
    runs: dict[str, Run], sample: Path, tested: Predicted
) -> None:
    run, ratings = runs["mf"], pl.read_parquet(sample / "ratings.parquet")
    held = set(run.predictions().select("user_id", "item_id").iter_rows())
    found = example_users(run, tested, sample, users=4, k=5, rated=6)
    assert len(found) == 4
    for user in found:
        assert user.rated is not None
        own = ratings.filter(pl.col("user_id") == user.user_id)
        seen = {item: rating for _, item, rating in own.select("user_id", "item_id", "rating").iter_rows()}
        shown = dict(user.rated.iter_rows())
        assert all((user.user_id, item) not in held for item in shown)
        assert shown == {item: seen[item] for item in shown}
        left = [rating for item, rating in seen.items() if item not in shown and (user.user_id, item) not in held]
        assert min(shown.values()) >= max(left, default=0)
        trained = {item for item in seen if (user.user_id, item) not in held}
        assert list(user.lists) == ["ranking", "rating"]
        for by, table in user.lists.items():
            assert table.equals(recommend(run, user.user_id, 5, by=by))
            assert trained.isdisjoint(table["item_id"].to_list())
        assert {(user.user_id, item) for item in user.tested} <= held


def test_of_a_resumed_run_the_later_line_of_an_epoch_stands_and_half_a_line_is_left_out(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(runs["mf"].folder, tmp_path / "mf"))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    again = json.dumps(first | {"train_rmse": 7.0})
    (run / "metrics.jsonl").write_text("\n".join([lines[0], '{"fit": 0, "epo', again, *lines[1:]]) + "\n")
    curve = learning_curves(Run.open(run))[0]
    assert curve.epochs == (1, 2)
    assert curve.train[0] == 7.0
    (run / "metrics.jsonl").unlink()
    assert learning_curves(Run.open(run)) == []
    assert write_report([Run.open(run)], tmp_path / "page.html", draws=20).bytes > 0
    (run / "metrics.jsonl").write_text('{"loss": 1}\n')
    with pytest.raises(BadInput, match="without the figures of an epoch"):
        learning_curves(Run.open(run))


def test_an_epoch_is_called_chosen_only_where_validation_was_asked_to_choose() -> None:
    curve = Curve(0, 0, "train", (1, 2, 3), (0.9, 0.8, 0.7), (0.99, 0.95, 0.97))
    plain, picked = (learning_chart(1, "RMSE by epoch", [curve], chosen, [0.9]) for chosen in (None, 2))
    assert "Validation RMSE ends at 0.9700." in str(plain)
    assert "'chosen'" not in str(plain)
    assert "Validation RMSE is lowest after epoch 2: 0.9500." in str(picked)
    assert "'chosen'" in str(picked)


def test_provenance_names_digests_and_what_differs_from_the_preset(runs: dict[str, Run]) -> None:
    run = runs["paper"]
    facts = {fact.name: fact.values for fact in provenance([run, runs["mf"]])}
    assert facts["Embeddings, content digest"] == (run.record.embeddings_digest, "–")
    assert facts["Ratings, SHA-256"][0] == run.record.dataset_sha256["ratings"]
    assert len(facts["Image encoder, SHA-256 of weights"][0]) == 64
    assert changed_settings(run.config) == [
        "width 16 instead of 128",
        "layers 1 instead of 2",
        "attention_heads 2 instead of 4",
        "epochs 2 instead of 12",
        "factor_steps 30 instead of 240",
    ]
    assert changed_settings(preset("best")) == []


def test_the_report_names_the_heads_that_were_trained_whatever_the_setting(runs: dict[str, Run]) -> None:
    ordinal, squared = OrdinalHead(SCALE, torch.tensor(SCALE.levels), 2), SquaredHead(SCALE)
    for heads, words in (
        ((ordinal,), "an ordinal head (a probability for each rating)"),
        ((squared,), "a squared head (the rating itself)"),
        ((ordinal, ordinal, squared), "mean of 3 members, 2 with an ordinal head"),
    ):
        recommender = dataclasses.replace(runs["mf"].recommender, heads=heads)
        run = dataclasses.replace(runs["mf"], recommender=recommender)
        assert heads_in_words(run).startswith(words)


# a real browser


VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.mark.parametrize(("width", "theme"), VIEWS)
@pytest.mark.parametrize("name", ["one", "several", "most", "hostile"])
def test_a_browser_shows_the_page_whole_and_asks_for_nothing(
    browser: Any, pages: dict[str, Written], name: str, width: int, theme: str
) -> None:
    browser.open(pages[name].file, width=width, theme=theme)
    assert browser.errors == []
    assert browser.requests == {pages[name].file.as_uri()}
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("[...document.querySelectorAll('details')].map(one => one.open = true).length") > 4
    assert browser.evaluate("document.documentElement.scrollWidth") <= width, "with all tables open"
    broken = "[...document.images].filter(one => !one.alt || !one.naturalWidth).length"
    assert browser.evaluate(f"Promise.all([...document.images].map(one => one.decode())).then(() => {broken})") == 0
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(250, 248, 244)", "dark": "rgb(20, 18, 16)"}[theme]


def test_a_reader_with_a_keyboard_reaches_the_content_and_every_table_that_scrolls(
    browser: Any, pages: dict[str, Written]
) -> None:
    browser.open(pages["several"].file, width=390)
    landmarks = "['header', 'nav', 'main', 'footer'].map(one => document.querySelectorAll(one).length)"
    assert browser.evaluate(landmarks) == [1, 1, 1, 1]
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.getAttribute('href')") == "#main"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, (
        "the link is seen once it is reached"
    )
    unreached = """[...document.querySelectorAll('*')].filter(one =>
        one.scrollWidth > one.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(one).overflowX)
        && one.tabIndex < 0).length"""
    assert browser.evaluate(unreached) == 0
    browser.open(pages["several"].file, width=1280)
    idle = "[...document.querySelectorAll('.strip')].filter(one => one.tabIndex >= 0).length"
    assert browser.evaluate(idle) == 0, "what does not scroll is no stop on the way"


@pytest.mark.slow
def test_the_policy_holds_even_where_markup_got_in(browser: Any, pages: dict[str, Written], tmp_path: Path) -> None:
    page = tmp_path / "altered.html"
    beacon = '<img alt="x" src="http://127.0.0.1:9/x.png">'
    page.write_text(read(pages["one"]).replace("</main>", f"{beacon}</main>"), "utf-8")
    browser.open(page, width=1280)
    assert any("Content Security Policy" in text for text in browser.errors)
