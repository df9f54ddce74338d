"""Parts of the text tower that belong to languages. Every module of this folder is imported: a new kind is one file."""

from importlib import import_module
from pkgutil import iter_modules

from mlvl_fairseq.modules.adapters.base import (
    ADAPTERS,
    Adapted,
    TextAdapter,
    TowerShape,
    adapter_options,
    build_adapter,
)

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["ADAPTERS", "Adapted", "TextAdapter", "TowerShape", "adapter_options", "build_adapter"]
