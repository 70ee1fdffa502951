"""Laws of threads: a small step of the Transformer stays on one, a large one has all, and nobody loses any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cinefuse import device
from cinefuse.data.runtime.errors import UsageError
from cinefuse.device import threads_for
from cinefuse.fuse.inputs.tokens import TokenBatch
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.training.member import Member


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_few_numbers_are_computed_on_one_thread_and_many_on_all() -> None:
    with threads_for(10_000):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with threads_for(10_000_000):
        assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_threads_come_back_when_a_step_fails() -> None:
    with pytest.raises(ZeroDivisionError), threads_for(10_000):
        _ = 1 / 0
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("width", "threads"), [(16, 1), (64, 3)], ids=["narrow", "wide"])
def test_a_transformer_over_cls_embeddings_has_the_threads_that_its_width_is_worth(
    sample: Path, embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, threads: int
) -> None:
    seen: set[int] = set()
    read = Member._read

    def told(member: Member, tokens: Mapping[str, TokenBatch], items: Tensor) -> Tensor:
        if len(items) >= 40:  # the last batch is what is left
            seen.add(torch.get_num_threads())
        return read(member, tokens, items)

    monkeypatch.setattr(Member, "_read", told)
    monkeypatch.setattr(device, "_FEWEST_NUMBERS_TO_SHARE", 4000)  # 40 films of 2 tokens, 16 or 64 wide
    settings = [f"width={width}", "level=cls", "layers=1", "epochs=1", "batch_items=40", "factor_steps=2"]
    config = preset("paper").with_settings([*settings, "precision=fp32", "validation=0"])
    train(sample, embeddings, tmp_path / "run", config, device="cpu")
    assert seen == {threads}
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_where_the_processor_has_it(
    native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_native_bfloat16", lambda: native)
    assert device.resolve_precision("auto", torch.device("cpu")) == expected


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--device cuda:9: this machine has \d+ CUDA devices"):
        device.resolve_device("cuda:9")


@pytest.mark.usefixtures("three_threads")
def test_threads_are_as_many_as_were_chosen() -> None:
    device.use_threads(None)
    assert torch.get_num_threads() == 3
    device.use_threads(2)
    assert torch.get_num_threads() == 2
