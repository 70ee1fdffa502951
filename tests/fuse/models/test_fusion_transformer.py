"""Laws of the fusion Transformer: a film's vector is its own, whatever company, padding and gaps it is read with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cinefuse.fuse.inputs.tokens import TokenBatch
from cinefuse.fuse.models.fusion_transformer import Block, Dropout, FusionTransformer

WIDTHS = {"text": 6, "image": 4}
SIDE, OUTPUTS = 3, 5
MODALITIES = pytest.mark.parametrize("names", [("text", "image"), ("text",), ("image",)], ids="+".join)

Item = dict[str, Tensor]  # (T, D) by modality; T = 0 where the film lacks it


def transformer(names: tuple[str, ...] = ("text", "image"), *, side: int = SIDE, **options: Any) -> FusionTransformer:
    """One with an output layer that is not 0, as it starts."""
    torch.manual_seed(0)
    made = FusionTransformer(
        {name: WIDTHS[name] for name in names},
        side,
        outputs=OUTPUTS,
        **({"width": 16, "layers": 2, "heads": 4, "dropout": 0.0} | options),
    )
    torch.nn.init.normal_(made.output.weight)
    torch.nn.init.normal_(made.output.bias)
    return made.eval()


def item(text: int, image: int, seed: int) -> Item:
    drawn = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(count, WIDTHS[name], generator=drawn) for name, count in (("text", text), ("image", image))
    }


ITEMS = [item(5, 3, 1), item(2, 0, 2), item(0, 4, 3), item(0, 0, 4), item(9, 9, 5), item(1, 1, 6)]
KNOWN = torch.randn(len(ITEMS), SIDE, generator=torch.Generator().manual_seed(9))


def batch_of(items: list[Item], *, padding: int = 0, filled: float = 0.0) -> Mapping[str, TokenBatch]:
    """The films side by side, padded with ``filled`` to the longest and ``padding`` places more."""
    made = {}
    for name, width in WIDTHS.items():
        longest = max(len(each[name]) for each in items) + padding
        embeddings = torch.full((len(items), longest, width), filled)
        present = torch.zeros(len(items), longest, dtype=torch.bool)
        for place, each in enumerate(items):
            embeddings[place, : len(each[name])] = each[name]
            present[place, : len(each[name])] = True
        made[name] = TokenBatch(embeddings, present)
    return made


@MODALITIES
@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_a_item_read_alone_has_the_vector_it_has_among_others(names: tuple[str, ...], layers: int) -> None:
    model = transformer(names, layers=layers)
    together = model(batch_of(ITEMS), KNOWN)
    assert together.shape == (len(ITEMS), OUTPUTS)
    assert torch.isfinite(together).all()
    for place, each in enumerate(ITEMS):
        alone = model(batch_of([each]), KNOWN[place : place + 1])[0]
        torch.testing.assert_close(alone, together[place], atol=1e-5, rtol=0)


@MODALITIES
@torch.no_grad()
def test_padding_never_changes_a_vector_whatever_it_holds(names: tuple[str, ...]) -> None:
    model = transformer(names)
    plain = model(batch_of(ITEMS), KNOWN)
    padded = model(batch_of(ITEMS, padding=7, filled=100.0), KNOWN)
    torch.testing.assert_close(padded, plain, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_item_of_nothing_speaks_through_its_side_information_and_the_absent_tokens() -> None:
    model, nothing = transformer(), ITEMS[3]
    found = model(batch_of([nothing, nothing]), KNOWN[:2])
    assert torch.isfinite(found).all()
    assert (found[0] - found[1]).abs().max() > 1e-3
    for name in WIDTHS:
        before = model.absent[name].data.clone()
        model.absent[name].data += torch.randn(16, generator=torch.Generator().manual_seed(1))
        assert (model(batch_of([nothing]), KNOWN[:1])[0] - found[0]).abs().max() > 1e-3
        model.absent[name].data = before


@torch.no_grad()
def test_the_absent_token_is_heard_only_where_something_is_absent() -> None:
    model = transformer()
    before = model(batch_of(ITEMS), KNOWN)
    model.absent["image"].data += torch.randn(16, generator=torch.Generator().manual_seed(1))
    changed = (model(batch_of(ITEMS), KNOWN) - before).abs().amax(1) > 1e-4
    assert changed.tolist() == [len(each["image"]) == 0 for each in ITEMS]


@MODALITIES
@torch.no_grad()
def test_every_token_and_all_side_information_is_heard(names: tuple[str, ...]) -> None:
    model, found = transformer(names), transformer(names)(batch_of(ITEMS[:1]), KNOWN[:1])
    for name in names:
        for token in range(len(ITEMS[0][name])):
            other = {key: value.clone() for key, value in ITEMS[0].items()}
            other[name][token] += torch.randn(WIDTHS[name], generator=torch.Generator().manual_seed(2))
            assert (model(batch_of([other]), KNOWN[:1]) - found).abs().max() > 1e-4
    assert (model(batch_of(ITEMS[:1]), KNOWN[1:2]) - found).abs().max() > 1e-4


@torch.no_grad()
def test_a_modality_that_was_not_asked_for_is_not_heard() -> None:
    model = transformer(("text",))
    without = [each | {"image": torch.zeros(0, WIDTHS["image"])} for each in ITEMS]
    assert torch.equal(model(batch_of(without), KNOWN), model(batch_of(ITEMS), KNOWN))


@torch.no_grad()
def test_at_the_level_of_cls_each_modality_is_one_token() -> None:
    model = transformer()
    items = [{name: tokens[:1] for name, tokens in each.items()} for each in ITEMS]
    sequence, present = model.sequence(batch_of(items), KNOWN)
    assert sequence.shape[1] == 7  # [FUSE], side, absent, text, [SEP], absent, image
    assert present.shape == sequence.shape[:2]
    whole = {name: replace(each, lacking=False) for name, each in batch_of(items[:1]).items()}
    heard, _ = model.sequence(whole, KNOWN[:1], every_place=False)
    assert heard.shape[1] == 5  # [FUSE], side, text, [SEP], image
    torch.testing.assert_close(model(whole, KNOWN[:1]), model(batch_of(items[:1]), KNOWN[:1]))
    assert torch.isfinite(model(batch_of(items), KNOWN)).all()


@torch.no_grad()
def test_exactly_the_tokens_or_the_absent_token_of_a_modality_are_present() -> None:
    _, present = transformer().sequence(batch_of(ITEMS), KNOWN)
    separators = 1
    expected = [2 + separators + sum(max(len(tokens), 1) for tokens in each.values()) for each in ITEMS]
    assert present.sum(1).tolist() == expected
    assert present[:, 0].all()


@pytest.mark.parametrize("layers", [1, 2, 4])
@torch.no_grad()
def test_a_last_block_in_which_only_fuse_asks_equals_a_whole_one(layers: int) -> None:
    model = transformer(layers=layers)
    x, present = model.sequence(batch_of(ITEMS), KNOWN)
    for block in model.blocks:
        x = block(x, x, present[:, None, None, :])
    torch.testing.assert_close(model(batch_of(ITEMS), KNOWN), model.output(model.norm(x[:, 0])), atol=1e-5, rtol=1e-5)


def test_a_block_gives_few_queries_the_outputs_and_gradients_that_it_gives_them_among_all() -> None:
    """Few queries are attended without a key or a value for every place; nothing else may change by that."""
    torch.manual_seed(0)
    block, x = Block(16, 4, 0.0), torch.randn(3, 7, 16, requires_grad=True)
    mask = torch.ones(3, 1, 1, 7, dtype=torch.bool)
    mask[0, ..., 4:] = mask[1, ..., 2] = False
    few, all_of_them = block(x[:, :2], x, mask), block(x, x, mask)[:, :2]
    torch.testing.assert_close(few, all_of_them, atol=1e-5, rtol=1e-5)
    toward, inputs = torch.randn_like(few), [x, *block.parameters()]
    gradients = [torch.autograd.grad(found, inputs, toward) for found in (few, all_of_them)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_model_without_side_information_reads_tokens_alone() -> None:
    model = transformer(side=0)
    found = model(batch_of(ITEMS), torch.zeros(len(ITEMS), 0))
    assert torch.isfinite(found).all()
    assert (found[0] - found[4]).abs().max() > 1e-3


def test_content_says_nothing_before_it_has_learned_anything() -> None:
    torch.manual_seed(0)
    model = FusionTransformer(WIDTHS, SIDE, outputs=OUTPUTS, width=16, layers=2, heads=4, dropout=0.1)
    assert not model(batch_of(ITEMS), KNOWN).any()


def test_every_parameter_learns() -> None:
    model = transformer().train()
    model(batch_of(ITEMS), KNOWN).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_draws_in_training_only() -> None:
    model = transformer(dropout=0.5)
    asked = batch_of(ITEMS)
    assert torch.equal(model(asked, KNOWN), model(asked, KNOWN))
    model.train()
    assert not torch.equal(model(asked, KNOWN), model(asked, KNOWN))


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_spares_its_share_of_places_each_by_itself_and_keeps_the_mean(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(401, 997, dtype=dtype, requires_grad=True)
    dropped = Dropout(rate)(x)
    spared = dropped != 0
    assert dropped.dtype == dtype
    assert spared.float().mean().item() == pytest.approx(1 - rate, abs=0.005)
    assert torch.equal(dropped[spared].unique(), torch.ones(1, dtype=dtype) / (1 - rate))
    for apart in (1, 2, 3, 4, 997):  # places that share a number, and places of other numbers
        both = (spared.flatten()[apart:] & spared.flatten()[:-apart]).float().mean().item()
        assert both == pytest.approx((1 - rate) ** 2, abs=0.005)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped)


def test_dropout_draws_anew_each_time_and_the_same_from_the_same_seed() -> None:
    x, dropout = torch.ones(50, 50), Dropout(0.3)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(second, first)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(dropout.eval()(x), x)


def test_dropped_tokens_leave_every_vector_finite_and_are_told_again_when_serving() -> None:
    model = transformer(token_drop=0.95)
    asked = batch_of(ITEMS)
    served = model(asked, KNOWN)
    assert torch.equal(served, transformer()(asked, KNOWN))
    model.train()
    for _ in range(20):
        trained = model(asked, KNOWN)
        assert torch.isfinite(trained).all()
        torch.testing.assert_close(trained[3], served[3])  # of nothing: nothing can be dropped
    assert not torch.equal(trained, served)
