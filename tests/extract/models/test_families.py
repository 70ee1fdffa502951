"""Every family of encoders, as the hub has it, against plain transformers and sentence-transformers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import transformers as hf
from PIL import Image

from cinefuse.data.dataset.folder import Description
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput
from cinefuse.extract.commands.encoders import FAMILIES as LISTED
from cinefuse.extract.commands.encoders import families_table, transformers_version
from cinefuse.extract.inputs.processor_pixels import _FloatResizing
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.extract.models.encoders import TextEncoder
from cinefuse.extract.models.failures import quiet_transformers
from cinefuse.extract.models.probe import LayerState
from cinefuse.extract.models.source import ModelSource
from cinefuse.tests.support.encoder_families import (
    BERT_LIKE,
    IMAGES,
    SENTENCES,
    SIDE,
    TEXTS,
    WORDS,
    Family,
    build_clip,
    save,
    tokenizer,
)
from cinefuse.tests.support.further_families import FURTHER_IMAGES, FURTHER_TEXTS
from cinefuse.tests.support.small_models import small

pytestmark = pytest.mark.slow  # a model of each family

ROOT = Path(__file__).parents[3]
PLOTS = [
    "a ferry at dawn",
    "two friends rob the old bank and love her dog on the road home at night in the war",
    "the king of the sea",
    "lost",
    "letters in a train and a boat, and his film of her town " * 4,  # longer than sentence models read
]
SIZES = [(90, 130), (131, 88), (64, 64), (50, 200), (100, 150)]  # width, height
EQUAL = 2e-5


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of five films with texts of several lengths and posters of several shapes."""
    folder = tmp_path_factory.mktemp("families") / "films"
    (folder / "posters").mkdir(parents=True)
    chance = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        small = chance.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / "posters" / f"{number}.png")
    columns = {
        "item_id": list(range(len(PLOTS))), "title": [""] * len(PLOTS), "year": [None] * len(PLOTS),
        "genres": [[]] * len(PLOTS), "text": PLOTS, "poster": [f"{number}.png" for number in range(len(PLOTS))],
    }  # fmt: skip
    schema = {"year": pl.Int32, "genres": pl.List(pl.String)}
    pl.DataFrame(columns, schema_overrides=schema).write_parquet(folder / "items.parquet")
    Description("families", posters="posters").write(folder)
    return folder


def extracted(catalogue: Path, folder: Path, modality: str, **settings: Any) -> EmbeddingFile:
    models = {"text_model": None, "image_model": None} | {f"{modality}_model": str(folder)}
    how = {"device": "cpu", "precision": "fp32", "dtype": "float32", "batch_posters": 3, "batch_tokens": 64}
    out = folder.parent / f"{folder.name}.h5"
    extract(catalogue, out, Settings(**(models | how | settings)))
    return EmbeddingFile.open(out)


def built(family: Family, tmp_path: Path) -> Path:
    torch.manual_seed(sum(map(ord, family.name)))
    folder = tmp_path / "model"
    family.build(folder)
    return folder


def close(found: np.ndarray, expected: torch.Tensor) -> None:
    assert found.shape == tuple(expected.shape)
    assert np.abs(found - expected.float().numpy()).max(initial=0) <= EQUAL


# --- plain transformers -----------------------------------------------------------------------------------------------


def plain_model(family: Family, folder: Path) -> Any:
    with quiet_transformers():
        if "T5 encoder" in family.name:
            return hf.AutoModelForTextEncoding.from_pretrained(folder).eval()
        if family.name == "CLIP text model with projection":
            return hf.CLIPTextModelWithProjection.from_pretrained(folder).eval()
        if family.name == "DPR":
            return hf.DPRContextEncoder.from_pretrained(folder, output_hidden_states=True).eval()
        kind: Any = hf.HGNetV2Backbone if family.name == "HGNet V2" else hf.AutoModel
        model = kind.from_pretrained(folder).eval()
    if family.part:
        return getattr(model, family.part)
    return model.get_encoder().eval() if getattr(model.config, "is_encoder_decoder", False) else model


@torch.no_grad()
def plain_text(family: Family, folder: Path, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The vector (V,) and the tokens (T, D) of one text that is padded only where its authors say so."""
    model, tokenizer = plain_model(family, folder), hf.AutoTokenizer.from_pretrained(folder)
    found = tokenizer(text, return_tensors="pt", truncation=True, max_length=16 if "SigLIP" in family.name else 64)
    ids, length = found["input_ids"], found["input_ids"].shape[1]
    if "SigLIP" in family.name:
        ids = torch.nn.functional.pad(ids, (0, 16 - length))
    run = model.get_text_features if hasattr(model, "get_text_features") else model
    out = run(input_ids=ids)
    hidden = (out.hidden_states[-1] if family.name == "DPR" else out.last_hidden_state)[0, :length]
    own = getattr(out, "text_embeds", None)
    own = out.pooler_output if own is None and family.pooling in ("pooler", "projection") else own
    vectors = {"cls": hidden[0], "mean": hidden.mean(0), "last": hidden[-1]}
    vector = own[0] if family.pooling in ("pooler", "projection") else vectors[family.pooling or "cls"]
    return vector, hidden[1:] if family.cls else hidden


@torch.no_grad()
def plain_image(family: Family, folder: Path, poster: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The vector (V,) and the tokens (T, D) of one poster."""
    image = Image.open(poster).convert("RGB")
    if family.name == "SigLIP 2 NaFlex":
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    processor: Any = _FloatResizing.read(folder)
    with quiet_transformers():
        processor = processor or hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
        model = plain_model(family, folder)
    inputs = {
        key: torch.as_tensor(np.asarray(value)) for key, value in processor(images=image, return_tensors="np").items()
    }
    out = getattr(model, "vision_model", model)(**inputs)
    hidden = (out.feature_maps[-1] if family.name == "HGNet V2" else out.last_hidden_state)[0]
    own = getattr(out, "pooler_output", getattr(out, "cls_token_value", None))
    hidden = hidden.flatten(1).T if hidden.dim() == 3 else hidden  # (C, H, W) -> (H * W, C)
    front, end = family.dropped
    tokens = hidden[family.cls + front : len(hidden) - end]
    vectors = {"cls": hidden[0], "mean": tokens.mean(0), "pooler": None if own is None else own[0].flatten()}
    return vectors[family.pooling or "cls"], tokens


@pytest.mark.parametrize("family", [*TEXTS, *FURTHER_TEXTS], ids=lambda family: family.name)
def test_texts_equal_plain_transformers(family: Family, catalogue: Path, tmp_path: Path) -> None:
    folder = built(family, tmp_path)
    with extracted(catalogue, folder, "text") as file:
        assert (file.text.has_cls_position, file.text.fingerprint.get("pooling", "cls")) == (family.cls, family.pooling)
        for row, plot in enumerate(PLOTS):
            vector, tokens = plain_text(family, folder, plot)
            close(file.text.read_cls(row), vector)
            close(file.text.read_tokens(row), tokens)
        assert verify(file.path).complete


@pytest.mark.parametrize("family", SENTENCES, ids=lambda family: family.name)
def test_sentence_models_equal_sentence_transformers(family: Family, catalogue: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = built(family, tmp_path)
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    # E5's "passage": encode_document of sentence-transformers 6 overlooks it for its own empty "document"
    prompt = "passage" if "passage" in model.prompts else "document"
    expected = torch.from_numpy(model.encode(PLOTS, prompt_name=prompt, batch_size=1))
    with extracted(catalogue, folder, "text") as file:
        close(file.text.cls, expected)
        assert file.text.has_cls_position == family.cls
        # tokens stay all hidden states, whatever is pooled
        tokens = model.encode(PLOTS[:1], prompt_name=prompt, output_value="token_embeddings")[0].clone()
        close(file.text.read_tokens(0), tokens[1:] if family.cls else tokens)


@pytest.mark.parametrize("family", [*IMAGES, *FURTHER_IMAGES], ids=lambda family: family.name)
def test_images_equal_plain_transformers(family: Family, catalogue: Path, tmp_path: Path) -> None:
    folder = built(family, tmp_path)
    if family.refusal:
        with pytest.raises(BadInput, match=family.refusal) as refusal:
            extracted(catalogue, folder, "image")
        assert "\n" not in str(refusal.value)
        return
    with extracted(catalogue, folder, "image") as file:
        pooling = file.image.fingerprint.get("pooling", "cls")
        assert (file.image.has_cls_position, pooling) == (family.cls, family.pooling)
        for row in range(len(SIZES)):
            vector, tokens = plain_image(family, folder, catalogue / "posters" / f"{row}.png")
            close(file.image.read_cls(row), vector)
            close(file.image.read_tokens(row), tokens)
        assert verify(file.path).complete


def test_one_clip_for_both_modalities_gives_one_space(catalogue: Path, tmp_path: Path) -> None:
    build_clip(tmp_path / "model", transformers=5)
    with extracted(catalogue, tmp_path / "model", "text", image_model=str(tmp_path / "model")) as file:
        model = hf.CLIPModel.from_pretrained(tmp_path / "model").eval()
        assert (file.text.width, file.image.width, file.image.token_width) == (24, 24, 32)
        tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "model")
        processor = hf.AutoImageProcessor.from_pretrained(tmp_path / "model", backend="pil")
        with torch.no_grad():
            texts = model.get_text_features(**tokenizer(PLOTS[0], return_tensors="pt")).pooler_output
            picture = Image.open(catalogue / "posters" / "0.png").convert("RGB")
            images = model.get_image_features(**processor(images=picture, return_tensors="pt")).pooler_output
        close(file.text.read_cls(0), texts[0])
        close(file.image.read_cls(0), images[0])


@pytest.mark.parametrize("mode", ["mean", "max", "cls+mean"])
def test_pooling_can_be_chosen(mode: str, catalogue: Path, tmp_path: Path) -> None:
    folder = built(SENTENCES[0], tmp_path)
    with extracted(catalogue, folder, "text", text_pooling=mode) as file:
        cls = extracted_cls(catalogue, folder)
        hidden = np.concatenate((cls.read_cls(0)[None], file.text.read_tokens(0)))
        vectors = {"cls": hidden[0], "mean": hidden.mean(0), "max": hidden.max(0)}
        expected = np.concatenate([vectors[part] for part in mode.split("+")])
        assert np.abs(file.text.read_cls(0) - expected).max() <= EQUAL
        assert file.text.fingerprint["pooling"] == mode
        assert "normalized" not in file.text.fingerprint


def extracted_cls(catalogue: Path, folder: Path) -> Any:
    """The text of the same model with its CLS as the vector: a file of version 1, and of no pooling."""
    (folder.parent / f"{folder.name}.h5").rename(folder.parent / "other.h5")
    file = extracted(catalogue, folder, "text", text_pooling="cls")
    assert "pooling" not in file.text.fingerprint
    assert file.path.read_bytes().startswith(b"CINEFUSE 001")
    return file.text


BY_NAME = {family.name: family for family in [*TEXTS, *FURTHER_TEXTS, *IMAGES, *FURTHER_IMAGES]}


@pytest.mark.parametrize(
    "name",
    [
        "BERT", "Longformer", "LED", "AltCLIP, text tower", "LLaVA, language model", "ViT", "SAM, image encoder", "DPR",
        # whose layers do not hand their states on as they are
        "ALBERT", "SqueezeBERT", "XLNet", "XLM", "FlauBERT", "YOLOS",
    ],
)  # fmt: skip
def test_a_layer_equals_the_hidden_state_behind_it(name: str, catalogue: Path, tmp_path: Path) -> None:
    """Also where it is wider than what the model gives in the end, or padded to whole windows."""
    family, folder = BY_NAME[name], built(BY_NAME[name], tmp_path)
    model = plain_model(family, folder)
    if family.modality == "text":
        model = getattr(model, "text_model", model)
        inputs = {"input_ids": hf.AutoTokenizer.from_pretrained(folder)(PLOTS[0], return_tensors="pt")["input_ids"]}
    else:
        picture = Image.open(catalogue / "posters" / "0.png").convert("RGB")
        inputs = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")(images=picture, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs, output_hidden_states=True).hidden_states[1][0]
    expected = expected.flatten(0, -2)  # (T, D), of a feature map (H * W, D)
    front, end = family.dropped
    expected = expected[family.cls + front : len(expected) - end]
    with extracted(catalogue, folder, family.modality, **{f"{family.modality}_layer": 1}) as file:
        close(file[family.modality].read_tokens(0), expected)


def test_layers_that_neither_modules_nor_states_show_are_refused(catalogue: Path, tmp_path: Path) -> None:
    """EfficientNet counts 64 layers, and returns the states behind its blocks, which are fewer."""
    with pytest.raises(BadInput, match="cannot be distinguished; leave out --image-layer"):
        extracted(catalogue, built(BY_NAME["EfficientNet"], tmp_path), "image", image_layer=1)


class _Shuffled(torch.nn.Module):
    """A model that returns its hidden states in another order."""

    def __init__(self, model: torch.nn.Module, order: list[int]) -> None:
        super().__init__()
        self.model, self.order = model, order

    def forward(self, **inputs: Any) -> Any:
        out = self.model(**inputs)
        out.hidden_states = tuple(out.hidden_states[place] for place in self.order)
        return out


@pytest.mark.parametrize("order", [[0, 2, 1], [0, 0, 2], [0, 1], [0, 1, 1, 2]])
@pytest.mark.parametrize("name", ["SqueezeBERT", "ALBERT"])
@torch.no_grad()
def test_states_that_a_model_returns_are_proven_to_be_those_of_its_layers(
    name: str, order: list[int], tmp_path: Path
) -> None:
    model = hf.AutoModel.from_pretrained(built(BY_NAME[name], tmp_path)).eval()
    inputs = {"input_ids": torch.tensor([[2, 7, 9, 3]])}
    expected = model(**inputs, output_hidden_states=True).hidden_states[1]
    found = LayerState(name, "alone", _Shuffled(model, [0, 1, 2]), "text", 1, depth=2)(inputs).hidden
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(BadInput, match="cannot be distinguished"):
        LayerState(name, "alone", _Shuffled(model, order), "text", 1, depth=2)(inputs)


@torch.no_grad()
def test_a_text_that_is_too_short_for_its_model_is_padded(tmp_path: Path) -> None:
    """CANINE takes four characters into one, and fails where there are fewer."""
    model = small("canine")().eval()
    save(model, tmp_path / "model", tokenizer=tokenizer(**BERT_LIKE))
    source = ModelSource.resolve(str(tmp_path / "model"), None, weights=True, modality="text")
    encoder = TextEncoder.load(source, device="cpu", precision="fp32", layer=None)
    ids = torch.tensor([[2, 7, 3, 0]])
    expected = model(input_ids=ids, attention_mask=(torch.arange(4) < 3).long()[None]).last_hidden_state[0, :3]
    with pytest.raises(RuntimeError):
        model(input_ids=ids[:, :3])
    close(encoder.encode(ids[:, :3].numpy().astype(np.int32), np.array([3]))[0, :3].numpy(), expected)


@pytest.mark.parametrize(
    ("name", "longest"),
    [("BERT", 80), ("RoBERTa", 79), ("CLAP, text tower", 79), ("AltCLIP, text tower", 79), ("OPT", 80)],
)
def test_no_text_is_longer_than_the_table_of_positions(
    name: str, longest: int, catalogue: Path, tmp_path: Path
) -> None:
    """Those that count from behind their padding id (0 here) read a token less."""
    folder = built(BY_NAME[name], tmp_path)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder, model_max_length=1000)
    tokenizer.save_pretrained(folder)
    words = " ".join(WORDS * 5)
    items = pl.read_parquet(catalogue / "items.parquet").with_columns(
        text=pl.lit(words), poster=pl.lit(None, pl.String)
    )
    (tmp_path / "long").mkdir()
    items.write_parquet(tmp_path / "long" / "items.parquet")
    Description("long").write(tmp_path / "long")
    with extracted(tmp_path / "long", folder, "text") as file:
        assert len(file.text.read_tokens(0)) + file.text.has_cls_position == longest


def table_of_families() -> list[list[str]]:
    rows = []
    for family in [*TEXTS, *FURTHER_TEXTS, *SENTENCES, *IMAGES, *FURTHER_IMAGES]:
        tokens = "all but CLS" if family.cls else "all positions"
        if family.modality == "image":
            tokens = "patches" if family.cls else "patches or feature map"
        vector = f"refused: {family.refusal}" if family.refusal else str(family.pooling)
        rows.append([family.name, family.modality, vector, tokens, family.path, family.example])
    return rows


def test_the_docs_and_the_command_list_the_families_that_are_tested() -> None:
    page, rows = ROOT / "docs" / "encoders.md", table_of_families()
    head = ["| family | of | vector | tokens | how | for example |", "|---|---|---|---|---|---|"]
    table = "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
    readable = [row for row in rows if not row[2].startswith("refused")]
    if os.environ.get("CINEFUSE_WRITE_DOCS"):
        before, rest = page.read_text().split("<!-- families: begin -->\n")
        after = rest.split("<!-- families: end -->")[1]
        page.write_text(f"{before}<!-- families: begin -->\n{table}<!-- families: end -->{after}")
        first = f"# transformers {hf.__version__}"
        LISTED.write_text("\n".join([first, *("\t".join(row) for row in readable)]) + "\n")
    assert table in page.read_text(), "run this test with CINEFUSE_WRITE_DOCS=1"
    assert families_table() == readable
    assert transformers_version().startswith("transformers ")
