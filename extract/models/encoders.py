"""Frozen Hugging Face text and image encoders: token ids or pixels in, one vector per token or patch out.

Image families, after CLS (always first) come exactly the patch tokens in row order:

- ViT, BEiT, CLIP's vision tower, DINOv2: the sequence is [CLS, patches].
- DeiT: [CLS, distillation, patches]; the distillation token is dropped.
- DINOv2 with registers, DINOv3: [CLS, registers, patches]; the registers are dropped.
- Without a CLS token (SigLIP, Swin, I-JEPA), or masking patches at random (ViT-MAE): refused.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from ...data.runtime.errors import BadInput, UsageError
from ...device import Precision, one_thread, resolve_device
from . import packed
from .source import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from .source import Modality, ModelSource


_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# of a product of fewer rows than this, two threads may add up in another order than one
_FEWEST_FOR_THREADS = 16
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


class TextEncoder:
    """A frozen BERT-like model. ``width`` is the length of one token's vector."""

    def __init__(self, trunk: _Trunk, width: int) -> None:
        self.width = width
        self._trunk = trunk

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        device: str,
        precision: Precision,
        layer: int | None,
        compile: bool = False,  # noqa: A002 - named after the option
    ) -> TextEncoder:
        """Loads weights from safetensors straight into ``precision`` on ``device``.

        ``layer`` None gives the model's own last hidden state; k in 1..L, or -L..-1 from the end, the raw output of
        encoder layer k, without running the later ones. Raises BadInput where the model is no BERT-like encoder or its
        checkpoint lacks weights, UsageError for a device or layer that does not exist.
        """
        return cls(_Trunk.load(source, "text", device, precision, layer, compile), source.width)

    @torch.inference_mode()
    def encode(self, input_ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.integer[Any]]) -> torch.Tensor:
        """Token ids (B, T) with CLS first, padded behind each row's ``lengths`` (B,) -> (B, T, D) on the device.

        Vectors behind a row's length are meaningless. The host does not wait for the device.
        """
        tokens = input_ids.shape[1]
        ids = self._trunk.send(torch.from_numpy(input_ids)).long()
        with one_thread() if input_ids.size < _FEWEST_FOR_THREADS else nullcontext():
            if bool((lengths == tokens).all()):
                return self._trunk(input_ids=ids)
            ends = self._trunk.send(torch.from_numpy(np.asarray(lengths, np.int64)))
            unpadded = torch.arange(tokens, device=ids.device) < ends[:, None]
            return self._trunk(input_ids=ids, attention_mask=unpadded)


class ImageEncoder:
    """A frozen ViT-like model over ``grid`` (rows, columns) = ``patches`` patches, each a vector of ``width``."""

    def __init__(
        self,
        trunk: _Trunk,
        width: int,
        grid: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        rescale_factor: float,
    ) -> None:
        self.width = width
        self.grid = grid
        self.patches = grid[0] * grid[1]
        self._trunk = trunk
        self._mean = torch.tensor(mean, dtype=torch.float32, device=trunk.device).view(1, -1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32, device=trunk.device).view(1, -1, 1, 1)
        self._rescale_factor = rescale_factor

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        rescale_factor: float,
        device: str,
        precision: Precision,
        layer: int | None,
        compile: bool = False,  # noqa: A002 - named after the option
        pixels: tuple[int, int] | None = None,
    ) -> ImageEncoder:
        """As ``TextEncoder.load``. A pixel enters the model as ``(value * rescale_factor - mean) / std`` per channel.

        ``pixels`` is the (height, width) of every image, by default the size in the model's configuration.
        """
        grid = source.grid(pixels)
        trunk = _Trunk.load(source, "image", device, precision, layer, compile)
        return cls(trunk, source.width, grid, mean, std, rescale_factor)

    @torch.inference_mode()
    def encode(self, pixels: npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """uint8 RGB (B, H, W, 3) -> (B, 1 + patches, D) on the device: CLS, then the patches row by row.

        Raises BadInput for images that do not give ``grid`` patches. The host does not wait for the device.
        """
        sent = self._trunk.send(pixels if isinstance(pixels, torch.Tensor) else torch.from_numpy(pixels))
        values = sent.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)  # (B, 3, H, W)
        values = values.mul_(self._rescale_factor).sub_(self._mean).div_(self._std)
        hidden = self._trunk(pixel_values=values.to(self._trunk.dtype))  # (B, 1 + others + patches, D)
        if hidden.shape[1] < 1 + self.patches:
            raise BadInput(f"{pixels.shape[1]} x {pixels.shape[2]} pixels give fewer than {self.patches} patches")
        if hidden.shape[1] == 1 + self.patches:
            return hidden
        return torch.cat([hidden[:, :1], hidden[:, -self.patches :]], dim=1)


class _Trunk:
    """A loaded model cut off after the wanted layer, on its device."""

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        last_layer: nn.Module | None,
        freed: packed.FreedMemory | None,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self._model = model
        self._freed = freed
        self._raw: torch.Tensor | None = None
        if last_layer is not None:
            last_layer.register_forward_hook(self._keep_raw)

    @classmethod
    def load(
        cls,
        source: ModelSource,
        modality: Modality,
        device: str,
        precision: Precision,
        layer: int | None,
        compiled: bool,
    ) -> _Trunk:
        target, dtype = resolve_device(device), _DTYPES[precision]
        settings = deepcopy(source.settings)
        depth = source.num_layers
        if layer is not None:
            settings.num_hidden_layers = _layer_number(layer, depth, source.name)
        packed.register_attention()
        packed.keep_few_compiled_products()
        model = _load_model(source, settings, modality, dtype)
        last_layer = None if layer is None else _last_layer(model, settings.num_hidden_layers, source.name)
        packs = not compiled and packed.can_pack(target, dtype)
        if packs:
            packed.pack(model)
        model.to(target)
        trunk = cls(model, target, dtype, last_layer, packed.FreedMemory() if packs else None)
        if compiled:
            model.compile(dynamic=True)
        return trunk

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        with full_float32() if self.dtype == torch.float32 else nullcontext():
            hidden: torch.Tensor = self._model(**inputs, return_dict=True).last_hidden_state
        if self._raw is not None:
            hidden, self._raw = self._raw, None
        if self._freed is not None:
            self._freed.after_batch()
        return hidden

    def send(self, values: torch.Tensor) -> torch.Tensor:
        """Host to device; to CUDA from page-locked memory, so that the host goes on at once."""
        if self.device.type == "cuda" and values.device.type == "cpu":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)

    def _keep_raw(self, _layer: nn.Module, _inputs: object, output: Any) -> None:
        self._raw = output[0] if isinstance(output, tuple) else output


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute in float32 without TF32 or bfloat16 shortcuts inside, whatever the process allows outside."""
    cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.set_float32_matmul_precision(matmul)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a batch did not fit the device (or host) memory: a smaller batch may."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _layer_number(layer: int, depth: int, name: str) -> int:
    number = depth + 1 + layer if layer < 0 else layer
    if not 1 <= number <= depth:
        raise UsageError(f"--layer {layer}: {name} has {depth} layers; expected 1..{depth} or -{depth}..-1")
    return number


def _load_model(source: ModelSource, settings: Any, modality: Modality, dtype: torch.dtype) -> nn.Module:
    model_class = _model_class(source, settings, modality)
    options: dict[str, Any] = {"attn_implementation": packed.ATTENTION if model_class._supports_sdpa else "eager"}
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        options["add_pooling_layer"] = False
    source.weight_files()
    try:
        with quiet_transformers():
            model, report = model_class.from_pretrained(
                source.folder,
                config=settings,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise BadInput(f"{source.name}: its weights cannot be loaded: {first_line(error)}; fetch it again") from error
    _refuse_gaps(source.name, report)
    model.eval().requires_grad_(requires_grad=False)
    _refuse_without_cls(source.name, model, modality)
    return cast("nn.Module", model)


def _model_class(source: ModelSource, settings: Any, modality: Modality) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    wanted = "pixel_values" if modality == "image" else "input_ids"
    try:
        model_class = MODEL_MAPPING[type(settings)]
    except KeyError:
        model_class = None
    if model_class is None or getattr(model_class, "main_input_name", None) != wanted:
        like = "ViT-like image" if modality == "image" else "BERT-like text"
        raise BadInput(f"{source.name}: model type {source.model_type!r} is no {like} model; choose one that is")
    return model_class


def _refuse_gaps(name: str, report: Any) -> None:
    """Weights that the checkpoint lacks would be random. A mask token or pooler is never used here."""
    missing = [key for key in report["missing_keys"] if "pooler" not in key and not key.endswith("mask_token")]
    mismatched = [key[0] for key in report.get("mismatched_keys", ())]
    broken = sorted(missing) + sorted(mismatched) + list(report.get("error_msgs", ()))
    if broken:
        raise BadInput(
            f"{name}: its weights do not fit its config.json: {len(broken)} are missing or misshapen, "
            f"such as {broken[0]}; fetch the model again or choose another"
        )


def _refuse_without_cls(name: str, model: nn.Module, modality: Modality) -> None:
    config: Any = model.config
    if modality == "image":
        parameters = {key.rpartition(".")[2] for key, _ in model.named_parameters()}
        if not parameters & {"cls_token", "class_embedding"}:
            raise BadInput(f"{name}: an image model without a CLS token; choose ViT, DeiT, DINOv2, BEiT or CLIP")
        if getattr(config, "mask_ratio", None) is not None:
            raise BadInput(f"{name}: masks patches at random; choose ViT, DeiT, DINOv2, BEiT or CLIP")
    elif config.is_encoder_decoder or any(getattr(module, "is_causal", False) for module in model.modules()):
        raise BadInput(f"{name}: a decoder, whose first token sees nothing of the text; choose a BERT-like encoder")


def _last_layer(model: nn.Module, depth: int, name: str) -> nn.Module:
    """The last of the ``depth`` encoder layers: its output is raw, whatever norm the model applies after it."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and len({type(layer) for layer in module}) == 1:
            return module[-1]
    raise BadInput(f"{name}: its layers cannot be told apart (shared weights); leave out --layer")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar and no loading report: what matters of it is raised."""
    from transformers.utils import logging

    hub: Any = logging
    verbosity, bar = hub.get_verbosity(), hub.is_progress_bar_enabled()
    hub.set_verbosity(hub.CRITICAL)
    hub.disable_progress_bar()
    try:
        yield
    finally:
        hub.set_verbosity(verbosity)
        if bar:
            hub.enable_progress_bar()
