"""What a step of a sequence has cost, in ``costs.json``: seconds, memory and runs of each of its jobs."""

from pathlib import Path
from typing import Dict

from mlvl_fairseq.data.atomic_files import write_json
from mlvl_fairseq.data.json_files import read_object


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
