"""The contrastive loss over several ranks is the loss of one process with all rows, gradients included."""

import itertools
from functools import partial

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks

from mlvl_fairseq.distributed import gather_with_grad
from mlvl_fairseq.losses import POSITIVES, contrastive_loss
from mlvl_fairseq.losses import features as losses

ROWS = {2: (5, 2), 3: (1, 4, 2)}
VALID = {
    "all rows": None,
    "some rows": [True, False, True, True, False, True, True],
    "none on the last rank, a dummy batch": [True, True, True, True, True, False, False],
    "none at all": [False] * 7,
}
CASES = list(itertools.product(POSITIVES, VALID))


def batch():
    generator = torch.Generator().manual_seed(3)
    text, image = torch.randn(7, 6, generator=generator), torch.randn(7, 6, generator=generator)
    return text, image, torch.tensor([1, 2, 1, 3, 2, 1, 4])


def run(rows, gather, positives, valid):
    """Loss summed over `rows`, and gradients of two encoders and a temperature."""
    torch.manual_seed(0)
    text_tower, image_tower = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
    temperature = torch.tensor(0.2, requires_grad=True)
    text, image, ids = (column[rows] for column in batch())
    valid = None if VALID[valid] is None else torch.tensor(VALID[valid])[rows]
    features = text_tower(text), image_tower(image)
    loss = contrastive_loss(*features, temperature, ids, gather=gather, positives=positives, valid=valid)
    loss.backward()
    parameters = [*text_tower.parameters(), *image_tower.parameters(), temperature]
    return [loss.detach(), *(parameter.grad for parameter in parameters)]


def run_rank(sizes, rank):
    """What one rank has after its losses and gradients were averaged, and what it gathered."""
    ends = [0, *itertools.accumulate(sizes)]
    rows = slice(ends[rank], ends[rank + 1])
    losses.MAX_SIMILARITIES = 14  # two rows at a time
    results = [run(rows, True, *case) for case in CASES]
    for result in itertools.chain(*results):
        dist.all_reduce(result)
        result /= len(sizes)  # as data-parallel training does
    return {"results": results, "ids": gather_with_grad(batch()[2][rows])}


@pytest.fixture(scope="module", params=ROWS, ids=lambda ranks: f"{ranks} ranks")
def gathered(request, tmp_path_factory):
    """What each of the ranks has."""
    sizes = ROWS[request.param]
    return run_ranks(partial(run_rank, sizes), tmp_path_factory.mktemp("ranks"), len(sizes))


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_ranks_equal_one_process(case, gathered):
    expected = run(slice(None), False, *case)
    rows = max(1, sum(VALID[case[1]] or [True] * 7))
    for saved in gathered:
        for average, whole in zip(saved["results"][CASES.index(case)], expected, strict=True):
            # A mean over the batch is what is trained on: sums over ranks, divided by all rows.
            torch.testing.assert_close(average * len(gathered) / rows, whole / rows, rtol=1e-6, atol=1e-6)


def test_rows_come_in_the_order_of_ranks(gathered):
    assert all(saved["ids"].tolist() == batch()[2].tolist() for saved in gathered)


@pytest.mark.parametrize("kind", POSITIVES)
def test_control_without_gathering_the_losses_differ(kind):
    """What the tolerance must tell apart: negatives, and false ones, of the own rank only."""
    whole = run(slice(None), False, kind, "all rows")
    parts = [run(slice(*ends), False, kind, "all rows") for ends in ((0, 5), (5, 7))]
    assert max((sum(part) - both).abs().max() / 7 for *part, both in zip(*parts, whole)) > 1e-3
