"""Loss under noise and Fisher trace, against float64 computations on a second implementation of the tower."""

import numpy as np
import pytest
import torch
from reference_tower import double_weights, encode

from mlvl_fairseq.continual.analyses.convergence import (
    TrainingCaptions,
    average_loss,
    fisher_diagonal_sums,
    loss_under_noise,
    weight_noise,
)
from mlvl_fairseq.continual.analyses.inputs import sample_rows


@pytest.fixture
def data(captions_of_tokens):
    """11 captions of 4 images with 6 English sentences."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(0, 4, 11), rng.integers(0, 6, 11)], axis=1).astype(np.int32)
    images, english = (rng.standard_normal((count, 8)).astype(np.float32) for count in (4, 6))
    return TrainingCaptions(captions_of_tokens(11), rows, images, english)


def reference_losses(weights, data, rows):
    """The objective of a batch by its definition: (sum, MSE, contrastive)."""
    h = torch.stack([encode(weights, data.tokens[row], heads=2)[0] for row in rows])
    ids, english_rows = data.rows[rows].T
    v, e = (torch.from_numpy(x).double() for x in (data.images[ids], data.english[english_rows]))
    mse = (h - e).square().mean()
    cosines = (h / h.norm(dim=1, keepdim=True)) @ (v / v.norm(dim=1, keepdim=True)).T / 0.07
    same = torch.from_numpy(ids[:, None] == ids[None]).double()
    targets = same / same.sum(1, keepdim=True)
    contrastive = -0.5 * sum((targets * (c - c.exp().sum(1, keepdim=True).log())).sum() for c in (cosines, cosines.T))
    contrastive = contrastive / len(rows)
    return mse + 0.01 * contrastive, mse, contrastive


def test_loss_is_the_mean_over_batches(new_encoder, data):
    encoder, batches = new_encoder(), data.batches(4, seed=3)
    found = average_loss(encoder, data, batches)
    weights = double_weights(encoder.network.text)
    expected = np.mean([[float(x) for x in reference_losses(weights, data, rows)] for rows in batches], axis=0)
    assert [found[name] for name in ("loss", "cross_lingual", "cross_modal")] == pytest.approx(list(expected), rel=2e-5)


def test_fisher_trace_is_the_mean_of_squared_batch_gradients(new_encoder, data):
    encoder, batches = new_encoder(), data.batches(4, seed=3)
    weights = double_weights(encoder.network.text)
    expected = dict.fromkeys(weights, 0.0)
    for rows in batches:
        loss = reference_losses(weights, data, rows)[0]
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values()))):
            expected[name] += float((gradient**2).sum()) / len(batches)
    found = fisher_diagonal_sums(encoder, data, batches)
    assert found == pytest.approx(expected, rel=1e-4)
    assert sum(found.values()) == pytest.approx(sum(expected.values()), rel=2e-5)
    assert min(found.values()) > 0


def test_batches_are_full_and_hold_no_caption_twice(data):
    batches = data.batches(4, seed=3)
    assert [len(rows) for rows in batches] == [4, 4] and len(set(np.concatenate(batches))) == 8
    assert [rows.tolist() for rows in batches] == [rows.tolist() for rows in data.batches(4, seed=3)]
    assert [rows.tolist() for rows in batches] != [rows.tolist() for rows in data.batches(4, seed=4)]
    assert [sorted(rows) for rows in data.batches(100, seed=3)] == [list(range(11))]


def test_noise_has_its_size_and_goes_away(new_encoder):
    tower = torch.nn.Linear(300, 200)
    before = {name: parameter.clone() for name, parameter in tower.named_parameters()}

    def noise(std, seed):
        with weight_noise(tower, std, seed):
            return {name: (parameter - before[name]).detach() for name, parameter in tower.named_parameters()}

    small, large, other = noise(0.01, 1), noise(0.03, 1), noise(0.01, 2)
    assert float(small["weight"].std()) == pytest.approx(0.01, rel=0.02)
    assert float(small["weight"].mean()) == pytest.approx(0, abs=2e-4)
    torch.testing.assert_close(3 * small["weight"], large["weight"], rtol=0, atol=1e-6)
    assert abs(torch.corrcoef(torch.stack([small["weight"].flatten(), other["weight"].flatten()]))[0, 1]) < 0.02
    assert all(torch.equal(parameter, before[name]) for name, parameter in tower.named_parameters())


def test_weights_come_back_after_an_error():
    tower = torch.nn.Linear(3, 2)
    before = tower.weight.clone()
    with pytest.raises(RuntimeError), weight_noise(tower, 1.0, 1):
        assert not torch.equal(tower.weight, before)
        raise RuntimeError
    assert torch.equal(tower.weight, before)


def test_noise_is_what_the_loss_is_computed_with(new_encoder, data):
    encoder, batches = new_encoder(), data.batches(4, seed=3)
    still = average_loss(encoder, data, batches)
    assert loss_under_noise(encoder, data, batches, 0.0, 1, "test") == still
    moved = loss_under_noise(encoder, data, batches, 0.1, 1, "test")
    assert moved != still and moved == loss_under_noise(encoder, data, batches, 0.1, 1, "test")
    assert average_loss(encoder, data, batches) == still


def test_drawn_rows():
    assert sample_rows(5, None, 1).tolist() == sample_rows(5, 5, 1).tolist() == [0, 1, 2, 3, 4]
    rows = sample_rows(1000, 10, 1)
    assert len(set(rows)) == 10 and list(rows) == sorted(rows) and rows.max() < 1000
    assert rows.tolist() == sample_rows(1000, 10, 1).tolist() != sample_rows(1000, 10, 2).tolist()
