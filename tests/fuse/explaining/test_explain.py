"""Laws of explanations: what is said to happen without a poster or plot is what happens, and nothing said is markup."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import BadInput, FingerprintMismatch, UsageError
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.fuse.commands.explain_screen import show_explanations
from cinefuse.fuse.explaining.ablation import Agreement, Parts, ablate, agreement, occlude, rank_correlation
from cinefuse.fuse.explaining.explain import explain
from cinefuse.fuse.explaining.explanation import Explanation
from cinefuse.fuse.explaining.files import write_explanation
from cinefuse.fuse.explaining.html import explanations_page, where_most
from cinefuse.fuse.explaining.masking import ItemMasking, components_without
from cinefuse.fuse.explaining.plot_words import Plot, Word
from cinefuse.fuse.explaining.png import card, item_pictures
from cinefuse.fuse.explaining.reading import Reading
from cinefuse.fuse.inputs.components import Components, components_wanted, mean_tokens
from cinefuse.fuse.inputs.join import join
from cinefuse.fuse.inputs.training_data import load_training_data
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.training.checkpoint import load_state
from cinefuse.fuse.training.loop import Training

HOSTILE_TITLE = '<script>alert("title")</script> & \x1b[31mred\u202e'
HOSTILE_PLOT = "</p><img src=x onerror=alert(1)> <b>bold</b> & a ship, a captain's \"end\"; don't ask {{ 7 * 7 }}"
FILM, USER = 3, 5  # by number; the film has poster and plot, and a hostile title

SMALL = ["adapt=false", "width=16", "attention_heads=2", "epochs=2", "factor_steps=20", "precision=fp32"]
SMALL += ["batch_items=4", "transformer_learning_rate=0.01", "l2.content=1"]  # enough to say something
# of weights so weakly held that masking a component is seen, also on a film that nobody has rated
COMPONENTS = ["text_components=6", "image_components=4", "dim=8", "l2.cold_components=300"]
KINDS: dict[str, tuple[str, list[str]]] = {
    "tokens": ("paper", [*SMALL, "layers=2"]),
    "pooled": ("paper", [*SMALL, "layers=1", "pool_patches=2"]),
    "cls": ("paper", [*SMALL, "layers=1", "level=cls"]),
    "components": ("best", ["adapt=false", "epochs=1", "factor_steps=12", *COMPONENTS]),
    "both": ("best", [*SMALL, "layers=1", *COMPONENTS]),
}
TRANSFORMERS = ("tokens", "pooled", "cls", "both")


def films_of(dataset: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    file = dataset / "items.parquet"
    change(pl.read_parquet(file)).write_parquet(file)


def with_value(column: str, row: int, value: str | None) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def change(films: pl.DataFrame) -> pl.DataFrame:
        values = films[column].to_list()
        values[row] = value
        return films.with_columns(pl.Series(column, values, dtype=pl.String))

    return change


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explain")


@pytest.fixture(scope="module")
def embed(encoders: Any) -> Callable[[Path, Path], Path]:
    models = {"text_model": str(encoders.text), "image_model": str(encoders.image)}

    def embedded(dataset: Path, out: Path) -> Path:
        extract(dataset, out, Settings(**models, device="cpu", precision="fp32", dtype="float32"))
        return out

    return embedded


@pytest.fixture(scope="module")
def dataset(place: Path, sample: Path) -> Path:
    """The sample catalogue with one film whose title and plot are hostile, and one film that nobody has rated."""
    folder = Path(shutil.copytree(sample, place / "dataset"))
    films_of(folder, with_value("title", FILM, HOSTILE_TITLE))
    films_of(folder, with_value("text", FILM, HOSTILE_PLOT))
    unrated = pl.read_parquet(folder / "items.parquet")["item_id"][FILM + 1]
    ratings = pl.read_parquet(folder / "ratings.parquet").filter(pl.col("item_id") != unrated)
    ratings.write_parquet(folder / "ratings.parquet")
    shutil.rmtree(folder / "splits", ignore_errors=True)
    return folder


@pytest.fixture(scope="module")
def file(dataset: Path, place: Path, embed: Callable[[Path, Path], Path]) -> Path:
    return embed(dataset, place / "whole.h5")


@pytest.fixture(scope="module")
def lacking(dataset: Path, place: Path, embed: Callable[[Path, Path], Path]) -> dict[str, Path]:
    """Embedding files of catalogues in which two films have no poster, no plot, or neither."""
    files = {}
    for name, columns in {"image": ["poster"], "text": ["text"], "both": ["poster", "text"]}.items():
        folder = Path(shutil.copytree(dataset, place / f"without-{name}"))
        for column in columns:
            for film in (FILM, FILM + 1):
                films_of(folder, with_value(column, film, None))
        files[name] = embed(folder, place / f"without-{name}.h5")
    return files


@pytest.fixture(scope="module")
def runs(dataset: Path, file: Path, place: Path) -> dict[str, Run]:
    made = {}
    for kind, (name, changes) in KINDS.items():
        config = preset(name).with_settings(changes)
        made[kind] = train(dataset, file, place / kind, config, split="random:0.2")
    return made


@pytest.fixture(scope="module")
def explained(runs: dict[str, Run], encoders: Any) -> dict[str, Explanation]:
    return {
        kind: explain(run, [item_of(run, FILM)], user_of(run), text_model=str(encoders.text))[0]
        for kind, run in runs.items()
    }


def item_of(run: Run, film: int) -> int:
    return int(run.recommender.item_ids[film])


def user_of(run: Run) -> int:
    return int(run.recommender.user_ids[USER])


def predicted_over(run: Run, dataset: Path, embeddings: Path, film: int) -> np.ndarray:
    """(U,) what the run's own members predict of a film when they read another embedding file."""
    other = EmbeddingFile.open(embeddings)
    joined = join(dataset, other)
    training_data = load_training_data(dataset, joined, other, run.split, run.config, torch.device("cpu"))
    training = Training(run.config, training_data)
    users = torch.arange(len(joined.user_ids))
    each = []
    for fit in training.fits()[-run.config.members :]:
        member = training._member(fit)
        load_state(run.folder / f"fit-{fit.number}.safetensors", member)
        member.refresh_content(training._batches())
        with torch.no_grad():
            scores = member.vectors().pair_scores(users, torch.full_like(users, film))
            each.append(member.head.ratings(scores, users))
    return torch.stack(each).mean(0).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("film", [FILM, FILM + 1], ids=["rated", "unrated"])
@pytest.mark.parametrize("kind", KINDS)
def test_masking_equals_the_prediction_over_a_file_that_lacks_the_modality(
    kind: str, film: int, runs: dict[str, Run], dataset: Path, lacking: dict[str, Path]
) -> None:
    run = runs[kind]
    found = explain(run, [item_of(run, film)], user_of(run))[0].ablation
    assert found.has == ("text", "image")
    whole = predicted_over(run, dataset, run.record.embeddings, film)
    assert found.everything.average == pytest.approx(whole.mean(), abs=2e-5)
    changes = []
    for name in ("image", "text", "both"):
        expected = predicted_over(run, dataset, lacking[name], film)
        rated = getattr(found, f"without_{name}")
        assert rated.average == pytest.approx(expected.mean(), abs=3e-5)
        assert rated.user == pytest.approx(expected[USER], abs=3e-5)
        assert rated.change == pytest.approx(np.sqrt(((expected - whole) ** 2).mean()), abs=3e-5)
        changes.append(rated.change)
    assert max(changes) > 1e-3, "there is nothing to compare"


@pytest.mark.parametrize("kind", KINDS)
def test_with_nothing_masked_the_prediction_is_the_runs_own(
    kind: str, runs: dict[str, Run], explained: dict[str, Explanation]
) -> None:
    recommender = runs[kind].recommender
    users = np.arange(len(recommender.user_ids))
    own = recommender.pair_ratings(users, np.full_like(users, FILM))
    found = explained[kind].ablation.everything
    assert found.average == pytest.approx(own.mean(), abs=1e-6)
    assert found.user == pytest.approx(own[USER], abs=1e-6)
    assert found.change == 0


def test_a_masked_token_is_a_token_that_is_not_there(runs: dict[str, Run]) -> None:
    run = runs["tokens"]
    reading = Reading.open(run)
    masking = ItemMasking(reading, FILM, {})
    transformer = reading.members[0].transformer
    assert transformer is not None
    tokens = reading.tokens(FILM)
    with torch.no_grad():
        whole = transformer(tokens, reading.side_information[[FILM]])
        for name, out in (("text", [0, 4]), ("image", [3])):
            kept = [at for at in range(tokens[name].present.shape[1]) if at - 1 not in out]
            fewer = tokens | {name: type(tokens[name])(tokens[name].embeddings[:, kept], tokens[name].present[:, kept])}
            expected = transformer(fewer, reading.side_information[[FILM]]) - whole
            [vectors] = masking.vectors([{}, {name: np.array(out)}])
            torch.testing.assert_close(vectors[1:] - vectors[:1], expected, atol=2e-6, rtol=0)


def test_components_are_the_runs_own_and_without_words_those_of_a_shorter_plot(runs: dict[str, Run]) -> None:
    reading = Reading.open(runs["components"])
    for name, found in reading.components.items():
        modality = reading.embeddings[name]
        means = mean_tokens(modality, reading.rows)
        of_items = Components.of(means, *components_wanted(reading.config)[name]).of_items(means)
        for film in range(len(reading.catalog)):
            if reading.has(film, name):
                tokens = modality.read_tokens(int(reading.rows[film]))
                whole, nothing = components_without(found, tokens, [np.zeros(0, np.int64), np.arange(len(tokens))])
                np.testing.assert_allclose(whole, of_items[film], atol=2e-5)
                assert not nothing.any()
                if len(tokens) > 2:
                    [shorter] = components_without(found, tokens, [np.array([1])])
                    [same] = components_without(found, np.delete(tokens, 1, 0), [np.zeros(0, np.int64)])
                    np.testing.assert_allclose(shorter, same, atol=2e-5)


def test_pooled_patches_are_masked_as_their_squares(runs: dict[str, Run]) -> None:
    record = runs["both"].record
    run = replace(runs["both"], record=replace(record, config=replace(record.config, pool_patches=2)))
    reading = Reading.open(run)
    masking = ItemMasking(reading, FILM, reading.components)
    assert masking.count_parts("image") == 1  # a grid of 2 x 2
    assert sorted(masking._in_file("image", np.array([0])).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_masked_where_the_model_reads_parts(kind: str, explained: dict[str, Explanation]) -> None:
    e = explained[kind]
    assert (e.attention is not None) == (kind in TRANSFORMERS)
    assert set(e.parts) == (set() if kind == "cls" else {"text", "image"})
    assert set(e.agreement) == ({"text", "image"} if kind in ("tokens", "pooled", "both") else set())
    assert e.shown == {"cls": "nothing", "components": "masking"}.get(kind, "attention")
    if e.parts:
        assert sum(len(part) for part in e.parts["text"].members) == len(e.plot.words)
        assert e.parts["image"].grid == ((1, 1) if kind == "pooled" else (2, 2))
    notes = " ".join(e.notes)
    assert ("no Transformer" in notes) == (kind == "components")
    assert ("level=cls" in notes) == (kind == "cls")


def test_a_run_that_reads_neither_says_so_and_nothing_changes(dataset: Path, place: Path) -> None:
    run = train(dataset, None, place / "bias", preset("bias").with_settings(["factor_steps=20", "epochs=1"]))
    e = explain(run, [item_of(run, FILM)])[0]
    assert e.attention is None
    assert e.shown == "nothing"
    assert "neither plots nor posters" in e.notes[0]
    for rated in (e.ablation.without_image, e.ablation.without_text, e.ablation.without_both):
        assert rated.change == 0
    assert e.ablation.shares is None


def test_a_film_without_poster_says_so_and_masking_it_changes_nothing(runs: dict[str, Run]) -> None:
    run = runs["tokens"]
    reading = Reading.open(run)
    film = next(f for f in range(len(reading.catalog)) if not reading.has(f, "image") and reading.has(f, "text"))
    e = explain(run, [item_of(run, film)])[0]
    assert e.ablation.has == ("text",)
    assert e.ablation.without_image.change == 0
    assert e.patch_lift is None
    assert any("no poster" in note and "absent token" in note for note in e.notes)
    assert "without plot" in e.in_short
    assert "poster" not in e.in_short


# --- whether attention is to be believed


def test_rank_correlation_is_spearmans() -> None:
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([10, 20, 25, 99])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([9, 3, 2, 1])) == pytest.approx(-1)
    # 1 - 6 * sum of squared rank differences / (n (n^2 - 1)), without ties
    a, b = np.array([3, 1, 4, 2, 5]), np.array([1, 3, 4, 2, 5])
    assert rank_correlation(a, b) == pytest.approx(1 - 6 * ((a - b) ** 2).sum() / (5 * 24))
    # ties share their ranks: Pearson's correlation of (1.5, 1.5, 3) and (1, 2, 3)
    assert rank_correlation(np.array([0, 0, 7]), np.array([1, 2, 3])) == pytest.approx(np.sqrt(3) / 2)
    assert rank_correlation(np.array([1, 1, 1]), np.array([1, 2, 3])) is None


def judged_by_masking(run: Run) -> tuple[Parts, Callable[[Any], Agreement]]:
    """What masking each word of FILM's plot changes, and how an attention over these words agrees with that."""
    reading = Reading.open(run)
    masking = ItemMasking(reading, FILM, {})
    plot = explain(run, [item_of(run, FILM)])[0].plot
    parts = occlude(reading, masking, FILM, "text", plot)
    assert parts is not None
    positions = [np.array(word.positions) for word in plot.words]
    return parts, lambda attention: agreement(reading, masking, "text", parts, attention, positions)


def test_attention_equal_to_the_effect_of_masking_predicts_it_and_its_reverse_is_opposite(runs: dict[str, Run]) -> None:
    parts, judged = judged_by_masking(runs["tokens"])
    true = judged(parts.change)
    assert true.correlation == pytest.approx(1)
    assert true.predicts
    wrong = judged(1 / parts.change)
    assert wrong.correlation == pytest.approx(-1)
    assert wrong.predicts is False
    assert "is opposite to" in wrong.verdict


def test_masking_the_most_attended_parts_is_compared_with_chance(runs: dict[str, Run]) -> None:
    parts, judged = judged_by_masking(runs["tokens"])
    chance = np.random.default_rng(1)
    found = []
    for _ in range(12):  # attention that singles out some words, whichever
        attention = np.full(len(parts.change), 1e-6)
        attention[chance.permutation(len(attention))[: max(1, round(len(attention) / 10))]] = 1
        found.append(judged(attention))
    assert len({a.random for a in found}) == 1, "chance is the same for all"
    most, least = max(found, key=lambda a: a.top), min(found, key=lambda a: a.top)
    assert most.top > most.random > least.top
    assert most.beaten > least.beaten
    assert all(a.beaten <= b.beaten for a in found for b in found if a.top <= b.top)


@pytest.mark.parametrize(("correlation", "predicts"), [(0.6, True), (0.4, None), (0.1, False), (None, False)])
def test_a_verdict_follows_from_the_correlation(correlation: float | None, predicts: bool | None) -> None:
    found = Agreement(parts=49, correlation=correlation, masked=5, top=0.2, random=0.1, beaten=0.95)
    assert found.predicts is predicts
    if correlation is not None:
        said = {True: "attention predicts", None: "only weakly", False: "does not predict"}
        assert said[predicts] in found.verdict
        assert "2.0 times" in found.verdict
        assert f"{correlation:+.2f} over 49" in found.verdict


def test_a_few_parts_are_no_evidence() -> None:
    assert Agreement(parts=3, correlation=0.99, masked=1, top=1, random=1, beaten=1).predicts is False


# --- what is written


class Elements(HTMLParser):
    """What a browser would make of a page: its elements, and the text of its plots."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.handlers: list[str] = []
        self.pictures = 0
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.pictures += tag == "img" and str(dict(attrs)["src"]).startswith("data:image/webp;base64,")

    def handle_data(self, data: str) -> None:
        self.text += data


def with_one_hostile_word(e: Explanation) -> Explanation:
    """The same film with a plot whose first, much attended word is markup."""
    end = len(HOSTILE_PLOT)
    plot = Plot(HOSTILE_PLOT + "x", (Word(HOSTILE_PLOT, 0, end, (0,)), Word("x", end, end + 1, (1,))), end + 1)
    weights = np.array([0.9, 0.1], np.float32)
    assert e.attention is not None
    return replace(e, plot=plot, attention=replace(e.attention, plot=plot, word_weights=weights))


def test_titles_and_plots_are_text_on_the_page_whatever_they_hold(explained: dict[str, Explanation]) -> None:
    hostile = [explained["tokens"], explained["components"]]
    alone = Elements(explanations_page([with_one_hostile_word(explained["tokens"])], "run x"))
    assert HOSTILE_TITLE in alone.text
    assert HOSTILE_PLOT in alone.text
    found = Elements(explanations_page(hostile, "run <i>x</i>"))
    harmless = Elements(explanations_page([replace(e, title="A film") for e in hostile], "run x"))
    assert set(found.names) == set(harmless.names)
    assert found.names.count("script") == harmless.names.count("script")
    assert found.names.count("img") == harmless.names.count("img") == found.pictures
    assert found.handlers == []
    assert HOSTILE_TITLE in found.text
    assert HOSTILE_PLOT in found.text
    assert "run <i>x</i>" in found.text


def test_the_page_asks_for_nothing_from_outside(explained: dict[str, Explanation]) -> None:
    page = explanations_page(list(explained.values()), "run x")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert page.count('src="data:image/webp;base64,') > 10


def test_marked_pieces_are_the_plot(explained: dict[str, Explanation]) -> None:
    for e in explained.values():
        if e.plot is not None:
            assert "".join(piece.text for piece in e.marked_plot()) == HOSTILE_PLOT


def test_a_terminal_is_not_steered_by_a_title(explained: dict[str, Explanation]) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    show_explanations(list(explained.values()), console)
    found = console.export_text()
    assert "\x1b" not in found
    assert "\u202e" not in found
    assert "\\x1b[31mred" in found


@pytest.mark.slow
def test_pictures_are_of_one_size_and_a_card_is_1200_wide(
    explained: dict[str, Explanation], runs: dict[str, Run], tmp_path: Path
) -> None:
    for kind, e in explained.items():
        pictures = item_pictures(e)
        assert len({picture.size for picture in pictures.values()}) == 1
        assert list(pictures) == {
            "cls": ["poster"],
            "components": ["poster", "masking", "masking grid"],
        }.get(kind, ["poster", "attention", "attention grid", "masking grid"])
        assert card(e, "run x").width == 1200
    for count in (1, 3):
        out = tmp_path / f"{count}.png"
        write_explanation(out, list(explained.values())[:count], runs["tokens"])
        with Image.open(out) as picture:
            assert picture.width == 1200


def test_a_film_whose_poster_is_gone_is_explained_by_the_grid(runs: dict[str, Run], dataset: Path, place: Path) -> None:
    run = runs["tokens"]
    bare = Path(shutil.copytree(dataset, place / "bare"))
    root = bare / json.loads((bare / "dataset.json").read_text("utf-8"))["posters"]
    name = pl.read_parquet(bare / "items.parquet")["poster"][FILM]
    (root / name).unlink()
    e = explain(run, [item_of(run, FILM)], dataset=bare)[0]
    assert e.poster is None
    assert any("is missing" in note for note in e.notes)
    assert list(item_pictures(e)) == ["poster", "attention grid", "masking grid"]
    Image.new("RGB", (20, 30)).save(root / name, "PNG")
    changed = explain(run, [item_of(run, FILM)], dataset=bare)[0]
    assert any("has changed" in note for note in changed.notes)


def test_where_most_of_a_picture_lies_is_said() -> None:
    grid = np.ones((6, 6), np.float32)
    assert where_most(np.pad(grid[:2, :2] * 9, ((0, 4), (0, 4)), constant_values=1)) == "top left"
    assert where_most(np.pad(grid[:2, :2] * 9, ((4, 0), (2, 2)), constant_values=1)) == "bottom"
    assert where_most(np.pad(grid[:2, :2] * 9, ((2, 2), (2, 2)), constant_values=1)) == "middle"


# --- what is asked for


def test_an_unknown_film_is_refused_with_the_nearest(runs: dict[str, Run], dataset: Path) -> None:
    run = runs["tokens"]
    with pytest.raises(BadInput, match="the nearest are 40 "):
        explain(run, ["4000"])
    title = pl.read_parquet(dataset / "items.parquet")["title"][10]
    with pytest.raises(BadInput) as refusal:
        explain(run, [title.lower()[:-1]])
    assert f"{item_of(run, 10)} ({title})" in str(refusal.value)


def test_an_unknown_user_is_refused_with_the_nearest(runs: dict[str, Run]) -> None:
    with pytest.raises(BadInput, match="the nearest ids are"):
        explain(runs["tokens"], [item_of(runs["tokens"], FILM)], "999")


def test_nothing_asked_is_refused(runs: dict[str, Run]) -> None:
    with pytest.raises(UsageError, match="--item"):
        explain(runs["tokens"], [])


@pytest.mark.slow
def test_the_command_writes_what_it_is_asked_for(
    runs: dict[str, Run], file: Path, lacking: dict[str, Path], encoders: Any, tmp_path: Path
) -> None:
    run = runs["tokens"]
    words = ["explain", str(run.folder), "--item", str(item_of(run, FILM)), "--item", str(item_of(run, 1))]
    asked = CliRunner().invoke(app, [*words, "--json", "--user", str(user_of(run)), "--text-model", str(encoders.text)])
    found = json.loads(asked.output)
    assert [film["item_id"] for film in found] == [item_of(run, FILM), item_of(run, 1)]
    assert found[0]["prediction"]["everything"]["user"] is not None
    assert found[0]["agreement"]["text"]["parts"] > 5
    files = [tmp_path / "films.png", tmp_path / "films.html"]
    outs = [word for path in files for word in ("--out", str(path))]
    asked = CliRunner().invoke(app, [*words, *outs, "--cache", str(file)])
    assert asked.exit_code == 0
    assert all(path.stat().st_size > 10_000 for path in files)
    assert "rank correlation" in asked.output
    assert isinstance(CliRunner().invoke(app, [*words, "--out", "x.gif"]).exception, UsageError)
    other = CliRunner().invoke(app, [*words, "--cache", str(lacking["image"])])
    assert isinstance(other.exception, FingerprintMismatch)


def test_parts_of_a_long_plot_are_stretches_and_of_a_large_poster_squares() -> None:
    from cinefuse.fuse.explaining.ablation import _squares

    squares, grid = _squares((14, 14))
    assert grid == (7, 7)
    assert sorted(np.concatenate(squares).tolist()) == list(range(196))
    assert squares[0].tolist() == [0, 1, 14, 15]
    squares, grid = _squares((5, 30))
    assert len(squares) == grid[0] * grid[1] <= 64
    assert sorted(np.concatenate(squares).tolist()) == list(range(150))
    assert Parts((), None, np.zeros(0, np.float32), np.zeros(0, np.float32)).grid is None


def test_ablating_one_user_is_what_that_user_is_predicted(runs: dict[str, Run]) -> None:
    run = runs["both"]
    reading = Reading.open(run)
    masking = ItemMasking(reading, FILM, reading.components)
    everybody = [ablate(reading, masking, user) for user in range(len(run.recommender.user_ids))]
    for name in ("everything", "without_image", "without_text", "without_both"):
        own = [getattr(found, name).user for found in everybody]
        assert np.mean(own) == pytest.approx(getattr(everybody[0], name).average, abs=1e-5)
