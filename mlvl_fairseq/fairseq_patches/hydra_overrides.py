"""Hydra does not say which configs there are, nor what a mistyped option may have meant: fairseq stores an empty config
of whatever name was given, so that Hydra blames the first override.

Breaks without it: ``fairseq-hydra-train --config-name nosuch task.data=CORPUS``, ``... task.dta=CORPUS``.
"""

import difflib
import sys
from typing import Optional

from mlvl_fairseq.configs import dataclass_of, list_configs
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("hydra._internal.config_loader_impl")
def refuse_unknown_configs(module) -> None:
    def make(load_configuration):
        def load_what_is_there(loader, config_name, *args, **options):
            if "fairseq_cli.hydra_train" in sys.modules and config_name is not None:
                _check_config(loader, config_name)
            return load_configuration(loader, config_name, *args, **options)

        return load_what_is_there

    wrap(module.ConfigLoaderImpl, "load_configuration", make)


def _check_config(loader, name: str) -> None:
    files = [source for source in loader.get_sources() if source.scheme() != "structured"]
    if not any(source.is_config(name) for source in files):
        raise UserError(f"no config {name}; there are {', '.join(list_configs())}")


def override_message(error: BaseException) -> Optional[str]:
    """A sentence on an override of an option that does not exist; None: `error` is about something else."""
    cause = error.__cause__
    if not str(error).startswith("Could not override '") or getattr(cause, "parent_node", None) is None:
        return None
    key = str(error).partition("'")[2].partition("'")[0]
    section, _, option = key.partition(".")
    return no_such_option(section, option, cause.parent_node) if option else None


def no_such_option(section: str, option: str, given) -> Optional[str]:
    """As :func:`override_message`, of a section whose configuration is `given`; None: there is this option."""
    options = dataclass_of(section, given.get("_name"))
    known = [*getattr(options, "__dataclass_fields__", ()), *given]
    if options is None or option in known:
        return None
    close = [f"{section}.{name}" for name in difflib.get_close_matches(option, dict.fromkeys(known))]
    return f"{section}.{option}: there is no such option" + (f"; did you mean {' or '.join(close)}?" if close else "")
