"""scikit-learn and SciPy wait until a metric is asked for."""

import subprocess
import sys

CODE = """
import sys
import mlvl_fairseq
from fairseq.criterions import sentence_prediction
from fairseq.tasks import audio_classification

assert not [name for name in sys.modules if name.split(".")[0] in ("sklearn", "scipy")]
truth, guess = [0, 1, 1, 0], [0, 1, 0, 0]
assert abs(sentence_prediction.f1_score(truth, guess) - 2 / 3) < 1e-12  # precision 1, recall 1/2
assert list(audio_classification.sklearn_metrics.roc_curve([0, 1], [0.2, 0.9])[1])[-1] == 1
assert abs(sentence_prediction.pearsonr([0, 1, 2], [0, 1, 5])[0] - 5 / 28**0.5) < 1e-12
assert sys.modules["sklearn.metrics"].f1_score is not sentence_prediction.f1_score
"""


def test_metrics_are_imported_when_they_are_called():
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=300)
