"""Parity with fairseq's own RoBERTa, built small."""

from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.models.roberta import RobertaModel
from fairseq.modules.fairseq_dropout import FairseqDropout

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig, XlmrEncoder

CONFIG = XlmrConfig(vocab_size=30, layers=2, width=16, ffn_width=24, heads=4, max_positions=12)
SENTENCES = torch.tensor([[0, 7, 8, 9, 2], [0, 5, 2, 1, 1]])
REAL = SENTENCES.ne(1)


@pytest.fixture(scope="module")
def stock():
    dictionary = Dictionary()
    for i in range(26):
        dictionary.add_symbol(f"w{i}")
    options = Namespace(
        encoder_layers=2,
        encoder_embed_dim=16,
        encoder_ffn_embed_dim=24,
        encoder_attention_heads=4,
        max_positions=12,
        dropout=0.1,
    )
    torch.manual_seed(0)
    return RobertaModel.build_model(options, Namespace(source_dictionary=dictionary))


@pytest.fixture
def encoder(stock):
    encoder = XlmrEncoder(CONFIG)
    prefix = "encoder.sentence_encoder."
    state = stock.state_dict()
    encoder.load_state_dict({name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)})
    return encoder


def test_numbers_and_gradients_are_those_of_roberta(stock, encoder):
    stock.double().eval().zero_grad()
    encoder.double().eval()
    expected, found = stock(SENTENCES, features_only=True)[0], encoder(SENTENCES)
    torch.testing.assert_close(found[REAL], expected[REAL], rtol=1e-6, atol=1e-10)
    expected[REAL].pow(3).sum().backward()
    found[REAL].pow(3).sum().backward()
    theirs = dict(stock.encoder.sentence_encoder.named_parameters())
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-6, atol=1e-10, msg=name)
    stock.float()


def test_dropout_is_where_roberta_has_it(monkeypatch):
    """In training: probabilities in the order of the calls, and of attention's weights."""
    config = XlmrConfig(30, 2, 16, 24, 4, 12, dropout=0.25, attention_dropout=0.125, activation_dropout=0.5)
    seen, attend = [], F.scaled_dot_product_attention
    encoder = XlmrEncoder(config).train()
    for module in encoder.modules():
        if isinstance(module, FairseqDropout):
            module.register_forward_hook(lambda module, *_: seen.append(module.p))
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *parts, dropout_p, **more: seen.append(dropout_p) or attend(*parts, dropout_p=dropout_p, **more),
    )
    encoder(SENTENCES[:1])
    assert seen == [0.25, *[0.125, 0.25, 0.5, 0.25] * 2]
    seen.clear()
    first, second = encoder.eval()(SENTENCES[:1]), encoder(SENTENCES[:1])
    assert torch.equal(first, second) and {seen[1], seen[5]} == {0.0}


def test_side_of_the_padding_does_not_matter(encoder):
    encoder.eval()
    left = torch.tensor([[0, 7, 8, 9, 2], [1, 1, 0, 5, 2]])
    torch.testing.assert_close(encoder(left)[1, 2:], encoder(SENTENCES)[1, :3])


def test_drawn_as_bert():
    torch.manual_seed(0)
    encoder = XlmrEncoder(XlmrConfig(vocab_size=5000, layers=1, width=64, ffn_width=256, heads=4))
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.dim() == 2:
            assert 0.018 < parameter.std() < 0.022, name
    assert not encoder.embed_tokens.weight[1].any() and not encoder.embed_positions.weight[1].any()
    assert encoder.embed_positions.weight.shape == (514, 64)


def test_size_of_xlmr_base():
    encoder = without_values(XlmrEncoder, XlmrConfig(250_002, 12, 768, 3072, 12))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == (250_002 + 514 + 2) * 768 + 12 * 7_087_872
