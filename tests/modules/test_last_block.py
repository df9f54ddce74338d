"""A tower read at one position computes its last block there alone: same values, same gradients, as float64 shows."""

import pytest
import torch
from torch import nn

from mlvl_fairseq.modules.block_adapter import BlockAdapter, Prefix
from mlvl_fairseq.modules.transformer import Transformer

BATCH, LENGTH, PREFIX, WIDTH, HEADS = 4, 7, 3, 8, 2
KINDS = ("none", "query and value", "output", "prefix for all", "prefix each", "everything")


@pytest.fixture
def adapter_and_tensors():
    """``adapter_and_tensors(kind)``: an adapter of this kind, and what of it takes gradients."""

    def build(kind):
        torch.manual_seed(0)
        maps = [nn.Linear(WIDTH, WIDTH).double() for _ in range(3)]
        examples = 1 if kind == "prefix for all" else BATCH
        key, value = (torch.randn(examples, PREFIX, WIDTH).double().requires_grad_() for _ in range(2))
        visible = torch.rand(BATCH, PREFIX + LENGTH) > 0.4
        visible[:, 0] = True  # every query sees something
        adapter = {
            "none": None,
            "query and value": BlockAdapter(query=maps[0], value=maps[1]),
            "output": BlockAdapter(output=maps[2]),
            "everything": BlockAdapter(maps[0], maps[1], Prefix(key, value, visible), maps[2]),
        }.get(kind, BlockAdapter(prefix=Prefix(key, value)))
        return adapter, [key, value, *(tensor for linear in maps for tensor in linear.parameters())]

    return build


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_all_positions(adapter_and_tensors, kind, causal):
    adapter, tensors = adapter_and_tensors(kind)
    tower = Transformer(WIDTH, 2, HEADS, causal=causal).double()
    x = torch.randn(BATCH, LENGTH, WIDTH).double().requires_grad_()
    at, upstream = torch.tensor([0, 6, 3, 3]), torch.randn(BATCH, WIDTH).double()
    everywhere = tower(x, [adapter, adapter])[torch.arange(BATCH), at]
    there = tower(x, [adapter, adapter], at=at)
    torch.testing.assert_close(there, everywhere)
    tensors += [x, *tower.parameters()]
    expected = torch.autograd.grad(everywhere, tensors, upstream, allow_unused=True)
    for found, wanted in zip(torch.autograd.grad(there, tensors, upstream, allow_unused=True), expected, strict=True):
        assert (found is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(found, wanted)


def test_the_last_feed_forward_half_sees_one_position():
    tower, lengths = Transformer(WIDTH, 2, HEADS, causal=True), []
    for block in tower.resblocks:
        block.mlp.register_forward_hook(lambda _, given, __: lengths.append(given[0].shape[1]))
    assert tower(torch.randn(BATCH, LENGTH, WIDTH), at=torch.tensor([1, 2, 3, 4])).shape == (BATCH, WIDTH)
    assert lengths == [LENGTH, 1]
