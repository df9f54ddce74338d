"""Parity with fairseq's own RoBERTa, built small."""

from argparse import Namespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models.roberta import RobertaModel

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig, XlmrEncoder

CONFIG = XlmrConfig(vocab_size=30, layers=2, width=16, ffn_width=24, heads=4, max_positions=12)
SENTENCES = torch.tensor([[0, 7, 8, 9, 2], [0, 5, 2, 1, 1]])


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


@pytest.mark.parametrize("training", [False, True])
def test_numbers_are_those_of_roberta(stock, encoder, training):
    stock.train(training)
    encoder.train(training)  # with the same dropout masks
    torch.manual_seed(3)
    expected, _ = stock(SENTENCES, features_only=True)
    torch.manual_seed(3)
    assert torch.equal(encoder(SENTENCES), expected)


def test_gradients_are_those_of_roberta(stock, encoder):
    stock.eval().zero_grad()
    stock(SENTENCES, features_only=True)[0][0].square().sum().backward()
    encoder.eval()(SENTENCES)[0].square().sum().backward()
    expected = dict(stock.encoder.sentence_encoder.named_parameters())
    for name, parameter in encoder.named_parameters():
        assert torch.equal(parameter.grad, expected[name].grad), name


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
