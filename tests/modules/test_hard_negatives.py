"""Negatives for matching: by which weights they are drawn, and that they are drawn so."""

import pytest
import torch
from golden import load_golden

from mlvl_fairseq.modules import hard_negatives
from mlvl_fairseq.modules.hard_negatives import Rows, draw, draw_negatives, new_generator

GOLDEN = load_golden("cclm_network")["matching_idx"]
IDS = torch.tensor(GOLDEN["ids"])


@pytest.fixture
def rows():
    """``rows(count)``: pairs of random features."""

    def rows(count, ids=None, scale=1.0):
        generator = torch.Generator().manual_seed(count)
        text, image = (scale * torch.randn(count, 6, generator=generator) for _ in range(2))
        return Rows(text, image, torch.arange(count) if ids is None else ids)

    return rows


@pytest.fixture
def given(monkeypatch):
    """Weights by which something is drawn: the likeliest is."""
    found = []
    monkeypatch.setattr(hard_negatives, "draw", lambda weights, generator: found.append(weights) or weights.argmax(1))
    return found


def plain_weights(queries, keys, temperature, query_ids, key_ids):
    """Row by row, in float64."""
    found = torch.zeros(len(queries), len(keys), dtype=torch.float64)
    for i, query in enumerate(queries.double()):
        cosines = [query @ key / query.norm() / key.norm() / temperature for key in keys.double()]
        total = sum(cosine.exp() for cosine in cosines)
        for j, cosine in enumerate(cosines):
            found[i, j] = 0 if query_ids[i] == key_ids[j] else cosine.exp() / total + 1e-5
    return found


@pytest.mark.parametrize("half", [False, True])
def test_weights_of_each_side(rows, given, half):
    own, temperature = rows(4, torch.tensor([3, 5, 3, 8]), scale=2.0), torch.tensor(0.05)
    others = Rows(*(torch.cat(pair) for pair in zip(rows(3, torch.tensor([8, 1, 9])), own)))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        negatives = draw_negatives(own, others, temperature, None)
    of_texts = plain_weights(own.text, others.image, 0.05, own.ids, others.ids)
    of_images = plain_weights(own.image, others.text, 0.05, own.ids, others.ids)
    for found, expected in zip(given, (of_texts, of_images), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-9)
    assert negatives.images.tolist() == of_texts.argmax(1).tolist()
    assert negatives.texts.tolist() == of_images.argmax(1).tolist()
    assert negatives.found.all()


def test_rows_of_one_thing_have_no_negatives(rows):
    own = rows(3, torch.tensor([4, 4, 4]))
    assert not draw_negatives(own, own, torch.tensor(0.07), None).found.any()
    own = rows(1)
    assert draw_negatives(own, own, torch.tensor(0.07), None).found.tolist() == [False]
    own = rows(3, torch.tensor([4, 4, 5]))
    assert draw_negatives(own, own, torch.tensor(0.07), None).found.all()


def test_draws_are_as_frequent_as_their_weights():
    """Beside the frequencies of the published code, whose rows with one id are no negatives of each other."""
    weights, number = torch.tensor(GOLDEN["negative_weights"][:5]), 4000
    drawn = draw(weights.repeat_interleave(number, 0), torch.Generator().manual_seed(1)).view(5, number)
    shares = weights.double() / weights.double().sum(1, keepdim=True)
    for row in range(5):
        found = torch.bincount(drawn[row], minlength=5) / number
        spread = (shares[row] * (1 - shares[row]) / number).sqrt()
        assert ((found - shares[row]).abs() <= 4 * spread + 1e-9).all()
        published = torch.tensor(GOLDEN["frequencies"][row])
        assert ((found - published).abs() <= 6 * spread + 1e-3).all()
        assert (found[IDS == IDS[row]] == 0).all()


def test_no_weight_is_too_small_beside_none():
    weights = torch.zeros(2000, 50)
    weights[:, 7] = 1e-38
    assert (draw(weights) == 7).all()


def test_ranks_draw_differently_and_a_restart_draws_the_same():
    weights = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))

    def drawn(seed, rank):
        torch.manual_seed(seed)  # as the trainer does before each update
        return [draw(weights, new_generator(weights.device, rank)).tolist() for _ in range(2)]

    first = drawn(5, 0)
    assert first == drawn(5, 0)
    others = [first[1], *drawn(5, 1), *drawn(6, 0)]
    assert all(sum(a == b for a, b in zip(first[0], other)) < 10 for other in others)
