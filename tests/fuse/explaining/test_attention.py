"""Laws of what is shown as attention: it is the model's own, whole, at its place on the poster and in the plot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Status
from cinefuse.data.runtime.errors import BadInput, FingerprintMismatch
from cinefuse.extract.inputs.pixel_recipe import PixelRecipe
from cinefuse.extract.inputs.pixels import poster_pixels
from cinefuse.extract.inputs.poster_files import PosterLimits
from cinefuse.fuse.explaining.attention import item_attention
from cinefuse.fuse.explaining.heatmap import Box, colours, covered_box, grid_picture, overlay, strength
from cinefuse.fuse.explaining.plot_words import find_tokenizer, plot_words
from cinefuse.fuse.explaining.reading import Reading
from cinefuse.fuse.inputs.tokens import TokenBatch
from cinefuse.fuse.models.fusion_transformer import FusionTransformer
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.presets import preset

WIDTHS = {"text": 6, "image": 4}


def transformer(layers: int, names: tuple[str, ...] = ("text", "image"), side: int = 3) -> FusionTransformer:
    torch.manual_seed(0)
    widths = {name: WIDTHS[name] for name in names}
    made = FusionTransformer(widths, side, outputs=5, width=16, layers=layers, heads=4, dropout=0.3)
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made.eval().requires_grad_(requires_grad=False)


def three_films() -> dict[str, TokenBatch]:
    """One with plot and poster, one without poster, one without either."""
    drawn = torch.Generator().manual_seed(1)
    counts = {"text": (5, 3, 0), "image": (4, 0, 0)}
    made = {}
    for name, of_film in counts.items():
        present = torch.arange(max(of_film)) < torch.tensor(of_film)[:, None]
        made[name] = TokenBatch(torch.randn(3, max(of_film), WIDTHS[name], generator=drawn), present)
    return made


KNOWN = torch.randn(3, 3, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("layers", [1, 3])
def test_the_attention_weights_times_the_values_are_the_output_of_every_block(layers: int) -> None:
    model = transformer(layers)
    x, present = model.sequence(three_films(), KNOWN)
    shown = model.attention(x, present)
    assert len(shown) == layers
    for number, (block, weights) in enumerate(zip(model.blocks, shown, strict=True)):
        query = x[:, :1] if number == layers - 1 else x
        _, _, values = block.project(query, x)
        after = query + block.merge((weights @ values).transpose(1, 2).flatten(2))
        after = after + block.mlp(after)
        expected = block(query, x, present[:, None, None, :])
        torch.testing.assert_close(after, expected, atol=1e-5, rtol=0)
        x = expected
    torch.testing.assert_close(model.output(model.norm(x[:, 0])), model(three_films(), KNOWN), atol=1e-5, rtol=0)


def test_attention_sums_to_one_and_nothing_lies_where_nothing_is() -> None:
    model = transformer(2)
    x, present = model.sequence(three_films(), KNOWN)
    for weights in model.attention(x, present):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert not weights.masked_select(~present[:, None, None, :].expand_as(weights)).any()


@pytest.mark.parametrize("names", [("text", "image"), ("text",), ("image",)], ids="+".join)
@pytest.mark.parametrize("side", [0, 3])
def test_every_place_of_the_sequence_is_what_its_name_says(names: tuple[str, ...], side: int) -> None:
    model, tokens = transformer(1, names, side), three_films()
    x, present = model.sequence(tokens, KNOWN[:, :side])
    places = model.places({name: tokens[name].present.shape[1] for name in names})
    assert [n for at in places.values() for n in range(at.start, at.stop)] == list(range(x.shape[1]))
    assert torch.equal(x[0, places["fuse"]][0], model.fuse)
    assert ("side" in places) == bool(side)
    assert ("separator" in places) == (len(names) == 2)
    for name in names:
        assert torch.equal(x[0, places[f"{name}.absent"]][0], model.absent[name])
        read = model.norms[name](model.read[name](tokens[name].embeddings)) + model.kind[name]
        assert torch.equal(x[:, places[name]], read)
        assert torch.equal(present[:, places[name]], tokens[name].present)
        assert torch.equal(present[:, places[f"{name}.absent"]][:, 0], ~tokens[name].present.any(1))
    if len(names) == 2:
        assert torch.equal(x[0, places["separator"]][0], model.separator)


SMALL = ["width=16", "attention_heads=2", "epochs=1", "factor_steps=8", "precision=fp32", "validation=0"]


def trained(dataset: Path, file: Path, out: Path, *settings: str) -> Run:
    return train(dataset, file, out, preset("paper").with_settings([*SMALL, *settings]), split="all")


@pytest.fixture(scope="module")
def run(sample: Path, embeddings: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(sample, embeddings, tmp_path_factory.mktemp("run") / "paper", "members=2", "layers=2")


@pytest.fixture(scope="module")
def reading(run: Run) -> Reading:
    return Reading.open(run)


def film_with(reading: Reading, text: bool, image: bool) -> int | None:
    films = range(len(reading.catalog))
    return next((f for f in films if (reading.has(f, "text"), reading.has(f, "image")) == (text, image)), None)


@pytest.mark.parametrize("rollout", [False, True])
def test_patches_and_words_share_one_and_all_kinds_of_tokens_share_one(
    rollout: bool, reading: Reading, run: Run, encoders: Any
) -> None:
    film = film_with(reading, text=True, image=True)
    item = run.recommender.item_ids.tolist()[film]
    found = item_attention(reading, item, rollout=rollout, text_model=str(encoders.text))
    assert found is not None
    assert found.patches is not None
    assert found.patches.shape == (2, 2)
    assert found.patches.dtype == found.word_weights.dtype == np.float32
    assert found.patches.sum() + found.word_weights.sum() == pytest.approx(1, abs=1e-5)
    assert sum(found.mass.values()) == pytest.approx(1, abs=1e-5)
    assert sum(found.shares.values()) == pytest.approx(1, abs=1e-5)
    assert sum(found.uniform_shares.values()) == pytest.approx(1)
    assert found.mass["text.absent"] == found.mass["image.absent"] == 0
    assert found.absent == ()
    assert len(found.by_head) == (2 if rollout else 4)  # two members of two heads


def test_it_is_the_mean_of_heads_and_members(reading: Reading, run: Run) -> None:
    film = film_with(reading, text=True, image=True)
    assert film is not None
    rows = []
    for weights in reading.members:
        x, present = weights.transformer.sequence(reading.tokens(film), reading.side_information[[film]])
        rows.append(weights.transformer.attention(x, present)[-1][0, :, 0])
    over = torch.cat(rows).mean(0)
    found = item_attention(reading, run.recommender.item_ids.tolist()[film])
    patches = over[-4:]  # the sequence ends with the poster's patches, after its CLS
    assert found.mass["patches"] == pytest.approx(float(patches.sum()), abs=1e-6)
    np.testing.assert_allclose(found.patches.ravel() / found.patches.sum(), patches / patches.sum(), atol=1e-5)


@pytest.mark.parametrize(("text", "image"), [(True, False), (False, True)])
def test_an_absent_modality_is_named_and_its_share_is_that_of_the_absent_token(
    text: bool, image: bool, reading: Reading, run: Run
) -> None:
    film = film_with(reading, text, image)
    if film is None:
        pytest.skip("the sample catalogue has no such film")
    found = item_attention(reading, run.recommender.item_ids.tolist()[film])
    absent, there = ("image", "text") if text else ("text", "image")
    assert found.absent == (absent,)
    assert found.mass[f"{absent}.absent"] > 0
    assert found.mass[f"{there}.absent"] == 0
    assert found.shares[absent] == pytest.approx(found.mass[f"{absent}.absent"])
    assert (found.patches is None) == (not image)
    assert (len(found.words) == 0) == (not text)


def test_a_run_without_a_transformer_has_no_attention(sample: Path, tmp_path: Path) -> None:
    config = preset("mf").with_settings(["factor_steps=5", "epochs=1"])
    assert item_attention(train(sample, None, tmp_path / "mf", config), 1) is None


def test_at_the_level_of_cls_shares_are_all_there_is(sample: Path, embeddings: Path, tmp_path: Path) -> None:
    found = item_attention(Reading.open(trained(sample, embeddings, tmp_path / "cls", "level=cls")), 1)
    assert found is not None
    assert found.patches is None
    assert found.words == ()
    assert sum(found.shares.values()) == pytest.approx(1, abs=1e-6)


def test_an_unknown_film_is_refused(reading: Reading) -> None:
    with pytest.raises(BadInput, match="knows no such item"):
        item_attention(reading, 10**9)


# --- a place on the grid is a place on the poster


MARKED = {(2, 3): [(0, 0), (0, 2), (1, 0), (1, 2)], (4, 4): [(0, 0), (1, 3), (3, 0), (3, 3)]}


def marked_file(path: Path, dataset: Path, grid: tuple[int, int]) -> EmbeddingFile:
    """Posters of ``grid``, all patches alike but one: that of film k at place ``MARKED[grid][k % 4]``."""
    ids = Catalog.open(dataset).ids
    count = grid[0] * grid[1]
    record = {"fingerprint": {}, "grid": list(grid)}
    layout = ModalityLayout(
        record,
        width=4,
        dtype="float32",
        lengths=np.full(len(ids), count),
        digest=np.zeros((len(ids), 32), np.uint8),
        batch=np.zeros(len(ids), np.int32),
    )
    file = EmbeddingFile.create(path, ids, {"image": layout}, {})
    with RowWriter(file) as writer:
        for row in range(len(ids)):
            tokens = np.tile(np.array([1, -1, 0, 0], np.float32), (count, 1))
            at = MARKED[grid][row % 4]
            tokens[at[0] * grid[1] + at[1]] = [0, 0, 1, -1]
            writer.write("image", row, np.zeros(4, np.float32), tokens, Status.OK)
    return EmbeddingFile.open(path)


def make_it_look_at_the_mark(run: Run) -> None:
    """Put weights into the run's Transformer by hand: every head asks for what the marked patch has and others lack."""
    fit = next(run.folder.glob("fit-*.safetensors"))
    tensors = load_file(fit)
    model = Reading.open(run).members[0].transformer
    x, _ = model.sequence(Reading.open(run).tokens(0), Reading.open(run).side_information[[0]])
    heard = model.blocks[-1].norm(x[0])  # (T, W)
    patches = heard[model.places({"image": x.shape[1] - 3})["image"]][1:]
    others = patches[[n for n in range(len(patches)) if n != int((patches - patches.mean(0)).norm(dim=1).argmax())]]
    wanted = (patches - patches.mean(0))[int((patches - patches.mean(0)).norm(dim=1).argmax())]
    assert len(others) == len(patches) - 1
    block = "now.transformer.blocks.0"
    width = len(wanted)
    tensors[f"{block}.query.weight"] = torch.zeros(width, width)
    tensors[f"{block}.query.bias"] = torch.ones(width)
    tensors[f"{block}.key_value.weight"][:width] = 4 * wanted / wanted.norm()
    tensors[f"{block}.key_value.bias"][:width] = 0
    from safetensors import safe_open

    with safe_open(fit, framework="pt") as content:
        metadata = content.metadata()
    save_file(tensors, fit, metadata)


@pytest.mark.parametrize(("grid", "pool"), [((2, 3), 1), ((4, 4), 1), ((4, 4), 2)])
def test_a_model_that_looks_at_one_patch_shows_it_where_it_is(
    grid: tuple[int, int], pool: int, sample: Path, tmp_path: Path
) -> None:
    file = marked_file(tmp_path / "marked.h5", sample, grid)
    options = ("modalities=image", "layers=1", "genres=false", f"pool_patches={pool}")
    run = trained(sample, file.path, tmp_path / "run", *options)
    make_it_look_at_the_mark(run)
    reading = Reading.open(run)
    for film in range(4):
        found = item_attention(reading, run.recommender.item_ids.tolist()[film])
        assert found.patches.shape == (grid[0] // pool, grid[1] // pool)
        row, column = MARKED[grid][film]
        at = np.unravel_index(int(found.patches.argmax()), found.patches.shape)
        assert at == (row // pool, column // pool)
        assert found.patch_lift.max() > 1.5
        picture = np.asarray(grid_picture(found.patch_lift, Box(0, 0, 240, 240), (240, 240), 2.0)).sum(-1)
        down, across = np.unravel_index(int(picture.argmax()), picture.shape)
        tall, wide = 240 / found.patches.shape[0], 240 / found.patches.shape[1]
        assert (int(down / tall), int(across / wide)) == at
        smooth = np.asarray(overlay(Image.new("RGB", (240, 240)), found.patch_lift, Box(0, 0, 240, 240), 2.0)).sum(-1)
        down, across = np.unravel_index(int(smooth.argmax()), smooth.shape)
        assert (int(down / tall), int(across / wide)) == at


RECIPES = {
    "whole": PixelRecipe(size=(64, 64)),
    "middle": PixelRecipe(size=64, crop=(64, 64)),
    "bordered": PixelRecipe(size=80, crop=(64, 64)),
    "stretched and cut": PixelRecipe(size=(80, 80), crop=(64, 48)),
    "margins": PixelRecipe(size=(40, 40), crop=(64, 64)),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [(200, 300), (300, 180), (128, 128)])
def test_a_patch_lies_on_the_poster_where_the_model_got_its_pixels(name: str, size: tuple[int, int]) -> None:
    recipe, (width, height) = RECIPES[name], size
    across = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    poster = Image.fromarray(np.stack([across, down, np.full((height, width), 255)], -1).round().astype(np.uint8))
    raw = tmp_png(poster)
    pixels = poster_pixels(raw, recipe, PosterLimits()).astype(float)  # each tells where on the poster it is from
    settings = {
        "size": list(recipe.size) if isinstance(recipe.size, tuple) else recipe.size,
        "crop": None if recipe.crop is None else list(recipe.crop),
    }
    box = covered_box({"pixels": settings}, width, height)
    assert box is not None
    rows, columns = pixels.shape[0] // 16, pixels.shape[1] // 16
    for row in range(rows):
        for column in range(columns):
            patch = pixels[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            if (patch[..., 2] < 250).any():
                continue  # a margin: the processor's black, not the poster's
            x = box.left + (column + 0.5) / columns * (box.right - box.left)
            y = box.top + (row + 0.5) / rows * (box.bottom - box.top)
            assert patch[..., 0].mean() / 255 * width == pytest.approx(x, abs=0.02 * width + 1)
            assert patch[..., 1].mean() / 255 * height == pytest.approx(y, abs=0.02 * height + 1)


def tmp_png(picture: Image.Image) -> bytes:
    import io

    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def test_a_file_that_does_not_tell_what_its_patches_cover_is_not_guessed_at() -> None:
    assert covered_box({"architecture": "vit"}, 200, 300) == Box(0, 0, 200, 300)
    assert covered_box({"architecture": "clip_vision_model"}, 200, 300) is None


def test_what_the_model_did_not_see_of_a_poster_gets_no_colour() -> None:
    poster = Image.new("RGB", (200, 300), (10, 200, 30))
    shown = np.asarray(overlay(poster, np.array([[3.0]], np.float32), Box(0, 50, 200, 250), 2.0))
    unseen = np.concatenate([shown[:50], shown[250:]])
    assert (unseen == unseen[..., :1]).all()  # grey
    assert not (shown[60:240] == shown[60:240, :, :1]).all()


def test_a_lighter_colour_is_more_attention_and_the_middle_the_uniform_share() -> None:
    ramp = colours(np.linspace(0, 1, 50, dtype=np.float32)).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(ramp) > 0).all()
    lifts = np.array([1e-9, 0.25, 0.5, 1, 2, 4, 100], np.float32)
    np.testing.assert_allclose(strength(lifts, 4.0), [0, 0, 0.25, 0.5, 0.75, 1, 1], atol=1e-6)


# --- words


def pieces_of(tokenizer: Any, text: str, most: int = 128) -> np.ndarray:
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    return np.array(tokenizer.encode(text.encode("utf-8", "replace").decode()).ids[1:], np.int32)


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.one_of(st.sampled_from("abcAé '’-.,!#ß中 \n\t\u0301"), st.characters()), max_size=60))
def test_words_and_what_stands_between_them_are_the_text(text: str, encoders: Any) -> None:
    tokenizer = find_tokenizer({}, str(encoders.text))
    ids = pieces_of(tokenizer, text)
    plot = plot_words(text, ids, tokenizer, 128)
    assert plot is not None
    at, rejoined = 0, ""
    positions: list[int] = []
    for word in plot.words:
        assert word.start >= at
        assert word.text == plot.text[word.start : word.end]
        rejoined += plot.text[at : word.start] + word.text
        at = word.end
        positions += word.positions
    assert rejoined + plot.text[at:] == text.encode("utf-8", "replace").decode()
    assert positions == sorted(set(positions))
    assert all(0 <= position < len(ids) - 1 for position in positions)


def test_pieces_become_words_again(encoders: Any) -> None:
    tokenizer = find_tokenizer({}, str(encoders.text))
    text = "Zyzzyva's sci-fi: don't \"blink\" - R2-D2!"
    plot = plot_words(text, pieces_of(tokenizer, text), tokenizer, 128)
    assert plot is not None
    words = ["Zyzzyva's", "sci-fi", ":", "don't", '"', "blink", '"', "-", "R2-D2", "!"]
    assert [word.text for word in plot.words] == words
    assert len(plot.words[0].positions) > 3


def test_the_end_of_a_plot_that_was_cut_off_is_not_read(encoders: Any) -> None:
    tokenizer = find_tokenizer({}, str(encoders.text))
    text = "one two three four five six seven eight nine ten eleven twelve"
    plot = plot_words(text, pieces_of(tokenizer, text, 8), tokenizer, 8)
    assert plot is not None
    assert 0 < plot.read_to < len(text)
    assert plot.words[-1].end == plot.read_to


def test_without_the_tokenizer_positions_are_shown_and_it_is_said(reading: Reading, run: Run) -> None:
    film = film_with(reading, text=True, image=True)
    item = run.recommender.item_ids.tolist()[film]
    found = item_attention(reading, item)
    assert "--text-model" in str(found.plot.note)
    assert found.words[0].text == "#1"
    row = int(reading.rows[film])
    pieces = len(reading.embeddings["text"].tokens_of(row))
    assert len(found.words) == pieces - 1  # the last one closes the text


def test_words_carry_what_their_pieces_carry(reading: Reading, run: Run, encoders: Any) -> None:
    film = film_with(reading, text=True, image=True)
    item = run.recommender.item_ids.tolist()[film]
    pieces, words = item_attention(reading, item), item_attention(reading, item, text_model=str(encoders.text))
    assert words.word_weights.sum() == pytest.approx(pieces.word_weights.sum(), abs=1e-6)
    for word, weight in zip(words.words, words.word_weights, strict=True):
        assert weight == pytest.approx(sum(pieces.word_weights[position] for position in word.positions), abs=1e-6)


def test_another_models_tokenizer_is_refused(reading: Reading, run: Run, tmp_path: Path) -> None:
    from cinefuse.tests.support.untrained_encoders import write_untrained_text_encoder

    write_untrained_text_encoder(tmp_path / "other", ["quite other words"], width=32)
    film = film_with(reading, text=True, image=True)
    item = run.recommender.item_ids.tolist()[film]
    with pytest.raises(FingerprintMismatch, match="--text-model"):
        item_attention(reading, item, text_model=str(tmp_path / "other"))
    with pytest.raises(BadInput, match=r"tokenizer\.json"):
        item_attention(reading, item, text_model=str(tmp_path))


# --- what a run was trained on may have moved


def moved(run: Run, **record: Any) -> Run:
    return replace(run, record=replace(run.record, **record))


def test_a_file_or_dataset_that_moved_is_found_where_it_is_said_to_be(
    run: Run, sample: Path, embeddings: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "gone"
    with pytest.raises(BadInput, match="--cache"):
        Reading.open(moved(run, embeddings=elsewhere / "x.h5"))
    with pytest.raises(BadInput, match="--dataset"):
        Reading.open(moved(run, dataset=elsewhere))
    gone = moved(run, embeddings=elsewhere / "x.h5", dataset=elsewhere)
    assert Reading.open(gone, dataset=sample, cache=embeddings).has(0, "text")


def test_another_file_or_dataset_is_refused(run: Run, sample: Path, own_sample: Path, tmp_path: Path) -> None:
    other = marked_file(tmp_path / "other.h5", sample, (2, 3))
    with pytest.raises(FingerprintMismatch, match="content digest"):
        Reading.open(run, cache=other.path)
    films = pl.read_parquet(own_sample / "items.parquet")
    films.with_columns(title=pl.lit("changed")).write_parquet(own_sample / "items.parquet")
    with pytest.raises(FingerprintMismatch, match="items"):
        Reading.open(run, dataset=own_sample)


def test_a_run_without_its_weights_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fit-N"):
        _ = replace(Reading.open(run), run=replace(run, folder=tmp_path)).members


def test_the_tokenizers_that_ship_with_cinefuse_are_found_by_the_name_a_header_has() -> None:
    found, named = find_tokenizer({"model": "cinefuse-mini-text"}), find_tokenizer({}, "mini")
    assert found is not None
    assert found.encode("A fugitive").ids == named.encode("A fugitive").ids
