"""The text towers BERT and XLM-R: LilT's own numbers, published sizes, and what does not depend on the batch."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import FIXTURES

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules import length_groups, padding
from mlvl_fairseq.modules.expandable_embedding import ExpandableEmbedding
from mlvl_fairseq.modules.towers.base import TEXT_TOWERS, known, tower_config
from mlvl_fairseq.modules.towers.bert import BertConfig, XlmrTowerConfig

NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
TINY = BertConfig(40, width=16, layers=2, heads=2, ffn_width=32, max_positions=32, **NO_DROPOUT)
PREFIX = "text_encoder."


@pytest.fixture(scope="module")
def golden():
    """Arrays of the reference's tiny model by name, see the specification of the golden files."""
    with np.load(FIXTURES / "lilt" / "text_tower.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def section(golden, prefix):
    return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}


def tiny_tower(mode="full", config=TINY):
    tower = config.build()
    if mode == "lwa_language_only":
        tower.insert_adapters(4)
    if mode == "da":
        tower.append_block()
    return tower


def captions(rows, vocab_size=40, longest=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    last = torch.randint(longest, (rows,), generator=generator)
    tokens = torch.randint(1, vocab_size, (rows, longest), generator=generator)
    return torch.where(padding.real_tokens(last, longest), tokens, 0), last


@pytest.mark.parametrize("mode", ["full", "lwa_language_only", "da"])
def test_golden_states_features_and_gradients(golden, mode):
    """The loss of the reference's batch, its image features given."""
    start, out, gradients = (section(golden, f"tower/{mode}/{part}/") for part in ("init", "out", "grad"))
    tower = tiny_tower(mode)
    tower.load_state_dict(section(start, PREFIX))
    tokens, mask = golden["tower_in/input_ids"], golden["tower_in/attention_mask"]
    last = mask.sum(1) - 1
    tower.keeps_states = True
    with torch.no_grad():
        given = tower(tokens, last)
    assert torch.equal(given.mask, mask.bool())
    torch.testing.assert_close(given.states[given.mask], out["bert_hidden"][given.mask], rtol=0, atol=1e-5)
    tower.keeps_states = False
    vector = tower(tokens, last).vector
    torch.testing.assert_close(vector, out["bert_hidden"][:, 0], rtol=0, atol=1e-5)
    features = F.normalize(F.linear(vector, start["text_proj.weight"], start["text_proj.bias"]), dim=-1)
    torch.testing.assert_close(features, out["text_feat"], rtol=0, atol=1e-5)
    scores = features @ out["image_feat"].T / start["temp"]
    diagonal = torch.arange(len(scores))
    ((F.cross_entropy(scores, diagonal) + F.cross_entropy(scores.T, diagonal)) / 2).backward()
    expected = section(gradients, PREFIX)
    assert len(expected) > 10
    for name, parameter in tower.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    "name, vocab_size, parameters",
    [
        ("bert_tiny", 30_522, 4_369_152),
        ("bert_small", 30_522, 28_499_968),
        ("bert_base", 30_522, 108_890_112),
        ("bert_base_mlm", 30_522, 108_890_112),
        ("bert_large", 30_522, 334_090_240),
        ("bert_base_multilingual", 119_547, 177_261_312),
        # transformers' XLMRobertaModel without pooler, less the row of token types
        ("xlmr_base", 250_002, 278_043_648 - 590_592 - 768),
        ("xlmr_large", 250_002, 559_890_432 - 1_049_600 - 1024),
    ],
)
def test_published_sizes(name, vocab_size, parameters):
    known(TEXT_TOWERS)
    tower = without_values(tower_config(TEXT_TOWERS, "--text-tower", name, vocab_size=vocab_size).build)
    assert sum(parameter.numel() for parameter in tower.parameters()) == parameters


def test_size_of_an_adapter():
    tower = without_values(BertConfig(100).build)
    before = sum(parameter.numel() for parameter in tower.parameters())
    tower.insert_adapters(4)
    assert sum(parameter.numel() for parameter in tower.parameters()) - before == 24 * 295_872


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", [BertConfig, XlmrTowerConfig])
def test_neither_padding_nor_company_nor_states_change_a_vector(kind, pooling, monkeypatch):
    torch.manual_seed(1)
    tower = kind(40, 16, 2, 2, 32, 32, pooling=pooling).build().eval()
    tokens, last = captions(64)
    vectors = tower(tokens, last).vector
    assert tower(tokens, last).states is None
    same = dict(rtol=1e-4, atol=1e-5)
    for row in (0, 31, 63):
        alone = tower(tokens[row : row + 1, : last[row] + 1], last[row : row + 1]).vector[0]
        torch.testing.assert_close(alone, vectors[row], **same)
    torch.testing.assert_close(tower(F.pad(tokens, (0, 5), value=7), last).vector, vectors, **same)
    tower.keeps_states = True
    given = tower(tokens, last)
    torch.testing.assert_close(given.vector, vectors, **same)
    assert given.states.shape == (64, 9, 16) and torch.equal(given.mask.sum(1), last + 1)
    means = torch.stack([states[: end + 1].mean(0) for states, end in zip(given.states, last)])
    torch.testing.assert_close(means if pooling == "mean" else given.states[:, 0], vectors, **same)
    monkeypatch.setattr(length_groups, "CALL", 0.0)
    torch.testing.assert_close(tower(tokens, last).vector, vectors, **same)


@torch.no_grad()
def test_positions_of_xlmr_begin_behind_padding():
    tower = XlmrTowerConfig(40, 16, 1, 2, 32, 8).build().eval()
    tokens, last = captions(4, longest=8)
    before = tower(tokens, last).vector
    assert tower.embeddings.position_embeddings.weight.shape == (10, 16)
    tower.embeddings.position_embeddings.weight[:2] += 1
    assert torch.equal(tower(tokens, last).vector, before)
    tower.embeddings.position_embeddings.weight[2] += torch.randn(16)
    assert not torch.allclose(tower(tokens, last).vector, before)


def test_parts_are_the_rules_of_lilt():
    tower = tiny_tower("da")
    tower.insert_adapters(4)
    names, parts = [name for name, _ in tower.named_parameters()], tower.parts
    holds = {"norm": "LayerNorm", "dense": "dense", "attention": "attention", "bias": "bias"}
    for part, word in holds.items():
        assert found(getattr(parts, part), names) == [name for name in names if word in name]
    assert "embeddings.LayerNorm.weight" in found(parts.norm, names)
    assert found(parts.last, names) == [name for name in names if name.startswith("encoder.layer.2.")]
    assert found(parts.block.format(1), names) == [name for name in names if name.startswith("encoder.layer.1.")]
    adapters = [name for name in names if "adapter" in name]
    assert found(parts.adapter, names) == adapters and len(adapters) == 3 * 2 * 4


def found(pattern, names):
    return [name for name in names if re.search(pattern, name)]


def test_an_appended_layer_has_the_adapters_of_the_others():
    first, second = tiny_tower(), tiny_tower()
    first.insert_adapters(4), first.append_block()
    second.append_block(), second.insert_adapters(4)
    assert first.state_dict().keys() == second.state_dict().keys()
    assert "encoder.layer.2.output.adapter.up_sampler.bias" in first.state_dict()


def test_fresh_parts_are_drawn_as_published():
    tower = BertConfig(50, 256, 1, 4, max_positions=16).build()
    tower.insert_adapters(2), tower.append_block()
    for name, value in tower.state_dict().items():
        if "LayerNorm" in name:
            assert torch.equal(value, torch.full_like(value, float(name.endswith("weight"))))
        elif name.endswith("bias"):
            assert not value.any()
        else:
            assert float(value.std()) == pytest.approx(0.02, rel=0.1)


def test_dropout_works_in_training_only():
    tower, (tokens, last) = BertConfig(40, 16, 2, 2, 32, 32).build(), captions(4)
    assert not torch.equal(tower(tokens, last).vector, tower(tokens, last).vector)
    tower.eval()
    assert torch.equal(tower(tokens, last).vector, tower(tokens, last).vector)
    for field in ("dropout", "attention_dropout"):
        one = BertConfig(40, 16, 2, 2, 32, 32, **{**NO_DROPOUT, field: 0.5}).build()
        assert not torch.equal(one(tokens, last).vector, one(tokens, last).vector)


def test_the_word_embedding_can_grow_and_train_by_rows():
    tower, (tokens, last) = tiny_tower(), captions(6)
    embedding = tower.get_submodule(tower.growing_embedding)
    assert isinstance(embedding, ExpandableEmbedding)
    before, whole = tower(tokens, last).vector, tower.state_dict()
    embedding.train_rows(tokens.unique())
    assert torch.equal(tower(tokens, last).vector, before)
    assert tower.state_dict().keys() == whole.keys()
    assert tower.state_dict()["embeddings.word_embeddings.weight"].shape == (40, 16)


def test_what_does_not_fit():
    tower, (tokens, last) = tiny_tower(), captions(2, longest=33)
    with pytest.raises(ValueError, match="33 tokens are more than the 32 positions"):
        tower(tokens, last)
    with pytest.raises(UserError, match="width 16 is not a multiple of the number of attention heads 3"):
        BertConfig(40, 16, heads=3).build()
    with pytest.raises(UserError, match="pooling 'max' of a text tower: there are cls, mean"):
        BertConfig(40, pooling="max")
    with pytest.raises(UserError, match="token_types 'all' of a text tower: there are fold, drop, keep"):
        BertConfig(40, token_types="all")
