"""AdamW with groups against its formula in float64, and the groups that names and shapes make."""

import copy
from argparse import Namespace

import numpy as np
import pytest
import torch
from fairseq.optim import FP16Optimizer, build_optimizer
from omegaconf import OmegaConf

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.optim.grouped_adamw import FairseqGroupedAdamW, GroupedAdamWConfig
from mlvl_fairseq.optim.groups import Group, memberships

SHAPES = {  # names that our towers and published ones have
    "visual_encoder.cls_token": (1, 1, 3),
    "visual_encoder.pos_embed": (1, 5, 3),
    "visual_encoder.norm.weight": (3,),
    "visual_encoder.blocks.0.mlp.fc1.weight": (4, 3),
    "visual_encoder.blocks.0.mlp.fc1.bias": (4,),
    "visual_encoder.layers.0.relative_position_bias_table": (9, 2),
    "text_encoder.embeddings.word_embeddings.weight": (7, 3),
    "text_encoder.embeddings.position_embeddings.weight": (5, 3),
    "vision.class_embedding": (3,),
    "vision.positional_embedding": (5, 3),
    "text.embed_positions.weight": (5, 3),
    "position_proj.weight": (2, 3),
    "temp": (),
    "logit_scale": (),
}
VECTORS = {name for name, shape in SHAPES.items() if len(shape) == 1}
SPARED = {
    *("visual_encoder.cls_token", "visual_encoder.pos_embed", "visual_encoder.layers.0.relative_position_bias_table"),
    *("text_encoder.embeddings.position_embeddings.weight", "vision.positional_embedding"),
    *("text.embed_positions.weight", "temp", "logit_scale"),
}
LR, BETAS, EPS, DECAY = 0.02, (0.9, 0.99), 1e-4, 0.3


def new_parameters(dtype=torch.float64):
    generator = np.random.default_rng(0)
    values = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    return {name: torch.nn.Parameter(torch.tensor(value, dtype=dtype)) for name, value in values.items()}


def gradient(name, step):
    generator = np.random.default_rng([step, list(SHAPES).index(name)])
    return generator.standard_normal(SHAPES[name]) * 10.0 ** (step % 4 - 4)  # small: epsilon matters


def config(**options):
    cfg = OmegaConf.structured(GroupedAdamWConfig(lr=[LR], **options))
    OmegaConf.set_struct(cfg, False)
    cfg._name = "grouped_adamw"
    return cfg


def new_optimizer(parameters, **options):
    """As fairseq's trainer builds it."""
    cfg = config(adam_betas=str(BETAS), adam_eps=EPS, weight_decay=DECAY, **options)
    FairseqGroupedAdamW.name_parameters(cfg, parameters.items())
    return build_optimizer(cfg, list(parameters.values()))


def update(parameters, optimizer, steps):
    for step in steps:
        optimizer.set_lr(LR / (step + 1))
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(gradient(name, step), dtype=parameter.dtype)
        optimizer.step()


def reference(steps, spared, factor):
    """The published formula; epsilon comes after the correction for moments that start at 0."""
    weights = {name: parameter.detach().numpy().copy() for name, parameter in new_parameters().items()}
    first = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    second = copy.deepcopy(first)
    for t in range(1, steps + 1):
        for name in SHAPES:
            grad, lr = gradient(name, t - 1), LR / t * factor.get(name, 1.0)
            first[name] = BETAS[0] * first[name] + (1 - BETAS[0]) * grad
            second[name] = BETAS[1] * second[name] + (1 - BETAS[1]) * grad * grad
            mean, square = first[name] / (1 - BETAS[0] ** t), second[name] / (1 - BETAS[1] ** t)
            weights[name] = weights[name] * (1 - lr * (0 if name in spared else DECAY))
            weights[name] = weights[name] - lr * mean / (np.sqrt(square) + EPS)
    return weights


FACTORS = {name: 0.1 for name in SHAPES if name.startswith("text_encoder")} | {"temp": 3.0}


@pytest.mark.parametrize(
    "rules, scales, spared, factor",
    [
        ("default", "", VECTORS | SPARED, {}),
        ("reference", "", VECTORS, {}),
        ("-. +cls_token", "", set(SHAPES) - {"visual_encoder.cls_token"}, {}),
        ("default", "0.1:^text_encoder 3:temp", VECTORS | SPARED, FACTORS),
    ],
)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_twenty_updates_equal_the_formula(dtype, tolerance, rules, scales, spared, factor):
    parameters = new_parameters(dtype)
    optimizer = new_optimizer(parameters, weight_decay_rules=rules, lr_scales=scales)
    update(parameters, optimizer, range(20))
    assert optimizer.get_lr() == LR / 20
    for name, expected in reference(20, spared, factor).items():
        np.testing.assert_allclose(parameters[name].detach().numpy(), expected, tolerance, tolerance, err_msg=name)


def test_one_group_is_torch_s_adamw_bit_for_bit():
    ours, torch_s = new_parameters(torch.float32), new_parameters(torch.float32)
    grouped = new_optimizer(ours, weight_decay_rules="+.")
    stock = torch.optim.AdamW(torch_s.values(), LR, BETAS, EPS, DECAY, fused=True)
    for step in range(5):
        update(ours, grouped, [step])
        stock.param_groups[0]["lr"] = LR / (step + 1)
        for name, parameter in torch_s.items():
            parameter.grad = ours[name].grad.clone()
        stock.step()
    assert all(torch.equal(ours[name], torch_s[name]) for name in SHAPES)


def test_groups_are_told_and_what_does_not_decay_comes_first(caplog):
    with caplog.at_level("INFO", "mlvl_fairseq"):
        groups = new_optimizer(new_parameters(), lr_scales="0.5:cls_token").param_groups
    assert [(group["weight_decay"], group["lr_scale"], group["lr"]) for group in groups] == [
        (0.0, 0.5, LR / 2),
        (0.0, 1.0, LR),
        (DECAY, 1.0, LR),
    ]
    assert caplog.messages == [
        "3 parameters in 1 tensors: weight decay 0, 0.5 times the learning rate",
        "90 parameters in 10 tensors: weight decay 0",
        "39 parameters in 3 tensors: weight decay 0.3",
    ]


def test_what_does_not_train_is_in_no_group():
    parameters = new_parameters()
    for name in SPARED:
        parameters[name].requires_grad = False
    named = {name for group in new_optimizer(parameters).param_groups for name in group["names"]}
    assert named == set(SHAPES) - SPARED


def test_later_rules_win():
    found = memberships(new_parameters(), "-weight +word_embeddings -embeddings.*weight +^temp", "2:. 5:^temp")
    decays = {name for name, membership in found.items() if membership.group.decays}
    others = {"position_proj.weight", "text.embed_positions.weight"} | {name for name in SHAPES if "embeddings" in name}
    assert decays == {name for name, shape in SHAPES.items() if len(shape) != 1 and "fc1" not in name} - others
    assert found["temp"].group == Group(True, 5.0) and found["logit_scale"].group == Group(True, 2.0)


def test_without_names_shapes_decide():
    """Where fairseq's trainer did not build it."""
    parameters = new_parameters()
    groups = build_optimizer(config(), list(parameters.values())).param_groups
    assert [len(group["params"]) for group in groups] == [len(VECTORS), len(SHAPES) - len(VECTORS)]


def test_resuming_from_a_state_dict_is_exact(tmp_path):
    options = {"lr_scales": "0.1:^text"}
    parameters = new_parameters(torch.float32)
    optimizer = new_optimizer(parameters, **options)
    update(parameters, optimizer, range(5))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    resumed_parameters = copy.deepcopy(parameters)
    resumed = new_optimizer(resumed_parameters, **options)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.get_lr() == optimizer.get_lr()
    update(parameters, optimizer, range(5, 10))
    update(resumed_parameters, resumed, range(5, 10))
    assert all(torch.equal(parameter, resumed_parameters[name]) for name, parameter in parameters.items())


@pytest.mark.parametrize("options", [{"weight_decay_rules": "reference"}, {"lr_scales": "0.1:^text"}])
def test_a_state_of_other_groups_is_refused(options):
    state = new_optimizer(new_parameters()).state_dict()
    with pytest.raises(UserError, match="is of other parameters or groups: resume with the same --weight-decay-rules"):
        new_optimizer(new_parameters(), **options).load_state_dict(state)


def test_the_same_shapes_under_other_names_are_refused():
    first, second = ({name: torch.nn.Parameter(torch.ones(2, 2))} for name in ("a.weight", "b.weight"))
    with pytest.raises(UserError, match="or with --reset-optimizer"):
        new_optimizer(second).load_state_dict(new_optimizer(first).state_dict())


def test_groups_reach_the_copies_of_half_precision():
    parameters = new_parameters(torch.bfloat16)
    cfg = Namespace(optimizer=config(), common=Namespace(fp16=False, bf16=True, fp16_scale_window=1))
    FairseqGroupedAdamW.name_parameters(cfg.optimizer, parameters.items())
    half = FP16Optimizer.build_optimizer(cfg, list(parameters.values()))
    spared, decaying = half.fp32_optimizer.param_groups
    assert set(spared["names"]) == VECTORS | SPARED and set(decaying["names"]) == set(SHAPES) - VECTORS - SPARED
    assert all(copy.dtype == torch.float32 for copy in half.fp32_optimizer.params)
    assert half.supports_flat_params is False  # with --fp16 fairseq asks for --fp16-no-flatten-grads


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"weight_decay_rules": "temp"},
            "--weight-decay-rules 'temp': write .PATTERN .* default, reference, cclm$",
        ),
        ({"weight_decay_rules": "-"}, "--weight-decay-rules '-': write"),
        ({"weight_decay_rules": "-("}, r"--weight-decay-rules '-\(' is no regular expression"),
        ({"weight_decay_rules": "-nothing"}, "--weight-decay-rules '-nothing' matches no parameter that trains"),
        ({"lr_scales": "text"}, "--lr-scales 'text': write FACTOR:PATTERN"),
        ({"lr_scales": "2:"}, "--lr-scales '2:': write FACTOR:PATTERN"),
        ({"lr_scales": "-1:text"}, "--lr-scales '-1:text': write FACTOR:PATTERN"),
        ({"lr_scales": "inf:text"}, "--lr-scales 'inf:text': write FACTOR:PATTERN"),
        ({"lr_scales": "2:nothing"}, "--lr-scales '2:nothing' matches no parameter that trains"),
    ],
)
def test_what_is_no_rule(options, message):
    with pytest.raises(UserError, match=message):
        new_optimizer(new_parameters(), **options)


def test_defaults_are_lilt_s():
    cfg = config()
    assert (cfg.adam_betas, cfg.adam_eps, cfg.weight_decay) == ("(0.9, 0.999)", 1e-8, 0.02)
    with pytest.raises(UserError, match="--weight-decay -1 is not a number of at least 0"):
        build_optimizer(config(weight_decay=-1.0), [torch.nn.Parameter(torch.ones(1))])


def test_a_group_may_stand_still():
    parameters = new_parameters(torch.float32)
    optimizer = new_optimizer(parameters, lr_scales="0:.")
    update(parameters, optimizer, range(2))
    assert optimizer.get_lr() == LR
    assert all(torch.equal(parameter, new_parameters(torch.float32)[name]) for name, parameter in parameters.items())
