"""What learning a language cost: ``costs.json`` (seconds and memory of each job of a step) and ``done.json``."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Dict, Optional, Sequence

import numpy as np
from msgspec import Meta

from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import Count, read_json
from mlvl_fairseq.runs.folder import StepFolder

TRAIN, EVALUATE = "train", "evaluate"
_OTHER = ("binarize", "finish")


_DONE = "mend it; without it, the language would be learned again"
Amount = Annotated[float, Meta(ge=0)]


@dataclass
class Entry:
    """What a job has cost; None: not recorded."""

    seconds: Optional[Amount] = None
    peak_mib: Optional[Amount] = None
    runs: Count = 0


@dataclass
class Finished:
    """What ``done.json`` says of a language's end."""

    trainable_parameters: Optional[Amount] = None
    checkpoint_bytes: Optional[Amount] = None
    num_updates: Count = 0


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
        self._before = Entry()

    def begin(self) -> None:
        """Count a run. Raises DataError: the file is damaged, or cannot be written."""
        self._before = self._read().get(self.job, Entry())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.save(0.0)

    def save(self, seconds: float, peak_mib: float = 0.0) -> None:
        """Record what this run has cost so far. Raises DataError: the file cannot be written."""
        before = self._before
        entry = {
            "seconds": round((before.seconds or 0.0) + seconds, 3),
            "peak_mib": round(max(before.peak_mib or 0.0, peak_mib), 1),
            "runs": before.runs + 1,
        }
        write_json(self.path, {**{job: asdict(other) for job, other in self._read().items()}, self.job: entry})

    def _read(self) -> Dict[str, Entry]:
        return read_json(self.path, Dict[str, Entry]) if self.path.exists() else {}


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
    jobs = read_json(step.costs, Dict[str, Entry]) if step.costs.is_file() else {}
    done = read_finished(step)
    known = {name: job.seconds for name, job in jobs.items() if job.seconds is not None}
    peaks = [job.peak_mib for job in jobs.values() if job.peak_mib is not None]
    other = [known[name] for name in _OTHER if name in known]
    return StepCosts(
        languages=languages,
        train=known.get(TRAIN, math.nan),
        other=sum(other) if other else math.nan,
        evaluate=known.get(EVALUATE, math.nan),
        peak_mib=max(peaks, default=math.nan),
        trainable_parameters=_or_nan(done.trainable_parameters),
        checkpoint_bytes=_or_nan(done.checkpoint_bytes),
    )


def read_finished(step: StepFolder) -> Finished:
    """How a step ended; empty where it has not. Raises DataError: the file is not what it should be."""
    return read_json(step.done, Finished, _DONE) if step.done.is_file() else Finished()


def _or_nan(value: Optional[float]) -> float:
    return math.nan if value is None else value


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
