"""fairseq imports scikit-learn and SciPy for a criterion and a task that are not ours: more than a quarter of the time
in which a command starts. They are imported when one of them first computes a metric.

Breaks without it: ``mlvl-evaluate`` and its like, which start later.
"""

import contextlib
import importlib
import sys
from types import ModuleType
from typing import Callable, Iterator

from mlvl_fairseq.fairseq_patches.patching import around_import

METRICS = ("sklearn.metrics", "scipy.stats")


class _Metrics(ModuleType):
    """Functions that look for themselves in the real module once they are called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)

        def metric(*args, **kwargs):
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return metric


@around_import("fairseq.criterions.sentence_prediction")
@around_import("fairseq.tasks.audio_classification")
@contextlib.contextmanager
def leave_metrics_for_later() -> Iterator[None]:
    before, stand_ins = {}, {}
    for name in METRICS:
        if name in sys.modules:
            continue
        package, _, inner = name.partition(".")
        stand_ins.update({package: ModuleType(package), name: _Metrics(name)})
        setattr(stand_ins[package], inner, stand_ins[name])
        if package in sys.modules:
            before[package] = sys.modules[package]
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
        sys.modules.update(before)
