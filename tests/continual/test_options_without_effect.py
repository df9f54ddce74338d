"""What is given to a part of a run that is off is told, whatever the part: those that there are say so themselves."""

import logging
from dataclasses import fields
from enum import Enum
from types import SimpleNamespace

import pytest

from mlvl_fairseq.continual import preconditions
from mlvl_fairseq.continual.learner import build_language_adapter
from mlvl_fairseq.continual.plugins import PLUGINS
from mlvl_fairseq.continual.sequence import Sequence, Settings
from mlvl_fairseq.models.clip import ClipConfig
from mlvl_fairseq.modules.adapters import ADAPTERS, adapter_parts
from mlvl_fairseq.options import without_effect
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalConfig, CllRetrievalTask

FOUND = "of the options given without effect:"
PARTS = [*CllRetrievalTask.parts(), *adapter_parts()]


def options_of(**given):
    """All options of the task and of its model, and which of them switch a part on."""
    return SimpleNamespace(**{**vars(CllRetrievalConfig(data="c", lang="en")), **vars(ClipConfig()), **given})


def another(option):
    """A value that is not the default."""
    default = option.default
    if isinstance(default, Enum):
        return next(value for value in type(default) if value != default)
    if isinstance(default, bool):
        return not default
    return default + 3 if isinstance(default, (int, float)) else "3"


def cases():
    switches = {name for plugin in PLUGINS.values() for name in plugin.switches} | {"data_sets"}
    for kind in dict.fromkeys(part.options for part in PARTS):
        for option in fields(kind):
            if option.name not in switches:
                yield pytest.param(option, id=option.name)


@pytest.mark.parametrize("option", cases())
def test_an_option_of_a_part_that_is_off_is_told(option):
    value = another(option)
    told = without_effect(PARTS, options_of(**{option.name: value}))
    assert told.startswith(f"1 {FOUND} ")
    assert f"--{option.name.replace('_', '-')} {value} (only with --" in told


def test_every_adapter_and_every_plugin_with_options_has_cases():
    told = {case.values[0].name for case in cases()}
    for kind in ADAPTERS.values():
        assert {option.name for option in fields(kind.options_type)} <= told
    for plugin in PLUGINS.values():
        own = {option.name for option in fields(plugin.options)}
        assert own <= told | plugin.switches.keys() | PLUGINS["replay"].switches.keys() | {"replay_method"}


def test_defaults_are_not_told():
    assert without_effect(PARTS, options_of()) is None


@pytest.mark.parametrize("switch, own", [
    ({"adapter": "lora"}, {"lora_rank": 4, "lora_alpha": 2.0}),
    ({"adapter": "dual_prompt"}, {"prompt_mask": "published", "dual_pool": 9}),
    ({"adapter": "coda_prompt"}, {"prompt_mask": "published", "coda_length": 4}),
    ({"ewc_scale": 5.0}, {"ewc_batches": 3, "ewc_gamma": 0.5}),
    ({"si_scale": 1.0}, {"si_damping": 0.1}),
    ({"memory_size": 9}, {"replay_scale": 3.0, "memory_selection": "herding", "memory_label": "student"}),
    ({"memory_size": 9, "memory_label": "student", "replay_method": "derpp"}, {"derpp_alpha": 2.0}),
    ({"regularize": "grad"}, {"grad_scale_type": "usage_share", "row_scale_on": "update"}),
    ({"regularize": "decay"}, {"weight_decay_scale_type": "usage_share"}),
    ({"regularize": "grad_decay"}, {"grad_scale_type": "unique", "weight_decay_scale_type": "usage_share"}),
    ({"data_sets": "a,b"}, {"data_set_moments": "own"}),
])  # fmt: skip
def test_an_option_of_a_part_that_is_on_is_not_told(switch, own):
    assert without_effect(PARTS, options_of(**switch, **own)) is None


@pytest.mark.parametrize("given, told", [
    ({"lora_rank": 4, "adapter": "prefix"}, f"1 {FOUND} --lora-rank 4 (only with --adapter lora)"),
    ({"prompt_mask": "published"}, f"1 {FOUND} --prompt-mask published (only with "
     "--adapter coda_prompt or --adapter dual_prompt)"),
    ({"derpp_beta": 2.0, "memory_size": 9}, f"1 {FOUND} --derpp-beta 2.0 (only with "
     "--memory-size and --replay-method derpp)"),
    ({"row_scale_on": "update", "regularize": "decay"}, f"1 {FOUND} --row-scale-on update "
     "(only with --regularize grad)"),
    ({"ewc_batches": 30, "mas_batches": 20}, f"2 {FOUND} --mas-batches 20 (only with "
     "--mas-scale), --ewc-batches 30 (only with --ewc-scale)"),
])  # fmt: skip
def test_it_is_said_what_would_read_them(given, told):
    assert without_effect(PARTS, options_of(**given)) == told


def test_what_is_usual_in_a_run_is_not_told():
    usual = options_of(weight_decay_scale_type="unique")
    assert without_effect(PARTS, options_of(weight_decay_scale_type="unique"), usual) is None
    told = without_effect(PARTS, options_of(), usual)
    assert told == f"1 {FOUND} --weight-decay-scale-type current (only with --regularize decay)"


@pytest.mark.parametrize("method, extra, told", [
    ("cll_clip", "--lora-rank 4 --ewc-batches 30 --memory-selection herding", [
        f"--method cll_clip: 3 {FOUND} --memory-selection herding (only with --memory-size), --ewc-batches 30 "
        "(only with --ewc-scale), --lora-rank 4 (only with --adapter lora)"
    ]),
    ("lora", "--memory-label student", [
        f"--method lora: 1 {FOUND} --memory-label student (only with --memory-size)"
    ]),
    ("cll_clip", "--lora-rank 8 --ewc-batches 0 --memory-selection reservoir", []),
    ("cll_clip", "--lora-rank 4 --adapter lora --cpu", []),
    ("oewc+er", "--ewc-batches 30 --replay-scale 3", []),
    ("ablation_grad", "", []),  # its row says how decay is scaled, which is not typed
    ("cll_clip_with_teir", "--regularize none", []),
])  # fmt: skip
def test_a_sequence_tells_of_what_was_typed(method, extra, told, tmp_path, caplog):
    settings = Settings(
        method=method, preset="default", protocol="sequence", languages=["en"], corpus="c", init_from=None,
        arch="clip_tiny", max_epoch=2, max_update=0, batch_size=16, lr=0.1, warmup_ratio=0.1, seed=1,
        eval_split="test", extra=extra.split(),
    )  # fmt: skip
    captions = {"en": range(100)}
    corpus = SimpleNamespace(usable=lambda split, lang: captions[lang])
    with caplog.at_level(logging.WARNING):
        preconditions.tell_without_effect(Sequence(tmp_path, settings), corpus, 0)
    assert sorted(caplog.messages) == told


def test_the_task_tells(learning, caplog):
    with caplog.at_level(logging.WARNING):
        learning(ewc_batches=7).begin(0)
    assert "--ewc-batches 7 (only with --ewc-scale)" in caplog.text
    caplog.clear()
    learning(ewc_batches=7, ewc_scale=1.0).begin(0)
    assert "without effect" not in caplog.text


def test_a_model_tells_of_its_adapters_whatever_the_task(caplog):
    with caplog.at_level(logging.WARNING):
        assert build_language_adapter(ClipConfig(lora_rank=4), None, None) is None
    assert caplog.messages == [f"1 {FOUND} --lora-rank 4 (only with --adapter lora)"]
