"""Formats of examples. Every module of this folder is imported, so that a new format is one new file."""

from mlvl_fairseq.registry import import_modules

import_modules(__name__)
