"""What a sequence needs, checked for all its languages and steps before anything is made or trained."""

import logging
import os
from argparse import Namespace
from pathlib import Path
from typing import Sequence as Many

import numpy as np

from mlvl_fairseq.continual.sequence import Sequence
from mlvl_fairseq.continual.training_options import parse_training, shown
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.vocabularies import (
    CorpusVocabulary,
    first_vocabulary,
    has_language_vocabulary,
    language_vocabulary,
)
from mlvl_fairseq.data.text.clip_bpe import clip_vocabulary
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import require_room
from mlvl_fairseq.modules.adapters import adapter_parts
from mlvl_fairseq.options import without_effect
from mlvl_fairseq.process.jobs import run_check

logger = logging.getLogger(__name__)

EXAMPLES = 3  # captions that a message names
_OF_THE_DRIVER = ("user_dir", "task", "lang", "learned", "save_dir", "finetune_from_model", "restore_file")


def check_folder(folder: Path) -> None:
    """Raises UserError: a folder cannot be made, or nothing can be written into it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file: give another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} is read-only: nothing can be written there; make it writable, or give another folder")


def check_languages(sequence: Sequence, corpus: Corpus) -> None:
    """Check names and captions of all languages, in training, validation and the split that is evaluated on.

    Raises:
        UserError: the corpus lacks a language in a split. DataError: a file is missing or damaged.
    """
    splits = dict.fromkeys(("train", "valid", sequence.settings.eval_split))
    for lang in sequence.languages:
        for split in splits:
            corpus.require(split, lang)
    for split in splits:
        corpus.images(split), corpus.english(split)  # reading is checking
        for lang in sequence.languages:
            corpus.captions(split, lang), corpus.rows(split, lang)


def check_usable(sequence: Sequence, corpus: Corpus) -> None:
    """Raises UserError: no caption of a language has an image that stands for something, in some split."""
    for split in dict.fromkeys(("train", "valid", sequence.settings.eval_split)):
        for lang in sequence.languages:
            if not len(corpus.usable(split, lang)):
                raise UserError(f"{corpus.folder}: no {split} caption in '{lang}' has a usable image")


def require_english(corpus: Corpus, langs: Many[str]) -> None:
    """Raises UserError: some training captions have no English sentence beside them; it names the first ones."""
    for lang in langs:
        usable = corpus.usable("train", lang)
        without = usable[corpus.rows("train", lang)[usable, 1] < 0]
        if len(without):
            captions, path = corpus.captions("train", lang), corpus.captions_path("train", lang)
            named = [f"{path}:{row + 1} '{captions[row]}'" for row in without[:EXAMPLES]]
            named += ["..."] if len(without) > EXAMPLES else []
            raise UserError(
                f"{len(without)} training captions of '{lang}' have no English sentence to learn from "
                f"({'; '.join(named)}): give triplets, or {corpus.source_lang} captions of the same images, and "
                "prepare the corpus anew"
            )


def check_vocabularies(sequence: Sequence, corpus: Corpus, steps: Many[int]) -> None:
    """Check what has been prepared for some steps already, which is not made anew.

    Raises:
        DataError: a vocabulary or a file of cut captions is damaged.
    """
    first_vocabulary(corpus), clip_vocabulary()  # which every job needs, and has if they are read here
    for step in steps:
        current, vocabulary = sequence.steps[step].current, sequence.vocabulary(step, corpus)
        for lang in current:
            if has_language_vocabulary(corpus, lang):
                language_vocabulary(corpus, lang)
            _check_cut_captions(vocabulary, lang)
        if vocabulary.is_prepared:
            vocabulary.load_dictionary(current)


def _check_cut_captions(vocabulary: CorpusVocabulary, lang: str) -> None:
    from mlvl_fairseq.data.corpus.binarize import REPORT, open_tokens

    folder, corpus = vocabulary.binarized(lang), vocabulary.corpus
    for split in ("train", "valid") if (folder / REPORT).exists() else ():
        if len(open_tokens(folder / split)) != len(corpus.rows(split, lang)):
            raise DataError("not as many captions as the corpus has; delete it and run mlvl-prepare", folder / split)


def check_training(sequence: Sequence, corpus: Corpus, steps: Many[int]) -> None:
    """Build all that ``fairseq-train`` builds for the last of some steps, but on CLIP's own vocabulary, in a process
    of its own: options, weights, method, optimizer, features of every split.

    Raises:
        UserError: it would refuse a step; or there is not enough room for the checkpoints.
    """
    run_check("fairseq-train", lambda: _build(sequence, corpus, steps))


def check_options(sequence: Sequence, corpus: Corpus, steps: Many[int]) -> Namespace:
    """All options of the last of some steps.

    Raises:
        UserError: ``fairseq-train`` does not know one of a step, or what was typed takes away what a sequence needs.
    """
    for step in steps:
        options = parse_training(sequence.arguments(step, corpus))
    _check_options(options, parse_training(sequence.arguments(step, corpus, extra=[])))
    return options


def _build(sequence: Sequence, corpus: Corpus, steps: Many[int]) -> None:
    from fairseq import tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.trainer import Trainer
    from fairseq_cli.train import add_defaults

    options = check_options(sequence, corpus, steps)
    cfg = convert_namespace_to_omegaconf(options)
    add_defaults(cfg)
    cfg.distributed_training.distributed_world_size = 1
    task = tasks.setup_task(cfg.task, unprepared=True)
    model = task.build_model(cfg.model)
    trainer = Trainer(cfg, task, model, task.build_criterion(cfg.criterion))
    task.check(trainer, ("train", *cfg.dataset.valid_subset.split(",")), sequence.settings.eval_split)
    _check_room(sequence.folder, sum(t.nbytes for t in model.state_dict().values()), len(steps))


def tell_without_effect(sequence: Sequence, corpus: Corpus, step: int) -> None:
    """Warn of what was typed for a part that a step does not have; what a method's row says is not typed."""
    from fairseq.tasks import TASK_REGISTRY

    given, own = (parse_training(sequence.arguments(step, corpus, extra)) for extra in (None, []))
    unread = without_effect([*TASK_REGISTRY[given.task].parts(), *adapter_parts()], given, own)
    if unread:
        logger.warning("--method %s: %s", sequence.settings.method, unread)


def _check_options(given, own) -> None:
    """Raises UserError: what was typed takes away what a sequence needs.

    Args:
        given: all options of a step. own: without what was typed.
    """
    for name in _OF_THE_DRIVER:
        if getattr(given, name, None) != getattr(own, name, None):
            raise UserError(f"{shown(name)} {getattr(given, name)}: mlvl-cll says that itself; leave it out")
    for name in ("disable_validation", "no_save"):
        if getattr(given, name):
            raise UserError(
                f"{shown(name)}: the next language starts from the best checkpoint, which validation chooses"
            )
    both = np.lcm(given.validate_interval, given.save_interval)  # an epoch that is scored and saved
    if both > given.max_epoch and not given.max_update and not given.save_interval_updates:
        raise UserError(
            f"--validate-interval {given.validate_interval} and --save-interval {given.save_interval}: none of "
            f"{given.max_epoch} epochs (--max-epoch) is validated and saved"
        )
    if given.tensorboard_logdir and not _has_tensorboard():
        raise UserError("--tensorboard-logdir needs a package: pip install 'mlvl_fairseq[tensorboard]'")


def _has_tensorboard() -> bool:
    from fairseq.logging import progress_bar

    return progress_bar.SummaryWriter is not None


def _check_room(folder: Path, checkpoint: int, steps: int) -> None:
    """Check that the checkpoints of some steps fit: each step leaves one, and the last one, while it trains, has two,
    with Adam's moments of what it trains, and writes a third beside them. New tokens come on top.

    Args:
        checkpoint: its size in bytes, without the optimizer's state and new tokens.

    Raises:
        UserError: they do not.
    """
    require_room(folder, checkpoint * (steps + 2), f"{steps} checkpoints and two more while training")
