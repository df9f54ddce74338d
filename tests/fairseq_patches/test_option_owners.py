"""Options of our parts whose names fairseq's groups have, too: found in the registries."""

import argparse
from dataclasses import fields, is_dataclass

import pytest
from fairseq import options
from fairseq.dataclass.configs import FairseqConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, override_module_args

from mlvl_fairseq.continual.run import import_training
from mlvl_fairseq.fairseq_patches.option_owners import registries

GROUPS = {name: group.type for name, group in FairseqConfig.__dataclass_fields__.items() if is_dataclass(group.type)}


@pytest.fixture(scope="module")
def shared():
    """``(group, name, default, what chooses the part, its value)`` of every option of ours that a group has, too."""
    import_training()
    return [
        (group, option.name, option.default, chooser, value)
        for chooser, registry in registries().items()
        for value, part in registry.items()
        if is_dataclass(part) and part.__module__.startswith("mlvl_fairseq.")
        for option in fields(part)
        for group, config in GROUPS.items()
        if option.name in {theirs.name for theirs in fields(config)} - {"_name"}
    ]


def overrides(group, **given):
    found, _ = override_module_args(argparse.Namespace(**given))
    return [override for override in found if override.startswith(f"{group}.")]


def test_an_option_that_follows_fairseq_s_names_it_and_reaches_it(shared):
    following = [option for option in shared if str(option[2]).startswith("${")]
    assert following
    for group, name, default, chooser, value in following:
        assert default == f"${{{group}.{name}}}", (chooser, value)
        given = {chooser: value, name: "[7]" if name in ("lr", "update_freq") else "7"}
        assert overrides(group, **given) != overrides(group, **{chooser: value}), (chooser, value, name)


def test_an_option_of_our_own_changes_none_of_fairseq_s(shared):
    own = [option for option in shared if not str(option[2]).startswith("${")]
    assert ("generation", "temperature", "arch", "lilt_base") in {(*option[:2], *option[3:]) for option in own}
    for group, name, _, chooser, value in own:
        given = {chooser: value, name: "7"}
        assert overrides(group, **given) == overrides(group, **{chooser: value}), (chooser, value, name)
        assert overrides(group, **{name: "7"}) != overrides(group), name  # of another part it is fairseq's


@pytest.mark.parametrize("arch", ["lilt_base", "cclm_nano"])
@pytest.mark.parametrize("temperature", ["log_scale", "clamped", None])
def test_the_temperature_of_a_model_is_not_that_of_generation(arch, temperature):
    import_training()
    given = ["corpus", "--task", "image_text_retrieval", "--arch", arch]
    given += ["--temperature", temperature] if temperature else []
    args = options.parse_args_and_arch(options.get_training_parser(), given)
    cfg = convert_namespace_to_omegaconf(args)
    assert (cfg.model.temperature, cfg.generation.temperature) == (temperature or "clamped", 1.0)
