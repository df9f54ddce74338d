"""What `mlvl-convert` can read: one kind of released file a module of this folder. All are imported, so that a new one
is one new file."""

from mlvl_fairseq.cli.conversions.base import CONVERSIONS, Conversion, register_conversion
from mlvl_fairseq.registry import import_modules

import_modules(__name__)

__all__ = ["CONVERSIONS", "Conversion", "register_conversion"]
