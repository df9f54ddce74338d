"""TriKD's projectors against fairseq's layers, whatever the padding."""

import pytest
import torch
from fairseq.models.transformer import TransformerConfig
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase

from mlvl_fairseq.modules.x_projector import CProjector, XProjector

WIDTH, FFN, HEADS = 16, 24, 4
LENGTHS = torch.tensor([5, 2, 4])


def fairseq_layer():
    config = TransformerConfig()
    config.encoder.embed_dim, config.encoder.ffn_embed_dim, config.encoder.attention_heads = WIDTH, FFN, HEADS
    config.encoder.normalize_before, config.activation_fn = False, "gelu"
    return TransformerEncoderLayerBase(config)


@pytest.fixture
def projector():
    torch.manual_seed(0)
    return XProjector(WIDTH, FFN, HEADS, 2).eval()


@pytest.fixture
def states():
    torch.manual_seed(1)
    return torch.randn(3, 5, WIDTH)


def padded_on(side, states):
    """Sentences of LENGTHS with the states of `states`, padded on one side with large numbers: what, mask, ends."""
    x, padding = torch.full((3, 7, WIDTH), 1e3), torch.ones(3, 7, dtype=torch.bool)
    starts = 7 - LENGTHS if side == "left" else torch.zeros(3, dtype=torch.long)
    for row, (start, length) in enumerate(zip(starts.tolist(), LENGTHS.tolist())):
        x[row, start : start + length] = states[row, :length]
        padding[row, start : start + length] = False
    return x, padding, starts + LENGTHS - 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_equals_fairseq_s_layers_at_the_end_of_the_sentence(projector, states, side):
    layers = [fairseq_layer() for _ in projector.layers]
    for theirs, ours in zip(layers, projector.layers):
        theirs.load_state_dict(ours.state_dict())  # strict: the names are fairseq's
        theirs.eval()
    x, padding, ends = padded_on(side, states)
    expected = x.transpose(0, 1)
    for layer in layers:
        expected = layer(expected, padding)
    torch.testing.assert_close(projector(x, padding, ends), expected[ends, torch.arange(3)], rtol=0, atol=2e-6)


def test_neither_side_nor_width_of_padding_changes_a_vector(projector, states):
    vectors = [projector(*padded_on(side, states)) for side in ("left", "right")]
    for row, length in enumerate(LENGTHS):
        own = states[row : row + 1, :length]
        vectors.append(projector(own, torch.zeros(1, length, dtype=torch.bool), torch.tensor([length - 1])))
    torch.testing.assert_close(vectors[0], vectors[1], rtol=0, atol=2e-6)
    torch.testing.assert_close(torch.cat(vectors[2:]), vectors[0], rtol=0, atol=2e-6)


def test_every_state_of_a_sentence_counts(projector, states):
    x, padding, ends = padded_on("right", states)
    vector = projector(x, padding, ends)
    for row, length in enumerate(LENGTHS.tolist()):
        for position in range(length):
            changed = x.clone()
            changed[row, position] += 0.1
            assert (projector(changed, padding, ends) - vector)[row].abs().max() > 1e-4


def test_initial_weights_are_drawn_as_fairseq_draws_them():
    torch.manual_seed(5)
    ours = XProjector(64, 128, 4, 1).layers[0].state_dict()
    config = TransformerConfig()
    config.encoder.embed_dim, config.encoder.ffn_embed_dim, config.encoder.attention_heads = 64, 128, 4
    for name, tensor in TransformerEncoderLayerBase(config).state_dict().items():
        assert float(ours[name].std()) == pytest.approx(float(tensor.std()), rel=0.3, abs=1e-6), name
        assert float(ours[name].mean()) == pytest.approx(float(tensor.mean()), abs=0.03), name


def test_base_has_the_published_number_of_parameters():
    """14,568,960 = 2 layers of 7,087,872 + 512 x 768 (Chen et al. 2023: about 3% of the whole)."""
    sizes = [sum(p.numel() for p in part.parameters()) for part in (XProjector(768, 3072, 12, 2), CProjector(512, 768))]
    assert sizes == [14_175_744, 393_216]


def test_dropout_in_training_only(states):
    torch.manual_seed(0)
    projector = XProjector(WIDTH, FFN, HEADS, 2, dropout=0.5)
    arguments = padded_on("left", states)
    assert not torch.equal(projector(*arguments), projector(*arguments))
    projector.eval()
    assert torch.equal(projector(*arguments), projector(*arguments))


@pytest.mark.parametrize("arguments", [(WIDTH, FFN, 3, 2), (WIDTH, FFN, HEADS, 0)])
def test_impossible_dimensions(arguments):
    with pytest.raises(ValueError, match="multiple|at least one"):
        XProjector(*arguments)


def test_c_projector_is_one_matrix():
    projector = CProjector(3, 2)
    assert projector.input_dim == 3 and [tuple(p.shape) for p in projector.parameters()] == [(2, 3)]
    features = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    assert torch.equal(projector(features), features.float() @ projector.weight.t())


def test_dropout_of_attention_is_torch_s_and_in_training_only(states, monkeypatch):
    seen, attend = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda *heads, dropout_p=0.0, **more: seen.append(dropout_p) or attend(*heads, dropout_p=dropout_p, **more),
    )
    projector, arguments = (
        XProjector(WIDTH, FFN, HEADS, 2, dropout=0.0, attention_dropout=0.25),
        padded_on("left", states),
    )
    first, second = projector(*arguments), projector(*arguments)
    assert seen == [0.25] * 4 and not torch.equal(first, second)
    projector.eval()
    assert torch.equal(projector(*arguments), projector(*arguments)) and seen[4:] == [0.0] * 4


def test_published_dropout_is_the_default():
    """0.3 after attention and feed-forward, 0.1 of attention's weights (Chen et al. 2023)."""
    for layer in XProjector(WIDTH, FFN, HEADS, 2).layers:
        assert (layer.dropout.p, layer.self_attn.dropout) == (0.3, 0.1)
