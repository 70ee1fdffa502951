"""A member's whole state as one safetensors file: weights, both optimisers, content vectors, and where it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ...data.runtime.disk import write_atomically
from ...data.runtime.errors import BadInput
from ..runs.run_folder import FitFiles

_OPTIMISERS = ("factor_optimiser", "transformer_optimiser")


@dataclass(frozen=True)
class Fit:
    """One training from start to end: which member, and whether on all ratings, or with validation ratings held out."""

    number: int
    member: int
    whole: bool

    def seed_of(self, seed: int, kind: int, number: int) -> int:
        """A seed for one draw in a run of this ``seed``: the same in every process, unlike for any two draws."""
        content = json.dumps([seed, self.member, self.whole, kind, number]).encode()
        value = 14695981039346656037
        for byte in content:  # FNV-1a, 64 bits
            value = ((value ^ byte) * 1099511628211) % 2**64
        return value >> 1


@dataclass
class FitState:
    """How far the present fit is; all of it goes into the checkpoint."""

    fit: int = 0
    epoch: int = 0
    batch: int = 0
    begun: bool = False
    factor_steps: int = 0
    best_epoch: int = 0
    best_rmse: float = math.inf
    chosen_epochs: int = 0


def save_state(file: Path, member: nn.Module, best: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write everything that going on needs, all or nothing. ``state`` goes into JSON: fit, epoch, batch, figures."""
    tensors = {f"now.{name}": value for name, value in member.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for name in _OPTIMISERS:
        if (optimiser := getattr(member, name, None)) is not None:
            tensors |= {f"{name}.{key}": value for key, value in optimiser.state_dict().items()}
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_atomically(file, save(plain, {"standing": json.dumps(dict(state))}))


def read_state(file: Path) -> dict[str, Any]:
    """Where a saved state stands. BadInput where the file is damaged."""
    with _opened(file) as content:
        return _state(content, file)


class Standing(Protocol):
    """How far a training is: at least which fit is the next, or in progress."""

    fit: int


_State = TypeVar("_State", bound=Standing)


def newest_state(files: FitFiles | None, begun: _State, of: Callable[..., _State]) -> tuple[_State, bool]:
    """The state ``of`` the newest checkpoint, or ``begun`` without one, and whether it is in the middle of a fit."""
    if files is None:
        return begun, False
    finished = files.all_finished()
    state = of(**read_state(finished[-1])) if finished else begun
    if files.in_progress.exists():
        found = of(**read_state(files.in_progress))
        if found.fit == state.fit:
            return found, True
    return state, False


def load_state(file: Path, member: nn.Module) -> dict[str, Tensor]:
    """Put the saved state into ``member``; gives the best weights so far. BadInput where the file doesn't fit it."""
    with _opened(file) as content:
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    try:
        member.load_state_dict(_under(tensors, "now"))
        for name in _OPTIMISERS:
            if (optimiser := getattr(member, name, None)) is not None:
                optimiser.load_state_dict(_under(tensors, name))
    except (RuntimeError, ValueError) as fault:
        raise BadInput(f"{file} is of another model ({str(fault).splitlines()[0]}): train the run again") from None
    return _under(tensors, "best")


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as fault:
        raise BadInput(f"{file} cannot be read ({fault}): delete the run folder and train again") from None


def _state(content: Any, file: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((content.metadata() or {})["standing"])
    except (KeyError, ValueError):
        raise BadInput(f"{file} has no state of training: delete the run folder and train again") from None
    return state


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
