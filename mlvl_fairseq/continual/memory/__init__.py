"""What is kept of earlier languages: one way to choose a file, found by being here."""

from mlvl_fairseq.continual.memory.base import SELECTIONS, Selection, register_selection
from mlvl_fairseq.registry import import_modules

import_modules(__name__)

__all__ = ["SELECTIONS", "Selection", "register_selection"]
