"""What a model can be scored on. Every module of this folder is imported, so that a new evaluator is one new file."""

import importlib
import pkgutil

from mlvl_fairseq.evaluation.evaluators.base import (
    EVALUATORS,
    Evaluator,
    ImageOptions,
    Result,
    option,
    register_evaluator,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["EVALUATORS", "Evaluator", "ImageOptions", "Result", "option", "register_evaluator"]
