"""What `mlvl-convert` can read: one kind of released file a module of this folder. All are imported, so that a new one
is one new file."""

import importlib
import pkgutil

from mlvl_fairseq.cli.conversions.base import CONVERSIONS, Conversion, register_conversion

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["CONVERSIONS", "Conversion", "register_conversion"]
