"""Trained models as files of other programs, with a proof beside them that they give the same numbers.

A format is one file of ``formats/``; ``mlvl-export --help`` lists them. Programs are imported where they are used.
"""

from mlvl_fairseq.export.base import EXPORTS, Export, ExportOptions, Stock, export_named, known_exports, register_export

__all__ = ["EXPORTS", "Export", "ExportOptions", "Stock", "export_named", "known_exports", "register_export"]
