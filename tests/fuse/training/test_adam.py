"""Laws of the optimiser: PyTorch's steps, without what PyTorch imports for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from cinefuse.fuse.training.adam import Adam


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((40, 7), (3,), (5, 2))]


def give_gradients(to: list[nn.Parameter], seed: int) -> None:
    """Gradients for all but the last, which no loss asks."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in to[:-1]:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_steps_are_those_of_pytorchs_adamw(weight_decay: float) -> None:
    ours, theirs = parameters(), parameters()
    adam = Adam(ours, 0.1, (0.9, 0.99), weight_decay)
    adamw = torch.optim.AdamW(theirs, 0.1, (0.9, 0.99), weight_decay=weight_decay, fused=True)
    for step in range(5):
        adam.zero_grad()
        adamw.zero_grad()
        adam.rate = adamw.param_groups[0]["lr"] = 0.1 / (step + 1)
        give_gradients(ours, step)
        give_gradients(theirs, step)
        adam.step()
        adamw.step()
    assert all(map(torch.equal, ours, theirs))
    assert torch.equal(ours[-1], parameters()[-1])


def test_a_state_taken_up_goes_on_where_it_was() -> None:
    whole, first = parameters(), parameters()
    adam, before = Adam(whole, 0.1, (0.9, 0.99)), Adam(first, 0.1, (0.9, 0.99))
    for step in range(4):
        give_gradients(whole, step)
        adam.step()
    for step in range(2):
        give_gradients(first, step)
        before.step()
    after = Adam(first, 0.1, (0.9, 0.99))
    after.load_state_dict({name: value.clone() for name, value in before.state_dict().items()})
    for step in range(2, 4):
        give_gradients(first, step)
        after.step()
    assert all(map(torch.equal, whole, first))


def test_the_state_of_other_parameters_is_refused() -> None:
    adam = Adam(parameters(), 0.1, (0.9, 0.99))
    for other in ([*parameters()[:2], nn.Parameter(torch.zeros(4, 2))], [*parameters(), *parameters()]):
        with pytest.raises(ValueError, match="of these parameters"):
            adam.load_state_dict(Adam(other, 0.1, (0.9, 0.99)).state_dict())


@pytest.mark.slow
def test_a_step_does_not_import_pytorchs_compiler() -> None:
    script = """if True:
        import sys, torch
        from cinefuse.fuse.training.adam import Adam
        weight = torch.nn.Parameter(torch.ones(3))
        adam = Adam([weight], 0.1, (0.9, 0.99))
        weight.square().sum().backward()
        adam.step()
        assert float(weight.detach().max()) < 1
        assert "torch._dynamo" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
