"""Where a model's files are found, what it is called, and what its hashes are over."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, CLIPConfig, Dinov2Config, PreTrainedTokenizerFast, ViTConfig

from cinefuse.data.runtime.errors import BadInput
from cinefuse.extract.models.sizes import patch_grid
from cinefuse.extract.models.source import ModelSource

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"not read here, only hashed"
PIXELS = {"do_resize": True, "size": {"height": 224, "width": 224}, "image_mean": [0.5, 0.5, 0.5]}


def write_tokenizer(folder: Path, cls_first: bool = True) -> None:
    words = {word: number for number, word in enumerate(("[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "b"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if cls_first:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def model_folder(folder: Path, config: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (config or BertConfig(num_hidden_layers=3, hidden_size=36)).save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache that holds org/name at one commit, and no network."""
    repository = tmp_path / "hub" / "models--org--name"
    write_tokenizer(model_folder(repository / "snapshots" / COMMIT))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return repository


def one_line(refusal: pytest.ExceptionInfo[BadInput]) -> bool:
    return "\n" not in str(refusal.value)


def test_a_local_folder_goes_by_its_own_name_and_has_no_revision(tmp_path):
    source = ModelSource.resolve(str(model_folder(tmp_path / "tiny-bert")), revision=None, weights=True)
    assert (source.name, source.revision) == ("tiny-bert", None)
    assert str(tmp_path) not in source.name
    assert (source.num_layers, source.width) == (3, 36)


def test_a_folder_of_the_hubs_cache_is_the_model_that_it_is_a_copy_of(hub, tmp_path):
    by_id = ModelSource.resolve("org/name", None, weights=True)
    by_path = ModelSource.resolve(str(hub / "snapshots" / COMMIT), None, weights=True)
    assert (by_path.name, by_path.revision) == (by_id.name, by_id.revision) == ("org/name", COMMIT)
    (tmp_path / "here").symlink_to(hub / "snapshots" / COMMIT)
    assert ModelSource.resolve("here", None, weights=True).name == "org/name"
    elsewhere = model_folder(tmp_path / "models--org--name" / "kept" / COMMIT)
    assert ModelSource.resolve(str(elsewhere), None, weights=False).name == COMMIT


def test_a_local_folder_wins_over_a_hub_id(hub, tmp_path):
    model_folder(tmp_path / "org" / "name")
    assert ModelSource.resolve("org/name", None, weights=False).revision is None


def test_a_local_folder_with_a_revision_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no revisions"):
        ModelSource.resolve(str(model_folder(tmp_path / "m")), revision="main", weights=False)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_an_offline_hub_id_resolves_to_the_cached_commit(hub, revision):
    source = ModelSource.resolve("org/name", revision, weights=True)
    assert (source.name, source.revision) == ("org/name", COMMIT)
    assert source.weights_sha256() == hashlib.sha256(WEIGHTS).hexdigest()


def test_the_offline_environment_variable_is_honoured(hub, tmp_path):
    code = (
        "import sys; from cinefuse.extract.models.source import ModelSource; assert 'torch' not in sys.modules;"
        "print(ModelSource.resolve('org/name', None, True).revision); assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == COMMIT


@pytest.mark.parametrize("model", ["org/absent", "./no/such/folder", "org/name/more", "bad id"])
def test_what_is_neither_folder_nor_cached_is_refused_by_name(hub, model):
    with pytest.raises(BadInput, match="no such folder") as refusal:
        ModelSource.resolve(model, None, weights=False)
    assert model in str(refusal.value)
    assert one_line(refusal)


def test_an_absent_revision_is_refused_by_name(hub):
    with pytest.raises(BadInput, match="revision v9") as refusal:
        ModelSource.resolve("org/name", "v9", weights=False)
    assert one_line(refusal)


def test_a_folder_without_a_readable_config_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no config\.json"):
        ModelSource.resolve(str(tmp_path), None, weights=False)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json cannot be read"):
        ModelSource.resolve(str(tmp_path), None, weights=False)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(BadInput, match="not a JSON object"):
        ModelSource.resolve(str(tmp_path), None, weights=False)
    (tmp_path / "config.json").write_text('{"model_type": "nothing known"}')
    with pytest.raises(BadInput, match="nothing known"):
        _ = ModelSource.resolve(str(tmp_path), None, weights=False).width


def test_pickle_checkpoints_are_refused_and_conversion_explained(tmp_path):
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    ModelSource.resolve(str(folder), None, weights=False)
    with pytest.raises(BadInput, match=r"never read.*convert it"):
        ModelSource.resolve(str(folder), None, weights=True)


def sharded(folder: Path) -> Path:
    model_folder(folder)
    (folder / "model.safetensors").unlink()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for number, name in enumerate(names):
        (folder / name).write_bytes(bytes([number]))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"b": names[1], "a": names[0]}}))
    return folder


def test_shards_hash_to_one_digest_over_their_sorted_names(tmp_path):
    source = ModelSource.resolve(str(sharded(tmp_path / "m")), None, weights=True)
    listing = "".join(
        f"model-0000{number + 1}-of-00002.safetensors {hashlib.sha256(bytes([number])).hexdigest()}\n"
        for number in (0, 1)
    )
    assert source.weights_sha256() == hashlib.sha256(listing.encode()).hexdigest()


def test_a_missing_shard_is_refused(tmp_path):
    folder = sharded(tmp_path / "m")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model-00002-of-00002.*missing"):
        ModelSource.resolve(str(folder), None, weights=True)


def test_a_shard_outside_the_folder_is_refused(tmp_path):
    folder = sharded(tmp_path / "m")
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../outside.safetensors"}}')
    with pytest.raises(BadInput, match="missing"):
        ModelSource.resolve(str(folder), None, weights=True)


def test_the_text_digest_follows_the_tokenizer_and_nothing_else(tmp_path):
    folder = model_folder(tmp_path / "m")
    source = ModelSource.resolve(str(folder), None, weights=False)
    with pytest.raises(BadInput, match="no tokenizer files"):
        source.preprocessing_sha256("text")
    write_tokenizer(folder)
    before = source.preprocessing_sha256("text")
    (folder / "README.md").write_text("hello")
    assert source.preprocessing_sha256("text") == before
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")
    assert source.preprocessing_sha256("text") != before


def test_the_image_digest_follows_the_settings_not_their_order_or_authorship(tmp_path):
    folder = model_folder(tmp_path / "m", ViTConfig())
    source = ModelSource.resolve(str(folder), None, weights=False)
    with pytest.raises(BadInput, match=r"no preprocessor_config\.json"):
        source.processor_config()

    def digest(settings: dict[str, object]) -> str:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=4))
        return source.preprocessing_sha256("image")

    assert digest(PIXELS) == digest({"processor_class": "X", **dict(reversed(PIXELS.items()))})
    assert digest(PIXELS) != digest({**PIXELS, "image_mean": [0.5, 0.5, 0.4]})


def test_tokenizers_with_and_without_a_cls_are_read(tmp_path):
    folder = model_folder(tmp_path / "m")
    write_tokenizer(folder)
    source = ModelSource.resolve(str(folder), None, weights=False)
    assert source.tokenizer()("a b")["input_ids"] == [1, 4, 5, 2]
    write_tokenizer(folder, cls_first=False)
    assert source.tokenizer()("a b")["input_ids"] == [4, 5]


def test_the_patch_grid_comes_from_the_configuration_alone(tmp_path):
    vit = ModelSource.resolve(str(model_folder(tmp_path / "vit", ViTConfig())), None, weights=False)
    assert (patch_grid(vit), vit.width) == ((14, 14), 768)
    with pytest.raises(BadInput, match=r"224 x 224 pixels.*256 x 256"):
        patch_grid(vit, (256, 256))
    clip = CLIPConfig(vision_config={"hidden_size": 48, "num_hidden_layers": 2, "patch_size": 32})
    tower = ModelSource.resolve(str(model_folder(tmp_path / "clip", clip)), None, weights=False)
    assert (patch_grid(tower), tower.width, tower.num_layers) == ((7, 7), 48, 2)


def test_dinov2_takes_any_size_that_holds_whole_patches(tmp_path):
    config = Dinov2Config(image_size=518, patch_size=14)
    source = ModelSource.resolve(str(model_folder(tmp_path / "dinov2", config)), None, weights=False)
    assert (patch_grid(source), patch_grid(source, (224, 336))) == ((37, 37), (16, 24))
    with pytest.raises(BadInput, match="hold no patch"):
        patch_grid(source, (7, 224))


def test_a_text_model_has_no_patch_grid(tmp_path):
    source = ModelSource.resolve(str(model_folder(tmp_path / "m")), None, weights=False)
    with pytest.raises(BadInput, match="not a ViT-like image model"):
        patch_grid(source)
