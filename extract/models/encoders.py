"""Frozen Hugging Face text and image encoders: token ids or pixels in, one vector per token or patch out.

Which positions they have and how an input becomes its vector is found in `structure.py`, without the weights.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...data.runtime.errors import BadInput
from ...device import Precision, one_thread
from .embedded import Embedded
from .failures import is_out_of_memory, refuse_failing
from .pooling import Layers, pooled
from .sizes import max_positions
from .structure import Structure, channels_last, cls_structure
from .trunk import Trunk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from .source import ModelSource


# of a product of fewer rows than this, two threads may add up in another order than one
_FEWEST_FOR_THREADS = 16
_TRIED_LENGTHS = (7, 40)
# of a text's hidden states, padded against unpadded, as a share of their length: rounding, and nothing else
_MOST_APART = {torch.float32: 1e-4, torch.bfloat16: 0.03}


class TextEncoder:
    """A frozen text encoder. ``width`` is the length of one token's vector.

    ``pads`` False: padding would change its hidden states, so that only texts of one length share a batch.
    """

    def __init__(self, trunk: Trunk, structure: Structure, layers: Layers, prompt_length: int = 0) -> None:
        self.width = structure.token_width
        self.structure = structure
        self.pads = not trunk.switches  # whose attention depends on the length of what it is given
        self._trunk = trunk
        self._layers = layers
        self._prompt_length = prompt_length
        self._least = 1  # tokens that the model must be given

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
        encoder layer k, without running the later ones where the model can be cut off there. ``structure`` says how it
        is run and pooled; by default it is a BERT-like model whose CLS is the vector. Raises BadInput where the model
        is no text encoder or its checkpoint lacks weights, UsageError for a device or layer that does not exist.
        """
        if structure is None:
            structure = cls_structure(source, "text", layer=layer)
        trunk = Trunk.load(source, "text", device, precision, layer, compile, structure)
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
        if input_ids.shape[1] < self._least:
            beyond = ((0, 0), (0, self._least - input_ids.shape[1]))
            input_ids = np.pad(input_ids, beyond, constant_values=self.structure.pad_id)
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
        """Runs two short texts, and finds out whether padding changes what they give, and whether shorter ones need it.

        Raises BadInput in one line where the model fails.
        """
        vocabulary = max(2, int(getattr(source.settings, "vocab_size", 0) or 2))
        chance = np.random.default_rng(0)
        short, long = _TRIED_LENGTHS
        long = max(2, min(long, max_positions(source)))
        short = min(short, long // 2)
        ids = chance.integers(min(5, vocabulary - 1), vocabulary, (2, long), dtype=np.int64).astype(np.int32)
        try:
            alone = self.embed(np.ascontiguousarray(ids[:1, :short]), np.array([short]))
            self.embed(np.ascontiguousarray(ids), np.array([long, long]))
        except Exception as error:
            refuse_failing(source.name, error, self._trunk.dtype == torch.bfloat16)
        self._least = next((length for length in range(1, short) if self._survives(ids[:1, :length])), short)
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

    def _survives(self, ids: npt.NDArray[np.int32]) -> bool:
        """Whether it can run a text (1, T) without padding."""
        try:
            self.embed(np.ascontiguousarray(ids), np.array([ids.shape[1]]))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
        return True


class ImageEncoder:
    """A frozen image encoder over ``grid`` (rows, columns) = ``patches`` patches, each a vector of ``width``."""

    def __init__(
        self,
        trunk: Trunk,
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
            structure = cls_structure(source, "image", pixels, layer)
        trunk = Trunk.load(source, "image", device, precision, layer, compile, structure)
        return cls(trunk, structure, Layers(structure.pooling, source.name, trunk.device), mean, std, rescale_factor)

    def notes(self, source: ModelSource) -> list[str]:
        """Lines that a user should see: weights without use."""
        return _notes(source, self._trunk, pads=True)

    def try_out(self, source: ModelSource, run: Callable[[], Embedded]) -> None:
        """Encodes one image by ``run``, twice. Raises BadInput in one line where the model fails or draws by chance."""
        try:
            one, other = run(), run()
        except Exception as error:
            refuse_failing(source.name, error, self._trunk.dtype == torch.bfloat16)
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
        structure, images = self.structure, len(inputs["pixel_values"])
        if len(hidden) != images > 1:  # a model that puts all images of a batch into one sequence
            return Embedded.joined([self._embed({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(images)])
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


def _notes(source: ModelSource, trunk: Trunk, pads: bool) -> list[str]:
    lines = []
    unused = getattr(trunk._model, "unused_weights", [])
    if unused:
        lines.append(f"{source.name}: {len(unused)} weights of its checkpoint are not used, such as {unused[0]}")
    if not pads:
        lines.append(f"{source.name}: padding would change its texts, so that only texts of one length share a batch")
    return lines


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far ``other`` is from ``one``, as a share of its length."""
    one, other = one.float(), other.float()
    if not bool(torch.isfinite(other).all() and torch.isfinite(one).all()):
        return 0.0 if bool(torch.isfinite(one).all()) == bool(torch.isfinite(other).all()) else float("inf")
    return float((one - other).norm() / one.norm().clamp(min=1e-12))
