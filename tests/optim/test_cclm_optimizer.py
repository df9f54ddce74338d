"""The optimizer and the schedule of CCLM's recipe against those of the published code."""

import pytest
import torch
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import (
    PolynomialDecayLRSchedule,
    PolynomialDecayLRScheduleConfig,
)
from golden import assert_golden, load_golden
from golden_cclm import golden_network, our_name
from omegaconf import OmegaConf

from mlvl_fairseq.configs import compose_config
from mlvl_fairseq.optim.grouped_adamw import FairseqGroupedAdamW, GroupedAdamWConfig
from mlvl_fairseq.optim.groups import memberships

GOLDEN = load_golden("cclm_optimizer")
RECIPES = ["cclm", "cclm_4m", "cclm_small"]


def options_of(recipe, *overrides):
    found = compose_config(recipe, overrides)["optimizer"]
    return {name: value for name, value in found.items() if name != "_name"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_are_the_published_ones(recipe):
    options = options_of(recipe, "+reference=cclm")
    parameters = dict(golden_network().named_parameters())
    found = memberships(parameters, options["weight_decay_rules"], options["lr_scales"])
    groups = {}
    for name, (_, group) in found.items():
        groups.setdefault((group.lr_scale, group.decays), set()).add(name)
    expected = {}
    for group in GOLDEN["groups"]:
        names = {our_name(name) for name in group["names"]}
        assert len(names) == group["n_params"]
        expected[round(group["lr"] / 1e-4, 6), group["weight_decay"] > 0] = names
    assert groups == expected
    assert sum(len(names) for (scale, _), names in groups.items() if scale == 2) == 77
    betas = tuple(float(part) for part in options["adam_betas"].strip("()").split(","))
    assert (options["weight_decay"], *betas) == (0.01, *GOLDEN["eps_betas"][1])


@pytest.mark.parametrize("recipe", RECIPES)
def test_by_default_neither_norms_nor_temperature_nor_tables_of_positions_decay(recipe):
    options = options_of(recipe)
    assert "weight_decay_rules" not in options
    found = memberships(dict(golden_network().named_parameters()), "default", options["lr_scales"])
    published = {our_name(name) for group in GOLDEN["groups"] if group["weight_decay"] for name in group["names"]}
    decaying = {name for name, (_, group) in found.items() if group.decays}
    assert published - decaying == {
        "temp",
        "text_encoder.embeddings.position_embeddings.weight",
        "itm_head.1.weight",
        "bbox_head.1.weight",
    }
    assert decaying < published


def steps_of(start, gradients, lr, betas, eps, decay):
    """AdamW as torch has it, in float64: decays before the update, epsilon beside the corrected root."""
    (beta1, beta2), mean, square, trace = betas, 0.0, 0.0, []
    for step, gradient in enumerate(gradients, 1):
        mean, square = beta1 * mean + (1 - beta1) * gradient, beta2 * square + (1 - beta2) * gradient**2
        start = start * (1 - lr * decay)
        start -= lr * (mean / (1 - beta1**step)) / ((square / (1 - beta2**step)) ** 0.5 + eps)
        trace.append(start)
    return trace


def test_updates_differ_from_the_published_ones_by_the_order_of_decay_and_by_epsilon():
    golden = GOLDEN["adamw_trace"]
    first = [0.1, -0.2, 1e-9, 3.0]
    parameter = torch.nn.Parameter(torch.tensor(golden["start"]))
    cfg = OmegaConf.structured(
        GroupedAdamWConfig(lr=[golden["lr"]], weight_decay=golden["wd"], adam_betas=str(tuple(golden["betas"])))
    )
    parameter.param_group = memberships({"x": torch.zeros(1, 1)}, "reference", "")["x"]
    optimizer = FairseqGroupedAdamW(cfg, [parameter])
    number = len(golden["params_after_each_step"])
    for step, published in enumerate(golden["params_after_each_step"]):
        parameter.grad = torch.tensor(first) * (step + 1)
        optimizer.step()
        expected = [
            steps_of(start, [one * (k + 1) for k in range(number)], 0.1, golden["betas"], 1e-8, golden["wd"])[step]
            for start, one in zip(golden["start"], first, strict=True)
        ]
        assert_golden(parameter, expected)
        usual = [0, 1, 3]  # the gradient of the other one is smaller than epsilon
        # Published, what was added is decayed at once: by lr * decay of the learning rate at most, at every step.
        assert_golden(parameter[usual], [published[row] for row in usual], rtol=0, atol=1.1e-4 * (step + 1))
        assert abs(float(parameter[2].detach()) - published[2]) > 5e-3 * (step + 1)


@pytest.mark.parametrize("name, warmup", [("schedule_20_steps_warmup_0.1", 2), ("schedule_20_steps_warmup_5", 5)])
def test_schedule_is_the_published_one_but_for_the_first_update(name, warmup):
    options = {key: value for key, value in compose_config("cclm")["lr_scheduler"].items() if key != "_name"}
    assert options["warmup_updates"] / options["total_num_update"] == pytest.approx(2500 / GOLDEN["steps"]["3m"][1])
    cfg = PolynomialDecayLRScheduleConfig(**{**options, "warmup_updates": warmup, "total_num_update": 20.0}, lr=[1e-4])
    optimizer = FairseqGroupedAdamW(GroupedAdamWConfig(lr=[1e-4]), [torch.nn.Parameter(torch.ones(1))])
    schedule = PolynomialDecayLRSchedule(cfg, optimizer)
    factors = [optimizer.get_lr() / 1e-4] + [schedule.step_update(number) / 1e-4 for number in range(1, 21)]
    assert factors[0] == pytest.approx(1 / warmup)  # published: 0
    assert factors[1:] == pytest.approx(GOLDEN[name][1:])


@pytest.mark.parametrize("recipe, regions", [("cclm", {}), ("cclm_4m", {"regions": "???", "code_switch": True})])
def test_a_recipe_has_the_published_settings(recipe, regions):
    """Of Pretrain_3m.yaml and Pretrain_4m.yaml, whose steps are counted in iterations."""
    config = compose_config(recipe)
    task = {"_name": "cclm_pretraining", "augment": True, "epoch_records": config["task"]["epoch_records"], **regions}
    assert config["task"] == {**task, **dict.fromkeys(("image_text", "parallel_text", "tokenizer_folder"), "???")}
    optimization, scheduler, checkpoint = (config[name] for name in ("optimization", "lr_scheduler", "checkpoint"))
    assert (optimization["lr"], optimization["clip_norm"], config["dataset"]["batch_size"]) == ([1e-4], 1.0, 128)
    assert (scheduler["warmup_updates"], scheduler["end_learning_rate"], scheduler["power"]) == (2 * 2500, 0.0, 1.0)
    assert (checkpoint["save_interval"], checkpoint["save_interval_updates"]) == (5, 2 * 50_000)
    assert (config["common"]["seed"], config["common"]["amp"], config["model"]["_name"]) == (42, True, "cclm_base")


@pytest.mark.parametrize("recipe, published", [("cclm", "3m"), ("cclm_4m", "4m")])
def test_a_recipe_has_two_updates_an_iteration(recipe, published):
    config = compose_config(recipe)
    (an_epoch, all_of_them), rows = GOLDEN["steps"][published], config["dataset"]["batch_size"] * 8
    assert -(-config["task"]["epoch_records"] // rows) == an_epoch
    assert config["optimization"]["max_update"] == config["lr_scheduler"]["total_num_update"] == 2 * all_of_them
