"""AdamW with row scales: the reference's numbers, torch's AdamW, and an independent float64 computation."""

import copy

import pytest
import torch
from fairseq.optim import build_optimizer
from golden import assert_golden, det, load_golden
from omegaconf import OmegaConf

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.optim import row_adamw
from mlvl_fairseq.optim.row_adamw import (
    FairseqRowAdamW,
    RowAdamW,
    RowAdamWConfig,
    RowScales,
    parse_betas,
    set_row_scales,
)

ROWS, WIDTH = 7, 3
SCALE = torch.tensor([0, 1, 0.5, 1 / 3, 0, 0.2, 1])
FEW = SCALE * (SCALE > 0.4)  # 3 of 7 rows: only they have state


def parameter(values, **scales):
    result = torch.nn.Parameter(values.clone())
    if scales:
        set_row_scales(result, RowScales(**scales))
    return result


def update(optimizer, parameters, gradients):
    for own, gradient in zip(parameters, gradients, strict=True):
        own.grad = gradient.clone()
    optimizer.step()


def gradient(step, shape=(ROWS, WIDTH)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(step)) * 10.0 ** (step % 3 - 2)


@pytest.mark.parametrize("variant, acts_on", [
    ("plain", []), ("grad", ["gradient"]), ("decay", ["decay"]), ("grad_decay", ["gradient", "decay"])
])  # fmt: skip
def test_four_updates_match_the_reference(variant, acts_on):
    golden = load_golden("optimizer")
    scales = {name: torch.tensor(golden["scale"]) for name in acts_on}
    parameters = {
        "emb": parameter(det((6, 3), 1, 0.5), **scales),
        "other": parameter(det((2, 3), 1, 0.9)),
        "vec": parameter(det((3,), 1, 1.3)),
    }
    optimizer = RowAdamW(parameters.values(), golden["lr"], golden["betas"], golden["eps"], golden["weight_decay"])
    for k, expected in enumerate(golden[variant], 1):
        update(optimizer, parameters.values(), [det(p.shape, 0.1 * k, 0.2 * k) for p in parameters.values()])
        for name, values in expected.items():
            assert_golden(parameters[name], values, msg=f"{name} after update {k}")


def reference(weight, gradients, lr, weight_decay, scales, betas=(0.9, 0.999), eps=1e-6):
    """Yang et al. 2024, section 3.4, and the scaled step, all rows in float64."""
    weight, one = weight.double(), torch.ones(len(weight), dtype=torch.float64)
    on_gradient, on_update, on_decay = (
        (one if scale is None else scale.double())[:, None] for scale in (scales.gradient, scales.update, scales.decay)
    )
    first = second = 0.0
    for step, grad in enumerate(gradients, 1):
        weight = weight * (1 - lr * weight_decay * on_decay)
        grad = grad.double() * on_gradient
        first = betas[0] * first + (1 - betas[0]) * grad
        second = betas[1] * second + (1 - betas[1]) * grad**2
        normalised = (first / (1 - betas[0] ** step)) / ((second / (1 - betas[1] ** step)).sqrt() + eps)
        weight = weight - lr * on_update * normalised
    return weight


@pytest.mark.parametrize("scales", [
    RowScales(),
    RowScales(update=SCALE),
    RowScales(update=SCALE, decay=SCALE),
    RowScales(gradient=SCALE, decay=SCALE),
    RowScales(gradient=SCALE),
    RowScales(gradient=SCALE * 3, update=SCALE, decay=SCALE.flip(0)),
    RowScales(update=FEW, decay=FEW),
    RowScales(gradient=FEW),
])  # fmt: skip
def test_twelve_updates_equal_their_definition(scales):
    start, gradients = gradient(99), [gradient(step) for step in range(12)]
    weight = parameter(start)
    set_row_scales(weight, scales)
    optimizer = RowAdamW([weight], lr=0.01, weight_decay=0.3)
    for grad in gradients:
        update(optimizer, [weight], [grad])
    expected = reference(start, gradients, 0.01, 0.3, scales)
    torch.testing.assert_close(weight.detach().double(), expected, rtol=2e-6, atol=2e-6)


def test_scaling_the_step_halves_what_scaling_the_gradient_leaves_alone():
    """Why there is `row_scale_on update`: Adam's normalisation undoes a factor on the gradient."""
    moved = {}
    for acts_on in ("gradient", "update"):
        weight = parameter(torch.zeros(2, 1), **{acts_on: torch.tensor([1.0, 0.5])})
        optimizer = RowAdamW([weight], lr=0.01, weight_decay=0)
        for _ in range(5):
            update(optimizer, [weight], [torch.ones(2, 1)])
        moved[acts_on] = (weight[1] / weight[0]).item()
    assert moved["gradient"] == pytest.approx(1, abs=1e-5)
    assert moved["update"] == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("acts_on", ["gradient", "update"])
@pytest.mark.parametrize("scale, rows_with_state", [(SCALE, ROWS), (FEW, 3)])
def test_rows_of_scale_zero_never_move_and_few_moving_ones_alone_have_state(acts_on, scale, rows_with_state):
    start = torch.randn(ROWS, WIDTH)
    weight = parameter(start, **{acts_on: scale, "decay": scale})
    optimizer = RowAdamW([weight], lr=0.1, weight_decay=0.5)
    for step in range(5):
        update(optimizer, [weight], [gradient(step)])
    still = scale == 0
    assert torch.equal(weight[still], start[still])
    assert (weight[~still] != start[~still]).all()
    for name in ("exp_avg", "exp_avg_sq"):
        assert optimizer.state[weight][name].shape == (rows_with_state, WIDTH)


def test_without_scales_it_is_torch_s_adamw():
    start = torch.randn(20, 8)
    ours, theirs = parameter(start), parameter(start)
    vector, their_vector = parameter(start[0]), parameter(start[0])
    optimizer = RowAdamW([ours, vector], lr=0.01, weight_decay=0.1)
    groups = [{"params": [theirs]}, {"params": [their_vector], "weight_decay": 0}]  # vectors are spared
    torchs = torch.optim.AdamW(groups, lr=0.01, eps=1e-6, weight_decay=0.1)
    for step in range(20):
        gradients = [gradient(step, (20, 8)), gradient(step, (8,))]
        update(optimizer, [ours, vector], gradients)
        update(torchs, [theirs, their_vector], gradients)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(vector, their_vector, rtol=1e-6, atol=1e-6)


def test_parameters_without_a_gradient_are_left_alone():
    idle, busy = parameter(torch.ones(2, 2)), parameter(torch.ones(2, 2))
    optimizer = RowAdamW([idle, busy], lr=0.1)
    busy.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(idle, torch.ones(2, 2)) and not torch.equal(busy, torch.ones(2, 2))


def test_resuming_from_a_state_dict_is_exact():
    def new(values):
        weight, scalar = parameter(values[0], update=SCALE, decay=SCALE), parameter(values[1])
        return weight, scalar, RowAdamW([weight, scalar], lr=0.01)

    weight, scalar, optimizer = new([torch.randn(ROWS, WIDTH), torch.tensor(0.07)])
    for step in range(3):
        update(optimizer, [weight, scalar], [gradient(step), gradient(step, ())])
    resumed_weight, resumed_scalar, resumed = new([weight.detach(), scalar.detach()])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        gradients = [gradient(step), gradient(step, ())]
        update(optimizer, [weight, scalar], gradients)
        update(resumed, [resumed_weight, resumed_scalar], gradients)
    assert torch.equal(weight, resumed_weight) and torch.equal(scalar, resumed_scalar)


@pytest.mark.parametrize("before, now", [
    (RowScales(update=FEW), RowScales(update=torch.ones(ROWS))),
    (RowScales(gradient=FEW), RowScales()),
    (RowScales(), RowScales(gradient=FEW)),
], ids=["other captions", "scales left out", "scales added"])  # fmt: skip
def test_state_of_other_captions_or_scales_is_refused(before, now):
    first, second = parameter(torch.ones(ROWS, WIDTH)), parameter(torch.ones(ROWS, WIDTH))
    set_row_scales(first, before)
    set_row_scales(second, now)
    optimizer, resumed = RowAdamW([first], lr=0.01), RowAdamW([second], lr=0.01)
    update(optimizer, [first], [gradient(0)])
    resumed.load_state_dict(optimizer.state_dict())
    with pytest.raises(UserError, match="belongs to other training captions or row scales"):
        update(resumed, [second], [gradient(1)])


@pytest.mark.parametrize("acts_on", ["gradient", "update", "decay"])
def test_scales_of_another_vocabulary_are_refused(acts_on):
    weight = parameter(torch.ones(ROWS, WIDTH), **{acts_on: torch.ones(ROWS + 1)})
    with pytest.raises(UserError, match="8 row scales for 7 rows"):
        update(RowAdamW([weight], lr=0.01), [weight], [gradient(0)])


def test_defaults_are_the_published_ones():
    """Yang et al. 2024: AdamW with betas (0.9, 0.999), epsilon 1e-6 and a weight decay of 0.05."""
    expected = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.05}
    weight = parameter(torch.ones(2, 2))
    for optimizer in (RowAdamW([weight], lr=0.1), FairseqRowAdamW(RowAdamWConfig(lr=[0.1]), [weight])._optimizer):
        assert {name: optimizer.param_groups[0][name] for name in expected} == expected


def test_state_is_on_the_device_of_its_parameter(monkeypatch):
    monkeypatch.setattr(row_adamw, "_adam_step", lambda *_: None)  # fused kernels have no meta version
    weight = torch.nn.Parameter(torch.ones(ROWS, WIDTH, device="meta"))
    weight.grad = torch.zeros_like(weight)
    optimizer = RowAdamW([weight], lr=0.1)
    optimizer.step()
    assert {value.device.type for value in optimizer.state[weight].values()} == {"meta"}


@pytest.mark.parametrize("text", ["0.9", "0.9, 0.99, 0.999", "a, b", "", "1, 0.9", "0.9, 1", "-0.1, 0.9", "0.9, -0.1"])
def test_betas_that_are_none(text):
    with pytest.raises(UserError, match=f"betas '{text}' are not two numbers from 0 to below 1"):
        parse_betas(text)


def test_betas_as_they_may_be_written():
    assert parse_betas("(0, 0.5)") == parse_betas("[0.0, .5]") == parse_betas(" 0,0.5 ") == (0.0, 0.5)


@pytest.mark.parametrize("few", [1, 2, 3])
def test_half_of_the_rows_or_fewer_are_picked_out(few):
    """3 of 6 are; 4 of 6 are most of them."""
    scale = torch.tensor([1.0] * few + [0.0] * (6 - few))
    more = torch.tensor([1.0, 0.5, 1, 1, 0, 0])
    for kind, rows in (("gradient", "active_rows"), ("update", "active_rows"), ("decay", "decayed_rows")):
        assert getattr(RowScales(**{kind: scale}), rows).tolist() == list(range(few))
        assert getattr(RowScales(**{kind: more}), rows) is None


def test_rows_that_the_update_moves_decide_where_both_have_scales():
    assert RowScales(gradient=torch.ones(4), update=torch.tensor([0, 1.0, 0, 0])).active_rows.tolist() == [1]


def test_a_closure_s_loss_is_given_back():
    weight = parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    assert RowAdamW([weight], lr=0.1).step(lambda: 7.5) == 7.5 and RowAdamW([weight], lr=0.1).step() is None


def test_fairseq_builds_it_from_options():
    cfg = OmegaConf.structured(RowAdamWConfig(adam_betas="(0.8, 0.99)", adam_eps=1e-5, weight_decay=0.2, lr=[0.3]))
    OmegaConf.set_struct(cfg, False)
    cfg._name = "row_adamw"
    weight = parameter(torch.ones(2, 2))
    optimizer = build_optimizer(cfg, [weight])
    group = optimizer.optimizer.param_groups[0]
    assert isinstance(optimizer.optimizer, RowAdamW) and optimizer.get_lr() == 0.3
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.8, 0.99), 1e-5, 0.2)


def test_idle_rows_decay_as_if_they_were_updated():
    """Rows kept elsewhere: the product of the factors is what weight decay does to rows without a gradient."""
    start, rows = gradient(99), torch.tensor([1, 4, 5])
    dense, few = parameter(start), parameter(start[rows])
    factors = []
    set_row_scales(few, RowScales(decay_idle=factors.append))
    optimizers = [RowAdamW([weight], lr=0.1, weight_decay=0.3) for weight in (dense, few)]
    for step in range(5):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.02 * step  # the first step decays nothing, and is not reported
        full = torch.zeros_like(start)
        full[rows] = gradient(step, (3, WIDTH))
        update(optimizers[0], [dense], [full])
        update(optimizers[1], [few], [full[rows]])
    assert factors == pytest.approx([1 - 0.02 * step * 0.3 for step in range(1, 5)])
    idle = [0, 2, 3, 6]
    product = float(torch.tensor(factors, dtype=torch.float64).prod())
    torch.testing.assert_close(dense[rows], few, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(dense[idle].double(), start[idle].double() * product, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scales", [{"decay": SCALE}, {"decay": FEW}])
def test_idle_rows_stay_where_decay_has_scales_of_its_own(scales):
    factors = []
    weight = parameter(gradient(1), **scales, decay_idle=factors.append)
    update(RowAdamW([weight], lr=0.1, weight_decay=0.3), [weight], [gradient(2)])
    assert factors == []


def test_idle_rows_decay_where_only_the_gradient_has_scales():
    factors = []
    weight = parameter(gradient(1), gradient=SCALE, decay_idle=factors.append)
    update(RowAdamW([weight], lr=0.1, weight_decay=0.3), [weight], [gradient(2)])
    assert factors == pytest.approx([0.97])


def test_several_states_are_several_optimizers_of_the_same_weights():
    """Each data set's batches step with moments and a count of their own (Yang et al. 2024, two training sets)."""
    start, gradients = det((4, 3), 1, 0), [det((4, 3), 1, phase) for phase in range(7)]
    theirs, ours = (torch.nn.Parameter(start.clone()) for _ in range(2))
    options = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.05}
    pair, own = [torch.optim.AdamW([theirs], **options) for _ in range(2)], RowAdamW([ours], **options)
    for number, gradient in enumerate(gradients):
        if number == 3:  # through a checkpoint
            state, own = own.state_dict(), RowAdamW([ours], **options)
            own.load_state_dict(state)
        theirs.grad, ours.grad = gradient.clone(), gradient.clone()
        pair[number % 2].step()
        own.moments = number % 2
        own.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
