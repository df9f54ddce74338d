"""Rules of what trains: in order, by name, told."""

import logging
from dataclasses import fields

import pytest
from torch import nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.networks.freezing import freeze, freeze_parameters, freezing_options, rules_of


@pytest.fixture
def module():
    """Parameters ``a.weight``, ``a.bias`` (2 + 2), ``b.weight``, ``b.bias`` (6 + 3)."""
    return nn.ModuleDict({"a": nn.Linear(1, 2), "b": nn.Linear(2, 3)})


def trained(module):
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("rules, left", [
    ([], ["a.weight", "a.bias", "b.weight", "b.bias"]),
    (["-^a"], ["b.weight", "b.bias"]),
    (["-.", "+bias"], ["a.bias", "b.bias"]),
    (["-.", "+bias", "-^b"], ["a.bias"]),
    (["+bias", "-.", r"+^b\.weight"], ["b.weight"]),
])  # fmt: skip
def test_later_rules_win(module, rules, left):
    frozen = freeze_parameters(module, rules, "--trainable")
    assert trained(module) == left
    assert sorted(frozen + left) == ["a.bias", "a.weight", "b.bias", "b.weight"]


def test_what_is_frozen_already_stays_frozen(module):
    module["a"].requires_grad_(False)
    assert freeze_parameters(module, ["+^a", "-weight"], "--trainable") == ["b.weight"]
    assert trained(module) == ["b.bias"]


@pytest.mark.parametrize("rules, message", [
    (["-("], r"--trainable '-\(' is no regular expression"),
    (["-c"], "--trainable '-c' matches no parameter"),
    (["-."], "--trainable '-.' leaves nothing to train"),
])  # fmt: skip
def test_rules_that_make_no_sense(module, rules, message):
    with pytest.raises(UserError, match=message):
        freeze_parameters(module, rules, f"--trainable '{rules[0]}'")
    assert len(trained(module)) == 4


def test_presets_have_names():
    presets = {"head": ("-.", "+^b")}
    assert rules_of("head", presets) == ["-.", "+^b"]
    assert rules_of("-.  +^a", presets) == ["-.", "+^a"]
    with pytest.raises(UserError, match=r"--trainable 'hed': write \+PATTERN or -PATTERN, or one of the presets head"):
        rules_of("hed", presets)


def test_typed_rules_win_over_a_shorthand_and_counts_are_told(module, caplog):
    with caplog.at_level(logging.INFO):
        assert freeze(module, None, ["-^a"], "--freeze '^a'", {}) == ["a.weight", "a.bias"]
    assert "9 of 13 parameters train (69.2308%), 2 of 4 tensors" in caplog.text
    assert freeze(module, "-weight", ["-^b"], "--freeze '^b'", {}) == ["b.weight"]


def test_the_option_names_the_presets():
    (option,) = fields(freezing_options({"head": ("-.", "+^b"), "all": ()}, "--freeze"))
    assert option.name == "trainable" and option.default is None
    assert option.metadata["help"].startswith("what trains: head, all; or rules")
