"""fairseq composes all its options with Hydra at every start, which is half of what a tiny training costs: here it
composes once for each choice of components, and puts other values into a copy of that, as Hydra does."""

import contextlib
import copy
import operator
import sys

from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def compose_once():
    """From now on, in this process and in those that are forked from it. It does nothing before fairseq is imported."""
    utils = sys.modules.get("fairseq.dataclass.utils")
    if utils is not None and not isinstance(utils.compose, Composer):
        utils.compose = Composer(utils.compose)
        utils.initialize = lambda config_path: contextlib.nullcontext()


class Composer:
    """Stands for ``hydra.experimental.compose`` in fairseq."""

    def __init__(self, compose):
        self._compose, self._composed = compose, {}

    def __call__(self, name, overrides, strict):
        values = dict(text.split("=", 1) for text in overrides)
        choices = tuple((key, value) for key, value in values.items() if "." not in key)
        place = (name, strict, choices, tuple(values))
        options = [_options_of(*choice) for choice in choices]  # other ones may have been registered by this name
        known = self._composed.get(place)
        if known is not None and all(map(operator.is_, known[0], options)):
            other = [f"{key}={value}" for key, value in values.items() if known[1][key] != value]
            config = _with_values(known[2], other)
            if config is not None:
                return config
        with initialize_config_module("fairseq.config"):
            config = self._compose(name, overrides=overrides, strict=strict)
        self._composed[place] = (options, values, copy.deepcopy(config))
        return config


def _options_of(group, name):
    return ConfigStore.instance().repo.get(group, {}).get(f"{name}.yaml")


def _with_values(config, overrides):
    """A copy of a configuration; None: leave it to Hydra, which says what is wrong, or how values are merged."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    if any(isinstance(override.value(), dict) for override in parsed):
        return None
    config = copy.deepcopy(config)
    try:
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
    except HydraException:
        return None
    return config
