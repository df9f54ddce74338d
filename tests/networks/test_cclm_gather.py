"""Hard negatives out of the rows of all ranks: two ranks are what one process with both batches is."""

import pytest
import torch
from ranks import run_ranks

from mlvl_fairseq.distributed import FetchedRows
from mlvl_fairseq.modules import hard_negatives
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.features import FeatureGridConfig
from mlvl_fairseq.networks.cclm import CclmNetwork

RANKS = ((0, 2), (2, 5))  # the rows of each
WIDTHS = ((6, 7), (8, 5))  # tokens of texts, and of views, of each rank
STREAMS = ("image", "text")


def network():
    torch.manual_seed(2)
    text = CclmTextConfig(40, 12, 1, 3, max_positions=9, dropout=0.0, attention_dropout=0.0)
    found = CclmNetwork(FeatureGridConfig(4, 5).build(), text.build(), 6, 2).double().train()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if name != "temp":
                parameter.add_(0.2 * torch.randn_like(parameter))
    return found


def batch(stream, rank=None):
    """Of a rank, or both."""
    generator = torch.Generator().manual_seed(5)
    found = {"ids": torch.tensor([1, 2, 3, 2, 3]), "images": None}
    for kind, name in enumerate(("", "view_")[: 1 + (stream == "text")]):
        tokens, last = torch.randint(4, 40, (5, 9), generator=generator), torch.tensor([3, 4, 2, 4, 1])
        found[f"{name}tokens"], found[f"{name}eos_positions"] = tokens, last
        if rank is not None:
            found[f"{name}tokens"] = tokens[:, : WIDTHS[rank][kind]]
    if stream == "image":
        found["images"] = torch.randn(5, 4, 5, dtype=torch.float64, generator=generator)
    masked = found["view_tokens" if stream == "text" else "tokens"]
    found["masked_tokens"] = masked.index_fill(1, torch.tensor([1]), 3)
    found["masked_positions"] = torch.ones(5, 1, dtype=torch.long)
    rows = slice(*RANKS[rank]) if rank is not None else slice(None)
    return {name: None if value is None else value[rows] for name, value in found.items()}


def matched(network, inputs, rows):
    """Logits of the pairs and states of masked tokens [rows, 18], and the gradient of a sum that depends on each of
    them differently."""
    found = network(**inputs)
    outputs = torch.cat([*found["matching"].unflatten(0, (3, -1)), found["masked"][:, 0]], 1)
    factors = torch.randn(5, 18, dtype=torch.float64, generator=torch.Generator().manual_seed(6))[slice(*rows)]
    parameters = [p for name, p in network.named_parameters() if not name.startswith(("lm_head", "bbox_head"))]
    gradients = torch.autograd.grad((outputs * factors).sum(), parameters, allow_unused=True)
    assert found["drawn"].all()
    return outputs.detach(), [torch.zeros(()) if gradient is None else gradient for gradient in gradients]


def unlikeliest(weights, generator=None):
    """A draw that can be told beforehand."""
    return torch.where(weights > 0, weights, 9).argmin(1)


def run_rank(rank):
    hard_negatives.draw = unlikeliest
    model = network()
    model.negatives = "gather"
    found = {stream: matched(model, batch(stream, rank), RANKS[rank]) for stream in STREAMS}
    own = torch.arange(*RANKS[rank]).double().requires_grad_()
    wanted = torch.tensor([[4, 1, 0, 1], [2, 3]][rank])
    rows = FetchedRows(wanted, [2, 3])(own)
    (rows * torch.tensor([[1.0, 10, 100, 1000], [5, 50]][rank])).sum().backward()
    return {**found, "fetched": (rows.detach(), own.grad)}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two ranks has."""
    return run_ranks(run_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("stream", STREAMS)
def test_ranks_together_are_one_process(ranks, stream, monkeypatch):
    given = []

    def draw(weights, generator):
        given.append(unlikeliest(weights))
        return given[-1]

    monkeypatch.setattr(hard_negatives, "draw", draw)
    model = network()
    outputs, gradients = matched(model, batch(stream), (0, 5))
    drawn = torch.stack(given)
    assert (drawn[:, :2] >= 2).any() and (drawn[:, 2:] < 2).any()  # both ranks draw of the other one
    torch.testing.assert_close(torch.cat([rank[stream][0] for rank in ranks]), outputs)
    sums = [one + other for one, other in zip(*(rank[stream][1] for rank in ranks), strict=True)]
    assert len(sums) == len(gradients) > 50
    for one, other in zip(sums, gradients, strict=True):
        torch.testing.assert_close(one, other.to(one))
    model.negatives = "gather"  # alone, the same as local
    again, _ = matched(model, batch(stream), (0, 5))
    assert torch.equal(again, outputs)


def test_wanted_rows_come_and_their_gradients_go_back(ranks):
    assert [rank["fetched"][0].tolist() for rank in ranks] == [[4, 1, 0, 1], [2, 3]]
    assert [rank["fetched"][1].tolist() for rank in ranks] == [[100, 1010], [5, 50, 1]]
