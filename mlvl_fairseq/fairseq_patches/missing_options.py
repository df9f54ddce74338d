"""An option that has no default, or that a recipe marks ``???``, is not given: fairseq stops where it is first read,
with a traceback after the whole configuration, or never, as its dataclass's default takes the place of ``???``.

Breaks without it: ``fairseq-train CORPUS --task cll_retrieval ...`` without ``--lang``; ``fairseq-hydra-train
--config-name cll_small task.data=CORPUS task.lang=en`` (trains from random weights).
"""

import copy
import sys
from typing import Dict, List

from mlvl_fairseq.configs import dataclass_of
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap

_PACKAGE = __name__.partition(".")[0]


@patches("fairseq_cli.train")
def before_anything_is_done(module) -> None:
    """Defaults are the last that is added to a configuration."""

    def make(add_defaults):
        def add_defaults_and_check(cfg):
            marked = missing_keys(cfg)  # by a recipe, where Hydra did not find our plugin
            add_defaults(cfg)
            _check_flags(marked, cfg)

        return add_defaults_and_check

    wrap(module, "add_defaults", make)


@patches("hydra._internal.hydra", "hydra._internal.core_plugins.basic_launcher")
def before_a_job_has_a_folder(module) -> None:
    """Hydra makes a job's folder and its log before our code sees the configuration."""

    def make(run_job):
        def run_what_is_complete(*, config, **options):
            if "fairseq_cli.hydra_train" in sys.modules:
                _prepare_a_copy(config)
            return run_job(config=config, **options)

        return run_what_is_complete

    wrap(module, "run_job", make)


def _prepare_a_copy(config) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    from mlvl_fairseq.fairseq_patches.hydra_train import prepare

    HydraConfig.instance().set_config(config)  # as run_job does
    config = copy.deepcopy(config)
    with open_dict(config):
        del config["hydra"]
    prepare(config)


def check_overrides(marked: List[str], cfg) -> None:
    """For Hydra: every option has a value.

    Args:
        marked: options that were ``???`` before the defaults were filled in, e.g. ``model.init_from``.
        cfg: the configuration with its defaults.

    Raises:
        UserError: it names all that are not given, what they are, and the overrides that give them.
    """
    needed = {key: f"{key}=..." for key in marked}
    for key in missing_keys(cfg):  # of a dataclass, not named by the recipe
        needed.setdefault(key, f"+{key}=...")
    if needed:
        helps = {key: _help(cfg, *key.partition(".")[::2]) for key in needed}
        raise UserError(f"{_not_given(helps, ': ')}; add {' '.join(needed.values())}")


def _check_flags(marked: List[str], cfg) -> None:
    """For ``fairseq-train``: the options of our parts; fairseq's own may go without."""
    helps = {}
    for key in dict.fromkeys([*marked, *missing_keys(cfg)]):
        section, _, option = key.partition(".")
        options = dataclass_of(section, cfg[section].get("_name"))
        if options is not None and options.__module__.partition(".")[0] == _PACKAGE:
            helps[f"--{option.replace('_', '-')}"] = _help(cfg, section, option)
    if helps:
        raise UserError(_not_given(helps, "; "))


def missing_keys(cfg) -> List[str]:
    """Options without a value, ``section.option``, those of the task first."""
    from omegaconf import OmegaConf

    sections = {
        section: cfg[section]
        for section in sorted(cfg, key=lambda section: section != "task")
        if not OmegaConf.is_missing(cfg, section)
    }
    return [
        f"{section}.{option}"
        for section, options in sections.items()
        if OmegaConf.is_dict(options)
        for option in options
        if OmegaConf.is_missing(options, option)
    ]


def _not_given(helps: Dict[str, str], colon: str) -> str:
    if len(helps) == 1:
        return "".join(f"{name} is not given{colon}{text}" for name, text in helps.items())
    return f"{', '.join(helps)} are not given; " + "; ".join(f"{name}: {text}" for name, text in helps.items())


def _help(cfg, section: str, option: str) -> str:
    options = dataclass_of(section, cfg[section].get("_name"))
    field = getattr(options, "__dataclass_fields__", {}).get(option)
    return field.metadata.get("help", "a value is needed") if field else "a value is needed"
