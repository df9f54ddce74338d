"""What finds the nearest vectors of an index. Every module of this folder is imported: a new engine is one new file."""

import importlib
import pkgutil

from mlvl_fairseq.search.engines.base import ENGINES, Engine, agreement, choose_engine, engine_names, rank_exactly

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["ENGINES", "Engine", "agreement", "choose_engine", "engine_names", "rank_exactly"]
