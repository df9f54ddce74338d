"""Multilingual vision-language learning on fairseq. Use it as ``--user-dir "$(mlvl-path)"``."""

import importlib
import pkgutil
import sys

from mlvl_fairseq import fairseq_patches
from mlvl_fairseq.version import __version__  # noqa: F401

_ADAPTERS = ("criterions", "models", "optim", "tasks")


def register() -> None:
    """Make fairseq know our criterions, models, optimizers and tasks: import every module of these packages."""
    for name in _ADAPTERS:
        package = importlib.import_module(f"{__name__}.{name}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


fairseq_patches.apply()
if "fairseq" in sys.modules:  # imported by --user-dir; commands that need no fairseq start without it
    register()
