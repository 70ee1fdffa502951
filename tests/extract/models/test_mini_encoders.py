"""The encoders that ship inside the package: their weight, how they are found, and that they have learned something."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import BadInput
from cinefuse.extract.inputs.pixel_recipe import PixelRecipe
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.extract.models import source as source_module
from cinefuse.extract.models.encoders import ImageEncoder, TextEncoder
from cinefuse.extract.models.source import ModelSource
from cinefuse.tools.course import Course
from cinefuse.tools.films import Films
from cinefuse.tools.probe import macro_map, probe

pytestmark = pytest.mark.usefixtures("one_thread")

MINI = Path(__file__).resolve().parents[3] / "data" / "mini"
MODALITIES = ("text", "image")

PLOTS = {
    "horror": [
        "Teenagers in a cabin are hunted by a masked killer who rises from the grave every Halloween.",
        "A family moves into a haunted house where a demon feeds on the blood of children.",
        "A vampire wakes in his coffin and terrifies a village until a priest drives a stake through his heart.",
    ],
    "space": [
        "The crew of a starship discovers an alien planet where robots have destroyed all human life.",
        "Scientists aboard a space station receive a signal from another galaxy and prepare for an invasion.",
        "An astronaut travels through time and finds Earth ruled by machines of the future.",
    ],
    "romance": [
        "A shy florist falls in love with a charming widower, but he is to marry another woman in the spring.",
        "Two strangers meet at a wedding, dance until morning and write each other love letters for years.",
        "A young woman must choose between her rich fiance and the poor musician who has won her heart.",
    ],
    "war": [
        "A platoon of soldiers fights its way through enemy lines to hold a bridge until the army arrives.",
        "During the Second World War a submarine captain must sink a German battleship.",
        "A young private learns the horrors of the trenches when his regiment is ordered to attack.",
    ],
    "western": [
        "A gunslinger rides into a frontier town and helps the sheriff stand against cattle rustlers.",
        "Two outlaws rob a train and flee across the desert with a posse of cowboys behind them.",
        "A rancher hires a bounty hunter to bring in the bandits who shot his brother.",
    ],
}

# the first six numbers of each vector
GOLDEN = {
    "plot CLS": [0.652, -3.019, 2.263, 0.356, -1.451, -0.383],
    "plot mean": [0.422, -0.608, 0.314, -0.373, -0.249, -0.485],
    "poster CLS": [-0.547, -0.306, -0.176, -0.422, 1.418, -0.396],
    "poster mean": [-0.472, -0.442, 0.008, -0.012, 0.225, -0.031],
}


@pytest.fixture(scope="module")
def plot_vectors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinds (n,), CLS (n, D) and mean tokens (n, D) of the plots above."""
    source = ModelSource.resolve("mini", None, weights=True, modality="text")
    encoder = TextEncoder.load(source, device="cpu", precision="fp32", layer=None)
    tokenizer = source.tokenizer()
    kinds, cls, mean = [], [], []
    for kind, plots in PLOTS.items():
        for plot in plots:
            ids = np.array([tokenizer(plot)["input_ids"]], np.int32)
            hidden = encoder.encode(ids, np.array([ids.shape[1]]))[0].numpy()
            kinds.append(kind)
            cls.append(hidden[0])
            mean.append(hidden.mean(0))
    return np.array(kinds), np.stack(cls), np.stack(mean)


@pytest.fixture(scope="module")
def image_encoder() -> ImageEncoder:
    source = ModelSource.resolve("mini", None, weights=True, modality="image")
    recipe = PixelRecipe.from_processor_config(source.processor_config(), source.name, source.model_type)
    return ImageEncoder.load(
        source,
        mean=recipe.mean,
        std=recipe.std,
        rescale_factor=recipe.rescale_factor,
        device="cpu",
        precision="fp32",
        layer=None,
        pixels=recipe.output,
    )


def cosines(vectors: np.ndarray) -> np.ndarray:
    """(n, n) cosines between vectors, their common mean taken away first."""
    own = vectors - vectors.mean(0)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    return own @ own.T


# --- what ships


def test_together_they_weigh_at_most_14_megabytes() -> None:
    assert sum(file.stat().st_size for file in MINI.rglob("*") if file.is_file()) <= 14e6


@pytest.mark.parametrize("modality", MODALITIES)
def test_their_weights_are_safetensors_in_half_precision(modality: str) -> None:
    with safe_open(MINI / modality / "model.safetensors", framework="pt") as file:
        dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - it is no dict
    assert dtypes == {"F16"}


@pytest.mark.parametrize(("modality", "family"), [("text", "BertModel"), ("image", "ViTModel")])
def test_they_are_ordinary_folders_of_transformers(modality: str, family: str) -> None:
    config = json.loads((MINI / modality / "config.json").read_text())
    assert config["architectures"] == [family]
    assert not list(MINI.rglob("*.bin")) + list(MINI.rglob("*.pt")) + list(MINI.rglob("*.pth"))


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_card_names_data_method_figures_limits_and_licence(modality: str) -> None:
    card = (MINI / modality / "README.md").read_text()
    for heading in ("## Data", "## Method", "## Figures", "## Limits", "license: apache-2.0"):
        assert heading in card, heading
    assert "MovieLens" in card


def test_the_vocabulary_holds_words_and_characters_and_no_name_of_a_person_twice() -> None:
    vocabulary = json.loads((MINI / "text" / "tokenizer.json").read_text())["model"]["vocab"]
    ordinary = re.compile(r"(##)?[a-z0-9]+|(##)?.|\[(PAD|UNK|CLS|SEP|MASK)\]")
    assert [token for token in vocabulary if not ordinary.fullmatch(token)] == []
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


def test_no_latin_word_is_unknown() -> None:
    tokenizer = ModelSource.resolve("mini", None, weights=False, modality="text").tokenizer()
    words = "Xylographqzzv Amélie Źdźbło naïve 1984 x2b co-op “quoted” it's — Zbigniew's #7 50% $3"
    assert tokenizer.unk_token_id not in tokenizer(words)["input_ids"]


# --- how they are found


@pytest.mark.parametrize("modality", MODALITIES)
def test_mini_names_the_encoder_of_its_modality(modality: Any) -> None:
    found = ModelSource.resolve("mini", None, weights=True, modality=modality)
    assert (found.name, found.folder, found.revision) == (f"cinefuse-mini-{modality}", MINI / modality, None)


def test_a_folder_called_mini_does_not_stand_in_the_way_and_is_reached_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.chdir(tmp_path)
    assert ModelSource.resolve("mini", None, weights=True, modality="text").folder == MINI / "text"
    assert ModelSource.resolve("./mini", None, weights=False, modality="text").folder == tmp_path / "mini"


def test_mini_has_no_revisions() -> None:
    with pytest.raises(
        BadInput, match=r"^mini: ships with cinefuse and has no revisions, but 'v1' [^\n]*leave it out$"
    ):
        ModelSource.resolve("mini", "v1", weights=False, modality="text")


def test_an_installation_without_them_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "mini_encoder", lambda modality: Path("gone", modality))
    with pytest.raises(BadInput, match=r"^mini: this installation [^\n]*gone/image[^\n]*install it again[^\n]*$"):
        ModelSource.resolve("mini", None, weights=False, modality="image")


@pytest.mark.slow
def test_extraction_by_name_and_by_path_make_the_same_rows(sample: Path, tmp_path: Path) -> None:
    common = {"device": "cpu", "precision": "fp32"}
    extract(sample, tmp_path / "name.h5", Settings(text_model="mini", image_model="mini", **common))
    folders = {f"{modality}_model": str(MINI / modality) for modality in MODALITIES}
    extract(sample, tmp_path / "path.h5", Settings(**folders, **common))
    by_name, by_path = (EmbeddingFile.open(tmp_path / file) for file in ("name.h5", "path.h5"))
    for modality in MODALITIES:
        one, other = by_name[modality], by_path[modality]
        assert np.array_equal(one.cls, other.cls, equal_nan=True)
        assert np.array_equal(one.tokens, other.tokens, equal_nan=True)


# --- what they have learned


@pytest.mark.parametrize("level", ["CLS", "mean token"])
def test_plots_of_one_kind_lie_closer_than_plots_of_two(
    level: str, plot_vectors: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    kinds, cls, mean = plot_vectors
    near = cosines(cls if level == "CLS" else mean)
    same = kinds[:, None] == kinds[None, :]
    np.fill_diagonal(near, -np.inf)
    assert (kinds[near.argmax(1)] == kinds).mean() >= 0.8  # by chance 1 in 7
    off = ~np.eye(len(kinds), dtype=bool)
    assert near[same & off].mean() > near[~same].mean() + 0.2


def test_a_mirrored_darker_poster_stays_closest_to_itself(image_encoder: ImageEncoder) -> None:
    chance = np.random.default_rng(0)
    posters = [_drawn(chance) for _ in range(12)]
    changed = [Image.eval(p.transpose(Image.Transpose.FLIP_LEFT_RIGHT), lambda v: int(v * 0.85)) for p in posters]
    vectors = image_encoder.encode(np.stack([np.asarray(p) for p in [*posters, *changed]]))[:, 0].numpy()
    near = cosines(vectors)[:12, 12:]
    assert (near.argmax(1) == np.arange(12)).mean() >= 0.75  # by chance 1 in 12


def test_the_weights_that_ship_give_the_vectors_that_were_measured(
    plot_vectors: tuple[np.ndarray, np.ndarray, np.ndarray], image_encoder: ImageEncoder
) -> None:
    """The figures of docs/mini-encoders.md belong to these weights; retrained ones need their own."""
    _, cls, mean = plot_vectors
    poster = image_encoder.encode(np.stack([np.asarray(_drawn(np.random.default_rng(7)))]))[0].numpy()
    found = {"plot CLS": cls[0], "plot mean": mean[0], "poster CLS": poster[0], "poster mean": poster.mean(0)}
    for name, vector in found.items():
        assert vector[:6] == pytest.approx(GOLDEN[name], abs=0.02), name


def _drawn(chance: np.random.Generator) -> Image.Image:
    """A poster of a few shapes, 96 x 144 pixels."""
    colours = [tuple(int(part) for part in chance.integers(0, 256, 3)) for _ in range(5)]
    image = Image.new("RGB", (96, 144), colours[0])
    pen = ImageDraw.Draw(image)
    for colour in colours[1:]:
        x, y, w, h = (int(part) for part in chance.integers(8, 80, 4))
        shape = pen.ellipse if chance.random() < 0.5 else pen.rectangle
        shape((x, y, x + w, y + h), fill=colour)
    return image


# --- how they were made


def test_a_film_is_one_film_in_both_tables(tmp_path: Path) -> None:
    # The second table knows the first film under another IMDb id and the same title, the second under another title.
    columns = ("movie_id", "imdb_id", "title", "year", "genres", "plot")
    first = [(n, f"tt{n}", f"Film {n}", 1990, "Drama", f"plot {n}") for n in range(200)]
    second = [
        (n + 1000, f"tt{n}" if n % 2 else f"xx{n}", f"Else {n}" if n % 2 else f"FILM {n}", 1990, "Drama", f"other {n}")
        for n in range(200)
    ]
    pl.DataFrame(first, schema=columns, orient="row").write_parquet(tmp_path / "items-ml-1m.parquet")
    pl.DataFrame(second, schema=columns, orient="row").write_parquet(tmp_path / "items-ml-100k.parquet")
    films = Films.read(tmp_path)
    train = {int(plot.split()[1]) for plot, part in zip(films.plots, films.parts, strict=True) if part == "train"}
    assert {int(plot.split()[1]) for plot in films.more_plots} == train
    assert 20 <= films.among("held-out").sum() <= 60


def test_average_precision_is_the_mean_precision_down_to_each_hit() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    assert macro_map(scores, np.array([[True], [False], [True], [False]])) == pytest.approx((1 / 1 + 2 / 3) / 2)
    both = np.array([[True, False], [False, False], [True, False], [False, False]])
    assert macro_map(np.repeat(scores, 2, 1), both) == pytest.approx((1 / 1 + 2 / 3) / 2)  # no film, no figure


def test_a_probe_finds_what_is_there_and_nothing_where_nothing_is() -> None:
    chance = np.random.default_rng(1)
    labels = chance.random((600, 3)) < 0.3
    features = labels + 0.3 * chance.standard_normal((600, 3))
    part = np.arange(600) % 3
    masks = [part == number for number in range(3)]
    assert (probe(features, labels, *masks).held_out or 0) > 0.95
    assert (probe(chance.standard_normal((600, 3)), labels, *masks).held_out or 1) < 0.45


class Net(torch.nn.Module):
    """Something of each kind that a course treats in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})
        self.head = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.tanh(self.body["layers"][0](x)))  # type: ignore[index]
        return out


def test_a_killed_course_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def course(file: str, steps: int) -> Course:
        torch.manual_seed(3)
        own = {"rate": 1e-2, "decay": 0.1, "warm_up": 2, "keep": 0.9, "seed": 5}
        made = Course(Net(), tmp_path / file, {"width": 4}, steps=12, **own)  # type: ignore[arg-type]
        while made.step < steps:
            made.advance(made.model(torch.randn(8, 4, generator=made.chance())).square().mean())
        made.save()
        return made

    whole = course("whole.safetensors", 12)
    course("parted.safetensors", 5)
    parted = course("parted.safetensors", 12)
    assert len(list(whole.model.parameters())) == 4
    for one, other in zip(whole.model.parameters(), parted.model.parameters(), strict=True):
        assert torch.equal(one, other)
    with whole.averaged() as mean, parted.averaged() as other_mean:
        for one, other in zip(mean.parameters(), other_mean.parameters(), strict=True):
            assert torch.equal(one, other)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    own = {"steps": 3, "rate": 1e-2, "decay": 0.1, "warm_up": 1, "keep": 0.9, "seed": 5}
    first = Course(torch.nn.Linear(4, 2), tmp_path / "c.safetensors", {"width": 4}, **own)  # type: ignore[arg-type]
    first.advance(first.model(torch.ones(1, 4)).sum())
    first.save()
    with pytest.raises(SystemExit, match="other settings"):
        Course(torch.nn.Linear(4, 2), tmp_path / "c.safetensors", {"width": 5}, **own)  # type: ignore[arg-type]
