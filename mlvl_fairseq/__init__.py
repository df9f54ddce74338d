"""Multilingual vision-language learning on fairseq. Use it as ``--user-dir "$(mlvl-path)"``, or in Python:

from mlvl_fairseq import load_model
"""

import importlib
import os
import pkgutil
import sys

from .version import __version__  # noqa: F401

_NAME = "mlvl_fairseq"
_ADAPTERS = ("criterions", "models", "optim", "tasks")
_IN_PYTHON = {  # imported when they are asked for: they need torch
    "load_model": "api",
    "list_models": "api",
    "Model": "api",
    "Ranking": "api",
    "Classification": "api",
    "UserError": "errors",
    "DataError": "errors",
}


def register() -> None:
    """Make fairseq know our criterions, models, optimizers and tasks: import every module of these packages."""
    for name in _ADAPTERS:
        package = importlib.import_module(f"{_NAME}.{name}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def __getattr__(name: str):
    if name not in _IN_PYTHON:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{_NAME}.{_IN_PYTHON[name]}"), name)


def __dir__() -> list:
    return sorted({*globals(), *_IN_PYTHON})


def _be_called_by_its_name() -> None:
    """``--user-dir`` is a link of another name: import the package under its own one, and let that name mean it, too.

    The folder that holds it is put on the path, as fairseq does, so that spawned ranks find it. A copy of another name
    is refused: ranks could not find it, or would find another copy.
    """
    folder = os.path.realpath(__path__[0])
    if os.path.basename(folder) != _NAME:
        print(f"error: {folder}: a copy of {_NAME} works only if its folder is called {_NAME}", file=sys.stderr)
        raise SystemExit(2)
    sys.path.insert(0, os.path.dirname(folder))
    importlib.import_module(_NAME)
    for name in [name for name in sys.modules if name.partition(".")[0] == _NAME]:
        sys.modules[__name__ + name[len(_NAME) :]] = sys.modules[name]


if __name__ == _NAME:
    importlib.import_module(f"{_NAME}.fairseq_patches").apply()
    if "fairseq" in sys.modules:  # imported by --user-dir; commands that need no fairseq start without it
        register()
else:
    _be_called_by_its_name()
