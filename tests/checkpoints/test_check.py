"""Modules without values, and tensors that do not fit them."""

import pytest
import torch
from torch import nn

from mlvl_fairseq.checkpoints.check import check_tensors, holding, without_values
from mlvl_fairseq.errors import DataError


class Layer(nn.Module):
    """Takes what initialisation functions give back, as modules do."""

    def __init__(self, width=3):
        super().__init__()
        if width < 1:
            raise ValueError("no width")
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2, width)))
        self.scale = nn.Parameter(nn.init.ones_(tensor=torch.empty(width)))
        self.register_buffer("size", torch.arange(width) + 1)


TENSORS = {"weight": torch.ones(2, 3), "scale": torch.zeros(3), "size": torch.tensor([1, 2, 3])}


def test_a_module_without_values_has_names_and_shapes():
    state = torch.random.get_rng_state()
    module = without_values(Layer, width=3)
    assert {name: (value.device.type, tuple(value.shape)) for name, value in module.state_dict().items()} == {
        "weight": ("meta", (2, 3)),
        "scale": ("meta", (3,)),
        "size": ("meta", (3,)),
    }
    assert torch.equal(torch.random.get_rng_state(), state)
    assert Layer().weight.device.type == "cpu"  # outside, everything is as it was


def test_a_module_holds_the_very_tensors():
    module = holding(Layer, TENSORS)
    assert module.weight.data_ptr() == TENSORS["weight"].data_ptr() and torch.equal(module.scale, TENSORS["scale"])


def changed(**changes):
    return {name: value for name, value in {**TENSORS, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    "given, field, message",
    [
        (changed(scale=None), "scale", "tensor is missing"),
        (changed(bias=torch.zeros(1)), "bias", "unknown tensor; a layer has none of this name"),
        (changed(weight=torch.ones(3, 2)), "weight", r"tensor has shape \[3, 2\], expected \[2, 3\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(given, field, message):
    with pytest.raises(DataError, match=f"model.pt field '{field}': {message}"):
        check_tensors("model.pt", "a layer", Layer, given)


def test_tensors_that_fit_and_those_that_need_not_be_there():
    check_tensors("model.pt", "a layer", Layer, TENSORS)
    check_tensors("model.pt", "a layer", Layer, changed(scale=None), ignore=("scale",))


def test_impossible_dimensions():
    with pytest.raises(DataError, match="model.pt: no .*layer has these dimensions: no width"):
        check_tensors("model.pt", "layer", lambda: Layer(0), TENSORS)


def test_whole_numbers_that_were_read_as_float32_become_such_again():
    module = holding(Layer, {**TENSORS, "size": TENSORS["size"].float()})
    assert module.size.dtype == torch.int64 and torch.equal(module.size, TENSORS["size"])
    assert module.weight.dtype == torch.float32
