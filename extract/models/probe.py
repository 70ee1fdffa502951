"""One run of a model without its weights: what it gives, and which modules are its layers.

Layers are the modules of one list that hand hidden states on, each to the next. Where there is no such list, they are
those behind which the model itself returns hidden states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from torch import nn

from ...data.runtime.errors import BadInput, CinefuseError, UsageError
from .failures import first_line, quiet_transformers
from .sizes import patch_grid
from .source import PROCESSOR
from .towers import Output, lacking, run_tower, whole_output

if TYPE_CHECKING:
    from .source import Modality, ModelSource

_MOST_BUILT = 200_000_000  # parameters of a model that is built with random weights where no weights do not do
_SAMPLE_TOKENS = 8
_ROUNDING = 1e-5  # of a state computed twice in float32, as a share of its length; of a narrower type, its own


def layer_number(layer: int, depth: int, name: str) -> int:
    """The layer from 1, of ``depth``, however it is counted. Raises UsageError where there is no such layer."""
    number = depth + 1 + layer if layer < 0 else layer
    if not 1 <= number <= depth:
        raise UsageError(f"--layer {layer}: {name} has {depth} layers; expected 1..{depth} or -{depth}..-1")
    return number


def first_tensor(output: Any) -> Any:
    """The hidden states that a layer gives, alone or before others."""
    return output[0] if isinstance(output, (tuple, list)) else output


@dataclass
class Seen:
    """What the modules of every list of ``depth`` equal modules took and gave, for one input, by the list's name."""

    depth: int
    taken: dict[str, list[Any]] = field(default_factory=dict)
    given: dict[str, list[Any]] = field(default_factory=dict)

    def clear(self, *_: object) -> None:
        """Forget a run: some models are run a second time, with other options."""
        for noted in (*self.taken.values(), *self.given.values()):
            noted.clear()

    def chain(self) -> str | None:
        """The name of the first list each of whose modules took what the one before gave."""
        for name, given in self.given.items():
            taken = self.taken[name]
            handed = all(one is other for one, other in zip(given[:-1], taken[1:], strict=True))
            if len(given) == self.depth and handed and isinstance(given[-1], torch.Tensor) and len(given[-1]) == 1:
                return name
        return None


@contextmanager
def watching(model: nn.Module, depth: int) -> Iterator[Seen]:
    """Notes, of a run inside, what the layers of every list of ``depth`` modules of one class take and give."""
    seen = Seen(depth)
    hooks = [model.register_forward_pre_hook(seen.clear)]
    for name, modules in model.named_modules():
        if not isinstance(modules, nn.ModuleList) or len(modules) != depth or len(set(map(type, modules))) != 1:
            continue
        taken, given = seen.taken.setdefault(name, []), seen.given.setdefault(name, [])

        def note(_module: Any, args: Any, kwargs: Any, output: Any, taken: Any = taken, given: Any = given) -> None:
            taken.append(args[0] if args else kwargs.get("hidden_states"))
            given.append(first_tensor(output))

        hooks += [module.register_forward_hook(note, with_kwargs=True) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def refuse_layer(name: str, modality: Modality) -> NoReturn:
    raise BadInput(f"{name}: its layers cannot be distinguished; leave out --{modality}-layer")


@dataclass
class LayerState:
    """Runs a model for the hidden states (B, T, D) behind layer ``number`` of ``depth``, as it returns them itself.

    Raises BadInput where it does not return one state more than it has layers, each shaped as its last hidden state,
    or, of the first input unless ``proven``, where two that follow each other are equal, or the last of them is not
    the last hidden state, before a final norm or behind it.
    """

    name: str
    tower: str
    model: nn.Module
    modality: Modality
    number: int
    depth: int
    proven: bool = False

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> Output:
        out = whole_output(self.tower, self.model, self.modality, inputs, output_hidden_states=True)
        states, last = getattr(out, "hidden_states", None), getattr(out, "last_hidden_state", None)
        if not isinstance(states, (tuple, list)) or not isinstance(last, torch.Tensor) or last.dim() != 3:
            refuse_layer(self.name, self.modality)
        if len(states) != self.depth + 1 or any(state.shape != last.shape for state in states):
            refuse_layer(self.name, self.modality)
        if not self.proven:
            if any(torch.equal(one, other) for one, other in pairwise(states)) or not self._ends(states[-1], last):
                refuse_layer(self.name, self.modality)
            self.proven = True
        return Output(states[self.number], None)

    def _ends(self, state: torch.Tensor, last: torch.Tensor) -> bool:
        """Whether ``last`` is ``state``, or what a norm of the model makes of it."""
        ends = [state]
        for module in self.model.modules():
            shape = getattr(getattr(module, "weight", None), "shape", None)
            if type(module).__name__.endswith(("LayerNorm", "RMSNorm")) and shape == last.shape[-1:]:
                with suppress(RuntimeError):  # SqueezeBERT's own wants its positions last
                    ends.append(module(state))
        most = max(_ROUNDING, torch.finfo(last.dtype).eps) * last.float().norm()
        return any(end.shape == last.shape and bool((end.float() - last.float()).norm() <= most) for end in ends)


def sample_text() -> dict[str, torch.Tensor]:
    """The inputs of one short text, (1, T)."""
    return {
        "input_ids": torch.zeros(1, _SAMPLE_TOKENS, dtype=torch.long),
        "attention_mask": torch.ones(1, _SAMPLE_TOKENS, dtype=torch.long),
    }


def probe(
    source: ModelSource,
    tower: str,
    model: nn.Module,
    sample: Mapping[str, torch.Tensor],
    modality: Modality,
    layer: int | None = None,
) -> tuple[Output | None, dict[str, Any]]:
    """The output for ``sample``, on the meta device; where that fails, by random weights of a small model; or None.

    Of a ``layer``, what it gives, and the fields of `Structure` that say where it is.
    """
    needed = lacking(tower, model, modality, sample)
    if needed:
        raise BadInput(
            f"{source.name}: reads {' and '.join(needed)} beside its {modality}s, which are not made here; "
            f"choose an encoder of {modality}s alone"
        )
    depth = 0 if layer is None else source.num_layers
    on_meta = {key: value.to("meta") for key, value in sample.items()}
    try:
        with watching(model, depth) as seen, torch.no_grad(), quiet_transformers():
            out = run_tower(tower, model, modality, on_meta)
        return (out, {}) if layer is None else _of_layer(source, tower, model, seen, layer, on_meta, modality)
    except CinefuseError:
        raise
    except Exception as error:
        failure = first_line(error)  # not the error, whose traceback would hold this frame, and the file of its callers
    if sum(parameter.numel() for parameter in model.parameters()) <= _MOST_BUILT:
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad(), quiet_transformers():
                small = type(model)(deepcopy(cast("Any", model.config))).eval()
                with watching(small, depth) as seen:
                    out = run_tower(tower, small, modality, sample)
            return (out, {}) if layer is None else _of_layer(source, tower, small, seen, layer, sample, modality)
        except CinefuseError:
            raise
        except Exception as error:
            failure = first_line(error)
        if modality == "text":
            raise BadInput(f"{source.name}: does not read texts alone: {failure}; choose an encoder of texts")
    if modality == "text" and layer is None:
        return None, {}
    if modality == "text":
        raise BadInput(f"{source.name}: its layers cannot be distinguished without its weights; leave out --text-layer")
    sized = isinstance(getattr(source.settings, "patch_size", None), int)
    if sized and sample["pixel_values"].dim() == 4 and hasattr(source.settings, "image_size"):
        patch_grid(source, (sample["pixel_values"].shape[2], sample["pixel_values"].shape[3]))  # says it better
    raise BadInput(
        f"{source.name}: does not read what its image processor makes: {failure}; correct the size in its {PROCESSOR}, "
        "or choose an encoder of images alone"
    )


def _of_layer(
    source: ModelSource, tower: str, model: nn.Module, seen: Seen, layer: int,
    sample: Mapping[str, torch.Tensor], modality: Modality,
) -> tuple[Output, dict[str, Any]]:  # fmt: skip
    """What a layer gave, and where it is; and whether the model runs without those behind it, which are cut off."""
    number, name = layer_number(layer, seen.depth, source.name), seen.chain()
    if name is None:
        try:
            with torch.no_grad(), quiet_transformers():
                own = LayerState(source.name, tower, model, modality, number, seen.depth, proven=True)(sample)
        except CinefuseError:
            raise
        except Exception:  # of a model that does not take the option
            refuse_layer(source.name, modality)
        return own, {}
    raw: torch.Tensor = seen.given[name][number - 1]
    layers: Any = model.get_submodule(name)
    del layers[number:]
    try:
        with torch.no_grad(), quiet_transformers():
            run_tower(tower, model, modality, sample)
        cuts = True
    except Exception:  # of a model that counts its layers by its configuration
        cuts = False
    return Output(raw, None), {"layer_list": name, "cuts": cuts}
