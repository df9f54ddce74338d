"""What a model can be scored on. Every module of this folder is imported, so that a new evaluator is one new file."""

from mlvl_fairseq.evaluation.evaluators.base import (
    EVALUATORS,
    Evaluator,
    ImageOptions,
    Result,
    option,
    register_evaluator,
)
from mlvl_fairseq.registry import import_modules

import_modules(__name__)

__all__ = ["EVALUATORS", "Evaluator", "ImageOptions", "Result", "option", "register_evaluator"]
