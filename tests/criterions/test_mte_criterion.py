"""The objective against an evaluation of its formula in float64, and on several ranks against one process."""

import itertools
import math
import multiprocessing
from argparse import Namespace

import pytest
import torch
import torch.distributed as dist
from mte_models import PAIRS, new_batch, new_dictionary, new_model

from mlvl_fairseq.criterions.mte import MteCriterion, MteCriterionConfig
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models.mte import MteModel

VARIANTS = {
    "default": {},
    "published": {"smoothing_to": "all", "contrastive_weight": "published", "contrastive_source": "projected"},
    "a sentence": {"sentence_avg": True, "contrastive_temperature": 0.2},
    "chunks": {},
}
RANKS = {2: (3, 2), 3: (1, 3, 1)}


def new_criterion(training=True, **options):
    cfg = MteCriterionConfig(**{"sentence_avg": False, **options})
    return MteCriterion(cfg, Namespace(target_dictionary=new_dictionary(), language_id=None)).train(training)


def new_encoder(variant) -> MteModel:
    torch.manual_seed(0)
    model = new_model(train_encoder="layers", encode_chunk=2 if variant == "chunks" else 0)
    torch.nn.init.normal_(model.encoder.projection.bias)
    return model.eval()


def gradients(model, loss):
    """Of the parameters that train, by name, in float64."""
    values = {name: value for name, value in model.named_parameters() if value.requires_grad}
    grads = torch.autograd.grad(loss, list(values.values()), allow_unused=True)
    return {name: torch.zeros_like(v) if g is None else g.double() for (name, v), g in zip(values.items(), grads)}


def by_formula(model, batch, label_smoothing=0.1, contrastive_lambda=2.0, contrastive_temperature=0.1, **options):
    """The spec's 3.4, pair by pair in float64: what fairseq minimises, the sum divided by the sample size."""
    model = model.double()
    nll, sources, targets = 0, [], []
    for source, target in PAIRS:
        one = new_batch([(source, target)])["net_input"]
        states = model.encoder.xlmr(one["src_tokens"])
        projected = model.encoder.projection(states, one["target_lang"])
        memory = model.encoder.for_decoder(one["src_tokens"], projected)
        log_p = model.decoder(one["prev_output_tokens"], memory)[0][0].log_softmax(-1)
        size, labels = log_p.shape[1], torch.tensor([*target, 2])
        others = options.get("smoothing_to", "others") == "others"
        q = torch.full_like(log_p, label_smoothing / (size - others))
        q[range(len(labels)), labels] = 1 - label_smoothing + (0 if others else label_smoothing / size)
        nll = nll - (q * log_p).sum()
        pooled = projected if options.get("contrastive_source") == "projected" else states
        sources.append(pooled[0].mean(0))
        targets.append(model.encoder.xlmr(torch.tensor([[0, *target, 2]]))[0].mean(0))
    x, y = (torch.stack(rows) / torch.stack(rows).norm(dim=1, keepdim=True) for rows in (sources, targets))
    similarities = x @ y.t() / contrastive_temperature
    ctl = -0.5 * (similarities.log_softmax(1).diagonal().mean() + similarities.log_softmax(0).diagonal().mean())
    tokens, sentences = batch["ntokens"], batch["nsentences"]
    if options.get("contrastive_weight") == "published":
        return (nll + contrastive_lambda * ctl * tokens / sentences) / tokens
    return nll / (sentences if options.get("sentence_avg") else tokens) + contrastive_lambda * ctl


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_formula(variant):
    batch, options = new_batch(PAIRS), VARIANTS[variant]
    model = new_encoder(variant)
    loss, size, log = new_criterion(**options)(model, batch)
    assert size == (batch["nsentences"] if options.get("sentence_avg") else batch["ntokens"]) == log["sample_size"]
    found = gradients(model, loss / size)
    expected = by_formula(model, batch, **options)
    torch.testing.assert_close((loss / size).double(), expected, rtol=1e-6, atol=1e-6)
    for name, gradient in gradients(model, expected).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=2e-6, msg=name)


def test_stage_1_is_the_translation_loss_alone():
    batch = new_batch(PAIRS)
    model = new_model().eval()  # frozen encoder
    loss, size, log = new_criterion(contrastive_lambda=0)(model, batch)
    assert "contrastive" not in log
    expected = by_formula(model, batch, contrastive_lambda=0)
    torch.testing.assert_close((loss / size).double(), expected, rtol=1e-6, atol=1e-6)


def test_contrast_that_trains_nothing_is_refused():
    with pytest.raises(UserError, match="trains nothing while the encoder is frozen: give --contrastive-lambda 0"):
        new_criterion()(new_model(), new_batch(PAIRS))
    with torch.no_grad():
        new_criterion(training=False)(new_model(), new_batch(PAIRS))


def test_bad_options():
    with pytest.raises(UserError, match="--contrastive-temperature 0 is not a number above 0"):
        new_criterion(contrastive_temperature=0)
    with pytest.raises(UserError, match="--label-smoothing 1 is not"):
        new_criterion(label_smoothing=1)


def test_logged_values():
    batch = new_batch(PAIRS)
    loss, size, log = new_criterion(training=False)(new_encoder("default"), batch)
    from fairseq.logging import metrics

    with metrics.aggregate() as meters:
        MteCriterion.reduce_metrics([log])
    values = meters.get_smoothed_values()
    assert values["loss"] == pytest.approx(loss.item() / size / math.log(2), abs=1e-3)
    assert values["nll_loss"] == pytest.approx(log["nll"].item() / batch["ntokens"] / math.log(2), abs=1e-3)
    assert values["contrastive"] == pytest.approx(log["contrastive"].item() / 5 / math.log(2), abs=1e-3)
    assert values["ppl"] == pytest.approx(2 ** values["nll_loss"], rel=1e-2)


# Several ranks.


def rank_batches(sizes, dummy):
    """Uneven parts of the batch, and for a rank without data one that it has seen before."""
    ends = [0, *itertools.accumulate(sizes)]
    batches = [new_batch(PAIRS[start:end]) for start, end in zip(ends, ends[1:])]
    if dummy:
        counts = torch.zeros(2, dtype=torch.bool)
        batches.append({**new_batch(PAIRS[:2]), "counts": counts})
    return batches


def run_rank(rank, batches, folder):
    """Save gradients as fairseq has them: summed over ranks, divided by the sum of sample sizes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(batches))
    saved = {}
    for variant, options in VARIANTS.items():
        model = new_encoder(variant)
        counts = float("counts" not in batches[rank])
        loss, size, _ = new_criterion(**options)(model, batches[rank])
        found = gradients(model, loss * counts)
        total = torch.tensor(size * counts)
        for value in (total, *found.values()):
            dist.all_reduce(value)
        saved[variant] = {name: value / total for name, value in found.items()}
    torch.save(saved, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def on_ranks(batches, folder):
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=run_rank, args=(rank, batches, folder)) for rank in range(len(batches))]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * len(batches)
    return torch.load(folder / "0.pt")


@pytest.mark.parametrize("ranks, dummy", [(2, False), (3, False), (2, True)])
def test_ranks_equal_one_process(ranks, dummy, tmp_path):
    torch.set_num_threads(1)
    found = on_ranks(rank_batches(RANKS[ranks], dummy), tmp_path)
    for variant, options in VARIANTS.items():
        model, batch = new_encoder(variant), new_batch(PAIRS)
        if variant == "published":  # the weight of the contrastive loss follows the batches of the ranks
            options = {**options, "contrastive_lambda": 2.0 * published_share(RANKS[ranks])}
        loss, size, _ = new_criterion(**options)(model, batch)
        for name, gradient in gradients(model, loss / size).items():
            torch.testing.assert_close(found[variant][name], gradient, rtol=1e-5, atol=1e-6, msg=f"{variant} {name}")


def published_share(sizes):
    """Sum over ranks of tokens / sentences, against that of one process."""
    batches = rank_batches(sizes, False)
    whole = new_batch(PAIRS)
    return sum(b["ntokens"] / b["nsentences"] for b in batches) / (whole["ntokens"] / whole["nsentences"])
