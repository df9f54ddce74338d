"""Without padding every text tower and adapter gives a padded batch's numbers and gradients, in float64."""

from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fairseq.models.transformer.transformer_encoder import TransformerEncoderBase
from host_syncs import Watch

from mlvl_fairseq.modules import length_groups, packing, x_projector
from mlvl_fairseq.modules.adapters import ADAPTERS, TowerShape, build_adapter
from mlvl_fairseq.modules.block_adapter import Prefix
from mlvl_fairseq.modules.length_groups import cheapest_groups
from mlvl_fairseq.modules.low_rank import insert_lora
from mlvl_fairseq.modules.packing import Packing
from mlvl_fairseq.modules.padding import real_tokens
from mlvl_fairseq.modules.towers import bert, clip_text, clip_text_tower
from mlvl_fairseq.modules.towers.bert import BertConfig, XlmrTowerConfig
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.clip_text import TextConfig
from mlvl_fairseq.modules.towers.clip_text_tower import ClipTextTowerConfig
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrConfig
from mlvl_fairseq.modules.x_projector import XProjector
from mlvl_fairseq.networks.peft import LORA_TARGETS

WIDTH, HEADS, WORDS = 16, 2, 30
SIZES = {"layers": 2, "heads": HEADS, "max_positions": 12, "dropout": 0.0, "attention_dropout": 0.0}
LAST = torch.tensor([9, 1, 4, 4, 0, 7, 4, 1, 2])
PADDED = (bert, clip_text, clip_text_tower, x_projector)
PROMPTS = [kind for kind in ADAPTERS if kind.endswith("prompt")]
TOWERS = {
    "bert": BertConfig(WORDS, WIDTH, **SIZES),
    "bert, mean": BertConfig(WORDS, WIDTH, **SIZES, pooling="mean"),
    "xlmr": XlmrTowerConfig(WORDS, WIDTH, **SIZES),
    "cclm": CclmTextConfig(WORDS, WIDTH, **SIZES),
    "clip": ClipTextTowerConfig(WORDS, WIDTH, 2, HEADS, 12),
    "open_clip": ClipTextTowerConfig(WORDS, WIDTH, 2, HEADS, 12, "gelu"),
}


def attention_of_each(query, key, value, query_ends, key_ends, longest_query, longest_key, window_size):
    """What torch's attention for texts of any length computes, text by text."""
    assert query_ends.dtype == key_ends.dtype == torch.int32
    lengths = (query_ends.diff(), longest_query), (key_ends.diff(), longest_key)
    assert all(int(counts.max()) <= longest for counts, longest in lengths)
    assert window_size in {(-1, 0), (-1, -1)}
    found = []
    for own, seen in zip(zip(query_ends, query_ends[1:]), zip(key_ends, key_ends[1:])):
        parts = (part[slice(*ends)].transpose(0, 1) for part, ends in ((query, own), (key, seen), (value, seen)))
        mixed = F.scaled_dot_product_attention(*parts, is_causal=window_size == (-1, 0))
        found.append(mixed.transpose(0, 1))
    return torch.cat(found)


@pytest.fixture(params=["each length", "cheapest", "one", "padded attention", "varlen"])
def way(request, monkeypatch):
    """How attention is called: once a length, in two groups, once, and the two ways of a GPU."""
    call = {"each length": 0.0, "cheapest": 5.0 * 24 * WIDTH**2, "one": 1e12}.get(request.param)
    if call is not None:
        monkeypatch.setattr(length_groups, "CALL", call)
    else:
        monkeypatch.setattr(packing, "GROUPED", ())
    if request.param == "varlen":
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attention_of_each)
        monkeypatch.setattr(Packing, "_takes_varlen", staticmethod(lambda *given: given[2:] == (0.0, None)))
    return request.param


def texts():
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(2, WORDS, (len(LAST), 11), generator=generator)
    return torch.where(real_tokens(LAST, 11), tokens, PAD)


def built(config):
    """In float64, with numbers in every place."""
    torch.manual_seed(1)
    tower = config.build().double()
    for parameter in tower.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return tower


def judged(module, given):
    """A scalar of all that is given, and its gradients."""
    module.zero_grad()
    generator = torch.Generator().manual_seed(7)
    loss = sum((part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum() for part in given)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    return [part.detach() for part in given], {name: gradient.clone() for name, gradient in gradients.items()}


def assert_equal_to_padded(monkeypatch, module, compute):
    """`compute` -> tensors: with and without padding, and not the very same thing twice."""
    found = judged(module, compute())
    called = []
    for place in PADDED:
        monkeypatch.setattr(place, "is_exported", lambda: called.append(True) or True)
    expected = judged(module, compute())
    assert called and found[1]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("keeps_states", [False, True])
@pytest.mark.parametrize("name", TOWERS)
def test_towers(name, keeps_states, way, monkeypatch):
    tower, tokens = built(TOWERS[name]), texts()
    if "clip" in name:  # which normalises in float32
        monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    if name != "bert, mean":
        tower.insert_adapters(4)
        tower.append_block()
        tower.double()
        insert_lora(tower, LORA_TARGETS, 2, 4.0)
        tower.double()
    tower.keeps_states = keeps_states

    def compute():
        output = tower(tokens, LAST)
        assert (output.states is not None) == keeps_states
        return [output.vector] if output.states is None else [output.vector, output.states[output.mask]]

    assert_equal_to_padded(monkeypatch, tower, compute)


@pytest.mark.parametrize(
    "kind, mask", [*((kind, "left") for kind in ADAPTERS), *((kind, "published") for kind in PROMPTS)]
)
def test_adapters(kind, mask, way, monkeypatch):
    tower, tokens = built(TextConfig(WORDS, WIDTH, 6, HEADS, 8, 12)), texts()
    shape = TowerShape.of(tower)
    adapter = build_adapter(kind, type("Given", (), {"prompt_mask": mask}), shape, ["en"]).double()
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    for parameter in adapter.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    both = torch.nn.ModuleList([tower, adapter])
    assert_equal_to_padded(monkeypatch, both, lambda: [adapter(tower, tokens, LAST, "en").features])


@pytest.mark.parametrize("side", ["left", "right"])
def test_x_projector(side, way, monkeypatch):
    torch.manual_seed(0)
    projector = XProjector(WIDTH, 24, HEADS, 2).double().eval()
    states = torch.randn(len(LAST), 11, WIDTH, dtype=torch.double)
    padding, ends = ~real_tokens(LAST, 11), LAST
    if side == "left":
        padding, ends = padding.flip(1), torch.full_like(LAST, 10)
    assert_equal_to_padded(monkeypatch, projector, lambda: [projector(states, padding, ends)])
    somewhere = torch.tensor([3, 0, 2, 4, 0, 5, 1, 1, 2]) if side == "right" else 10 - LAST
    assert_equal_to_padded(monkeypatch, projector, lambda: [projector(states, padding, somewhere)])


@pytest.mark.parametrize("side", ["left", "right"])
def test_xlmr_of_fairseq(side, way):
    encoder = built(XlmrConfig(WORDS, 2, WIDTH, 24, HEADS, 12)).eval()
    tokens, real = texts(), real_tokens(LAST, 11)
    if side == "left":
        shifts = zip(tokens, 10 - LAST)
        tokens, real = torch.stack([row.roll(int(by)) for row, by in shifts]), real.flip(1)
    stock = TransformerEncoderBase.forward(encoder, tokens)["encoder_out"][0].transpose(0, 1)
    expected, found = judged(encoder, [stock[real]]), judged(encoder, [encoder(tokens)[real]])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


TEXTS = {
    **TOWERS,
    "clip itself": TextConfig(WORDS, WIDTH, 2, HEADS, 8, 12),
    "xlmr itself": XlmrConfig(WORDS, 2, WIDTH, 24, HEADS, 12),
}


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("name", TEXTS)
def test_a_gpu_is_waited_for_where_lengths_are_not_known(name, is_known):
    tower, tokens = built(TEXTS[name]).eval(), texts()
    inputs = (tokens,) if name == "xlmr itself" else (tokens, LAST)
    lengths = {"lengths": (LAST + 1).numpy()} if is_known else {}
    with Watch().watching() as watch:
        found = tower(*inputs, **lengths)
    with patch.object(packing, "GROUPED", ()):
        expected = tower(*inputs)
    assert equal(found, expected)
    assert [line.partition(":")[0] for line in watch.found] == ([] if is_known else ["modules/packing.py"])


@pytest.mark.parametrize("is_known", [True, False])
def test_a_gpu_is_waited_for_where_an_x_projector_knows_no_lengths(is_known):
    projector, states = XProjector(WIDTH, 24, HEADS, 2).eval(), torch.randn(len(LAST), 11, WIDTH)
    with Watch().watching() as watch:
        projector(states, ~real_tokens(LAST, 11), LAST, (LAST + 1).numpy() if is_known else None)
    assert len(watch.found) == (not is_known)


def equal(found, expected):
    parts = zip(*(output if isinstance(output, tuple) else (output,) for output in (found, expected)), strict=True)
    return all(one is other if one is None else torch.equal(one, other) for one, other in parts)


def test_no_padding_is_computed(monkeypatch):
    monkeypatch.setattr(length_groups, "CALL", 0.0)
    rows, tower = [], built(TOWERS["clip"])
    for block in tower.transformer.resblocks:
        block.mlp.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[0]))
    tower.float()(texts(), LAST)
    assert rows == [int((LAST + 1).sum()), len(LAST)]


def test_rows_of_a_prefix_are_the_batch_s(monkeypatch):
    """In whatever order texts are packed; here nothing but the prefix is seen."""
    monkeypatch.setattr(length_groups, "CALL", 0.0)
    pack = Packing.of_last(torch.tensor([2, 0, 1]), 3, WIDTH)
    key, value = torch.randn(2, 3, 2, 8)
    visible = torch.tensor([True, True, False, False, False]).expand(3, -1)
    query, tokens = torch.randn(6, 8), torch.randn(6, 8)
    mixed = pack.attend(query, tokens, tokens, 1, prefix=Prefix(key, value, visible))
    rows = pack.source // 3
    assert sorted(rows.tolist()) == [0, 0, 0, 1, 2, 2]
    scores = torch.einsum("nd,npd->np", query, key[rows]) / 8**0.5
    torch.testing.assert_close(mixed, torch.einsum("np,npd->nd", scores.softmax(1), value[rows]))


def test_what_varlen_takes():
    query = torch.zeros(1, 32, dtype=torch.bfloat16)
    assert not Packing._takes_varlen(query, 4, 0.0, None)  # no GPU
    assert packing.HAS_VARLEN


@pytest.mark.parametrize("call", [0.0, 0.5, 3.0, 7.0, 1e9])
def test_groups_are_the_cheapest_of_all(call):
    lengths = np.array([1, 2, 2, 3, 5, 5, 5, 8, 9])

    def cost(cuts):
        bounds = [0, *cuts, len(lengths)]
        return sum((b - a) * lengths[b - 1] + call for a, b in zip(bounds, bounds[1:]))

    cuts = range(1, len(lengths))
    least = min(cost(chosen) for number in range(len(lengths)) for chosen in combinations(cuts, number))
    groups = cheapest_groups(lengths, call)
    assert sum(texts for texts, _ in groups) == len(lengths)
    assert sum(texts * length + call for texts, length in groups) == pytest.approx(least)
    ends = np.cumsum([texts for texts, _ in groups])
    assert [length for _, length in groups] == lengths[ends - 1].tolist()


def test_narrow_towers_have_fewer_groups():
    lengths = np.repeat(np.arange(5, 25), 4)
    counts = [len(cheapest_groups(lengths, length_groups.positions_a_call(width))) for width in (64, 128, 512)]
    assert 1 <= counts[0] < counts[1] < counts[2] == 20
