"""Tasks of examples. Every module of this folder is imported, so that a new task is one new file."""

from mlvl_fairseq.registry import import_modules

import_modules(__name__)
