"""Plugins are found by being in the folder; their options are those of the task; their memory is checked."""

from pkgutil import iter_modules

import pytest
import torch
from toy_learner import ToyTask, options

from mlvl_fairseq.continual import plugins as package
from mlvl_fairseq.continual.plugin import hand_over_plugins
from mlvl_fairseq.continual.plugins import PLUGINS, ContinualPlugin, active_plugins
from mlvl_fairseq.errors import UserError

NEW = """
from dataclasses import dataclass

import torch

from mlvl_fairseq.continual.plugin import ContinualPlugin, register_plugin


@dataclass
class CounterOptions:
    counter_scale: float = 0.0


@register_plugin("counter", CounterOptions)
class Counter(ContinualPlugin):
    switches = {"counter_scale": 0}

    def __init__(self, cfg, task):
        super().__init__(cfg, task)
        self.register_buffer("count", torch.zeros(2))
"""


@pytest.fixture
def counter(add_file):
    """A new method: one new file beside the others."""
    add_file(package, "counter", NEW)
    yield PLUGINS["counter"]
    del PLUGINS["counter"]


def everything(**values):
    return options(*(plugin.options for plugin in PLUGINS.values()), **values)


def test_a_new_file_is_a_new_method(counter):
    active = active_plugins(everything(counter_scale=1.0, lwf_scale=1.0), ToyTask())
    assert set(active) == {"counter", "lwf"} and isinstance(active["counter"], counter)
    assert PLUGINS["counter"] is counter and counter.family == "counter"


def test_every_file_of_the_folder_is_found():
    """A plugin's module is where it is registered from; the folder has no module that was not imported."""
    modules = {module.name for module in iter_modules(package.__path__)}
    imported = {plugin.__module__.rpartition(".")[2] for plugin in PLUGINS.values()}
    shared = {base.__module__.rpartition(".")[2] for plugin in PLUGINS.values() for base in plugin.__mro__[1:]}
    assert len(modules) > 6 and modules <= imported | shared


def test_methods_with_contrastive_losses_of_their_own_do_not_go_together(counter, monkeypatch):
    for name in ("counter", "lwf"):
        monkeypatch.setattr(PLUGINS[name], "cross_modal", lambda self, contrast, features, sample: None)
    with pytest.raises(UserError, match="counter and lwf each have a contrastive loss of their own"):
        active_plugins(everything(counter_scale=1.0, lwf_scale=1.0), ToyTask())


def test_nothing_is_active_by_default():
    assert len(active_plugins(everything(), ToyTask())) == 0


def test_options_of_every_plugin_are_options_of_the_task():
    from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalConfig

    known = CllRetrievalConfig.__dataclass_fields__
    for plugin in PLUGINS.values():
        assert plugin.options.__dataclass_fields__.keys() <= known.keys()
        for name, field in plugin.options.__dataclass_fields__.items():
            assert field.metadata["help"] and known[name].default == field.default


def test_what_a_method_remembers_goes_from_language_to_language(counter):
    plugins = active_plugins(everything(counter_scale=1.0), ToyTask())
    state = {"continual.counter.count": torch.ones(2), "other": torch.zeros(1)}
    hand_over_plugins(plugins, state, "continual.", None)
    assert state["continual.counter.count"].tolist() == [1, 1]
    del state["continual.counter.count"]  # the previous language did without the method
    hand_over_plugins(plugins, state, "continual.", None)
    assert state["continual.counter.count"].tolist() == [0, 0]


def test_memory_of_a_method_that_is_not_in_use_is_refused():
    state = {"continual.lwf.text/weight": torch.ones(2)}
    with pytest.raises(UserError, match="trained with the method 'lwf': train with it again, or start anew"):
        hand_over_plugins(active_plugins(everything(si_scale=1.0), ToyTask()), state, "continual.", None)


def test_buffers_take_the_checkpoint_s_size_and_precision_and_are_not_shared_with_it(counter):
    plugin = counter(everything(), ToyTask()).half()  # as with --fp16
    saved = {"count": torch.arange(5.0)}
    plugin.load_state_dict(saved)
    plugin.count += 1
    assert plugin.count.dtype == torch.float32
    assert plugin.count.tolist() == [1, 2, 3, 4, 5] and saved["count"].tolist() == [0, 1, 2, 3, 4]


def test_hooks_do_nothing_unless_a_method_needs_them():
    plugin, sample = ContinualPlugin(None, ToyTask()), {}
    assert plugin.extend_batch(sample) is sample and plugin.losses(None, {}, sample) == {}
    assert plugin.cross_modal(None, {}, sample) is None
    assert int(plugin.current_tokens()) == 0 and not plugin.needs_all_rows


@pytest.mark.parametrize("option, value", [("ewc_scale", float("nan")), ("memory_size", -1), ("replay_scale", -0.5)])
def test_numbers_of_methods_are_checked(option, value):
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} {value:g} is not a number of at least 0"):
        active_plugins(everything(**{option: value}), ToyTask())


def test_si_needs_its_damping():
    with pytest.raises(UserError, match="--si-damping 0 is not a number above 0"):
        active_plugins(everything(si_scale=1.0, si_damping=0.0), ToyTask())
