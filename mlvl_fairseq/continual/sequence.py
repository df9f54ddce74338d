"""A run: languages learned one after another, each by an ordinary ``fairseq-train``; what is done stays done."""

import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Dict, List, Optional

from mlvl_fairseq.continual.identity import differences, manifest_of
from mlvl_fairseq.continual.methods import as_arguments, method_options
from mlvl_fairseq.continual.training_options import frozen_options
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.data_sets import data_set_members, data_set_names
from mlvl_fairseq.data.corpus.vocabularies import ClipVocabulary, GrownVocabulary, UnionVocabulary
from mlvl_fairseq.data.sampling import alternating_steps
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.runs.costs import read_finished
from mlvl_fairseq.runs.folder import MANIFEST, StepFolder, has_checkpoints, read_run_manifest, score_path
from mlvl_fairseq.runs.protocols import PROTOCOLS

USER_DIR = Path(__file__).resolve().parents[1]


@dataclass
class Settings:
    """Everything that decides a run's result; a folder holds one run with one of these.

    Attributes:
        method: row of ``methods.yaml``, or several joined by +. preset: ``default`` or ``reference``.
        protocol: how the languages are learned, see :mod:`mlvl_fairseq.runs.protocols`; the method's row says it.
        languages: the order of learning.
        corpus, init_from: absolute paths. arch: architecture of the model.
        max_epoch, max_update, batch_size, lr, warmup_ratio, seed: of every language (max_update 0: no limit).
        eval_split: the split that the matrix is computed on.
        extra: further fairseq-train arguments, as typed.
    """

    method: str
    preset: str
    protocol: str
    languages: List[str]
    corpus: str
    init_from: Optional[str]
    arch: str
    max_epoch: int
    max_update: int
    batch_size: int
    lr: float
    warmup_ratio: float
    seed: int
    eval_split: str
    extra: List[str]


class Sequence:
    """The steps of a run in its folder.

    Args:
        folder: where checkpoints, logs and scores go.
        settings: what to run.
        whole_checkpoints: whether every checkpoint holds all its weights, not what has changed since the one before.
        launch: a command that starts ``fairseq-train`` on all ranks, however many machines they are on; empty: it
            starts those of this machine itself.

    Raises:
        UserError: it is not known how many ranks will be started.
    """

    def __init__(self, folder, settings: Settings, whole_checkpoints: bool = False, launch: str = ""):
        self.folder, self.settings = Path(folder), settings
        self.whole_checkpoints, self.launch = whole_checkpoints, launch
        if launch and not _given(settings.extra, "--distributed-world-size", None):
            raise UserError("--launch: say with --distributed-world-size how many ranks it starts, on all machines")
        self.languages = settings.languages
        self.steps = PROTOCOLS[settings.protocol].steps(settings.languages)

    @property
    def manifest_path(self) -> Path:
        return self.folder / MANIFEST

    def open(self, corpus: Corpus) -> None:
        """Make the folder, or go on in it.

        Raises:
            UserError: it holds another run.
        """
        theirs = self.check(corpus)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.manifest_path, manifest_of(self.settings, theirs, corpus))

    def check(self, corpus: Corpus) -> Dict:
        """Check that the folder holds no run, or this very one, perhaps with fewer languages; gives its ``run.json``.

        Raises:
            UserError: it holds another run.
        """
        if not self.manifest_path.exists() or not has_checkpoints(self.folder):  # it has learned nothing
            return {}
        theirs = read_run_manifest(self.manifest_path).settings
        self._check_recorded(theirs.get("extra") or [], corpus)
        differ = differences(theirs, self.settings, corpus, partial(self._frozen, corpus), bool(self.untrained))
        if differ:
            raise UserError(f"{self.folder} holds another run ({'; '.join(differ)}): choose another folder")
        return theirs

    def _check_recorded(self, extra: List[str], corpus: Corpus) -> None:
        """Raises DataError: ``run.json`` holds options that no training was started with."""
        if extra == self.settings.extra:
            return
        self._frozen(corpus, self.settings.extra)  # what is wrong with these is not about the file
        try:
            self._frozen(corpus, extra)
        except UserError as error:
            raise DataError(f"{error}; mend it, or choose another folder", self.manifest_path, field="extra") from None

    def _frozen(self, corpus: Corpus, extra: List[str]) -> Dict[str, object]:
        return frozen_options(self.arguments(0, corpus, extra))

    @property
    def untrained(self) -> List[int]:
        """Steps whose training has not ended."""
        return [step for step in range(len(self.steps)) if not self.is_trained(step)]

    def folder_of(self, step: int) -> StepFolder:
        return StepFolder(self.folder / self.steps[step].name)

    def is_trained(self, step: int) -> bool:
        """Has the language's last epoch ended? (Not: does some checkpoint exist.)"""
        return self.folder_of(step).is_done

    def kept_changes_since(self, step: int) -> Optional[StepFolder]:
        """The step whose checkpoint that of `step` keeps the changes since; None: it is whole, as the last one of
        a run always is."""
        before = self.steps[step].follows
        is_whole = before is None or step == len(self.steps) - 1 or self.whole_checkpoints
        return None if is_whole else self.folder_of(before)

    @property
    def keeps_interval_checkpoints(self) -> bool:
        """Has the user said how many checkpoints of ``--save-interval-updates`` to keep?"""
        return _given(self.settings.extra, "--keep-interval-updates", None) is not None

    def score_path(self, step: int, lang: str) -> Path:
        return score_path(self.folder, self.steps[step].name, lang, self.settings.eval_split)

    def missing_scores(self, step: int) -> List[str]:
        """Languages that the model of `step` has yet to be scored on."""
        return [lang for lang in self.steps[step].evaluated if not self.score_path(step, lang).exists()]

    def vocabulary(self, step: int, corpus: Corpus) -> ClipVocabulary:
        """What the captions of a step are cut with: it grows along the languages, or is of all of them at once."""
        options = method_options(self.settings.method, self.settings.preset)
        current = self.steps[step]
        if "oracle_languages" in options:
            return UnionVocabulary(corpus, self.languages)
        return GrownVocabulary(corpus, [*current.learned, *current.current])

    def arguments(self, step: int, corpus: Corpus, extra: Optional[List[str]] = None) -> List[str]:
        """The ``fairseq-train`` arguments of one step. Later ones win: defaults, then the method, then the user's,
        which may be replaced by `extra`."""
        settings, plan = self.settings, self.steps[step]
        extra = settings.extra if extra is None else extra
        options: Dict[str, object] = {
            "user_dir": USER_DIR,
            "task": "cll_retrieval",
            "lang": ",".join(plan.current),
            "learned": ",".join(plan.learned),
            "arch": settings.arch,
            "criterion": "cll_clip",
            "optimizer": "row_adamw",
            "lr": settings.lr,
            "lr_scheduler": "warmup_constant",
            "warmup_updates": int(settings.warmup_ratio * self.total_updates(step, corpus)),
            "clip_norm": 1.0,
            "batch_size": settings.batch_size,
            "required_batch_size_multiple": 1,
            "max_epoch": settings.max_epoch,
            "max_update": settings.max_update * len(plan.current),
            "seed": settings.seed,
            "save_dir": self.folder_of(step).path,
            "best_checkpoint_metric": "r_mean",
            "log_format": "json",
            "log_interval": 10,
            "keep_interval_updates": 1,
        }
        if settings.init_from:
            options["init_from"] = settings.init_from
        if plan.follows is not None:
            options["finetune_from_model"] = self.folder_of(plan.follows).best_checkpoint
        flags = ["--maximize-best-checkpoint-metric", "--no-epoch-checkpoints"]
        method = as_arguments(method_options(settings.method, settings.preset), languages=",".join(self.languages))
        logs = _given(extra, "--tensorboard-logdir", None)
        apart = [] if logs is None else [f"--tensorboard-logdir={Path(logs) / plan.name}"]  # one curve a language
        return [settings.corpus, *as_arguments(options), *flags, *method, *extra, *apart]

    def command(self, step: int, corpus: Corpus) -> str:
        """The step as a line for a shell."""
        arguments = self.arguments(step, corpus)
        return shlex.join(launched(self.launch, arguments) if self.launch else ["fairseq-train", *arguments])

    def updates_before(self, step: int) -> int:
        """Updates of the steps that one goes on from."""
        before = self.steps[step].follows
        return 0 if before is None else self.updates_before(before) + read_finished(self.folder_of(before)).num_updates

    @property
    def gpus(self) -> int:
        """GPUs that fairseq will use; 0: it computes on the CPU."""
        import torch

        return 0 if "--cpu" in self.settings.extra else torch.cuda.device_count()

    def total_updates(self, step: int, corpus: Corpus) -> int:
        """Updates of one step: epochs of full batches over all ranks, update frequency included."""
        current = self.steps[step].current
        usable = {lang: corpus.usable("train", lang) for lang in current}
        frequency = int(_given(self.settings.extra, "--update-freq", 1))
        ranks = int(_given(self.settings.extra, "--distributed-world-size", 0)) or max(1, self.gpus)
        batch = self.settings.batch_size * ranks
        data_sets = data_set_names(_given(self.settings.extra, "--data-sets", ""))
        if data_sets:
            sizes = [len(own) for own in data_set_members(corpus, "train", usable, data_sets).values()]
            batches = len(sizes) * alternating_steps(sizes, batch)
        else:
            batches = max(1, sum(map(len, usable.values())) // batch)
        updates = self.settings.max_epoch * -(-batches // frequency)
        return min(updates, self.settings.max_update * len(current) or updates)


def launched(launch: str, arguments: List[str]) -> List[str]:
    """The command that starts ``fairseq-train`` on all ranks by another one, which may want its path."""
    return [*shlex.split(launch), str(Path(sys.executable).with_name("fairseq-train")), *map(str, arguments)]


def _given(arguments: List[str], name: str, default):
    """The value of an option among arguments as typed."""
    for i, argument in enumerate(arguments):
        if argument == name and i + 1 < len(arguments):
            default = arguments[i + 1]
        elif argument.startswith(name + "="):
            default = argument.partition("=")[2]
    return default
