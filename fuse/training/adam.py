"""Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019), by PyTorch's fused kernel.

`torch.optim.AdamW` is the same arithmetic. But making one imports `torch._dynamo`, which takes about as long as PyTorch
itself and is of use to `--compile` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_EPSILON = 1e-8
_STATE = ("exp_avg", "exp_avg_sq", "step")  # as torch.optim names them


class Adam:
    """Moves ``parameters`` by their gradients, each step at the ``rate`` it has then."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], rate: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        self.parameters, self.rate, self._betas, self._weight_decay = list(parameters), rate, betas, weight_decay
        self._state = [
            {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p), "step": p.new_zeros(())}
            for p in self.parameters
        ]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step of every parameter that has a gradient; the others stay as they are."""
        moved, gradients, states = [], [], []
        for parameter, state in zip(self.parameters, self._state, strict=True):
            if parameter.grad is not None:
                moved.append(parameter)
                gradients.append(parameter.grad)
                states.append(state)
        adamw(
            moved,  # type: ignore[arg-type]
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self.rate,
            weight_decay=self._weight_decay,
            eps=_EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """What going on needs, `0.exp_avg` and so on: the number is that of the parameter."""
        return {f"{number}.{name}": state[name] for number, state in enumerate(self._state) for name in _STATE}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state. ValueError where it is that of other parameters."""
        own = self.state_dict()
        if tensors.keys() - own.keys() or any(own[key].shape != value.shape for key, value in tensors.items()):
            raise ValueError("expected the optimiser state of these parameters, received another's")
        for key, value in tensors.items():
            own[key].copy_(value)
