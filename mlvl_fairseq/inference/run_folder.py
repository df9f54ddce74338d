"""The checkpoints of an mlvl-cll run, found by what the run leaves in its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import List

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.report.fields import text_in
from mlvl_fairseq.evaluation.report.manifest import MANIFEST, read_manifest
from mlvl_fairseq.evaluation.report.protocols import Protocol


@dataclass(frozen=True)
class RunFolder:
    """One run: ``run.json`` and ``<step>/checkpoint_best.pt`` of every step.

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
        manifest = read_manifest(path)
        corpus = Path(text_in(manifest.settings, "corpus", path))
        return cls(path.parent, manifest.languages, manifest.protocol, corpus)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def step_names(self) -> List[str]:
        """Folder of each training: ``00-en``, ``01-de``, ... or ``00-joint``."""
        return list(self.protocol.steps(self.languages))

    def checkpoint(self, step: int) -> Path:
        """The best checkpoint of a step; negative ones are counted from the end.

        Raises:
            UserError: the step is not finished.
        """
        folder = self.folder / self.step_names[step]
        if not (folder / "done.json").exists():
            raise UserError(f"{folder} is not finished: let mlvl-cll finish the run first")
        return folder / "checkpoint_best.pt"

    @classmethod
    def refuse(cls, path) -> None:
        """Say which model to give where a run's folder was given for a model.

        Raises:
            UserError: `path` is a run's folder. DataError: it is, and its manifest is damaged.
        """
        if not (Path(path) / MANIFEST).is_file():
            return
        run = cls.read(path)
        finished = [name for name in run.step_names if (run.folder / name / "done.json").exists()]
        if not finished:
            raise UserError(f"{path} is a run of mlvl-cll, and has no finished model yet")
        model = run.folder / finished[-1] / "checkpoint_best.pt"
        raise UserError(f"{path} is a run of mlvl-cll, not a model; its last model is {model}")

    def final_checkpoint(self) -> Path:
        """The model of all languages. Raises UserError: there is none, or it is not finished."""
        if len(self.step_names) > 1 and not self.protocol.in_order:
            raise UserError(f"{self.folder} holds a model for each language, and none of all languages")
        return self.checkpoint(-1)
