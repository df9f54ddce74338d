"""What learning a language cost: ``costs.json`` (seconds and memory of each job of a step) and ``done.json``."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Sequence

import numpy as np

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import read_object
from mlvl_fairseq.runs.fields import amount_in
from mlvl_fairseq.runs.folder import StepFolder

TRAIN, EVALUATE = "train", "evaluate"
_OTHER = ("binarize", "finish")


class JobCosts:
    """The costs of one job of a step, added up over interrupted runs.

    The file holds ``{job: {"seconds": wall time, "peak_mib": largest memory of a process, "runs": number}}``. Nothing
    that a run computes depends on it.

    Args:
        path: of the file; every job of the step has its entry there.
        job: name of the entry.
    """

    def __init__(self, path: Path, job: str):
        self.path, self.job = path, job
        self._before: Dict[str, float] = {}

    def begin(self) -> None:
        """Count a run. Raises DataError: the file is damaged, or cannot be written."""
        self._before = self._read().get(self.job, {"seconds": 0.0, "peak_mib": 0.0, "runs": 0})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.save(0.0)

    def save(self, seconds: float, peak_mib: float = 0.0) -> None:
        """Record what this run has cost so far. Raises DataError: the file cannot be written."""
        before = self._before
        entry = {
            "seconds": round(before["seconds"] + seconds, 3),
            "peak_mib": round(max(before["peak_mib"], peak_mib), 1),
            "runs": before["runs"] + 1,
        }
        write_json(self.path, {**self._read(), self.job: entry})

    def _read(self) -> Dict[str, Dict[str, float]]:
        return read_object(self.path) if self.path.exists() else {}


@dataclass(frozen=True)
class StepCosts:
    """Costs of one step of a run, NaN where unknown.

    Attributes:
        languages: number of languages learned in the step.
        train: seconds of training.
        other: seconds of preparing and finishing (token scan, binarizing, what a method does at the end of a language).
        evaluate: seconds of evaluating on all languages so far.
        peak_mib: largest memory of any job.
        trainable_parameters: number of parameters that training may change.
        checkpoint_bytes: size of the checkpoint that is kept.
    """

    languages: int
    train: float
    other: float
    evaluate: float
    peak_mib: float
    trainable_parameters: float
    checkpoint_bytes: float


def read_costs(step: StepFolder, languages: int) -> StepCosts:
    """The costs of one step; what was not recorded is NaN.

    Raises:
        DataError: a file is not what it should be.
    """
    costs_path, done_path = step.costs, step.done
    jobs = read_object(costs_path) if costs_path.is_file() else {}
    done = read_object(done_path) if done_path.is_file() else {}
    for name, job in jobs.items():
        if not isinstance(job, dict):
            raise DataError(f"expected an object, found {job!r}", costs_path, field=name)
    seconds = {name: amount_in(job, "seconds", costs_path) for name, job in jobs.items()}
    peaks = [amount_in(job, "peak_mib", costs_path) for job in jobs.values()]
    other = [seconds[name] for name in _OTHER if name in seconds]
    return StepCosts(
        languages=languages,
        train=seconds.get(TRAIN, math.nan),
        other=sum(other) if other else math.nan,
        evaluate=seconds.get(EVALUATE, math.nan),
        peak_mib=max((peak for peak in peaks if not math.isnan(peak)), default=math.nan),
        trainable_parameters=amount_in(done, "trainable_parameters", done_path),
        checkpoint_bytes=amount_in(done, "checkpoint_bytes", done_path),
    )


def total_costs(steps: Sequence[StepCosts]) -> Dict[str, float]:
    """The costs of a run; a total of which a part is unknown is NaN.

    Returns:
        ``train_seconds``, ``train_seconds_per_language``, ``other_seconds``, ``evaluate_seconds``, ``peak_mib``,
        ``trainable_parameters`` (mean over steps), ``checkpoint_mib`` (of the last step).
    """
    train = sum(step.train for step in steps)
    return {
        "train_seconds": train,
        "train_seconds_per_language": train / sum(step.languages for step in steps),
        "other_seconds": sum(step.other for step in steps),
        "evaluate_seconds": sum(step.evaluate for step in steps),
        "peak_mib": float(np.max([step.peak_mib for step in steps])),
        "trainable_parameters": float(np.mean([step.trainable_parameters for step in steps])),
        "checkpoint_mib": steps[-1].checkpoint_bytes / 2**20,
    }
