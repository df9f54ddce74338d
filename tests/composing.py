"""fairseq composes all its options with Hydra at every start, which is half of what a tiny training costs: here each
component is composed once, and what is asked for is put together from copies, with other values, as Hydra does."""

import contextlib
import copy
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
        self._compose, self._parts = compose, {}

    def __call__(self, name, overrides, strict):
        values = dict(text.split("=", 1) for text in overrides)
        choices = {key: value for key, value in values.items() if "." not in key}
        own = {group: {} for group in (*choices, None)}  # None: of what is always there
        for key in values.keys() - choices.keys():
            group = key.partition(".")[0]
            own[group if group in choices else None][key] = values[key]
        places = {group: (name, strict, group, choices.get(group), frozenset(own[group])) for group in own}
        places[None] += tuple(choices)
        options = {group: _options_of(group, choice) for group, choice in choices.items()}
        known = {group: self._parts.get(place) for group, place in places.items()}
        # other options may have been registered by a name
        if all(part and part[0] is options.get(group) for group, part in known.items()):
            config = _put_together(known, values)
            if config is not None:
                return config
        with initialize_config_module("fairseq.config"):
            config = self._compose(name, overrides=overrides, strict=strict)
        for group, place in places.items():
            made = config if group is None else config[group]
            self._parts[place] = (options.get(group), own[group], copy.deepcopy(made))
        return config


def _put_together(parts, values):
    """Copies of parts, with other values; None: leave it to Hydra, which says what is wrong, or merges values."""
    config, before = copy.deepcopy(parts[None][2]), {}
    for group, (_, own, part) in parts.items():
        before.update(own)
        if group is not None:
            config._content[group] = copy.deepcopy(part)
            config._content[group]._set_parent(config)
    other = [f"{key}={value}" for key, value in values.items() if "." in key and before[key] != value]
    parsed = OverridesParser.create().parse_overrides(other)
    if any(isinstance(override.value(), dict) for override in parsed):
        return None
    try:
        ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
    except HydraException:
        return None
    return config


def _options_of(group, name):
    return ConfigStore.instance().repo.get(group, {}).get(f"{name}.yaml")
