"""What a report is about: runs of mlvl-cll and scores of mlvl-evaluate, read from their folders and grouped by seed."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.metrics.continual import ScoreMatrix
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks, ranks_path
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS
from mlvl_fairseq.evaluation.signature import LEFT_OUT, SIGNATURE, parse_signature
from mlvl_fairseq.json_files import read_object
from mlvl_fairseq.runs.costs import StepCosts, read_costs
from mlvl_fairseq.runs.fields import number_in, score_in, text_in
from mlvl_fairseq.runs.folder import MANIFEST, SCORES, StepFolder, read_run_manifest, score_path, stored_scores
from mlvl_fairseq.runs.protocols import Cell, Protocol, Step
from mlvl_fairseq.runs.result_folder import SETTINGS, read_scores_settings

DEFAULT_SPLIT = "test"
_SEED = re.compile(r"seed[-_]?(\d+)")  # a folder of this name says which seed a model was trained with
EVALUATION = Protocol(
    "evaluation",
    "scores of mlvl-evaluate",
    lambda languages: [Step("scores", list(languages), [], None, list(languages))],
    in_order=False,
)


@dataclass
class Run:
    """Scores of one method trained with one seed, or of one model that mlvl-evaluate was given.

    Attributes:
        folder: where they are.
        settings: what they were made with: ``run.json``, or that of mlvl-evaluate less the model's fingerprint.
        method: row of the table of methods; the model's name, from its folder.
        protocol: how languages were learned; :data:`EVALUATION`: by whatever the model was trained with.
        split: the split that the scores were computed on.
        dataset: short name of the data, for file names.
        paths: (row, column) -> the file of every score that a finished run has.
        matrix: scores of all metrics, as far as they are there; the last row holds the final scores.
        costs: of every step, as far as they are there.
        signatures: (row, column) -> signature of the score, '' if it has none.
        left_out: language -> numbers of images and texts that its scores are without, as they could not be used.
    """

    folder: Path
    settings: Dict[str, Any]
    method: str
    protocol: Protocol
    split: str
    dataset: str
    paths: Dict[Tuple[int, int], Path]
    matrix: ScoreMatrix
    costs: List[StepCosts] = field(default_factory=list)
    signatures: Dict[Tuple[int, int], str] = field(default_factory=dict)
    left_out: Dict[str, Tuple[int, int]] = field(default_factory=dict)

    @property
    def seed(self) -> Optional[int]:
        return self.settings.get("seed")

    @property
    def languages(self) -> List[str]:
        return self.matrix.languages

    @property
    def is_evaluation(self) -> bool:
        """Whether these are scores of mlvl-evaluate, not a run of mlvl-cll."""
        return self.protocol is EVALUATION

    @property
    def cells(self) -> List[Cell]:
        """Every score that the finished run has."""
        return list(self.protocol.cells(self.languages))

    def missing(self) -> List[str]:
        """Every missing score in words."""
        missing = [cell for cell in self.cells if (cell.row, cell.column) not in self.signatures]
        return [f"{self.languages[cell.column]} after {cell.step.partition('-')[2]}" for cell in missing]

    def final_signature(self, language: str) -> str:
        """Of the final model's score, '' where there is none."""
        return self.signatures.get((len(self.languages) - 1, self.languages.index(language)), "")

    def final_ranks(self, languages: Sequence[str]) -> Dict[str, QueryRanks]:
        """Language -> the ranks behind its final score.

        Raises:
            UserError: there are none.
            DataError: a file of ranks is broken.
        """
        last = len(self.languages) - 1
        paths = {lang: ranks_path(self.paths[last, self.languages.index(lang)]) for lang in languages}
        absent = [path for path in paths.values() if not path.exists()]
        if absent:
            again = (
                "delete the scores beside them and run the same mlvl-evaluate again"
                if self.is_evaluation
                else f"finish the run, or, if it is an old one, delete {self.folder / SCORES} and run mlvl-cll again: "
                "it only evaluates"
            )
            raise UserError(
                f"{absent[0]}: no ranks of single queries there ({len(absent)} of {len(paths)} languages lack them); "
                f"{again}"
            )
        return {language: QueryRanks.load(path) for language, path in paths.items()}


def read_runs(folders: Sequence, split: Optional[str] = None) -> List[Run]:
    """Read all runs of mlvl-cll and scores of mlvl-evaluate in some folders, to any depth, in the order of the folders,
    sorted within each.

    Args:
        folders: with a ``run.json`` or what ``mlvl-evaluate --output-dir`` wrote in them or somewhere below.
        split: whose scores to read; by default the one a run evaluated on (its ``eval_split``, else test), or the one
            of a folder of scores.

    Raises:
        UserError: nothing in a folder, or no score of that split anywhere.
        DataError: a file is not what it should be.
    """
    found = list(dict.fromkeys(path for folder in folders for path in _find(Path(folder))))
    evaluated = [path for path in found if path.name == SETTINGS]
    runs = [
        _read_run(path, split) if path.name == MANIFEST else _read_evaluation(path, split, evaluated) for path in found
    ]
    if not any(run.signatures for run in runs):
        where = ", ".join(map(str, folders))
        raise UserError(f"{where}: no score of split {runs[0].split!r} yet; {_splits_found(found)}")
    return runs


def _find(folder: Path) -> List[Path]:
    """The manifests of runs and the settings of scores."""
    found = []
    for parent, folders, files in os.walk(folder):
        if MANIFEST in files:
            found.append(Path(parent) / MANIFEST)
            folders.clear()  # what lies in a run is the run's
        elif SETTINGS in files and read_scores_settings(parent):
            found.append(Path(parent) / SETTINGS)
            folders.clear()
    if not found:
        reason = f"no {MANIFEST} and no scores in it or below it" if folder.is_dir() else "no such folder"
        raise UserError(
            f"{folder}: {reason}; give the folder of an mlvl-cll run or of mlvl-evaluate --output-dir, or one that "
            "holds several of them"
        )
    return sorted(found)


def _read_run(path: Path, split: Optional[str]) -> Run:
    manifest = read_run_manifest(path)
    settings, folder, languages = manifest.settings, path.parent, manifest.languages
    split = split or settings.get("eval_split") or DEFAULT_SPLIT
    run = Run(
        folder=folder,
        settings=settings,
        method=text_in(settings, "method", path),
        protocol=manifest.protocol,
        split=split,
        dataset=Path(settings.get("corpus") or folder.resolve()).name,
        paths={
            (cell.row, cell.column): score_path(folder, cell.step, languages[cell.column], split)
            for cell in manifest.protocol.cells(languages)
        },
        matrix=ScoreMatrix(languages, METRICS),
        costs=[
            read_costs(StepFolder(folder / step.name), len(step.current)) for step in manifest.protocol.steps(languages)
        ],
    )
    _read_scores(run, score_in)
    return run


def _read_evaluation(path: Path, split: Optional[str], evaluated: Sequence[Path]) -> Run:
    """A folder of scores; `evaluated` are the settings of all of them, for their names."""
    folder, settings = path.parent, read_scores_settings(path.parent)
    split = split or text_in(settings, "split", path)
    files = {file.name.removesuffix(f".{split}.json"): file for file in sorted(folder.glob(f"*.{split}.json"))}
    languages = list(files) or ["none yet"]  # it is left out of the report and named in a warning
    first = read_object(next(iter(files.values()))) if files else {}
    name, seed = _model_and_seed(path, evaluated)
    run = Run(
        folder=folder,
        settings={key: value for key, value in {**settings, "name": name, "seed": seed}.items() if key != "model"},
        method=name,
        protocol=EVALUATION,
        split=split,
        dataset=_common_folder(evaluated).name,
        paths={(len(languages) - 1, column): file for column, file in enumerate(files.values())},
        matrix=ScoreMatrix(languages, [key for key in first if key not in (SIGNATURE, LEFT_OUT)]),
    )
    _read_scores(run, number_in)
    return run


def _read_scores(run: Run, read_value) -> None:
    """Enter the scores that are there into the run's matrix."""
    for (row, column), path in run.paths.items():
        if path.is_file():
            scores = read_object(path)
            values = {metric: read_value(scores, metric, path) for metric in run.matrix.scores}
            run.matrix.set(row, column, values)
            signature = text_in({SIGNATURE: "", **scores}, SIGNATURE, path)
            parse_signature(signature, path)  # here the file is known
            run.signatures[row, column] = signature
            if LEFT_OUT in scores:
                run.left_out[run.languages[column]] = _left_out(scores, path)


def _left_out(scores: Dict[str, Any], path: Path) -> Tuple[int, int]:
    found = scores[LEFT_OUT]
    images, texts = (found.get("images"), found.get("texts")) if isinstance(found, dict) else (None, None)
    if not isinstance(images, list) or not isinstance(texts, int):
        raise DataError("expected lists of images and a number of texts; evaluate again", path, field=LEFT_OUT)
    return len(images), texts


def _model_and_seed(path: Path, evaluated: Sequence[Path]) -> Tuple[str, Optional[int]]:
    """A model's name and seed, from its folder: ``full/seed1/scores`` beside ``full/seed2/scores`` and
    ``small/seed1/scores`` is ``full`` with seed 1."""
    root = _common_folder(evaluated)
    names = {other: _without_seed(other.parent.resolve().relative_to(root)) for other in evaluated}
    if len(set(names.values())) > 1:
        while len({parts[-1:] for parts in names.values()}) == 1:  # such as ``scores`` behind every model
            names = {other: parts[:-1] for other, parts in names.items()}
    else:
        names = dict.fromkeys(names, _without_seed(root)[-1:])
    name = "/".join(names[path])
    seeds = [found[1] for found in map(_SEED.fullmatch, path.parent.resolve().parts) if found]
    return name, int(seeds[-1]) if seeds else None


def _common_folder(evaluated: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent.resolve() for path in evaluated]))


def _without_seed(path: Path) -> Tuple[str, ...]:
    return tuple(part for part in path.parts if not _SEED.fullmatch(part))


def _splits_found(found: List[Path]) -> str:
    """Where other splits are, in words."""
    runs = [file for path in found if path.name == MANIFEST for file in stored_scores(path.parent)]
    files = [*runs, *(file for path in found if path.name == SETTINGS for file in path.parent.glob("*.json"))]
    splits = sorted({file.name.split(".")[1] for file in files if file.name.count(".") == 2})
    return f"there are scores of {', '.join(splits)}: use --split" if splits else "let it be evaluated first"


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
    ignored = {"seed", "teacher_fingerprint", *(["corpus"] if "corpus_fingerprint" in settings else [])}
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
