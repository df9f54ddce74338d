"""Methods of continual learning as plugins of the task: one file each, found by being here."""

from importlib import import_module
from pkgutil import iter_modules

from mlvl_fairseq.continual.plugin import PLUGINS, ContinualPlugin, active_plugins, plugin_options, register_plugin

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["PLUGINS", "ContinualPlugin", "active_plugins", "plugin_options", "register_plugin"]
