"""The objective of CCLM on two ranks: as one process with all rows, or as published."""

from types import SimpleNamespace

import pytest
import torch
from golden import assert_golden
from golden_cclm import TABLE
from ranks import run_ranks

from mlvl_fairseq.criterions._pairs import DDP_BACKEND
from mlvl_fairseq.criterions.cclm import CclmPretrainingConfig, CclmPretrainingCriterion

GOLDEN = TABLE["contrastive"]
CASES = {"no_idx": "diagonal", "idx": "mean"}
WIDTH, VOCABULARY, ROWS = 5, 9, 6
SPLITS = {"golden": (3, 3), "uneven": (4, 2), "stands in": (6, 3)}


class Outputs:
    """A model that gives leaves."""

    def __init__(self, features):
        self.features, self.temperature = features, torch.tensor(0.07, requires_grad=True)
        self.words = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(4)).requires_grad_()
        embeddings = SimpleNamespace(word_embeddings=SimpleNamespace(weight=self.words))
        self.text_encoder = SimpleNamespace(embeddings=embeddings)

    def lm_head(self, states, words):
        return states @ words.t()

    def __call__(self, **inputs):
        return self.features


def batch():
    """Of regions, with second captions, and what the model gives for it; different numbers of everything a row."""
    generator = torch.Generator().manual_seed(3)
    features = {name: torch.randn(ROWS, WIDTH, generator=generator) for name in ("text", "image", "second")}
    features.update(matching=torch.randn(3 * ROWS, 2, generator=generator), drawn=torch.rand(3 * ROWS) < 2)
    features["drawn"][[7, 8, 13]] = False
    features["masked"] = torch.randn(ROWS, 3, WIDTH, generator=generator)
    features["boxes"] = torch.rand(ROWS, 4, generator=generator)
    labels = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 0], [1, -100, -100], [-100, -100, -100], [2, -100, -100]])
    sample = {"masked_ids": labels, "boxes": torch.rand(ROWS, 4, generator=generator)}
    sample["whole"] = torch.tensor([True, False, False, False, True, False])
    return sample, features


def of_rows(rows):
    sample, features = batch()
    parts = torch.arange(3 * ROWS).view(3, ROWS)[:, rows].flatten()
    pairs = {name: tensor[parts if len(tensor) == 3 * ROWS else rows] for name, tensor in features.items()}
    ids = torch.tensor([1, 2, 1, 3, 2, 4])[rows]
    number = len(ids)
    own = {name: tensor[rows] for name, tensor in sample.items()}
    counted = {"id": ids, "nsentences": number, "ntokens": 4 * number, "stream": "region", "net_input": {"ids": ids}}
    return {**own, **counted}, pairs


def golden_rows(rows):
    """The published code's features; nothing is masked, no pair counts."""
    text, image = (torch.tensor(GOLDEN["inputs"][f"{side}_feat"])[rows] for side in ("text", "image"))
    ids = torch.tensor(GOLDEN["inputs"]["idx"])[rows]
    number = len(ids)
    features = {"text": text, "image": image, "masked": torch.zeros(number, 1, WIDTH)}
    sample = {"masked_ids": torch.full((number, 1), -100), "nsentences": number, "ntokens": number, "stream": "image"}
    return {**sample, "net_input": {"ids": ids}}, features


def run(sample, features, **options):
    """The loss summed over rows and the gradients of all that the model gives, of its temperature and its words."""
    leaves = {name: tensor.requires_grad_() for name, tensor in features.items() if tensor.is_floating_point()}
    model = Outputs({**features, **leaves})
    criterion = CclmPretrainingCriterion(
        CclmPretrainingConfig(**options, ddp_backend=DDP_BACKEND), SimpleNamespace(streams=["region"])
    )
    loss, _, log = criterion(model, sample)
    loss.backward()
    found = {name: tensor.grad for name, tensor in leaves.items()}
    return {**found, "temperature": model.temperature.grad, "words": model.words.grad, "loss": loss.detach()}, log


def run_golden(rows, case, **options):
    """With features that have length 1; the published gradients are theirs, before any normalisation."""
    normalize, functional = torch.nn.functional.normalize, torch.nn.functional
    functional.normalize = lambda features, dim: features
    try:
        sample, features = golden_rows(rows)
        return run(sample, features, positives=CASES[case], **options)[0]
    finally:
        functional.normalize = normalize


def run_rank(rank):
    saved = {}
    for split, sizes in SPLITS.items():
        rows = slice(0, sizes[0]) if rank == 0 else slice(ROWS - sizes[1], ROWS)
        if split == "golden":
            for case in CASES:
                saved.update({(split, case, grad): run_golden(rows, case, itc_grad=grad) for grad in ("local", "full")})
            continue
        for mean_over in ("all", "rank"):
            sample, features = of_rows(rows)
            if split == "stands in" and rank == 1:
                sample["counts"] = torch.zeros(len(sample["id"]), dtype=torch.bool)
            saved[split, mean_over] = run(sample, features, mean_over=mean_over)[0]
    return saved


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return run_ranks(run_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("grad", ["local", "full"])
def test_gradient_of_the_published_contrast(case, grad, ranks):
    """Published, each rank has the loss of all rows and the gradient of its own, which data-parallel training then
    divides by the number of ranks; here the mean over ranks is of sums over rows."""
    share = 2 if grad == "local" else 1  # what is missing of the gradient of the whole loss
    for rank, saved in enumerate(ranks):
        found, published = saved["golden", case, grad], GOLDEN["world2"][f"rank{rank}"][case]
        for side in ("image", "text"):
            assert_golden(found[side].norm() / ROWS * share, published[f"grad_{side}_norm"], msg=side)
        assert_golden(found["image"][0] / ROWS * share, published["grad_image_row0"], atol=2e-6)
    both = [saved["golden", case, grad] for saved in ranks]
    published = GOLDEN["world2"]["rank0"][case]
    assert_golden(sum(found["loss"] for found in both) / ROWS, published["loss"])
    assert_golden(sum(found["temperature"] for found in both) / ROWS, published["grad_temp"])


def test_ranks_with_different_numbers_of_everything_equal_one_process(ranks):
    whole, _ = run(*of_rows(slice(0, ROWS)))
    both = [saved["uneven", "all"] for saved in ranks]
    for name, expected in whole.items():
        if name in ("loss", "temperature", "words"):
            found = sum(saved[name] for saved in both)
        elif name == "matching":  # positives, and two kinds of negatives
            found = torch.cat([part for parts in zip(*(saved[name].chunk(3) for saved in both)) for part in parts])
        else:
            found = torch.cat([saved[name] for saved in both])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=lambda error: f"{name}: {error}")
        assert expected.any(), name


def test_published_the_means_of_ranks_are_averaged(ranks):
    """Of masked words: their losses weigh the rows of their rank by the words of their rank."""
    sample, features = batch()
    numbers = (sample["masked_ids"] >= 0).sum(1).tolist()
    for rank, rows in enumerate(([0, 1, 2, 3], [4, 5])):
        found, whole = ranks[rank]["uneven", "rank"]["masked"], ranks[rank]["uneven", "all"]["masked"]
        share = (len(rows) / sum(numbers[row] for row in rows)) / (ROWS / sum(numbers))
        torch.testing.assert_close(found, whole * share)


@pytest.mark.parametrize("mean_over", ["all", "rank"])
def test_a_batch_that_stands_in_for_a_missing_one_changes_nothing(mean_over, ranks):
    """Of a rank that has none, the other has all rows; both go through the same exchanges."""
    whole, _ = run(*of_rows(slice(0, ROWS)), mean_over=mean_over)
    other, stand_in = (saved["stands in", mean_over] for saved in ranks)
    for name, expected in whole.items():
        torch.testing.assert_close(other[name], expected, rtol=1e-5, atol=1e-6, msg=lambda error: f"{name}: {error}")
        assert not stand_in[name].any(), name
