"""What is kept of earlier languages: one way to choose a file, found by being here."""

from importlib import import_module
from pkgutil import iter_modules

from mlvl_fairseq.continual.memory.base import SELECTIONS, Selection, register_selection

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["SELECTIONS", "Selection", "register_selection"]
