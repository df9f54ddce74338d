"""Three languages in sequence, six updates each, number by number against the reference's training loop.

Model, criterion, optimizer, schedule and handover are those of `fairseq-train --task cll_retrieval`; only the loop
around them is written out here, as the reference's batches and new embedding rows are given ones.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.utils import clip_grad_norm_
from golden import assert_golden, det, golden_text_tower, golden_text_weights, load_golden

from mlvl_fairseq.checkpoints.clip import CLIPWeights
from mlvl_fairseq.continual.learner import LanguageState
from mlvl_fairseq.continual.methods import method_options
from mlvl_fairseq.continual.row_scales import row_scale
from mlvl_fairseq.criterions.cll_clip import CllClipCriterion, CllClipCriterionConfig
from mlvl_fairseq.models.clip import ClipModel
from mlvl_fairseq.optim.row_adamw import FairseqRowAdamW, RowAdamWConfig, RowScales, set_row_scales
from mlvl_fairseq.optim.warmup_constant import WarmupConstantConfig, WarmupConstantSchedule
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalTask

METHODS = {
    "CLL_CLIP": "cll_clip",
    "TEIR": "cll_clip_with_teir",
    "REG_grad": "ablation_grad",
    "REG_decay": "ablation_decay",
}
CLIP_SIZE, BOS, EOS = 49408, 49406, 49407


@pytest.fixture(scope="module")
def golden():
    return load_golden("trace")


@pytest.fixture(scope="module")
def weights():
    return CLIPWeights.from_tensors("golden", golden_text_weights(embedding_scale=0.02), {}, None, text_heads=4)


class GivenRows:
    """In place of random new embedding rows: those of the golden task."""

    def __init__(self, task):
        self.task = task

    def grow(self, weight, rows):
        return torch.cat([weight, det((rows - len(weight), weight.shape[1]), 0.02, 10 + self.task)])


def begin_task(golden, weights, task):
    """Task `task`'s model before any checkpoint is loaded."""
    size = golden["vocab_sizes"][task]
    model = ClipModel(golden_text_tower(size), None)
    model.load_weights(weights, GivenRows(task))
    model.freeze(SimpleNamespace(freeze=CllRetrievalTask.default_freeze, trainable=None, init_from="golden"))
    counts = np.zeros((1, size), np.int64)
    counts[0, [token for tokens in golden["seqs"][str(task)] for token in tokens[1:-1]]] = 1
    state = LanguageState([str(i) for i in range(size)], CLIP_SIZE, task, counts, np.zeros(size, np.int64))
    model.begin_language(state, GivenRows(task), torch.nn.ModuleDict())
    return model


def scale_rows(model, options):
    """Attach the scales of a method, as the task does."""
    state, scales = model.language_state, RowScales()
    acts_on = options.get("regularize", "none")
    for name, part, kind in (("gradient", "grad", "grad_scale_type"), ("decay", "decay", "weight_decay_scale_type")):
        if part in acts_on:
            scale = row_scale(options[kind], state.use(0), (BOS, EOS))
            setattr(scales, name, scale)
    set_row_scales(model.text.token_embedding.weight, scales)


def batch(golden, task, step):
    rows = [(step * 5 + r) % 10 for r in range(5)]
    tokens = torch.tensor([golden["seqs"][str(task)][row] for row in rows])
    return {
        "net_input": {"tokens": tokens, "eos_positions": torch.full((5,), tokens.shape[1] - 1)},
        "text_features": torch.stack([det((32,), 1, 0.3 * row + task) for row in rows]),
        "image_features": torch.stack([det((32,), 1, 0.5 * (row // 2) + task) for row in rows]),
        "image_ids": torch.tensor([row // 2 for row in rows]),
        "nsentences": 5,
        "ntokens": tokens.numel(),
    }


def train(golden, model, criterion, task):
    """Six updates; yields the numbers of each once it is done."""
    parameters = [p for p in [*model.parameters(), *criterion.parameters()] if p.requires_grad]
    optimizer = FairseqRowAdamW(RowAdamWConfig(lr=[golden["lr"]], weight_decay=golden["wd"]), parameters)
    cfg = WarmupConstantConfig(warmup_updates=golden["warmup_steps"], lr=[golden["lr"]])
    schedule = WarmupConstantSchedule(cfg, optimizer)
    for step in range(golden["steps"]):
        optimizer.zero_grad()
        loss, rows, log = criterion(model, batch(golden, task, step))
        (loss / rows).backward()
        norm, rate = clip_grad_norm_(parameters, golden["clip"]), optimizer.get_lr()
        optimizer.step()
        schedule.step_update(step + 1)
        yield {
            "lr": rate,
            "loss": loss / rows,
            "cross_lingual": log["cross_lingual"] / rows,
            "cross_modal": log["cross_modal"] / rows,
            "grad_norm": norm,
            "vt_temp": criterion.temperature,
        }


def expected_numbers(step):
    parts = {"cross_lingual": step["parts"]["[TT]_loss_mse"], "cross_modal": step["parts"]["[VT]_loss_cl"]}
    return {**parts, **{name: step[name] for name in ("lr", "loss", "grad_norm", "vt_temp")}}


def check_task(golden, model, task, method):
    expected = golden[method][task]
    criterion = CllClipCriterion(CllClipCriterionConfig(), SimpleNamespace(position=task, plugins={}, model=None))
    embedding = model.text.token_embedding.weight
    for step, numbers in enumerate(train(golden, model, criterion, task)):
        where = f"{method}, task {task}, update {step}, "
        for name, value in expected_numbers(expected["steps"][step]).items():
            assert_golden(numbers[name], value, msg=where + name)
        assert_golden(embedding.double().norm(), expected["steps"][step]["emb_norm"])
        assert_golden(embedding.double().sum(), expected["steps"][step]["emb_sum"], atol=1e-5)
    for row, values in expected["probe_rows"].items():
        assert_golden(embedding[int(row), :4], values, msg=f"{method}, task {task}, row {row}")
    if method != "CLL_CLIP":  # the reference counts only for methods that scale rows
        used = model.language_state.token_frequencies + model.language_state.current_tokens
        for row, count in expected["freq_after"].items():
            assert used[int(row)] == count


@pytest.mark.parametrize("method", METHODS)
def test_three_tasks(golden, weights, method):
    checkpoint = None
    for task in range(3):
        model = begin_task(golden, weights, task)
        if checkpoint is not None:
            model.load_state_dict(checkpoint)
        scale_rows(model, method_options(METHODS[method]))
        check_task(golden, model, task, method)
        checkpoint = {name: tensor.clone() for name, tensor in model.state_dict().items()}
