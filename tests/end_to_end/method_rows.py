"""Rows of the table of methods by what is at work in them: found from the registries, so that a new file is tested."""

from types import SimpleNamespace

from mlvl_fairseq.continual.methods import list_methods, method_options, method_protocol
from mlvl_fairseq.continual.plugins import PLUGINS, plugin_options
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters import ADAPTERS


def plugins_of(method):
    """Names of the plugins that a method's options ask for."""
    defaults = {name: value for kind in plugin_options() for name, value in vars(kind()).items()}
    cfg = SimpleNamespace(**defaults | method_options(method))
    return {name for name, plugin in PLUGINS.items() if plugin.is_asked_for(cfg)}


def row_with(part):
    """The first row of the table with a plugin or an adapter of this name."""
    rows = [name for name in list_methods() if part in plugins_of(name) | {method_options(name).get("adapter")}]
    assert rows, f"no row of methods.yaml has {part}"
    return rows[0]


def families_of(method):
    return {PLUGINS[name].family for name in plugins_of(method)}


def joined(rows):
    """As many of these rows as work together, one of each family, in one method."""
    method = "cll_clip_with_teir_update"
    for row in rows:
        try:
            method_options(f"{method}+{row}")
        except UserError:  # it contradicts another one, or adds nothing
            continue
        if not families_of(row) & families_of(method):
            method += f"+{row}"
    return method


SEQUENTIAL = [name for name in list_methods() if method_protocol(name) == "sequence"]
WITH_PLUGIN = list(dict.fromkeys(map(row_with, PLUGINS)))
WITH_ADAPTER = list(dict.fromkeys(map(row_with, ADAPTERS)))
EVERYTHING = joined(WITH_PLUGIN)  # every family, but for adapters
