"""Two updates of LilT's published training: losses, groups of the optimizer, weights; and negatives of two ranks."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from golden_lilt import PRESETS, ROWS, TABLE, golden_batch, golden_network, weights_after_two_updates
from ranks import run_ranks

from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion
from mlvl_fairseq.optim.grouped_adamw import FairseqGroupedAdamW, GroupedAdamWConfig


def new_criterion(**options):
    task = SimpleNamespace(trains_image_tower=True)
    return ClipContrastiveCriterion(ClipContrastiveConfig(positives="diagonal", **options), task).train()


@pytest.mark.parametrize("mode", PRESETS)
def test_two_updates_are_the_published_ones(mode):
    network, criterion, row = golden_network(mode), new_criterion(), TABLE["modes"][mode]
    cfg = GroupedAdamWConfig(lr=[1e-2], weight_decay=0.02, weight_decay_rules="reference")
    FairseqGroupedAdamW.name_parameters(cfg, network.named_parameters())
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    optimizer = FairseqGroupedAdamW(cfg, trained.values())
    groups = [(group["weight_decay"], set(group["names"])) for group in optimizer.param_groups]
    assert groups == [(0.0, set(row["no_decay"])), (0.02, set(row["decay"]))]
    losses, first = [], {}
    for _ in range(2):
        optimizer.zero_grad()
        loss, size, _ = criterion(network, golden_batch())
        (loss / size).backward()
        losses.append(float(loss / size))
        first = first or {name: parameter.grad.clone() for name, parameter in trained.items()}
        optimizer.step()
    assert losses == pytest.approx(row["losses"], rel=1e-5)
    compared = 0
    for name, expected in weights_after_two_updates(mode).items():
        determined = first[name].abs() > 1e-4  # Adam moves the others by the noise of their gradients
        compared += int(determined.sum())
        difference = (trained[name].detach() - expected)[determined].abs()
        assert not len(difference) or float(difference.max()) < 1e-5, name
    assert compared > 0.9 * sum(parameter.numel() for parameter in trained.values())


def test_by_default_temperature_class_token_and_positions_do_not_decay():
    cfg = GroupedAdamWConfig(lr=[1e-2])
    network = golden_network("full")
    FairseqGroupedAdamW.name_parameters(cfg, network.named_parameters())
    groups = [set(group["names"]) for group in FairseqGroupedAdamW(cfg, network.parameters()).param_groups]
    published = [set(TABLE["modes"]["full"][group]) for group in ("no_decay", "decay")]
    spared = groups[0] - published[0]
    assert spared == published[1] - groups[1] == {
        *("temp", "visual_encoder.cls_token", "visual_encoder.pos_embed"),
        "text_encoder.embeddings.position_embeddings.weight",
    }  # fmt: skip


def run(negatives, rows):
    """Mean loss of some rows, and gradients by name."""
    network = golden_network("full")
    loss, size, _ = new_criterion(negatives=negatives)(network, golden_batch(rows))
    (loss / size).backward()
    return float(loss / size), {name: parameter.grad for name, parameter in network.named_parameters()}


def run_rank(rank):
    results = {negatives: run(negatives, slice(2 * rank, 2 * rank + 2)) for negatives in ("local", "gather")}
    for _, gradients in results.values():
        for gradient in gradients.values():
            dist.all_reduce(gradient)
            gradient /= 2
    return results


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two ranks has after gradients were averaged."""
    return run_ranks(run_rank, tmp_path_factory.mktemp("ranks"))


def test_local_negatives_of_two_ranks_are_the_published_ones(ranks):
    expected = TABLE["ddp"]
    assert [ranks[rank]["local"][0] for rank in (0, 1)] == pytest.approx(
        [expected["loss_rank"][str(rank)] for rank in (0, 1)], rel=1e-5
    )
    for saved in ranks:
        norms = {name: float(saved["local"][1][name].norm()) for name in expected["grad_norms_after_ddp_average"]}
        assert norms == pytest.approx(expected["grad_norms_after_ddp_average"], rel=1e-4)


def test_gathered_negatives_of_two_ranks_are_those_of_one_process(ranks):
    loss, gradients = run("gather", slice(ROWS))
    assert loss == pytest.approx(TABLE["modes"]["full"]["losses"][0], rel=1e-5)
    assert sum(saved["gather"][0] for saved in ranks) / 2 == pytest.approx(loss, rel=1e-6)
    for saved in ranks:
        for name, expected in gradients.items():
            torch.testing.assert_close(saved["gather"][1][name], expected, rtol=1e-4, atol=2e-6, msg=name)
