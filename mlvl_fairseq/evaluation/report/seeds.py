"""Runs that differ only in their seed are one method, seen several times."""

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Sequence

from mlvl_fairseq.evaluation.report.runs import Run


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
