"""A course of training: Muon and AdamW, a running mean of the weights, and checkpoints to go on from.

The rate stays as it is until the last part of the course and then falls as a cosine does, so that a course may be
lengthened, or ended early by a smaller number of steps, while it has not begun to fall.

What is random about a step must come from ``Course.chance``, which depends on the seed and the step alone: so a course
killed and continued draws what an uninterrupted one draws.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

COOLING = 0.35  # share of the steps over which the rate falls


def name_of(settings: Mapping[str, object]) -> str:
    """A short name for a course, from all of its settings: another course never goes on from its checkpoint."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


class Course:
    """Trains ``model`` for ``steps`` steps; ``settings`` name the course, and a checkpoint of another is refused."""

    def __init__(
        self,
        model: nn.Module,
        checkpoint: Path,
        settings: Mapping[str, object],
        *,
        steps: int,
        rate: float,
        decay: float,
        warm_up: int,
        keep: float,
        seed: int,
    ) -> None:
        self.model, self.steps, self.step, self.seed = model, steps, 0, seed
        self._rate, self._warm_up, self._keep = rate, warm_up, keep
        self._file, self._settings = checkpoint, json.dumps(settings, sort_keys=True, default=str)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._named = dict(named)
        self._mean = {name: p.detach().clone() for name, p in named}
        inner = {p for name, p in named if p.ndim == 2 and re.search(r"\.layers?\.", name)}
        wide = [p for _, p in named if p.ndim > 1 and p not in inner]
        narrow = [p for _, p in named if p.ndim <= 1]
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [{"params": wide, "weight_decay": decay}, {"params": narrow, "weight_decay": 0.0}],
                lr=rate,
                betas=(0.9, 0.98),
            )
        ]
        if inner:
            matrices = [p for _, p in named if p in inner]
            muon = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            self._optimisers.append(muon)
        if checkpoint.is_file():
            self._load()

    def chance(self) -> torch.Generator:
        """The random numbers of the step to come."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)

    def advance(self, loss: torch.Tensor) -> None:
        """One step down the gradient of ``loss``."""
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._named.values(), 1.0)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._rate * self._share()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        # Early on the mean forgets faster, or it would remember the random start for long.
        keep = min(self._keep, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._mean.values()), list(self._named.values()), 1 - keep)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with the running mean of its weights, for as long as the block lasts."""
        own = {name: p.detach().clone() for name, p in self._named.items()}
        self._copy(self._mean)
        was = self.model.training
        self.model.eval()
        try:
            yield self.model
        finally:
            self._copy(own)
            self.model.train(was)

    def save(self) -> None:
        """Writes the checkpoint under its final name only when it is whole."""
        tensors = {f"weight.{name}": p.detach() for name, p in self._named.items()}
        tensors |= {f"mean.{name}": p for name, p in self._mean.items()}
        for name, p in self._named.items():
            for optimiser in self._optimisers:
                for key, value in optimiser.state.get(p, {}).items():
                    tensors[f"state.{key}.{name}"] = value
        unfinished = self._file.with_suffix(".partial")
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        meta = {"step": str(self.step), "settings": self._settings}
        save_file({name: t.contiguous().clone() for name, t in tensors.items()}, unfinished, meta)
        unfinished.replace(self._file)

    def _load(self) -> None:
        with safe_open(self._file, framework="pt") as file:
            meta = file.metadata()
            if meta["settings"] != self._settings:
                raise SystemExit(
                    f"{self._file}: belongs to a course of other settings ({meta['settings']}); expected "
                    f"{self._settings}; give another --work folder"
                )
            self.step = int(meta["step"])
            self._copy({name: file.get_tensor(f"weight.{name}") for name in self._named})
            self._mean = {name: file.get_tensor(f"mean.{name}") for name in self._named}
            for optimiser in self._optimisers:
                owned = {p for group in optimiser.param_groups for p in group["params"]}
                for stored in file.keys():  # noqa: SIM118 - it is no dict
                    kind, _, rest = stored.partition(".")
                    key, _, name = rest.partition(".")
                    if kind == "state" and self._named[name] in owned:
                        optimiser.state[self._named[name]][key] = file.get_tensor(stored)

    def _share(self) -> float:
        if self.step < self._warm_up:
            return (self.step + 1) / self._warm_up
        left = (self.steps - self.step) / (COOLING * self.steps)
        return 0.01 + 0.99 * (1 - math.cos(math.pi * min(1.0, left))) / 2

    def _copy(self, values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, p in self._named.items():
                p.copy_(values[name])
