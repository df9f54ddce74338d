"""New embedding rows: their distribution, and that they are reproducible. Training some rows without the others."""

import pytest
import torch

from mlvl_fairseq.modules.expandable_embedding import ExpandableEmbedding, apply_idle_decay, grow_rows

NEW = 100_000


def test_old_rows_are_copied_and_new_ones_follow_the_given_distribution():
    weight = torch.randn(5, 4)
    grown = grow_rows(weight, 5 + NEW, mean=0.3, std=0.02, seed=1)
    assert grown.shape == (5 + NEW, 4) and torch.equal(grown[:5], weight)
    assert grown[5:].mean().item() == pytest.approx(0.3, abs=2e-4)
    assert grown[5:].std().item() == pytest.approx(0.02, rel=0.01)


def test_identical_distribution_is_that_of_all_elements():
    """TEIR: one mean and one unbiased deviation of the whole matrix; with four elements the bias would be 15 %."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    new = grow_rows(weight, 2 + NEW, mean=99, std=-1, seed=1)[2:]
    deviation = (14 / 3) ** 0.5
    assert new.mean().item() == pytest.approx(3, abs=0.03)
    assert new.std().item() == pytest.approx(deviation, rel=0.01)
    assert new.std(dim=0).tolist() == pytest.approx([deviation] * 2, rel=0.02)  # not one a column


def test_rows_follow_the_seed_and_no_other_random_number():
    weight = torch.zeros(3, 4)
    torch.manual_seed(5)
    first = grow_rows(weight, 7, 0, 1, seed=1)
    state = torch.get_rng_state()
    again, other = grow_rows(weight, 7, 0, 1, seed=1), grow_rows(weight, 7, 0, 1, seed=2)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays(dtype):
    grown = grow_rows(torch.ones(2, 2, dtype=dtype), 3000, 0, -1, seed=1)
    assert grown.dtype == dtype and (grown[2:] == 1).all()  # all elements equal: deviation 0


def test_nothing_to_add():
    weight = torch.randn(3, 2)
    assert torch.equal(grow_rows(weight, 3, 0, -1, seed=1), weight)


ROWS = torch.tensor([1, 2, 5, 6])


def compact(size=8, dim=3, rows=ROWS):
    """An embedding of which only `rows` train, and the whole matrix it started with."""
    torch.manual_seed(0)
    embedding = ExpandableEmbedding(size, dim)
    full = embedding.weight.detach().clone()
    embedding.train_rows(rows)
    return embedding, full


def test_only_the_chosen_rows_have_gradients_and_optimizer_state():
    embedding, full = compact()
    tokens = torch.tensor([[1, 5, 5], [2, 1, 6]])
    assert embedding.weight.shape == (4, 3) and torch.equal(embedding(tokens), full[tokens])
    embedding(tokens).square().sum().backward()
    dense = full.clone().requires_grad_()
    dense[tokens].square().sum().backward()
    torch.testing.assert_close(embedding.weight.grad, dense.grad[ROWS])


def test_in_validation_every_token_has_its_row():
    embedding, full = compact()
    with torch.no_grad():
        embedding.weight += 1
    embedding.decay_idle(0.5)
    embedding.eval()
    expected = full * 0.5
    expected[ROWS] = full[ROWS] + 1
    tokens = torch.tensor([[0, 1, 7], [6, 4, 3]])
    assert torch.equal(embedding(tokens), expected[tokens])


def test_in_training_a_token_without_a_row_is_an_error():
    embedding, _ = compact()
    with pytest.raises(IndexError):
        embedding(torch.tensor([0]))


def test_state_dict_holds_the_whole_matrix_under_its_usual_name():
    embedding, full = compact()
    assert embedding.state_dict().keys() == {"weight"}
    with torch.no_grad():
        embedding.weight *= 2
    state = embedding.state_dict()
    full[ROWS] *= 2
    assert torch.equal(state["weight"], full)
    plain = ExpandableEmbedding(8, 3)
    plain.load_state_dict(state)
    assert torch.equal(plain.weight, full) and plain.state_dict().keys() == {"weight"}
    with torch.no_grad():
        embedding.weight.zero_()
    assert torch.equal(state["weight"], full)  # what was saved is a copy


def test_put_off_decay_is_carried_out_in_a_state_dict():
    embedding, full = compact()
    for factor in (0.9, 0.8):
        embedding.decay_idle(factor)
    state = {f"text.{name}": value for name, value in embedding.state_dict().items()}
    assert torch.equal(state["text.weight"], full) and len(state) == 3  # not yet
    apply_idle_decay(state, "text.")
    expected = full * (0.9 * 0.8)
    expected[ROWS] = full[ROWS]
    assert state.keys() == {"text.weight"} and torch.equal(state["text.weight"], expected)
    before = dict(state)
    apply_idle_decay(state, "text.")
    assert state["text.weight"] is before["text.weight"]


@pytest.mark.parametrize("convert", [lambda module: module, torch.nn.Module.half, torch.nn.Module.double])
def test_a_restart_with_idle_decay_is_byte_exact(convert):
    """The factor is a float64 that no conversion of the module may round."""
    factors = [1 - 1e-5 * step for step in range(1, 8)]
    whole, stopped, again = (convert(compact()[0]) for _ in range(3))
    for factor in factors:
        whole.decay_idle(factor)
    for factor in factors[:3]:
        stopped.decay_idle(factor)
    again.load_state_dict(stopped.state_dict())
    assert again.idle_decay == stopped.idle_decay == factors[0] * factors[1] * factors[2]
    for factor in factors[3:]:
        again.decay_idle(factor)
    expected = 1.0
    for factor in factors:
        expected *= factor
    assert whole.idle_decay == again.idle_decay == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    tokens = torch.arange(8)
    assert torch.equal(whole.eval()(tokens), again.eval()(tokens))


def test_a_checkpoint_without_put_off_decay_resets_it():
    embedding, _ = compact()
    state = embedding.state_dict()
    embedding.decay_idle(0.5)
    embedding.load_state_dict(state)
    assert embedding.idle_decay == 1


def test_other_sizes_and_missing_weights_are_reported():
    embedding, _ = compact()
    with pytest.raises(RuntimeError, match=r"weight has shape \(7, 3\), not \(8, 3\)"):
        embedding.load_state_dict({"weight": torch.zeros(7, 3)})
    with pytest.raises(RuntimeError, match='Missing key.*"weight"'):
        embedding.load_state_dict({})


def test_a_frozen_embedding_stays_frozen():
    embedding = ExpandableEmbedding(8, 3)
    embedding.weight.requires_grad = False
    embedding.train_rows(ROWS)
    assert not embedding.weight.requires_grad
