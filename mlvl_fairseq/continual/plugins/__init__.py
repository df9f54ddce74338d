"""Methods of continual learning as plugins of the task: one file each, found by being here."""

from mlvl_fairseq.continual.plugin import (
    PLUGINS,
    ContinualPlugin,
    active_plugins,
    plugin_options,
    plugin_parts,
    register_plugin,
)
from mlvl_fairseq.registry import import_modules

import_modules(__name__)

__all__ = ["PLUGINS", "ContinualPlugin", "active_plugins", "plugin_options", "plugin_parts", "register_plugin"]
