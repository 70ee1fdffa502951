"""A loaded model cut off behind the wanted layer: what goes to its device, and the hidden states that come back."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...data.runtime.errors import BadInput
from ...device import Precision, resolve_device
from . import packed
from .failures import refuse_failing
from .probe import LayerState, first_tensor, layer_number
from .towers import Output, model_class, part, run_tower, without_cache
from .weights import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .source import Modality, ModelSource
    from .structure import Structure

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Trunk:
    """A loaded model cut off after the wanted layer, on its device."""

    def __init__(
        self,
        model: nn.Module,
        part: Any,
        device: torch.device,
        dtype: torch.dtype,
        last_layer: nn.Module | None,
        freed: packed.FreedMemory | None,
        run: Callable[..., Output],
        name: str,
    ) -> None:
        self._name = name
        self.device = device
        self.dtype = dtype
        self._model = model
        self._part = part  # of the model, what is run
        self._freed = freed
        self._run = run
        self.switches = getattr(part, "attention_type", None) == "block_sparse" and hasattr(part, "set_attention_type")
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
        structure: Structure,
    ) -> Trunk:
        target, dtype = resolve_device(device), _DTYPES[precision]
        _, model_type, settings = model_class(source, modality, structure.pooling)
        packed.register_attention()
        packed.keep_few_compiled_products()
        model = load_model(source, model_type, without_cache(settings), dtype, structure)
        last_layer = None
        if layer is not None and structure.layer_list:
            layers: Any = model.get_submodule(structure.layer_list)
            number = layer_number(layer, len(layers), source.name)
            last_layer = layers[number - 1]
            if structure.cuts:
                del layers[number:]
        packs = not compiled and packed.can_pack(target, dtype)
        if packs:
            packed.pack(model)
        model.to(target)
        freed = packed.FreedMemory() if packs else None
        run: Callable[..., Output] = partial(run_tower, structure.tower, model, modality)
        if layer is not None and not structure.layer_list:
            depth = source.num_layers
            number = layer_number(layer, depth, source.name)
            run = LayerState(source.name, structure.tower, model, modality, number, depth)
        trunk = cls(model, part(structure.tower, model), target, dtype, last_layer, freed, run, source.name)
        if compiled:
            model.compile(dynamic=True)
        return trunk

    def __call__(self, **inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The hidden states, and what the model itself pooled."""
        if self.switches:
            # a short text turns its sparse attention off for good
            self._part.set_attention_type("block_sparse")
        with full_float32() if self.dtype == torch.float32 else nullcontext():
            try:
                out = self._run(inputs)
            except Exception as error:  # of the model's own code: an input that it does not survive
                refuse_failing(self._name, error, self.dtype == torch.bfloat16)
        hidden, own = out.hidden, out.own
        if self._raw is not None:
            hidden, own, self._raw = self._raw, None, None
            if "input_ids" in inputs:  # some pad to a whole window of their attention
                hidden = hidden[:, : inputs["input_ids"].shape[1]]
        if hidden is None:
            raise BadInput(f"{self._name}: gives no hidden states; choose another model")
        if self._freed is not None:
            self._freed.after_batch()
        return hidden, own

    def mask(self, unpadded: torch.Tensor) -> torch.Tensor:
        """(B, T) boolean as this model takes it: our attention needs no more, others reckon with its numbers."""
        implementation = getattr(self._model.config, "_attn_implementation", None)
        return unpadded if implementation == packed.ATTENTION else unpadded.long()

    def send(self, values: torch.Tensor) -> torch.Tensor:
        """Host to device; to CUDA from page-locked memory, so that the host goes on at once."""
        if self.device.type == "cuda" and values.device.type == "cpu":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)

    def _keep_raw(self, _layer: nn.Module, _inputs: object, output: Any) -> None:
        self._raw = first_tensor(output)


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
