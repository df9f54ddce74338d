"""Parts of the text tower that belong to languages. Every module of this folder is imported: a new kind is one file."""

from mlvl_fairseq.modules.adapters.base import (
    ADAPTERS,
    Adapted,
    TextAdapter,
    TowerShape,
    adapter_options,
    adapter_parts,
    build_adapter,
)
from mlvl_fairseq.registry import import_modules

import_modules(__name__)

__all__ = ["ADAPTERS", "Adapted", "TextAdapter", "TowerShape", "adapter_options", "adapter_parts", "build_adapter"]
