"""What a run left in its folder: ``run.json``, scores, and what every step cost."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.continual import ScoreMatrix
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks, ranks_path
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS
from mlvl_fairseq.files import read_object
from mlvl_fairseq.runs.costs import StepCosts, read_costs
from mlvl_fairseq.runs.fields import score_in, text_in
from mlvl_fairseq.runs.folder import MANIFEST, SCORES, StepFolder, read_manifest, score_path
from mlvl_fairseq.runs.protocols import Cell, Protocol

DEFAULT_SPLIT = "test"


@dataclass
class Run:
    """One method trained with one seed.

    Attributes:
        folder: where it is.
        settings: ``run.json``.
        method: row of the table of methods.
        protocol: how languages were learned.
        split: the split that the scores were computed on.
        dataset: short name of the data, for file names.
        matrix: scores of all metrics, as far as they are there; the last row holds the final scores.
        costs: of every step, as far as they are there.
        signatures: (row, column) -> signature of the score, '' if it has none.
    """

    folder: Path
    settings: Dict[str, Any]
    method: str
    protocol: Protocol
    split: str
    dataset: str
    matrix: ScoreMatrix
    costs: List[StepCosts]
    signatures: Dict[Tuple[int, int], str] = field(default_factory=dict)

    @property
    def seed(self) -> Optional[int]:
        return self.settings.get("seed")

    @property
    def languages(self) -> List[str]:
        return self.matrix.languages

    @property
    def cells(self) -> List[Cell]:
        """Every score that the finished run has."""
        return list(self.protocol.cells(self.languages))

    def score_path(self, cell: Cell) -> Path:
        return score_path(self.folder, cell.step, self.languages[cell.column], self.split)

    def missing(self) -> List[str]:
        """Every missing score in words."""
        missing = [cell for cell in self.cells if (cell.row, cell.column) not in self.signatures]
        return [f"{self.languages[cell.column]} after {cell.step.partition('-')[2]}" for cell in missing]

    def final_ranks(self) -> Dict[str, QueryRanks]:
        """Language -> the ranks behind its final score.

        Raises:
            UserError: there are none.
            DataError: a file of ranks is broken.
        """
        last = len(self.languages) - 1
        paths = {self.languages[c.column]: ranks_path(self.score_path(c)) for c in self.cells if c.row == last}
        absent = [path for path in paths.values() if not path.exists()]
        if absent:
            raise UserError(
                f"{absent[0]}: no ranks of single queries there ({len(absent)} of {len(paths)} languages lack them); "
                f"finish the run, or, if it is an old one, delete {self.folder / SCORES} and run mlvl-cll again: "
                "it only evaluates"
            )
        return {language: QueryRanks.load(path) for language, path in paths.items()}


def read_runs(run_dirs: Sequence, split: Optional[str] = None) -> List[Run]:
    """Read all runs in some folders, to any depth, in the order of the folders, sorted within each.

    Args:
        run_dirs: folders with a ``run.json`` in them or somewhere below.
        split: whose scores to read; by default the one a run evaluated on (its ``eval_split``, else test).

    Raises:
        UserError: no run in a folder, or no score of that split in any run.
        DataError: a file is not what it should be.
    """
    manifests = list(dict.fromkeys(path for run_dir in run_dirs for path in _find_manifests(Path(run_dir))))
    runs = [_read_run(path, split) for path in manifests]
    if not any(run.signatures for run in runs):
        where = ", ".join(map(str, run_dirs))
        raise UserError(f"{where}: no score of split {runs[0].split!r} yet; {_splits_found(manifests)}")
    return runs


def _find_manifests(folder: Path) -> List[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        if MANIFEST in files:
            found.append(Path(parent) / MANIFEST)
            folders.clear()  # what lies in a run is the run's
    if not found:
        reason = f"no {MANIFEST} in it or below it" if folder.is_dir() else "no such folder"
        raise UserError(f"{folder}: {reason}; give the folder of an mlvl-cll run, or one that holds several runs")
    return sorted(found)


def _read_run(path: Path, split: Optional[str]) -> Run:
    manifest = read_manifest(path)
    settings, steps = manifest.settings, manifest.protocol.steps(manifest.languages)
    run = Run(
        folder=path.parent,
        settings=settings,
        method=text_in(settings, "method", path),
        protocol=manifest.protocol,
        split=split or settings.get("eval_split") or DEFAULT_SPLIT,
        dataset=settings.get("dataset") or Path(settings.get("corpus") or path.parent.resolve()).name,
        matrix=ScoreMatrix(manifest.languages, METRICS),
        costs=[read_costs(StepFolder(path.parent / step.name), len(step.current)) for step in steps],
    )
    for cell in run.cells:
        _read_score(run, cell)
    return run


def _read_score(run: Run, cell: Cell) -> None:
    path = run.score_path(cell)
    if path.is_file():
        scores = read_object(path)
        run.matrix.set(cell.row, cell.column, {metric: score_in(scores, metric, path) for metric in METRICS})
        run.signatures[cell.row, cell.column] = text_in({"signature": "", **scores}, "signature", path)


def _splits_found(manifests: List[Path]) -> str:
    files = [file for path in manifests for file in path.parent.glob(f"{SCORES}/*/*.json")]
    splits = sorted({file.name.split(".")[1] for file in files if file.name.count(".") == 2})
    return f"there are scores of {', '.join(splits)}: use --split" if splits else "let mlvl-cll evaluate first"


def group_by_seed(runs: Sequence[Run]) -> List[List[Run]]:
    """Runs with the same settings but the seed together, in the order of the first of each.

    Two runs with the same seed are no independent measurements: such runs stay apart.
    """
    groups: Dict[str, List[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_but_seed(run.settings), sort_keys=True), []).append(run)
    result = []
    for group in groups.values():
        different = len({run.seed for run in group}) == len(group)
        result += [sorted(group, key=lambda run: str(run.seed))] if different else [[run] for run in group]
    return sorted(result, key=lambda group: min(map(runs.index, group)))


def _but_seed(settings: Dict[str, Any]) -> Dict[str, Any]:
    """What decides a run's result: the corpus by its fingerprint where it is known, not by its place."""
    ignored = {"seed", "corpus"} if "corpus_fingerprint" in settings else {"seed"}
    return {key: value for key, value in settings.items() if key not in ignored}


def name_groups(groups: Sequence[Sequence[Run]]) -> List[str]:
    """A name for each group: its method, or, where several have the same one, the folders that tell them apart."""
    methods = [group[0].method for group in groups]
    return [method if methods.count(method) == 1 else _folders(group, groups) for method, group in zip(methods, groups)]


def _folders(group: Sequence[Run], groups: Sequence[Sequence[Run]]) -> str:
    """The path below what all runs have in common, less the folders that tell the seeds apart."""
    root = os.path.commonpath([run.folder.absolute() for runs in groups for run in runs])
    paths = [run.folder.absolute().relative_to(root).parts for run in group]
    shared = [part for part in paths[0] if all(part in path for path in paths)]
    return str(Path(*(shared or paths[0])))
