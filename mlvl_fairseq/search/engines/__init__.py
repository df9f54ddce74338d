"""What finds the nearest vectors of an index. Every module of this folder is imported: a new engine is one new file."""

from mlvl_fairseq.registry import import_modules
from mlvl_fairseq.search.engines.base import ENGINES, Engine, agreement, choose_engine, engine_names, rank_exactly

import_modules(__name__)

__all__ = ["ENGINES", "Engine", "agreement", "choose_engine", "engine_names", "rank_exactly"]
