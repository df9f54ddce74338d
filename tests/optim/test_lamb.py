"""LAMB without apex against its formula in float64 (You et al. 2020, algorithm 2, with apex's clipping)."""

import copy
from argparse import Namespace

import numpy as np
import pytest
import torch
from fairseq.optim import FP16Optimizer, build_optimizer
from omegaconf import OmegaConf

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.optim import lamb
from mlvl_fairseq.optim.lamb import FairseqTorchLamb, Lamb, LambConfig

SHAPES = {"matrix": (4, 3), "bias": (3,), "temperature": (), "zeros": (2, 2), "without gradient": (5,)}
LR, BETAS, EPS = 0.02, (0.9, 0.99), 1e-6


def start():
    generator = np.random.default_rng(0)
    values = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    return {**values, "zeros": np.zeros(SHAPES["zeros"])}


def gradients(step):
    """Of very different sizes, so that the bound on their norm holds now and then only."""
    generator = np.random.default_rng(step + 1)
    values = {name: generator.standard_normal(shape) * 10.0 ** (step % 4 - 2) for name, shape in SHAPES.items()}
    values["without gradient"] *= 0  # its step is weight decay alone
    return values


def norm(array):
    return float(np.sqrt((array * array).sum()))


def reference(updates, weight_decay, max_grad_norm, spare_vectors, adapt_all):
    """Parameters by name after so many updates."""
    weights = start()
    first = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    second = copy.deepcopy(first)
    for t in range(1, updates + 1):
        grads = gradients(t)
        total = np.sqrt(sum(norm(grad) ** 2 for grad in grads.values()))
        factor = max_grad_norm / total if max_grad_norm and total > max_grad_norm else 1.0
        for name, weight in weights.items():
            grad = factor * grads[name]
            first[name] = BETAS[0] * first[name] + (1 - BETAS[0]) * grad
            second[name] = BETAS[1] * second[name] + (1 - BETAS[1]) * grad * grad
            mean, square = first[name] / (1 - BETAS[0] ** t), second[name] / (1 - BETAS[1] ** t)
            decay = 0.0 if spare_vectors and weight.ndim < 2 else weight_decay
            update = mean / (np.sqrt(square) + EPS) + decay * weight
            adapts = (decay != 0 or adapt_all) and norm(weight) > 0 and norm(update) > 0
            weights[name] = weight - LR * (norm(weight) / norm(update) if adapts else 1.0) * update
    return weights


def new_optimizer(dtype, values=None, **options):
    values = values or start()
    parameters = {name: torch.nn.Parameter(torch.tensor(value, dtype=dtype)) for name, value in values.items()}
    return parameters, Lamb(parameters.values(), LR, BETAS, EPS, **options)


def update(parameters, optimizer, step):
    for name, grad in gradients(step).items():
        parameters[name].grad = torch.tensor(grad, dtype=parameters[name].dtype)
    optimizer.step()


CASES = [
    {"weight_decay": 0.1, "max_grad_norm": 1.0, "spare_vectors": False, "adapt_all": False},
    {"weight_decay": 0.1, "max_grad_norm": 0.0, "spare_vectors": False, "adapt_all": False},
    {"weight_decay": 0.1, "max_grad_norm": 1.0, "spare_vectors": True, "adapt_all": False},
    {"weight_decay": 0.1, "max_grad_norm": 1.0, "spare_vectors": True, "adapt_all": True},
    {"weight_decay": 0.0, "max_grad_norm": 1.0, "spare_vectors": False, "adapt_all": False},
    {"weight_decay": 0.0, "max_grad_norm": 0.5, "spare_vectors": False, "adapt_all": True},
]


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_sixty_updates_equal_the_formula(dtype, tolerance, options, together, monkeypatch):
    if together:
        monkeypatch.setattr(lamb, "updated_together", lambda parameters: [parameters] if parameters else [])
    parameters, optimizer = new_optimizer(dtype, **options)
    for step in range(1, 61):
        update(parameters, optimizer, step)
    for name, expected in reference(60, **options).items():
        np.testing.assert_allclose(parameters[name].detach().numpy(), expected, tolerance, tolerance, err_msg=name)


def test_every_option_matters():
    results = [reference(5, **options) for options in CASES]
    for number, first in enumerate(results):
        for second in results[number + 1 :]:
            assert any(not np.allclose(first[name], second[name], rtol=1e-3) for name in SHAPES)


def test_gradients_are_left_as_they_are_and_none_means_no_update():
    parameters, optimizer = new_optimizer(torch.float32, weight_decay=0.1)
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, 7)
    parameters["bias"].grad = None
    optimizer.step()
    assert (parameters["matrix"].grad == 7).all()
    for name, value in start().items():
        moved = not np.array_equal(parameters[name].detach().numpy(), value.astype(np.float32))
        assert moved == (name != "bias")
    assert not optimizer.state[parameters["bias"]]


def test_a_cpu_updates_one_by_one_and_a_gpu_all_together():
    own, other = torch.zeros(2, 3).unbind(), torch.zeros(2, 3, device="meta").unbind()
    assert [list(map(id, part)) for part in lamb.updated_together(own)] == [[id(tensor)] for tensor in own]
    assert lamb.updated_together(other) == [other]
    assert lamb.updated_together([]) == []


def test_nothing_to_do():
    _, optimizer = new_optimizer(torch.float32)
    optimizer.step()
    assert not optimizer.state


def test_resuming_from_a_state_dict_is_exact(tmp_path):
    options = CASES[2]
    parameters, optimizer = new_optimizer(torch.float32, **options)
    for step in range(5):
        update(parameters, optimizer, step)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    values = {name: parameter.detach().numpy() for name, parameter in parameters.items()}
    resumed_parameters, resumed = new_optimizer(torch.float32, values, **options)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(5, 10):
        update(parameters, optimizer, step)
        update(resumed_parameters, resumed, step)
    assert all(torch.equal(parameter, resumed_parameters[name]) for name, parameter in parameters.items())


def config(**options):
    cfg = OmegaConf.structured(LambConfig(lr=[0.3], **options))
    OmegaConf.set_struct(cfg, False)
    cfg._name = "torch_lamb"
    return cfg


def test_fairseq_builds_it_from_options():
    cfg = config(
        lamb_betas="(0.8, 0.99)", lamb_eps=1e-5, weight_decay=0.2, lamb_max_grad_norm=3.0, lamb_spare_vectors=True
    )
    wrapper = build_optimizer(cfg, [torch.nn.Parameter(torch.ones(2, 2))])
    optimizer, group = wrapper.optimizer, wrapper.optimizer.param_groups[0]
    assert isinstance(wrapper, FairseqTorchLamb) and wrapper.get_lr() == 0.3
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.8, 0.99), 1e-5, 0.2)
    assert (optimizer.max_grad_norm, optimizer.spare_vectors, optimizer.adapt_all) == (3.0, True, False)


def test_every_tensor_keeps_a_ratio_of_its_own_in_half_precision():
    """With --bf16; with --fp16 fairseq asks for --fp16-no-flatten-grads because of `supports_flat_params`."""
    weights = [torch.nn.Parameter(torch.ones(shape).bfloat16()) for shape in ((2, 2), (3,))]
    cfg = Namespace(optimizer=config(), common=Namespace(fp16=False, bf16=True, fp16_scale_window=1))
    half = FP16Optimizer.build_optimizer(cfg, weights)
    copies = [(copy.shape, copy.dtype) for copy in half.fp32_optimizer.params]
    assert copies == [((2, 2), torch.float32), ((3,), torch.float32)]
    assert half.supports_flat_params is False


@pytest.mark.parametrize("betas", ["0.9", "(0.9, x)", "(0.9, 1)", "[-0.1, 0.9]"])
def test_betas_that_are_none_are_refused(betas):
    with pytest.raises(UserError, match="are not two numbers from 0 to below 1"):
        FairseqTorchLamb(config(lamb_betas=betas), [torch.nn.Parameter(torch.ones(1))])


def test_defaults_are_apex_s_and_those_of_fairseq_s_lamb():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    ours, built = Lamb([weight], lr=0.3), build_optimizer(config(), [weight]).optimizer
    assert (LambConfig().weight_decay, ours.param_groups[0]["weight_decay"]) == (0.01, 0)
    for optimizer in (ours, built):
        group = optimizer.param_groups[0]
        assert (group["lr"], group["betas"], group["eps"]) == (0.3, (0.9, 0.999), 1e-8)
        assert (optimizer.max_grad_norm, optimizer.spare_vectors, optimizer.adapt_all) == (1.0, False, False)


def test_a_closure_s_loss_is_given_back_with_its_gradients():
    weight = torch.nn.Parameter(torch.ones(2, 2))

    def closure():
        loss = (3 * weight).sum()
        loss.backward()
        return loss.detach()

    assert Lamb([weight], lr=0.1).step(closure) == 12 and (weight < 1).all() and Lamb([weight], lr=0.1).step() is None
