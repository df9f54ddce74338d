"""M2M's linear layers against matrices in float64."""

import numpy as np
import pytest
import torch

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.sentence_map import SentenceMap, Unchanged

LENGTHS, WIDTH, DIM = (4, 1, 3), 6, 5


@pytest.fixture
def sentences():
    """States [3, 5, 6] with large numbers at padding, padding, ends; and the real states of each."""
    rng = np.random.default_rng(0)
    real = [rng.normal(size=(length, WIDTH)) for length in LENGTHS]
    states, padding = np.full((3, 5, WIDTH), 1e3), np.ones((3, 5), bool)
    for row, own in enumerate(real):
        states[row, : len(own)], padding[row, : len(own)] = own, False
    ends = torch.tensor(LENGTHS) - 1
    return torch.from_numpy(states), torch.from_numpy(padding), ends, real


@torch.no_grad()
@pytest.mark.parametrize("sentence", ["mean", "last"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_are_matrices_one_behind_the_other(sentences, layers, sentence):
    *given, real = sentences
    module = SentenceMap(WIDTH, DIM, layers, sentence).double()
    expected = np.stack([own.sum(0) / len(own) if sentence == "mean" else own[-1] for own in real])
    for layer in module.layers:
        expected = expected @ layer.weight.numpy().T + layer.bias.numpy()
    np.testing.assert_allclose(module(*given).numpy(), expected, rtol=1e-12)


@torch.no_grad()
def test_padding_on_the_left_makes_no_difference(sentences):
    states, padding, ends, _ = sentences
    left, filled, last = torch.full_like(states, -1e3), torch.ones_like(padding), torch.full((3,), 4)
    for row, length in enumerate(LENGTHS):
        left[row, 5 - length :], filled[row, 5 - length :] = states[row, :length], False
    for sentence in ("mean", "last"):
        module = SentenceMap(WIDTH, DIM, 2, sentence).double()
        torch.testing.assert_close(module(left, filled, last), module(states, padding, ends))


def test_no_layers_and_no_projector(sentences):
    with pytest.raises(UserError, match="--linear-layers 0: give 1 or more"):
        SentenceMap(WIDTH, DIM, 0)
    stays, features = Unchanged(DIM), torch.randn(2, DIM)
    assert torch.equal(stays(features), features) and not list(stays.parameters())
    assert (stays.in_features, stays.out_features, stays.input_dim) == (DIM, DIM, DIM)
