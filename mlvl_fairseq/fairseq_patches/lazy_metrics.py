"""fairseq imports scikit-learn and SciPy for a criterion and a task that are not ours: more than a quarter of the time
in which a command starts. They are imported when one of them first computes a metric.

Breaks without it: ``mlvl-evaluate`` and its like, which start later.
"""

from typing import ContextManager

from mlvl_fairseq.fairseq_patches.patching import around_import, left_for_later


@around_import("fairseq.criterions.sentence_prediction")
@around_import("fairseq.tasks.audio_classification")
def leave_metrics_for_later() -> ContextManager[None]:
    return left_for_later("sklearn.metrics", "scipy.stats")
