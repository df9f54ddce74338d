"""The folder of an mlvl-cll run: ``run.json``, a folder of each training, scores. Every path in it is made here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.json_files import checked, read_json
from mlvl_fairseq.runs.fields import text_in
from mlvl_fairseq.runs.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol

MANIFEST = "run.json"
SCORES = "scores"
DONE = "done.json"
_OF_AN_INTERVAL = re.compile(r"checkpoint_\d+_\d+\.pt")
_MEND = "mend it, or choose another folder"


@dataclass(frozen=True)
class StepFolder:
    """The files of one training of a run."""

    path: Path

    @property
    def best_checkpoint(self) -> Path:
        return self.path / "checkpoint_best.pt"

    @property
    def last_checkpoint(self) -> Path:
        return self.path / "checkpoint_last.pt"

    @property
    def interval_checkpoints(self) -> List[Path]:
        """Those of ``--save-interval-updates``: ``checkpoint_EPOCH_UPDATE.pt``."""
        return [path for path in self.path.glob("checkpoint_*.pt") if _OF_AN_INTERVAL.fullmatch(path.name)]

    @property
    def done(self) -> Path:
        """Written last; what it holds is in :mod:`mlvl_fairseq.continual.finish`."""
        return self.path / DONE

    @property
    def is_done(self) -> bool:
        return self.done.exists()

    @property
    def costs(self) -> Path:
        return self.path / "costs.json"

    @property
    def evaluated(self) -> Path:
        """What the scores of the step were computed from, as digests."""
        return self.path / "evaluated.json"

    @property
    def training_log(self) -> Path:
        return self.path / "train.log"

    @property
    def evaluation_log(self) -> Path:
        return self.path / "eval.log"


def has_checkpoints(run: Path) -> bool:
    """Has a run learned anything?"""
    return any(Path(run).glob("*/checkpoint*.pt"))


def stored_scores(run: Path) -> List[Path]:
    """The files of all scores of a run, of any step, language and split."""
    return list(Path(run).glob(f"{SCORES}/*/*.json"))


def score_path(run: Path, step: str, lang: str, split: str) -> Path:
    """The score of a step's model on a language."""
    return Path(run) / SCORES / step / f"{lang}.{split}.json"


@dataclass
class _Recorded:
    """The types of what is in ``run.json``; an earlier version may not have written all of it."""

    languages: List[str]
    method: Optional[str] = None
    preset: Optional[str] = None
    protocol: str = DEFAULT_PROTOCOL
    corpus: Optional[str] = None
    init_from: Optional[str] = None
    arch: Optional[str] = None
    max_epoch: Optional[int] = None
    max_update: Optional[int] = None
    batch_size: Optional[int] = None
    lr: Optional[float] = None
    warmup_ratio: Optional[float] = None
    seed: Optional[int] = None
    eval_split: Optional[str] = None
    extra: Optional[List[str]] = None
    corpus_fingerprint: Union[Dict[str, str], str, None] = None
    teacher_fingerprint: Optional[Dict[str, Optional[str]]] = None
    init_from_fingerprint: Optional[str] = None


@dataclass(frozen=True)
class RunManifest:
    """What a run says about itself in ``run.json``.

    Attributes:
        settings: all of them, as they were written; of joined methods in one order.
        languages: in the order of learning.
        protocol: how they were learned.
    """

    settings: Dict[str, Any]
    languages: List[str]
    protocol: Protocol


def ordered_method(name: str) -> str:
    """The same name for joined methods in any order: ``oewc+er`` is ``er+oewc``."""
    return "+".join(sorted(name.split("+")))


def read_run_manifest(path: Path) -> RunManifest:
    """Read a run's settings.

    Raises:
        DataError: it is damaged, or names no different languages or no known protocol.
    """
    settings = read_json(path, Dict[str, Any], _MEND)
    recorded = checked(settings, _Recorded, path, advice=_MEND)
    languages, name = recorded.languages, recorded.protocol
    if not languages or len(set(languages)) < len(languages):
        raise DataError(f"expected a list of different languages, found {languages!r}", path, field="languages")
    for lang in languages:
        language_code(lang, path, "languages")
    if name not in PROTOCOLS:
        raise DataError(f"unknown protocol {name!r}; there are: {', '.join(PROTOCOLS)}", path, field="protocol")
    if recorded.method:
        settings = {**settings, "method": ordered_method(settings["method"])}
    return RunManifest(settings, languages, PROTOCOLS[name])


@dataclass(frozen=True)
class RunFolder:
    """One run, and the checkpoints that are in it.

    Attributes:
        folder: of the run.
        languages: in the order of learning.
        protocol: how they were learned.
        corpus: folder of the corpus they were learned from.
    """

    folder: Path
    languages: List[str]
    protocol: Protocol
    corpus: Path

    @classmethod
    def read(cls, folder) -> "RunFolder":
        """Raises UserError: there is no run. DataError: its manifest is damaged."""
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise UserError(f"{folder}: no {MANIFEST} in it; give the folder of an mlvl-cll run")
        manifest = read_run_manifest(path)
        corpus = Path(text_in(manifest.settings, "corpus", path))
        return cls(path.parent, manifest.languages, manifest.protocol, corpus)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def steps(self) -> List[StepFolder]:
        """The folder of each training: ``00-en``, ``01-de``, ... or ``00-joint``."""
        return [StepFolder(self.folder / step.name) for step in self.protocol.steps(self.languages)]

    def checkpoint(self, step: int) -> Path:
        """The best checkpoint of a step; negative ones are counted from the end.

        Raises:
            UserError: the step is not finished.
        """
        folder = self.steps[step]
        if not folder.is_done:
            raise UserError(f"{folder.path} is not finished: let mlvl-cll finish the run first")
        return folder.best_checkpoint

    def final_checkpoint(self) -> Path:
        """The model of all languages. Raises UserError: there is none, or it is not finished."""
        if len(self.steps) > 1 and not self.protocol.in_order:
            raise UserError(f"{self.folder} holds a model for each language, and none of all languages")
        return self.checkpoint(-1)


def count_finished(folder) -> int:
    """How many trainings are finished, in all runs of a folder together."""
    return len(list(Path(folder).glob(f"*/*/{DONE}")))


def refuse_run_folder(path) -> None:
    """Say which model to give where a run's folder was given for a model.

    Raises:
        UserError: `path` is a run's folder. DataError: it is, and its manifest is damaged.
    """
    if not (Path(path) / MANIFEST).is_file():
        return
    run = RunFolder.read(path)
    finished = [f"{step.best_checkpoint}" for step in run.steps if step.is_done]
    if not finished:
        raise UserError(f"{path} is a run of mlvl-cll, and has no finished model yet")
    its = f"its last model is {finished[-1]}" if run.protocol.in_order else f"it holds {', '.join(finished)}"
    raise UserError(f"{path} is a run of mlvl-cll, not a model; {its}")
