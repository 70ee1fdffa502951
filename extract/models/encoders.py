"""Frozen Hugging Face text and image encoders: token ids or pixels in, one vector per token or patch out.

Which positions they have and how an input becomes its vector is found in `structure.py`, without the weights.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import torch
from torch import nn

from ...data.runtime.errors import BadInput, CinefuseError, UsageError
from ...device import Precision, one_thread, resolve_device
from . import packed
from .pooling import Layers, Pooling, pooled
from .source import first_line, patch_size
from .structure import Structure, built, channels_last, image_structure, is_causal, model_class, own_vector, run_tower
from .transformers_log import quiet_transformers as quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from .source import Modality, ModelSource


_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# of a product of fewer rows than this, two threads may add up in another order than one
_FEWEST_FOR_THREADS = 16
_TRIED_LENGTHS = (7, 40)
# of a text's hidden states, padded against unpadded, as a share of their length: rounding, and nothing else
_MOST_APART = {torch.float32: 1e-4, torch.bfloat16: 0.03}
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


@dataclass(frozen=True)
class Embedded:
    """A batch behind its encoder: ``hidden`` (B, P, D) on the device, of which the first ``skip`` are no tokens.

    ``vectors`` (B, V) are the inputs' vectors; None: they are the first position.
    """

    hidden: torch.Tensor
    vectors: torch.Tensor | None
    skip: int

    @classmethod
    def joined(cls, parts: Sequence[Embedded]) -> Embedded:
        """Several batches as one, padded to the longest."""
        longest = max(part.hidden.shape[1] for part in parts)
        hidden = [nn.functional.pad(part.hidden, (0, 0, 0, longest - part.hidden.shape[1])) for part in parts]
        vectors = [part.vectors for part in parts if part.vectors is not None]
        return cls(torch.cat(hidden), torch.cat(vectors) if vectors else None, parts[0].skip)


class TextEncoder:
    """A frozen text encoder. ``width`` is the length of one token's vector.

    ``pads`` False: padding would change its hidden states, so that only texts of one length share a batch.
    """

    def __init__(self, trunk: _Trunk, structure: Structure, layers: Layers, prompt_length: int = 0) -> None:
        self.width = structure.token_width
        self.structure = structure
        self.pads = not trunk.switches  # whose attention depends on the length of what it is given
        self._trunk = trunk
        self._layers = layers
        self._prompt_length = prompt_length

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        device: str,
        precision: Precision,
        layer: int | None,
        compile: bool = False,  # noqa: A002 - named after the option
        structure: Structure | None = None,
        prompt_length: int = 0,
    ) -> TextEncoder:
        """Loads weights from safetensors straight into ``precision`` on ``device``.

        ``layer`` None gives the model's own last hidden state; k in 1..L, or -L..-1 from the end, the raw output of
        encoder layer k, without running the later ones. ``structure`` says how it is run and pooled; by default it is
        a BERT-like model whose CLS is the vector. Raises BadInput where the model is no text encoder or its
        checkpoint lacks weights, UsageError for a device or layer that does not exist.
        """
        if structure is None:
            structure = _plain_structure(source, "text")
        trunk = _Trunk.load(source, "text", device, precision, layer, compile, structure)
        encoder = cls(trunk, structure, Layers(structure.pooling, source.name, trunk.device), prompt_length)
        encoder.try_out(source)
        return encoder

    @torch.inference_mode()
    def encode(self, input_ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.integer[Any]]) -> torch.Tensor:
        """Token ids (B, T), padded behind each row's ``lengths`` (B,) -> (B, T, D) on the device.

        Vectors behind a row's length are meaningless. The host does not wait for the device.
        """
        return self.embed(input_ids, lengths).hidden

    @torch.inference_mode()
    def embed(self, input_ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.integer[Any]]) -> Embedded:
        """As `encode`, with the vector of each text."""
        if not self.pads and len(set(lengths.tolist())) > 1:
            return self._embed_by_length(input_ids, lengths)
        if self.structure.fixed_length is not None:
            return self._embed_at_fixed_length(input_ids, lengths)
        tokens = input_ids.shape[1]
        ids = self._trunk.send(torch.from_numpy(input_ids)).long()
        padded = not bool((lengths == tokens).all())
        with one_thread() if input_ids.size < _FEWEST_FOR_THREADS else nullcontext():
            mask = None
            if padded:
                ends = self._trunk.send(torch.from_numpy(np.asarray(lengths, np.int64)))
                mask = torch.arange(tokens, device=ids.device) < ends[:, None]
            inputs = {"input_ids": ids} | ({} if mask is None else {"attention_mask": self._trunk.mask(mask)})
            hidden, own = self._trunk(**inputs)
            if self.structure.pooling.is_cls and self.structure.has_cls:
                return Embedded(hidden, None, 1)
            if mask is None:
                mask = torch.ones(ids.shape, dtype=torch.bool, device=ids.device)
            vectors = self._layers(pooled(self.structure.pooling, hidden, mask, own, self._prompt_length))
            return Embedded(hidden, vectors, int(self.structure.has_cls))

    def _embed_at_fixed_length(
        self, input_ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.integer[Any]]
    ) -> Embedded:
        """Texts that are all padded to one length, and read with their padding, as the model was trained."""
        structure = self.structure
        wide = max(structure.fixed_length or 0, input_ids.shape[1])
        padded = np.full((len(input_ids), wide), structure.pad_id, np.int32)
        padded[:, : input_ids.shape[1]] = input_ids
        padded[np.arange(wide) >= lengths[:, None]] = structure.pad_id
        ids = self._trunk.send(torch.from_numpy(padded)).long()
        hidden, own = self._trunk(input_ids=ids)
        mask = torch.from_numpy(np.arange(wide) < lengths[:, None]).to(hidden.device)
        return Embedded(hidden, self._layers(pooled(structure.pooling, hidden, mask, own)), int(structure.has_cls))

    def _embed_by_length(self, input_ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.integer[Any]]) -> Embedded:
        """Texts of one length at a time, none of them padded; back in the order in which they came."""
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        groups = np.split(order, cuts)
        parts = [self.embed(np.ascontiguousarray(input_ids[g, : int(lengths[g[0]])]), lengths[g]) for g in groups]
        whole = Embedded.joined(parts)
        back = torch.from_numpy(np.argsort(order, kind="stable")).to(whole.hidden.device)
        vectors = None if whole.vectors is None else whole.vectors[back]
        return Embedded(whole.hidden[back], vectors, whole.skip)

    def notes(self, source: ModelSource) -> list[str]:
        """Lines that a user should see: weights without use, texts that share no batch."""
        return _notes(source, self._trunk, self.pads)

    def try_out(self, source: ModelSource) -> None:
        """Runs two short texts, and finds out whether padding changes what they give; sets ``pads``.

        Raises BadInput in one line where the model fails.
        """
        vocabulary = max(2, int(getattr(source.settings, "vocab_size", 0) or 2))
        chance = np.random.default_rng(0)
        short, long = _TRIED_LENGTHS
        long = max(2, min(long, source.max_positions))
        short = min(short, long // 2)
        ids = chance.integers(min(5, vocabulary - 1), vocabulary, (2, long), dtype=np.int64).astype(np.int32)
        try:
            alone = self.embed(np.ascontiguousarray(ids[:1, :short]), np.array([short]))
            self.embed(np.ascontiguousarray(ids), np.array([long, long]))
        except Exception as error:
            _refuse_failing(source.name, error)
        if self.structure.fixed_length is not None or not self.pads:
            return
        try:
            padded = self.embed(ids, np.array([short, long]))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.pads = False  # a model that takes no mask
            return
        pairs = [(alone.hidden[0], padded.hidden[0, :short])]
        if alone.vectors is not None and padded.vectors is not None:
            pairs.append((alone.vectors[0], padded.vectors[0]))
        most = _MOST_APART[self._trunk.dtype]
        self.pads = all(_apart(one, other) <= most for one, other in pairs)


class ImageEncoder:
    """A frozen image encoder over ``grid`` (rows, columns) = ``patches`` patches, each a vector of ``width``."""

    def __init__(
        self,
        trunk: _Trunk,
        structure: Structure,
        layers: Layers,
        mean: Sequence[float],
        std: Sequence[float],
        rescale_factor: float,
    ) -> None:
        self.width = structure.token_width
        self.structure = structure
        self.grid = structure.grid
        self.patches = structure.tokens
        self._trunk = trunk
        self._layers = layers
        self._mean = torch.tensor(mean, dtype=torch.float32, device=trunk.device).view(1, -1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32, device=trunk.device).view(1, -1, 1, 1)
        self._rescale_factor = rescale_factor

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        rescale_factor: float = 1.0,
        device: str,
        precision: Precision,
        layer: int | None,
        compile: bool = False,  # noqa: A002 - named after the option
        pixels: tuple[int, int] | None = None,
        structure: Structure | None = None,
    ) -> ImageEncoder:
        """As ``TextEncoder.load``. A pixel enters the model as ``(value * rescale_factor - mean) / std`` per channel.

        ``pixels`` is the (height, width) of every image, by default the size in the model's configuration.
        """
        if structure is None:
            structure = _plain_structure(source, "image", pixels)
        trunk = _Trunk.load(source, "image", device, precision, layer, compile, structure)
        return cls(trunk, structure, Layers(structure.pooling, source.name, trunk.device), mean, std, rescale_factor)

    def notes(self, source: ModelSource) -> list[str]:
        """Lines that a user should see: weights without use."""
        return _notes(source, self._trunk, pads=True)

    def try_out(self, source: ModelSource, run: Callable[[], Embedded]) -> None:
        """Encodes one image by ``run``, twice. Raises BadInput in one line where the model fails or draws by chance."""
        try:
            one, other = run(), run()
        except Exception as error:
            _refuse_failing(source.name, error)
        if _apart(one.hidden, other.hidden) > _MOST_APART[self._trunk.dtype]:
            raise BadInput(f"{source.name}: gives one image another result each time; choose an image encoder")

    @torch.inference_mode()
    def encode(self, pixels: npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """uint8 RGB (B, H, W, 3) -> (B, 1 + patches, D) on the device: CLS, then the patches row by row.

        Raises BadInput for images that do not give ``grid`` patches. The host does not wait for the device.
        """
        return self.embed(pixels).hidden

    @torch.inference_mode()
    def embed(self, pixels: npt.NDArray[np.uint8] | torch.Tensor) -> Embedded:
        """As `encode`, with the vector of each image; without a CLS, ``hidden`` has the patches alone."""
        sent = self._trunk.send(pixels if isinstance(pixels, torch.Tensor) else torch.from_numpy(pixels))
        values = sent.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)  # (B, 3, H, W)
        values = values.mul_(self._rescale_factor).sub_(self._mean).div_(self._std)
        return self._embed({"pixel_values": values})

    @torch.inference_mode()
    def embed_inputs(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Embedded:
        """As `embed`, of what an image processor of transformers made: each (B, ...)."""
        return self._embed({key: self._trunk.send(torch.from_numpy(value)) for key, value in inputs.items()})

    def _embed(self, inputs: Mapping[str, torch.Tensor]) -> Embedded:
        dtype = self._trunk.dtype
        hidden, own = self._trunk(
            **{key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
        )
        structure = self.structure
        if hidden.dim() == 4:
            flat = hidden.flatten(1, 2) if channels_last(hidden, own) else hidden.flatten(2).transpose(1, 2)
            hidden = flat  # (B, H * W, C)
        positions = hidden.shape[1]
        expected = structure.has_cls + structure.front + structure.tokens + structure.end
        if positions != expected:
            size = " x ".join(map(str, inputs["pixel_values"].shape[2:]))
            few = "fewer" if positions < expected else "more"
            raise BadInput(f"{size} pixels give {few} than {self.patches} patches")
        if structure.front or structure.end:
            first = structure.has_cls + structure.front
            patches = hidden[:, first : first + structure.tokens]
            hidden = torch.cat([hidden[:, :1], patches], dim=1) if structure.has_cls else patches
        if structure.pooling.is_cls and structure.has_cls:
            return Embedded(hidden, None, 1)
        skip = int(structure.has_cls)
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        if skip and "cls" not in structure.pooling.modes:
            mask[:, 0] = False  # the mean of an image is that of its patches
        return Embedded(hidden, self._layers(pooled(structure.pooling, hidden, mask, own)), skip)


def _notes(source: ModelSource, trunk: _Trunk, pads: bool) -> list[str]:
    lines = []
    unused = getattr(trunk._model, "unused_weights", [])
    if unused:
        lines.append(f"{source.name}: {len(unused)} weights of its checkpoint are not used, such as {unused[0]}")
    if not pads:
        lines.append(f"{source.name}: padding would change its texts, so that only texts of one length share a batch")
    return lines


class _Trunk:
    """A loaded model cut off after the wanted layer, on its device."""

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        last_layer: nn.Module | None,
        freed: packed.FreedMemory | None,
        run: Callable[..., Any],
        name: str,
    ) -> None:
        self._name = name
        self.device = device
        self.dtype = dtype
        self._model = model
        self._freed = freed
        self._run = run
        self.switches = getattr(model.config, "attention_type", None) == "block_sparse"
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
    ) -> _Trunk:
        target, dtype = resolve_device(device), _DTYPES[precision]
        _, model_type, settings = model_class(source, modality, structure.pooling)
        settings = deepcopy(settings)
        depth = source.num_layers if layer is not None else 0
        if layer is not None:
            number = _layer_number(layer, depth, source.name)
            if structure.tower in ("alone", "projected"):
                settings.num_hidden_layers = depth = number
        packed.register_attention()
        packed.keep_few_compiled_products()
        model = _load_model(source, model_type, settings, dtype, structure)
        last_layer = None if layer is None else _last_layer(model, depth, number, source.name)
        packs = not compiled and packed.can_pack(target, dtype)
        if packs:
            packed.pack(model)
        model.to(target)
        freed = packed.FreedMemory() if packs else None
        run = partial(run_tower, structure.tower, model, modality)
        trunk = cls(model, target, dtype, last_layer, freed, run, source.name)
        if compiled:
            model.compile(dynamic=True)
        return trunk

    def __call__(self, **inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The hidden states, and what the model itself pooled."""
        if self.switches:
            # a short text turns its sparse attention off for good
            model: Any = self._model
            model.set_attention_type(model.config.attention_type)
        with full_float32() if self.dtype == torch.float32 else nullcontext():
            try:
                out = self._run(inputs)
            except Exception as error:  # of the model's own code: an input that it does not survive
                _refuse_failing(self._name, error)
        hidden: torch.Tensor = out.last_hidden_state
        if self._raw is not None:
            hidden, self._raw = self._raw, None
        if self._freed is not None:
            self._freed.after_batch()
        return hidden, own_vector(out)

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


def _load_model(
    source: ModelSource, model_class: Any, settings: Any, dtype: torch.dtype, structure: Structure
) -> nn.Module:
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters and structure.has_cls:
        options["add_pooling_layer"] = "pooler" in structure.pooling.modes
    source.weight_files()
    # models that know no attention functions but their own
    attentions = [packed.ATTENTION, "sdpa"] if model_class._supports_sdpa else []
    if structure.tower not in ("alone", "projected"):
        attentions = attentions[1:]
    for attention in [*attentions, "eager"]:
        try:
            with quiet_transformers():
                model, report = model_class.from_pretrained(
                    source.folder,
                    config=deepcopy(settings),
                    dtype=dtype,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                    attn_implementation=attention,
                    **options,
                )
            break
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if attention == "eager" or not _is_about_attention(error):
                source.refuse_remote_code()
                why = first_line(error)
                raise BadInput(f"{source.name}: its weights cannot be loaded: {why}; fetch it again") from error
    _refuse_gaps(source, report, structure)
    model.eval().requires_grad_(requires_grad=False)
    _drop_other_tower(model, source, structure)
    model.unused_weights = _unused(report, structure)
    return cast("nn.Module", model)


def _is_about_attention(error: Exception) -> bool:
    words = str(error).lower()
    return packed.ATTENTION in words or "attn_implementation" in words or "sdpa" in words


def _drop_other_tower(model: nn.Module, source: ModelSource, structure: Structure) -> None:
    """Give back the memory of the tower, or the decoder, that is never run."""
    others = []
    if structure.tower == "features":
        others = ["vision_model"] if source.modality == "text" else ["text_model"]
    if structure.tower == "encoder":
        others = ["decoder"]
    for name in others:
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, None)


def _refuse_gaps(source: ModelSource, report: Any, structure: Structure) -> None:
    """Weights that the checkpoint lacks would be random. A mask token is never used here, a pooler seldom."""
    asks_pooler = {"pooler", "projection"} & set(structure.pooling.modes)
    missing = [
        key for key in report["missing_keys"]
        if (asks_pooler or "pooler" not in key) and not key.endswith(("mask_token", "position_ids", "logit_scale"))
    ]  # fmt: skip
    if structure.tower == "encoder":
        missing = [key for key in missing if not key.startswith("decoder.")]
    mismatched = [key[0] for key in report.get("mismatched_keys", ())]
    broken = sorted(missing) + sorted(mismatched) + list(report.get("error_msgs", ()))
    if broken:
        source.refuse_remote_code()
        if source.has_two_towers and structure.tower == "alone":
            raise BadInput(
                f"{source.name}: a model of texts and images whose {source.modality} tower cannot be run by itself "
                f"({len(broken)} of its weights are elsewhere); give that tower's own model, or CLIP or SigLIP"
            )
        raise BadInput(
            f"{source.name}: its weights do not fit its config.json: {len(broken)} are missing or misshapen, "
            f"such as {broken[0]}; fetch the model again or choose another"
        )


_HEADS = (
    "cls.", "classifier", "lm_head", "head.", "qa_outputs", "vocab_", "generator", "discriminator", "decoder.",
    "pooler",     "text_model", "vision_model", "text_projection", "visual_projection", "logit_", "mlm", "fc.",
)  # fmt: skip


def _unused(report: Any, structure: Structure) -> list[str]:
    """Weights of the checkpoint that the model has no place for, heads of its training not among them."""
    unused = [str(key) for key in report.get("unexpected_keys", ())]
    return sorted(key for key in unused if not any(head in key for head in _HEADS) and "position_ids" not in key)


def _plain_structure(source: ModelSource, modality: Modality, pixels: tuple[int, int] | None = None) -> Structure:
    """The structure of a model whose CLS is its vector, as its configuration says it."""
    if source.modality is None:
        source = replace(source, modality=modality)
    pooling = Pooling(mode="cls")
    if modality == "image":
        grid = source.grid(pixels)
        height, width = pixels or tuple(side * patch for side, patch in zip(grid, patch_size(source), strict=True))
        return image_structure(source, {"pixel_values": torch.zeros(1, 3, height, width)}, pooling, None)
    tower, model = built(source, "text", pooling)
    if is_causal(source, model) or tower != "alone":
        raise BadInput(f"{source.name}: a decoder, whose first token sees nothing of the text; name a pooling for it")
    return Structure(tower, True, source.width, source.width, pooling)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far ``other`` is from ``one``, as a share of its length."""
    one, other = one.float(), other.float()
    if not bool(torch.isfinite(other).all() and torch.isfinite(one).all()):
        return 0.0 if bool(torch.isfinite(one).all()) == bool(torch.isfinite(other).all()) else float("inf")
    return float((one - other).norm() / one.norm().clamp(min=1e-12))


def _refuse_failing(name: str, error: Exception) -> NoReturn:
    if isinstance(error, CinefuseError) or is_out_of_memory(error):
        raise error
    raise BadInput(
        f"{name}: transformers cannot run it: {type(error).__name__}: {first_line(error)}; "
        "try --precision fp32, or choose another model"
    ) from error


def _last_layer(model: nn.Module, depth: int, number: int, name: str) -> nn.Module:
    """Encoder layer ``number`` of the ``depth`` there are: its output is raw, whatever norm the model applies to it."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and len({type(layer) for layer in module}) == 1:
            return module[number - 1]
    raise BadInput(f"{name}: its layers cannot be distinguished (shared weights); leave out --layer")
