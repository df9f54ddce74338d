"""Where pictures are from. Every module of this folder is imported, so that a new kind of source is one new file."""

import importlib
import pkgutil

from mlvl_fairseq.search.sources.base import SOURCES, Source, open_source, source_of

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["SOURCES", "Source", "open_source", "source_of"]
