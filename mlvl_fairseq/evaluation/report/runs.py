"""What a run left in its folder: ``run.json`` and ``scores/<step>-<learned>/<language>.<split>.json``."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.continual import ScoreMatrix
from mlvl_fairseq.evaluation.retrieval import METRICS

MANIFEST = "run.json"
DEFAULT_SPLIT = "test"


@dataclass
class Run:
    """One method's scores.

    Attributes:
        name: the method, or the folder where several runs have the same method.
        split: the split that the scores were computed on.
        dataset: short name of the data, for file names.
        matrix: scores of all metrics; those not yet computed are missing.
        signatures: (step, language) -> signature of the score, '' if it has none.
    """

    name: str
    split: str
    dataset: str
    matrix: ScoreMatrix
    signatures: Dict[Tuple[int, int], str] = field(default_factory=dict)


def read_runs(run_dir, split: Optional[str] = None) -> List[Run]:
    """Read one run, or all runs in the folders of ``run_dir``, sorted by folder.

    Args:
        run_dir: folder with a ``run.json``, or with folders that have one.
        split: whose scores to read; by default the one a run evaluated on (its ``eval_split``, else test).

    Raises:
        UserError: no run there, or no score of that split.
        DataError: a file is not what it should be.
    """
    folder = Path(run_dir)
    manifests = [folder / MANIFEST] if (folder / MANIFEST).is_file() else sorted(folder.glob(f"*/{MANIFEST}"))
    if not manifests:
        reason = f"no {MANIFEST} in it or in its folders" if folder.is_dir() else "no such folder"
        raise UserError(f"{folder}: {reason}; give the folder of an mlvl-cll run, or one that holds several runs")
    runs = [_read_run(path, split) for path in manifests]
    if not any(run.signatures for run in runs):
        raise UserError(f"{folder}: no score of split {runs[0].split!r} yet; {_splits_found(manifests)}")
    names = [run.name for run in runs]
    for run, path in zip(runs, manifests):
        if names.count(run.name) > 1:
            run.name = path.parent.name
    return runs


def _read_run(path: Path, split: Optional[str]) -> Run:
    manifest = _read_object(path)
    languages = manifest.get("languages")
    if not isinstance(languages, list) or not languages or len(set(map(str, languages))) < len(languages):
        raise DataError(f"expected a list of different languages, found {languages!r}", path, field="languages")
    dataset = manifest.get("dataset") or Path(manifest.get("corpus") or path.parent.resolve()).name
    split = split or manifest.get("eval_split") or DEFAULT_SPLIT
    run = Run(_text(manifest, "method", path), split, dataset, ScoreMatrix(languages, METRICS))
    for step, learned in enumerate(languages):
        for j, language in enumerate(languages[: step + 1]):
            score_path = path.parent / "scores" / f"{step:02d}-{learned}" / f"{language}.{split}.json"
            if score_path.is_file():
                scores = _read_object(score_path)
                run.matrix.set(step, j, {metric: _score(scores, metric, score_path) for metric in METRICS})
                run.signatures[step, j] = _text({"signature": "", **scores}, "signature", score_path)
    return run


def _read_object(path: Path) -> Dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSON or UTF-8
        raise DataError(f"not JSON ({error}); delete it and run the same command again", path) from None
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object, found a {type(value).__name__}", path)
    return value


def _score(values: Dict[str, Any], metric: str, path: Path) -> float:
    value = values.get(metric)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        message = f"expected a score in %, found {value!r}; delete the file and evaluate again"
        raise DataError(message, path, field=metric)
    return float(value)


def _text(values: Dict[str, Any], key: str, path: Path) -> str:
    if not isinstance(values.get(key), str):
        raise DataError(f"expected text, found {values.get(key)!r}", path, field=key)
    return values[key]


def _splits_found(manifests: List[Path]) -> str:
    files = [file for path in manifests for file in path.parent.glob("scores/*/*.json")]
    splits = sorted({file.name.split(".")[1] for file in files if file.name.count(".") == 2})
    return f"there are scores of {', '.join(splits)}: use --split" if splits else "let mlvl-cll evaluate first"
