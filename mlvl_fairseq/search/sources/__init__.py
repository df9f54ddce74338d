"""Where pictures are from. Every module of this folder is imported, so that a new kind of source is one new file."""

from mlvl_fairseq.registry import import_modules
from mlvl_fairseq.search.sources.base import SOURCES, Source, open_source, source_of

import_modules(__name__)

__all__ = ["SOURCES", "Source", "open_source", "source_of"]
