"""fairseq imports scikit-learn for a criterion and a task that are not ours: a quarter of the time in which a command
starts. It is imported when one of them first computes a metric.

Breaks without it: nothing; ``mlvl-evaluate`` and its like start later.
"""

import contextlib
import importlib
import sys
from types import ModuleType
from typing import Callable, Iterator

from mlvl_fairseq.fairseq_patches.patching import around_import

METRICS = "sklearn.metrics"


class _Metrics(ModuleType):
    """Functions that look for themselves in the real module once they are called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)

        def metric(*args, **kwargs):
            return getattr(importlib.import_module(METRICS), name)(*args, **kwargs)

        return metric


@around_import("fairseq.criterions.sentence_prediction")
@around_import("fairseq.tasks.audio_classification")
@contextlib.contextmanager
def leave_sklearn_for_later() -> Iterator[None]:
    if METRICS in sys.modules:
        yield
        return
    package = ModuleType("sklearn")
    package.metrics = _Metrics(METRICS)
    before = {name: sys.modules.pop(name) for name in ("sklearn",) if name in sys.modules}
    sys.modules.update({"sklearn": package, METRICS: package.metrics})
    try:
        yield
    finally:
        del sys.modules["sklearn"], sys.modules[METRICS]
        sys.modules.update(before)
