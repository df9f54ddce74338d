"""What adapters add to attention and blocks, against its definition in float64."""

import pytest
import torch

from mlvl_fairseq.modules.block_adapter import BlockAdapter, Prefix
from mlvl_fairseq.modules.transformer import MultiheadSelfAttention, Transformer

BATCH, LENGTH, PREFIX, WIDTH, HEADS = 3, 5, 4, 8, 2


@pytest.fixture
def attention():
    def build(causal):
        torch.manual_seed(0)
        module = MultiheadSelfAttention(WIDTH, HEADS, causal)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        return module.requires_grad_(False)

    return build


def expected_attention(module, x, prefix, visible, more_query, more_value):
    """One query, one head at a time."""
    query, key, value = (x.double() @ module.in_proj_weight.double().T + module.in_proj_bias).chunk(3, dim=-1)
    query, value = query + more_query, value + more_value
    mixed = torch.zeros_like(query)
    for row in range(BATCH):
        own = 0 if len(prefix.key) == 1 else row
        keys = torch.cat([prefix.key[own].double(), key[row]])
        values = torch.cat([prefix.value[own].double(), value[row]])
        for position in range(LENGTH):
            seen = [
                k
                for k in range(PREFIX + LENGTH)
                if visible[row, k] and (not module.causal or k < PREFIX or k - PREFIX <= position)
            ]
            for head in range(HEADS):
                part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
                scores = keys[seen, part] @ query[row, position, part] / (WIDTH // HEADS) ** 0.5
                mixed[row, position, part] = scores.softmax(0) @ values[seen, part]
    return mixed @ module.out_proj.weight.double().T + module.out_proj.bias


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("examples", [1, BATCH])
@pytest.mark.parametrize("hides", [True, False])
def test_attention(attention, causal, examples, hides):
    module = attention(causal)
    x, more_query, more_value = torch.randn(3, BATCH, LENGTH, WIDTH)
    visible = (
        torch.rand(BATCH, PREFIX + LENGTH) > 0.4 if hides else torch.ones(BATCH, PREFIX + LENGTH, dtype=torch.bool)
    )
    visible[:, 0] = True  # every query sees something
    prefix = Prefix(*torch.randn(2, examples, PREFIX, WIDTH), visible if hides else None)
    adapter = BlockAdapter(query=lambda _: more_query, value=lambda _: more_value, prefix=prefix)
    expected = expected_attention(module, x, prefix, visible, more_query.double(), more_value.double())
    torch.testing.assert_close(module.out_proj(module.mix(x, adapter)).double(), expected, rtol=1e-4, atol=1e-5)


def test_functions_are_given_the_attention_s_input_and_the_block_s_output():
    torch.manual_seed(0)
    block, x = Transformer(WIDTH, 1, HEADS).resblocks[0], torch.randn(BATCH, LENGTH, WIDTH)
    seen = {}

    def note(name, result):
        return lambda given: seen.update({name: given}) or result

    adapter = BlockAdapter(query=note("query", 0 * x), value=note("value", 0 * x), output=note("output", x))
    assert torch.equal(block(x, adapter), x)
    assert torch.equal(seen["query"], block.ln_1(x)) and torch.equal(seen["value"], block.ln_1(x))
    torch.testing.assert_close(seen["output"], block(x))


def test_every_block_has_an_entry():
    tower, x = Transformer(WIDTH, 2, HEADS), torch.randn(BATCH, LENGTH, WIDTH)
    assert torch.equal(tower(x, [None, None]), tower(x))
    with pytest.raises(ValueError):
        tower(x, [None])


def test_a_selection_has_the_rows_prefixes_and_the_tokens_length():
    key, value = torch.randn(2, BATCH, PREFIX, WIDTH)
    visible = torch.rand(BATCH, PREFIX + LENGTH) > 0.5
    rows = torch.tensor([2, 0])
    part = BlockAdapter(prefix=Prefix(key, value, visible)).select(rows, 3).prefix
    assert torch.equal(part.key, key[[2, 0]]) and torch.equal(part.value, value[[2, 0]])
    assert torch.equal(part.visible, visible[[2, 0], : PREFIX + 3])
    shared = Prefix(key[:1], value[:1]).select(rows, 3)
    assert torch.equal(shared.key, key[:1]) and shared.visible is None
